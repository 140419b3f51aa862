"""`quorate import`, `export` and `serve`: chains as files, and a store without a network."""

import os
import sys
from pathlib import Path

import click

from quorate._kernel import Ledger, View
from quorate.base.errors import Corrupt, Invalid, Unavailable
from quorate.cli.output import EXIT_CONFIG, Problem, Progress, emit, say

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
STORE = click.Path(file_okay=False, path_type=Path)
PIECE_BYTES = 8 << 20
"""Read at one time; a block may be longer."""
MAX_REST_BYTES = 512 << 20


@click.command("import")
@click.argument("genesis", type=FILE)
@click.argument("blocks", type=FILE, nargs=-1, required=True)
@click.option("--store", type=STORE, required=True, help="Where the chain is kept; made if absent.")
def import_(genesis: Path, blocks: tuple[Path, ...], store: Path) -> None:
    """Import blocks of Ethereum, from the first rules to the last, into a store.

    GENESIS is geth's genesis file, BLOCKS are files of RLP as `geth export` and `quorate export`
    write them. Every block is executed and everything in it is checked; only seals of proof of work
    and signatures of a beacon chain are not looked at, so compare the hash of the last block with
    one that you trust. What is there already is passed over, so an import that was broken off goes
    on. `quorate serve` answers JSON-RPC from the store.

    \b
    quorate import genesis.json chain.rlp --store ./history
    quorate serve ./history --api eth,net,web3,debug,trace
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
        ledger = Ledger.open(str(store), genesis.read_bytes())
    except (Invalid, Unavailable, Corrupt) as error:
        raise Problem(str(error), EXIT_CONFIG) from None
    progress = Progress(len(blocks))
    try:
        count = sum(import_file(ledger, path, progress) for path in blocks)
    finally:
        progress.end()
        height = ledger.durable()
        head = ledger.view().block_hash(height) or b""
        ledger.close()
    say(f"{count} new blocks in {store}")
    emit(f"{height} 0x{head.hex()}")


def import_file(ledger: Ledger, path: Path, progress: Progress) -> int:
    """Return how many blocks of a file are new. Raises Problem at the first that is refused."""
    progress.enter(path.name)
    rest, count = b"", 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            rest += piece
            try:
                new, read = ledger.import_blocks(rest)
            except Invalid as error:
                raise Problem(f"{path}: {error}", EXIT_CONFIG) from None
            rest, count = rest[read:], count + new
            if len(rest) > MAX_REST_BYTES:
                raise Problem(f"{path}: a block of more than {MAX_REST_BYTES} bytes", EXIT_CONFIG)
            progress.show(f"block {ledger.durable():,}")
    if rest:
        raise Problem(
            f"{path}: ends within a block: {len(rest)} bytes left after height {ledger.durable()}",
            EXIT_CONFIG,
        )
    return count


@click.command()
@click.argument("store", type=STORE)
@click.option("--first", type=click.IntRange(0), default=1, show_default=True)
@click.option("--last", type=click.IntRange(0), help="The last durable block, if not given.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
def export(store: Path, first: int, last: int | None, output: Path) -> None:
    """Write blocks of a store as RLP, one after the other, as `geth export` does.

    STORE is a validator's `ledger` folder, while it runs or not, or one that was imported. A chain
    that was agreed on holds standard blocks, but a transaction that did not apply was left out by
    agreement, and seconds may repeat: other clients may refuse to import it.

    \b
    quorate export ./history -o chain.rlp
    quorate export .quorate/validator-0/ledger --first 1 --last 1000 -o first.rlp
    """
    try:
        view = View.open(str(store))
    except (Invalid, Unavailable, Corrupt) as error:
        raise Problem(str(error), EXIT_CONFIG) from None
    head = view.head()
    end = head if last is None else last
    if not first <= end <= head:
        raise Problem(f"blocks {first} to {end}, expected some of 0 to {head}", EXIT_CONFIG)
    progress = Progress(1)
    progress.enter(f"blocks {first} to {end}")
    partial = output.with_name(output.name + ".partial")
    with partial.open("wb") as file:
        for height in range(first, end + 1):
            raw = view.block_raw(height)
            if raw is None:
                raise Problem(f"block {height}: not in {store} any more", EXIT_CONFIG)
            file.write(raw)
            if height % 1000 == 0:
                progress.show(f"block {height:,}")
    partial.replace(output)
    progress.end()
    emit(f"{end} 0x{(view.block_hash(end) or b'').hex()}")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("store", type=STORE)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def serve(store: Path, options: tuple[str, ...]) -> None:
    """Answer JSON-RPC from a store, without a network: for imported chains, copies and archives.

    OPTIONS are those of the JSON-RPC process (`python -m quorate.rpc --help`). What needs a
    validator, such as sending a transaction, is refused.

    \b
    quorate serve ./history --port 8545 --api eth,net,web3,debug,trace
    """
    try:
        View.open(str(store)).close()
    except (Invalid, Unavailable, Corrupt) as error:
        raise Problem(str(error), EXIT_CONFIG) from None
    command = [sys.executable, "-m", "quorate.rpc", "--ledger", str(store), *options]
    os.execv(sys.executable, command)
