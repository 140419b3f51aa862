"""Clients' accounts on the Ethereum ledger, and the transfers that they sign.

Accounts, keys and transfers follow
from their numbers, so a run's items are the same everywhere.
"""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from quorate import _kernel
from quorate.base.errors import Invalid
from quorate.base.types import Address, Hash
from quorate.crypto.hashes import keccak256
from quorate.light.rlp import encode_int, encode_list

__all__ = ["ACCOUNTS", "FUNDS", "Wallet", "find_balance_faults", "fund", "sign_transaction"]

ACCOUNTS = 64
FUNDS = 10**24
"""Wei of each account at genesis."""
GAS = 21_000
GAS_PRICE = 10**11
"""Where gas is not free; far above the base fee of an empty chain."""


class Wallet:
    """The accounts of one network's clients."""

    __slots__ = ("accounts", "chain_id", "gas_price", "is_free", "keys")

    def __init__(self, genesis: bytes) -> None:
        """`genesis` is the network's file. Raises Invalid."""
        config = get_config(genesis)
        self.chain_id = int(config["chainId"])
        self.is_free = config.get("quorate", {}).get("gas") == "free"
        self.gas_price = 0 if self.is_free else GAS_PRICE
        self.keys = [key for key, _ in list_clients()]
        self.accounts: list[Address] = [address for _, address in list_clients()]

    def transfer(self, source: int, nonce: int, wei: int) -> tuple[Hash, bytes]:
        """Return (hash, raw) of a signed transfer from one account to the next."""
        raw = sign_transaction(
            self.keys[source],
            self.chain_id,
            nonce=nonce,
            gas_price=self.gas_price,
            gas=GAS,
            to=self.accounts[(source + 1) % ACCOUNTS],
            wei=wei,
        )
        return keccak256(raw), raw


def sign_transaction(
    key: bytes,
    chain_id: int,
    *,
    nonce: int,
    gas_price: int,
    gas: int,
    to: Address,
    wei: int = 0,
    data: bytes = b"",
) -> bytes:
    """Return a signed legacy transaction with a chain id (EIP-155)."""
    fields = [*map(encode_int, (nonce, gas_price, gas)), to, encode_int(wei), data]
    digest = keccak256(encode_list([*fields, encode_int(chain_id), b"", b""]))
    signature = _kernel.sign(key, digest)
    v = 35 + 2 * chain_id + signature[64]
    r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:64]))
    return encode_list([*fields, *map(encode_int, (v, r, s))])


@cache
def list_clients() -> tuple[tuple[bytes, Address], ...]:
    """Return the clients' secret keys and addresses, which take as long as a short run."""
    keys = [keccak256(b"quorate simulator client %d" % i) for i in range(ACCOUNTS)]
    return tuple([(key, _kernel.address(key)) for key in keys])


def get_config(genesis: bytes) -> dict[str, Any]:
    """Return the config of a genesis file. Raises Invalid."""
    try:
        config = json.loads(genesis)["config"]
        int(config["chainId"])
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(f"genesis: config.chainId cannot be read ({error!r})") from None
    return dict(config)


def fund(genesis: bytes) -> bytes:
    """Return a genesis file in which clients have money. Raises Invalid."""
    get_config(genesis)
    file = json.loads(genesis)
    alloc = file.setdefault("alloc", {})
    for _, address in list_clients():
        alloc[address.hex()] = {"balance": hex(FUNDS)}
    return json.dumps(file).encode()


def find_balance_faults(
    ledger: _kernel.Ledger, wallet: Wallet, transfers: Sequence[tuple[int, int]]
) -> list[str]:
    """Return the accounts whose balance is not what final transfers (source, wei) leave them.

    Where gas has a price this judges nothing: the sum of all balances is judged elsewhere.
    """
    if not wallet.is_free:
        return []
    expected = [FUNDS] * ACCOUNTS
    for source, wei in transfers:
        expected[source] -= wei
        expected[(source + 1) % ACCOUNTS] += wei
    # Blocks above the last final one, as of proof of work, may hold what clients gave up.
    view, height = ledger.view(), ledger.durable()
    return [
        f"account 0x{account.hex()}: {found} wei at height {height}, expected {wei}"
        for account, wei in zip(wallet.accounts, expected, strict=True)
        if (found := view.balance(height, account)) != wei
    ]
