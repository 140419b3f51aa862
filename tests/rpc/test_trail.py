"""What subscribers hear where the validator takes over a state instead of executing blocks."""

from pathlib import Path

from ledger.test_states import Ether, describe, export, grow, keep, take
from quorate.rpc.store import Store
from quorate.rpc.trail import Trail

HEIGHT = 280
"""So far above the old state that most hashes in between are not there."""


def test_blocks_are_told_from_the_state_on(tmp_path: Path) -> None:
    source, target = Ether.open(), Ether.open(str(tmp_path / "store"))
    grow(Ether, source, HEIGHT + 2)
    grow(Ether, target, 5)
    trail = Trail(Store(str(tmp_path / "store")))
    trail.follow()
    grow(Ether, target, 7)
    assert [told.height for told in trail.follow().added] == [6, 7]
    snapshot = describe(source, HEIGHT)
    keep(target, snapshot, export(source, snapshot))
    take(target, snapshot, source)
    assert trail.follow().added == []
    grow(Ether, target, HEIGHT + 2)
    news = trail.follow()
    assert [told.height for told in news.added] == [HEIGHT + 1, HEIGHT + 2]
    assert news.removed == []
