"""Snapshots: what is written is read back, proved from genesis on, and nothing else is believed."""

import io
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from kernel.chain import ACCOUNTS, KEYS, payload, tip, transaction
from quorate._kernel import Ledger
from quorate.base.errors import Corrupt, Invalid
from quorate.base.types import Member
from quorate.cli.main import cli
from quorate.cli.output import Problem
from quorate.cli.snapshot import install_folder
from quorate.consensus.certificate import (
    PRECOMMIT,
    Certificate,
    Envelope,
    compute_digest,
    encode_certificate,
    hash_envelope,
)
from quorate.consensus.keys import SecpKeys
from quorate.consensus.membership import hash_members
from quorate.crypto.hashes import hash_payload
from quorate.ledger.genesis import make_genesis
from quorate.light.snapshot import MAGIC, Proof, Reader, Writer, install, prove, write_snapshot
from quorate.runtime.disk import FileDisk
from quorate.runtime.folder import Folder
from quorate.storage.journal import open_journal

VALIDATORS = [SecpKeys(bytes(31) + bytes((i,))) for i in (1, 2, 3, 4)]
STRANGERS = [SecpKeys(bytes(31) + bytes((i,))) for i in (5, 6, 7, 8)]
MEMBERS = sorted(Member(key.address, 1) for key in VALIDATORS)
HEIGHT = 12


def make(chain_id: int = 31337, timestamp: int = 1_600_000_000) -> bytes:
    return make_genesis(
        chain_id=chain_id,
        engine="tendermint",
        gas="fees",
        members=MEMBERS,
        balances=dict.fromkeys(ACCOUNTS, 10**24),
        gas_limit=30_000_000,
        timestamp=timestamp,
    )


def grow(ledger: Ledger, heights: int, signers: list[SecpKeys] = VALIDATORS) -> None:
    """Add blocks with transfers, each with the certificate of these signers."""
    for _ in range(heights):
        parent = tip(ledger)
        last = ledger.decision(parent.number)
        before = ledger.genesis_hash if last is None else last[0]
        nonce = ledger.view().nonce(parent.number, ACCOUNTS[0])
        body = payload(parent, transaction(KEYS[0], nonce, bytes([parent.number + 1]) * 20, 7))
        block = ledger.execute(parent.hash, [body], before)
        sets = hash_members([Member(key.address, 1) for key in signers])
        envelope = Envelope(
            *("tendermint", block.number, 0, signers[0].address, before),
            *(sets, sets, hash_payload(body)),
        )
        value = hash_envelope(envelope)
        digest = compute_digest(ledger.genesis_hash, PRECOMMIT, block.number, 0, value)
        signatures = sorted((key.address, key.sign(digest)) for key in signers)
        certificate = encode_certificate(Certificate(envelope, 0, signatures))
        ledger.finalize(block.hash, value, certificate, [body])
        ledger.commit()


@pytest.fixture(scope="module")
def genesis() -> bytes:
    return make()


@pytest.fixture(scope="module")
def ledger(genesis: bytes) -> Ledger:
    opened = Ledger.open(None, genesis)
    grow(opened, HEIGHT + 1)
    return opened


def write(ledger: Ledger, height: int = HEIGHT) -> bytes:
    out = io.BytesIO()
    write_snapshot(out, ledger.view(), height, "tendermint", "test", lambda _: None)
    return out.getvalue()


def load(data: bytes, genesis: bytes, trusted: bytes | None = None) -> Ledger:
    reader = Reader(io.BytesIO(data))
    prove(reader, genesis, trusted)
    target = Ledger.open(None, genesis)
    install(reader, target, lambda _: None)
    return target


def test_a_snapshot_gives_the_same_ledger_and_goes_on(ledger: Ledger, genesis: bytes) -> None:
    target = load(write(ledger), genesis)
    block = ledger.block(HEIGHT)
    assert block is not None
    assert (tip(target).number, tip(target).hash) == (HEIGHT, block.hash)
    assert target.view().balance(HEIGHT, ACCOUNTS[0]) == ledger.view().balance(HEIGHT, ACCOUNTS[0])
    other = load(write(ledger), genesis)
    grow(target, 3)
    grow(other, 3)
    assert tip(target).hash == tip(other).hash


def test_damage_is_seen_wherever_it_is(ledger: Ledger, genesis: bytes) -> None:
    data, dice = write(ledger), random.Random(1)
    for _ in range(60):
        bits = bytearray(data)
        bits[dice.randrange(len(bits))] ^= 1 << dice.randrange(8)
        for wrong in (bytes(bits), data[: dice.randrange(len(data))], data + b"\0"):
            with pytest.raises(Invalid):
                load(wrong, genesis)


def test_a_snapshot_of_another_network_is_refused(ledger: Ledger) -> None:
    for other in (make(chain_id=5), make(timestamp=1_600_000_001)):
        with pytest.raises(Invalid, match="snapshot: of"):
            load(write(ledger), other)


def rewrite(data: bytes, **changes: Any) -> bytes:
    """Return a snapshot with other parts of the proof, and hashes that are right again."""
    reader = Reader(io.BytesIO(data))
    proof = msgspec.structs.replace(reader.proof, **changes)
    out = io.BytesIO()
    writer = Writer(out)
    writer.add(msgspec.json.encode(reader.about))
    writer.add(msgspec.msgpack.encode(proof))
    for piece in reader.pieces():
        writer.add(piece)
    writer.add(b"")
    return out.getvalue()


def test_a_proof_of_something_else_is_refused(ledger: Ledger, genesis: bytes) -> None:
    data = write(ledger)
    proof: Proof = Reader(io.BytesIO(data)).proof
    older: Proof = Reader(io.BytesIO(write(ledger, HEIGHT - 1))).proof
    wrong: list[dict[str, Any]] = [
        {"next_certificate": older.next_certificate},
        {"next_head": older.next_head},
        {"certificate": older.certificate, "envelope": older.envelope},
        {"payloads": older.payloads},
        {"payloads": []},
        {"heads": older.heads},
        {"heads": []},
        {"heads": [*proof.heads[:-1], older.heads[-1]]},
        {"members": [[Member(STRANGERS[0].address, 1)]] * 3},
        {"members": proof.members[:2]},
        {"certificate": b""},
    ]
    for changes in wrong:
        with pytest.raises(Invalid):
            load(rewrite(data, **changes), genesis)
    assert tip(load(rewrite(data), genesis)).number == HEIGHT


def test_another_state_under_a_true_proof_is_refused(ledger: Ledger, genesis: bytes) -> None:
    data, stranger = write(ledger), Ledger.open(None, genesis)
    grow(stranger, 3)
    piece = stranger.view().export_state(2, b"", 1 << 20)[0]
    reader, out = Reader(io.BytesIO(data)), io.BytesIO()
    writer = Writer(out)
    writer.add(msgspec.json.encode(reader.about))
    writer.add(msgspec.msgpack.encode(reader.proof))
    writer.add(piece)
    writer.add(b"")
    with pytest.raises(Invalid, match="state root"):
        load(out.getvalue(), genesis)


def test_signatures_of_strangers_convince_nobody_without_a_trusted_hash(genesis: bytes) -> None:
    forged = Ledger.open(None, genesis)
    grow(forged, HEIGHT + 1, STRANGERS)
    members = sorted(Member(key.address, 1) for key in STRANGERS)
    data = rewrite(write(forged), members=[members] * 3)
    with pytest.raises(Invalid, match="--trust"):
        load(data, genesis)
    block = forged.block(HEIGHT)
    assert block is not None
    assert tip(load(data, genesis, block.hash)).hash == block.hash
    with pytest.raises(Invalid, match="as trusted"):
        load(data, genesis, b"\1" * 32)


def test_a_length_without_bounds_is_refused(ledger: Ledger) -> None:
    beginning = MAGIC + (1).to_bytes(4, "big")
    with pytest.raises(Invalid, match="at most"):
        Reader(io.BytesIO(beginning + b"\xff" * 36))
    with pytest.raises(Invalid, match="version 2"):
        Reader(io.BytesIO(MAGIC + (2).to_bytes(4, "big") + b"\0" * 40))


def describe(data: bytes, **changes: Any) -> bytes:
    """Return a snapshot that says something else of itself, with hashes that are right again."""
    reader = Reader(io.BytesIO(data))
    fields = msgspec.to_builtins(reader.about) | changes
    out = io.BytesIO()
    writer = Writer(out)
    writer.add(msgspec.json.encode(fields))
    writer.add(msgspec.msgpack.encode(reader.proof))
    for piece in reader.pieces():
        writer.add(piece)
    writer.add(b"")
    return out.getvalue()


@pytest.mark.parametrize(
    "changes",
    [
        {"height": 0},
        {"height": -1},
        {"height": 1 << 40},
        {"height": 1 << 70},
        {"chain_id": 1 << 64},
        {"block": "0x" + "\x1b" * 64},
        {"genesis": "0x" + "1" * 65},
        {"engine": "raft\x1b[2J"},
        {"software": "s" * 129},
    ],
)
def test_what_it_says_of_itself_is_bounded_before_anybody_reads_it(
    ledger: Ledger, genesis: bytes, changes: dict[str, Any]
) -> None:
    with pytest.raises(Invalid) as error:
        load(describe(write(ledger), **changes), genesis)
    assert "\x1b" not in str(error.value)
    assert len(str(error.value)) < 300


def test_pieces_that_come_again_or_never_end_are_refused(ledger: Ledger, genesis: bytes) -> None:
    reader = Reader(io.BytesIO(write(ledger)))
    pieces = list(reader.pieces())
    for wrong in ([*pieces, *pieces], pieces * 50, [b"\7", *pieces], [b"\2", *pieces]):
        out = io.BytesIO()
        writer = Writer(out)
        writer.add(msgspec.json.encode(reader.about))
        writer.add(msgspec.msgpack.encode(reader.proof))
        for piece in wrong:
            writer.add(piece)
        writer.add(b"")
        with pytest.raises(Invalid):
            load(out.getvalue(), genesis)


def test_the_command_writes_and_verifies(tmp_path: Path, genesis: bytes) -> None:
    store = Ledger.open(str(tmp_path / "ledger"), genesis)
    grow(store, HEIGHT + 1)
    (tmp_path / "genesis.json").write_bytes(genesis)
    file = tmp_path / "state.snapshot"
    # Whatever else lies beside it stays.
    mine = tmp_path / "state.snapshot.verify" / "mine"
    mine.parent.mkdir()
    mine.touch()
    run = CliRunner().invoke
    wrote = run(cli, ["snapshot", "export", str(tmp_path / "ledger"), "-o", str(file)])
    assert wrote.exit_code == 0, wrote.output
    arguments = ["snapshot", "verify", str(file), "--genesis", str(tmp_path / "genesis.json")]
    proved = run(cli, arguments)
    assert proved.exit_code == 0, proved.output
    assert str(HEIGHT) in proved.output
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "genesis.json",
        "ledger",
        "state.snapshot",
        "state.snapshot.verify",
    ]
    assert mine.exists()
    file.write_bytes(file.read_bytes()[:-50])
    refused = run(cli, arguments)
    assert isinstance(refused.exception, SystemExit | Problem)
    assert refused.exit_code != 0
    store.close()


def test_a_store_is_put_in_place_with_a_journal_of_its_own(tmp_path: Path) -> None:
    own, built = Folder(tmp_path / "erin"), tmp_path / "erin" / "ledger.unfinished"
    built.mkdir(parents=True)
    (built / "data.mdb").write_bytes(b"x")
    install_folder(built, own, b"identity")
    assert (own.ledger / "data.mdb").read_bytes() == b"x"
    disk = FileDisk(own.journal)
    assert disk.names(), "a store without a journal is taken for one that lost it"
    assert open_journal(disk, b"identity")[1].records == []
    with pytest.raises(Corrupt):
        open_journal(FileDisk(own.journal), b"another")
