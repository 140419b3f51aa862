"""Members of a Raft network join and leave by `quorate vote`: old and new sets are joint."""

import pytest

from clients.network import account_at
from e2e.stage import Stage, poll
from e2e.test_membership import expect_powers, read_key
from ports import free_port_blocks

pytestmark = pytest.mark.network


def test_a_member_joins_and_one_leaves_by_votes(three: Stage) -> None:
    three.rpc, three.p2p, three.metrics = free_port_blocks(4, 3)
    three.up("--engine", "raft")
    made = three.run(
        *("add", f"validator-3=127.0.0.1:{three.p2p + 3}"),
        *("--network", str(three.folder / "network.toml")),
    )
    assert f"quorate vote validator-3 1 --dir {three.folder}" in made.out
    for index in range(3):
        three.do("stop", str(index))
        three.do("start", str(index))
        three.pay(index, account_at(1))
    three.do("start", "3")
    names = [read_key(three, index).address.lower() for index in range(4)]

    first = three.do("vote", "validator-3", "2", "--by", "0")
    assert "Not decided yet: 1 of 3 for it, 2 needed." in first.text
    decided = three.do("vote", "validator-3", "2")
    assert "validator-0 has voted so already." in decided.text
    assert "validator-1 votes, and that decides it." in decided.text
    joined = dict.fromkeys(names[:3], 1) | {names[3]: 2}
    expect_powers(three, 3, joined)
    assert "has power 2 already" in three.do("vote", "3", "2", ok=False).text

    # Five powers: the newcomer and one of the others decide alone.
    three.do("kill", "0")
    three.do("kill", "1")
    three.pay(2, account_at(1))
    three.do("start", "0")
    three.do("start", "1")
    gone = three.do("vote", names[0], "0", "--by", "3", "--by", "2")
    assert "validator-0 is no validator any more, from height" in gone.text
    expect_powers(three, 2, {name: power for name, power in joined.items() if name != names[0]})
    three.expect("why-stalled", "4 of 4 votes, a decision needs 3")
    three.do("kill", "0")
    three.pay(1, account_at(1))
    three.do("start", "0")
    poll(lambda: three.height(0) >= three.height(1), "who left follows the chain")
