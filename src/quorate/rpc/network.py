"""net, web3 and rpc: who answers, and whether it is alone."""

import platform
import sys
from collections.abc import Iterable
from typing import Any

import msgspec

from quorate._kernel import __version__, keccak256
from quorate.rpc.dispatch import Kind, Method, required
from quorate.rpc.encoding import FALSE, TRUE, data, quantity, text, to_hex
from quorate.rpc.parameters import parse_data
from quorate.rpc.store import Store
from quorate.rpc.validator import Validator

DEV_MODULES = ("anvil", "evm", "hardhat", "personal")
"""Of networks for development, whatever `rpc.api` names."""


def get_client_version(is_dev: bool = False) -> str:
    """Return name, version and platform in the form of devp2p clients.

    Tools for development look for the name of a node whose helpers they know, so that a network for
    development begins with one.
    """
    python = ".".join(map(str, sys.version_info[:3]))
    machine = platform.machine().lower().replace("x86_64", "amd64").replace("aarch64", "arm64")
    own = f"quorate/v{__version__}/{sys.platform}-{machine}/python{python}"
    return f"anvil-compatible/dev/{own}" if is_dev else own


class Network:
    """Connection and version methods."""

    def __init__(self, store: Store, validator: Validator, namespaces: Iterable[str]) -> None:
        self.store = store
        self.validator = validator
        self.namespaces = (*namespaces, "rpc")

    def methods(self) -> list[Method]:
        return [
            Method("net_version", Kind.INLINE, self.get_network_id),
            Method("net_listening", Kind.INLINE, self.is_listening),
            Method("net_peerCount", Kind.ASYNC, self.count_peers),
            Method("web3_clientVersion", Kind.INLINE, self.get_version),
            Method("web3_sha3", Kind.INLINE, self.hash, (required(parse_data),)),
            Method("rpc_modules", Kind.INLINE, self.get_modules),
            Method("eth_config", Kind.INLINE, self.get_config),
            Method("eth_capabilities", Kind.INLINE, self.get_capabilities),
            Method("eth_syncing", Kind.ASYNC, self.get_syncing),
        ]

    def get_network_id(self) -> bytes:
        return b'"%d"' % self.store.view.chain_id

    def is_listening(self) -> bytes:
        return TRUE

    async def count_peers(self) -> bytes:
        if self.validator.path is None:
            return quantity(0)
        status = await self.validator.get_status()
        return quantity(sum(peer.connected for peer in status.peers))

    def get_config(self) -> bytes:
        """Return the rules of now and those that are scheduled (EIP-7910)."""
        return self.store.view.config_json()

    def get_capabilities(self) -> bytes:
        """Return from which block on each kind of data can be asked for."""
        view = self.store.view
        head = view.head()
        states, blocks, _ = view.history()
        found: dict[str, Any] = {
            kind: {"disabled": False, "oldestBlock": hex(oldest)}
            for kind, oldest in (
                ("state", states),
                *((kind, blocks) for kind in ("tx", "logs", "receipts", "blocks")),
                ("stateproofs", states),
            )
        }
        found["head"] = {"number": hex(head), "hash": to_hex(view.block_hash(head) or b"")}
        return msgspec.json.encode(found)

    def get_version(self) -> bytes:
        return text(get_client_version(self.store.is_dev))

    def hash(self, value: bytes) -> bytes:
        return data(keccak256(value))

    def get_modules(self) -> bytes:
        served = (*self.namespaces, *DEV_MODULES) if self.store.is_dev else self.namespaces
        return msgspec.json.encode(dict.fromkeys(sorted(served), "1.0"))

    async def get_syncing(self) -> bytes:
        if self.validator.path is None:
            return FALSE
        status = await self.validator.get_status()
        if status.syncing_to is None:
            return FALSE
        return msgspec.json.encode(
            {
                "startingBlock": "0x0",
                "currentBlock": hex(status.latest),
                "highestBlock": hex(status.syncing_to),
            }
        )
