"""Runs a detector on every machine of a world, over the same links, beside the nodes.

Probes go as datagrams: they need no connection, and are lost, late and cut off like frames, by
choices of their own, so that they shift nothing of the nodes'. A paused machine's detector stands
still with it, a crashed one's is gone. Disks and calls that are slow do not slow it: that is how a
gray failure hides.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from quorate.base.types import Nanoseconds
from quorate.simulator.detectors import get_detector, make_settings
from quorate.simulator.detectors.detector import (
    Changed,
    Detector,
    Effect,
    Probe,
    Send,
    SetTimer,
    Timer,
)
from quorate.simulator.detectors.quality import Monitor, Report

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine
    from quorate.simulator.network import Link
    from quorate.simulator.tape import Choices
    from quorate.simulator.world import World

__all__ = ["Detection"]

MAX_PROBES = 5_000_000
"""Of one run; a detector that sends more falls silent."""


class Way:
    """The choices of probes on one link, and how many were lost in a row."""

    __slots__ = ("delayed", "link", "lost", "lost_in_a_row", "tailed")

    def __init__(self, link: "Link", stream: Callable[[str], "Choices"]) -> None:
        self.link = link
        name = f"probe {link.source.index}>{link.target.index}"
        self.lost, self.delayed = stream(f"{name} loss"), stream(f"{name} delay")
        self.tailed = stream(f"{name} tail")
        self.lost_in_a_row = 0

    def compute_arrival(self, now: Nanoseconds) -> Nanoseconds | None:
        """Return when a probe arrives that is sent now, None if it is lost."""
        link = self.link
        rates = link.world.network.rates
        arrival: Nanoseconds | None = None
        if not link.blocked and not self.lost.chance(rates.loss):
            delay = link.base_ns + self.delayed.choose(rates.jitter_ns)
            if self.tailed.chance(rates.tail):
                delay *= rates.tail_factor
            arrival = now + delay * link.factor + link.penalty_ns
        if link.timing is not None:
            arrival = link.timing.admit(now, arrival, self.lost_in_a_row)
        self.lost_in_a_row = self.lost_in_a_row + 1 if arrival is None else 0
        return arrival


class Station:
    """The detector of one machine, through all lives of its node."""

    def __init__(self, detection: "Detection", machine: "Machine") -> None:
        self.detection, self.machine = detection, machine
        self.detector: Detector | None = None
        self.timers: dict[Timer, tuple[int, Nanoseconds]] = {}
        """The number in the queue of each, and when it falls by the machine's clock."""
        self.choices = machine.world.tape.stream(f"detector {machine.index}")

    def start(self) -> None:
        detection, machine = self.detection, self.machine
        peers = [m.index for m in detection.world.machines if m is not machine]
        self.timers = {}
        self.detector = detection.kind(machine.index, peers, self.choices, detection.settings)
        self.detector.start(machine.now())
        for station in detection.stations:
            if station is not self and station.detector is None:
                # Oracles know who is down when they begin.
                self.detector.on_fate(machine.now(), station.machine.index, False)
        self.carry_out(self.detector.take())

    def stop(self) -> None:
        self.detector = None
        self.timers = {}

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if type(effect) is Send:
                self.detection.send(self.machine.index, effect.to, effect.message)
            elif type(effect) is SetTimer:
                self.set_timer(effect.timer, effect.delay_ns)
            elif type(effect) is Changed:
                self.detection.change(self.machine.index, effect)

    def set_timer(self, timer: Timer, delay_ns: Nanoseconds) -> None:
        machine = self.machine
        world, clock = machine.world, machine.clock
        delay = clock.compute_delay(world.now, delay_ns)
        machine.later(max(delay, 1), self.on_timer, timer, world.queue.number + 1)
        self.timers[timer] = (world.queue.number, clock.now(world.now) + delay_ns)

    def on_drift(self) -> None:
        """The machine's clock has another rate: so have the timers that run."""
        now = self.machine.now()
        for timer, (_, deadline) in list(self.timers.items()):
            self.set_timer(timer, deadline - now)

    def on_timer(self, timer: Timer, number: int) -> None:
        detector = self.detector
        armed = self.timers.get(timer)
        if detector is not None and armed is not None and armed[0] == number:
            del self.timers[timer]
            detector.timeout(self.machine.now(), timer)
            self.carry_out(detector.take())

    def on_probe(self, sender: int, message: Probe) -> None:
        detector = self.detector
        if detector is not None:
            detector.receive(self.machine.now(), sender, message)
            self.carry_out(detector.take())

    def on_fate(self, process: int, up: bool) -> None:
        detector = self.detector
        if detector is not None:
            detector.on_fate(self.machine.now(), process, up)
            self.carry_out(detector.take())


class Detection:
    """The detectors of one run, and what watches them; it begins with the first machine's start."""

    def __init__(self, world: "World") -> None:
        plan = world.plan
        self.world, self.kind = world, get_detector(plan.detector)
        self.settings = make_settings(plan.detector, plan.detector_settings)
        self.monitor = Monitor(plan.detector, 0)
        self.stations: list[Station] = []
        self.ways: dict[tuple[int, int], Way] = {}
        self.probes = 0
        world.on_start.append(self.on_start)
        world.on_down.append(self.on_down)

    def set_up(self) -> None:
        """Lay out stations and ways, once all machines of the run are there."""
        world = self.world
        self.monitor = Monitor(world.plan.detector, len(world.machines))
        self.stations = [Station(self, machine) for machine in world.machines]
        stream = world.tape.stream
        self.ways = {ends: Way(link, stream) for ends, link in world.network.links.items()}

    def on_start(self, machine: "Machine", records: list[bytes]) -> None:
        if not self.stations:
            self.set_up()
        self.monitor.start(self.world.now, machine.index)
        for station in self.stations:
            if station.machine is not machine:
                station.on_fate(machine.index, True)
        self.stations[machine.index].start()

    def on_down(self, machine: "Machine") -> None:
        station = self.stations[machine.index] if self.stations else None
        if station is None or station.detector is None:
            return
        station.stop()
        self.monitor.stop(self.world.now, machine.index)
        for other in self.stations:
            other.on_fate(machine.index, False)

    def on_drift(self, machine: "Machine") -> None:
        if self.stations:
            self.stations[machine.index].on_drift()

    def send(self, source: int, to: int, message: Probe) -> None:
        way = self.ways.get((source, to))
        self.probes += 1
        if way is None or self.probes > MAX_PROBES:
            return
        now = self.world.now
        arrival = way.compute_arrival(now)
        if arrival is not None:
            target = self.stations[to]
            target.machine.later(arrival - now, target.on_probe, source, message)

    def change(self, observer: int, changed: Changed) -> None:
        self.monitor.change(self.world.now, observer, changed.process, changed.suspected)
        if self.world.trace is not None:
            verb = "suspects" if changed.suspected else "trusts"
            other = self.world.machines[changed.process]
            text = f"{verb} {other.name}"
            self.world.trace.add("note", observer, changed.process, cause=-1, name=verb, text=text)

    def report(self) -> Report:
        """Return what the detectors of the run were worth until now."""
        return self.monitor.report(self.world.now)
