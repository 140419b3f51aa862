"""What objects do when one operation comes after another: the sequential specifications.

A model is pure: `apply` takes a state and an operation and returns the next state and the result;
it keeps nothing but names for states. States are hashable; equal states behave alike. A checker
asks for no more, so an object of one's own is a class with these few methods.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from quorate.base.errors import Invalid
from quorate.simulator.history import Operation, Value, format_value

__all__ = ["MODELS", "Bank", "Counter", "GrowingSet", "Log", "Model", "Register", "get_model"]

State: TypeAlias = Any
IMPOSSIBLE = object()
"""A result that no client can have been given."""


class Model(Protocol):
    """An object for one operation at a time."""

    initial: State

    def apply(self, state: State, name: str, argument: Value) -> tuple[State, Value]:
        """Return the state after an operation and its result. Raises Invalid for no such one."""
        ...

    def prepare(self, answered: Sequence[Operation]) -> bool:
        """Learn which answers an order has to explain; return whether they rule anything out.

        What leads to no order then need not be searched: `apply` gives `IMPOSSIBLE` for it.
        """
        ...

    def is_read(self, name: str, result: Value) -> bool:
        """Whether an operation that gave this result left the state as it was, whatever it was.

        A checker may then take it as early as its result fits.
        """
        ...

    def is_write(self, name: str) -> bool:
        """Whether an operation leaves its argument as the state, whatever the state was before.

        Values are then only compared, so those that nobody else mentions are all alike.
        """
        ...

    def normalize(self, name: str, result: Value) -> Value:
        """Return a result that a client recorded as `apply` gives it."""
        ...

    def describe(self, state: State) -> str:
        """Return a state in words, for people."""
        ...


class Register:
    """A value: `write` v, `read` = v, `cas` [old, new] = whether the old value was there."""

    def __init__(self, initial: Value = None) -> None:
        self.initial = initial

    def apply(self, state: State, name: str, argument: Value) -> tuple[State, Value]:
        if name == "read":
            return state, state
        if name == "write":
            return argument, None
        if name == "cas":
            old, new = expect_tuple(name, argument, 2)
            return (new, True) if state == old else (state, False)
        raise Invalid(f"operation {name!r} of a register, expected read, write or cas")

    def prepare(self, answered: Sequence[Operation]) -> bool:
        return False

    def is_read(self, name: str, result: Value) -> bool:
        return name == "read" or (name == "cas" and result is False)

    def is_write(self, name: str) -> bool:
        return name == "write"

    def normalize(self, name: str, result: Value) -> Value:
        return result

    def describe(self, state: State) -> str:
        return format_value(state)


class Counter:
    """A number: `add` n, `read` = n."""

    def __init__(self, initial: int = 0) -> None:
        self.initial = initial

    def apply(self, state: State, name: str, argument: Value) -> tuple[State, Value]:
        if name == "read":
            return state, state
        if name == "add":
            return state + expect_integer(name, argument), None
        raise Invalid(f"operation {name!r} of a counter, expected add or read")

    def prepare(self, answered: Sequence[Operation]) -> bool:
        return False

    def is_read(self, name: str, result: Value) -> bool:
        return name == "read"

    def is_write(self, name: str) -> bool:
        return False

    def normalize(self, name: str, result: Value) -> Value:
        return result

    def describe(self, state: State) -> str:
        return str(state)


class GrowingSet:
    """A set that only grows: `add` item, `contains` item = whether, `read` = all, in any order.

    The state is an integer with a bit for each item, in the order in which this model met them.
    """

    def __init__(self) -> None:
        self.initial = 0
        self.bits: dict[Value, int] = {}
        self.items: list[Value] = []

    def apply(self, state: State, name: str, argument: Value) -> tuple[State, Value]:
        if name == "add":
            return state | self.get_bit(argument), None
        if name == "contains":
            return state, bool(state & self.get_bit(argument))
        if name == "read":
            return state, self.list_items(state)
        raise Invalid(f"operation {name!r} of a set, expected add, contains or read")

    def prepare(self, answered: Sequence[Operation]) -> bool:
        return False

    def is_read(self, name: str, result: Value) -> bool:
        return name != "add"

    def is_write(self, name: str) -> bool:
        return False

    def normalize(self, name: str, result: Value) -> Value:
        return sort_values(result) if name == "read" else result

    def describe(self, state: State) -> str:
        return format_value(self.list_items(state))

    def get_bit(self, item: Value) -> int:
        bit = self.bits.get(item)
        if bit is None:
            bit = self.bits[item] = 1 << len(self.items)
            self.items.append(item)
        return bit

    def list_items(self, state: int) -> tuple[Value, ...]:
        found = []
        while state:
            lowest = state & -state
            found.append(self.items[lowest.bit_length() - 1])
            state ^= lowest
        return sort_values(tuple(found))


class Log:
    """A log of unique items: `append` item, `read` = all in order, `length` = how many.

    An item that comes again changes nothing, as a ledger skips what it already holds. Every state
    is a number that stands for one sequence of items, so that long logs are cheap to compare.
    """

    def __init__(self) -> None:
        self.initial = 0
        self.parents = [0]
        self.items: list[Value] = [None]
        self.depths = [0]
        self.next: dict[tuple[int, Value], int] = {}
        self.shallowest: dict[Value, int] = {}
        """The least depth at which each item lies in any state."""
        self.final: tuple[Value, ...] = ()
        """The longest log that was read."""
        self.last: tuple[int, tuple[Value, ...]] = (0, ())
        """The sequence that was listed last: reads of one state come together."""

    def apply(self, state: State, name: str, argument: Value) -> tuple[State, Value]:
        if name == "append":
            after = self.append(state, argument)
            # On the way to the longest log that anybody read there is only one order.
            depth = self.depths[state]
            if after != state and depth < len(self.final) and self.final[depth] != argument:
                return state, IMPOSSIBLE
            return after, None
        if name == "read":
            return state, self.list_items(state)
        if name == "length":
            return state, self.depths[state]
        raise Invalid(f"operation {name!r} of a log, expected append, read or length")

    def prepare(self, answered: Sequence[Operation]) -> bool:
        reads = [o.result for o in answered if o.name == "read" and isinstance(o.result, tuple)]
        self.final = max(reads, key=len, default=())
        return bool(self.final)

    def is_read(self, name: str, result: Value) -> bool:
        return name != "append"

    def is_write(self, name: str) -> bool:
        return False

    def normalize(self, name: str, result: Value) -> Value:
        return result

    def describe(self, state: State) -> str:
        return format_value(self.list_items(state))

    def append(self, state: int, item: Value) -> int:
        found = self.next.get((state, item))
        if found is None:
            found = state
            if not self.holds(state, item):
                found = len(self.items)
                self.items.append(item)
                self.parents.append(state)
                depth = self.depths[state] + 1
                self.depths.append(depth)
                self.shallowest[item] = min(depth, self.shallowest.get(item, depth))
            self.next[state, item] = found
        return found

    def holds(self, state: int, item: Value) -> bool:
        end = self.shallowest.get(item)
        while end is not None and self.depths[state] >= end:
            if self.items[state] == item:
                return True
            state = self.parents[state]
        return False

    def list_items(self, state: int) -> tuple[Value, ...]:
        if self.last[0] == state:
            return self.last[1]
        found, at = [], state
        while at:
            found.append(self.items[at])
            at = self.parents[at]
        self.last = state, tuple(reversed(found))
        return self.last[1]


class Bank:
    """Accounts: `transfer` [from, to, amount] = whether covered, `deposit` [to, amount],
    `balance` account, `read` = all.

    `read` gives [account, balance] pairs in any order. What goes to an account opens it.
    """

    def __init__(self, balances: Sequence[tuple[str, int]] = ()) -> None:
        self.initial = sort_values(tuple(balances))

    def apply(self, state: State, name: str, argument: Value) -> tuple[State, Value]:
        if name == "read":
            return state, state
        balances = dict(state)
        if name == "balance":
            return state, balances.get(argument, 0)
        if name == "deposit":
            target, amount = expect_tuple(name, argument, 2)
            result = None
        elif name == "transfer":
            source, target, amount = expect_tuple(name, argument, 3)
            if not 0 <= expect_integer(name, amount) <= balances.get(source, 0):
                return state, False
            balances[source] = balances.get(source, 0) - amount
            result = True
        else:
            expected = "transfer, deposit, balance or read"
            raise Invalid(f"operation {name!r} of a bank, expected {expected}")
        target = expect_text(name, target)
        balances[target] = balances.get(target, 0) + expect_integer(name, amount)
        return sort_values(tuple(balances.items())), result

    def prepare(self, answered: Sequence[Operation]) -> bool:
        return False

    def is_read(self, name: str, result: Value) -> bool:
        return name in ("balance", "read") or result is False

    def is_write(self, name: str) -> bool:
        return False

    def normalize(self, name: str, result: Value) -> Value:
        return sort_values(result) if name == "read" else result

    def describe(self, state: State) -> str:
        return format_value(state)


def expect_tuple(name: str, argument: Value, length: int) -> tuple[Value, ...]:
    """Return an argument that must be a list of this length. Raises Invalid."""
    if not isinstance(argument, tuple) or len(argument) != length:
        raise Invalid(f"argument {argument!r} of {name}, expected a list of {length}")
    return argument


def expect_integer(name: str, argument: Value) -> int:
    """Return an argument that must be an integer. Raises Invalid."""
    if isinstance(argument, bool) or not isinstance(argument, int):
        raise Invalid(f"argument {argument!r} of {name}, expected an integer")
    return argument


def expect_text(name: str, argument: Value) -> str:
    """Return an argument that must be a string. Raises Invalid."""
    if not isinstance(argument, str):
        raise Invalid(f"argument {argument!r} of {name}, expected a string")
    return argument


def sort_values(values: Value) -> tuple[Value, ...]:
    """Return a list in an order that does not depend on how it came; other values alone in one."""
    return tuple(sorted(values, key=repr)) if isinstance(values, tuple) else (values,)


MODELS: dict[str, Callable[[], Model]] = {
    "register": Register,
    "counter": Counter,
    "set": GrowingSet,
    "log": Log,
    "bank": Bank,
}
"""By the name that people choose them by, each empty at first."""


def get_model(name: str) -> Model:
    """Return a new object by the name of its model. Raises Invalid."""
    make = MODELS.get(name)
    if make is None:
        raise Invalid(f"model {name!r}: expected one of {', '.join(MODELS)}")
    return make()
