"""Verification for those who trust a genesis and nobody's node.

Certificate, envelope, payload head, hash of the parent's block, header, state root, proof: each
step is checked against the one before. Nothing here does IO; a caller passes a function that asks a
node.
"""

from quorate.light.anchor import Anchor, read_genesis
from quorate.light.client import LightClient
from quorate.light.headers import Header
from quorate.light.proofs import Account
from quorate.light.work import WorkClient, make_light_client

__all__ = [
    "Account",
    "Anchor",
    "Header",
    "LightClient",
    "WorkClient",
    "make_light_client",
    "read_genesis",
]
