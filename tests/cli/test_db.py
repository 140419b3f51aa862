"""`quorate db`: stores in which everything fits, or something does not, and shrinking."""

import random
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kernel.chain import CODE, CONTRACT
from kernel.test_history import carry, prune
from kernel.test_history import grow as grow_freely
from light.test_snapshot import STRANGERS, grow, make
from quorate._kernel import Ledger, Unavailable, compact_store
from quorate.cli.main import cli


def check(store: Path) -> Result:
    return CliRunner().invoke(cli, ["db", "check", str(store)], standalone_mode=False)


def make_store(path: Path, heights: int = 40, keep: int | None = None) -> bytes:
    """Make a store; return a transaction in its last block."""
    ledger = Ledger.open(str(path), make())
    for _ in range(heights // 5):
        grow(ledger, 5)
        prune(ledger, keep, keep)
    raw = ledger.view().block_raw(ledger.durable()) or b""
    ledger.close()
    return raw


@pytest.mark.parametrize("keep", [None, 8])
def test_everything_fits_in_a_sound_store(tmp_path: Path, keep: int | None) -> None:
    make_store(tmp_path / "ledger", keep=keep)
    found = check(tmp_path / "ledger")
    assert (found.return_value, found.exception) == (0, None), found.output


def test_a_store_that_is_written_can_be_checked(tmp_path: Path) -> None:
    ledger = Ledger.open(str(tmp_path / "ledger"), make())
    grow(ledger, 10)
    checking = ledger.view().check()
    grow(ledger, 20)
    prune(ledger, 8, 8)
    assert checking.range()[0] == 10
    assert checking.blocks(0, 100) == []
    height, nodes, found = checking.states(1 << 40)
    assert (height, found) == (None, [])
    needed, stored, dead, entries, indexed = checking.totals()
    assert (needed, entries, dead) == (stored, indexed, 0)
    assert nodes > 0
    ledger.close()


def test_pruning_and_import_leave_exactly_what_is_needed(tmp_path: Path) -> None:
    from kernel.chain import genesis

    source = Ledger.open(None, genesis())
    target = Ledger.open(str(tmp_path / "ledger"), genesis())
    grow_freely(source, random.Random(1), 50)
    carry(source, 50, target, 300)
    for ledger in (source, target):
        for _ in range(2):
            checking = ledger.view().check()
            assert checking.blocks(0, 1000) == []
            assert checking.states(1 << 40)[2] == []
            needed, stored, _, entries, indexed = checking.totals()
            assert (needed, entries) == (stored, indexed)
            grow_freely(ledger, random.Random(2), 30)
            prune(ledger, 8, 8)
    target.close()


def damage(store: Path, wanted: bytes, place: int = 0) -> None:
    """Flip a bit in every copy of some bytes in a store's file."""
    file = store / "data.mdb"
    data = bytearray(file.read_bytes())
    at, count = data.find(wanted), 0
    while at >= 0:
        data[at + place] ^= 1
        at, count = data.find(wanted, at + len(wanted)), count + 1
    assert count
    file.write_bytes(data)


def test_damage_is_found_and_said_where(tmp_path: Path) -> None:
    from kernel.chain import genesis

    store = tmp_path / "ledger"
    ledger = Ledger.open(str(store), genesis())
    grow_freely(ledger, random.Random(3), 20)
    record = ledger.view().head_record(7) or b""
    proof = ledger.view().proof_json(20, CONTRACT, [])
    ledger.close()
    assert proof
    whole = (store / "data.mdb").read_bytes()
    for wanted, place, text in ((CODE, 2, "code"), (record[60:120], 30, "height 7")):
        (store / "data.mdb").write_bytes(whole)
        damage(store, wanted, place)
        found = check(store)
        assert found.return_value == 1, found.output
        assert text in found.output


def test_certificates_of_others_are_found(tmp_path: Path) -> None:
    store = tmp_path / "ledger"
    ledger = Ledger.open(str(store), make())
    grow(ledger, 3)
    grow(ledger, 1, STRANGERS)
    ledger.close()
    found = check(store)
    assert found.return_value == 1
    assert "height 4" in found.output


def test_a_file_shrinks_by_what_pruning_freed(tmp_path: Path) -> None:
    store = tmp_path / "ledger"
    ledger = Ledger.open(str(store), make())
    grow(ledger, 100)
    with pytest.raises(Unavailable):
        compact_store(str(store))
    prune(ledger, 8, 8)
    last = ledger.view().block_hash(100)
    ledger.close()
    done = CliRunner().invoke(cli, ["db", "compact", str(store)], standalone_mode=False)
    assert done.exception is None, done.output
    before, after = map(int, done.output.split()[:2])
    assert after < before / 2
    assert check(store).return_value == 0
    again = Ledger.open(str(store), make())
    assert again.view().block_hash(100) == last
    grow(again, 3)
    again.close()
    with pytest.raises(Unavailable, match="no store"):
        compact_store(str(tmp_path / "nothing"))
