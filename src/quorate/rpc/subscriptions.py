"""eth_subscribe and eth_unsubscribe, over WebSocket."""

import asyncio
import secrets
from typing import Any, Protocol

import msgspec

from quorate.rpc.dispatch import Exchange, Kind, Method, optional, required
from quorate.rpc.encoding import FALSE, TRUE
from quorate.rpc.errors import INVALID_PARAMS, LIMIT, NO_METHOD, SERVER, BadArgument, RpcError
from quorate.rpc.events import Events, Sink, Subscription
from quorate.rpc.logs import parse_criteria
from quorate.rpc.parameters import parse_string
from quorate.rpc.settings import Settings
from quorate.rpc.validator import Validator

SYNC_POLL_SECONDS = 1.0


class Session(Sink, Protocol):
    """A connection that can carry notifications."""

    subscriptions: dict[str, Subscription]


class Subscriptions:
    """The subscriptions of all connections."""

    def __init__(self, settings: Settings, validator: Validator, events: Events) -> None:
        self.settings = settings
        self.validator = validator
        self.events = events
        self.syncing: bytes | None = None
        """The last told, so that only changes are."""

    def methods(self) -> list[Method]:
        name = required(parse_string)
        return [
            Method(
                "eth_subscribe", Kind.SESSION, self.subscribe, (name, optional(lambda value: value))
            ),
            Method("eth_unsubscribe", Kind.SESSION, self.unsubscribe, (name,)),
        ]

    def subscribe(self, exchange: Exchange, kind: str, options: Any) -> bytes:
        session: Session | None = exchange.session
        if session is None:
            raise RpcError(NO_METHOD, "notifications not supported")
        if kind not in self.events.subscriptions:
            raise RpcError(NO_METHOD, f'no "{kind[:64]}" subscription in eth namespace')
        most = self.settings.max_subscriptions
        if len(session.subscriptions) >= most:
            raise RpcError(LIMIT, f"this connection has {most} subscriptions, no more are possible")
        most = self.settings.max_all_subscriptions
        if sum(map(len, self.events.subscriptions.values())) >= most:
            raise RpcError(LIMIT, f"this node has {most} subscriptions, no more are possible")
        criteria = None
        if kind == "logs" and options is not None:
            try:
                criteria = parse_criteria(options)
            except BadArgument as error:
                raise RpcError(INVALID_PARAMS, f"invalid argument 1: {error}") from None
        if kind == "newPendingTransactions":
            if options is True:
                raise RpcError(SERVER, "full transactions are not told, only their hashes")
            self.validator.watch_pending()
        subscription = Subscription("0x" + secrets.token_hex(16), kind, session, criteria)
        session.subscriptions[subscription.name] = subscription
        self.events.add(subscription)
        exchange.fresh.append(subscription)
        return b'"%b"' % subscription.name.encode()

    def unsubscribe(self, exchange: Exchange, name: str) -> bytes:
        session: Session | None = exchange.session
        if session is None:
            raise RpcError(NO_METHOD, "notifications not supported")
        subscription = session.subscriptions.pop(name, None)
        if subscription is None:
            raise RpcError(SERVER, "subscription not found")
        self.events.remove(subscription)
        return TRUE

    def drop(self, session: Session) -> None:
        """Forget what a closed connection wanted."""
        for subscription in session.subscriptions.values():
            self.events.remove(subscription)
        session.subscriptions.clear()

    async def watch_syncing(self) -> None:
        """Tell subscribers when the node falls behind and when it has caught up."""
        while True:
            await asyncio.sleep(SYNC_POLL_SECONDS)
            if not self.events.subscriptions["syncing"]:
                self.syncing = None
                continue
            try:
                status = await self.validator.get_status()
            except RpcError:
                continue
            value = FALSE
            if status.syncing_to is not None:
                value = msgspec.json.encode({"syncing": True, "status": {}})
            if self.syncing is not None and value != self.syncing:
                self.events.tell_syncing(value)
            self.syncing = value
