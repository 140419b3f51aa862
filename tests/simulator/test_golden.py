"""Runs are the same, event by event, as when their digests were written down."""

import json

import pytest

from simulator import golden


@pytest.mark.parametrize("name", golden.SETUPS)
def test_digests_are_those_that_were_written_down(name: str) -> None:
    pinned = json.loads(golden.FILE.read_text())[name]
    assert golden.compute(name) == pinned, (
        "runs are not what they were: if that is meant, `make golden` writes the new digests; "
        "if not, `quorate replay` of a commit before shows where they part"
    )


def test_every_engine_has_seeds_that_are_pinned() -> None:
    assert {setup.engine for setup, _ in golden.SETUPS.values()} == {None, "raft", "pow"}
    assert set(json.loads(golden.FILE.read_text())) == set(golden.SETUPS)
