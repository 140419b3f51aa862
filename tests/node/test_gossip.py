"""Items and who has them: what a pool refused or let go of gets there again, and at what cost."""

import pytest

from node.lone import make_lone
from node.world import MS, Machine, World, make_address
from quorate.base.types import Hash
from quorate.ledger.opaque import OpaqueLedger
from quorate.node.gossip import Seen
from quorate.node.settings import Settings
from quorate.node.wire import Transactions, encode

FOLLOWER = make_address(1)


class Moody(OpaqueLedger):
    """Refuses what begins with the words that it is told, and may see no work for a while."""

    __slots__ = ("added", "is_blind", "refused")

    def add_one(self, item: bytes) -> tuple[Hash, str | None]:
        self.added = [*getattr(self, "added", []), item]
        identity = super().add_one(item)
        if identity[1] is None and item.startswith(getattr(self, "refused", b"nothing")):
            self.drop(item)
            return identity[0], "txpool is full"
        return identity

    def drop(self, item: bytes) -> None:
        """As a pool that makes room for what pays more."""
        identity = next(known for known, raw in self.pool.items() if raw == item)
        self.pool_bytes -= len(self.pool.pop(identity))

    def has_work(self, max_bytes: int) -> bool:
        return not getattr(self, "is_blind", False) and super().has_work(max_bytes)


class MoodyWorld(World):
    """The machine at index 0 alone makes blocks."""

    def make_application(self, machine: Machine) -> Moody:
        return Moody(machine.store, machine.address)

    def get_ledger(self, index: int) -> Moody:
        application = self.get_node(index).application
        assert isinstance(application, Moody)
        return application

    def is_final(self, item: bytes) -> bool:
        finals = self.get_machine(0).store.final
        return any(item in payload for final in finals for payload in final.payloads)


def make_world(**settings: int) -> MoodyWorld:
    world = MoodyWorld(make_lone, settings=Settings(**{"block_time_ms": 300, **settings}))
    world.start()
    world.run(100)
    return world


def test_item_that_the_leader_refused_its_client_is_taken_from_another_node() -> None:
    world = make_world()
    leader = world.get_ledger(0)
    leader.refused = b"one"
    assert [error for _, error in world.submit(0, b"one")] == []
    world.run(50)
    assert leader.added == [b"one"]
    leader.refused = b"nothing"
    world.submit(1, b"one")
    assert world.run(1000, lambda: world.is_final(b"one"))


def test_item_that_the_leaders_pool_let_go_of_is_taken_again() -> None:
    world = make_world(block_time_ms=5000)
    world.submit(1, b"one")
    world.run(100)
    assert world.get_ledger(2).added == world.get_ledger(0).added == [b"one"]
    world.get_ledger(0).drop(b"one")
    assert world.run(60_000, lambda: world.is_final(b"one"))


def test_items_that_the_leader_never_takes_hold_up_no_other() -> None:
    """More than are told again at a time wait before the one that was lost; links carry little."""
    world = make_world()
    world.get_ledger(0).refused = b"cheap"
    world.submit(1, *[b"cheap %d" % i for i in range(300)])
    world.run(100)
    world.loss_permille = 1000
    world.submit(1, b"one")
    world.run(100)
    world.loss_permille = 0
    for index in (2, 3):
        assert b"one" not in world.get_ledger(index).pool.values()
    told = world.get_node(1).get_counters()["transactions_told"]
    assert world.run(30_000, lambda: world.is_final(b"one"))
    world.run(30_000 - world.now // MS)
    again = world.get_node(1).get_counters()["transactions_told"] - told
    assert 0 < again <= 3 * 64 * 30_000 // 2000


@pytest.mark.parametrize("block_time_ms", [0, 300])
def test_every_part_of_a_deep_pool_is_told_again(block_time_ms: int) -> None:
    """The leader never takes the first hundred, of which twenty are read at a time."""
    world = make_world(block_time_ms=block_time_ms, welcome_transactions=20)
    world.get_ledger(0).refused = b"cheap"
    world.submit(1, *[b"cheap %d" % i for i in range(100)])
    world.run(100)
    world.loss_permille = 1000
    world.submit(1, b"one")
    world.run(100)
    world.loss_permille = 0
    assert world.run(600_000, lambda: world.is_final(b"one"))


def test_node_that_sees_no_work_for_a_while_tells_again_when_it_does() -> None:
    world = make_world()
    follower = world.get_ledger(1)
    follower.is_blind = True
    world.loss_permille = 1000
    world.submit(1, b"one")
    world.run(100)
    world.loss_permille = 0
    world.run(5000)
    assert not world.is_final(b"one")
    follower.is_blind = False
    assert world.run(10_000, lambda: world.is_final(b"one"))


def test_what_comes_again_and_again_is_judged_rarely() -> None:
    world = make_world(block_time_ms=100_000, seen_ms=1000)
    node = world.get_node(3)
    for _ in range(400):
        node.received(FOLLOWER, encode(Transactions([b"same"], False)))
        world.run(50)
    assert 7 <= world.get_ledger(3).added.count(b"same") <= 20


# ---- the filter


def test_filter_forgets_after_its_time_and_not_before() -> None:
    seen = Seen(100, 1000, 10 * MS)
    assert seen.add([b"a", b"b", b"a"], 0) == [b"a", b"b"]
    assert seen.add([b"a", b"c"], 9 * MS) == [b"c"]
    assert seen.add([b"a", b"c"], 10 * MS) == []
    assert seen.add([b"a", b"c"], 20 * MS) == [b"a", b"c"]
    assert seen.add([b"a"], 100 * MS) == [b"a"]
    assert seen.add([b"a"], 101 * MS) == []


def test_filter_is_bounded_and_what_is_forgotten_takes_no_room() -> None:
    seen = Seen(100, 100, 10 * MS)
    for _ in range(1000):
        seen.add([b"refused"], 0)
        seen.forget(b"refused")
        assert seen.add([b"kept"], 0) in ([b"kept"], [])
    assert (list(seen.young), seen.bytes, seen.old) == ([b"kept"], 4, {})
    for i in range(1000):
        seen.add([b"%d" % i], 0)
    assert len(seen.young) + len(seen.old) <= 102
    assert Seen(0, 0, 0).add([b"a", b"a"], 0) == [b"a"]
