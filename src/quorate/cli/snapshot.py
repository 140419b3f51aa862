"""`quorate snapshot`: a state as a file, proved, and a validator that begins with it."""

import os
import shutil
import tempfile
from pathlib import Path

import click

from quorate import __version__
from quorate._kernel import Ledger, Rejected, View
from quorate.base.errors import Corrupt, Invalid, Unavailable
from quorate.base.types import Hash, Height
from quorate.cli import keystore
from quorate.cli.output import EXIT_CONFIG, Problem, Progress, emit, say
from quorate.runtime.config import FILE_NAME, load_network
from quorate.runtime.folder import Folder, make_private

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
STORE = click.Path(file_okay=False, path_type=Path)
HASH_BYTES = 32

trust_option = click.option(
    "--trust",
    metavar="HASH",
    callback=lambda _context, _parameter, text: None if text is None else parse_hash(text),
    help="The hash of the block, from somebody you trust; then nothing else has to prove it.",
)


def parse_hash(text: str) -> Hash:
    try:
        found = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        found = b""
    if len(found) != HASH_BYTES:
        raise click.BadParameter(f"{text}: expected 0x and 64 hexadecimal digits")
    return found


@click.group()
def snapshot() -> None:
    """Write, verify and load the state of a block, so that a validator need not begin with genesis.

    \b
    quorate snapshot export .quorate/validator-0/ledger -o state.snapshot
    quorate snapshot verify state.snapshot --genesis genesis.json
    quorate snapshot import state.snapshot --network network.toml --folder erin
    """


@snapshot.command()
@click.argument("store", type=STORE)
@click.option("--height", type=click.IntRange(1), help="The last one with a certificate, if none.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
def export(store: Path, height: Height | None, output: Path) -> None:
    """Write the state of a block and the proof of it to a file.

    STORE is a validator's `ledger` folder, while it runs or not. The file is complete or not there.

    \b
    quorate snapshot export .quorate/validator-0/ledger -o state.snapshot
    """
    from quorate.light.snapshot import write_snapshot

    try:
        view = View.open(str(store))
        if view.is_dev:
            raise Invalid(
                f"{store}: of a network for development, where evm_revert may bring back any "
                "state: a validator that begins with one of them could not follow"
            )
        engine = read_engine(view)
        last = view.tips()[2] - 1
        chosen = last if height is None else height
        if not 1 <= chosen <= last:
            raise Invalid(
                f"{store}: height {chosen}, expected 1 to {last}: a block is proved by the "
                "certificate of the next one"
            )
        progress = Progress(1)
        progress.enter(f"state of block {chosen}")
        partial = output.with_name(output.name + ".partial")
        try:
            with partial.open("wb") as file:
                about = write_snapshot(
                    file, view, chosen, engine, __version__, lambda n: show(progress, n)
                )
                file.flush()
                os.fsync(file.fileno())
            partial.replace(output)
        finally:
            partial.unlink(missing_ok=True)
    except Rejected:
        raise Problem(
            f"{store}: the state of block {chosen} was pruned; choose a younger one, or let the "
            "validator keep more (state_history of `[store]`)",
            EXIT_CONFIG,
        ) from None
    except (Invalid, Unavailable, Corrupt) as error:
        raise Problem(str(error), EXIT_CONFIG) from None
    progress.end()
    emit(f"{about.height} {about.block}")


def show(progress: Progress, count: int) -> None:
    progress.show(f"{count / (1 << 20):,.0f} MiB")


def read_engine(view: View) -> str:
    """Return the engine whose certificates a store holds. Raises Invalid for a chain of work."""
    from quorate.consensus import ENGINES, raft_types
    from quorate.consensus.certificate import decode_certificate

    decision = view.decision(view.tips()[2])
    certificate = decision[1] if decision else b""
    if certificate[:1] == bytes((raft_types.VERSION,)):
        return "raft"
    try:
        engine = decode_certificate(certificate).envelope.engine
    except Invalid:
        engine = ""
    if engine not in ENGINES:
        raise Invalid(
            "the last block has no certificate of members: whoever joins a network of proof of "
            "work verifies all of its blocks"
        )
    return engine


@snapshot.command()
@click.argument("file", type=FILE)
@click.option("--genesis", type=FILE, required=True, help="The file that is trusted.")
@trust_option
def verify(file: Path, genesis: Path, trust: Hash | None) -> None:
    """Verify a snapshot against a genesis file, all of it: the state is built beside the file and
    removed again.

    \b
    quorate snapshot verify state.snapshot --genesis genesis.json
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{file.name}.", dir=file.parent))
    except OSError as error:
        raise Problem(f"{file.parent}: {error.strerror}", EXIT_CONFIG) from None
    try:
        build(file, genesis.read_bytes(), trust, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def build(file: Path, genesis: bytes, trust: Hash | None, folder: Path) -> None:
    """Make a store in a new folder. Raises Problem, and leaves an unfinished folder."""
    from quorate.light.snapshot import Reader, install, prove

    progress = Progress(1)
    try:
        with file.open("rb") as stream:
            reader = Reader(stream)
            reason = prove(reader, genesis, trust)
            about = reader.about
            shutil.rmtree(folder, ignore_errors=True)
            make_private(folder)
            ledger = Ledger.open(str(folder), genesis)
            progress.enter(f"state of block {about.height}")
            try:
                accounts = install(reader, ledger, lambda n: show(progress, n))
            finally:
                ledger.close()
    except (Invalid, Unavailable, Corrupt) as error:
        raise Problem(f"{file}: {error}", EXIT_CONFIG) from None
    progress.end()
    say(f"{accounts:,} accounts; proved by {reason}")
    emit(f"{about.height} {about.block}")


@snapshot.command("import")
@click.argument("file", type=FILE)
@click.option("--network", "settings", type=FILE, default=Path(FILE_NAME), show_default=True)
@click.option("--folder", type=STORE, required=True, help="The validator's own folder.")
@trust_option
def import_(file: Path, settings: Path, folder: Path, trust: Hash | None) -> None:
    """Let a validator that has never run begin with a snapshot instead of genesis.

    FOLDER holds the validator's keys, and no chain yet. The file is verified in full before the
    folder has a chain at all; the validator then takes the blocks that follow from its peers.

    A key that has voted in this network must not begin anew with an empty journal, or it could vote
    twice at one height: take a new key (`quorate add`), or restore the old journal.

    \b
    quorate snapshot import state.snapshot --network network.toml --folder erin
    quorate run --network network.toml --folder erin
    """
    try:
        network = load_network(settings)
        own = Folder(folder)
        identity = keystore.read_address(keystore.read_store(own.key))
    except (Invalid, Corrupt, OSError) as error:
        raise Problem(str(error), EXIT_CONFIG) from None
    if identity is None:
        raise Problem(f"{own.key}: names no address", EXIT_CONFIG)
    for path in (own.ledger, own.journal):
        if path.exists() and any(path.iterdir()):
            raise Problem(
                f"{path}: there is a chain already, expected a validator that has never run",
                EXIT_CONFIG,
            )
    genesis = (settings.parent / network.genesis).read_bytes()
    unfinished = own.path / "ledger.unfinished"
    try:
        build(file, genesis, trust, unfinished)
        install_folder(unfinished, own, identity + get_genesis_hash(genesis))
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def get_genesis_hash(genesis: bytes) -> Hash:
    from quorate.light.snapshot import get_chain

    return get_chain(genesis)[0]


def install_folder(built: Path, own: Folder, identity: bytes) -> None:
    """Put a store that was built in its place, the journal that it grows with first: a store
    without one is taken for a validator that has lost it.
    """
    from quorate.runtime.disk import FileDisk
    from quorate.storage.journal import open_journal

    disk = FileDisk(own.journal)
    journal, _ = open_journal(disk, identity)
    # An empty one is a file of its own; none at all would be one that was lost.
    journal.replace([])
    disk.close()
    if own.ledger.exists():
        own.ledger.rmdir()
    os.replace(built, own.ledger)
    descriptor = os.open(own.path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
