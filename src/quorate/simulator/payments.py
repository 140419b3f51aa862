"""An application that pays, on the key-value ledger: what bugs of sums are put back into.

A call is numbers in text: who pays, and then pairs of who gets how much, `b"0 1 250 2 50"`. Amounts
have 64 bits, as Bitcoin's. All accounts begin with the same funds, and no call makes money.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from quorate.ledger.machine import Context, Machine, Refused, State

__all__ = ["MAX_AMOUNT", "PAYMENTS", "Payments"]

PAYMENTS: Final = "quorate.simulator.payments:Payments"
"""As plans and networks name it."""
ACCOUNTS: Final = 4
FUNDS: Final = 1_000
MAX_AMOUNT: Final = (1 << 64) - 1


class Payments(Machine):
    """Keeps under `b"0"`, `b"1"` and so on what an account holds."""

    def apply(self, state: State, call: bytes, context: Context) -> bytes:
        payer, *rest = map(int, call.split())
        outputs = list(zip(rest[::2], rest[1::2], strict=True))
        for account in (payer, *(account for account, _ in outputs)):
            if not 0 <= account < ACCOUNTS:
                raise Refused(f"account {account}: expected 0 to {ACCOUNTS - 1}")
        for _, amount in outputs:
            if not 0 <= amount <= MAX_AMOUNT:
                raise Refused(f"amount {amount}: expected 0 to {MAX_AMOUNT}")
        total, funds = self.add_up([amount for _, amount in outputs]), read(state, payer)
        if total > funds:
            raise Refused(f"the outputs are {total}, and account {payer} holds {funds}")
        write(state, payer, funds - total)
        for account, amount in outputs:
            write(state, account, read(state, account) + amount)
        return b"paid %d" % total

    def add_up(self, amounts: Sequence[int]) -> int:
        return sum(amounts)

    def example(self, choose: Callable[[int], int]) -> bytes:
        is_huge = choose(8) == 7
        numbers = [choose(ACCOUNTS)]
        for _ in range(1 + choose(2)):
            account = choose(ACCOUNTS)
            numbers += [account, (1 << 63) + choose(3) if is_huge else choose(400)]
        return b" ".join(b"%d" % number for number in numbers)

    def find_fault(self, entries: Mapping[bytes, bytes]) -> str:
        total = (ACCOUNTS - len(entries)) * FUNDS
        total += sum(int.from_bytes(held, "big") for held in entries.values())
        if total == ACCOUNTS * FUNDS:
            return ""
        return f"the accounts hold {total}, expected {ACCOUNTS * FUNDS}"


def read(state: State, account: int) -> int:
    found = state.get(b"%d" % account)
    return FUNDS if found is None else int.from_bytes(found, "big")


def write(state: State, account: int, held: int) -> None:
    state.put(b"%d" % account, held.to_bytes(8, "big"))
