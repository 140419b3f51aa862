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


def test_twenty_seeds_are_pinned() -> None:
    assert sum(len(seeds) for _, seeds in golden.SETUPS.values()) == 20
    assert set(json.loads(golden.FILE.read_text())) == set(golden.SETUPS)
