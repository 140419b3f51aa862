"""Execution where the tip may move sideways: a tree of executed blocks above the last final one.

Order of things for one block of an open engine: `Check` is answered once the block's parent is
executed, by judging the payload over it and executing it there. `Head` names the block that readers
see as the latest from now on: the application adopts its branch, the pool follows it and takes back
what an abandoned branch held, and the store catches up on its lane. `Deliver` makes the lowest
block of the branch final; what does not descend from it is forgotten.

Blocks are named by the hash of their envelope. An application may forget an executed block that is
not on the adopted branch; it is then executed again, with its ancestors, when a child needs it.
"""

from collections.abc import Callable
from typing import TypeAlias

from quorate.base.errors import Invalid, Unavailable
from quorate.base.types import Hash, Height, Milliseconds, Nanoseconds
from quorate.consensus.replica import NOTHING, Check, Deliver, Head, Want
from quorate.crypto.hashes import read_timestamp
from quorate.ledger.application import Application, Executed
from quorate.ledger.payload import parse_head
from quorate.node.execution import (
    AT_ONCE_BYTES,
    MAX_CHECKS,
    Execution,
    Outcome,
    find_foreign_parent,
    guard,
)
from quorate.node.guard import GuardedPort
from quorate.node.settings import Settings

MAX_BLOCKS = 4096
"""Executed blocks above the last final one; the oldest end of an abandoned branch makes room."""
MAX_REFUSED = 1024
"""Blocks that were found unacceptable and are remembered, so that their children need no wait."""

FRESH: Nanoseconds = 1_000_000_000
"""A template that was built ahead is of use for so long, for the sake of its time."""

Judged: TypeAlias = tuple[str | None, Executed | None, bytes]
"""Why a payload is not acceptable, or its result; and a payload over it, if one was built."""


class Block:
    """An executed block; `above` is its parent, None for the last final one."""

    __slots__ = ("above", "children", "envelope", "executed", "payload")

    def __init__(
        self, envelope: Hash, executed: Executed, payload: bytes, above: "Block | None"
    ) -> None:
        self.envelope, self.executed, self.payload = envelope, executed, payload
        self.above = above
        self.children = 0

    def get_path(self) -> "list[Block]":
        """Return the blocks above the last final one up to this, ascending."""
        path: list[Block] = []
        block = self
        while block.above is not None:
            path.append(block)
            block = block.above
        return path[::-1]

    def get_ancestor(self, height: Height) -> "Block":
        """Return the block of this branch at a height, or its lowest one."""
        block = self
        while block.executed.height > height and block.above is not None:
            block = block.above
        return block


def execute_over(
    application: Application, above: Block, payload: bytes, now_ms: Milliseconds | None
) -> tuple[str | None, Executed | None]:
    """Judge a payload over an executed block (unless `now_ms` is None) and execute it there.

    Returns why it is not acceptable, or the result.
    """
    try:
        return try_over(application, above, payload, now_ms)
    except Unavailable:
        execute_again(application, above)
        return try_over(application, above, payload, now_ms)


def judge_over(
    application: Application, above: Block, payload: bytes, now_ms: Milliseconds, most: int
) -> Judged:
    """Judge and execute a payload over an executed block; with `most` bytes, build one over it."""
    reason, executed = execute_over(application, above, payload, now_ms)
    template = b""
    if executed is not None and most:
        template = application.build(executed.block, now_ms, most)
    return reason, executed, template


def build_over(
    application: Application, above: Block, now_ms: Milliseconds, max_bytes: int
) -> bytes:
    """Return a payload over an executed block."""
    try:
        return application.build(above.executed.block, now_ms, max_bytes)
    except Unavailable:
        execute_again(application, above)
        return application.build(above.executed.block, now_ms, max_bytes)


def execute_again(application: Application, block: Block) -> None:
    """Bring a block back that the application has forgotten, with its ancestors."""
    for lost in block.get_path():
        assert lost.above is not None
        below = lost.above
        application.execute(below.executed.block, [lost.payload], below.envelope)


def try_over(
    application: Application, above: Block, payload: bytes, now_ms: Milliseconds | None
) -> tuple[str | None, Executed | None]:
    parent = above.executed
    if now_ms is not None:
        reason = application.check(parent.block, payload, now_ms)
        if reason is None:
            reason = find_early(payload, parent)
        if reason is not None:
            return reason, None
    return None, application.execute(parent.block, [payload], above.envelope)


def is_ahead(payload: bytes, now_ms: Milliseconds) -> bool:
    """Whether a payload is of a time that has not come by this clock, which may be what is wrong
    with it.
    """
    try:
        return parse_head(payload)[1] > now_ms
    except Invalid:
        return False


def find_early(payload: bytes, parent: Executed) -> str | None:
    """Why a payload comes too early after its parent, None if it does not.

    An application knows executed blocks by their hash, which may not tell milliseconds; the parent
    is known by its envelope here.
    """
    at_ms = read_timestamp(payload)
    if at_ms > parent.timestamp_ms:
        return None
    return f"timestamp {at_ms} ms, expected at least {parent.timestamp_ms + 1}"


class Branches(Execution):
    """`Execution` for an open engine; blocks `safe_depth` below the tip are called safe."""

    __slots__ = (
        "ahead",
        "blocks",
        "dirty",
        "fresh",
        "head",
        "refused",
        "root",
        "running",
        "safe_depth",
        "template",
        "tip",
        "waiting",
    )

    def __init__(
        self,
        port: GuardedPort,
        application: Application,
        settings: Settings,
        counters: dict[str, int],
        *,
        on_final: Callable[[Executed], None],
        on_durable: Callable[[Height], None],
        fail: Callable[[str], None],
        safe_depth: int,
    ) -> None:
        super().__init__(
            port,
            application,
            settings,
            counters,
            on_final=on_final,
            on_durable=on_durable,
            fail=fail,
        )
        self.safe_depth = safe_depth
        self.root = Block(self.envelope, self.final, b"", None)
        """The last final block."""
        self.tip = self.root
        """The block that readers see as the latest."""
        self.blocks: dict[Hash, Block] = {self.envelope: self.root}
        """By envelope, parents before their children."""
        self.running: dict[Hash, Check] = {}
        """Being judged and executed."""
        self.waiting: dict[Hash, dict[Hash, Check]] = {}
        """Checks by the parent that they wait for."""
        self.refused: dict[Hash, None] = {}
        self.head: Head | None = None
        """Named before its block was executed."""
        self.dirty = False
        """Whether something has changed that readers do not see yet."""
        self.fresh = False
        """Whether the pool has had something to offer since a template was built."""
        self.ahead = False
        """Whether the next block that is judged gets a template at once."""
        self.template: tuple[Hash, bytes, Nanoseconds] = (b"", b"", 0)
        """The one that was built so: over which block, and when."""

    # ---- what to mine or propose

    def on_want(self, effect: Want) -> None:
        # Who mines wants a template over every new tip.
        self.ahead = effect.build
        super().on_want(effect)

    def answer_want(self) -> None:
        want = self.want
        if want is None or self.building:
            return
        above = self.blocks.get(want.parent)
        if above is None or want.height != above.executed.height + 1:
            return
        if not want.force and not (self.fresh and self.ready):
            # Another template would be like the last one; `on_work` tells when that changes.
            return
        if not want.build:
            self.want = None
            self.interpreter.submit(want.height, NOTHING)
            return
        parent, payload, at = self.template
        if parent == want.parent and not self.has_items and self.port.now() - at <= FRESH:
            self.take_template(want, payload)
            return
        self.building, self.fresh = True, False
        application, now_ms = self.application, self.port.wall_ms()
        limit = self.settings.max_payload_bytes
        self.port.work(
            "execute",
            guard(
                "cannot build",
                lambda: build_over(application, above, now_ms, limit),
                want.height,
            ),
            lambda outcome: self.on_template(want, outcome),
        )

    def on_template(self, want: Want, outcome: Outcome[bytes]) -> None:
        self.building = False
        if self.want != want or want.parent not in self.blocks:
            # Asked for anew meanwhile, or the parent was abandoned for good.
            self.answer_want()
            return
        if outcome.value is None:
            self.fail(outcome.error or "")
            return
        self.take_template(want, outcome.value)

    def take_template(self, want: Want, payload: bytes) -> None:
        self.want, self.template = None, (b"", b"", 0)
        self.count("payloads_built")
        self.interpreter.submit(want.height, payload)

    def on_work(self, ready: bool, has_items: bool) -> None:
        if ready and not self.settling:
            self.fresh = True
        super().on_work(ready, has_items)

    # ---- what is acceptable

    def on_check(self, effect: Check) -> None:
        envelope, parent = effect.envelope, effect.parent
        if envelope in self.blocks:
            self.answer(effect, True)
        elif envelope in self.refused or parent in self.refused:
            self.refuse(effect, "a block that is not acceptable lies below it")
        elif envelope in self.running:
            # The answer to the first asking serves both.
            return
        elif parent in self.blocks:
            self.judge(effect, self.blocks[parent])
        elif effect.height <= self.final.height:
            self.count("checks_stale")
            self.answer(effect, False)
        else:
            self.wait(effect)

    def wait(self, effect: Check) -> None:
        """Hold a check until its parent is executed; the oldest one makes room."""
        if sum(map(len, self.waiting.values())) >= MAX_CHECKS:
            oldest = next(iter(self.waiting))
            del self.waiting[oldest]
            self.count("checks_dropped")
        self.waiting.setdefault(effect.parent, {})[effect.envelope] = effect

    def judge(self, effect: Check, above: Block) -> None:
        if effect.height != above.executed.height + 1:
            self.refuse(effect, f"its parent is at height {above.executed.height}")
            return
        self.running[effect.envelope] = effect
        application, payload, now_ms = self.application, effect.payload, self.port.wall_ms()
        most = 0
        if self.ahead and not self.has_items and len(payload) <= AT_ONCE_BYTES:
            # Nothing to choose: a template in the same call saves a change of thread. While nobody
            # wants it, as in catching up, no other is built.
            self.ahead = False
            most = self.settings.max_payload_bytes
        self.port.work(
            "execute",
            guard(
                "cannot check",
                lambda: judge_over(application, above, payload, now_ms, most),
                effect.height,
            ),
            lambda outcome: self.on_verdict(effect, above, now_ms, outcome),
        )

    def on_verdict(
        self,
        effect: Check,
        above: Block,
        now_ms: Milliseconds,
        outcome: Outcome[Judged],
    ) -> None:
        self.running.pop(effect.envelope, None)
        if self.blocks.get(above.envelope) is not above:
            # Another branch became final meanwhile.
            self.count("checks_stale")
            self.answer(effect, False)
            return
        if outcome.value is None:
            self.fail(outcome.error or "")
            return
        reason, executed, template = outcome.value
        if template:
            self.template = (effect.envelope, template, self.port.now())
        if executed is None:
            early = is_ahead(effect.payload, now_ms)
            if early and not is_ahead(effect.payload, self.port.wall_ms()):
                # The clock was set right, or the time has come, while this was judged.
                self.judge(effect, above)
            else:
                self.refuse(effect, reason or "", is_final=not early)
            return
        self.add(Block(effect.envelope, executed, effect.payload, above))
        self.answer(effect, True)
        self.release(effect.envelope)
        if self.head is not None and self.head.envelope == effect.envelope:
            self.on_head(self.head)
        self.advance()
        self.answer_want()

    def refuse(self, effect: Check, reason: str, *, is_final: bool = True) -> None:
        """Say that a block is not acceptable; unless `is_final`, only for now."""
        if is_final:
            while len(self.refused) >= MAX_REFUSED:
                del self.refused[next(iter(self.refused))]
            self.refused[effect.envelope] = None
        self.count("payloads_refused")
        self.port.log("warning", "payload refused", height=effect.height, reason=reason)
        self.answer(effect, False)
        self.release(effect.envelope)

    def answer(self, effect: Check, valid: bool) -> None:
        self.interpreter.checked(effect.height, effect.payload, valid, effect.envelope)

    def release(self, envelope: Hash) -> None:
        """Take up the checks that waited for this block."""
        for effect in self.waiting.pop(envelope, {}).values():
            self.on_check(effect)

    def add(self, block: Block) -> None:
        """Keep an executed block, and make room for it."""
        if len(self.blocks) >= MAX_BLOCKS:
            kept = {b.envelope for b in self.tip.get_path()}
            for old in self.blocks.values():
                if not old.children and old.envelope not in kept and old.above is not None:
                    del self.blocks[old.envelope]
                    old.above.children -= 1
                    self.count("blocks_forgotten")
                    break
        self.blocks[block.envelope] = block
        assert block.above is not None
        block.above.children += 1

    # ---- what readers see

    def on_head(self, effect: Head) -> None:
        block = self.blocks.get(effect.envelope)
        if block is None:
            self.head = effect
            return
        self.head = None
        if block is not self.tip:
            self.adopt(block)

    def adopt(self, block: Block) -> None:
        """Show a branch to readers from now on."""
        depth = self.measure_reorg(block)
        height = block.executed.height
        safe = max(height - self.safe_depth, self.final.height)
        self.application.adopt(block.executed.block, safe)
        if depth:
            self.count("reorgs")
            self.count("reorg_blocks", depth)
            self.counters["reorg_deepest"] = max(depth, self.counters.get("reorg_deepest", 0))
            self.port.log(
                "info", "branch abandoned", height=height, depth=depth, fork=self.fork_height(block)
            )
        # Further up in one step, a block between may hold what no other does.
        is_moved = bool(depth) or block.above is not self.tip
        self.tip, self.latest, self.latest_at = block, block.executed, self.port.now()
        self.dirty = True
        if is_moved:
            self.start_settling()
        else:
            self.settle()
        self.commit()
        self.answer_want()

    def fork_height(self, block: Block) -> Height:
        """The height up to which a branch agrees with the one that readers see."""
        one, other = self.tip, block
        while one is not other:
            lower = min(one.executed.height, other.executed.height)
            if one.executed.height == other.executed.height:
                lower -= 1
            one, other = one.get_ancestor(lower), other.get_ancestor(lower)
            if one.above is None or other.above is None:
                return self.final.height
        return one.executed.height

    def measure_reorg(self, block: Block) -> int:
        """How many of the blocks that readers see a branch abandons."""
        if block.above is self.tip:
            return 0
        return self.tip.executed.height - self.fork_height(block)

    # ---- what is final

    def advance_one(self) -> bool:
        effect = self.decided[0]
        theirs = find_foreign_parent(effect.payloads, self.final.block)
        if theirs is not None:
            self.fail(
                f"diverged at block {self.final.height}: here it is 0x{self.final.block.hex()}, "
                f"but height {effect.height} is final on 0x{theirs.hex()}"
            )
            return False
        block = self.blocks.get(effect.envelope)
        if block is not None and block.above is self.root:
            self.decided.popleft()
            self.complete(effect, block.executed)
            return True
        if effect.envelope in self.running:
            return False
        self.executing = True
        application, above, payload = self.application, self.root, effect.payloads[0]
        self.port.work(
            "execute",
            guard(
                "cannot execute",
                lambda: execute_over(application, above, payload, None)[1],
                effect.height,
            ),
            lambda outcome: self.on_delivered(effect, outcome),
        )
        return False

    def on_delivered(self, effect: Deliver, outcome: Outcome[Executed | None]) -> None:
        """A block that was decided without a check is executed."""
        self.executing = False
        if outcome.value is None:
            self.fail(outcome.error or "")
            return
        if effect.envelope not in self.blocks:
            self.add(Block(effect.envelope, outcome.value, effect.payloads[0], self.root))
            self.release(effect.envelope)
        self.advance()

    def complete(self, effect: Deliver, executed: Executed) -> None:
        self.application.finalize(executed, effect.envelope, effect.certificate, effect.payloads)
        if self.on_answers is not None:
            self.on_answers(executed)
        self.final = executed
        self.envelope, self.certificate = effect.envelope, effect.certificate
        self.payloads = effect.payloads
        self.root = self.blocks[effect.envelope]
        self.root.above = None
        self.forget_losers()
        self.count("items", executed.items)
        if executed.skipped:
            self.report_skipped(executed)
        self.dirty = True
        self.unapplied.append(executed)
        self.apply()
        self.commit()
        self.on_final(executed)

    def forget_losers(self) -> None:
        """Keep what descends from the last final block, and the checks that may still count."""
        lowest = next(iter(self.blocks))
        if len(self.blocks) == self.tip.executed.height - self.blocks[lowest].executed.height + 1:
            # One line up to the tip: nobody has lost.
            del self.blocks[lowest]
        else:
            kept = {self.root.envelope: self.root}
            for envelope, block in self.blocks.items():
                if block.above is not None and block.above.envelope in kept:
                    kept[envelope] = block
            self.blocks = kept
        if self.tip.envelope not in self.blocks:
            self.tip, self.latest, self.latest_at = self.root, self.final, self.port.now()
            self.start_settling()
        if not self.waiting:
            return
        height = self.final.height
        stale = [c for group in self.waiting.values() for c in group.values() if c.height <= height]
        for effect in stale:
            group = self.waiting[effect.parent]
            del group[effect.envelope]
            if not group:
                del self.waiting[effect.parent]
            self.count("checks_stale")
            self.answer(effect, False)

    # ---- the pool and the store follow

    def tell_applied(self, executed: Executed) -> None:
        self.interpreter.applied(executed.height, [])

    def commit(self) -> None:
        """Make readers see what has changed, unless that is under way."""
        if not self.committing and self.dirty:
            self.start_commit()

    def write(self) -> Height:
        # Before it is written, since what changes meanwhile may be too late; what has changed since
        # this was asked for (a tip often makes another block final) is written with the rest.
        self.dirty = False
        return self.application.commit()

    def on_committed(self, outcome: Outcome[Height]) -> None:
        if outcome.value is not None:
            self.port.adopted(self.latest.height)
        super().on_committed(outcome)
