"""All methods of one process, put together."""

from __future__ import annotations

import contextlib

from quorate import _kernel
from quorate.base.errors import Unavailable
from quorate.rpc.accounts import Accounts
from quorate.rpc.addresses import Addresses
from quorate.rpc.admin import Admin
from quorate.rpc.chain import Chain
from quorate.rpc.debug import Debug, Trace
from quorate.rpc.dev import Dev
from quorate.rpc.dispatch import Dispatcher, Method
from quorate.rpc.errors import RpcError
from quorate.rpc.events import Events
from quorate.rpc.fees import Fees
from quorate.rpc.fill import Filler
from quorate.rpc.filters import Filters
from quorate.rpc.finality import Finality
from quorate.rpc.logs import Logs
from quorate.rpc.membership import Membership
from quorate.rpc.network import Network, get_client_version
from quorate.rpc.otterscan import Otterscan
from quorate.rpc.page import Facts
from quorate.rpc.responder import Responder
from quorate.rpc.settings import Settings
from quorate.rpc.store import Store
from quorate.rpc.subscriptions import Subscriptions
from quorate.rpc.transactions import Transactions
from quorate.rpc.txpool import TransactionPool
from quorate.rpc.validator import Validator
from quorate.rpc.workers import Workers


class Api:
    """The methods over one ledger and one validator, without any transport."""

    def __init__(
        self, settings: Settings, ledger: str, socket: str | None, view: _kernel.View | None = None
    ) -> None:
        """Without a socket there is no validator, and what needs one is refused."""
        self.settings = settings
        self.store = Store(ledger, view)
        self.workers = Workers(settings.threads, settings.max_waiting_calls, settings.call_seconds)
        self.events = Events(self.store)
        self.validator = Validator(socket, self.events.on_committed, self.events.on_pending)
        self.subscriptions = Subscriptions(settings, self.validator, self.events)
        self.addresses = Addresses(self.store)
        logs = Logs(settings, self.store)
        filters = Filters(settings, self.store, self.validator, self.workers, logs, self.events)
        self.events.listeners.append(filters.on_pending)
        groups: list[list[Method]] = [
            Chain(self.store, self.validator, self.workers, self.events).methods(),
            Accounts(settings, self.store, self.validator).methods(),
            Fees(self.store).methods(),
            logs.methods(),
            filters.methods(),
            Transactions(settings, self.store, self.validator, self.events).methods(),
            self.subscriptions.methods(),
            Network(self.store, self.validator, settings.namespaces).methods(),
            Membership(self.store, self.validator).methods(),
            Finality(self.store).methods(),
            TransactionPool(self.validator, self.workers).methods(),
            Admin(self.store, self.validator).methods(),
            Filler(settings, self.store, self.validator, self.workers).methods(),
            Debug(settings, self.store).methods(),
            Trace(settings, self.store).methods(),
            Otterscan(self.store, self.addresses).methods(),
        ]
        served = {*settings.namespaces, "rpc"}
        if "ots" in served:
            served.add("erigon")
        methods = [
            method
            for group in groups
            for method in group
            if method.name.partition("_")[0] in served
        ]
        # Always there: on any other network they say where they belong.
        self.dev = Dev(settings, self.store, self.validator, self.events)
        methods += self.dev.methods()
        self.responder = Responder(settings, self.store)
        submit = self.dev.inclusion.submit
        self.dispatcher = Dispatcher(settings, self.workers, methods, submit, self.responder)

    async def run(self) -> None:
        """Follow the validator until cancelled."""
        if "ots" in self.settings.namespaces:
            self.addresses.resume()
        await self.validator.start()
        try:
            await self.subscriptions.watch_syncing()
        finally:
            self.dev.close()
            await self.validator.stop()

    async def wait_for_validator(self, seconds: float) -> None:
        """Return when the validator is connected, or after so many seconds."""
        if self.validator.path is None:
            return
        with contextlib.suppress(Unavailable):
            await self.validator.client.wait_connected(seconds)

    def close(self) -> None:
        self.workers.close()
        self.responder.close()
        self.addresses.close()
        self.store.close()

    def get_facts(self) -> Facts:
        """Return what the information page says."""
        try:
            view = self.store.view
            chain_id: int | None = view.chain_id
            head: int | None = view.head()
        except RpcError:
            chain_id = head = None
        settings = self.settings
        return Facts(
            get_client_version(),
            chain_id,
            head,
            settings.namespaces,
            len(self.dispatcher.methods),
        )

    async def get_unready_reason(self, min_peers: int, max_behind: int) -> str | None:
        """Return why this node should not get traffic, None if it may."""
        try:
            head = self.store.view.head()
            status = await self.validator.get_status()
        except RpcError as error:
            return error.message
        peers = sum(peer.connected for peer in status.peers)
        if peers < min_peers and len(status.validators) > 1:
            return f"{peers} peers, expected at least {min_peers}"
        best = max([status.height, *(peer.height for peer in status.peers)])
        if best - head > max_behind:
            return f"{best - head} blocks behind, expected at most {max_behind}"
        return None
