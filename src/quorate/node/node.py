"""A whole node less its sockets: an engine, an application and their peers, driven by calls.

The world calls `start` once, then `connected`, `disconnected`, `received`, `timeout` and `submit`,
and answers what the node asks of its `Port`. Calls never overlap. The parts:

    interpreter   effects of the engine, in order, nothing said before it is kept
    execution     the application: build, check, execute, finalize, commit
    gossip        transactions of clients and peers
    reads         reads that see all that was acknowledged before
    sync          closing gaps of heights, serving those who have one
    states        taking over a state instead of executing one's way there
    offers        telling it to those who do
    peers         handshake, heights, bounds
    discovery     in open networks: addresses, slots, bans
"""

from collections.abc import Callable
from typing import Any, ClassVar, Final

from msgspec import MsgspecError

from quorate.base.errors import Corrupt, Invalid
from quorate.base.native import mypyc_attr
from quorate.base.types import Address, Hash, Height, Member, Nanoseconds
from quorate.consensus.replica import Accuse, Base, Blame, Recall, Replica, Situation, Timer
from quorate.ledger.application import Application, Executed
from quorate.node.branches import Branches
from quorate.node.contacts import Meeting, Open
from quorate.node.discovery import DISCOVERY_TIMER, Discovery
from quorate.node.execution import COMMIT_TIMER, WANT_TIMER, Execution
from quorate.node.gossip import AGAIN_TIMER, GOSSIP_TIMER, Gossip
from quorate.node.guard import GuardedPort
from quorate.node.interpreter import Interpreter
from quorate.node.offers import Offers
from quorate.node.parts import Parts
from quorate.node.peers import HELLO_TIMER, TIP_TIMER, Peer, Peers
from quorate.node.places import Place
from quorate.node.port import Port
from quorate.node.reads import READ_TIMER, Reads
from quorate.node.settings import Settings
from quorate.node.stall import explain, explain_open
from quorate.node.states import STATE_TIMER, StateSync
from quorate.node.status import NodeStatus, PeerStatus
from quorate.node.sync import SYNC_TIMER, Sync
from quorate.node.wire import (
    OPEN_MESSAGES,
    Chunk,
    Decisions,
    GetChunk,
    GetDecisions,
    GetPeers,
    GetState,
    Hello,
    Here,
    PeerList,
    Pruned,
    State,
    Tip,
    Transactions,
    make_decoder,
    make_record_decoder,
)

MAX_ACCUSATIONS: Final = 64
"""Pieces of evidence that are kept; the oldest make room."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Node:
    """One node of a network.

    `engine` is the engine's name, `peers` the configured ones beside the members, `software` what
    this node tells others about itself. With `open`, peers are not configured but found.
    """

    DISCOVERY: ClassVar[type[Discovery]] = Discovery
    BRANCHES: ClassVar[type[Branches]] = Branches

    def __init__(
        self,
        port: Port,
        replica: Replica,
        application: Application,
        settings: Settings,
        *,
        engine: str,
        peers: list[Address],
        software: str,
        open: Open | None = None,
    ) -> None:
        self.port = GuardedPort(port)
        self.replica, self.application, self.settings = replica, application, settings
        self.engine, self.software = engine, software
        self.me = replica.me
        self.configured = dict.fromkeys(peers)
        self.failed = ""
        self.started = False
        self.counters: dict[str, int] = {}
        self.accusations: list[Accuse] = []
        messages = type(replica).WIRE if open is None else (*type(replica).WIRE, *OPEN_MESSAGES)
        self.decode: Callable[[bytes], Any] = make_decoder(messages).decode
        self.max_frame_bytes = settings.max_frame_bytes
        self.max_waiting = settings.max_waiting_effects
        decode_record = make_record_decoder(type(replica).RECORDS).decode
        self.decode_record: Callable[[bytes], Any] = decode_record
        self.execution = self.make_execution()
        self.validators: list[Member] = []
        self.members: list[Address] = []
        """Those who agree on the height after the final one."""
        self.follow_members()
        self.peers = Peers(
            self.port,
            settings,
            self.counters,
            genesis=application.genesis,
            engine=engine,
            software=software,
            height=self.execution.final.height,
            open_to=self.is_open_to,
            is_member=self.is_member,
            on_greeted=self.on_greeted,
            on_height=self.on_height,
            on_shown=lambda height: self.sync.on_shown(height),
        )
        self.peers.is_rare = replica.OPEN
        self.interpreter = Interpreter(
            replica,
            self.port,
            send=self.send,
            broadcast=self.broadcast,
            want=self.execution.on_want,
            check=self.execution.on_check,
            deliver=self.execution.on_deliver,
            head=self.execution.on_head,
            accuse=self.on_accuse,
            recall=self.on_recall,
            blame=self.on_blame,
            readable=lambda effect: self.reads.on_readable(effect),
        )
        self.execution.interpreter = self.interpreter
        self.reads = Reads(self.port, settings, self.counters, self.execution, self.interpreter)
        self.make_talkers()
        self.interpreter.on_leader = self.on_leader
        self.discovery: Discovery | None = None
        self.wire_up()
        if open is not None:
            self.open_up(open)

    def make_talkers(self) -> None:
        """Make what exchanges things with peers: what waits, blocks, the state after one."""
        parts = Parts(
            self.port,
            self.settings,
            self.counters,
            self.application,
            self.peers,
            self.execution,
            self.interpreter,
        )
        self.gossip = Gossip(parts, self.is_complete)
        self.sync = Sync(parts)
        self.states = self.sync.states = StateSync(
            parts, on_installed=self.on_installed, on_over=self.sync.update
        )
        self.offers = Offers(parts)
        self.execution.get_pinned = self.offers.get_pinned

    def make_execution(self) -> Execution:
        """Return what carries out decisions, by whether blocks are seen before they are final."""
        if not self.replica.OPEN:
            return Execution(
                self.port,
                self.application,
                self.settings,
                self.counters,
                on_final=self.on_final,
                on_durable=self.on_durable,
                fail=self.fail,
            )
        return self.BRANCHES(
            self.port,
            self.application,
            self.settings,
            self.counters,
            on_final=self.on_final,
            on_durable=self.on_durable,
            fail=self.fail,
            safe_depth=self.replica.get_safe_depth(),
        )

    def wire_up(self) -> None:
        """Say which part takes which message and which timer."""
        self.handlers: dict[type[Any], Callable[[Peer, Any], None]] = {
            Hello: self.peers.on_hello,
            Tip: self.peers.on_tip,
            GetDecisions: self.sync.on_get_decisions,
            Decisions: self.sync.on_decisions,
            Pruned: self.sync.on_pruned,
            Transactions: self.gossip.on_transactions,
            GetState: self.offers.on_get_state,
            State: self.states.on_state,
            GetChunk: self.offers.on_get_chunk,
            Chunk: self.states.on_chunk,
        }
        self.timers: dict[Timer, Callable[[], None]] = {
            WANT_TIMER: self.execution.answer_want,
            COMMIT_TIMER: self.execution.on_commit_timer,
            HELLO_TIMER: self.peers.on_hello_timer,
            TIP_TIMER: self.peers.on_tip_timer,
            SYNC_TIMER: self.sync.on_timer,
            STATE_TIMER: self.states.on_timer,
            GOSSIP_TIMER: self.gossip.on_timer,
            AGAIN_TIMER: self.gossip.on_again_timer,
            READ_TIMER: self.reads.on_timer,
        }

    def open_up(self, open: Open) -> None:
        """Let strangers in."""
        self.discovery = discovery = self.DISCOVERY(
            self.port, self.peers, self.counters, self.application.genesis, open
        )
        self.peers.on_blamed, self.peers.on_foreign = discovery.blame, discovery.on_foreign
        self.gossip.on_fresh = discovery.on_items
        self.interpreter.on_news = discovery.on_block
        self.timers[DISCOVERY_TIMER] = discovery.on_timer
        self.handlers |= {
            Here: discovery.on_here,
            GetPeers: discovery.on_get_peers,
            PeerList: discovery.on_peer_list,
        }

    # ---- calls of the world

    def start(self, journal: list[bytes]) -> None:
        """Begin from the application's durable state and the journal's records."""
        self.port.run("start", self.on_start, journal)

    def connected(self, peer: Address, meeting: Meeting | None = None) -> None:
        """A link to a peer is up, and the peer has proved this identity.

        In open networks `meeting` says how it came about.
        """
        self.port.run("connected", self.on_connected, peer, meeting)

    def undialled(self, place: Place, reason: str, found: Address | None = None) -> None:
        """In open networks: an attempt came to nothing; `found` is who answered, if anybody."""
        if self.discovery is not None:
            self.port.run("undialled", self.discovery.on_undialled, place, reason, found)

    def admit(self, host: bytes) -> str | None:
        """In open networks: why a connection from a host is not to be answered; None if it is."""
        if self.discovery is None or self.port.stopped:
            return "this node talks to nobody"
        return self.discovery.admit(host)

    def release(self, host: bytes) -> None:
        """In open networks: a connection that was admitted has ended."""
        if self.discovery is not None:
            self.discovery.release(host)

    def disconnected(self, peer: Address) -> None:
        """The link to a peer is down."""
        self.port.run("disconnected", self.on_disconnected, peer)

    def received(self, peer: Address, frame: bytes) -> None:
        """A frame came from a connected peer."""
        # `port.run` written out, as for timers, since this is most of what a node is called for.
        if not self.port.stopped:
            try:
                self.on_frame(peer, frame)
            except Exception as error:
                self.port.on_bug("received", error)

    def timeout(self, timer: Timer) -> None:
        """A timer that was set through the port fell."""
        if not self.port.stopped:
            try:
                own = self.timers.get(timer)
                if own is not None:
                    own()
                else:
                    self.interpreter.timeout(timer)
            except Exception as error:
                self.port.on_bug("timeout", error)

    def submit(
        self, items: list[bytes], done: Callable[[list[tuple[Hash, str | None]]], None]
    ) -> None:
        """Admit items of a client; `done` gets (identity, None or why not) of each, in order."""
        self.port.run("submit", self.gossip.submit, items, done)

    def read(self, done: Callable[[Height], None]) -> None:
        """Ask to read the application's state so that all that was acknowledged before is seen.

        `done` is called once, perhaps at once: with the final height that holds it all and that the
        application is at, or with -1 where that cannot be told here and now.
        """
        self.port.run("read", self.reads.read, done)

    def ban(self, who: str, seconds: int, reason: str) -> bool:
        """In open networks: talk to an identity or an address no more. Raises Invalid."""
        self.get_discovery().ban(who, seconds, reason)
        return True

    def unban(self, who: str) -> bool:
        """In open networks: end a ban; whether there was one. Raises Invalid."""
        return self.get_discovery().unban(who)

    def get_discovery(self) -> Discovery:
        if self.discovery is None:
            raise Invalid("the peers of this network are configured; only open networks have bans")
        return self.discovery

    def hand_over(self, to: Address | None = None) -> str:
        """Ask the engine to let another member lead; return why not, or "" if it tries."""
        reasons: list[str] = []
        self.port.run("hand over", lambda: reasons.append(self.interpreter.hand_over(to)))
        return reasons[0] if reasons else "this node has stopped"

    def leads(self) -> bool:
        """Whether this node alone proposes at present."""
        return self.replica.leader == self.me and not self.port.stopped

    def write_rest(self) -> None:
        """Write down what the engine can do without, before a stop that is no crash."""
        self.port.run("write", self.interpreter.write_rest)

    def stop(self) -> None:
        """Take no more inputs and say nothing more; the world then closes journal and store."""
        self.port.stopped = True
        self.interpreter.stop()

    def get_status(self) -> NodeStatus:
        """Describe the node for people and programs; changes nothing."""
        now = self.port.now()
        execution, situation = self.execution, self.replica.get_situation(now)
        ready, queued, size = self.application.counts()
        due = situation.next_timeout
        return NodeStatus(
            address=self.me,
            engine=self.engine,
            genesis=self.application.genesis,
            version=self.software,
            height=execution.final.height,
            durable=execution.durable,
            block=execution.final.block,
            block_time_ms=execution.latest.timestamp_ms,
            latest=execution.latest.height,
            latest_block=execution.latest.block,
            syncing_to=self.sync.get_target(),
            situation=situation,
            why_stalled=self.explain(now, situation),
            next_timeout_ms=None if due is None else max(due[1] - now, 0) // 1_000_000,
            peers=self.get_peers(),
            validators=self.application.members(execution.final.height + 1),
            pool_ready=ready,
            pool_queued=queued,
            pool_bytes=size,
            counters=self.get_counters(),
            bans=[] if self.discovery is None else self.discovery.get_bans(),
            known_addresses=0 if self.discovery is None else len(self.discovery.book.entries),
            facts=self.replica.get_facts(),
            alarm=self.replica.get_alarm(),
        )

    def explain(self, now: Nanoseconds, situation: Situation) -> str:
        """Say in one line what this node waits for."""
        execution = self.execution
        if self.replica.OPEN:
            return explain_open(
                failed=self.failed,
                alarm=self.replica.get_alarm(),
                situation=situation,
                connected=len(self.peers.connected),
            )
        return explain(
            now=now,
            me=self.me,
            failed=self.failed,
            situation=situation,
            members=self.members,
            peers=self.peers,
            syncing_to=self.sync.get_target(),
            delivered=execution.delivered,
            final=execution.final.height,
            durable=execution.durable,
            has_work=execution.compute_wait_ms() is not None,
            held_back=bool(execution.unapplied),
            lack=self.sync.get_lack(),
        )

    def get_peers(self) -> list[PeerStatus]:
        peers = self.peers.get_status()
        return peers if self.discovery is None else [self.discovery.describe(p) for p in peers]

    def get_counters(self) -> dict[str, int]:
        """What was counted since the start, the engine's drops among it."""
        counters = dict(self.counters)
        for reason, n in self.replica.dropped.items():
            counters[f"engine_dropped_{reason}"] = n
        return counters

    # ---- inputs

    def on_connected(self, peer: Address, meeting: Meeting | None) -> None:
        discovery = self.discovery
        if discovery is None or (meeting and discovery.on_connected(peer, meeting)):
            self.peers.connect(peer)

    def on_disconnected(self, peer: Address) -> None:
        self.peers.disconnect(peer)
        if self.discovery is not None:
            self.discovery.on_disconnected(peer)
        if self.replica.OPEN:
            self.interpreter.parted(peer)

    def on_start(self, journal: list[bytes]) -> None:
        height = self.execution.final.height
        try:
            records = self.replica.read_journal(journal, self.decode_record, height)
        except MsgspecError as error:
            self.fail(f"journal: a record cannot be read by engine {self.engine!r}: {error}")
            return
        base = self.make_base()
        self.started = True
        self.port.log(
            "info", "node starts", height=height, records=len(journal), engine=self.engine
        )
        try:
            self.interpreter.start(base, records)
        except Corrupt as error:
            # The journal was cut at a height that this store no longer has, so what this member
            # voted for since then is not known: going on could mean to vote twice.
            self.fail(f"{error}: the store ends at height {height} and is older than the journal")
        if self.discovery is not None and not self.failed:
            self.discovery.start()

    def make_base(self) -> Base:
        """Describe where the application stands."""
        execution, members = self.execution, self.application.members
        height = execution.final.height
        return Base(
            height=height,
            envelope=execution.envelope,
            certificate=execution.certificate,
            payloads=execution.payloads,
            members=members(height + 1),
            next_members=members(height + 2),
            own_members=members(max(height, 1)),
        )

    def on_frame(self, address: Address, frame: bytes) -> None:
        peer = self.peers.known.get(address)
        if peer is None or not peer.connected:
            return
        now = peer.heard_at = self.port.now()
        size = len(frame)
        if not peer.bytes.take(size, now):
            self.peers.strike(peer, "bytes")
            return
        if size > self.max_frame_bytes:
            limit = self.max_frame_bytes
            self.peers.malform(peer, f"a frame of {size} bytes, expected at most {limit}")
            return
        try:
            message = self.decode(frame)
        except (MsgspecError, ValueError) as error:
            self.peers.malform(peer, str(error))
            return
        handler = self.handlers.get(type(message))
        if not peer.greeted and type(message) is not Hello:
            self.count("dropped_before_hello")
        elif handler is not None:
            handler(peer, message)
        elif len(self.interpreter.waiting) > self.max_waiting:
            # The disk does not keep up.
            self.count("dropped_congested")
        else:
            self.peers.show(peer, self.replica.get_shown(message))
            self.interpreter.receive(now, address, message)

    # ---- what the parts tell each other

    def send(self, to: Address, frame: bytes) -> None:
        if to in self.peers.connected:
            self.port.send(to, frame)
        else:
            self.count("unsent")

    def broadcast(self, frame: bytes) -> None:
        port = self.port.port
        for address in self.peers.connected:
            port.send(address, frame)

    def on_greeted(self, peer: Peer) -> None:
        if self.discovery is not None:
            self.discovery.on_greeted(peer.address)
        self.gossip.welcome(peer)
        if self.replica.OPEN:
            self.interpreter.met(peer.address)

    def on_height(self, height: Height) -> None:
        # While nothing is missing, who is no further than we are changes nothing.
        if height > self.execution.final.height or self.sync.is_busy():
            self.sync.update()

    def on_final(self, executed: Executed) -> None:
        self.follow_members()
        self.peers.on_final(executed.height)
        self.reads.on_final()
        if self.sync.active or self.sync.buffer:
            self.sync.update()

    def on_durable(self, height: Height) -> None:
        self.interpreter.on_durable(height)
        if self.sync.buffer:
            self.sync.update()

    def on_installed(self, executed: Executed) -> None:
        """The application has taken over the state after a height."""
        decision = self.application.decision(executed.height)
        assert decision is not None
        self.execution.install(executed, *decision)
        if self.execution.on_answers is not None:
            # Some wait for what the heights did that this node will never execute.
            self.execution.on_answers(executed)
        self.offers.forget()
        self.follow_members()
        self.interpreter.install(self.make_base())
        self.execution.resume()
        self.execution.settle()
        self.peers.on_final(executed.height)
        self.reads.on_final()
        self.port.committed(executed.height)

    def on_leader(self) -> None:
        """Somebody else proposes alone from now on, or it is not known who."""
        leader = self.interpreter.leader
        if leader is not None:
            who = "this member" if leader == self.me else f"0x{leader.hex()}"
            self.port.log("info", "leader", who=who)
        self.gossip.on_leader()

    def on_accuse(self, effect: Accuse) -> None:
        self.count("accusations")
        self.port.log("warning", "member broke the protocol", who=f"0x{effect.who.hex()}")
        self.accusations.append(effect)
        del self.accusations[:-MAX_ACCUSATIONS]

    def on_recall(self, effect: Recall) -> None:
        peer = self.peers.connected.get(effect.to)
        if peer is not None:
            self.sync.serve(peer, effect.first, effect.count, bodies=effect.bodies, recalled=True)

    def on_blame(self, effect: Blame) -> None:
        """An engine holds something against a peer that it cannot prove to others."""
        peer = self.peers.known.get(effect.who)
        if peer is not None and peer.connected:
            self.peers.blame(peer, effect.reason)

    def follow_members(self) -> None:
        """Read who agrees on the height after the final one."""
        members = self.application.members(self.execution.final.height + 1)
        if members is not self.validators:
            self.validators = members
            self.members = [m.address for m in members]
            if self.started:
                self.peers.look_for_outsiders()

    def is_member(self, address: Address) -> bool:
        """Whether somebody takes part in agreeing on the height after the final one."""
        return address in self.members

    def is_open_to(self, address: Address) -> bool:
        """Only members and configured peers are talked to, unless membership is open."""
        if self.discovery is not None:
            return True
        return address in self.configured or address in self.members

    def is_complete(self) -> bool:
        """Whether every other member is connected; where anybody may join, one never knows."""
        if self.replica.OPEN:
            return False
        connected = self.peers.connected
        return all(a in connected or a == self.me for a in self.members)

    def fail(self, reason: str) -> None:
        """Stop for good, loudly."""
        if self.port.stopped:
            return
        self.failed = reason
        self.interpreter.stop()
        self.port.log("error", "node failed", reason=reason)
        self.port.fail(reason)

    def count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
