"""The key-value ledger: what operations do, once, the same everywhere."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate._kernel import Corrupt, Ledger
from quorate.base.errors import Invalid, Unavailable
from quorate.base.types import Member
from quorate.crypto.hashes import hash_body, keccak256
from quorate.ledger import operations as op
from quorate.ledger.keyvalue import KeyValueLedger, make_genesis, open_keyvalue
from quorate.ledger.machine import Context, Machine, Refused, State
from quorate.ledger.payload import compose, hash_payload
from quorate.light import rlp
from quorate.light.keyvalue import verify_entry
from quorate.simulator.invariants.chain import name_payload

NOW = 1_700_000_000_000
ME = b"\x11" * 20
ENVELOPE = b"\xee" * 32
ALICE, BOB = b"a" * 16, b"b" * 16


class Counter(Machine):
    """A call adds a number to a total that must not become negative."""

    def apply(self, state: State, call: bytes, context: Context) -> bytes:
        total = int(state.get(b"total") or b"0") + int(call)
        state.put(b"total", b"%d" % total)
        state.put(b"last", context.client)
        if total < 0:
            raise Refused("the total would be negative")
        return b"%d" % total


def make_file(application: str = "keyvalue") -> bytes:
    return make_genesis(
        application=application,
        chain_id=7,
        engine="raft",
        members=[Member(ME, 1)],
        timestamp=1_600_000_000,
    )


@dataclass
class Chain:
    """A ledger that makes everything final that it is given."""

    application: str = "keyvalue"
    path: str | None = None
    ledger: KeyValueLedger = field(init=False)
    sequence: dict[bytes, int] = field(default_factory=dict)
    now: int = NOW

    def __post_init__(self) -> None:
        self.ledger = open_keyvalue(self.path, make_file(self.application), ME)

    def number(self, action: bytes, client: bytes = ALICE, **fields: int) -> bytes:
        sequence = fields.get("sequence", self.sequence.get(client, 0) + 1)
        self.sequence[client] = max(self.sequence.get(client, 0), sequence)
        acknowledged = fields.get("acknowledged", sequence - 1)
        deadline = fields.get("deadline", self.now + 60_000)
        return op.encode(action, client, sequence, acknowledged, deadline)

    def block(self, *operations: bytes) -> list[tuple[int, int, bytes]]:
        """Make a block of what is admitted; return its answers."""
        ledger = self.ledger
        ledger.add(list(operations))
        self.now += 1
        last = ledger.get_block(ledger.store.final())
        payload = ledger.build(last.hash, self.now, 1 << 22)
        return self.play(payload)

    def play(self, payload: bytes) -> list[tuple[int, int, bytes]]:
        ledger = self.ledger
        last = ledger.get_block(ledger.store.final())
        assert ledger.check(last.hash, payload, self.now) is None
        executed = ledger.execute(last.hash, [payload], ENVELOPE)
        ledger.finalize(executed, ENVELOPE, b"proof", [payload])
        self.skipped = executed.skipped
        return [answer[1:] for answer in ledger.get_answers(executed.block)]

    def do(self, action: bytes, client: bytes = ALICE) -> tuple[int, int, bytes]:
        (answer,) = self.block(self.number(action, client))
        return answer

    def value(self, key: bytes) -> bytes | None:
        entry = self.ledger.get(key)[2]
        return None if entry is None else entry.value


def test_put_counts_revisions_and_versions() -> None:
    chain = Chain()
    assert chain.do(op.make_put(b"x", b"1")) == (op.DONE, 1, b"")
    assert chain.do(op.make_put(b"y", b"1")) == (op.DONE, 2, b"")
    assert chain.do(op.make_put(b"x", b"2")) == (op.DONE, 3, b"")
    assert chain.ledger.get(b"x")[1:] == (3, op.Entry(b"2", 1, 3, 2))
    assert chain.do(op.make_delete(b"x")) == (op.DONE, 4, b"")
    assert chain.do(op.make_delete(b"x")) == (op.MISSING, 0, b"")
    assert chain.do(op.make_put(b"x", b"3")) == (op.DONE, 5, b"")
    assert chain.ledger.get(b"x")[2] == op.Entry(b"3", 5, 5, 1)


def test_operations_of_one_block_see_each_other() -> None:
    chain = Chain()
    answers = chain.block(
        chain.number(op.make_put(b"x", b"1")),
        chain.number(op.make_put(b"x", b"2"), BOB),
        chain.number(op.make_compare(b"x", b"3", expected=b"2")),
        chain.number(op.make_compare(b"x", b"4", revision=1), BOB),
    )
    assert answers == [(0, 1, b""), (0, 2, b""), (0, 3, b""), (op.CONFLICT, 3, b"")]
    assert chain.value(b"x") == b"3"
    assert [event[:2] for event in chain.ledger.get_events(1)] == [(b"x", 1), (b"x", 2), (b"x", 3)]


def test_compare_asks_for_revision_value_or_absence() -> None:
    chain = Chain()
    assert chain.do(op.make_compare(b"x", b"1", revision=0)) == (op.DONE, 1, b"")
    assert chain.do(op.make_compare(b"x", b"2", revision=0)) == (op.CONFLICT, 1, b"")
    assert chain.do(op.make_compare(b"x", b"2", revision=1)) == (op.DONE, 2, b"")
    assert chain.do(op.make_compare(b"x", None, expected=b"1")) == (op.CONFLICT, 2, b"")
    assert chain.do(op.make_compare(b"x", None, expected=b"2")) == (op.DONE, 3, b"")
    assert chain.do(op.make_compare(b"x", None, expected=b"2")) == (op.CONFLICT, 0, b"")
    assert chain.do(op.make_compare(b"x", None, revision=0)) == (op.MISSING, 0, b"")


def test_what_is_sent_again_is_done_once_and_answered_as_before() -> None:
    chain = Chain()
    first = chain.number(op.make_put(b"x", b"1"), acknowledged=0)
    assert chain.block(first) == [(0, 1, b"")]
    assert chain.ledger.add([first]) == [(ALICE + (1).to_bytes(8, "big"), "already known")]
    assert chain.ledger.store.result(ALICE, 1) == (0, 1, b"")
    # A proposer that does not look puts it into a block again.
    payload = chain.ledger.build(chain.ledger.get_block(1).hash, NOW + 9, 1 << 20)
    # The RLP list of one short string.
    body = bytes((0xC1 + len(first), 0x80 + len(first))) + first
    chain.now = NOW + 9
    assert chain.play(compose(chain.ledger.get_block(1).hash, NOW + 9, ME, body)) == []
    assert chain.skipped == [(first[1:25], "already known")]
    assert chain.value(b"x") == b"1"
    assert payload[64:] == b"\xc0"


def test_acknowledged_results_are_forgotten_and_still_not_repeated() -> None:
    chain = Chain()
    first = chain.number(op.make_put(b"x", b"1"))
    chain.block(first)
    chain.do(op.make_put(b"x", b"2"))
    assert chain.ledger.store.result(ALICE, 1) is None
    assert chain.ledger.add([first])[0][1] == "already known"


def test_what_no_block_can_execute_any_more_does_not_wait() -> None:
    """The clock of one that proposes was ahead: the chain's time is that from then on."""
    chain = Chain()
    ledger, deadline = chain.ledger, NOW + 5000
    done = chain.number(op.make_put(b"x", b"1"), deadline=deadline)
    chain.block(done)
    waiting = chain.number(op.make_put(b"y", b"1"), BOB, deadline=deadline)
    in_time = chain.number(op.make_put(b"z", b"1"), b"c" * 16, deadline=NOW + 10_000)
    assert [reason for _, reason in ledger.add([waiting, in_time])] == [None, None]
    # What others decided, without either of the two.
    last = ledger.get_block(ledger.store.final())
    chain.now = NOW + 6000
    chain.play(compose(last.hash, chain.now, ME, rlp.encode_list([])))
    assert ledger.counts()[0] == 2
    ledger.settle()
    assert ledger.waiting(9) == [in_time]
    assert ledger.has_work(1 << 20)
    # The result of what was executed stays known, and nothing late is taken up again.
    reasons = [reason for _, reason in ledger.add([done, waiting])]
    assert reasons == ["already known", "its deadline has passed"]
    assert ledger.counts()[0] == 1


def test_too_many_unanswered_operations_and_deadlines_are_refused() -> None:
    chain = Chain()
    far = chain.number(op.make_put(b"x", b"1"), sequence=op.WINDOW + 1, acknowledged=0)
    late = chain.number(op.make_put(b"x", b"1"), BOB, deadline=NOW - 1)
    early = chain.number(op.make_put(b"x", b"1"), b"c" * 16, deadline=NOW + 10_000_000)
    assert chain.block(far, late, early) == []
    assert [reason for _, reason in chain.skipped] == [
        "too many operations of this client are not acknowledged",
        "its deadline is too far away",
    ]
    assert chain.ledger.counts() == (0, 0, 0)


def test_silent_clients_are_forgotten() -> None:
    chain = Chain()
    chain.do(op.make_put(b"x", b"1"))
    first = chain.ledger.store.result(ALICE, 1)
    chain.now += 40 * 60_000
    chain.do(op.make_put(b"x", b"2"), BOB)
    chain.now += 40 * 60_000
    chain.do(op.make_put(b"x", b"3"), b"c" * 16)
    assert first is not None
    assert chain.ledger.store.result(ALICE, 1) is None
    assert chain.ledger.store.result(b"c" * 16, 1) is not None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x01" + bytes(39),
        b"\x09" + ALICE + b"\x00" * 7 + b"\x01" + bytes(8) + b"\xff" * 8,
        op.encode(op.make_put(b"x", b""), ALICE, 1, 1, NOW),
        op.encode(b"\x01\x00\x00", ALICE, 1, 0, NOW),
        op.encode(b"\x01\xff\xff", ALICE, 1, 0, NOW),
        op.encode(b"\x02" + bytes(1025), ALICE, 1, 0, NOW),
        op.encode(b"\x03\x00\x01x\x02\xff\xff\xff\xff", ALICE, 1, 0, NOW),
        op.encode(b"\x03\x00\x01x\x00\x02", ALICE, 1, 0, NOW),
        op.encode(b"\x01\x00\x01x" + bytes(65_537), ALICE, 1, 0, NOW),
        bytes(200_000),
    ],
)
def test_malformed_operations_are_refused(raw: bytes) -> None:
    ((_, reason),) = Chain().ledger.add([raw])
    assert reason is not None
    assert "expected" in reason


def test_replicas_come_to_the_same_blocks_and_restart_where_they_were(tmp_path: object) -> None:
    one = Chain(path=f"{tmp_path}/one")
    other = Chain()
    for number in range(20):
        operations = [
            one.number(op.make_put(b"%d" % (number * i % 7), b"v" * i)) for i in range(1, 12)
        ]
        one.block(*operations)
        decision = one.ledger.decision(number + 1)
        assert decision is not None
        other.now = one.now
        other.play(decision[2][0])
        if number == 10:
            one.ledger.commit()
            one.ledger.store.close()
            one.ledger = open_keyvalue(f"{tmp_path}/one", make_file(), ME)
            assert one.ledger.durable().height == 11
    assert one.ledger.get_block(20).hash == other.ledger.get_block(20).hash
    events = one.ledger.get_events(5)
    one.ledger.commit()
    one.ledger.store.close()
    again = open_keyvalue(f"{tmp_path}/one", make_file(), ME)
    assert again.get_events(5) == events
    with pytest.raises(Invalid, match="genesis"):
        open_keyvalue_with_other_members(again, f"{tmp_path}/one")
    with pytest.raises(Corrupt, match="format"):
        Ledger.open(f"{tmp_path}/one", b"{}")


def open_keyvalue_with_other_members(ledger: KeyValueLedger, path: str) -> None:
    ledger.store.close()
    open_keyvalue(path, make_file().replace(b"11", b"22"), ME)


def test_branches_share_the_pool_until_one_is_final() -> None:
    chain = Chain()
    ledger = chain.ledger
    ledger.add([chain.number(op.make_put(b"x", b"1"))])
    payload = ledger.build(ledger.genesis, NOW, 1 << 20)
    tip = ledger.execute(ledger.genesis, [payload], ENVELOPE)
    ledger.adopt(tip.block, 0)
    assert ledger.settle() == []
    assert not ledger.has_work(1 << 20)
    assert chain.value(b"x") == b"1"
    empty = ledger.build(tip.block, NOW, 1 << 20)[:12] + ME + ledger.genesis + b"\xc0"
    sibling = ledger.execute(ledger.genesis, [empty], ENVELOPE)
    ledger.adopt(sibling.block, 0)
    assert ledger.settle() == [ALICE + (1).to_bytes(8, "big")]
    assert ledger.has_work(1 << 20)
    assert chain.value(b"x") is None
    ledger.finalize(sibling, ENVELOPE, b"", [empty])
    with pytest.raises(Unavailable):
        ledger.execute(tip.block, [payload], ENVELOPE)
    assert ledger.build(sibling.block, NOW, 1 << 20)[64:] == payload[64:]


def test_what_a_branch_did_is_told_of_when_it_is_final_and_not_before() -> None:
    """A client asks a node that knows its operation from a block that may be abandoned."""
    chain, miner = Chain(), Chain()
    ledger = chain.ledger
    raw = chain.number(op.make_put(b"x", b"1"))
    identity = op.get_identity(raw)
    miner.ledger.add([raw])
    payload = miner.ledger.build(ledger.genesis, NOW, 1 << 20)
    tip = ledger.execute(ledger.genesis, [payload], ENVELOPE)
    ledger.adopt(tip.block, 0)
    ledger.settle()
    assert (chain.value(b"x"), ledger.read([b"x"])) == (b"1", (0, 0, [None]))
    assert ledger.store.result(identity[:16], 1) is None
    assert ledger.add([raw]) == [(identity, None)]
    assert (ledger.has_work(1 << 20), ledger.counts()[0]) == (False, 0)
    assert ledger.build(tip.block, NOW, 1 << 20)[64:] == b"\xc0"
    empty = compose(ledger.genesis, NOW, ME, b"\xc0")
    sibling = ledger.execute(ledger.genesis, [empty], ENVELOPE)
    ledger.adopt(sibling.block, 0)
    # It waits here now, though this node never mined it.
    assert ledger.settle() == [identity]
    assert ledger.has_work(1 << 20)
    ledger.adopt(tip.block, 0)
    ledger.settle()
    ledger.finalize(tip, ENVELOPE, b"", [payload])
    assert ledger.store.result(identity[:16], 1) == (op.DONE, 1, b"")
    assert ledger.read([b"x"])[:2] == (1, 1)
    assert ledger.add([raw]) == [(identity, "already known")]
    assert ledger.counts() == (0, 0, 0)


def test_states_in_memory_are_those_of_the_branch_that_is_executed() -> None:
    chain = Chain()
    for number in range(30):
        chain.do(op.make_put(b"key%d" % number, b"first"))
    ledger = chain.ledger
    root = ledger.get_block(ledger.store.final())
    tips, branches = [root, root], [[], []]
    # Two branches grow by turns, each with its own keys, values and deaths.
    for turn in range(6):
        for side in (0, 1):
            action = (
                op.make_delete(b"key%d" % (turn + 7 * side))
                if turn % 3 == 2
                else op.make_put(b"key%d" % (5 * turn + side), b"%d" % side * 40)
            )
            raw = op.encode(action, ALICE, 31 + turn, 30 + turn - side, NOW + 60_000)
            parent = tips[side]
            payload = compose(parent.hash, parent.timestamp_ms + 1, ME, rlp.encode_list([raw]))
            executed = ledger.execute(parent.hash, [payload], ENVELOPE)
            tips[side] = ledger.get_block(executed.block)
            branches[side].append((executed, payload))
    for side in (0, 1):
        other = Chain()
        for height in range(1, 31):
            other.play(ledger.decision(height)[2][0])
        for executed, payload in branches[side]:
            other.play(payload)
            assert other.ledger.store.final() == executed.height
            assert other.ledger.get_block(executed.height).hash == executed.block
    for executed, payload in branches[1]:
        ledger.finalize(executed, ENVELOPE, b"proof", [payload])
    ledger.commit()
    assert chain.value(b"key1") == b"1" * 40
    # What is rolled back is not remembered either.
    ledger.store.rollback(30)
    again = [ledger.execute(root.hash, [payload], ENVELOPE) for _, payload in branches[0][:1]]
    assert again[0].block == branches[0][0][0].block
    assert ledger.get(b"key1", 30)[2] == op.Entry(b"first", 2, 2, 1)


def test_a_long_payload_means_its_bytes_whether_it_was_hashed_before_or_not() -> None:
    for size in (0, 63, 64, 65, 4095, 4096, 4159, 4160, 4161, 5184, 5185, 40_000, 140_000):
        payloads = [bytes([number]) * size for number in range(3)]
        names = [name_payload(payload) for payload in payloads]
        assert [hash_payload(payload) for payload in payloads] == names
        assert [hash_payload(bytes(bytearray(payload))) for payload in payloads[::-1]] == names[
            ::-1
        ]
    # What is hashed last of a long body is no body of its own.
    body = bytes(range(256)) * 20
    last = b"".join(keccak256(body[at : at + 1024]) for at in range(0, len(body), 1024))
    assert all(hash_body(last + bytes(n)) != hash_body(body) for n in (0, 4096 - len(last)))
    chain = Chain()
    for number in range(70):
        raw = chain.number(op.make_put(b"k", b"%02d" % number * 3000))
        parent = chain.ledger.get_block(number).hash
        payload = compose(parent, NOW + number, ME, rlp.encode_list([raw]))
        if number % 2:
            assert hash_payload(payload) == name_payload(payload)
        chain.now = NOW + number
        chain.play(bytes(bytearray(payload)) if number % 3 else payload)
        header = chain.ledger.get_block(number + 1).header
        assert header[128:160] == keccak256(name_payload(payload))


def test_an_application_of_ones_own_answers_refuses_and_takes_back() -> None:
    chain = Chain("tests_keyvalue_counter:Counter")
    assert chain.do(op.make_call(b"5")) == (op.DONE, 2, b"5")
    assert chain.do(op.make_call(b"-6")) == (op.REFUSED, 2, b"the total would be negative")
    assert chain.value(b"total") == b"5"
    assert chain.do(op.make_call(b"five"))[2] == b"the application failed: ValueError"
    assert chain.do(op.make_put(b"total", b"9"))[0] == op.REFUSED
    assert chain.do(op.make_call(b"2"), BOB)[2] == b"7"
    assert chain.value(b"last") == BOB
    assert [event[0] for event in chain.ledger.get_events(5)] == [b"total", b"last"]


@pytest.fixture(autouse=True)
def counter_module(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    module = types.ModuleType("tests_keyvalue_counter")
    module.Counter = Counter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests_keyvalue_counter", module)


@pytest.mark.parametrize("name", ["nothing", "no.such.module:Class", "json:loads", "json:"])
def test_an_application_that_cannot_be_loaded_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match=r"expected|PYTHONPATH"):
        Chain(name)


def test_proofs_show_entries_and_absence_and_nothing_else() -> None:
    chain = Chain()
    chain.block(*[chain.number(op.make_put(b"%d" % i, b"v%d" % i)) for i in range(50)])
    for key, value in ((b"7", b"v7"), (b"none", None)):
        header, nodes, entry = chain.ledger.store.prove(key, 1)
        proof = {"header": header, "nodes": nodes, "entry": entry}
        proved = verify_entry(make_file(), "raft", key, proof, trusting=True)
        assert (proved.entry and proved.entry.value) == value
        assert proved.state_root == chain.ledger.get_block(1).state_root
        with pytest.raises(Invalid):
            verify_entry(make_file(), "raft", b"8", proof, trusting=True)
    header, nodes, entry = chain.ledger.store.prove(b"7", 1)
    assert entry is not None
    lie = {"header": header, "nodes": nodes, "entry": (b"v8", *entry[1:])}
    with pytest.raises(Invalid, match="another entry"):
        verify_entry(make_file(), "raft", b"7", lie, trusting=True)


HEADER = b"qkv1" + bytes(156)


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        {},
        {"header": HEADER, "nodes": 5, "entry": None},
        {"header": HEADER, "nodes": [5], "entry": None},
        {"header": "qkv1", "nodes": [], "entry": None},
        {"header": HEADER, "nodes": [], "entry": [b"v", 1, 1]},
        {"header": HEADER, "nodes": [], "entry": [b"v", -1, 1, 1]},
        {"header": HEADER, "nodes": [], "entry": [b"v", 1 << 64, 1, 1]},
        {"header": HEADER, "nodes": [], "entry": ["v", "1", 1, 1]},
        {"header": HEADER, "nodes": [], "entry": None},
        {"header": HEADER, "nodes": [], "entry": None, "certificate": 5, "payloads": []},
        {"header": HEADER, "nodes": [], "entry": None, "certificate": b"", "payloads": [[b""]]},
    ],
)
def test_what_is_no_proof_is_refused(wrong: Any) -> None:
    for trusting in (True, False):
        with pytest.raises(Invalid):
            verify_entry(make_file(), "tendermint", b"x", wrong, trusting=trusting)


def test_revisions_lead_to_their_heights() -> None:
    chain = Chain()
    for count in (2, 0, 3, 1):
        chain.block(*[chain.number(op.make_put(b"x", b"%d" % i)) for i in range(count)])
    assert [chain.ledger.find_height(r) for r in range(1, 7)] == [1, 1, 3, 3, 3, 4]
    for revision in (0, 7):
        with pytest.raises(Unavailable):
            chain.ledger.find_height(revision)


def test_answers_and_events_are_told_after_the_store_has_the_block_too() -> None:
    chain = Chain()
    chain.do(op.make_put(b"x", b"1"))
    chain.ledger.commit()
    block = chain.ledger.get_block(1)
    assert [answer[1:] for answer in chain.ledger.get_answers(block.hash)] == [(op.DONE, 1, b"")]
    assert block.events == chain.ledger.get_events(1)


KEYS = st.sampled_from([b"a", b"b", b"c"])
VALUES = st.sampled_from([b"", b"1", b"2"])
ACTIONS = st.one_of(
    st.tuples(st.just("put"), KEYS, VALUES),
    st.tuples(st.just("delete"), KEYS, st.just(b"")),
    st.tuples(st.just("compare"), KEYS, st.tuples(VALUES, VALUES)),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(ACTIONS, max_size=6), max_size=6))
def test_any_operations_do_what_a_dict_does(blocks: list[list[tuple[str, bytes, object]]]) -> None:
    chain, model, revision = Chain(), {}, 0
    for actions in blocks:
        operations, expected = [], []
        for kind, key, value in actions:
            if kind == "put":
                assert isinstance(value, bytes)
                operations.append(chain.number(op.make_put(key, value)))
                holds, new = True, value
            elif kind == "delete":
                operations.append(chain.number(op.make_delete(key)))
                holds, new = key in model, None
            else:
                assert isinstance(value, tuple)
                old, new = value
                operations.append(chain.number(op.make_compare(key, new, expected=old)))
                holds = model.get(key) == old
            if holds:
                revision += 1
                model[key] = new
                if new is None:
                    del model[key]
            failure = op.MISSING if kind == "delete" else op.CONFLICT
            expected.append(op.DONE if holds else failure)
        assert [answer[0] for answer in chain.block(*operations)] == expected
        assert {k: v for k in (b"a", b"b", b"c") if (v := chain.value(k)) is not None} == model
        assert chain.ledger.get(b"a")[1] == revision
