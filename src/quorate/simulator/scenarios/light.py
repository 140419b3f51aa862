"""Catalogue S35 for light clients: certificates that were never decided (lunatic, phantom).

The network runs with real signatures; the client is the real one and asks a node that lies.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from quorate.base.errors import Invalid
from quorate.base.types import Hash, Height, Member
from quorate.consensus.certificate import (
    PRECOMMIT,
    Certificate,
    Envelope,
    compute_digest,
    encode_certificate,
    hash_envelope,
)
from quorate.consensus.keys import SecpKeys, verify_signature
from quorate.consensus.membership import ValidatorSet
from quorate.crypto.hashes import HEAD_BYTES, hash_body, hash_payload, keccak256
from quorate.ledger.payload import compose, parse_head
from quorate.light.anchor import Anchor
from quorate.light.client import LightClient, Request, Trusted
from quorate.simulator.plan import MS, MemberPlan
from quorate.simulator.scenarios.registry import scenario
from quorate.simulator.scenarios.stage import Play, Stage
from quorate.simulator.timing import PartiallySynchronous
from quorate.simulator.verdict import Outcome

NOW = PartiallySynchronous(delta_ns=50 * MS, gst_ns=0)
COMET = "CometBFT, specification of light client attacks"
MADE_UP = b"\xbb" * 32
"""The block that the liar wants to be believed."""


def make_signers(*names: str) -> list[SecpKeys]:
    """Return keys made of names, in order of address."""
    keys = [SecpKeys(make_secret(name)) for name in names]
    return sorted(keys, key=lambda key: key.address)


def make_secret(name: str) -> bytes:
    return keccak256(b"scenario signer " + name.encode())


NAMES = ("one", "two", "three", "four")
MEMBERS = make_signers(*NAMES)
SECRETS = sorted(map(make_secret, NAMES), key=lambda secret: SecpKeys(secret).address)
STRANGERS = make_signers("nobody", "no one", "none")
TARGET: Height = 5


class Credulous(LightClient):
    """Believes a certificate with three good signatures, whoever signed it."""

    def _step(self, trusted: Trusted, height: Height) -> Trusted:
        certificate, head = self._fetch_certificate(height)
        value = hash_envelope(certificate.envelope)
        digest = compute_digest(self.anchor.chain, PRECOMMIT, height, certificate.round, value)
        good = [
            who for who, signed in certificate.signatures if verify_signature(who, digest, signed)
        ]
        if len(good) < 3:
            raise Invalid(f"{len(good)} signatures, expected at least 3")
        return Trusted(height, 0, certificate.envelope.next_members, parse_head(head)[0])


def attack(stage: Stage, named: Sequence[SecpKeys], by: Sequence[SecpKeys]) -> Outcome:
    """Run a network, and let a client ask a node that forges one certificate, naming a validator
    set and signed by some; the client must take no made-up block, and the right one elsewhere.
    """
    machines = [MemberPlan(f"validator-{i}", MEMBERS[i].address, 1, SECRETS[i]) for i in range(4)]
    play = stage.build(machines=machines, signatures="real", node_settings={"block_time_ms": 100})
    play.run(2_000)
    node = play.machines[0].node
    assert node is not None
    execution = node.execution
    genesis = execution.application.members(1)
    client_type = LightClient if stage.mitigated else Credulous
    lies = {TARGET + 1: forge(play.world.chain, TARGET + 1, named, by)}
    believed = b""
    for answers in (lies, {}):
        ask = make_node(play, named, answers)
        client = client_type(Anchor(play.world.chain, "tendermint", 0, genesis), ask)
        try:
            believed = client.get_block_hash(TARGET)
        except Invalid as error:
            stage.say(f"refused: {error}")
            continue
        stage.say(f"believed: block {TARGET} is 0x{believed.hex()[:16]}")
        made_up = believed == MADE_UP
        play.require("no lie is believed", not made_up, "a made-up block, expected a refusal")
    honest = play.world.stores.get_final(play.machines[0].store, TARGET)
    assert honest is not None
    play.require("the truth is believed", believed == honest[0], "another block, expected the true")
    return play.judge()


def forge(chain: Hash, height: Height, named: Sequence[SecpKeys], by: Sequence[SecpKeys]) -> Any:
    """Return a certificate of a made-up payload, as a node's answer."""
    members = ValidatorSet([Member(key.address, 1) for key in named]).hash
    payload = compose(MADE_UP, 1, by[0].address, b"")
    envelope = Envelope(
        "tendermint", height, 0, by[0].address, MADE_UP, members, members, hash_payload(payload)
    )
    digest = compute_digest(chain, PRECOMMIT, height, 0, hash_envelope(envelope))
    signatures = [(key.address, key.sign(digest)) for key in by]
    return show(encode_certificate(Certificate(envelope, 0, signatures)), payload)


def show(certificate: bytes, payload: bytes) -> Any:
    """Return what `quorate_getCertificate` answers."""
    body = hash_body(payload[HEAD_BYTES:])
    head = {"head": "0x" + payload[:HEAD_BYTES].hex(), "bodyHash": "0x" + body.hex()}
    return {"raw": "0x" + certificate.hex(), "payloads": [head]}


def make_node(play: Play, named: Sequence[SecpKeys], lies: Mapping[Height, Any]) -> Request:
    """Return how to ask a node that tells some lies, and the truth of everything else."""
    node = play.machines[0].node
    assert node is not None
    application = node.application

    def ask(method: str, parameters: list[Any]) -> Any:
        height = int(parameters[0], 16)
        if method == "quorate_getValidators":
            keys = named if height in lies else MEMBERS
            return [{"address": "0x" + key.address.hex(), "power": "0x1"} for key in keys]
        decision = application.decision(height)
        if height in lies or decision is None:
            return lies.get(height)
        return show(decision[1], decision[2][0])

    return ask


@scenario(
    "S35d",
    "lunatic",
    "a light client is shown a validator set that never was",
    source=COMET + ": lunatic attack",
    mitigation="a third of the trusted power must have signed, and the last step names its set",
    timing=NOW,
    breaks="no lie is believed",
)
def lunatic(stage: Stage) -> Outcome:
    """One member and two strangers make up a validator set of themselves, and sign a block of a
    height that a light client asks for. It jumps from genesis: the set has enough signatures of
    its own, but the client trusts only one of four who signed.
    """
    mine = sorted([MEMBERS[3], *STRANGERS[:2]], key=lambda key: key.address)
    return attack(stage, mine, mine)


@scenario(
    "S35e",
    "phantom",
    "a light client is shown votes of those who are no members",
    source=COMET + ": phantom validators",
    mitigation="only members' signatures count, each once",
    timing=NOW,
    breaks="no lie is believed",
)
def phantom(stage: Stage) -> Outcome:
    """A certificate names the right validator set and has three good signatures, of three who are
    not in it.
    """
    return attack(stage, MEMBERS, STRANGERS)
