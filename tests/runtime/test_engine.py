"""What network.toml says of an engine, as its validators take it."""

from typing import Any

import pytest
from msgspec.structs import replace

from quorate.base.errors import Invalid
from quorate.consensus import ENGINES
from quorate.runtime.config import Blocks, Network, Peers
from quorate.runtime.engine import read_engine_settings
from runtime.test_config import make_network

LARGEST = Blocks(max_bytes=8 << 20)


def read(engine: str, **changes: Any) -> Any:
    network: Network = replace(make_network(), engine=engine, **{"engine_settings": {}, **changes})
    return read_engine_settings(network, ENGINES[engine], b"")


@pytest.mark.parametrize("engine", ["tendermint", "raft"])
def test_the_largest_blocks_get_through_as_it_is(engine: str) -> None:
    settings = read(engine, blocks=LARGEST)
    assert settings.max_payload_bytes >= LARGEST.max_bytes
    with pytest.raises(Invalid, match="max_payload_bytes: found 1000000, expected at least bloc"):
        read(engine, engine_settings={"max_payload_bytes": 1_000_000})


def test_frames_have_room_for_blocks_and_for_entries_sent_together() -> None:
    with pytest.raises(Invalid, match=r"peers\.max_frame_bytes: found 2097152, expected at least"):
        read("tendermint", peers=Peers(max_frame_bytes=2 << 20))
    four = Peers(max_frame_bytes=4 << 20)
    assert read("tendermint", peers=four)
    with pytest.raises(Invalid, match=r"found 4194304, expected at least 9437184"):
        read("raft", peers=four)
    assert read("raft", peers=four, engine_settings={"max_append_bytes": 1 << 20})
