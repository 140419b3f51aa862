"""Digests of runs that are pinned: `python -m simulator.golden` (`make golden`) writes them anew.

A digest covers every event of a run. It changes whenever nodes, engines, the ledger or the
simulator behave differently in any of these runs, so a change that is meant to change nothing
leaves them alone, and one that is meant to refreshes them in the same commit.
"""

import json
from pathlib import Path

from quorate.cli.simulated import Setup, build_plan
from quorate.simulator.run import run

FILE = Path(__file__).with_name("golden.json")

SETUPS: dict[str, tuple[Setup, range]] = {
    "default": (Setup(duration_ms=4000), range(10)),
    "network, seven": (Setup(faults="network", validators=7, duration_ms=3000), range(10, 14)),
    "no faults": (Setup(faults="none", duration_ms=3000), range(14, 15)),
    "bug": (Setup(bug="small-quorum", duration_ms=3000), range(15, 17)),
    "real signatures": (Setup(signatures="real", duration_ms=2000), range(17, 18)),
    "ledger": (Setup(ledger=True, duration_ms=3000), range(18, 20)),
    "raft": (Setup(engine="raft", duration_ms=3000), range(20, 24)),
    "proof of work": (Setup(engine="pow", duration_ms=3000), range(24, 27)),
    "keys and values": (
        Setup(engine="raft", application="keyvalue", duration_ms=2000),
        range(27, 29),
    ),
}


def compute(name: str) -> dict[str, str]:
    """Return the digest of each seed of a group."""
    setup, seeds = SETUPS[name]
    return {str(seed): run(build_plan(setup, seed)).digest for seed in seeds}


def main() -> None:
    FILE.write_text(json.dumps({name: compute(name) for name in SETUPS}, indent=2) + "\n")


if __name__ == "__main__":
    main()
