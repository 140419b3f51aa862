"""`quorate db`: look at everything in a store, and give back what is free in its file."""

from pathlib import Path

import click

from quorate._kernel import Check, View, compact_store
from quorate.base.errors import Corrupt, Invalid, Unavailable
from quorate.base.types import Hash, Height
from quorate.cli.output import EXIT_CONFIG, EXIT_FAILURE, Problem, Progress, emit, say
from quorate.consensus import raft_types
from quorate.consensus.certificate import (
    decode_certificate,
    hash_envelope,
    verify_certificate,
    verify_payloads,
)
from quorate.consensus.membership import ValidatorSet
from quorate.consensus.pow_headers import VERSION as WORK
from quorate.crypto.hashes import HEAD_BYTES
from quorate.ledger.ethereum import read_view_members
from quorate.ledger.payload import parse_head

STORE = click.Path(file_okay=False, path_type=Path)
BLOCKS_AT_ONCE = 256
NODES_AT_ONCE = 20_000
MAX_FINDINGS = 100
"""That are told; a store with more is not going to be repaired by hand."""

Finding = tuple[Height, str]


@click.group()
def db() -> None:
    """Check a validator's store, and shrink its file.

    \b
    quorate db check .quorate/validator-0/ledger
    quorate db compact .quorate/validator-0/ledger
    """


@db.command()
@click.argument("store", type=STORE)
def compact(store: Path) -> None:
    """Write the file of a store anew without its free pages, while its validator is stopped.

    A validator that prunes uses its free pages again, so its file does not grow; only this makes it
    smaller. It needs room for the new file beside the old one.

    \b
    quorate stop 0; quorate db compact .quorate/validator-0/ledger; quorate start 0
    """
    try:
        before, after = compact_store(str(store))
    except (Invalid, Unavailable, Corrupt) as error:
        raise Problem(str(error), EXIT_CONFIG) from None
    emit(f"{before} {after}")
    say(f"{store}: {before / (1 << 20):,.1f} MiB before, {after / (1 << 20):,.1f} MiB after")


@db.command()
@click.argument("store", type=STORE)
def check(store: Path) -> int:
    """Look at everything in a store, while its validator runs or not; nothing is changed.

    Blocks name each other by hash, and transactions, receipts and logs are those of their headers;
    each is found under its hash; every node of every state that is kept is what its parent names,
    so every state root is computed anew; codes are those of their hashes; certificates are signed
    by the validators of their height.

    Beside a validator that works, the store's file grows meanwhile by what that replaces. Exit code
    0: all of it fits; 1: what does not is told, with its height; 78: there is no store.

    \b
    quorate db check .quorate/validator-0/ledger
    """
    try:
        view = View.open(str(store))
        checking = view.check()
    except (Invalid, Unavailable, Corrupt) as error:
        raise Problem(str(error), EXIT_CONFIG) from None
    progress = Progress(3)
    findings = check_blocks(checking, progress)
    findings += check_states(checking, progress)
    found, unverified = check_certificates(view, checking, progress)
    findings += found
    progress.end()
    latest, states, blocks, _ = checking.range()
    for height, text in findings[:MAX_FINDINGS]:
        emit(f"height {height}: {text}")
    if len(findings) > MAX_FINDINGS:
        emit(f"and {len(findings) - MAX_FINDINGS} more")
    say(f"{store}: heights 0 to {latest}, blocks from {blocks} on, states from {states} on")
    if unverified:
        say(f"{unverified} certificates not verified: {WHY_UNVERIFIED}")
    if findings:
        say(f"{len(findings)} things do not fit: restore a copy, or begin anew from a snapshot")
        return EXIT_FAILURE
    say("everything fits")
    return 0


WHY_UNVERIFIED = (
    "their members trust each other, or work was done for them, or the state that names the "
    "members of their height is pruned"
)


def check_blocks(checking: Check, progress: Progress) -> list[Finding]:
    progress.enter("blocks")
    latest = checking.range()[0]
    findings: list[Finding] = []
    for first in range(0, latest + 1, BLOCKS_AT_ONCE):
        findings += checking.blocks(first, BLOCKS_AT_ONCE)
        progress.show(f"{min(first + BLOCKS_AT_ONCE, latest):,} of {latest:,}")
        if len(findings) > MAX_FINDINGS:
            break
    return findings


def check_states(checking: Check, progress: Progress) -> list[Finding]:
    progress.enter("states")
    latest = checking.range()[0]
    findings: list[Finding] = []
    height: Height | None = 0
    while height is not None and len(findings) <= MAX_FINDINGS:
        height, nodes, found = checking.states(NODES_AT_ONCE)
        findings += found
        progress.show(f"{nodes:,} nodes, height {height or latest:,} of {latest:,}")
    if findings:
        return findings
    needed, stored, _, entries, indexed = checking.totals()
    if stored != needed:
        findings.append((latest, f"{stored} bytes of trie nodes, expected the {needed} of states"))
    if indexed != entries:
        findings.append((latest, f"{indexed} entries in the index, expected {entries}"))
    return findings


def check_certificates(
    view: View, checking: Check, progress: Progress
) -> tuple[list[Finding], int]:
    """Return what does not fit, and how many certificates could not be judged."""
    progress.enter("certificates")
    latest, states, blocks, _ = checking.range()
    final = min(view.tips()[2], latest)
    findings: list[Finding] = []
    unverified = 0
    sets: dict[Hash, ValidatorSet] = {}
    before: tuple[Height, Hash] | None = None
    for height in range(max(blocks, 1), final + 1):
        if height % BLOCKS_AT_ONCE == 0:
            progress.show(f"{height:,} of {final:,}")
        try:
            decision = view.decision(height)
            if decision is None:
                # Blocks that were imported come without one.
                continue
            envelope, certificate, payloads = decision
            if certificate[:1] in (bytes((raft_types.VERSION,)), bytes((WORK,))):
                unverified += 1
                continue
            decoded = decode_certificate(certificate)
            check_links(view, height, decoded.envelope.parent, payloads, before)
            before = (height, envelope)
            if hash_envelope(decoded.envelope) != envelope:
                raise Invalid("certificate: of another envelope than the decision")
            verify_payloads(decoded.envelope, payloads)
            known = sets.get(decoded.envelope.members)
            if known is None and height - 2 >= states:
                known = ValidatorSet(read_view_members(view, max(height - 2, 0)))
                sets[known.hash] = known
            elif known is None and height <= 2 and states == 0:
                known = ValidatorSet(read_view_members(view, 0))
            if known is None:
                unverified += 1
                continue
            verify_certificate(decoded, view.genesis_hash, known)
        except (Invalid, Corrupt, Unavailable) as error:
            findings.append((height, str(error)))
            if len(findings) > MAX_FINDINGS:
                break
    return findings, unverified


def check_links(
    view: View,
    height: Height,
    parent: Hash,
    payloads: list[bytes],
    before: tuple[Height, Hash] | None,
) -> None:
    """Raise Invalid unless an envelope follows the one before, and its payload the block before."""
    if before is not None and before[0] == height - 1 and parent != before[1]:
        raise Invalid(f"envelope: parent 0x{parent.hex()}, expected 0x{before[1].hex()}")
    block = view.block_hash(height - 1)
    if block is not None and payloads and len(payloads[0]) >= HEAD_BYTES:
        named = parse_head(payloads[0][:HEAD_BYTES])[0]
        if named != block:
            raise Invalid(f"payload: on block 0x{named.hex()}, expected 0x{block.hex()}")
