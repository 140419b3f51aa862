"""Prometheus metrics of one validator.

Names that dashboards know already are kept: Besu's `ethereum_*`, and CometBFT's set under the
prefix `quorate_`. Most values are read when somebody asks; only what cannot be read afterwards
(durations, sizes) is counted as it happens.
"""

import resource
import time
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.registry import Collector

from quorate.base.types import Address, Height
from quorate.node.status import NodeStatus

__all__ = ["Metrics", "Observed", "PeerTraffic", "get_best_known"]

INTERVALS_S = (0.002, 0.004, 0.008, 0.016, 0.03, 0.06, 0.12, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 60)
SIZES = (256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20)


class PeerTraffic(Protocol):
    """Totals of one peer."""

    received_bytes: int
    sent_bytes: int
    dropped_frames: int


class Observed(Protocol):
    """Where the values come from."""

    def get_status(self) -> NodeStatus: ...
    def get_traffic(self) -> dict[str, PeerTraffic]:
        """By the peer's name."""
        ...

    def get_refused(self) -> dict[str, int]:
        """Connections that came to nothing, by reason."""
        ...

    def get_silent_members(self) -> int:
        """Members whose vote is not in the last certificate."""
        ...

    def get_accused(self) -> int:
        """Members against whom there is evidence."""
        ...

    def get_backlog(self) -> dict[str, int]:
        """Calls that wait for a thread, by lane."""
        ...

    def get_hashes(self) -> int: ...
    def get_syncs(self) -> tuple[int, float]:
        """Journal syncs since the start, and the seconds they took."""
        ...


class Tally:
    """A histogram that costs a block next to nothing until somebody asks for it."""

    __slots__ = ("bounds", "counts", "name", "text", "total")

    def __init__(self, name: str, text: str, bounds: tuple[float, ...]) -> None:
        """`bounds`: the greatest value that each bucket but the last holds, in order."""
        self.name, self.text, self.bounds = name, text, bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def collect(self) -> HistogramMetricFamily:
        """Return what was observed, each bucket with all below it, as Prometheus wants them."""
        names = [*(str(float(bound)) for bound in self.bounds), "+Inf"]
        buckets = list(zip(names, accumulate(self.counts), strict=True))
        return HistogramMetricFamily(self.name, self.text, buckets=buckets, sum_value=self.total)


class Metrics:
    """The registry of one node, and what is observed as it happens."""

    def __init__(self, observed: Observed) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(StatusCollector(observed))
        self._block_at: float | None = None
        self._round_at: float | None = None
        self._round: tuple[Height, int] = (0, 0)
        self._lag_s = 0.0
        registry = self.registry
        self.block_interval = Tally(
            "quorate_consensus_block_interval_seconds",
            "Time between this and the last block",
            INTERVALS_S,
        )
        self.round_duration = Tally(
            "quorate_consensus_round_duration_seconds",
            "Time from the first timer of a round to the next round or block",
            INTERVALS_S,
        )
        self.block_size = Tally(
            "quorate_consensus_block_size_bytes", "Size of the payloads of a block", SIZES
        )
        self.last_size = self.num_txs = self.total_txs = self.missed_blocks = 0
        registry.register(BlockCollector(self))
        self.lag = Gauge(
            "quorate_loop_lag_seconds",
            "Longest delay of the event loop since the last scrape",
            registry=registry,
        )

    def on_block(self, items: int, size_bytes: int, *, missed: bool = False) -> None:
        """A height became final here; `missed` without a vote of this validator."""
        now = time.monotonic()
        if self._block_at is not None:
            self.block_interval.observe(now - self._block_at)
        self._block_at = now
        self.block_size.observe(size_bytes)
        self.last_size, self.num_txs = size_bytes, items
        self.total_txs += items
        self.missed_blocks += missed
        if self._round_at is not None:
            self.round_duration.observe(now - self._round_at)
            self._round_at = None

    def on_timer(self, height: Height, round: int) -> None:
        """The engine set a timer of this round; the first one marks its beginning."""
        if (height, round) <= self._round:
            return
        now = time.monotonic()
        if self._round_at is not None:
            self.round_duration.observe(now - self._round_at)
        self._round, self._round_at = (height, round), now

    def on_lag(self, seconds: float) -> None:
        self._lag_s = max(self._lag_s, seconds)

    def render(self) -> bytes:
        """Return the text of all metrics. Call on the event loop."""
        self.lag.set(self._lag_s)
        self._lag_s = 0.0
        return generate_latest(self.registry)


class BlockCollector(Collector):
    """Tells what was counted of blocks."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def collect(self) -> Iterator[Metric]:
        metrics = self.metrics
        for tally in (metrics.block_interval, metrics.round_duration, metrics.block_size):
            yield tally.collect()
        # Gauges, since a counter's name would end in _total, and CometBFT's do not.
        for name, text, value in (
            (
                "latest_block_size_bytes",
                "Size of the payloads of the last block",
                metrics.last_size,
            ),
            ("num_txs", "Transactions in the last block", metrics.num_txs),
            ("total_txs", "Transactions since the start", metrics.total_txs),
            (
                "validator_missed_blocks",
                "Blocks since the start whose certificate has no vote of this validator",
                metrics.missed_blocks,
            ),
        ):
            yield gauge(f"quorate_consensus_{name}", text, value)


class StatusCollector(Collector):
    """Reads the node when it is asked."""

    def __init__(self, observed: Observed) -> None:
        self.observed = observed

    def describe(self) -> list[Metric]:
        # Nothing in advance: the node may not have been started yet.
        return []

    def collect(self) -> Iterator[Metric]:
        status = self.observed.get_status()
        yield from collect_heights(status)
        yield from self.collect_members(status)
        yield from self.collect_peers()
        yield from self.collect_process()
        reasons = CounterMetricFamily(
            "quorate_node_events", "What the node counted since its start", labels=["event"]
        )
        for name, count in sorted(status.counters.items()):
            reasons.add_metric([name], count)
        yield reasons

    def collect_members(self, status: NodeStatus) -> Iterator[Metric]:
        power = sum(member.power for member in status.validators)
        silent = self.observed.get_silent_members()
        for name, text, value in (
            ("validators", "Members that agree on the next block", len(status.validators)),
            ("validators_power", "Their voting power", power),
            ("missing_validators", "Members without a vote in the last certificate", silent),
            (
                "byzantine_validators",
                "Members that broke the protocol, with evidence",
                self.observed.get_accused(),
            ),
        ):
            yield gauge(f"quorate_consensus_{name}", text, value)

    def collect_peers(self) -> Iterator[Metric]:
        received = CounterMetricFamily(
            "quorate_p2p_peer_receive_bytes", "Bytes received", labels=["peer"]
        )
        sent = CounterMetricFamily("quorate_p2p_peer_send_bytes", "Bytes sent", labels=["peer"])
        dropped = CounterMetricFamily(
            "quorate_p2p_peer_dropped_frames", "Frames dropped, queue full", labels=["peer"]
        )
        for name, traffic in sorted(self.observed.get_traffic().items()):
            received.add_metric([name], traffic.received_bytes)
            sent.add_metric([name], traffic.sent_bytes)
            dropped.add_metric([name], traffic.dropped_frames)
        refused = CounterMetricFamily(
            "quorate_p2p_refused_connections", "Connections refused", labels=["reason"]
        )
        for reason, count in sorted(self.observed.get_refused().items()):
            refused.add_metric([reason], count)
        yield from (received, sent, dropped, refused)

    def collect_process(self) -> Iterator[Metric]:
        backlog = GaugeMetricFamily(
            "quorate_lane_backlog", "Calls that wait for a thread", labels=["lane"]
        )
        for lane, count in sorted(self.observed.get_backlog().items()):
            backlog.add_metric([lane], count)
        yield backlog
        syncs, seconds = self.observed.get_syncs()
        yield CounterMetricFamily("quorate_journal_syncs", "Journal syncs", value=syncs)
        yield CounterMetricFamily(
            "quorate_journal_sync_seconds", "Time in journal syncs", value=seconds
        )
        yield CounterMetricFamily(
            "quorate_mining_hashes",
            "Nonces that were tried here for proofs of work",
            value=self.observed.get_hashes(),
        )
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield CounterMetricFamily(
            "process_cpu_seconds", "CPU time", value=usage.ru_utime + usage.ru_stime
        )
        yield gauge("process_resident_memory_bytes", "Resident memory", get_resident_bytes())


def collect_heights(status: NodeStatus) -> Iterator[Metric]:
    connected = sum(peer.connected for peer in status.peers)
    best = max(get_best_known(status), status.latest)
    for name, text, value in (
        ("ethereum_blockchain_height", "Height of the chain here", status.latest),
        ("quorate_chain_final_height", "Height that is final here", status.height),
        ("ethereum_best_known_block_number", "Greatest height known of any node", best),
        ("ethereum_peer_count", "Connected peers", connected),
        ("quorate_p2p_peers", "Connected peers", connected),
        ("quorate_consensus_height", "Height that is being agreed on", status.situation.height),
        ("quorate_consensus_rounds", "Its round", status.situation.round),
        ("quorate_consensus_block_syncing", "1: catching up", int(status.syncing_to is not None)),
        ("quorate_store_durable_height", "Height that survives a crash", status.durable),
        ("quorate_mempool_size", "Executable transactions that wait", status.pool_ready),
        ("quorate_mempool_queued", "Transactions that wait for another", status.pool_queued),
        ("quorate_mempool_size_bytes", "Bytes of transactions that wait", status.pool_bytes),
    ):
        yield gauge(name, text, value)
    for name, fact in sorted(status.facts.items()):
        yield gauge(f"quorate_{status.engine}_{name}", "As the engine says", fact)
    # Untyped, since a counter's name would end in _total, and CometBFT's names do not.
    for name, text, events in (
        ("mempool_failed_txs", "Transactions refused", ["transactions_refused"]),
        (
            "consensus_late_votes",
            "Messages about what was decided already",
            ["engine_dropped_late", "engine_dropped_stale"],
        ),
        ("consensus_duplicate_vote", "Votes that came again", ["engine_dropped_duplicate"]),
    ):
        value = sum(status.counters.get(event, 0) for event in events)
        yield UnknownMetricFamily(f"quorate_{name}", text, value=value)


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def get_best_known(status: NodeStatus) -> Height:
    """Return the greatest final height that this node has heard of."""
    heights = [peer.height for peer in status.peers]
    return max([status.height, status.syncing_to or 0, *heights])


def get_resident_bytes() -> int:
    """Return the resident memory of this process; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0


def name_of(names: dict[Address, str], address: Address) -> str:
    """Return a peer's name, or its address where it has none."""
    return names.get(address, "0x" + address.hex())
