"""What the HTTP/JSON port of a key-value network makes of parameters and bodies."""

import pytest

from quorate.rpc.keyvalue_http import (
    expect_of,
    make_conditional,
    read_compare,
    read_flag,
    read_query,
)
from quorate.rpc.keyvalue_service import Failure


@pytest.mark.parametrize(
    ("text", "stale"),
    [(b"stale", True), (b"stale=1", True), (b"stale=0", False), (b"raw", False)],
)
def test_a_flag_is_its_name_or_a_word_for_yes(text: bytes, stale: bool) -> None:
    assert read_flag(read_query(text), "stale") is stale


def test_a_flag_that_says_nothing_known_is_refused() -> None:
    with pytest.raises(Failure, match="stale: found 'perhaps', expected nothing, 1 or 0"):
        read_flag(read_query(b"stale=perhaps"), "stale")


def test_a_parameter_with_a_slip_in_its_name_is_refused() -> None:
    expect_of(read_query(b"if_revision=3"), "if_revision")
    with pytest.raises(Failure, match="parameter 'if_revison': expected if_revision"):
        expect_of(read_query(b"if_revison=3"), "if_revision")
    with pytest.raises(Failure, match="parameter 'verbose': expected none here"):
        expect_of(read_query(b"verbose"))
    with pytest.raises(Failure, match="'if_revision': found it 2 times, expected once"):
        read_query(b"if_revision=3&if_revision=0")


def test_a_condition_is_a_number() -> None:
    assert make_conditional(b"k", b"v", {"if_revision": "0"}) != make_conditional(b"k", b"v", {})
    with pytest.raises(Failure, match="if_revision: found '-1', expected a number"):
        make_conditional(b"k", b"v", {"if_revision": "-1"})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"key":"k","value":"v"}', r"`expected` or `revision` \(0: the key is absent\)"),
        (b'{"key":"k","value":"v","expected":null}', "0: the key is absent"),
        (b'{"key":"k","value":"v","expected":"w","revision":1}', "either"),
        (b'{"key":"k","expected":"w","expected_base64":"dw=="}', "found it twice"),
        (b'{"key":"k","expected_base64":"?"}', "expected_base64"),
        (b'{"key":"k","revision":-1}', "body: Expected `int` >= 0"),
        (b'{"key":"k","revision":1,"vlaue":"v"}', "unknown field `vlaue`"),
        (b"k=v", "body: JSON is malformed"),
    ],
)
def test_a_comparison_that_cannot_be_meant_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(Failure) as found:
        read_compare(body)
    assert found.value.status == 400
    assert found.match(said)
