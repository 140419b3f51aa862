"""What real validators have written keeps the simulator's rules, and what does not is found."""

import json
import re
from typing import Any

import msgspec
import pytest

from e2e.stage import Stage, account_at, poll
from quorate.cli import keystore
from quorate.cli.genesis import open_genesis
from quorate.consensus.certificate import PREVOTE, compute_digest
from quorate.consensus.keys import SecpKeys
from quorate.consensus.tendermint import Tendermint
from quorate.consensus.tendermint_types import Vote, Voted
from quorate.node.wire import encode, make_record_decoder
from quorate.runtime.disk import FileDisk
from quorate.runtime.folder import Folder
from quorate.storage.journal import open_journal

pytestmark = pytest.mark.network


def test_journals_and_stores_of_a_real_network_are_judged(stage: Stage) -> None:
    stage.up()
    for index in range(3):
        stage.pay(index, account_at(index))
    # While it runs, with one validator that crashed in between.
    stage.do("kill", "3")
    stage.pay(0, account_at(0))
    stage.do("start", "3")
    stage.agree([0, 1, 2, 3])

    def judge() -> dict[str, Any]:
        document: dict[str, Any] = json.loads(stage.do("judge", "-o", "json").out)
        assert (document["verdict"], document["found"], document["notes"]) == ("true", [], [])
        return document

    # What is decided comes into the stores a little later.
    poll(lambda: judge()["decisions"] >= 12, "decisions in all stores")
    document = judge()
    assert document["journals"] == 4
    assert document["complete"] == document["heights"] >= 4
    stage.do("down")

    # A validator that said two things in one round convicts itself by its journal.
    folder = Folder(stage.validator(2))
    keys = SecpKeys(keystore.unlock(keystore.read_store(folder.key), None))
    genesis = open_genesis(stage.folder / "genesis.json").genesis_hash
    disk = FileDisk(folder.journal)
    journal, recovered = open_journal(disk, keys.address + genesis)
    decode = make_record_decoder(Tendermint.RECORDS).decode
    votes = [r.vote for r in map(decode, recovered.records) if isinstance(r, Voted)]
    said = next(vote for vote in votes if vote.kind == PREVOTE and vote.value != bytes(32))
    other = b"\x07" * 32
    signature = keys.sign(compute_digest(genesis, PREVOTE, said.height, said.round, other))
    lie = Vote(PREVOTE, said.height, said.round, other, keys.address, signature)
    journal.append([encode(Voted(lie))])
    # And one that it did not sign.
    forged = msgspec.structs.replace(lie, round=9)
    journal.append([encode(Voted(forged))])
    disk.close()
    result = stage.do("judge", ok=False)
    assert result.code == 1
    told = [re.split(" {2,}", line)[:2] for line in result.out.splitlines()]
    assert ["one vote", "validator-2"] in told
    assert ["signature", "validator-2"] in told
    assert "\nfalse: 2 promises were broken\n" in result.out

    # What cannot be read leaves the verdict open.
    [first, *_] = sorted((stage.validator(2) / "journal").iterdir())
    data = bytearray(first.read_bytes())
    data[60] ^= 1
    first.write_bytes(bytes(data))
    result = stage.do("judge", ok=False)
    assert result.code == 2
    assert "validator-2: its journal cannot be read: journal: " in result.err
