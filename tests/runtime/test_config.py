"""Settings: what is written is read back; what is wrong is named."""

from pathlib import Path

import msgspec
import pytest

from quorate.base.errors import Invalid
from quorate.runtime.config import (
    Blocks,
    BootnodePlace,
    Network,
    ValidatorConfig,
    load_network,
    make_bootnodes,
    parse_bootnode,
    parse_network,
    render_network,
    write_network,
)


def make_network(count: int = 4) -> Network:
    return Network(
        name="trial",
        chain_id=31337,
        engine_settings={"propose_ms": 500, "step": 1.5, "odd": 'a "quoted" \x7f name'},
        validators=[
            ValidatorConfig(
                name=f"validator-{i}",
                address="0x" + f"{i + 1:040x}",
                host="127.0.0.1",
                port=30303 + i,
                tls_sha256=f"{i + 1:064x}",
                rpc_port=8545 + i,
                metrics_port=9545 + i,
            )
            for i in range(count)
        ],
    )


def refuse(text: str, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(Invalid) as caught:
        parse_network(text, "network.toml", environment or {})
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_written_file_reads_back_equal(tmp_path: Path) -> None:
    network = make_network()
    write_network(network, tmp_path / "network.toml")
    assert load_network(tmp_path / "network.toml", {}) == network
    assert "# Fixed interval; 0: at once when there is work." in render_network(network)


def test_environment_overrides_the_file() -> None:
    environment = {
        "QUORATE_BLOCKS_BLOCK_TIME_MS": "250",
        "QUORATE_RPC_API": "eth, net",
        "QUORATE_RPC_ENABLED": "off",
        "QUORATE_NAME": "other",
        "QUORATE_UP_VALIDATORS": "a flag of the command line, not a setting",
    }
    network = parse_network(render_network(make_network()), "network.toml", environment)
    assert network.blocks == Blocks(block_time_ms=250)
    assert network.rpc.api == ["eth", "net"]
    assert not network.rpc.enabled
    assert network.name == "other"


def test_environment_of_the_wrong_type_names_the_variable() -> None:
    text = render_network(make_network())
    message = refuse(text, {"QUORATE_BLOCKS_BLOCK_TIME_MS": "fast"})
    assert message == "QUORATE_BLOCKS_BLOCK_TIME_MS: found 'fast', expected int"
    message = refuse(text, {"QUORATE_MINING_THREADS": "-2"})
    assert message == "QUORATE_MINING_THREADS: found -2, expected int >= 1"


def test_unknown_key_names_file_key_and_the_known_ones() -> None:
    text = render_network(make_network()).replace("heartbeat_ms =", "heart_beat_ms =")
    message = refuse(text)
    assert message == (
        "network.toml: blocks.heart_beat_ms: unknown key, "
        "expected one of block_time_ms, heartbeat_ms, certify_ms, max_bytes"
    )


def test_wrong_type_says_found_and_expected() -> None:
    text = render_network(make_network()).replace("port = 30304", 'port = "30304"')
    assert refuse(text) == "network.toml: validators.1.port: found '30304', expected int"


def test_value_out_of_range_says_found_and_expected() -> None:
    text = render_network(make_network()).replace("port = 30304", "port = 70000")
    assert refuse(text) == "network.toml: validators.1.port: found 70000, expected int <= 65535"


def test_block_too_small_for_the_largest_transaction_is_refused() -> None:
    text = render_network(make_network())
    assert "max_bytes = 2097152" in text
    message = refuse(text.replace("max_bytes = 2097152", "max_bytes = 131072"))
    assert message == "network.toml: blocks.max_bytes: found 131072, expected int >= 262144"


def test_missing_key_is_named() -> None:
    text = render_network(make_network()).replace("chain_id = 31337\n", "")
    assert refuse(text) == "network.toml: chain_id: missing, expected a value"


def test_two_validators_with_one_name_or_port_are_refused() -> None:
    text = render_network(make_network())
    assert "validators.1.name" in refuse(text.replace('"validator-1"', '"validator-0"'))
    assert "validators.1.port" in refuse(text.replace("port = 30304", "port = 30303"))
    assert "validators.0.metrics_port" in refuse(text.replace("= 9545", "= 8545"))


def test_text_that_is_not_toml_names_the_line() -> None:
    assert refuse("name = \n").startswith("network.toml: not TOML: ")


def test_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"missing\.toml: cannot be read: No such file"):
        load_network(tmp_path / "missing.toml", {})


def test_validator_is_found_by_index_name_and_address() -> None:
    network = make_network()
    for which in (2, "validator-2", "0x" + f"{3:040X}"):
        assert network.get_validator(which) is network.validators[2]
    with pytest.raises(Invalid, match="validator 9: not in"):
        network.get_validator(9)


def test_settings_are_values() -> None:
    network = make_network()
    assert msgspec.structs.replace(network, name="x") != network


def test_bootnodes_are_read_and_wrong_ones_are_named() -> None:
    key = "ab" * 32
    network = msgspec.structs.replace(
        make_network(2), bootnodes=[f"{key}@10.0.0.1:30303", "node.example:7", "[2a02::1]:8"]
    )
    again = parse_network(render_network(network), "network.toml", {})
    assert [parse_bootnode(text) for text in again.bootnodes] == [
        BootnodePlace(bytes.fromhex(key), "10.0.0.1", 30303),
        BootnodePlace(b"", "node.example", 7),
        BootnodePlace(b"", "2a02::1", 8),
    ]
    for wrong in (
        "node.example",
        "abc@node.example:7",
        "node:0",
        "node:65536",
        "a b:7",
        f"{key}@:7",
    ):
        text = render_network(msgspec.structs.replace(network, bootnodes=[wrong]))
        assert f"network.toml: bootnodes.0: found {wrong!r}, expected KEY@HOST:PORT" in refuse(text)


def test_an_address_to_advertise_is_one() -> None:
    text = render_network(make_network()).replace('advertise = ""', 'advertise = "here"')
    assert "network.toml: discovery.advertise: here: not a place, expected HOST:PORT" in refuse(
        text
    )


def test_nodes_are_named_as_bootnodes_by_their_certificates() -> None:
    validators = make_network(2).validators
    six = msgspec.structs.replace(validators[1], host="::1")
    named = make_bootnodes([validators[0], six])
    assert [parse_bootnode(text) for text in named] == [
        BootnodePlace(validators[0].pin, "127.0.0.1", 30303),
        BootnodePlace(six.pin, "::1", 30304),
    ]
