"""admin_: who this node is and whom it knows. What would change the node is for its operator.

Source: the documentation of geth's admin namespace. There are no node records here: a validator's
address stands for the node's id, since that is what peers prove to each other.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from quorate.node.status import PeerStatus
from quorate.rpc.dispatch import Kind, Method, optional
from quorate.rpc.encoding import text, to_hex
from quorate.rpc.errors import SERVER, RpcError
from quorate.rpc.network import get_client_version
from quorate.rpc.store import Store
from quorate.rpc.validator import Validator

MEMBERS = (
    "peers are the validators that the chain names, and in an open network those that "
    "`quorate peers` shows; change them with a vote, network.toml or `quorate peers ban`"
)
PROCESS = "where JSON-RPC listens is set in network.toml, rpc, and takes effect with a restart"
FILES = "no request may read or write files of this machine; use `quorate {}` there"
REFUSED = {
    "admin_addPeer": MEMBERS,
    "admin_removePeer": MEMBERS,
    "admin_addTrustedPeer": MEMBERS,
    "admin_removeTrustedPeer": MEMBERS,
    "admin_startHTTP": PROCESS,
    "admin_stopHTTP": PROCESS,
    "admin_startWS": PROCESS,
    "admin_stopWS": PROCESS,
    "admin_exportChain": FILES.format("export"),
    "admin_importChain": FILES.format("import"),
}
"""What changes the node, and why that is refused."""
MAX_PARAMETERS = 6


def refuse(name: str, reason: str) -> Callable[..., bytes]:
    def call(*_: Any) -> bytes:
        raise RpcError(SERVER, f"{name} is refused: {reason}")

    return call


class Admin:
    """Reads for operators."""

    def __init__(self, store: Store, validator: Validator) -> None:
        self.store = store
        self.validator = validator

    def methods(self) -> list[Method]:
        anything = (optional(lambda value: value),) * MAX_PARAMETERS
        refused = [
            Method(name, Kind.INLINE, refuse(name, reason), anything)
            for name, reason in REFUSED.items()
        ]
        return [
            Method("admin_nodeInfo", Kind.ASYNC, self.get_info),
            Method("admin_peers", Kind.ASYNC, self.get_peers),
            Method("admin_datadir", Kind.INLINE, self.get_folder),
            *refused,
        ]

    def get_folder(self) -> bytes:
        """Return where the ledger lies."""
        return text(str(Path(self.store.path).absolute()) if self.store.path else "")

    async def get_info(self) -> bytes:
        view = self.store.view
        head = view.head()
        rules = msgspec.json.decode(view.config_json())
        info: dict[str, Any] = {
            "id": "",
            "name": get_client_version(),
            "enode": "",
            "enr": "",
            "ip": "",
            "ports": {"discovery": 0, "listener": 0},
            "listenAddr": "",
            "protocols": {
                "eth": {
                    "network": view.chain_id,
                    "difficulty": 0,
                    "genesis": to_hex(view.genesis_hash),
                    "config": rules.get("current"),
                    "head": to_hex(view.block_hash(head) or b""),
                }
            },
        }
        if self.validator.path is not None:
            status = await self.validator.get_status()
            info["id"] = to_hex(status.address)
            info["protocols"]["quorate"] = {
                "engine": status.engine,
                "final": status.height,
                "latest": status.latest,
            }
        return msgspec.json.encode(info)

    async def get_peers(self) -> bytes:
        """Return those that are connected."""
        if self.validator.path is None:
            return b"[]"
        status = await self.validator.get_status()
        peers = [describe_peer(peer) for peer in status.peers if peer.connected]
        return msgspec.json.encode(peers)


def describe_peer(peer: PeerStatus) -> dict[str, Any]:
    return {
        "id": to_hex(peer.address),
        "name": "quorate",
        "enode": "",
        "caps": ["quorate/1"],
        "network": {
            "localAddress": "",
            "remoteAddress": peer.at,
            "inbound": peer.direction == "inbound",
            "trusted": False,
            "static": not peer.direction,
        },
        "protocols": {"quorate": {"height": peer.height, "lastHeardMs": peer.last_heard_ms}},
    }
