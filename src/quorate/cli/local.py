"""A network on this machine: its folder, its validators, and what each says of itself."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from quorate.base.errors import Corrupt, Invalid, Unavailable
from quorate.base.types import Address, Member
from quorate.cli import processes
from quorate.cli.output import EXIT_CONFIG, Problem, fail
from quorate.node.status import NodeStatus
from quorate.runtime.config import Network, ValidatorConfig, load_network
from quorate.runtime.folder import Folder, get_network_path
from quorate.runtime.ipc_client import ask_status

ASK_S = 5.0
"""How long a validator may take to answer before it counts as silent."""
MAX_GENESIS_BYTES = 256 << 20
MAX_LINE_BYTES = 4096


class Observation(Struct, frozen=True):
    """What can be seen of one validator from outside, and what it says itself."""

    index: int
    validator: ValidatorConfig
    pid: int | None
    status: NodeStatus | None
    error: str
    """Why there is no status although a process runs, or why it failed, if it did."""

    @property
    def state(self) -> str:
        """One word: down, silent, syncing or running."""
        if self.pid is None:
            return "down"
        if self.status is None:
            return "silent"
        return "syncing" if self.status.syncing_to is not None else "running"


class Local:
    """A network's folder on this machine. Create one with `open_local`."""

    def __init__(self, path: Path, network: Network) -> None:
        self.path, self.network = path, network
        self.folders = [Folder.of(path, index) for index in range(len(network.validators))]

    @property
    def file(self) -> Path:
        return get_network_path(self.path)

    def find_running(self) -> list[int]:
        """Return the indexes of the validators whose processes run."""
        return [i for i, folder in enumerate(self.folders) if processes.find(folder)]

    def find_index(self, which: str) -> int:
        """Return the index of a validator by number or name. Raises Problem."""
        validators = self.network.validators
        if which.isascii() and which.isdigit() and int(which) < len(validators):
            return int(which)
        for index, validator in enumerate(validators):
            if which == validator.name:
                return index
        fail(
            f"validator {which}: not in {self.file}, expected 0 to {len(validators) - 1} "
            "or a name from there",
            2,
        )

    def observe(self) -> list[Observation]:
        """Look at every validator, all at once."""
        with ThreadPoolExecutor(max_workers=min(32, len(self.folders))) as pool:
            return list(pool.map(self.observe_one, range(len(self.folders))))

    def observe_one(self, index: int) -> Observation:
        folder, validator = self.folders[index], self.network.validators[index]
        pid = processes.find(folder)
        status, error = None, ""
        if pid is None:
            error = read_failure(folder.log, validator.name)
        else:
            try:
                status = ask_status(folder.socket, ASK_S)
            except (Unavailable, Invalid, msgspec.MsgspecError) as reason:
                error = str(reason)
        return Observation(index, validator, pid, status, error)

    def get_name(self, address: Address) -> str:
        """Return the name of a validator, or its address where the file does not know it."""
        for validator in self.network.validators:
            # Where anybody may join, a peer's identity is what its certificate shows.
            if address in (validator.identity, validator.pin[: len(address)]):
                return validator.name
        return "0x" + address.hex()

    def get_members(self, seen: list[Observation]) -> list[Member]:
        """Return who votes: as the highest validator says, else as the file has it."""
        told = [o.status for o in seen if o.status is not None]
        if told:
            return max(told, key=lambda status: status.height).validators
        return [Member(v.identity, v.power) for v in self.network.validators]

    def read_consensus(self) -> dict[str, Any]:
        """Return `config.quorate` of the genesis file. Raises Corrupt, Invalid."""
        return read_consensus(self.path / self.network.genesis)


def read_failure(log: Path, name: str) -> str:
    """Return why a validator failed, as the last line of its log says; empty if it does not."""
    try:
        with log.open("rb") as file:
            file.seek(max(log.stat().st_size - MAX_LINE_BYTES, 0))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    last = lines[-1] if lines else ""
    start = f"quorate: {name} failed: "
    return last.removeprefix("quorate: " + name + " ") if last.startswith(start) else ""


def read_consensus(genesis: Path) -> dict[str, Any]:
    """Return what a genesis file says about agreement. Raises Invalid, OSError."""
    if genesis.stat().st_size > MAX_GENESIS_BYTES:
        raise Invalid(f"{genesis}: more than {MAX_GENESIS_BYTES} bytes, expected a genesis file")
    try:
        tree = msgspec.json.decode(genesis.read_bytes(), type=dict[str, Any])
        found = tree["config"]["quorate"]
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise Corrupt(f"{genesis}: no `config.quorate` in it ({error!r})") from None
    if not isinstance(found, dict):
        raise Corrupt(f"{genesis}: `config.quorate` is {found!r}, expected an object")
    return found


def exists(folder: Path) -> bool:
    """Whether a network was made in a folder."""
    return get_network_path(folder).exists()


def open_local(folder: Path, environment: dict[str, str] | None = None) -> Local:
    """Return the network in a folder. Raises Problem when there is none or its file is bad."""
    if not exists(folder):
        fail(f"no network in {folder}: `quorate up` makes one, --dir names another folder")
    try:
        return Local(folder, load_network(get_network_path(folder), environment))
    except Invalid as error:
        raise Problem(str(error), EXIT_CONFIG) from None
