"""As a program: the digests of a few short runs, to compare compiled modules with their sources.

    python -m quorate.cli.sample [FOLDER]

With FOLDER, which holds a build, by compiled modules; otherwise by the sources.
"""

import json
import sys
from pathlib import Path

from quorate import compiled

__all__ = ["SEEDS", "compute_digests"]

SEEDS = range(4)
DURATION_MS = 2000
BUG = "small-quorum"


def compute_digests() -> dict[str, str]:
    """Return the digest of each run, by its name."""
    # Not before it is settled what these modules come from.
    from quorate.cli.simulated import Setup, build_plan
    from quorate.simulator.run import run

    digests = {}
    for engine in ("tendermint", "raft"):
        for seed in SEEDS:
            plan = build_plan(Setup(engine=engine, duration_ms=DURATION_MS), seed)
            digests[f"{engine} {seed}"] = run(plan).digest
    plan = build_plan(Setup(bug=BUG, duration_ms=DURATION_MS), 0)
    digests[BUG] = run(plan).digest
    return digests


def main() -> None:
    if len(sys.argv) > 1 and not compiled.take(Path(sys.argv[1])):
        sys.exit("error: modules were imported before they could be replaced")
    print(json.dumps(compute_digests()))


if __name__ == "__main__":
    main()
