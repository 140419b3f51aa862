"""Hashes that wallets sign, against those of EIP-191 and EIP-712."""

import copy
import sys
from typing import Any

import pytest

from quorate.rpc.dev_wallet import parse_typed_data
from quorate.rpc.errors import BadArgument
from quorate.rpc.typed_data import MAX_DEPTH, TypedData, hash_message

MAIL: dict[str, Any] = {
    "types": {
        "EIP712Domain": [
            {"name": "name", "type": "string"},
            {"name": "version", "type": "string"},
            {"name": "chainId", "type": "uint256"},
            {"name": "verifyingContract", "type": "address"},
        ],
        "Person": [{"name": "name", "type": "string"}, {"name": "wallet", "type": "address"}],
        "Mail": [
            {"name": "from", "type": "Person"},
            {"name": "to", "type": "Person"},
            {"name": "contents", "type": "string"},
        ],
    },
    "primaryType": "Mail",
    "domain": {
        "name": "Ether Mail",
        "version": "1",
        "chainId": 1,
        "verifyingContract": "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC",
    },
    "message": {
        "from": {"name": "Cow", "wallet": "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"},
        "to": {"name": "Bob", "wallet": "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"},
        "contents": "Hello, Bob!",
    },
}


def struct(fields: dict[str, str], message: Any, **types: Any) -> TypedData:
    """Typed data of a struct `A` with these fields."""
    listed = [{"name": name, "type": kind} for name, kind in fields.items()]
    return parse_typed_data(
        {"types": {"A": listed, **types}, "primaryType": "A", "message": message}
    )


def test_the_example_of_eip_712() -> None:
    expected = "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2"
    assert parse_typed_data(MAIL).hash().hex() == expected
    # Numbers come in every form.
    for chain_id in ("0x01", "1"):
        mail = copy.deepcopy(MAIL)
        mail["domain"]["chainId"] = chain_id
        assert parse_typed_data(mail).hash().hex() == expected


def test_a_message_is_no_transaction() -> None:
    # As ethers' documentation has it.
    digest = hash_message(b"Hello World").hex()
    assert digest == "a1de988600a42c4b4ab089b619297c17d53cffae5d5120d82d8a92d0bb3b78f2"


def test_all_types_against_another_implementation() -> None:
    messages = pytest.importorskip("eth_account.messages")
    data: dict[str, Any] = {
        "types": {
            "EIP712Domain": [{"name": "salt", "type": "bytes32"}],
            "Leaf": [{"name": "on", "type": "bool"}, {"name": "small", "type": "int8"}],
            "Root": [
                {"name": "leaves", "type": "Leaf[]"},
                {"name": "grid", "type": "uint16[2][]"},
                {"name": "blob", "type": "bytes"},
                {"name": "four", "type": "bytes4"},
                {"name": "text", "type": "string[2]"},
                {"name": "who", "type": "address[]"},
            ],
        },
        "primaryType": "Root",
        "domain": {"salt": "0x" + "5a" * 32},
        "message": {
            "leaves": [{"on": True, "small": -128}, {"on": False, "small": 127}],
            "grid": [[1, 2], [3, 65535]],
            "blob": "0x0102",
            "four": "0xdeadbeef",
            "text": ["", "tö"],
            "who": ["0x" + "11" * 20],
        },
    }
    signable = messages.encode_typed_data(full_message=data)
    expected = messages._hash_eip191_message(signable)
    assert parse_typed_data(data).hash() == expected


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("uint8", 256, "type uint8"),
        ("uint8", -1, "type uint8"),
        ("int8", 128, "type int8"),
        ("uint7", 1, "type uint7"),
        ("int0", 0, "type int0"),
        ("int999", 0, "type int999"),
        ("uint256", "ten", "expected a number"),
        ("uint256", True, "expected a number"),
        ("uint256", "0x" + "f" * 10_000, "expected a number"),
        ("bytes2", "0x01", "1 bytes, expected 2"),
        ("bytes33", "0x01", "is not known"),
        ("bytes", "0x0", "expected bytes"),
        ("bytes", "0x 0", "expected bytes"),
        ("address", "0x01", "expected 20"),
        ("bool", 1, "expected true or false"),
        ("string", 1, "expected a string"),
        ("uint8[2]", [1], "Expected 2 items for array type uint8[2], got 1 items"),
        ("uint8[]", 1, "expected an array"),
        ("B", {}, "is not known"),
        ("A", [], "expected an object"),
    ],
)
def test_what_does_not_fit_its_type_is_refused(kind: str, value: Any, words: str) -> None:
    with pytest.raises(BadArgument) as refusal:
        struct({"field": kind}, {"field": value}).hash()
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    "value",
    [
        5,
        "{",
        "[1]",
        {},
        {"types": []},
        {"types": {"A": {}}},
        {"types": {"A": [5]}},
        {"types": {"A b": []}},
        {"types": {"A": [{"name": "x", "type": 5}]}},
        {"types": {"A": []}, "primaryType": ["A"]},
        {"types": {"A": []}, "primaryType": "B"},
        {"types": {f"A{i}": [] for i in range(300)}, "primaryType": "A1"},
        {"types": {"A": [{"name": "x" * 70_000, "type": "A"}]}, "primaryType": "A"},
    ],
)
def test_hostile_shapes_are_refused(value: Any) -> None:
    with pytest.raises(BadArgument):
        parse_typed_data(value)


def test_text_that_is_nested_too_deep_is_refused() -> None:
    # Libraries of Ethereum's raise the limit, to where the stack ends.
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    try:
        with pytest.raises(BadArgument, match="recursion"):
            parse_typed_data("[" * 5000)
    finally:
        sys.setrecursionlimit(limit)


def test_depth_is_bounded() -> None:
    message: dict[str, Any] = {}
    for _ in range(MAX_DEPTH + 1):
        message = {"next": message}
    with pytest.raises(BadArgument, match="deeper than"):
        struct({"next": "A"}, message).hash()
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(BadArgument, match="deeper than"):
        struct({"x": "uint8" + "[]" * 100}, {"x": deep}).hash()
    assert len(struct({"next": "A"}, {"next": {"next": None}}).hash()) == 32
