"""Each rule of proof of work fires on what breaks it, and on nothing else."""

from typing import Any

from quorate.consensus.pow_difficulty import compute_next_target
from quorate.consensus.pow_headers import decode_header, make_header, put_nonce
from quorate.crypto.hashes import keccak256
from quorate.simulator.invariants.pow import PATIENCE_NS, PowRules, compute_following
from quorate.simulator.sealing import make_token

GENESIS = b"\x11" * 32
ME, OTHER = b"\x01" * 20, b"\x02" * 20
INTERVAL_MS, WINDOW = 1000, 4


class Bench:
    """The rules, a chain to feed them, and what they report."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.rules = PowRules(
            GENESIS,
            interval_ms=INTERVAL_MS,
            window=WINDOW,
            initial_difficulty=1 << 20,
            min_difficulty=1 << 8,
            verify_seal=lambda header, nonce, target: nonce == make_token(header, target),
            report=lambda property, message, who: self.found.append(property),
        )
        for who in (ME, OTHER):
            self.rules.start(who, GENESIS)

    def mine(self, parent: bytes = GENESIS, **changes: Any) -> bytes:
        """Return a header over a block that is known; `changes` replace its fields."""
        above = self.rules.blocks[parent]
        fields: dict[str, Any] = {
            "height": above.height + 1,
            "proposer": ME,
            "parent": parent,
            "timestamp_ms": above.time_ms + INTERVAL_MS,
            "target": above.next_target,
            "payload_hash": keccak256(b"payload"),
        }
        raw = make_header(**(fields | changes))
        return put_nonce(raw, make_token(raw, decode_header(raw).target))

    def add(self, parent: bytes = GENESIS, **changes: Any) -> bytes:
        """Let both machines validate a block; return its hash."""
        raw = self.mine(parent, **changes)
        self.rules.say(OTHER, [raw])
        for who in (ME, OTHER):
            self.rules.judge(who, 0, keccak256(raw), valid=True)
        return keccak256(raw)


def test_honest_chain_breaks_nothing() -> None:
    bench = Bench()
    tip = GENESIS
    for _ in range(20):
        tip = bench.add(tip)
        assert bench.rules.adopt(ME, tip) == bench.rules.adopt(OTHER, tip) == 0
        bench.rules.mine(ME, bench.mine(tip))
    bench.rules.decide(ME, bench.rules.blocks[tip].parent, 1)
    bench.rules.look(ME, 10 * PATIENCE_NS)
    assert bench.rules.judge_prefix([ME, OTHER]) == 0
    assert bench.found == []


def test_wrong_headers_are_reported() -> None:
    bench = Bench()
    first = bench.add()
    raw = bench.mine(first)
    for bad in (
        bench.mine(first, height=3),
        bench.mine(first, timestamp_ms=INTERVAL_MS),
        bench.mine(first, target=bench.rules.blocks[first].next_target + 1),
        raw[:52] + b"\x77" * 32 + raw[84:],
        put_nonce(raw, 5),
        raw[:-1],
        b"tendermint".ljust(180, b"\0"),
    ):
        bench.rules.say(ME, [bad])
    assert bench.found == ["header"] * 7


def test_tip_must_be_valid_and_heaviest() -> None:
    bench = Bench()
    one = bench.add()
    two = bench.add(one)
    fork = bench.add(proposer=OTHER)
    bench.rules.adopt(ME, two)
    bench.rules.adopt(ME, one)
    assert bench.found == ["heaviest chain"]
    bench.rules.adopt(ME, fork)
    assert bench.found == ["heaviest chain"] * 2
    unseen = bench.mine(two)
    bench.rules.say(OTHER, [unseen])
    bench.rules.adopt(ME, keccak256(unseen))
    assert bench.found[2:] == ["valid tip"]
    bench.rules.adopt(ME, b"\x99" * 32)
    assert bench.found[3:] == ["valid tip", "header"]


def test_heavier_block_must_be_followed_in_time() -> None:
    bench = Bench()
    one = bench.add()
    bench.rules.look(ME, PATIENCE_NS)
    assert bench.found == []
    bench.rules.look(ME, PATIENCE_NS + 1)
    assert bench.found == ["heaviest chain"]
    bench.rules.adopt(ME, one)
    bench.rules.look(ME, 9 * PATIENCE_NS)
    assert bench.found == ["heaviest chain"]


def test_block_is_judged_after_its_parent_and_alike_by_all() -> None:
    bench = Bench()
    one = bench.mine()
    bench.rules.say(OTHER, [one])
    two = bench.mine(keccak256(one))
    bench.rules.say(OTHER, [two])
    bench.rules.judge(ME, 0, keccak256(two), valid=True)
    assert bench.found == ["valid tip"]
    bench.rules.judge(OTHER, 0, keccak256(two), valid=False, timely=False)
    assert bench.found == ["valid tip"]
    bench.rules.judge(OTHER, 0, keccak256(two), valid=False)
    assert bench.found == ["valid tip", "one verdict"]
    bench.rules.judge_bans(OTHER, [keccak256(two), keccak256(one)])
    assert bench.found == ["valid tip", "one verdict", "banned block"]


def test_what_is_mined_told_adopted_and_final_has_rules_too() -> None:
    bench = Bench()
    one = bench.add()
    bench.rules.mine(ME, bench.mine(one))
    assert bench.found == ["mined on"]
    raw = bench.mine(one)
    bench.rules.tell(ME, raw)
    assert bench.found == ["mined on", "write first"]
    bench.rules.keep(ME, raw)
    bench.rules.tell(ME, raw)
    bench.rules.tell(OTHER, raw)
    assert len(bench.found) == 2
    bench.rules.adopt(ME, one, latest_ms=INTERVAL_MS - 1)
    assert bench.found[2:] == ["time"]
    bench.rules.decide(ME, one, 1)
    assert bench.found[3:] == ["final depth"]


def test_chains_that_stay_apart_have_no_common_prefix() -> None:
    bench = Bench()
    mine = other = GENESIS
    for _ in range(6):
        mine, other = bench.add(mine), bench.add(other, proposer=OTHER)
    bench.rules.adopt(ME, mine)
    bench.rules.adopt(OTHER, other)
    assert bench.rules.judge_prefix([ME, OTHER]) == 6
    assert bench.found == []
    other = bench.add(other, proposer=OTHER)
    bench.rules.adopt(OTHER, other)
    assert bench.rules.judge_prefix([ME, OTHER]) == 7
    assert bench.found == ["common prefix"]


def test_abandoned_blocks_are_counted() -> None:
    bench = Bench()
    mine = bench.add(bench.add())
    bench.rules.adopt(ME, mine)
    other = GENESIS
    for _ in range(3):
        other = bench.add(other, proposer=OTHER)
    assert bench.rules.adopt(ME, other) == 2


def test_target_follows_as_the_engine_has_it() -> None:
    for target in (1, 1 << 200, (1 << 256) // 256 - 1):
        for elapsed in (-5, 0, 1, 999, 1000, 1001, 8000, 80_000):
            for window in (2, 4, 24):
                assert compute_following(target, elapsed, 1000, window, 256) == compute_next_target(
                    target,
                    elapsed,
                    interval_ms=1000,
                    window=window,
                    easiest=(1 << 256) // 256 - 1,
                )
