"""The clients' port of a key-value validator, put together."""

from quorate.ledger.keyvalue import KeyValueLedger
from quorate.rpc.keyvalue_server import KeyValueServer
from quorate.runtime.validator import Validator

__all__ = ["open_keyvalue_port"]


def open_keyvalue_port(validator: Validator) -> KeyValueServer:
    """Return the port of a validator whose application is a key-value one."""
    ledger = validator.application
    assert isinstance(ledger, KeyValueLedger)
    network, own = validator.plan.network, validator.plan.validator
    return KeyValueServer(
        validator.node,
        ledger,
        validator.host.work,
        validator.host.call_soon,
        host=own.rpc_host,
        port=own.rpc_port,
        max_connections=network.rpc.max_connections,
        about={
            "name": own.name,
            "network": network.name,
            "application": network.application,
            "engine": network.engine,
        },
        log=validator.log,
    )
