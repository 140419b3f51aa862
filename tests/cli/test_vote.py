"""Who is voted on, by whom, and where votes are sent, before anything is sent."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.cli import vote
from quorate.cli.local import Local, Observation
from quorate.cli.output import Problem
from quorate.runtime.config import Network, ValidatorConfig
from runtime.worlds import STATUS

ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


def make_network(**changes: Any) -> Network:
    validators = [
        ValidatorConfig(
            name=name,
            address="0x" + bytes((0xA0 + index,)).hex() * 20,
            host="127.0.0.1",
            port=30303 + index,
            tls_sha256=bytes((index,)).hex() * 32,
            rpc_port=8545,
            metrics_port=9545,
        )
        for index, name in enumerate(("alice", "bob"))
    ]
    fields: dict[str, Any] = {"name": "t", "chain_id": 1, "validators": validators}
    return Network(**(fields | changes))


@pytest.mark.parametrize("text", ["bob", "1", "0x" + "a1" * 20])
def test_a_candidate_is_a_name_a_number_or_an_address(text: str) -> None:
    assert vote.find_candidate(make_network(), text) == ("bob", b"\xa1" * 20)


def test_a_candidate_may_be_one_that_the_file_does_not_name() -> None:
    assert vote.find_candidate(make_network(), ADDRESS) == (ADDRESS, bytes.fromhex(ADDRESS[2:]))
    lower = ADDRESS.lower()
    assert vote.find_candidate(make_network(), lower)[1] == bytes.fromhex(ADDRESS[2:])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("carol", "carol: expected an address .0x and 40 digits., or one of alice, bob"),
        ("2", "expected an address"),
        (ADDRESS[:-1], "expected an address"),
        (ADDRESS.replace("C51812", "c51812"), "a digit is wrong"),
        ("0x" + "g" * 40, "expected an address"),
    ],
)
def test_what_names_nobody_is_refused(text: str, said: str) -> None:
    with pytest.raises(Problem, match=said):
        vote.find_candidate(make_network(), text)


def test_networks_in_which_nobody_votes_say_so() -> None:
    vote.check_votes(make_network(engine="raft"))
    with pytest.raises(Problem, match="pow: anybody may take part"):
        vote.check_votes(make_network(engine="pow"))
    with pytest.raises(Problem, match="keyvalue: its validators are those of the genesis file"):
        vote.check_votes(make_network(engine="raft", application="keyvalue"))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8545"),
        ("0.0.0.0", "http://127.0.0.1:8545"),
        ("::", "http://[::1]:8545"),
        ("10.0.0.1", "http://10.0.0.1:8545"),
    ],
)
def test_votes_go_to_the_validator_of_this_host(host: str, url: str) -> None:
    validator = ValidatorConfig(
        name="a",
        address="0x" + "a0" * 20,
        host="10.0.0.1",
        port=1,
        tls_sha256="00" * 32,
        rpc_host=host,
        rpc_port=8545,
        metrics_port=9545,
    )
    assert vote.make_url(validator) == url


def test_votes_are_asked_of_the_validator_that_is_furthest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was started a moment ago would take an account's nonces for unused."""
    validators = [
        msgspec.structs.replace(make_network().validators[0], name=name) for name in "abcd"
    ]
    network = make_network(validators=validators)
    heights = {"a": None, "b": 3, "c": 5}

    def observe(index: int) -> Observation:
        validator = network.validators[index]
        latest = heights.get(validator.name)
        status = None if latest is None else msgspec.structs.replace(STATUS, latest=latest)
        pid = 7 if validator.name in heights else None
        return Observation(index, validator, pid, status, "")

    local = Local(tmp_path, network)
    monkeypatch.setattr(local, "observe_one", observe)
    assert vote.find_running(local).name == "c"
    heights["b"] = heights["c"] = None
    assert vote.find_running(local).name == "a"
    heights.clear()
    with pytest.raises(Problem, match="no validator runs here"):
        vote.find_running(local)


class Scripted(vote.Chain, frozen=True):
    """A chain on which one account is poor, and that answers as it is told."""

    def ask(self, method: str, *parameters: Any) -> Any:
        answers = {"eth_estimateGas": "0x186a0", "eth_gasPrice": "0x3", "eth_getBalance": "0x7"}
        return answers[method]


def test_a_vote_that_cannot_be_paid_says_what_it_costs() -> None:
    chain = Scripted("http://x", 1, is_free=False, is_dev=False)
    voter = vote.Voter("alice", b"\x01" * 32, b"\xa0" * 20)
    with pytest.raises(Problem, match="has 7 wei and its vote costs up to 750000: send it some"):
        vote.cast_vote(chain, voter, b"\xa1" * 20, 1)


def test_calls_are_packed_by_words() -> None:
    packed = vote.pack("vote(address,uint256)", b"\xa1" * 20, 5)
    assert packed == "0x5f74bbde" + "00" * 12 + "a1" * 20 + f"{5:064x}"


def test_the_heights_until_a_change_holds_are_filled(capsys: pytest.CaptureFixture[str]) -> None:
    heights = iter((5, 6, 7))
    sent: list[bytes] = []

    class Growing(vote.Chain, frozen=True):
        def ask(self, method: str, *parameters: Any) -> Any:
            return hex(next(heights)) if method == "eth_blockNumber" else "0x1"

        def send(self, secret: bytes, to: bytes, *rest: Any) -> int:
            sent.append(to)
            return 0

    voter = vote.Voter("alice", b"\x01" * 32, b"\xa0" * 20)
    vote.settle(Growing("http://x", 1, is_free=False, is_dev=False), voter, 7)
    assert sent == [voter.address] * 2
    assert "the old set is not needed any more" in capsys.readouterr().err
