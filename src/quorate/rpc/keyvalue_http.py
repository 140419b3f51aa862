"""The HTTP/JSON port of a key-value network.

    PUT    /v1/kv/KEY            body: the value            -> {"revision": n}
           ?if_revision=n        only if that was its last change (0: if it is absent), else 412
    GET    /v1/kv/KEY            -> {"key", "value", "created", "modified", "version", "height"}
           ?stale                what this node knows, without asking the others
           ?raw                  the value alone, numbers in headers
    DELETE /v1/kv/KEY            -> {"revision": n}, 404 if there was nothing; ?if_revision=n
    POST   /v1/cas               {"key", "value" or null, "expected": value or "revision": n}
                                 -> {"succeeded": true or false, "revision": n}
    POST   /v1/call              body: for the application's own code -> {"answer", "revision"}
    GET    /v1/watch?key=K       or prefix=P, and from=REVISION: server-sent events
    GET    /v1/proof/KEY         an entry with its proof, bytes in hexadecimal
    GET    /v1/status            height, revision, engine

Keys are percent-encoded. Text is shown as `value` where it is UTF-8, otherwise as `value_base64`;
`value_base64` may be given as well. A client that wants to send a change again after an answer was
lost numbers its changes: `quorate-request: CLIENT-SEQUENCE[-ACKNOWLEDGED]`, where CLIENT is 32
hexadecimal digits of its own choice, and everything up to ACKNOWLEDGED was answered.

Errors are {"error": {"code", "message"}} with the conventional status: 400, 404, 405, 410 (history
that is gone), 412, 413, 422 (the application says no), 503, 504 (outcome not known: ask again with
the same number).
"""

import base64
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias
from urllib.parse import parse_qs, unquote_to_bytes

import msgspec
from msgspec import Meta, Struct

from quorate.base.errors import Invalid, Unavailable
from quorate.ledger.keyvalue import Event
from quorate.ledger.operations import (
    CONFLICT,
    HORIZON_MS,
    MAX_VALUE_BYTES,
    MISSING,
    REFUSED,
    Action,
    Entry,
    check_key,
    encode,
    make_call,
    make_compare,
    make_delete,
    make_put,
)
from quorate.rpc.http1 import Head, HttpProtocol, Response, Slot
from quorate.rpc.http1 import encode as encode_response
from quorate.rpc.keyvalue_proof import make_proof
from quorate.rpc.keyvalue_service import Failure, Result, Watch

if TYPE_CHECKING:
    from quorate.rpc.keyvalue_server import KeyValueServer

__all__ = ["HttpConnection", "HttpHandler"]

MAX_BODY_BYTES = 4 * MAX_VALUE_BYTES
"""JSON may need more than the value that it holds."""
MAX_REQUEST_BYTES = MAX_BODY_BYTES + (64 << 10)
MAX_UNREAD_BYTES = 16 << 20
EVENTS_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n"
    b"connection: close\r\n\r\n"
)
CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    410: "compacted",
    412: "conflict",
    413: "too_large",
    422: "refused",
    429: "too_slow",
    503: "unavailable",
    504: "unknown_outcome",
}
NO_PATH = Failure(
    404,
    "no such path, expected /v1/kv/KEY, /v1/cas, /v1/call, /v1/watch, /v1/proof/KEY or /v1/status",
)
REQUEST_HEADER = b"quorate-request"
FLAGS = {"": True, "1": True, "true": True, "0": False, "false": False}
Show: TypeAlias = Callable[[Result], bytes | Response]


class Compare(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of /v1/cas."""

    key: str
    value: str | None = None
    value_base64: str | None = None
    expected: str | None = None
    expected_base64: str | None = None
    revision: Annotated[int, Meta(ge=0, lt=1 << 62)] | None = None


_COMPARE = msgspec.json.Decoder(Compare)


class HttpHandler:
    """What the HTTP parser asks of its server (`http1.Handler`)."""

    max_request_bytes = MAX_REQUEST_BYTES

    def __init__(self, server: "KeyValueServer") -> None:
        self.server = server
        self.held_bytes = 0

    def open(self, connection: HttpProtocol) -> bool:
        return True

    def forget(self, connection: HttpProtocol) -> None:
        if isinstance(connection, HttpConnection):
            connection.end_watches()
        self.server.forget(connection)

    def refuse(self, head: Head) -> Response | None:
        return None

    def refuse_body(self, size: int) -> Response | None:
        if size <= MAX_BODY_BYTES:
            return None
        failure = Failure(413, f"a body of {size} bytes, expected at most {MAX_BODY_BYTES}")
        return as_response(failure, close=True)

    def get_headers(self, head: Head) -> list[tuple[bytes, bytes]]:
        return []

    # Connections route their requests themselves; whatever comes here has no path.

    def post(self, body: bytes) -> bytes:
        return msgspec.json.encode(as_error(NO_PATH))

    async def get(self, head: Head) -> Response:
        return as_response(NO_PATH)

    def make_websocket(self) -> "HttpConnection":
        """There is no WebSocket here: a connection refuses to become one."""
        return HttpConnection(self.server)


class HttpConnection(HttpProtocol):
    """One connection."""

    def __init__(self, server: "KeyValueServer") -> None:
        super().__init__(server.http, server.loop)
        self.server, self.service = server, server.service
        self.watching: Watch | None = None

    def end_watches(self) -> None:
        if self.watching is not None:
            self.service.forget(self.watching)
            self.watching = None

    # ---- requests

    def hand_over(self, rest: bytes) -> None:
        """There is no WebSocket here: what asks for one is refused."""
        self.reject(400)
        self.transport.write(b"".join(self.out))
        self.out.clear()
        self.flush()

    def complete(self) -> None:
        """Answer the request that was read, now or when its answer is there."""
        if self.watching is not None:
            return
        head, size = self.head, self.size
        self.size = 0
        slot = Slot([], head.method == b"HEAD", size)
        slot.close = not self.parser.should_keep_alive()
        if self.refusal is not None:
            self.release(slot, self.refusal)
            return
        parts = self.parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self.slots.append(slot)
        self.closing = self.closing or slot.close
        try:
            self.route(slot, head, body)
        except Failure as failure:
            self.settle(slot, as_response(failure))
        except Invalid as error:
            self.settle(slot, as_response(Failure(400, str(error))))
        except Unavailable as error:
            self.settle(slot, as_response(Failure(503, str(error))))

    def route(self, slot: Slot, head: Head, body: bytes) -> None:
        path, _, text = head.url.partition(b"?")
        method = head.method
        query = read_query(text) if text else {}
        if path.startswith(b"/v1/kv/"):
            key = check_key(unquote_to_bytes(path[7:]))
            if method == b"PUT":
                expect_of(query, "if_revision")
                self.change(slot, make_conditional(key, body, query), show_revision)
            elif method == b"GET" or method == b"HEAD":
                expect_of(query, "stale", "raw")
                self.read(slot, key, query)
            elif method == b"DELETE":
                expect_of(query, "if_revision")
                self.change(slot, make_conditional(key, None, query), show_revision)
            else:
                raise wrong_method(method, b"PUT", b"GET", b"HEAD", b"DELETE")
            return
        if path != b"/v1/watch":
            expect_of(query)
        if path == b"/v1/cas":
            expect(method, b"POST")
            self.change(slot, read_compare(body), show_comparison)
        elif path == b"/v1/call":
            expect(method, b"POST")
            self.change(slot, make_call(body), show_answer)
        elif path == b"/v1/watch":
            expect(method, b"GET")
            self.watch(slot, query)
        elif path.startswith(b"/v1/proof/"):
            expect(method, b"GET", b"HEAD")
            key = check_key(unquote_to_bytes(path[10:]))
            self.settle(slot, as_json(to_text(make_proof(self.service.ledger, key))))
        elif path == b"/v1/status":
            expect(method, b"GET", b"HEAD")
            self.settle(slot, as_json(self.server.get_status()))
        else:
            raise NO_PATH

    def change(
        self, slot: Slot, action: Action, show: Callable[[Result], bytes | Response]
    ) -> None:
        def done(result: Result | Failure) -> None:
            if isinstance(result, Failure):
                self.settle(slot, as_response(result))
            else:
                self.settle(slot, show(result))

        numbered = next((value for name, value in self.headers if name == REQUEST_HEADER), None)
        if numbered is None:
            self.service.do(action, done)
        else:
            self.service.submit(read_number(numbered, action), done)

    def read(self, slot: Slot, key: bytes, query: dict[str, str]) -> None:
        raw, stale = read_flag(query, "raw"), read_flag(query, "stale")
        ledger = self.service.ledger

        def show(failure: Failure | None) -> None:
            if failure is not None:
                self.settle(slot, as_response(failure))
                return
            height, revision, entry = ledger.get(key, None if stale else ledger.store.final())
            if entry is None:
                self.settle(slot, as_response(Failure(404, f"key not found at height {height}")))
            elif raw:
                self.settle(slot, as_raw(entry))
            else:
                shown = describe(key, entry)
                self.settle(slot, as_json({**shown, "height": height, "revision": revision}))

        if stale:
            show(None)
        else:
            self.service.read(show)

    def watch(self, slot: Slot, query: dict[str, str]) -> None:
        expect_of(query, "key", "prefix", "from")
        if ("key" in query) == ("prefix" in query):
            raise Failure(400, "watch: expected either key=... or prefix=...")
        if len(self.slots) > 1:
            raise Failure(400, "watch: expected no other requests under way on this connection")
        key = query.get("key", query.get("prefix", "")).encode("utf-8", "surrogateescape")
        revision = read_integer(query, "from", 0)
        watch = Watch(self, 0, key, "prefix" in query, revision)
        self.slots.clear()
        self.closing = True
        self.watching = watch
        self.transport.write(EVENTS_HEAD)
        try:
            self.service.watch(watch)
        except (Failure, Unavailable) as error:
            self.end(watch, error if isinstance(error, Failure) else Failure(410, str(error)))

    # ---- watches

    def tell(self, watch: Watch, events: list[Event]) -> bool:
        if self.transport.is_closing():
            return False
        lines = []
        for key, revision, found in events:
            if found is None:
                kind, shown = b"delete", describe_key(key)
            else:
                kind, shown = b"put", describe(key, Entry(*found))
            data = msgspec.json.encode({**shown, "revision": revision})
            lines.append(b"event: %b\nid: %d\ndata: %b\n\n" % (kind, revision, data))
        self.transport.write(b"".join(lines))
        return bool(self.transport.get_write_buffer_size() < MAX_UNREAD_BYTES)

    def end(self, watch: Watch, failure: Failure) -> None:
        self.watching = None
        if not self.transport.is_closing():
            body = msgspec.json.encode(as_error(failure))
            self.transport.write(b"event: error\ndata: %b\n\n" % body)
            self.transport.close()

    def sweep(self, now: float) -> None:
        """End slow requests; tell a watch's client, and whoever stands between, that it lives."""
        if self.watching is None:
            super().sweep(now)
        elif not self.transport.is_closing():
            self.transport.write(b": alive\n\n")

    def finish(self) -> None:
        # A watch goes on although no more requests are taken.
        if self.watching is None:
            super().finish()

    # ---- answers

    def settle(self, slot: Slot, answer: bytes | Response) -> None:
        """An answer is there; it leaves at the end of this turn, behind those before it."""
        slot.data = encode_response(slot, answer)
        self.handler.held_bytes -= slot.size
        slot.size = 0
        if not self.flushing:
            self.flushing = True
            self.server.leave_soon(self)


# ---- reading requests


def read_query(text: bytes) -> dict[str, str]:
    """Return the parameters of a URL, each at most once."""
    try:
        found = parse_qs(
            text.decode("ascii"), keep_blank_values=True, max_num_fields=8, errors="surrogateescape"
        )
    except ValueError as error:
        raise Failure(400, f"query: {error}") from None
    for name, values in found.items():
        if len(values) > 1:
            raise Failure(
                400, f"parameter {name[:32]!r}: found it {len(values)} times, expected once"
            )
    return {name: values[0] for name, values in found.items()}


def read_integer(query: dict[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Failure(400, f"{name}: found {text[:32]!r}, expected a number")
    return int(text)


def read_flag(query: dict[str, str], name: str) -> bool:
    """Whether something is asked for: by its name alone, or by a word for yes."""
    if name not in query:
        return False
    text = query[name]
    if text not in FLAGS:
        raise Failure(400, f"{name}: found {text[:32]!r}, expected nothing, 1 or 0")
    return FLAGS[text]


def expect_of(query: dict[str, str], *names: str) -> None:
    """Refuse parameters that mean nothing here: a condition with a slip in its name is none."""
    for name in query:
        if name not in names:
            wanted = f"expected {' or '.join(names)}" if names else "expected none here"
            raise Failure(400, f"parameter {name[:32]!r}: {wanted}")


def make_conditional(key: bytes, value: bytes | None, query: dict[str, str]) -> Action:
    if "if_revision" in query:
        return make_compare(key, value, revision=read_integer(query, "if_revision", 0))
    return make_delete(key) if value is None else make_put(key, value)


def read_compare(body: bytes) -> Action:
    try:
        asked = _COMPARE.decode(body)
    except msgspec.MsgspecError as error:
        raise Failure(400, f"body: {error}") from None
    value = read_bytes(asked.value, asked.value_base64, "value")
    expected = read_bytes(asked.expected, asked.expected_base64, "expected")
    if (expected is None) == (asked.revision is None):
        raise Failure(400, "body: expected either `expected` or `revision` (0: the key is absent)")
    return make_compare(asked.key.encode(), value, revision=asked.revision, expected=expected)


def read_bytes(text: str | None, encoded: str | None, name: str) -> bytes | None:
    if encoded is None:
        return None if text is None else text.encode()
    if text is not None:
        raise Failure(400, f"{name}: found it twice, expected {name} or {name}_base64")
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise Failure(400, f"{name}_base64: {error}") from None


def read_number(header: bytes, action: Action) -> bytes:
    """Return the operation that a client has numbered itself."""
    try:
        client, *numbers = header.decode("ascii").split("-")
        sequence, acknowledged = (int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0)
        identity = bytes.fromhex(client)
    except (ValueError, IndexError):
        raise Failure(400, f"quorate-request: found {header[:80]!r}, expected {EXPECTED}") from None
    if len(identity) != 16 or len(numbers) > 2 or not 0 <= acknowledged < sequence < 1 << 62:
        raise Failure(400, f"quorate-request: found {header[:80]!r}, expected {EXPECTED}")
    deadline_ms = time.time_ns() // 1_000_000 + HORIZON_MS
    return encode(action, identity, sequence, acknowledged, deadline_ms)


EXPECTED = "CLIENT-SEQUENCE[-ACKNOWLEDGED], 32 hexadecimal digits and numbers that grow"


def expect(method: bytes, *wanted: bytes) -> None:
    if method not in wanted:
        raise wrong_method(method, *wanted)


def wrong_method(method: bytes, *wanted: bytes) -> Failure:
    allowed = b", ".join(wanted)
    found = method[:16].decode("ascii", "replace")
    return Failure(405, f"method {found}, expected {allowed.decode()}", allowed)


# ---- writing answers


def show_revision(result: Result) -> bytes | Response:
    outcome, revision, detail = result
    if outcome == 0:
        return b'{"revision":%d}' % revision
    return as_response(explain(outcome, revision, detail))


def show_comparison(result: Result) -> bytes | Response:
    outcome, revision, detail = result
    if outcome in (0, CONFLICT, MISSING):
        return b'{"succeeded":%b,"revision":%d}' % (b"true" if outcome == 0 else b"false", revision)
    return as_response(explain(outcome, revision, detail))


def show_answer(result: Result) -> bytes | Response:
    outcome, revision, detail = result
    if outcome != 0:
        return as_response(explain(outcome, revision, detail))
    return msgspec.json.encode({**describe_bytes("answer", detail), "revision": revision})


def explain(outcome: int, revision: int, detail: bytes) -> Failure:
    """Return the failure that an outcome is to a client."""
    if outcome == MISSING:
        return Failure(404, "key not found")
    if outcome == CONFLICT:
        found = f"was changed last at revision {revision}" if revision else "is absent"
        return Failure(412, f"the key {found}, which is not what was expected")
    assert outcome == REFUSED
    return Failure(422, detail.decode("utf-8", "replace"))


def as_error(failure: Failure) -> dict[str, Any]:
    code = CODES.get(failure.status, "error")
    return {"error": {"code": code, "message": failure.message}}


def as_response(failure: Failure, *, close: bool = False) -> Response:
    headers = [(b"allow", failure.allowed)] if failure.allowed else []
    body = msgspec.json.encode(as_error(failure))
    return Response(failure.status, body, headers=headers, close=close)


def as_json(fields: dict[str, Any]) -> bytes:
    return msgspec.json.encode(fields)


def as_raw(entry: Entry) -> Response:
    headers = [
        (b"quorate-created", b"%d" % entry.created),
        (b"quorate-modified", b"%d" % entry.modified),
        (b"quorate-version", b"%d" % entry.version),
    ]
    return Response(200, entry.value, b"application/octet-stream", headers)


def describe(key: bytes, entry: Entry) -> dict[str, Any]:
    return {
        **describe_key(key),
        **describe_bytes("value", entry.value),
        "created": entry.created,
        "modified": entry.modified,
        "version": entry.version,
    }


def describe_key(key: bytes) -> dict[str, str]:
    return describe_bytes("key", key)


def describe_bytes(name: str, value: bytes) -> dict[str, str]:
    """Return bytes as text where they are UTF-8, otherwise in base64 under another name."""
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def to_text(value: Any) -> Any:
    """Return a proof with its bytes in hexadecimal."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, dict):
        return {name: to_text(found) for name, found in value.items()}
    if isinstance(value, list | tuple):
        return [to_text(found) for found in value]
    return value
