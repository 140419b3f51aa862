"""What an operator can set, with defaults that are safe on a public port."""

import os
from ipaddress import ip_address

from msgspec import Struct

DEFAULT_NAMESPACES = ("eth", "net", "web3", "quorate")
NAMESPACES = (*DEFAULT_NAMESPACES, "txpool", "debug", "trace", "ots", "admin")


class Settings(Struct, frozen=True, kw_only=True):
    """Bounds and access rules of one JSON-RPC process."""

    namespaces: tuple[str, ...] = DEFAULT_NAMESPACES
    allowed_hosts: tuple[str, ...] = ("localhost",)
    """Names that a request may carry in its Host header; addresses always may, `*` allows every
    name.

    A page on a foreign name that resolves to this machine (DNS rebinding) is thereby refused.
    """
    cors_origins: tuple[str, ...] = ()
    """Origins of pages that may call from a browser; `*` allows all."""
    max_body_bytes: int = 5 << 20
    max_batch: int = 1000
    max_response_bytes: int = 25 << 20
    max_connections: int = 4096
    max_requests: int = 1024
    """HTTP requests that are answered at one time."""
    max_in_flight: int = 64
    """WebSocket messages of one connection that are answered at one time."""
    max_notifications: int = 4096
    """Waiting notifications of one connection, after which it counts as too slow and is closed."""
    max_notification_bytes: int = 32 << 20
    max_subscriptions: int = 128
    """Of one connection."""
    max_all_subscriptions: int = 16_384
    """Of all connections: each of them is told of each block in one turn of the loop."""
    max_filters: int = 1024
    filter_seconds: float = 300.0
    """A filter that nobody asks for changes is forgotten after this time."""
    threads: int = max(1, min(4, (os.cpu_count() or 2) // 2))
    """For calls and other slow reads; what is left of the machine belongs to agreement."""
    max_waiting_calls: int = 4096
    """In the kernel's threads, and as many again in those for what the kernel leaves."""
    call_seconds: float = 10.0
    gas_cap: int = 50_000_000
    max_log_blocks: int = 100_000
    max_logs: int = 20_000
    sync_seconds: float = 20.0
    """How long eth_sendRawTransactionSync waits where the caller does not say."""
    max_sync_seconds: float = 60.0
    min_peers: int = 1
    """For readiness, in a network of more than one validator."""
    max_blocks_behind: int = 2

    def allows_host(self, header: str) -> bool:
        """Whether a request with this Host header may be answered."""
        if not header or "*" in self.allowed_hosts:
            return True
        name = header.rpartition("]")[0].lstrip("[") or header.partition(":")[0]
        if name.lower() in self.allowed_hosts:
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True

    def allows_origin(self, origin: str) -> bool:
        """Whether a page of this origin may call."""
        return "*" in self.cors_origins or origin in self.cors_origins
