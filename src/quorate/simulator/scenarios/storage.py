"""Catalogue S17 and S18: what disks do to those who trust them."""

from functools import partial

from quorate.simulator.machine import Machine
from quorate.simulator.plan import MS, SECOND
from quorate.simulator.scenarios.registry import scenario
from quorate.simulator.scenarios.stage import Stage
from quorate.simulator.timing import PartiallySynchronous
from quorate.simulator.verdict import Outcome

PARTIAL = PartiallySynchronous(delta_ns=50 * MS, gst_ns=8 * SECOND)


def is_writing(machine: Machine) -> bool:
    """Whether a machine has written something that is not durable yet."""
    return any(file.dirty < len(file.cache) for file in machine.disk.files.values())


@scenario(
    "S17",
    "torn-tail",
    "power is lost in the middle of a write",
    source="Alagappan and others, Protocol-Aware Recovery, FAST 2018",
    mitigation="the end of a journal that nobody was told of is cut off",
    timing=PARTIAL,
    breaks="durability",
)
def torn_tail(stage: Stage) -> Outcome:
    """Four validators lose power one after the other, each while it writes to its journal, and the
    last block of the file is left in zeros. Nothing was said on the strength of those bytes, so
    each journal is cut there and all go on. A journal that takes every bad check for damage leaves
    none that starts.
    """
    play = stage.build(bug="" if stage.mitigated else "refuse-torn-tail")
    play.submit_every(100, 8_000)
    play.run(1_000)
    for machine in play.machines:
        play.run(2_000, partial(is_writing, machine))
        machine.lose_power("zeros")
    refused = 0
    for machine in play.machines:
        play.faults.start(machine.index)
        refused += bool(machine.refused)
    stage.measure("validators that refuse to start", refused)
    play.run(4_000)
    return play.judge()


@scenario(
    "S17b",
    "rot-in-the-middle",
    "a bit rots in what was durable long ago",
    source="Alagappan and others, Protocol-Aware Recovery, FAST 2018",
    mitigation="damage in front of what is durable is refused; nothing is thrown away",
    timing=PARTIAL,
    breaks="durability",
)
def rot_in_the_middle(stage: Stage) -> Outcome:
    """One bit of a validator's journal flips, well before its end, and the machine restarts. To cut
    the journal there, as is right for a torn tail, would forget votes that others have counted.
    This validator refuses to start and says where the damage is; the other three go on.
    """
    play = stage.build(bug="" if stage.mitigated else "d2-truncate-anywhere")
    play.submit_every(100, 8_000)
    play.run(3_000)
    machine = play.machines[3]
    name = machine.disk.names()[-1]
    machine.disk.rot(name, machine.disk.get(name).settled // 2)
    play.faults.crash(3)
    play.run(500)
    play.faults.start(3)
    if machine.refused:
        stage.say(machine.refused)
    play.run(4_000)
    return play.judge()


@scenario(
    "S18",
    "failed-sync",
    "a sync fails once, and then reports success",
    source="Rebello and others, Can Applications Recover from fsync Failures?, ATC 2020",
    mitigation="a sync that failed is never made again: the node stops",
    timing=PARTIAL,
    breaks="durability",
)
def failed_sync(stage: Stage) -> Outcome:
    """The system cannot write a page of a validator's journal, says so once, and takes the page for
    clean. A second sync has nothing to do and succeeds. Whoever believes it has acknowledged a
    record that no disk holds, and after a power cut votes as if it had never voted. This validator
    stops; started again, it writes anew whatever it reads before it acts on it.
    """
    play = stage.build(bug="" if stage.mitigated else "d5-retry-sync")
    play.submit_every(100, 8_000)
    play.run(1_000)
    machine = play.machines[3]
    syncs = machine.syncs
    machine.disk.script("sync error")
    play.run(2_000, lambda: bool(machine.failed) or machine.syncs > syncs)
    stage.say(f"stopped: {machine.failed}" if machine.failed else "went on")
    if machine.node is None or machine.failed:
        play.run(100)
        play.faults.start(3)
    play.run(300)
    machine.lose_power("nothing")
    play.run(300)
    play.faults.start(3)
    play.run(3_000)
    return play.judge()
