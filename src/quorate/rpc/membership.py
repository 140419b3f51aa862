"""quorate: who agrees, on what, with which proof, and what is missing if they do not."""

from typing import Any

import msgspec

from quorate.base.errors import Invalid
from quorate.base.types import Height, Member
from quorate.consensus import pow_headers, raft_certificate, raft_types
from quorate.consensus.certificate import ENVELOPE_BYTES, Envelope, decode_certificate
from quorate.consensus.membership import MAX_MEMBERS
from quorate.consensus.replica import Situation
from quorate.crypto.hashes import HEAD_BYTES, hash_body, hash_payload, keccak256
from quorate.ledger.genesis import VALIDATORS
from quorate.ledger.payload import parse_head
from quorate.node.status import NodeStatus, PeerStatus
from quorate.rpc.dispatch import Kind, Method, optional, required
from quorate.rpc.encoding import NULL, text, to_hex
from quorate.rpc.errors import SERVER, RpcError
from quorate.rpc.parameters import (
    FINALIZED,
    LATEST,
    PENDING,
    Selector,
    parse_block,
    parse_quantity,
)
from quorate.rpc.store import Store
from quorate.rpc.validator import Validator

COUNT_SLOT = bytes(32)
FIRST_SLOT = int.from_bytes(keccak256(COUNT_SLOT), "big")
"""Where the validator set lies in its contract; the layout is in contracts/Validators.sol."""
MAX_HEADERS = 512
DELAY = 2
"""What a block changes of the set holds this many heights later."""


class Membership:
    """Validators, certificates and the state of agreement."""

    def __init__(self, store: Store, validator: Validator) -> None:
        self.store = store
        self.validator = validator

    def methods(self) -> list[Method]:
        number = required(parse_quantity)
        block, final = optional(parse_block, LATEST), optional(parse_block, FINALIZED)
        return [
            Method("quorate_getValidators", Kind.SLOW, self.get_validators, (block,)),
            Method("quorate_getCertificate", Kind.SLOW, self.get_certificate, (final,)),
            Method("quorate_getHeaders", Kind.SLOW, self.get_headers, (number, number)),
            Method("quorate_status", Kind.ASYNC, self.get_status),
            Method("quorate_whyStalled", Kind.ASYNC, self.explain_stall),
        ]

    def get_validators(self, block: Selector) -> bytes:
        """Return the validators that agree on a block; with `pending`, on the next one."""
        height = self.store.find_height(LATEST if block == PENDING else block)
        if height is None:
            raise RpcError(SERVER, "header not found")
        if block == PENDING:
            height += 1
        members = self.read_members(max(0, height - DELAY))
        return msgspec.json.encode([describe_member(member) for member in members])

    def read_members(self, height: Height) -> list[Member]:
        """Return the validator set in the state after a block, sorted by address."""
        view = self.store.view
        count = int.from_bytes(view.storage(height, VALIDATORS, COUNT_SLOT), "big")
        if count > MAX_MEMBERS:
            raise RpcError(SERVER, f"{count} validators, expected at most {MAX_MEMBERS}")
        members = []
        for index in range(count):
            slot = ((FIRST_SLOT + index) % (1 << 256)).to_bytes(32, "big")
            packed = view.storage(height, VALIDATORS, slot)
            members.append(Member(packed[12:], int.from_bytes(packed[:12], "big")))
        return sorted(members)

    def get_certificate(self, block: Selector) -> bytes:
        """Return the proof that a block's payload is final, with what verifies it.

        `payloads` shows each payload's head and the hash of its body, so that the payload hash that
        the certificate signs can be recomputed, and with it the hash of the block before.
        """
        height = self.store.find_height(LATEST if block == PENDING else block)
        decision = None if height is None else self.store.view.decision(height)
        if height is None or decision is None:
            return NULL
        envelope, certificate, payloads = decision
        block_hash = self.store.view.block_hash(height)
        return msgspec.json.encode(
            {
                "blockNumber": hex(height),
                "blockHash": to_hex(block_hash or b""),
                "envelopeHash": to_hex(envelope),
                "payloads": [describe_payload(payload) for payload in payloads],
                "raw": to_hex(certificate),
            }
            | describe_certificate(certificate)
        )

    def get_headers(self, first: int, count: int) -> bytes:
        """Return the headers of final blocks of work from a height on, as light clients follow
        them: perhaps fewer than asked, perhaps none.
        """
        headers: list[str] = []
        for height in range(first, first + min(count, MAX_HEADERS)):
            decision = self.store.view.decision(height)
            if decision is None or decision[1][:1] != bytes((pow_headers.VERSION,)):
                break
            headers.append(to_hex(decision[1][1 : 1 + ENVELOPE_BYTES]))
        return msgspec.json.encode(headers)

    async def get_status(self) -> bytes:
        return msgspec.json.encode(describe_status(await self.validator.get_status()))

    async def explain_stall(self) -> bytes:
        """Return in words what agreement waits for."""
        return text((await self.validator.get_status()).why_stalled)


def describe_member(member: Member) -> dict[str, str]:
    return {"address": to_hex(member.address), "power": hex(member.power)}


def describe_certificate(certificate: bytes) -> dict[str, Any]:
    """Return the fields of a certificate; nothing where its engine has another kind of proof."""
    try:
        if certificate[:1] == bytes((raft_types.VERSION,)):
            held = raft_certificate.decode_certificate(certificate)
            return {
                "envelope": describe_envelope(held.envelope),
                "term": hex(held.term),
                "index": hex(held.index),
                "holders": [to_hex(address) for address in held.holders],
            }
        if certificate[:1] == bytes((pow_headers.VERSION,)):
            return describe_work(pow_headers.decode_certificate(certificate))
        found = decode_certificate(certificate)
    except Invalid:
        return {}
    return {
        "envelope": describe_envelope(found.envelope),
        "round": hex(found.round),
        "signatures": [
            {"address": to_hex(address), "signature": to_hex(signature)}
            for address, signature in found.signatures
        ],
    }


def describe_work(found: pow_headers.Certificate) -> dict[str, Any]:
    header = found.header
    return {
        "header": {
            "height": hex(header.height),
            "proposer": to_hex(header.proposer),
            "parent": to_hex(header.parent),
            "timestampMs": hex(header.timestamp_ms),
            "nonce": hex(header.nonce),
            "target": hex(header.target),
            "payloadHash": to_hex(header.payload_hash),
        },
        "work": hex(found.work),
    }


def describe_envelope(envelope: Envelope) -> dict[str, str]:
    return {
        "engine": envelope.engine,
        "height": hex(envelope.height),
        "round": hex(envelope.round),
        "proposer": to_hex(envelope.proposer),
        "parent": to_hex(envelope.parent),
        "validatorsHash": to_hex(envelope.members),
        "nextValidatorsHash": to_hex(envelope.next_members),
        "payloadHash": to_hex(envelope.payload),
    }


def describe_payload(payload: bytes) -> dict[str, Any]:
    parent, timestamp_ms, proposer = parse_head(payload)
    return {
        "hash": to_hex(hash_payload(payload)),
        "head": to_hex(payload[:HEAD_BYTES]),
        "bodyHash": to_hex(hash_body(payload[HEAD_BYTES:])),
        "parentBlockHash": to_hex(parent),
        "timestampMs": hex(timestamp_ms),
        "proposer": to_hex(proposer),
    }


def describe_situation(situation: Situation) -> dict[str, Any]:
    return {
        "height": hex(situation.height),
        "round": hex(situation.round),
        "step": situation.step,
        "leader": to_hex(situation.leader) if situation.leader else None,
        "waitingFor": situation.waiting_for,
        "missing": situation.missing,
        "silent": [to_hex(address) for address in situation.silent],
    }


def describe_peer(peer: PeerStatus) -> dict[str, Any]:
    found = {
        "address": to_hex(peer.address),
        "connected": peer.connected,
        "height": hex(peer.height),
        "lastHeardMs": peer.last_heard_ms,
    }
    if not peer.direction:
        return found
    place = {"at": peer.at, "direction": peer.direction}
    return found | place | {"points": peer.points, "upMs": peer.up_ms}


def describe_status(status: NodeStatus) -> dict[str, Any]:
    return {
        "address": to_hex(status.address),
        "engine": status.engine,
        "version": status.version,
        "genesisHash": to_hex(status.genesis),
        "height": hex(status.height),
        "durableHeight": hex(status.durable),
        "blockHash": to_hex(status.block),
        "latestHeight": hex(status.latest),
        "latestBlockHash": to_hex(status.latest_block),
        "blockTimeMs": hex(status.block_time_ms),
        "syncingTo": None if status.syncing_to is None else hex(status.syncing_to),
        "situation": describe_situation(status.situation),
        "nextTimeoutMs": status.next_timeout_ms,
        "whyStalled": status.why_stalled,
        "peers": [describe_peer(peer) for peer in status.peers],
        "validators": [describe_member(member) for member in status.validators],
        "pool": {
            "ready": status.pool_ready,
            "queued": status.pool_queued,
            "bytes": status.pool_bytes,
        },
        "counters": status.counters,
    }
