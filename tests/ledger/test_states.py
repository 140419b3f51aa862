"""States of both applications that move in chunks: told, kept, taken over, refused, and killed."""

import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from kernel.chain import ACCOUNTS, CHAIN_ID, COINBASE, KEYS, transaction
from quorate.base.errors import Invalid, Unavailable
from quorate.base.types import Hash, Height, Member
from quorate.crypto.hashes import HEAD_BYTES, keccak256
from quorate.ledger import operations as op
from quorate.ledger.application import Application, Executed, Snapshot
from quorate.ledger.ethereum import EthereumLedger, open_ethereum
from quorate.ledger.genesis import VALIDATORS
from quorate.ledger.genesis import make_genesis as make_ethereum
from quorate.ledger.keyvalue import KeyValueLedger, make_genesis, open_keyvalue

NOW_MS = 1_700_000_000_000
MEMBERS = sorted(Member(a, 1) for a in ACCOUNTS[:3])
CHUNK_BYTES = 300
HEIGHT = 30
KILLS = 8
# Returns itself when it is called: a contract of 40 bytes, different for each salt.
CREATION = bytes.fromhex("6028600c60003960286000f3")


def envelope(height: Height) -> Hash:
    return height.to_bytes(32, "big")


class Ether:
    """Chains of transfers, contracts and changes of members, each from a seed."""

    name = "ethereum"

    @staticmethod
    def open(path: str | None = None) -> EthereumLedger:
        genesis = make_ethereum(
            chain_id=CHAIN_ID,
            engine="raft",
            gas="fees",
            members=MEMBERS,
            balances=dict.fromkeys(ACCOUNTS, 10**24),
            gas_limit=30_000_000,
            timestamp=1_600_000_000,
        )
        return open_ethereum(path, genesis, COINBASE)

    @staticmethod
    def make_items(application: Application, height: Height) -> list[bytes]:
        assert isinstance(application, EthereumLedger)
        view = application.ledger.view()
        nonce = view.nonce(height - 1, ACCOUNTS[0])
        items = []
        for i in range(3):
            target = (height * 3 + i).to_bytes(20, "big")
            items.append(transaction(KEYS[0], nonce + i, target, height))
        code = CREATION + (height // 3).to_bytes(40, "big")
        items.append(transaction(KEYS[0], nonce + 3, b"", 0, code, gas=200_000))
        return items

    @staticmethod
    def read_root(application: Application, height: Height) -> Hash:
        assert isinstance(application, EthereumLedger)
        return application.get_block(height).state_root


class Keys:
    """Chains of puts."""

    name = "keyvalue"

    @staticmethod
    def open(path: str | None = None) -> KeyValueLedger:
        genesis = make_genesis(
            application="keyvalue",
            chain_id=7,
            engine="raft",
            members=MEMBERS,
            timestamp=1_600_000_000,
        )
        return open_keyvalue(path, genesis, COINBASE)

    @staticmethod
    def make_items(application: Application, height: Height) -> list[bytes]:
        puts = [op.make_put(b"key %d" % (height * 5 + i), b"%d" % i * 20) for i in range(4)]
        deadline = NOW_MS + 100_000
        client = b"client".ljust(16)
        return [
            op.encode(put, client, height * 4 + i, height * 4 + i - 1, deadline)
            for i, put in enumerate(puts, 1)
        ]

    @staticmethod
    def read_root(application: Application, height: Height) -> Hash:
        assert isinstance(application, KeyValueLedger)
        return application.get_block(height).state_root


Kind = type[Ether] | type[Keys]
KINDS: dict[str, Kind] = {"ethereum": Ether, "keyvalue": Keys}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def grow(kind: Kind, application: Application, until: Height) -> None:
    """Make blocks up to a height: whoever is at one height makes the same next one."""
    while (last := application.durable()).height < until:
        height = last.height + 1
        items = kind.make_items(application, height)
        assert [reason for _, reason in application.add(items)] == [None] * len(items)
        payload = application.build(last.block, NOW_MS + height * 10, 1 << 20)
        executed = application.execute(last.block, [payload], envelope(height - 1))
        assert executed.items == len(items)
        application.finalize(executed, envelope(height), b"proof %d" % height, [payload])
        application.settle()
        application.commit()


def describe(application: Application, height: Height) -> Snapshot:
    while (found := application.describe_state(height, CHUNK_BYTES)) is None:
        pass
    return found


def export(application: Application, snapshot: Snapshot) -> list[bytes]:
    chunks = [application.export_state(snapshot, n) for n in range(len(snapshot.chunks))]
    return [chunk for chunk in chunks if chunk is not None]


def keep(application: Application, snapshot: Snapshot, chunks: list[bytes]) -> None:
    application.list_kept(snapshot)
    for number, chunk in enumerate(chunks):
        application.keep_chunk(snapshot, number, chunk)


def take(application: Application, snapshot: Snapshot, source: Application) -> Executed:
    found = source.decision(snapshot.height)
    assert found is not None
    return application.import_state(snapshot, found[0], found[1])


def test_a_state_is_taken_over_and_goes_on(kind: Kind, tmp_path: Path) -> None:
    source, path = kind.open(), str(tmp_path / "store")
    grow(kind, source, HEIGHT)
    target = kind.open(path)
    grow(kind, target, 5)
    snapshot = describe(source, HEIGHT - 2)
    chunks = export(source, snapshot)
    assert len(chunks) == len(snapshot.chunks) > 5
    numbers = list(range(len(chunks)))
    random.Random(1).shuffle(numbers)
    for place, number in enumerate(numbers):
        if place % 7 == 0:
            # What is kept survives the process.
            close(target)
            target = kind.open(path)
            assert sorted(target.list_kept(snapshot)) == sorted(numbers[:place])
        target.keep_chunk(snapshot, number, chunks[number])
    assert target.durable().height == 5
    executed = take(target, snapshot, source)
    assert executed == target.durable()
    assert (executed.height, executed.block) == (HEIGHT - 2, snapshot.block)
    check_taken(kind, target, source, snapshot)
    close(target)
    target = kind.open(path)
    check_taken(kind, target, source, snapshot)
    grow(kind, target, HEIGHT + 40)
    grow(kind, source, HEIGHT + 40)
    assert target.durable() == source.durable()
    # What it offers itself is the same, byte for byte.
    later = describe(target, HEIGHT + 38)
    assert later == describe(source, HEIGHT + 38)
    assert export(target, later) == export(source, later)


def close(application: Application) -> None:
    assert isinstance(application, EthereumLedger | KeyValueLedger)
    store = application.ledger if isinstance(application, EthereumLedger) else application.store
    store.close()


def check_taken(kind: Kind, target: Application, source: Application, snapshot: Snapshot) -> None:
    height = snapshot.height
    assert target.durable().block == snapshot.block
    assert kind.read_root(target, height) == kind.read_root(source, height)
    assert target.decision(height) == source.decision(height)
    assert target.decision(height - 1) is None
    assert target.decision(4) is None
    assert target.first_held() == height + 1
    for later in (height, height + 1, height + 2):
        assert target.members(later) == source.members(later) == MEMBERS
    # Nothing is left of what was kept.
    assert target.list_kept(snapshot) == []
    with pytest.raises(Unavailable):
        describe(target, 4)
    # What waited and is in the state by now is known.
    items = kind.make_items(source, height)
    assert all(reason is not None for _, reason in target.add(items))


def test_what_waits_is_judged_over_the_new_state(kind: Kind) -> None:
    source, target = kind.open(), kind.open()
    grow(kind, source, 10)
    items = kind.make_items(source, 1) if kind is Keys else None
    if items is not None:
        assert [reason for _, reason in target.add(items)] == [None] * len(items)
    fresh = transaction(KEYS[1], 0, ACCOUNTS[0], 1)
    if kind is Ether:
        stale = transaction(KEYS[0], 0, ACCOUNTS[1], 7)
        assert [reason for _, reason in target.add([fresh, stale])] == [None, None]
    snapshot = describe(source, 8)
    keep(target, snapshot, export(source, snapshot))
    take(target, snapshot, source)
    assert target.waiting(9) == ([fresh] if kind is Ether else [])


def test_chunks_say_nothing_of_where_they_come_from(kind: Kind) -> None:
    """One has executed everything, one has begun with a state; later contracts are not told."""
    source = kind.open()
    grow(kind, source, 20)
    before = describe(source, 12)
    grow(kind, source, HEIGHT)
    target = kind.open()
    keep(target, before, export(source, before))
    take(target, before, source)
    grow(kind, target, HEIGHT)
    assert describe(target, 13).chunks == describe(source, 13).chunks
    assert describe(source, 12) == before


def test_a_wrong_state_is_refused_and_changes_nothing(kind: Kind, tmp_path: Path) -> None:
    source, target = kind.open(), kind.open(str(tmp_path / "store"))
    grow(kind, source, HEIGHT)
    grow(kind, target, 5)
    before = target.durable()
    snapshot = describe(source, HEIGHT - 2)
    chunks = export(source, snapshot)
    dice = random.Random(3)
    for turn in range(60):
        wrong = list(chunks)
        at = dice.randrange(len(wrong))
        match turn % 6:
            case 0:
                bits = bytearray(wrong[at])
                bits[dice.randrange(len(bits))] ^= 1 << dice.randrange(8)
                wrong[at] = bytes(bits)
            case 1:
                wrong[at] = wrong[at][: dice.randrange(len(wrong[at]))]
            case 2:
                del wrong[at]
            case 3:
                other = (at + 1) % len(wrong)
                wrong[at], wrong[other] = wrong[other], wrong[at]
            case 4:
                wrong.insert(at, wrong[at])
            case _:
                wrong[0] = dice.randbytes(4) + wrong[0][4:]
        keep(target, snapshot, wrong)
        with pytest.raises(Invalid):
            take(target, snapshot, source)
        assert target.durable() == before
        assert target.list_kept(snapshot) == []
    # It goes on as ever, and takes the right one later.
    grow(kind, target, 9)
    keep(target, snapshot, chunks)
    assert take(target, snapshot, source).block == snapshot.block


def test_a_state_of_another_block_or_of_other_members_is_refused(kind: Kind) -> None:
    source, target = kind.open(), kind.open()
    grow(kind, source, HEIGHT)
    snapshot = describe(source, 20)
    chunks = export(source, snapshot)
    other = source.decision(21)
    assert other is not None
    foreign = Snapshot(20, b"\x13" * 32, snapshot.members, snapshot.chunks)
    keep(target, foreign, chunks)
    with pytest.raises(Invalid, match="snapshot: block"):
        target.import_state(foreign, other[0], other[1])
    higher = Snapshot(21, snapshot.block, snapshot.members, snapshot.chunks)
    keep(target, higher, chunks)
    with pytest.raises(Invalid):
        target.import_state(higher, other[0], other[1])
    assert target.durable().height == 0


def test_chunks_of_another_snapshot_are_forgotten(kind: Kind) -> None:
    source, target = kind.open(), kind.open()
    grow(kind, source, HEIGHT)
    first, second = describe(source, 10), describe(source, 11)
    chunk = export(source, first)[0]
    assert target.list_kept(first) == []
    target.keep_chunk(first, 0, chunk)
    assert target.list_kept(first) == [0]
    assert target.list_kept(second) == []
    target.keep_chunk(first, 0, chunk)
    assert target.list_kept(second) == []


@pytest.mark.parametrize("below", [1, 2])
def test_what_a_state_holds_that_is_taken_over_waits_no_longer(kind: Kind, below: int) -> None:
    """Also where it is the very next height: what its block changed is not known here."""
    source, target = kind.open(), kind.open()
    grow(kind, target, HEIGHT - below)
    grow(kind, source, HEIGHT)
    waits = kind.make_items(target, HEIGHT - below + 1)
    assert [reason for _, reason in target.add(waits)] == [None] * len(waits)
    snapshot = describe(source, HEIGHT)
    keep(target, snapshot, export(source, snapshot))
    block = take(target, snapshot, source).block
    assert (target.counts(), target.has_work(1 << 20)) == ((0, 0, 0), False)
    assert target.build(block, NOW_MS + 10_000, 1 << 20)[HEAD_BYTES:] == b"\xc0"
    grow(kind, target, HEIGHT + 1)


def test_a_state_that_is_pruned_meanwhile_is_not_told(tmp_path: Path) -> None:
    source = Ether.open(str(tmp_path / "store"))
    grow(Ether, source, HEIGHT)
    snapshot = describe(source, 10)
    while source.prune(8, 8):
        pass
    assert source.export_state(snapshot, len(snapshot.chunks) - 1) is None
    with pytest.raises(Unavailable, match="state of height 10"):
        describe(source, 10)
    describe(source, HEIGHT - 2)


def check_store(application: EthereumLedger) -> None:
    """Everything that is stored is needed, and the other way round."""
    checking = application.ledger.view().check()
    assert checking.blocks(0, 1 << 20) == []
    while True:
        height, _, findings = checking.states(1000)
        assert findings == []
        if height is None:
            break
    needed, stored, _, entries, indexed = checking.totals()
    assert (stored, indexed) == (needed, entries)


def test_what_was_refused_leaves_nothing_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that some of it is built before the end is missing.
    monkeypatch.setattr("quorate.ledger.portable.RUN_BYTES", 1)
    source, target = Ether.open(), Ether.open(str(tmp_path / "store"))
    grow(Ether, source, HEIGHT)
    grow(Ether, target, 5)
    snapshot = describe(source, HEIGHT - 2)
    chunks = export(source, snapshot)
    keep(target, snapshot, chunks[:-1])
    with pytest.raises(Invalid):
        take(target, snapshot, source)
    check_store(target)
    # It comes to that height by itself, where the other state would have been.
    grow(Ether, target, HEIGHT)
    check_store(target)


def test_what_the_old_state_left_goes_in_steps(tmp_path: Path) -> None:
    # Far enough for headers to be missing between the two.
    source, target, height = Ether.open(), Ether.open(str(tmp_path / "store")), 300
    grow(Ether, source, height + 12)
    grow(Ether, target, HEIGHT)
    old, block = keccak256(Ether.make_items(source, 4)[0]), target.get_block(4).hash
    assert target.ledger.view().receipt_json(old) is not None
    snapshot = describe(source, height)
    keep(target, snapshot, export(source, snapshot))
    take(target, snapshot, source)
    check_store(target)
    assert target.ledger.view().block_number(block) == 4
    close(target)
    target = Ether.open(str(tmp_path / "store"))
    for later in range(height + 1, height + 8):
        grow(Ether, target, later)
        check_store(target)
    view = target.ledger.view()
    assert view.receipt_json(old) is None
    assert view.block_number(block) is None
    assert view.nonce(height + 2, VALIDATORS) == 1
    assert view.history() == (height, height + 1, height - 256)


# ---- processes that are killed


def import_for_ever(name: str, path: str) -> None:
    """Keep the chunks that are in a file beside the store, and take the state over."""
    kind = KINDS[name]
    snapshot, chunks, decision = msgspec.msgpack.decode(
        Path(path + ".chunks").read_bytes(), type=tuple[Snapshot, list[bytes], tuple[bytes, bytes]]
    )
    target = kind.open(path)
    sys.stdout.write("open\n")
    sys.stdout.flush()
    kept = dict.fromkeys(target.list_kept(snapshot))
    for number, chunk in enumerate(chunks):
        if number not in kept:
            target.keep_chunk(snapshot, number, chunk)
    target.import_state(snapshot, *decision)
    sys.stdout.write("taken\n")
    sys.stdout.flush()


def run_and_kill(arguments: list[str], delay: float) -> bytes:
    command = [sys.executable, __file__, *arguments]
    environment = {"PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"open\n"
        try:
            victim.wait(delay)
        except subprocess.TimeoutExpired:
            victim.kill()
        return victim.stdout.read()


def test_a_killed_process_has_the_old_state_or_the_new_one(kind: Kind, tmp_path: Path) -> None:
    source, path = kind.open(), str(tmp_path / "store")
    grow(kind, source, HEIGHT + 60)
    snapshot = describe(source, HEIGHT + 50)
    found = source.decision(snapshot.height)
    assert found is not None
    chunks = export(source, snapshot)
    data = msgspec.msgpack.encode((snapshot, chunks, found[:2]))
    Path(path + ".chunks").write_bytes(data)
    target = kind.open(path)
    grow(kind, target, 5)
    old = target.durable()
    close(target)
    dice, seen = random.Random(5), set()
    for kill in range(KILLS):
        told = run_and_kill([kind.name, path], dice.random() * 0.2 if kill < KILLS - 1 else 60)
        target = kind.open(path)
        at = target.durable()
        seen.add(at.height)
        if told:
            assert at.block == snapshot.block
        if at.height == old.height:
            assert at == old
            grow_check(kind, target)
            close(target)
            continue
        check_taken(kind, target, source, snapshot)
        close(target)
        break
    assert snapshot.height in seen


def grow_check(kind: Kind, target: Application) -> None:
    """What the old state needs is all there."""
    last = target.durable()
    items = kind.make_items(target, last.height + 1)
    assert [reason for _, reason in target.add(items)] == [None] * len(items)
    payload = target.build(last.block, NOW_MS + 1000, 1 << 20)
    assert target.execute(last.block, [payload], envelope(last.height)).items == len(items)


if __name__ == "__main__":
    import_for_ever(sys.argv[1], sys.argv[2])
