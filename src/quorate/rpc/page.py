"""What a browser, or a person with curl, sees at `/`."""

from html import escape

import msgspec
from msgspec import Struct


class Facts(Struct, frozen=True):
    """What the information page says."""

    client: str
    chain_id: int | None
    block_number: int | None
    namespaces: tuple[str, ...]
    methods: int


def render_info(facts: Facts) -> bytes:
    """Return the facts as JSON."""
    return msgspec.json.encode(
        {
            "client": facts.client,
            "chainId": facts.chain_id,
            "blockNumber": facts.block_number,
            "namespaces": facts.namespaces,
            "methods": facts.methods,
            "usage": "POST JSON-RPC 2.0 here as application/json, or open a WebSocket",
        }
    )


def render_page(facts: Facts) -> bytes:
    """Return the facts as a small HTML page."""
    rows = [
        ("Client", facts.client),
        ("Chain id", "not ready" if facts.chain_id is None else str(facts.chain_id)),
        ("Block", "not ready" if facts.block_number is None else str(facts.block_number)),
        ("Namespaces", ", ".join(facts.namespaces)),
    ]
    body = "".join(f"<tr><th>{escape(name)}<td>{escape(value)}" for name, value in rows)
    return (
        "<!doctype html><meta charset=utf-8><title>Quorate JSON-RPC</title>"
        "<style>body{font:16px system-ui;margin:3em auto;max-width:42em}th{text-align:left;"
        "padding-right:2em}</style><h1>Quorate JSON-RPC</h1>"
        f"<table>{body}</table><p>Send JSON-RPC 2.0 by POST as <code>application/json</code>, "
        "or open a WebSocket at this address."
    ).encode()
