"""What journals owe: acknowledged records come back, or a refusal that the disk explains."""

import pytest

from quorate.simulator.durability import Promises

A, B, C, D = b"a", b"b", b"c", b"d"


def make_promises(*appends: list[bytes]) -> Promises:
    promises = Promises()
    for records in appends:
        keep(promises, *records)
    return promises


def keep(promises: Promises, *records: bytes) -> None:
    promises.on_append(list(records))
    promises.on_kept()


def test_acknowledged_records_must_come_back_and_begun_ones_may() -> None:
    for more in ([], [C], [C, D]):
        promises = make_promises([A], [B])
        promises.on_append([C, D])
        assert promises.judge([A, B, *more]) == ""
    promises = make_promises([A], [B])
    assert promises.judge([A]) == (
        "1 records came back, 2 were acknowledged; the first that is lost is 1 bytes 0x62"
    )


def test_foreign_or_changed_record_is_never_right() -> None:
    promises = make_promises([A], [B])
    promises.on_fault("misdirected write")
    assert promises.judge([A, C]) == "record 1 is 1 bytes 0x63, expected 1 bytes 0x62"
    assert make_promises([A]).judge([A, D]) == "record 1 is 1 bytes 0x64, which was never written"


def test_what_was_given_back_is_owed_from_then_on() -> None:
    promises = make_promises([A])
    promises.on_append([B])
    assert promises.judge([A, B]) == ""
    assert "the first that is lost is 1 bytes 0x62" in promises.judge([A])


def test_cut_happens_wholly_or_not_at_all() -> None:
    for records, right in (([A, B], True), ([C, D], True), ([C], False), ([A], False)):
        promises = make_promises([A, B])
        promises.on_cut([C, D])
        assert (promises.judge(records) == "") is right
    promises = make_promises([A, B])
    promises.on_cut([C])
    promises.on_kept()
    assert promises.judge([A, B]) != ""


def test_damage_that_cannot_be_told_from_a_torn_write_excuses_one_append() -> None:
    for floor, right in ((3, True), (2, True), (1, False)):
        promises = make_promises([A], [B], [C])
        promises.on_fault("bit rot at the end")
        assert (promises.judge([A, B, C][:floor]) == "") is right
    promises = make_promises([A], [B], [C])
    promises.on_fault("bit rot")
    assert promises.judge([A, B]) != ""


def test_damage_before_a_damaged_end_cannot_be_told_from_a_torn_write_either() -> None:
    """Seed 500258 of proof of work: what would prove the second wrong had rotted first."""
    promises = make_promises([A], [B], [C])
    promises.on_fault("bit rot at the end")
    promises.on_fault("bit rot")
    assert promises.judge([A]) == ""
    promises = make_promises([A], [B])
    promises.on_fault("bit rot at the end")
    # What is written later proves it.
    keep(promises, C)
    promises.on_fault("bit rot")
    assert promises.judge([A]) != ""


def test_lie_is_an_excuse_until_something_is_durable_behind_it() -> None:
    promises = make_promises([A])
    promises.on_append([B])
    promises.on_fault("lost sync")
    promises.on_kept()
    assert (promises.floor, len(promises.acknowledged)) == (1, 2)
    keep(promises, C)
    assert promises.judge([A]) != ""


@pytest.mark.parametrize("kind", ["bit rot", "lost sync", "misdirected write"])
def test_refusal_is_right_where_kept_data_was_damaged(kind: str) -> None:
    promises = make_promises([A])
    assert promises.judge_refusal("bad check") == "nothing was damaged, but: bad check"
    promises.on_fault("sync error")
    promises.on_fault("torn write")
    assert promises.judge_refusal("bad check") != ""
    promises.on_fault(kind)
    assert promises.judge_refusal("bad check") == ""
