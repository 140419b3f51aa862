"""Virtual clients: they ask nodes for things, lose answers, ask again, and keep what they heard.

A client submits items of its own to a node, through the surface that real clients have, and waits
until that node shows the item as final. Requests and answers get lost as links lose frames. When
nothing comes for a while it sends the same item to another node, unless that one shows it as final
already; after some attempts it gives up and does not know. It also reads how far a node is.

Everything goes into a history. When the run is over it is judged: what was answered is final, once;
what was refused is not; the final order respects real time; no honest node took back what it had
shown; and nothing is final that nobody submitted, unless there are traitors.

Answers of traitors, and of nodes whose disks lie, count as not given.
"""

from typing import TYPE_CHECKING, Any, Final

from quorate.base.types import Height, Nanoseconds
from quorate.ledger.opaque import MEMBER_PREFIX
from quorate.ledger.operations import LATE
from quorate.node.gossip import KNOWN
from quorate.simulator.applications import EthereumStores
from quorate.simulator.digest import CLIENT
from quorate.simulator.finality import EXACTLY_ONCE, judge_order, judge_sessions
from quorate.simulator.history import Event, History
from quorate.simulator.invariants.ledger import watch_ledger
from quorate.simulator.keyvalue import Calls, KeyValueStores, Registers
from quorate.simulator.plan import MS, SECOND
from quorate.simulator.reads import LinearReads
from quorate.simulator.wallets import ACCOUNTS, find_balance_faults

if TYPE_CHECKING:
    from quorate.base.types import Hash
    from quorate.simulator.machine import Machine
    from quorate.simulator.world import World

__all__ = ["Clients"]

ATTEMPTS: Final = 3
"""With one item, before a client gives up."""
PATIENCE_NS: Final = 2 * SECOND
"""How long a client waits for an answer at least; at most twice as long."""
MAX_DOUBLINGS: Final = 5
"""Of that time, for what is never given up."""
MAX_ACTORS: Final = 16
"""Clients that are told apart in histories."""
READABLE: Final = ("raft",)
"""Engines that answer linearizable reads by themselves."""
READS: Final = 4
"""One in so many requests is a read."""


class Request:
    """One item on its way."""

    __slots__ = (
        "account",
        "attempts",
        "client",
        "height",
        "id",
        "identity",
        "item",
        "machine",
        "perhaps",
        "settled",
    )

    def __init__(
        self, number: int, client: str, account: int, identity: bytes, item: bytes
    ) -> None:
        self.id, self.client, self.account = str(number), client, account
        self.identity, self.item = identity, item
        self.machine = -1
        self.attempts = 0
        self.perhaps = False
        """Whether some attempt may have reached a pool."""
        self.settled = False
        self.height: Height = -1
        """Where a node showed it as final."""


class Index:
    """The items of the final chain in order, read once from whoever shows a height first."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.blocks: list[list[bytes]] = [[]]
        """What took effect first at each height."""
        self.heights: dict[bytes, Height] = {}

    def extend(self, machine: "Machine", height: Height) -> None:
        """Read on from a machine's store up to a height that it shows."""
        stores = self.world.stores
        while len(self.blocks) <= height:
            at = len(self.blocks)
            items, count = stores.list_items(self.find_holder(machine, at), at)
            fresh = [item for item in dict.fromkeys(items) if item not in self.heights]
            if len(fresh) != count and not self.world.beyond:
                text = f"height {at}: {count} items took effect, expected {len(fresh)} that are new"
                self.world.find(EXACTLY_ONCE, text, machine)
            self.blocks.append(fresh)
            self.heights.update(dict.fromkeys(fresh, at))

    def find_holder(self, machine: "Machine", height: Height) -> Any:
        """Return the store to read a height from: a machine's own, unless it took over a state and
        does not have what lies below it.
        """
        stores = self.world.stores
        if stores.get_final(machine.store, height) is None:
            for other in self.world.machines:
                if other.is_honest and stores.get_final(other.store, height) is not None:
                    return other.store
        return machine.store


def open_registers(world: "World", until_ns: Nanoseconds) -> Registers | None:
    """Return the clients of registers, where the application has any."""
    stores = world.stores
    if not isinstance(stores, KeyValueStores):
        return None
    if stores.machine is not None:
        stores.choose = world.tape.stream("calls").choose
        Calls(world, stores.machine)
        if not stores.machine.direct:
            return None
    return Registers(world, until_ns)


class Clients:
    """The clients of one world, until a time; and what they asked for after it, if anything."""

    def __init__(self, world: "World", until_ns: Nanoseconds) -> None:
        self.world, self.until_ns = world, until_ns
        stream = world.tape.stream
        self.pause, self.who = stream("clients pause"), stream("clients who")
        self.act, self.loss = stream("clients act"), stream("clients loss")
        self.retry = stream("clients retry")
        self.history = History()
        if world.trace is not None:
            world.trace.history = self.history
        self.index = Index(world)
        self.requests: list[Request] = []
        self.reads = 0
        self.waiting: list[dict[bytes, Request]] = [{} for _ in world.machines]
        """What clients listen for at each machine."""
        self.shown: list[Height] = [0] * len(world.machines)
        """The last height of each machine that they have looked at."""
        self.accounts = list(range(ACCOUNTS))
        """Accounts without an item on its way, whose numbers therefore have no gap."""
        self.used = [0] * ACCOUNTS
        """Items of each account that are final."""
        self.has_accounts = world.plan.application == "ethereum"
        self.registers = open_registers(world, until_ns)
        self.open: dict[str, Request] = {}
        """Requests that are neither answered nor given up, by id."""
        self.insisting = False
        self.started = False
        """Whether all items went through clients, or a script gave some to nodes."""
        if isinstance(world.stores, EthereumStores):
            watch_ledger(world, world.stores.list_accounts(), world.stores.reward)
        self.linear = LinearReads(world) if world.plan.engine in READABLE else None
        world.clients = self
        world.on_committed.append(self.on_committed)
        world.on_end.append(self.judge)

    # ---- what clients do

    def start(self) -> None:
        self.started = True
        for number in range(self.world.plan.clients):
            self.plan_next(number)

    def plan_next(self, client: int) -> None:
        most = 2 * self.world.plan.submit_ms
        # Zero is the longest pause: the empty tape has the fewest items.
        delay = (1 + most - self.pause.choose(most)) * MS
        if self.world.now + delay < self.until_ns:
            self.world.after(delay, self.ask, client)

    def ask(self, client: int) -> None:
        """Submit something new, or read."""
        if self.registers is not None:
            self.registers.ask()
        machine = self.world.machines[self.who.choose(len(self.world.machines))]
        name = f"client {client % MAX_ACTORS}"
        if self.act.choose(READS) == READS - 1:
            self.read(name, machine)
        else:
            self.submit(name, machine)
        if self.linear is not None:
            self.linear.read_anywhere()
        self.plan_next(client)

    def read(self, client: str, machine: "Machine") -> None:
        """Look how far a node is."""
        if machine.node is None or machine.paused or not machine.is_honest:
            return
        world = self.world
        self.reads += 1
        height = world.stores.get_height(machine.store)
        read = f"read {self.reads}"
        world.note(CLIENT, machine.index, height, b"read")
        self.history.invoke(world.now, read, client=client, key=machine.name, operation="height")
        self.history.ok(world.now, read, height)
        if height < len(self.index.blocks) - 1:
            world.witness("stale read")

    def submit(self, client: str, machine: "Machine") -> None:
        """Give a new item to a node."""
        if not self.accounts:
            self.world.witness("every account waits")
            return
        account = self.accounts.pop(0) if self.has_accounts else 0
        number = len(self.requests) + 1
        identity, item = self.world.stores.make_item(number, account, self.used[account])
        request = Request(number, client, account, identity, item)
        self.requests.append(request)
        self.open[request.id] = request
        self.send(request, machine)

    def send(self, request: Request, machine: "Machine") -> None:
        """Give an item to a node, for the first time or again; the network may lose it."""
        world, history = self.world, self.history
        request.attempts += 1
        request.machine = machine.index
        history.invoke(
            world.now,
            request.id,
            client=request.client,
            key="log",
            operation="append",
            argument=request.id,
        )
        world.note(CLIENT, machine.index, request.attempts, request.item)
        self.waiting[machine.index][request.identity] = request
        patience = PATIENCE_NS << min(request.attempts - 1, MAX_DOUBLINGS) * self.insisting
        world.after(
            patience + self.retry.choose(patience), self.on_silence, request, request.attempts
        )
        # What this node shows as final need not be sent again.
        if self.index.heights.get(request.identity, 1 << 62) <= self.get_height(machine):
            self.settle(request, machine, self.index.heights[request.identity])
            return
        lost = not self.insisting and self.loss.chance(world.plan.profile.loss_permille)
        if lost and self.loss.choose(2) == 0:
            world.witness("request lost")
            return
        if lost:
            world.witness("answer lost")
            del self.waiting[machine.index][request.identity]
        was_perhaps, request.perhaps = request.perhaps, True
        attempt = request.attempts

        def on_judged(results: "list[tuple[Hash, str | None]]") -> None:
            refusal = results[0][1]
            if refusal == LATE and machine.is_honest and not request.settled:
                self.fail(request)
            elif refusal is not None and refusal != KNOWN and request.attempts == attempt:
                request.perhaps = was_perhaps
                world.witness("item refused")

        if machine.submit([request.item], on_judged):
            world.witness("submitted")
        elif machine.node is None:
            # The connection was refused.
            request.perhaps = was_perhaps

    def on_silence(self, request: Request, attempt: int) -> None:
        """Nothing came in time: send again elsewhere, or give up."""
        if request.settled or request.attempts != attempt:
            return
        world = self.world
        if attempt < ATTEMPTS or self.insisting:
            self.send_elsewhere(request)
            return
        self.waiting[request.machine].pop(request.identity, None)
        self.close(request)
        if request.perhaps:
            self.history.info(world.now, request.id)
            world.witness("outcome not known")
        else:
            self.history.fail(world.now, request.id)
            world.witness("never reached a pool")
            self.release(request, 0)

    def fail(self, request: Request) -> None:
        """A node says that an item was not executed and never will be."""
        self.world.witness("too late for any block")
        self.waiting[request.machine].pop(request.identity, None)
        self.close(request)
        self.history.fail(self.world.now, request.id)

    def send_elsewhere(self, request: Request) -> None:
        """Send an item again, to another node than the one before."""
        world = self.world
        world.witness("item sent again")
        self.waiting[request.machine].pop(request.identity, None)
        machines = world.machines
        if self.insisting:
            # What is promised is promised of correct nodes; a client may find no other for long.
            machines = [m for m in machines if m.is_honest and m.node is not None] or machines
        after = [m for m in machines if m.index > request.machine]
        before = [m for m in machines if m.index < request.machine]
        others = [*after, *before] or machines
        self.send(request, others[self.who.choose(len(others))])

    def on_committed(self, machine: "Machine", height: Height) -> None:
        """A node shows a height: those who listen there learn what is final."""
        index = machine.index
        if not machine.is_honest:
            return
        self.index.extend(machine, height)
        waiting = self.waiting[index]
        if waiting:
            for at in range(self.shown[index] + 1, height + 1):
                for identity in self.index.blocks[at]:
                    request = waiting.get(identity)
                    if request is not None:
                        self.settle(request, machine, at)
        self.shown[index] = height

    def settle(self, request: Request, machine: "Machine", height: Height) -> None:
        """A node answers that an item is final."""
        if not machine.is_honest:
            return
        del self.waiting[machine.index][request.identity]
        self.close(request)
        request.height = height
        self.history.ok(self.world.now, request.id)
        if self.linear is not None:
            self.linear.on_answer(machine, height)
        self.release(request, 1)

    def close(self, request: Request) -> None:
        """A request is over, whatever came of it."""
        request.settled = True
        del self.open[request.id]

    def release(self, request: Request, used: int) -> None:
        """Let an account be used again."""
        if self.has_accounts:
            self.used[request.account] += used
            self.accounts.append(request.account)

    def get_height(self, machine: "Machine") -> Height:
        """Return the height that a node shows; -1 if it is down."""
        if machine.node is None or machine.paused or not machine.is_honest:
            return -1
        return self.world.stores.get_height(machine.store)

    # ---- the end

    def insist(self) -> None:
        """Give an item to every node that runs, lose nothing, and give up nothing any more.

        What is open is sent again at once, all together.
        """
        self.insisting = True
        for request in list(self.open.values()):
            self.send_elsewhere(request)
        for machine in self.world.machines:
            if machine.node is not None and machine.is_honest:
                self.submit("last client", machine)

    def is_answered(self) -> bool:
        """Whether nothing is open."""
        return not self.open

    def judge(self) -> None:
        """Judge the history by the final chain."""
        world = self.world
        honest = [m for m in world.machines if m.is_honest]
        if not honest:
            return
        heights = [world.stores.get_height(m.store) for m in honest]
        machine, height = honest[heights.index(max(heights))], max(heights)
        # Read again: a store might have changed what it showed.
        self.index = Index(world)
        self.index.extend(machine, height)
        operations = self.history.get_operations()
        reads = [o for o in operations if o.name == "height"]
        items = [o for o in operations if o.name != "height"]
        ids = {request.identity: request.id for request in self.requests}
        order = [ids[item] for block in self.index.blocks for item in block if item in ids]
        # What only a node showed whose disk was found to lie later may be ahead of all others.
        ahead = {request.id for request in self.requests if request.height > height}
        judged = judge_order([o for o in items if o.id not in ahead], order)
        for property, message in [*judged, *judge_sessions(reads)]:
            world.find(property, message)
        # Traitors may have items of their own.
        if self.started and all(m.actor is None for m in world.machines):
            self.judge_strangers(ids)
        if isinstance(world.stores, EthereumStores):
            numbers = [int(id) for id in order]
            transfers = [(self.requests[n - 1].account, n) for n in numbers]
            for text in find_balance_faults(machine.store, world.stores.wallet, transfers):
                world.find("balances", text, machine)
        for outcome in ("ok", "fail", "info"):
            count = sum(o.outcome == outcome for o in items)
            if count:
                world.count(f"requests {outcome}", count)
        if reads:
            world.count("reads", len(reads))

    def list_events(self) -> list[Event]:
        """Return what clients submitted and heard, and at last the final log, read by nobody else.

        So it stands for itself: as a history of a log (`models.Log`), to be judged by any checker.
        """
        items = {request.id for request in self.requests}
        events = [event for event in self.history.events if event.id in items]
        ids = {request.identity: request.id for request in self.requests}
        order = [ids[item] for block in self.index.blocks for item in block if item in ids]
        now = self.world.now
        events.append(Event("invoke", now, "the end", "the end", "log", "read"))
        events.append(Event("ok", now, "the end", result=tuple(order)))
        return events

    def judge_strangers(self, ids: dict[bytes, str]) -> None:
        """Find what is final and was never given to a node."""
        world = self.world
        known = {world.stores.identify(item) for item in world.submitted}
        for height, block in enumerate(self.index.blocks):
            for item in block:
                if item not in ids and item not in known and not item.startswith(MEMBER_PREFIX):
                    text = f"height {height}: {item[:40]!r} is final, and nobody submitted it"
                    world.find(EXACTLY_ONCE, text)
                    return
