"""`quorate verify --key`: what one node of a key-value network says of a key, proved."""

import json
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

from quorate.base.errors import Invalid, Unavailable
from quorate.consensus import ENGINES
from quorate.light.keyvalue import Proved, verify_entry

TIMEOUT_S = 30
MAX_ANSWER_BYTES = 1 << 20


def verify_key(genesis: Path, url: str, key: bytes) -> tuple[Proved, str]:
    """Return what is proved of a key, and a caveat or nothing. Raises Invalid, Unavailable."""
    content = genesis.read_bytes()
    try:
        engine = str(json.loads(content)["config"]["quorate"]["engine"])
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(f"{genesis}: found no config.quorate.engine: {error!r}") from None
    known = ENGINES.get(engine)
    if known is None or known.open:
        raise Invalid(f"{genesis}: engine {engine!r}: keys are not proved by work (yet)")
    try:
        with urllib.request.urlopen(f"{url}/v1/proof/{quote(key)}", timeout=TIMEOUT_S) as answer:
            proof = read_bytes(json.loads(answer.read(MAX_ANSWER_BYTES)))
    except urllib.error.HTTPError as error:
        raise Unavailable(f"{url}: {error.read(1000).decode(errors='replace')}") from None
    except OSError as error:
        raise Unavailable(f"{url}: {error}; is the node up? (quorate status)") from None
    except (ValueError, RecursionError):
        raise Invalid(f"{url}: its answer is not JSON") from None
    except HTTPException as error:
        raise Invalid(f"{url}: its answer is not HTTP: {error!r}") from None
    proved = verify_entry(content, engine, key, proof, trusting=not known.proves)
    caveat = "" if known.proves else f"{engine}: which block is final is this node's word alone"
    return proved, caveat


def read_bytes(value: Any) -> Any:
    """Return an answer with its hexadecimal text as bytes."""
    if isinstance(value, str) and value.startswith("0x"):
        return bytes.fromhex(value[2:])
    if isinstance(value, dict):
        return {name: read_bytes(found) for name, found in value.items()}
    if isinstance(value, list):
        return [read_bytes(found) for found in value]
    return value
