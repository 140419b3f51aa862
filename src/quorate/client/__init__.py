"""Clients of key-value networks: `KeyValueClient` for asyncio, `open_client` for everybody else."""

from quorate.client.keyvalue import Change, Comparison, KeyValueClient, Refusal
from quorate.client.sync import SyncClient, open_client

__all__ = ["Change", "Comparison", "KeyValueClient", "Refusal", "SyncClient", "open_client"]
