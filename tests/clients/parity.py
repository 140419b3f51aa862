"""What passes on Anvil, and what passes here: every client suite against both, side by side.

    python tests/clients/parity.py [--only web3py --only viem ...] [--details]

Each suite meets four validators and Anvil one after the other, each fresh. A test that passes on
Anvil and not here is named below its suite, and makes the exit code 1, unless it passes where a
network for development has the keys. Tests that CI omits run here too; their files say why.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src"), str(ROOT / "benchmarks")]

from targets import find_anvil, wait_until_it_answers  # noqa: E402

from clients.network import JS, start_network, stop_network  # noqa: E402
from ports import free_port_block  # noqa: E402

SUITE_S = 900
PYTHON = {
    "web3py": "test_web3py.py",
    "web3py's modules, node's keys": "test_web3py_modules.py",
    "web3py's module tests": "test_web3py_modules.py",
    "cast, forge, Hardhat": "test_tools.py",
    "MetaMask": "test_metamask.py",
}
JAVASCRIPT = {
    "ethers": "ethers.test.mjs",
    "viem": "viem.test.mjs",
    "OpenZeppelin, Uniswap, 4337": "protocols.test.mjs",
    "Permit2": "permit2.test.mjs",
}
# Tests of web3.py change transactions that wait: a block a second leaves them time for it.
SLOW = "web3py's module tests"
# There they change them while blocks wait to be asked for; the node signs.
UNLOCKED = "web3py's modules, node's keys"
GETH_CHAIN_ID = "131277322940537"

Results = dict[str, str]
"""Name of a test -> passed, failed or skipped."""


@contextmanager
def quorate(*options: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "network"
        try:
            yield start_network(folder, *options).http[0]
        finally:
            stop_network(folder)


@contextmanager
def anvil(*options: str) -> Iterator[str]:
    port = free_port_block(1)
    process = subprocess.Popen([str(find_anvil()), "--port", str(port), "--silent", *options])
    try:
        wait_until_it_answers(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def run_suite(name: str, url: str, free: str, artefacts: Path) -> Results:
    """Run one suite against a node; return how its tests ended."""
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        places = {
            "QUORATE_TEST_RPC": url,
            "QUORATE_TEST_FREE": free,
            "QUORATE_TEST_ALL": "1",
            "QUORATE_TEST_FORM": "dev" if name == UNLOCKED else "wallet",
            "QUORATE_RPC": url,
            "QUORATE_WS": url.replace("http", "ws", 1),
            "QUORATE_ARTEFACTS": str(artefacts),
        }
        if name in PYTHON:
            file = ROOT / "tests" / "clients" / PYTHON[name]
            command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", str(file)]
        else:
            reporter = ["--test-reporter=junit", f"--test-reporter-destination={report}"]
            command = ["node", "--test", "--test-timeout=300000", *reporter, JAVASCRIPT[name]]
        with (Path(place) / "output").open("w+") as output:
            subprocess.run(
                command,
                cwd=ROOT if name in PYTHON else JS,
                env=os.environ | places,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=SUITE_S,
                check=False,
            )
            if not report.exists() or not report.stat().st_size:
                output.seek(0)
                raise SystemExit(f"{name} against {url} did not run:\n{output.read()[-2000:]}")
        return read_report(report)


def read_report(report: Path) -> Results:
    found: Results = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "passed"
        if kinds & {"failure", "error"}:
            outcome = "failed"
        elif "skipped" in kinds:
            outcome = "skipped"
        place = case.get("classname", "").rpartition(".")[2]
        found[f"{place} {case.get('name')}".strip()] = outcome
    return found


def compare(name: str, artefacts: Path) -> tuple[Results, Results]:
    """Run a suite against four validators and against Anvil, each started for it."""
    columns = []
    chain_id = ["--chain-id", GETH_CHAIN_ID]
    sides: list[tuple[Callable[..., object], dict[str, list[str]], list[str]]] = [
        (
            quorate,
            {SLOW: ["--block-time", "1000", *chain_id], UNLOCKED: ["--dev", *chain_id]},
            ["--gas", "free"],
        ),
        (
            anvil,
            {SLOW: ["--block-time", "1", *chain_id], UNLOCKED: chain_id},
            ["--gas-price", "0", "--base-fee", "0"],
        ),
    ]
    for start, special, free in sides:
        with ExitStack() as stack:
            url = stack.enter_context(start(*special.get(name, [])))  # type: ignore[arg-type]
            gratis = ""
            if name == "MetaMask":
                gratis = stack.enter_context(start(*free))  # type: ignore[arg-type]
            columns.append(run_suite(name, str(url), str(gratis), artefacts))
    return columns[0], columns[1]


def count(results: Results) -> str:
    outcomes = list(results.values())
    return "/".join(str(outcomes.count(kind)) for kind in ("passed", "failed", "skipped"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [*PYTHON, *JAVASCRIPT]
    parser.add_argument("--only", action="append", choices=names, help="a suite; may be repeated")
    parser.add_argument("--details", action="store_true", help="name what passes nowhere, too")
    options = parser.parse_args()
    worse, unlocked = False, set[str]()
    with tempfile.TemporaryDirectory() as place:
        artefacts = Path(place)
        subprocess.run(["node", str(JS / "compile.mjs"), str(artefacts)], check=True)
        print(f"{'passed/failed/skipped':32}{'Quorate':>14}{'Anvil':>14}{'s':>6}", flush=True)
        for name in options.only or names:
            began = time.monotonic()
            ours, theirs = compare(name, artefacts)
            took = time.monotonic() - began
            print(f"{name:32}{count(ours):>14}{count(theirs):>14}{took:6.0f}", flush=True)
            failed = sorted(test for test in {**theirs, **ours} if ours.get(test) != "passed")
            if name == UNLOCKED:
                unlocked = {test.replace("[dev", "[wallet") for test in ours if test not in failed}
            for test in failed:
                passes_there = theirs.get(test) == "passed"
                worse |= passes_there and test not in unlocked
                if passes_there and test in unlocked:
                    print(f"  with a node's keys only: {test}", flush=True)
                elif passes_there:
                    print(f"  only Anvil: {test}", flush=True)
                elif options.details:
                    print(f"  neither:    {test}", flush=True)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
