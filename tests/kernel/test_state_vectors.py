"""The GeneralStateTests of ethereum-tests, through the executor that blocks go through.

Every `STRIDE`-th file by default; `QUORATE_ALL_VECTORS=1` runs them all (two minutes).
"""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from kernel.vectors import vectors
from quorate._kernel import transition

STRIDE = 25
FORKS = frozenset({"Paris", "Shanghai", "Cancun", "Prague", "Osaka"})
# A contract created over an account that has storage but neither code nor nonce (EIP-7610): revm
# does not look at storage there, and a genesis with such an account is refused, so no chain of ours
# can come to it.
UNREACHABLE = frozenset(
    {
        "RevertInCreateInInitCreate2Paris",
        "RevertInCreateInInit_Paris",
        "create2collisionStorageParis",
        "dynamicAccountOverwriteEmpty_Paris",
        "InitCollisionParis",
    }
)


def run_case(name: str, case: dict[str, Any], counts: Counter[str]) -> list[str]:
    """Return what disagrees; count what ran and what did not."""
    wrong = []
    alloc, env = json.dumps(case["pre"]).encode(), json.dumps(case["env"]).encode()
    chain_id = int(case.get("config", {}).get("chainid", "0x1"), 16)
    for fork, posts in case["post"].items():
        for index, post in enumerate(posts):
            raw = bytes.fromhex(post["txbytes"][2:])
            if fork not in FORKS:
                counts["fork before the merge"] += 1
            elif raw[:1] == b"\x03":
                counts["blob transaction"] += 1
            elif name in UNREACHABLE:
                counts["EIP-7610"] += 1
            else:
                counts["ran"] += 1
                root, logs, _, skipped = transition(fork, alloc, env, [raw], chain_id)
                if "0x" + root.hex() != post["hash"] or "0x" + logs.hex() != post["logs"]:
                    found = f"root {root.hex()}, expected {post['hash']}"
                    wrong.append(f"{name} {fork} {index}: {found}")
                elif bool(skipped) != bool(post.get("expectException")):
                    wrong.append(f"{name} {fork} {index}: skipped {skipped}")
    return wrong


def test_general_state_tests_agree() -> None:
    folder = vectors("ethereum-tests/GeneralStateTests")
    files = sorted(Path(folder).rglob("*.json"))
    stride = 1 if os.environ.get("QUORATE_ALL_VECTORS") else STRIDE
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for path in files[::stride]:
        for name, case in json.loads(path.read_bytes()).items():
            wrong += run_case(name, case, counts)
    print(f"GeneralStateTests: {len(files[::stride])} of {len(files)} files, {dict(counts)}")
    assert counts["ran"] > 0
    assert not wrong, "\n".join(wrong[:20])
