"""Between an engine and the application: what to agree on, what is acceptable, and carrying it out.

Order of things for one height: `Want` or `Check` are answered once the height below is executed; a
payload that was found acceptable is executed at once, so that the decision usually finds its
result. `Deliver` makes a result final, in strict order, tells the engine (`applied`), and the store
catches up on a lane of its own, merging all that has become final meanwhile.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from quorate.base.errors import Corrupt, Invalid, Unavailable
from quorate.base.types import Hash, Height, Milliseconds
from quorate.consensus.replica import NOTHING, Check, Deliver, Head, Timer, Want
from quorate.ledger.application import Application, Executed
from quorate.ledger.payload import parse_head
from quorate.node.guard import GuardedPort
from quorate.node.interpreter import Interpreter
from quorate.node.messages import MAX_HEIGHT
from quorate.node.settings import Settings

WANT_TIMER: Final = Timer("node.want")
COMMIT_TIMER: Final = Timer("node.commit")
"""Falls when a block is due although nothing waits, or when one must not come earlier."""
MAX_CHECKS: Final = 256
"""Checks that wait for the height below; an engine asks for few, so more are a peer's doing."""
MAX_RESULTS: Final = 16
"""Speculative results that are kept for one height."""
AT_ONCE_BYTES: Final = 1024
"""A payload up to this size is checked and executed in one call, which saves a change of thread."""
AHEAD_BYTES: Final = 16 << 10
"""An own payload from this size on is executed while it goes out, since that takes long as well."""

T = TypeVar("T")


class Outcome(Generic[T]):
    """What a call on a lane returned, or the error of the world that stopped it."""

    __slots__ = ("error", "value")

    def __init__(self, value: T | None, error: str | None) -> None:
        self.value, self.error = value, error


def guard(
    what: str, call: Callable[[], T], height: Height | None = None
) -> Callable[[], Outcome[T]]:
    """Return a call that does not raise; an error becomes one line that begins with the height, if
    any, and `what`.
    """

    def run() -> Outcome[T]:
        try:
            return Outcome(call(), None)
        except Exception as error:
            is_known = isinstance(error, Invalid | Unavailable | Corrupt | OSError)
            reason = str(error) if is_known else f"{type(error).__name__}: {error}"
            where = "" if height is None else f"height {height}: "
            return Outcome(None, f"{where}{what}: {reason}")

    return run


class Execution:
    """The application's side of one node.

    `on_final` is called after each height that has become final here, `on_durable` when the store
    has caught up to a height, `fail` when this node cannot go on.
    """

    __slots__ = (
        "advancing",
        "application",
        "applied",
        "building",
        "certificate",
        "checks",
        "commit_set",
        "committing",
        "counters",
        "decided",
        "delivered",
        "durable",
        "envelope",
        "executed",
        "executing",
        "fail",
        "final",
        "get_pinned",
        "has_items",
        "held",
        "interpreter",
        "judging",
        "latest",
        "latest_at",
        "on_answers",
        "on_durable",
        "on_final",
        "payloads",
        "port",
        "prune_at",
        "ready",
        "results",
        "settings",
        "settling",
        "speculating",
        "unapplied",
        "uncommitted",
        "uncommitted_bytes",
        "verdicts",
        "want",
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
    ) -> None:
        self.port, self.application, self.settings = port, application, settings
        self.counters = counters
        self.on_final, self.on_durable, self.fail = on_final, on_durable, fail
        self.on_answers: Callable[[Executed], None] | None = None
        """Told of a height that was decided and executed before anything else is done with it, as
        by the application: clients wait for it. Also of one that the node jumped to.
        """
        self.interpreter: Interpreter
        """Set by the node before anything else is called."""

        self.final: Executed = application.durable()
        self.durable: Height = self.final.height
        self.delivered: Height = self.final.height
        """The last height that the engine delivered; those above `final` wait here."""
        self.applied: Height = self.final.height
        self.latest: Executed = self.final
        """What clients see as the latest block, and since when."""
        self.latest_at = port.now()
        self.envelope: Hash = application.genesis
        self.certificate = b""
        self.payloads: list[bytes] = []
        if self.final.height:
            decision = application.decision(self.final.height)
            if decision is None:
                raise Corrupt(
                    f"height {self.final.height}: the store holds it without its decision"
                )
            self.envelope, self.certificate, self.payloads = decision

        self.want: Want | None = None
        self.building = False
        self.checks: deque[Check] = deque()
        """Wait for the height below theirs."""
        self.verdicts: dict[bytes, bool] = {}
        """Of payloads for the height after `final`, by payload."""
        self.results: dict[bytes, Executed] = {}
        """Of acceptable payloads for the height after `final`."""
        self.speculating: dict[bytes, None] = {}
        """Payloads over `final` that are being executed."""
        self.decided: deque[Deliver] = deque()
        self.executing = False
        self.executed: Executed | None = None
        """The result of the first of `decided`, when it was not there in advance."""
        self.advancing = False
        self.committing = False
        self.commit_set = False
        """Whether heights wait for others to be committed with."""
        self.uncommitted: deque[tuple[Height, int]] = deque()
        """Heights whose commit is not done, with the size of their payloads."""
        self.uncommitted_bytes = 0
        self.unapplied: deque[Executed] = deque()
        """Final, and held back from the engine until the store catches up."""
        self.ready = False
        """Whether the pool has something for the next payload, as last heard from its lane."""
        self.has_items = False
        """Whether anything at all may wait in the pool, executable or not."""
        self.settling = 0
        self.judging = 0
        """Checks that are under way."""
        self.held = False
        """Whether the state is about to be replaced, so that nothing is begun over this one."""
        self.prune_at = self.durable
        """The durable height at which the next step of forgetting is due."""
        self.get_pinned: Callable[[], Height | None] = get_nothing
        """The height from which on nothing is to be forgotten for now, if there is one."""

    # ---- what to agree on

    def on_want(self, effect: Want) -> None:
        self.want = effect
        self.answer_want()

    def compute_wait_ms(self) -> Milliseconds | None:
        """How long the next payload has to wait; None: until there is work."""
        fixed, heartbeat = self.settings.block_time_ms, self.settings.heartbeat_ms
        if fixed:
            # By the chain's own clock, so that the interval does not grow by the time that
            # agreement takes; and no longer than the interval, since the last block may have been
            # made by a clock that was far ahead.
            due = self.latest.timestamp_ms + fixed - self.port.wall_ms()
            left = fixed - (self.port.now() - self.latest_at) // 1_000_000
            return max(min(due, left), 0)
        if self.ready:
            return 0
        pause = self.settings.certify_ms if self.latest.items else heartbeat
        if pause or self.latest.items:
            return max(pause - (self.port.now() - self.latest_at) // 1_000_000, 0)
        return None

    def answer_want(self) -> None:
        """Answer the engine's `Want` if it is time; called whenever that may have changed."""
        want = self.want
        if want is None or self.building or self.held or want.height != self.final.height + 1:
            return
        wait = 0 if want.force else self.compute_wait_ms()
        if wait is None:
            return
        if wait:
            self.port.set_timer(WANT_TIMER, wait * 1_000_000)
            return
        if want.build:
            self.build(want.height)
        else:
            self.want = None
            self.interpreter.submit(want.height, NOTHING)

    def build(self, height: Height) -> None:
        """Let the application make the payload that is wanted."""
        self.building = True
        application, parent = self.application, self.final.block
        now_ms, limit = self.port.wall_ms(), self.settings.max_payload_bytes

        def build() -> bytes:
            return application.build(parent, now_ms, limit)

        self.port.work(
            "execute",
            guard("cannot build", build, height),
            lambda outcome: self.on_built(height, outcome),
        )

    def on_built(self, height: Height, outcome: Outcome[bytes]) -> None:
        self.building = False
        want = self.want
        if (
            height != self.final.height + 1
            or want is None
            or want.height != height
            or not want.build
        ):
            # The height was decided in the meantime (then the call may have failed, since its
            # parent is no longer the tip), or it is somebody else's turn.
            self.answer_want()
            return
        if outcome.value is None:
            self.fail(outcome.error or "")
            return
        payload = outcome.value
        self.want = None
        self.count("payloads_built")
        self.verdicts[payload] = True
        if len(payload) >= AHEAD_BYTES:
            # A lane works while this thread hashes the payload and encodes it for everybody.
            self.speculate(payload)
        self.interpreter.submit(height, payload)
        # Others have it by now, and what they do with it takes as long as executing it here.
        if height == self.final.height + 1 and not self.executing:
            self.speculate(payload)

    def on_work(self, ready: bool, has_items: bool) -> None:
        """What the pool's lane says after it admitted something."""
        self.has_items = has_items
        if self.settling:
            # Judged over an older block; the settlement that is under way knows better.
            return
        self.ready = ready
        if ready:
            self.answer_want()

    # ---- what is acceptable

    def on_check(self, effect: Check) -> None:
        if effect.height <= self.final.height:
            return
        if effect.height > self.final.height + 1 or self.held:
            if len(self.checks) >= MAX_CHECKS:
                self.checks.popleft()
                self.count("checks_dropped")
            self.checks.append(effect)
            return
        self.check(effect)

    def check(self, effect: Check) -> None:
        """Judge a payload for the height after `final`."""
        payload, height = effect.payload, effect.height
        known = self.verdicts.get(payload)
        if known is not None:
            self.interpreter.checked(height, payload, known)
            return
        application, parent, envelope = self.application, self.final.block, self.envelope
        now_ms = self.port.wall_ms()

        def judge() -> tuple[str | None, Executed | None]:
            reason = application.check(parent, payload, now_ms)
            if reason is not None or len(payload) > AT_ONCE_BYTES:
                return reason, None
            return None, application.execute(parent, [payload], envelope)

        self.judging += 1
        self.port.work(
            "execute",
            guard("cannot check", judge, height),
            lambda outcome: self.on_judged(height, payload, outcome),
        )

    def on_judged(
        self,
        height: Height,
        payload: bytes,
        outcome: "Outcome[tuple[str | None, Executed | None]]",
    ) -> None:
        self.judging -= 1
        if height != self.final.height + 1:
            return
        if outcome.value is None:
            self.fail(outcome.error or "")
            return
        reason, executed = outcome.value
        if len(self.verdicts) < MAX_CHECKS:
            self.verdicts[payload] = reason is None
        if reason is not None:
            self.count("payloads_refused")
            self.port.log("warning", "payload refused", height=height, reason=reason)
        elif executed is not None:
            if len(self.results) < MAX_RESULTS:
                self.results[payload] = executed
        else:
            self.speculate(payload)
        self.interpreter.checked(height, payload, reason is None)
        self.advance()

    def on_head(self, effect: Head) -> None:
        """A tentative tip: execute it ahead if it follows what is final."""
        if effect.height == self.final.height + 1 and effect.parent == self.envelope:
            self.speculate(effect.payload)

    # ---- carrying it out

    def speculate(self, payload: bytes) -> None:
        """Execute a payload over `final` before it is decided, since it probably will be."""
        if (
            self.held
            or payload in self.results
            or payload in self.speculating
            or len(self.results) + len(self.speculating) >= MAX_RESULTS
        ):
            return
        self.speculating[payload] = None
        height = self.final.height + 1
        self.port.work(
            "execute",
            guard("cannot execute", self.make_call([payload]), height),
            lambda outcome: self.on_speculated(height, payload, outcome),
        )

    def make_call(self, payloads: list[bytes]) -> Callable[[], Executed]:
        application, parent, envelope = self.application, self.final.block, self.envelope
        return lambda: application.execute(parent, payloads, envelope)

    def on_speculated(self, height: Height, payload: bytes, outcome: Outcome[Executed]) -> None:
        if height != self.final.height + 1:
            return
        self.speculating.pop(payload, None)
        if outcome.value is None:
            self.fail(outcome.error or "")
            return
        self.results[payload] = outcome.value
        self.advance()

    def on_deliver(self, effect: Deliver) -> None:
        """The next height is decided; heights that the store had already are delivered again."""
        if effect.height <= self.delivered:
            return
        if effect.height != self.delivered + 1:
            self.fail(f"the engine delivered height {effect.height} after {self.delivered}")
            return
        self.delivered = effect.height
        self.decided.append(effect)
        self.advance()

    def advance(self) -> None:
        """Make decided heights final as far as results allow."""
        if self.advancing or self.held:
            # An input that a completed height led to: the loop below takes it up.
            return
        self.advancing = True
        try:
            while self.decided and not self.executing and self.advance_one():
                pass
        finally:
            self.advancing = False

    def advance_one(self) -> bool:
        """Complete the next decided height, or see to its execution; whether it is complete."""
        effect = self.decided[0]
        theirs = find_foreign_parent(effect.payloads, self.final.block)
        if theirs is not None:
            self.fail(
                f"diverged at block {self.final.height}: here it is 0x{self.final.block.hex()}, "
                f"but the network decided height {effect.height} on 0x{theirs.hex()}"
            )
            return False
        executed, self.executed = self.executed, None
        if executed is None and len(effect.payloads) == 1:
            executed = self.results.get(effect.payloads[0])
            if executed is None and effect.payloads[0] in self.speculating:
                return False
        if executed is not None:
            self.decided.popleft()
            self.complete(effect, executed)
            return True
        self.executing = True
        self.port.work(
            "execute",
            guard("cannot execute", self.make_call(effect.payloads), effect.height),
            self.on_executed,
        )
        return False

    def on_executed(self, outcome: Outcome[Executed]) -> None:
        self.executing = False
        if outcome.value is None:
            self.fail(outcome.error or "")
            return
        self.executed = outcome.value
        self.advance()

    def complete(self, effect: Deliver, executed: Executed) -> None:
        """An executed height becomes final."""
        # An acknowledgement of the next height often stands before it, and others wait for that.
        self.port.hurry()
        if self.on_answers is not None:
            self.on_answers(executed)
        self.application.finalize(executed, effect.envelope, effect.certificate, effect.payloads)
        self.final = self.latest = executed
        self.latest_at = self.port.now()
        self.envelope, self.certificate = effect.envelope, effect.certificate
        self.payloads = effect.payloads
        self.verdicts, self.results, self.speculating = {}, {}, {}
        self.count("items", executed.items)
        if executed.skipped:
            self.report_skipped(executed)
        size = sum(map(len, effect.payloads))
        self.uncommitted.append((executed.height, size))
        self.uncommitted_bytes += size
        self.unapplied.append(executed)
        self.apply()
        # The engine is told first; what follows here is off the path of its next round.
        self.settle()
        self.release_checks()
        self.answer_want()
        self.commit()
        self.on_final(executed)

    def apply(self) -> None:
        """Tell the engine of final heights, as long as the store keeps up."""
        settings = self.settings
        limit = self.durable + settings.max_uncommitted
        if self.uncommitted_bytes > settings.max_uncommitted_bytes:
            limit = self.durable
        while self.unapplied and self.unapplied[0].height <= limit:
            executed = self.unapplied.popleft()
            self.applied = executed.height
            self.tell_applied(executed)

    def tell_applied(self, executed: Executed) -> None:
        self.interpreter.applied(executed.height, executed.members)

    def release_checks(self) -> None:
        """Judge the checks that waited for this height, forget those that are too late."""
        if not self.checks:
            return
        waiting, self.checks = self.checks, deque()
        for effect in waiting:
            self.on_check(effect)

    def report_skipped(self, executed: Executed) -> None:
        self.count("items_skipped", len(executed.skipped))
        identity, reason = executed.skipped[0]
        self.port.log(
            "info",
            "transactions skipped",
            height=executed.height,
            count=len(executed.skipped),
            first=f"0x{identity.hex()}",
            reason=reason,
        )

    # ---- the pool and the store follow

    def settle(self) -> None:
        """Let the pool follow the latest block, if that can change anything in it."""
        # Blocks that were ordered to be made may be empty, and the pool knows how many are left, if
        # it is not just about to say so of an older block.
        if self.latest.items or self.has_items or self.ready or self.settling:
            self.start_settling()

    def start_settling(self) -> None:
        self.ready = False
        self.settling += 1
        application, most = self.application, self.settings.max_payload_bytes

        def settle() -> tuple[bool, bool, list[Hash]]:
            returned = application.settle()
            return application.has_work(most), application.counts() > (0, 0, 0), returned

        self.port.work("pool", guard("cannot settle the pool", settle), self.on_settled)

    def on_settled(self, outcome: Outcome[tuple[bool, bool, list[Hash]]]) -> None:
        self.settling -= 1
        if outcome.value is None:
            self.fail(outcome.error or "")
            return
        ready, has_items, returned = outcome.value
        if returned:
            self.count("transactions_returned", len(returned))
            self.port.admitted(returned)
        self.on_work(ready, has_items)

    def commit(self) -> None:
        """Make everything final durable, now or together with what follows, unless that is under
        way.
        """
        waiting = self.final.height - self.durable
        if self.committing or self.held or not waiting:
            return
        settings = self.settings
        most = min(settings.commit_heights, settings.max_uncommitted)
        is_much = self.uncommitted_bytes > settings.max_uncommitted_bytes // 2
        if not settings.commit_ms or waiting >= most or is_much:
            self.start_commit()
        elif not self.commit_set:
            self.commit_set = True
            self.port.set_timer(COMMIT_TIMER, settings.commit_ms * 1_000_000)

    def on_commit_timer(self) -> None:
        self.commit_set = False
        if not self.committing and not self.held and self.durable != self.final.height:
            self.start_commit()

    def start_commit(self) -> None:
        self.committing = True
        self.port.work("commit", guard("cannot write the store", self.write), self.on_committed)

    def write(self) -> Height:
        """Write the store, on a lane of its own."""
        return self.application.commit()

    def on_committed(self, outcome: Outcome[Height]) -> None:
        self.committing = False
        if outcome.value is None:
            self.fail(outcome.error or "")
            return
        if outcome.value > self.durable:
            self.durable = outcome.value
            while self.uncommitted and self.uncommitted[0][0] <= self.durable:
                self.uncommitted_bytes -= self.uncommitted.popleft()[1]
            self.port.committed(self.durable)
            self.apply()
            self.on_durable(self.durable)
            self.prune()
        self.commit()

    # ---- a jump to another height

    def hold(self) -> None:
        """Begin nothing any more over the state that is there."""
        self.held = True

    def is_idle(self) -> bool:
        """Whether nothing that was begun is under way."""
        return not (
            self.building
            or self.executing
            or self.committing
            or self.settling
            or self.judging
            or self.speculating
        )

    def resume(self) -> None:
        """Go on over the state that is there."""
        self.held = False
        self.advance()
        self.release_checks()
        self.answer_want()
        self.commit()

    def install(
        self, executed: Executed, envelope: Hash, certificate: bytes, payloads: list[bytes]
    ) -> None:
        """The application's state is that after another height now, and durable; `resume` follows
        once the engine knows.
        """
        height = executed.height
        self.final = self.latest = executed
        self.latest_at = self.port.now()
        self.durable = self.applied = height
        self.envelope, self.certificate, self.payloads = envelope, certificate, payloads
        self.delivered = max(self.delivered, height)
        self.decided = deque(effect for effect in self.decided if effect.height > height)
        self.executed, self.want = None, None
        self.verdicts, self.results, self.speculating = {}, {}, {}
        self.unapplied.clear()
        self.uncommitted.clear()
        self.uncommitted_bytes = 0

    def prune(self) -> None:
        """Let the store forget a little, if it is time.

        On the lane of commits, so that the next one waits for one step at most; agreement waits
        for neither.
        """
        states, blocks = self.settings.state_history, self.settings.block_history
        if (not states and not blocks) or self.durable < self.prune_at:
            return
        # Not again before this step is done.
        self.prune_at = MAX_HEIGHT
        application, pinned = self.application, self.get_pinned()
        if pinned is not None:
            behind = self.durable - pinned
            states, blocks = states and max(states, behind), blocks and max(blocks, behind)
        self.port.work(
            "commit",
            guard("cannot prune the store", lambda: application.prune(states, blocks)),
            self.on_pruned,
        )

    def on_pruned(self, outcome: Outcome[bool]) -> None:
        if outcome.value is None:
            self.fail(outcome.error or "")
            return
        self.count("prune_steps")
        is_behind = outcome.value
        self.prune_at = self.durable + (0 if is_behind else self.settings.prune_every)
        if is_behind and not self.committing:
            # Nothing has to be written: what there is of a backlog goes now.
            self.prune()

    def count(self, name: str, n: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + n


def get_nothing() -> Height | None:
    return None


def find_foreign_parent(payloads: list[bytes], block: Hash) -> Hash | None:
    """Return the parent block of a decided set when no payload of it follows `block`."""
    theirs = None
    for payload in payloads:
        try:
            parent = parse_head(payload)[0]
        except Invalid:
            continue
        if parent == block:
            return None
        theirs = parent
    return theirs
