"""From the bytes of a request to the bytes of its answer: JSON-RPC 2.0 with batches.

Items of a batch take effect in order, as if sent one after another. Neighbours of one kind go
together: transactions to the validator in one message, slow reads to the threads, so that a batch
costs one round trip.

Results are JSON already (from the kernel or `quantity` and the like) and are spliced, never
re-encoded; ids are echoed byte for byte.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import Enum
from typing import Any, TypeAlias

import msgspec
from msgspec import Raw, Struct

from quorate.rpc.errors import (
    INTERNAL,
    INVALID_PARAMS,
    INVALID_REQUEST,
    NO_METHOD,
    PARSE,
    TOO_LARGE,
    BadArgument,
    RpcError,
    translate,
)
from quorate.rpc.parameters import Parser
from quorate.rpc.responder import Responder
from quorate.rpc.settings import Settings
from quorate.rpc.workers import Workers

logger = logging.getLogger(__name__)

Answer: TypeAlias = bytes | None
"""None: only notifications, which have no answer."""


class Kind(Enum):
    """How a method runs."""

    INLINE = 0
    """At once, on the loop: microseconds."""
    SLOW = 1
    """In a thread."""
    ASYNC = 2
    """A coroutine, which waits for the validator and bounds itself in time."""
    SUBMIT = 3
    """A raw transaction for the pool: collected."""
    SESSION = 4
    """Inline, and needs the connection that it came by."""


class Parameter(Struct, frozen=True):
    parse: Parser
    required: bool = True
    default: Any = None


class Method(Struct, frozen=True):
    name: str
    kind: Kind
    call: Callable[..., Any]
    parameters: tuple[Parameter, ...] = ()

    def read(self, params: Raw) -> tuple[Any, ...]:
        """Return the parsed arguments. Raises RpcError in geth's words."""
        values = decode_params(params)
        parameters = self.parameters
        if len(values) > len(parameters):
            raise RpcError(INVALID_PARAMS, f"too many arguments, want at most {len(parameters)}")
        arguments = []
        for index, parameter in enumerate(parameters):
            value = values[index] if index < len(values) else None
            if value is None and (index >= len(values) or not parameter.required):
                if parameter.required:
                    message = f"missing value for required argument {index}"
                    raise RpcError(INVALID_PARAMS, message)
                arguments.append(parameter.default)
                continue
            try:
                arguments.append(parameter.parse(value))
            except BadArgument as error:
                raise RpcError(INVALID_PARAMS, f"invalid argument {index}: {error}") from None
        return tuple(arguments)


def required(parse: Parser) -> Parameter:
    return Parameter(parse)


def optional(parse: Parser, default: Any = None) -> Parameter:
    return Parameter(parse, False, default)


class Request(Struct, gc=False):
    """One call. `Raw` keeps the id's bytes; empty means absent."""

    method: str
    jsonrpc: str = ""
    id: Raw = Raw(b"")
    params: Raw = Raw(b"")


class Identified(Struct, gc=False):
    """What can still be read of a request that is not one."""

    id: Raw = Raw(b"")


REQUEST = msgspec.json.Decoder(Request)
REQUESTS = msgspec.json.Decoder(list[Request])
ITEMS = msgspec.json.Decoder(list[Raw])
IDENTIFIED = msgspec.json.Decoder(Identified)
PARAMS = msgspec.json.Decoder(list[Any])
ANY = msgspec.json.Decoder()

MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the decoders raise; RecursionError where nesting is too deep."""

TOO_LARGE_ANSWER = RpcError(TOO_LARGE, "response too large")


def decode_params(params: Raw) -> list[Any]:
    raw = bytes(params)
    if not raw or raw == b"null":
        return []
    try:
        return PARAMS.decode(raw)
    except msgspec.ValidationError:
        raise RpcError(INVALID_PARAMS, "non-array args") from None
    except MALFORMED as error:
        raise RpcError(INVALID_PARAMS, f"invalid params: {error}") from None


def result(request_id: bytes, value: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (request_id, value)


def failure(request_id: bytes, error: RpcError) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (request_id, error.encode())


def parse_failure(error: Exception) -> bytes:
    return failure(b"null", RpcError(PARSE, f"parse error: {error}"))


def is_scalar(request_id: bytes) -> bool:
    """Whether an id is a number, a string or null, and can be echoed."""
    if request_id.isdigit():
        return True
    if request_id[:1] in (b"{", b"["):
        return False
    try:
        ANY.decode(request_id)
    except MALFORMED:
        return False
    return True


class Exchange:
    """One incoming message, with the connection it came by if that can carry notifications."""

    __slots__ = ("fresh", "session")

    def __init__(self, session: Any = None) -> None:
        self.session = session
        self.fresh: list[Any] = []
        """Subscriptions made by this message; they start once its answer is on its way."""


class Started:
    """An item of a batch between parsing and answer."""

    __slots__ = ("arguments", "id", "method", "outcome")

    def __init__(self, request_id: bytes) -> None:
        self.id = request_id
        self.method: Method | None = None
        self.arguments: tuple[Any, ...] = ()
        self.outcome: bytes | Exception | None = None


class Dispatcher:
    """Answers messages from a table of methods.

    `submit` admits raw transactions: it returns (hash, None or why not) of each, in order.
    """

    def __init__(
        self,
        settings: Settings,
        workers: Workers,
        methods: Iterable[Method],
        submit: Callable[[list[bytes]], Awaitable[Sequence[tuple[bytes, str | None]]]],
        responder: Responder | None = None,
    ) -> None:
        self.settings = settings
        self.workers = workers
        self.methods = {method.name: method for method in methods}
        self.submit = submit
        self.responder = responder
        if responder is not None:
            responder.enable(self.methods)

    def answer(self, body: bytes, exchange: Exchange) -> Answer | Awaitable[Answer]:
        """Return the answer to a message, or an awaitable of it. Never raises."""
        responder = self.responder
        kernel = None if responder is None else responder.get()
        begun = None if kernel is None else kernel.answer(body)
        if begun is None or responder is None:
            return self.answer_here(body, exchange)
        if isinstance(begun, bytes):
            return begun
        return self.finish_read(responder.expect_future(begun), exchange)

    async def finish_read(self, found: Awaitable[tuple[bool, bytes]], exchange: Exchange) -> Answer:
        is_answered, content = await found
        if is_answered:
            return content
        answer = self.answer_here(content, exchange)
        return await answer if isinstance(answer, Awaitable) else answer

    def answer_here(self, body: bytes, exchange: Exchange) -> Answer | Awaitable[Answer]:
        """As `answer`, without the kernel's responder."""
        if body[:1] == b"[" or body.lstrip()[:1] == b"[":
            return self.answer_batch(body, exchange)
        try:
            request = REQUEST.decode(body)
        except msgspec.ValidationError:
            return self.refuse(body)
        except MALFORMED as error:
            return parse_failure(error)
        request_id = bytes(request.id)
        if not request_id:
            return self.notify(request, exchange)
        try:
            method, arguments = self.prepare(request, request_id)
            kind = method.kind
            if kind is Kind.INLINE:
                return self.finish(request_id, method.call(*arguments))
            if kind is Kind.SESSION:
                return self.finish(request_id, method.call(exchange, *arguments))
        except Exception as error:
            return failure(echoed(request_id), self.explain(error, request.method))
        return self.wait(request_id, method, arguments)

    def prepare(self, request: Request, request_id: bytes) -> tuple[Method, tuple[Any, ...]]:
        """Return the method and its arguments. Raises RpcError."""
        if request.jsonrpc != "2.0" or not is_scalar(request_id):
            raise RpcError(INVALID_REQUEST, "invalid request")
        method = self.methods.get(request.method)
        if method is None:
            name = request.method[:256]
            raise RpcError(NO_METHOD, f"the method {name} does not exist/is not available")
        return method, method.read(request.params)

    async def wait(self, request_id: bytes, method: Method, arguments: tuple[Any, ...]) -> Answer:
        try:
            if method.kind is Kind.SUBMIT:
                outcome = admitted((await self.submit([arguments[0]]))[0])
                if isinstance(outcome, Exception):
                    raise outcome
            elif method.kind is Kind.SLOW:
                outcome = await self.workers.run(method.call, arguments)
            else:
                outcome = await method.call(*arguments)
        except Exception as error:
            return failure(request_id, self.explain(error, method.name))
        return self.finish(request_id, outcome)

    def finish(self, request_id: bytes, value: bytes) -> bytes:
        if len(value) > self.settings.max_response_bytes:
            return failure(request_id, TOO_LARGE_ANSWER)
        return result(request_id, value)

    def notify(self, request: Request, exchange: Exchange) -> Answer | Awaitable[Answer]:
        """Do what a request without an id asks; whatever comes of it, there is no answer."""
        if request.jsonrpc != "2.0":
            return failure(b"null", RpcError(INVALID_REQUEST, "invalid request"))
        return self.run_silently(request, exchange)

    async def run_silently(self, request: Request, exchange: Exchange) -> None:
        item = Started(b"null")
        self.start(item, request)
        await self.run([item], exchange)

    def refuse(self, body: bytes) -> bytes:
        """Answer JSON that is not a request, with its id if it has one."""
        try:
            request_id = bytes(IDENTIFIED.decode(body).id)
        except msgspec.ValidationError:
            request_id = b""
        except MALFORMED as error:
            return parse_failure(error)
        return failure(echoed(request_id), RpcError(INVALID_REQUEST, "invalid request"))

    def explain(self, error: Exception, name: str) -> RpcError:
        """Return what the client is told; a bug of ours goes to the log with its traceback."""
        known = translate(error)
        if known is None:
            logger.error("%s failed", name, exc_info=error)
            return RpcError(INTERNAL, "internal error")
        return known

    def answer_batch(self, body: bytes, exchange: Exchange) -> Answer | Awaitable[Answer]:
        try:
            requests = decode_batch(body)
        except MALFORMED as error:
            return parse_failure(error)
        if not requests:
            return failure(b"null", RpcError(INVALID_REQUEST, "empty batch"))
        if len(requests) > self.settings.max_batch:
            found, most = len(requests), self.settings.max_batch
            message = f"batch too large: {found} items, at most {most}"
            return failure(b"null", RpcError(INVALID_REQUEST, message))
        return self.run_batch(requests, exchange)

    async def run_batch(self, requests: Sequence[Request | bytes], exchange: Exchange) -> Answer:
        items = []
        silent: set[int] = set()
        for index, request in enumerate(requests):
            if isinstance(request, bytes):
                item = Started(b"null")
                item.outcome = Refused(self.refuse(request))
            else:
                item = Started(bytes(request.id))
                if not item.id and request.jsonrpc == "2.0":
                    silent.add(index)
                self.start(item, request)
            items.append(item)
        await self.run(items, exchange)
        return self.join(items, silent)

    def start(self, item: Started, request: Request) -> None:
        try:
            item.method, item.arguments = self.prepare(request, item.id or b"null")
        except RpcError as error:
            item.outcome = error
            item.id = echoed(item.id)

    async def run(self, items: list[Started], exchange: Exchange) -> None:
        """Give every item its outcome, in runs of neighbours of one kind."""
        count, index = len(items), 0
        while index < count:
            item = items[index]
            method = item.method
            if method is None:
                index += 1
                continue
            end = index + 1
            if method.kind in (Kind.SUBMIT, Kind.SLOW):
                while end < count and is_kind(items[end], method.kind):
                    end += 1
            group = items[index:end]
            index = end
            try:
                await self.run_group(method.kind, group, exchange)
            except Exception as error:
                for item in group:
                    item.outcome = error

    async def run_group(self, kind: Kind, group: list[Started], exchange: Exchange) -> None:
        if kind is Kind.SUBMIT:
            verdicts = await self.submit([item.arguments[0] for item in group])
            for item, verdict in zip(group, verdicts, strict=True):
                item.outcome = admitted(verdict)
            return
        if kind is Kind.SLOW:
            jobs = [(item.method.call, item.arguments) for item in group if item.method]
            for item, outcome in zip(group, await self.workers.run_all(jobs), strict=True):
                item.outcome = outcome
            return
        (item,) = group
        assert item.method is not None
        if kind is Kind.ASYNC:
            item.outcome = await item.method.call(*item.arguments)
        elif kind is Kind.SESSION:
            item.outcome = item.method.call(exchange, *item.arguments)
        else:
            item.outcome = item.method.call(*item.arguments)

    def join(self, items: list[Started], silent: set[int]) -> Answer:
        """Return the array of answers; once it is too long, the rest of the items say so."""
        answers: list[bytes] = []
        size = 2
        for index, item in enumerate(items):
            if index in silent:
                continue
            outcome = item.outcome
            if isinstance(outcome, bytes):
                answer = result(item.id, outcome)
            elif isinstance(outcome, Refused):
                answer = outcome.answer
            else:
                assert outcome is not None
                name = item.method.name if item.method else "request"
                answer = failure(item.id, self.explain(outcome, name))
            size += len(answer) + 1
            if size > self.settings.max_response_bytes:
                answer = failure(item.id, TOO_LARGE_ANSWER)
            answers.append(answer)
        return b"[%b]" % b",".join(answers) if answers else None


class Refused(Exception):
    """An item that was no request; `answer` is complete."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer


def is_kind(item: Started, kind: Kind) -> bool:
    return item.method is not None and item.method.kind is kind


def admitted(verdict: tuple[bytes, str | None]) -> bytes | RpcError:
    """Return the hash as JSON, or the refusal."""
    transaction, reason = verdict
    if reason is None:
        return b'"0x%b"' % transaction.hex().encode()
    return RpcError(-32000, reason)


def echoed(request_id: bytes) -> bytes:
    return request_id if request_id and is_scalar(request_id) else b"null"


def decode_batch(body: bytes) -> Sequence[Request | bytes]:
    """Return the requests of a batch; what is not a request stays bytes. Raises as the decoders."""
    try:
        return REQUESTS.decode(body)
    except msgspec.ValidationError:
        return [split(bytes(item)) for item in ITEMS.decode(body)]


def split(item: bytes) -> Request | bytes:
    try:
        return REQUEST.decode(item)
    except MALFORMED:
        return item
