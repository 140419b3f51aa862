"""`quorate verify`: what one node says of a block, proved against a genesis file."""

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import click

from quorate.base.errors import Invalid, Unavailable
from quorate.cli.local import open_local
from quorate.cli.options import folder_option, format_option, option
from quorate.cli.output import emit, fail, say

TIMEOUT_S = 30
MAX_ANSWER_BYTES = 64 << 20
WEI = 10**18


@click.command()
@click.argument("height", type=click.IntRange(0), required=False)
@folder_option
@option(
    "--genesis",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    show_default=False,
    help="The file that is trusted [that of the network in --dir].",
)
@option("--rpc", default=None, metavar="URL", help="The node to ask [the first of --dir].")
@click.option("--account", metavar="ADDRESS", help="Also prove the balance and nonce of this one.")
@click.option("--key", metavar="KEY", help="Of a key-value network: prove the entry of this key.")
@format_option
def verify(
    height: int | None,
    folder: Path,
    genesis: Path | None,
    rpc: str | None,
    account: str | None,
    key: str | None,
    output: str,
) -> None:
    """Verify a block, the newest provable one unless HEIGHT is given, without trusting the node.

    Two thirds of the validators, followed from genesis through every change of membership, must
    have signed a payload that names the block (proof of work: all headers are followed, and their
    work is added up); what is shown of an account is proved against that
    block's state root. Ends with an error if anything the node says does not fit.

    \b
    quorate verify
    quorate verify 12 --account 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266
    quorate verify --key greeting
    quorate verify 12 --genesis genesis.json --rpc https://node.example.org
    """
    from quorate.light import make_light_client, read_genesis

    if account is not None and not re.fullmatch(r"0x[0-9a-fA-F]{40}", account):
        fail(f"--account {account}: expected 0x and 40 hexadecimal digits", 2)
    if genesis is None or rpc is None:
        local = open_local(folder)
        genesis = genesis or local.path / local.network.genesis
        first = local.network.validators[0]
        rpc = rpc or f"http://{first.rpc_host}:{first.rpc_port}"
    url = rpc
    if key is not None:
        show_key(genesis, url, key, output)
        return
    client = make_light_client(
        read_genesis(genesis.read_bytes()),
        lambda method, parameters: request(url, method, parameters),
    )
    header = client.get_head() if height is None else client.get_header(height)
    found: dict[str, Any] = {
        "height": header.number,
        "block": "0x" + header.hash.hex(),
        "state root": "0x" + header.state_root.hex(),
        "time": header.timestamp,
    }
    if account is not None:
        state = client.get_account(bytes.fromhex(account[2:]), header.number)
        found |= {"account": account, "balance wei": state.balance, "nonce": state.nonce}
    if output == "json":
        emit(json.dumps({name.replace(" ", "_"): value for name, value in found.items()}, indent=2))
    else:
        for name, value in found.items():
            emit(f"{name:12} {value}")
    say(f"Proved from {genesis} on; {rpc} was not trusted.")
    if caveat := client.get_caveat():
        say(caveat[0].upper() + caveat[1:] + ".")


def show_key(genesis: Path, url: str, key: str, output: str) -> None:
    """Prove the entry of a key, and show it."""
    from quorate.cli.verify_key import verify_key

    proved, caveat = verify_key(genesis, url, key.encode("utf-8", "surrogateescape"))
    entry = proved.entry
    found: dict[str, Any] = {
        "height": proved.height,
        "block": "0x" + proved.block.hex(),
        "state root": "0x" + proved.state_root.hex(),
        "key": key,
        "value": None if entry is None else entry.value.decode("utf-8", "backslashreplace"),
    }
    if entry is not None:
        found |= {"modified": entry.modified, "version": entry.version}
    if output == "json":
        emit(json.dumps({name.replace(" ", "_"): value for name, value in found.items()}, indent=2))
    else:
        for name, value in found.items():
            emit(f"{name:12} {'(not there)' if value is None else value}")
    say(f"Proved from {genesis} on; {url} was not trusted." if not caveat else f"{caveat}.")


def request(url: str, method: str, parameters: list[Any]) -> Any:
    """Return the result of one JSON-RPC call. Raises Unavailable, Invalid."""
    if not url.startswith(("http://", "https://")):
        fail(f"--rpc {url}: expected an http:// or https:// address", 2)
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    asked = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as response:
            content = response.read(MAX_ANSWER_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"{url}: {error}; is the node up? (quorate status)") from None
    if len(content) > MAX_ANSWER_BYTES:
        raise Invalid(f"{url}: answer of more than {MAX_ANSWER_BYTES} bytes to {method}")
    try:
        answer = json.loads(content)
    except ValueError:
        raise Invalid(f"{url}: answer to {method} is not JSON") from None
    if not isinstance(answer, dict) or "result" not in answer:
        told = answer.get("error") if isinstance(answer, dict) else answer
        message = told.get("message") if isinstance(told, dict) else told
        raise Unavailable(f"{url}: {method}: {message}")
    return answer["result"]
