"""Applications of a user's own, for tests."""

from collections.abc import Callable, Mapping

from quorate.ledger.machine import Context, Machine, Refused, State


class Counter(Machine):
    def apply(self, state: State, call: bytes, context: Context) -> bytes:
        total = int(state.get(b"total") or b"0") + int(call)
        if total < 0:
            raise Refused("the counter would be negative")
        state.put(b"total", b"%d" % total)
        return b"%d" % total

    def example(self, choose: Callable[[int], int]) -> bytes:
        return b"%d" % (choose(20) - 9)


class Bounded(Counter):
    """Has a rule that its calls do not keep."""

    def find_fault(self, entries: Mapping[bytes, bytes]) -> str:
        total = int(entries.get(b"total", b"0"))
        return f"the total is {total}, expected at most 5" if total > 5 else ""


class Broken(Counter):
    """Has a rule that cannot be asked."""

    def find_fault(self, entries: Mapping[bytes, bytes]) -> str:
        raise ValueError("no rule")


class Direct(Counter):
    direct = True


class Forgetful(Counter):
    """Counts in the object, of which each life of a node has its own."""

    total = 0

    def apply(self, state: State, call: bytes, context: Context) -> bytes:
        self.total += 1
        state.put(b"total", b"%d" % self.total)
        return b"%d" % self.total


class Mute(Machine):
    """Gives no example of a call."""
