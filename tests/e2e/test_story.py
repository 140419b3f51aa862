"""The promise of the README, acted out: crash, stall, explain, recover, continue."""

import signal
import subprocess
import sys
import threading

import pytest

from e2e.stage import Stage, account_at, make_environment, poll

pytestmark = pytest.mark.network


def test_network_survives_one_crash_explains_two_and_goes_on(stage: Stage) -> None:
    alice = account_at(0)
    stage.up()
    stage.pay(0, alice)
    genesis = stage.block(0, 0)

    stage.do("kill", "3")
    stage.pay(0, alice)
    stage.agree([0, 1, 2])

    stage.do("kill", "2")
    stuck = stage.send(0, alice)
    poll(
        lambda: "timeout" in stage.do("why-stalled", ok=False).out,
        "validators wait for a quorum",
    )
    stage.expect("why-stalled", "2 of 4", "needs 3", "validator-2", "validator-3")
    assert stage.do("why-stalled", ok=False).code == 1
    assert not stage.has_receipt(0, stuck)
    assert stage.do("status", ok=False).code == 1

    stage.do("start", "2")
    stage.settle(0, stuck)
    stage.pay(2, alice)

    stage.do("start", "3")
    stage.agree([0, 1, 2, 3])
    head = stage.height(0)
    top = stage.block(0, head)

    stage.do("down")
    assert stage.do("status", ok=False).code == 3
    assert "No validator runs" in stage.do("why-stalled", ok=False).out

    stage.up()
    assert stage.block(0, 0) == genesis
    assert stage.block(0, head) == top
    stage.pay(1, alice)
    stage.agree([0, 1, 2, 3])
    assert stage.height(0) > head


def test_no_transaction_is_lost_in_a_storm_of_kills(stage: Stage) -> None:
    """Validators 1 to 3 are killed in turn while transfers flow; validator 0 keeps serving."""
    alice = account_at(1)
    stage.up()
    stop = threading.Event()
    failures: list[BaseException] = []

    def storm() -> None:
        try:
            for turn in range(6):
                victim = str(1 + turn % 3)
                stage.do("kill", victim)
                stage.do("start", victim)
        except BaseException as error:
            failures.append(error)
        finally:
            stop.set()

    thread = threading.Thread(target=storm)
    thread.start()
    sent = []
    while not stop.is_set():
        sent.append(stage.send(0, alice))
        stage.settle(0, sent[-1])
    thread.join()
    assert not failures, failures
    for transaction in sent:
        stage.settle(3, transaction)
    stage.agree([0, 1, 2, 3])


def test_all_killed_at_once_continue_from_their_files(stage: Stage) -> None:
    alice = account_at(2)
    stage.up()
    for _ in range(3):
        paid = stage.pay(0, alice)
        signed = stage.sign(0, alice)
        left = stage.send(0, alice)
        for index in range(4):
            stage.do("kill", str(index))
        assert {row["state"] for row in stage.status()} == {"down"}
        stage.up()
        stage.settle(0, paid)
        # What was in a pool alone may be lost with all its holders.
        stage.send_again(0, signed)
        stage.settle(0, left)
    stage.pay(3, alice)
    stage.agree([0, 1, 2, 3])


def test_foreground_network_stops_on_interrupt(stage: Stage) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "quorate.cli",
            "up",
            *stage.up_options(),
            "--dir",
            str(stage.folder),
        ],
        env=make_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    out = ""
    for line in process.stdout:
        out += line
        if "quorate down" in line:
            break
    assert "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266" in out
    assert f"http://127.0.0.1:{stage.rpc}" in out
    stage.pay(0, account_at(3))
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    process.stdout.close()
    assert {row["state"] for row in stage.status()} == {"down"}
