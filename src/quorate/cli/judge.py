"""`quorate judge`: what a real network has written, before the judges of the simulator."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from quorate._kernel import View
from quorate.base.errors import Corrupt, Invalid, Unavailable
from quorate.base.types import Address, Hash, Member
from quorate.cli.genesis import compute_hash
from quorate.cli.local import Local, open_local
from quorate.cli.options import folder_option, format_option
from quorate.cli.output import EXIT_CONFIG, Problem, Progress, emit, emit_table, fail, say, style
from quorate.consensus import ENGINES, pow_types
from quorate.consensus.keys import verify_signature
from quorate.consensus.replica import Record
from quorate.crypto.hashes import keccak256
from quorate.ledger.genesis import VALIDATORS, get_pow_rules
from quorate.ledger.keyvalue import ETHEREUM
from quorate.ledger.payload import parse_head
from quorate.node.wire import make_record_decoder
from quorate.runtime.disk import SPARES
from quorate.runtime.folder import Folder
from quorate.simulator.recorded import Decision, Recorded, RecordedJudge, StoreJudge
from quorate.simulator.recorded_ledgers import RaftJudge, WorkJudge
from quorate.simulator.verdict import EXIT_CODES, Verdict
from quorate.storage.journal import open_journal

MAX_FILE_BYTES = 1 << 30
MAX_ATTEMPTS = 5
"""To read a journal while its validator may cut it."""
COUNT_SLOT = bytes(32)
FIRST_SLOT = int.from_bytes(keccak256(COUNT_SLOT), "big")
"""Where the validator set lies in its contract; the layout is in contracts/Validators.sol."""


class Copy:
    """Implements `quorate.storage.disk.Disk` over a copy of files, which may be repaired."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError, also when a file goes away meanwhile."""
        self.files: dict[str, bytes] = {}
        for path in sorted(folder.iterdir()):
            if path.name in SPARES:
                continue
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_size > MAX_FILE_BYTES:
                    raise Invalid(f"{path}: more than {MAX_FILE_BYTES} bytes, expected a journal")
                self.files[path.name] = file.read()
            # What is removed is set aside first, and then turned into zeros.
            if not os.path.samestat(found, path.stat()):
                raise FileNotFoundError(f"{path}: removed meanwhile")

    def names(self) -> list[str]:
        return sorted(self.files)

    def read(self, name: str) -> bytes:
        return self.files[name]

    def append(self, name: str, data: bytes) -> None:
        self.files[name] = self.files.get(name, b"") + data

    def sync(self, name: str) -> None:
        pass

    def rename(self, old: str, new: str) -> None:
        self.files[new] = self.files.pop(old)

    def remove(self, name: str) -> None:
        del self.files[name]


@click.command()
@folder_option
@format_option
def judge(folder: Path, output: str) -> int:
    """Judge what the validators of a real network have written, by the simulator's rules.

    Reads the journals and stores of all validators whose folders are in --dir, while they run or
    not, and changes nothing. For a network on several hosts, copy the folders to one place first.
    Judged are: one block at a height, that names the one before it, with its certificate.
    Tendermint: one vote and one proposal in a round, kept before it was said; every lock and polka.
    Raft: one vote in a term, and one entry at an index of a term. Proof of work: the time, target
    and work of each final header. Stores of key-value networks are not read, only journals.

    Exit code 0: all kept; 1: something was broken; 2: not known, since nothing could be read.

    \b
    quorate judge                         the network in .quorate
    quorate judge --dir deployment        folders that were gathered from several hosts
    quorate judge -o json
    """
    local = open_local(folder)
    genesis = local.path / local.network.genesis
    if not genesis.exists():
        fail(f"{genesis}: not there, expected the network's genesis file", EXIT_CONFIG)
    try:
        chain, found_judge = open_judge(local, genesis)
    except (Corrupt, Invalid) as error:
        raise Problem(str(error), EXIT_CONFIG) from None
    found = find_folders(local)
    if not found:
        fail(f"{folder}: no validator's folder is here, expected validator-0 or a name", 2)
    notes = read_all(local, found_judge, chain, found)
    return tell(local, found_judge, notes, output)


def open_judge(local: Local, genesis: Path) -> tuple[Hash, StoreJudge]:
    """Return the hash of the genesis block, and who knows the engine's rules. Raises Invalid,
    Corrupt.
    """
    content = genesis.read_bytes()
    chain = compute_hash(genesis)
    members = [
        Member(bytes.fromhex(v["address"][2:]), v["power"])
        for v in local.read_consensus()["validators"]
    ]
    engine = local.network.engine
    if engine == "raft":
        return chain, RaftJudge(chain, members)
    if engine == "pow":
        rules = msgspec.structs.asdict(pow_types.Settings()) | get_pow_rules(content)
        return chain, WorkJudge(chain, members, rules)
    if engine != "tendermint":
        raise Invalid(f"engine {engine}: nobody here knows its rules")
    return chain, RecordedJudge(chain, members, verify_signature)


def find_folders(local: Local) -> dict[Address, Folder]:
    """Return the validators whose folders are there, named by number or by name."""
    found: dict[Address, Folder] = {}
    for index, validator in enumerate(local.network.validators):
        for path in (local.folders[index].path, local.path / validator.name):
            if (path / "journal").is_dir():
                found.setdefault(validator.identity, Folder(path))
    return found


def read_all(
    local: Local,
    judge: StoreJudge,
    chain: Hash,
    folders: dict[Address, Folder],
) -> list[str]:
    """Let everything that can be read be judged; return what could not, one line each."""
    notes: list[str] = []
    progress = Progress(3)
    progress.enter("reading journals")
    seen = {who: read_journal(local, chain, who, place) for who, place in folders.items()}
    progress.enter("judging stores")
    for who, place in folders.items():
        if local.network.application != ETHEREUM:
            break
        try:
            judge.judge_store(who, read_store(place))
        except (Unavailable, Corrupt, Invalid, OSError) as error:
            notes.append(f"{local.get_name(who)}: its store cannot be read: {error}")
    progress.enter("judging journals")
    journals = []
    for who, place in folders.items():
        before, later = seen[who], read_journal(local, chain, who, place)
        if isinstance(before, str) or isinstance(later, str):
            notes.append(f"{local.get_name(who)}: {before if isinstance(before, str) else later}")
            continue
        journals.append(Recorded(who, before, later))
    judge.judge_journals(journals)
    progress.end()
    return notes


def read_journal(local: Local, chain: Hash, who: Address, folder: Folder) -> list[Record] | str:
    """Return the records of a journal, or why it cannot be read."""
    engine = ENGINES[local.network.engine]
    decode = make_record_decoder(engine.records).decode
    error: Exception | None = None
    for _ in range(MAX_ATTEMPTS):
        try:
            _, recovered = open_journal(Copy(folder.journal), who + chain)
            return [decode(record) for record in recovered.records]
        except FileNotFoundError as gone:
            # A cut took the file away between its name and its contents.
            error = gone
        except (Corrupt, Invalid, OSError, ValueError) as found:
            error = found
            break
    return f"its journal cannot be read: {error}"


def read_store(folder: Folder) -> Iterator[Decision]:
    """Yield what a store holds, from the first height on."""
    view = View.open(str(folder.ledger))
    try:
        _, _, final, _ = view.tips()
        for height in range(1, final + 1):
            decision, block = view.decision(height), view.block_hash(height)
            if decision is None or block is None:
                raise Corrupt(f"height {height}: not there, expected up to {final}")
            envelope, certificate, payloads = decision
            time_ms = max(parse_head(payload)[1] for payload in payloads)
            members = read_members(view, height)
            yield Decision(height, block, time_ms, members, envelope, certificate, payloads)
    finally:
        view.close()


def read_members(view: View, height: int) -> list[Member]:
    """Return the validator set in the state after a block, sorted by address."""
    members = []
    for index in range(int.from_bytes(view.storage(height, VALIDATORS, COUNT_SLOT), "big")):
        slot = ((FIRST_SLOT + index) % (1 << 256)).to_bytes(32, "big")
        packed = view.storage(height, VALIDATORS, slot)
        members.append(Member(packed[12:], int.from_bytes(packed[:12], "big")))
    return sorted(members)


def tell(local: Local, judge: StoreJudge, notes: list[str], output: str) -> int:
    """Print what was judged and found; return the exit code."""
    judged = judge.judged
    verdict: Verdict = "true"
    if judged.found:
        verdict = "false"
    elif notes or not (judged.records or judged.decisions):
        verdict = "unknown"
    found = [
        {"property": property, "validator": local.get_name(who), "message": message}
        for property, message, who in judged.found
    ]
    counts = {name: getattr(judged, name) for name in judged.__struct_fields__ if name != "found"}
    if output == "json":
        document: dict[str, Any] = {"verdict": verdict, "found": found, "notes": notes, **counts}
        emit(json.dumps(document, indent=2))
        return EXIT_CODES[verdict]
    journals = f"{judged.journals} journals: {judged.records:,} records"
    if isinstance(judge, RecordedJudge):
        journals += (
            f", {judged.votes:,} votes and {judged.proposals:,} proposals of {judged.heights:,} "
            f"heights, {judged.complete:,} of them complete"
        )
    emit(journals)
    if local.network.application == ETHEREUM:
        emit(f"stores: {judged.decisions:,} decisions")
    else:
        say(f"Stores of application {local.network.application} are not read.")
    if found:
        emit()
        emit_table(
            ["property", "validator", "what was found"],
            [[row["property"], row["validator"], row["message"]] for row in found],
        )
    for note in notes:
        say(note)
    colour = {"true": "green", "false": "red", "unknown": "yellow"}[verdict]
    emit(f"\n{style(verdict, fg=colour, bold=True)}: {describe_verdict(verdict, len(found))}")
    return EXIT_CODES[verdict]


def describe_verdict(verdict: Verdict, count: int) -> str:
    if verdict == "true":
        return "everything that was written keeps the rules"
    if verdict == "false":
        return f"{count} promises were broken"
    return "not everything could be read"
