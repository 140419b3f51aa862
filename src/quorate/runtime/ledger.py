"""The ledger of a validator process, opened from its folder and the network's genesis."""

import json
from typing import Any

from quorate.base.errors import Invalid
from quorate.ledger.ethereum import open_ethereum
from quorate.ledger.genesis import compute_network_id, is_dev_genesis
from quorate.ledger.keyvalue import ETHEREUM, open_keyvalue
from quorate.runtime.folder import make_private
from quorate.runtime.validator import Opened, Plan

__all__ = ["open_ledger"]


def open_ledger(plan: Plan) -> Opened:
    """Open or create the ledger; what network.toml says twice must be what genesis says.

    Raises Invalid, Corrupt or Unavailable, one line for people.
    """
    genesis = plan.read_genesis()
    check_genesis(plan, genesis)
    make_private(plan.folder.ledger)
    limits = plan.network.limits
    if plan.network.application != ETHEREUM:
        keyvalue = open_keyvalue(
            str(plan.folder.ledger),
            genesis,
            plan.validator.identity,
            map_bytes=plan.network.store.map_bytes,
            max_items=limits.pool_transactions,
            max_bytes=limits.pool_bytes,
        )
        # The hash of its genesis block covers the whole file.
        return Opened(keyvalue, None, keyvalue.store.close, keyvalue.genesis)
    ledger = open_ethereum(
        str(plan.folder.ledger),
        genesis,
        plan.validator.identity,
        map_bytes=plan.network.store.map_bytes,
        max_transactions=limits.pool_transactions,
        max_bytes=limits.pool_bytes,
        account_slots=limits.account_slots,
        min_tip=limits.min_tip,
        allow_unprotected=limits.allow_unprotected,
    )
    network_id = compute_network_id(genesis, ledger.genesis)
    is_dev = is_dev_genesis(genesis)
    return Opened(ledger, ledger.pool, ledger.ledger.close, network_id, is_dev)


def check_genesis(plan: Plan, genesis: bytes) -> None:
    """Raise Invalid where network.toml and the genesis file contradict each other."""
    name, network = plan.network.genesis, plan.network
    try:
        config: Any = json.loads(genesis)["config"]
        chain_id, engine = config["chainId"], config["quorate"]["engine"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Invalid(
            f"{name}: found no config.chainId and config.quorate.engine, expected a genesis file "
            f"that `quorate init` wrote ({type(error).__name__}: {error})"
        ) from None
    for key, here, there in (
        ("chain_id", network.chain_id, chain_id),
        ("engine", network.engine, engine),
        ("application", network.application, config["quorate"].get("application", ETHEREUM)),
    ):
        if here != there:
            raise Invalid(f"network.toml: {key}: found {here!r}, expected {there!r} as in {name}")
