"""Real processes over real files: killed at any moment, stopped, refused, continued."""

import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from urllib.request import urlopen

import pytest
from msgspec.structs import replace

from quorate.consensus import ENGINES
from quorate.consensus.tendermint_types import Voted
from quorate.node.wire import make_record_decoder
from quorate.runtime import ipc
from quorate.runtime.config import Blocks, Metrics, write_network
from quorate.runtime.disk import FileDisk
from quorate.runtime.folder import Folder, get_network_path
from quorate.runtime.ipc_client import ask
from quorate.storage.journal import open_journal
from runtime.trial import Trial, wait_for


@pytest.fixture
def trials(tmp_path: Path) -> Iterator[list[Trial]]:
    made: list[Trial] = []
    yield made
    for trial in made:
        trial.stop_all()


def submit(trial: Trial, index: int, items: list[bytes]) -> list[tuple[bytes, str | None]]:
    socket = Folder.of(trial.folder, index).socket
    return ask(socket, ipc.Submit(1, items), list[tuple[bytes, str | None]])


def read_votes(trial: Trial, index: int) -> list[Voted]:
    """Return the votes in the journal of a validator that does not run."""
    source = Folder.of(trial.folder, index).journal
    copy = trial.folder / f"journal-copy-{index}"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy)
    identity = trial.network.validators[index].identity + trial.get_chain(index)[0]
    _, recovered = open_journal(FileDisk(copy, fsync=False), identity)
    decoder = make_record_decoder(ENGINES["tendermint"].records)
    records = [decoder.decode(record) for record in recovered.records]
    return [record for record in records if isinstance(record, Voted)]


def find_double_votes(votes: list[Voted]) -> list[Any]:
    """Return the places where one validator voted for two values."""
    chosen: dict[Any, bytes] = {}
    doubles = []
    for record in votes:
        vote = record.vote
        place = (vote.kind, vote.height, vote.round)
        if chosen.setdefault(place, vote.value) != vote.value:
            doubles.append(place)
    return doubles


def check_same_chains(trial: Trial) -> int:
    """Fail unless the stopped validators hold prefixes of one chain; return the shortest height."""
    chains = [trial.get_chain(i) for i in range(trial.count)]
    shortest = min(map(len, chains))
    for chain in chains:
        assert chain[:shortest] == chains[0][:shortest]
    return shortest - 1


@pytest.mark.parametrize("ethereum", [False, True], ids=["opaque", "ethereum"])
def test_killed_at_any_moment_it_restarts_catches_up_and_never_votes_twice(
    tmp_path: Path, trials: list[Trial], ethereum: bool
) -> None:
    random = Random(20)
    # No checkpoint, so that the journal tells every vote since the beginning.
    settings = {"checkpoint_heights": 1 << 30, "checkpoint_bytes": 1 << 40}
    blocks = Blocks(block_time_ms=2)
    trial = Trial(tmp_path, 4, ethereum=ethereum, blocks=blocks, engine_settings=settings)
    trials.append(trial)
    trial.start_all()
    wait_for(lambda: min(map(trial.get_height, range(4))) >= 5, "five heights")
    for _ in range(12):
        victim = random.randrange(4)
        reached = trial.get_height((victim + 1) % 4)
        # A height, not a time: the moment lies anywhere in the work on the next ones.
        target = reached + random.randrange(12)
        wait_for(lambda v=victim, t=target: trial.get_height((v + 1) % 4) >= t, f"height {target}")
        assert trial.end(victim, signal.SIGKILL) == -signal.SIGKILL
        assert find_double_votes(read_votes(trial, victim)) == []
        trial.start(victim)
        others = [trial.get_height(i) for i in range(4) if i != victim]
        goal = max(others) + 5
        wait_for(lambda v=victim, g=goal: trial.get_height(v) >= g, "it catches up")
    # All at once, as when the power fails.
    for index in range(4):
        trial.processes[index].send_signal(signal.SIGKILL)
    for index in range(4):
        trial.processes.pop(index).wait()
    before = max(len(trial.get_chain(i)) for i in range(4))
    trial.start_all()
    wait_for(lambda: min(map(trial.get_height, range(4))) >= before + 5, "the chain goes on")
    assert [trial.end(i, signal.SIGTERM) for i in range(4)] == [0, 0, 0, 0]
    assert check_same_chains(trial) >= before + 5
    for index in range(4):
        votes = read_votes(trial, index)
        assert len(votes) > 50
        assert find_double_votes(votes) == []


def test_graceful_stop_loses_neither_heights_nor_waiting_items(
    tmp_path: Path, trials: list[Trial]
) -> None:
    trial = Trial(tmp_path, 4, blocks=Blocks())
    trials.append(trial)
    trial.start_all()
    wait_for(lambda: trial.get_status(0) is not None, "it answers")
    items = [b"item %d" % i for i in range(20)]
    assert all(reason is None for _, reason in submit(trial, 0, items))
    wait_for(
        lambda: all((s := trial.get_status(i)) and s.counters.get("items") == 20 for i in range(4)),
        "20 items are final everywhere",
    )
    height = trial.get_height(0)
    # Without a quorum the next items can only wait.
    for index in (1, 2, 3):
        assert trial.end(index, signal.SIGTERM) == 0
    late = [b"late %d" % i for i in range(30)]
    assert all(reason is None for _, reason in submit(trial, 0, late))
    assert trial.end(0, signal.SIGINT) == 0
    assert "pool kept" in trial.get_output(0)
    assert len(trial.get_chain(0)) >= height + 1
    trial.start_all()
    wait_for(
        lambda: all((s := trial.get_status(i)) and s.counters.get("items") == 30 for i in range(4)),
        "the items that waited are final",
    )
    assert [trial.end(i, signal.SIGTERM) for i in range(4)] == [0, 0, 0, 0]
    check_same_chains(trial)


def test_idle_network_makes_no_blocks_and_a_minority_decides_nothing(
    tmp_path: Path, trials: list[Trial]
) -> None:
    trial = Trial(tmp_path, 4, blocks=Blocks())
    trials.append(trial)
    trial.start_all()
    wait_for(lambda: trial.get_status(0) is not None, "it answers")
    submit(trial, 0, [b"first"])
    wait_for(
        lambda: all((s := trial.get_status(i)) and s.counters.get("items") == 1 for i in range(4)),
        "final everywhere",
    )
    heights = list(map(trial.get_height, range(4)))
    assert max(heights) <= 2  # the item's height, and the one that certifies its result
    for index in (2, 3):
        assert trial.end(index, signal.SIGKILL) == -signal.SIGKILL
    submit(trial, 0, [b"second"])
    wait_for(
        lambda: (
            (s := trial.get_status(0)) is not None
            and all(trial.network.validators[i].address in s.why_stalled for i in (2, 3))
        ),
        "why-stalled names both",
    )
    assert trial.get_status(0).counters["items"] == 1  # type: ignore[union-attr]
    trial.start(2)
    wait_for(
        lambda: all((s := trial.get_status(i)) and s.height >= heights[0] for i in (0, 1, 2)),
        "final again",
    )
    wait_for(
        lambda: all((s := trial.get_status(i)) and s.counters["items"] >= 2 for i in (0, 1)),
        "the second item is final",
    )


def test_second_process_on_the_folder_wrong_key_and_wrong_certificate_are_refused(
    tmp_path: Path, trials: list[Trial]
) -> None:
    trial = Trial(tmp_path, 2)
    trials.append(trial)
    trial.start(0)
    wait_for(lambda: trial.get_status(0) is not None, "it answers")
    first = trial.processes.pop(0)
    trial.start(0)
    assert trial.processes[0].wait(120) == 1
    assert f"in use by process {first.pid}" in trial.get_output(0)
    trial.processes[0] = first
    trial.end(0, signal.SIGTERM)
    mine, theirs = Folder.of(tmp_path, 0), Folder.of(tmp_path, 1)
    shutil.copy(theirs.tls_certificate, mine.tls_certificate)
    shutil.copy(theirs.tls_key, mine.tls_key)
    trial.start(0)
    assert trial.processes[0].wait(120) == 1
    expected = trial.network.validators[0].tls_sha256
    assert f"expected {expected} (network.toml)" in trial.get_output(0)


def test_corrupt_journal_stops_the_start_with_file_and_offset(
    tmp_path: Path, trials: list[Trial]
) -> None:
    trial = Trial(tmp_path, 1)
    trials.append(trial)
    trial.start(0)
    wait_for(lambda: trial.get_height(0) >= 20, "some records")
    trial.end(0, signal.SIGKILL)
    (file,) = sorted(Folder.of(tmp_path, 0).journal.iterdir())
    raw = bytearray(file.read_bytes())
    raw[200] ^= 0xFF
    file.write_bytes(raw)
    trial.start(0)
    assert trial.processes[0].wait(120) == 1
    assert f"journal: {file.name} at offset " in trial.get_output(0)
    assert file.read_bytes() == raw


def test_store_without_its_journal_does_not_start(tmp_path: Path, trials: list[Trial]) -> None:
    trial = Trial(tmp_path, 1)
    trials.append(trial)
    trial.start(0)
    wait_for(lambda: trial.get_height(0) >= 3, "some blocks")
    trial.end(0, signal.SIGKILL)
    journal = Folder.of(tmp_path, 0).journal
    journal.rename(tmp_path / "kept")
    trial.start(0)
    assert trial.processes[0].wait(120) == 1
    assert f"{journal}: found no journal, expected that of the store" in trial.get_output(0)
    for left in journal.iterdir():
        left.unlink()
    journal.rmdir()
    (tmp_path / "kept").rename(journal)
    trial.start(0)
    wait_for(lambda: trial.get_height(0) >= 6, "it goes on")


def test_second_signal_ends_at_once(tmp_path: Path, trials: list[Trial]) -> None:
    trial = Trial(tmp_path, 1)
    trials.append(trial)
    trial.start(0)
    wait_for(lambda: trial.get_height(0) >= 1, "a height")
    # Held back, the process finds both signals together when it goes on.
    process = trial.processes[0]
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    code = process.wait(120)
    assert code in (128 + signal.SIGTERM, 128 + signal.SIGINT)


def test_full_disk_ends_the_validator_with_one_line_and_the_others_go_on(
    tmp_path: Path, trials: list[Trial]
) -> None:
    trial = Trial(tmp_path, 4)
    trials.append(trial)
    trial.start_all()
    wait_for(lambda: min(map(trial.get_height, range(4))) >= 3, "heights")
    # Its journal cannot grow beyond this, which is how a full disk looks to it.
    resource.prlimit(trial.processes[2].pid, resource.RLIMIT_FSIZE, (200_000, 200_000))
    assert trial.processes[2].wait(120) == 1
    lines = (tmp_path / "out-2").read_text().splitlines()
    assert [line for line in lines if "failed" in line] == [
        next(line for line in lines if line.startswith("quorate: validator-2 failed: "))
    ]
    reached = trial.get_height(0)
    wait_for(lambda: trial.get_height(0) >= reached + 5, "the others go on")
    assert find_double_votes(read_votes(trial, 2)) == []
    trial.start(2)
    wait_for(lambda: trial.get_height(2) >= reached + 5, "it is back")


def test_peer_with_another_genesis_is_refused_by_both(tmp_path: Path, trials: list[Trial]) -> None:
    trial = Trial(tmp_path, 2)
    trials.append(trial)
    trial.start(0)
    wait_for(lambda: trial.get_status(0) is not None, "it answers")
    validators = [replace(v, power=v.power + 1) for v in trial.network.validators]
    write_network(replace(trial.network, validators=validators), get_network_path(tmp_path))
    trial.start(1)
    for index in (0, 1):
        wait_for(
            lambda i=index: "peer refused: it has another genesis" in trial.get_output(i),
            "the log line",
        )
    assert trial.get_height(0) == trial.get_height(1) == 0


def test_health_port_of_a_process_answers(tmp_path: Path, trials: list[Trial]) -> None:
    trial = Trial(tmp_path, 1, metrics=Metrics())
    trials.append(trial)
    trial.start(0)
    wait_for(lambda: trial.get_height(0) >= 3, "heights")
    where = f"http://127.0.0.1:{trial.network.validators[0].metrics_port}"
    with urlopen(f"{where}/readiness") as answer:
        assert answer.read() == b'{"status":"UP"}'
    with urlopen(f"{where}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    heights = [line for line in lines if line.startswith("ethereum_blockchain_height ")]
    assert float(heights[0].split()[1]) >= 3
    assert "quorate_consensus_missing_validators 0.0" in lines
