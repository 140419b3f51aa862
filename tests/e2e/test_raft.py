"""A network whose members trust each other: Raft under the same ledger and commands."""

import pytest

from clients.network import account_at
from e2e.stage import Stage, poll

pytestmark = pytest.mark.network


def test_leader_is_killed_and_nothing_is_lost(three: Stage) -> None:
    assert "the members trust each other" in three.up("--engine", "raft").err
    sender = account_at(0)
    three.settle(0, three.send(0, sender))
    leader = find_leader(three)
    three.do("kill", str(leader))
    other = (leader + 1) % 3
    later = three.send(other, sender)
    three.settle(other, later)
    assert "leader  who=" in three.do("logs", str(other), "-n", "1000").out
    three.do("start", str(leader))
    poll(lambda: len({row["height"] for row in three.status()}) == 1, "all are as far")
    leader = find_leader(three)
    successor = (leader + 1) % 3
    # Who does not take over in time leaves the lead where it is, and may be asked again.
    three.expect(f"hand-over {successor}", f"validator-{successor} leads")
    # One that stops in good order hands over by itself.
    three.do("stop", str(successor))
    assert find_leader(three) != successor
    assert "true: everything that was written keeps the rules" in three.do("judge").out
    refused = three.do("verify", ok=False)
    assert refused.code
    assert "convinces a stranger" in refused.err


def test_leader_is_killed_again_and_again_and_every_answer_stays(three: Stage) -> None:
    three.up("--engine", "raft")
    answered: list[str] = []
    for number in range(2):
        leader = find_leader(three)
        follower = (leader + 1) % 3
        sender = account_at(number)
        under_way = [three.send(follower, sender) for _ in range(3)]
        three.do("kill", str(leader))
        for transaction in under_way:
            three.settle(follower, transaction)
        answered += under_way
        three.do("start", str(leader))
        poll(lambda: len({row["height"] for row in three.status()}) == 1, "all are as far")
    for index in range(3):
        for transaction in answered:
            three.settle(index, transaction)


def find_leader(stage: Stage) -> int:
    """Return who leads, as soon as somebody does."""
    found: list[int] = []

    def look() -> bool:
        found[:] = [row["index"] for row in stage.status() if row.get("step") == "leader"]
        return len(found) == 1

    poll(look, "one leads")
    return found[0]
