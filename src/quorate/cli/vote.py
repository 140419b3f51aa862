"""`quorate vote`: validators change who agrees, by votes in the contract of the validator set."""

import re
import time
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from quorate._kernel import address
from quorate.base.errors import Corrupt, Invalid, Unavailable
from quorate.base.types import Address, Height
from quorate.cli.devnet import get_accounts
from quorate.cli.local import Local, Observation, open_local, read_consensus
from quorate.cli.options import folder_option, option, password_options
from quorate.cli.output import EXIT_CONFIG, EXIT_USAGE, Problem, fail, say
from quorate.cli.run import unlock_validator
from quorate.cli.verify import request
from quorate.consensus import ENGINES
from quorate.crypto.addresses import to_checksum
from quorate.crypto.hashes import keccak256
from quorate.ledger.genesis import MAX_POWER, VALIDATORS
from quorate.ledger.keyvalue import ETHEREUM
from quorate.runtime.config import FILE_NAME, Network, ValidatorConfig, load_network
from quorate.runtime.folder import Folder
from quorate.simulator.wallets import sign_transaction

TRANSFER_GAS = 21_000
MAX_GAS = 1 << 24
"""Of one vote, which looks at each validator."""
RECEIPT_S = 60.0
POLL_S = 0.05
DELAY = 2
"""What a block changes of the set holds this many heights later."""
ADDRESS = re.compile("0x[0-9a-fA-F]{40}")
CONTRACT = "0x" + VALIDATORS.hex()


class Voter(Struct, frozen=True):
    """A validator whose key is at hand."""

    name: str
    secret: bytes
    address: Address


class Chain(Struct, frozen=True):
    """The network as one node's JSON-RPC shows it."""

    url: str
    chain_id: int
    is_free: bool
    is_dev: bool

    def ask(self, method: str, *parameters: Any) -> Any:
        return request(self.url, method, list(parameters))

    def read(self, signature: str, *arguments: bytes | int) -> list[int]:
        """Return the words that a function of the contract answers."""
        told = self.ask("eth_call", {"to": CONTRACT, "data": pack(signature, *arguments)}, "latest")
        answer = bytes.fromhex(told[2:])
        return [int.from_bytes(answer[at : at + 32], "big") for at in range(0, len(answer), 32)]

    def get_price(self) -> int:
        """Return what gas is paid with: twice what is asked now, since that may rise."""
        return 0 if self.is_free else 2 * int(self.ask("eth_gasPrice"), 16)

    def send(self, secret: bytes, to: Address, gas: int, price: int, data: str, wei: int) -> int:
        """Send a transaction; return the height of its block. Raises Problem."""
        sender = "0x" + address(secret).hex()
        raw = sign_transaction(
            secret,
            self.chain_id,
            nonce=int(self.ask("eth_getTransactionCount", sender, "pending"), 16),
            gas_price=price,
            gas=gas,
            to=to,
            wei=wei,
            data=bytes.fromhex(data),
        )
        identity = self.ask("eth_sendRawTransaction", "0x" + raw.hex())
        deadline = time.monotonic() + RECEIPT_S
        while (receipt := self.ask("eth_getTransactionReceipt", identity)) is None:
            if time.monotonic() > deadline:
                fail(
                    f"{identity} is in no block after {RECEIPT_S:g} s, and may still come into one"
                    "; `quorate why-stalled` says what the network waits for"
                )
            time.sleep(POLL_S)
        if receipt["status"] != "0x1":
            fail(f"{identity} failed in block {int(receipt['blockNumber'], 16)}")
        return int(receipt["blockNumber"], 16)


@click.command()
@click.argument("candidate", metavar="VALIDATOR|ADDRESS")
@click.argument("power", type=click.IntRange(0, MAX_POWER))
@folder_option
@option(
    "--by",
    multiple=True,
    envvar=None,
    show_envvar=False,
    metavar="VALIDATOR",
    help="Who votes, by number or name; may be given again [all whose keys are in the folder].",
)
@option(
    "--network",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    show_default=False,
    help=f"On a host of a larger network: its {FILE_NAME}, with --folder.",
)
@option(
    "--folder",
    "own",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    show_default=False,
    help="The folder of the validator on this host.",
)
@password_options
def vote(
    candidate: str,
    power: int,
    folder: Path,
    by: tuple[str, ...],
    file: Path | None,
    own: Path | None,
    password_file: Path | None,
) -> None:
    """Vote for a validator to have so much power: a newcomer joins, power 0 removes.

    The change holds two heights after the vote that brings more than half of the power together;
    the command fills them, since the old set is needed until then. Without --network the validators
    of --dir vote, one after another, until it is decided.

    \b
    quorate vote validator-4 1                    the one that `quorate add` made joins
    quorate vote validator-2 0                    and this one leaves
    quorate vote erin 1 --network network.toml --folder alice --password-file FILE
    """
    try:
        if file is None:
            if own is not None:
                fail("--folder: expected --network with it", EXIT_USAGE)
            local = open_local(folder)
            network, genesis = local.network, local.path / local.network.genesis
            check_votes(network)
            voters = unlock_all(local, by, password_file)
            beside = find_running(local)
        else:
            if own is None or by:
                fail("--network: expected --folder with it, and no --by", EXIT_USAGE)
            network, genesis = load_network(file, environment={}), file.parent
            genesis /= network.genesis
            check_votes(network)
            secret, beside = unlock_validator(network, Folder(own), file, password_file)
            voters = [Voter(beside.name, secret, beside.identity)]
        is_free = read_consensus(genesis).get("gas") == "free"
    except (Invalid, Corrupt, OSError) as error:
        raise Problem(str(error), EXIT_CONFIG) from None
    chain = Chain(make_url(beside), network.chain_id, is_free, network.dev)
    carry_out(chain, voters, *find_candidate(network, candidate), power)


def check_votes(network: Network) -> None:
    """Refuse networks in which nobody votes. Raises Problem."""
    if ENGINES[network.engine].open:
        fail(f"{network.engine}: anybody may take part, so nobody votes on it")
    if network.application != ETHEREUM:
        fail(
            f"application {network.application}: its validators are those of the genesis file; "
            "the contract that others vote in is part of the Ethereum ledger"
        )


def unlock_all(local: Local, by: tuple[str, ...], password_file: Path | None) -> list[Voter]:
    """Return those who vote. Raises Invalid, Corrupt, Problem."""
    indexes = list(dict.fromkeys(map(local.find_index, by))) or range(len(local.folders))
    voters = []
    for index in indexes:
        folder = local.folders[index]
        if folder.key.exists() or by:
            secret, validator = unlock_validator(local.network, folder, local.file, password_file)
            voters.append(Voter(validator.name, secret, validator.identity))
    if not voters:
        fail(f"no validator's key is in {local.path}")
    return voters


def find_running(local: Local) -> ValidatorConfig:
    """Return the validator here that is furthest: one that was away knows neither the votes of late
    nor which nonces are used. Raises Problem.
    """
    running = [observation for observation in local.observe() if observation.pid is not None]
    if not running:
        fail("no validator runs here; `quorate up` or `quorate start` begins")
    return max(running, key=get_latest).validator


def get_latest(observation: Observation) -> Height:
    return -1 if observation.status is None else observation.status.latest


def make_url(validator: ValidatorConfig) -> str:
    """Return where a validator of this host answers JSON-RPC."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(validator.rpc_host, validator.rpc_host)
    return f"http://{f'[{host}]' if ':' in host else host}:{validator.rpc_port}"


def find_candidate(network: Network, text: str) -> tuple[str, Address]:
    """Return name and address of whom the vote is on. Raises Problem."""
    for index, validator in enumerate(network.validators):
        if text in (validator.name, str(index)):
            return validator.name, validator.identity
    if not ADDRESS.fullmatch(text):
        names = ", ".join(validator.name for validator in network.validators)
        fail(f"{text}: expected an address (0x and 40 digits), or one of {names}", EXIT_USAGE)
    found = bytes.fromhex(text[2:])
    if text[2:] not in (text[2:].lower(), text[2:].upper()) and text != to_checksum(found):
        fail(f"{text}: its capitals are not those of the address; a digit is wrong", EXIT_USAGE)
    known = [v.name for v in network.validators if v.identity == found]
    return (known or [text])[0], found


def carry_out(chain: Chain, voters: list[Voter], name: str, candidate: Address, power: int) -> None:
    """Let validators vote until it is decided, or until all have. Raises Problem."""
    if chain.read("power(address)", candidate)[0] == power:
        fail(f"{name} has power {power} already" if power else f"{name} is no validator")
    for voter in voters:
        if not chain.read("power(address)", voter.address)[0]:
            say(f"{voter.name} has no power, and no vote.")
            continue
        cast, standing = chain.read("getVote(address,address)", candidate, voter.address)
        if cast and standing == power:
            say(f"{voter.name} has voted so already.")
            continue
        height = cast_vote(chain, voter, candidate, power)
        if chain.read("power(address)", candidate)[0] == power:
            say(f"{voter.name} votes, and that decides it.")
            now = f"has power {power}" if power else "is no validator any more"
            say(f"{name} {now}, from height {height + DELAY} on.")
            settle(chain, voter, height + DELAY)
            return
        in_favour, total = chain.read("tally(address,uint256)", candidate, power)
        say(f"{voter.name} votes: {in_favour} of {total} for it, {total // 2 + 1} needed.")
    in_favour, total = chain.read("tally(address,uint256)", candidate, power)
    say(f"Not decided yet: {in_favour} of {total} for it, {total // 2 + 1} needed.")


def cast_vote(chain: Chain, voter: Voter, candidate: Address, power: int) -> int:
    """Send one validator's vote; return the height of its block. Raises Problem."""
    data = pack("vote(address,uint256)", candidate, power)
    body = {"from": "0x" + voter.address.hex(), "to": CONTRACT, "data": data}
    gas = min(int(chain.ask("eth_estimateGas", body), 16) * 5 // 4, MAX_GAS)
    price = chain.get_price()
    balance = int(chain.ask("eth_getBalance", body["from"], "latest"), 16)
    if balance < gas * price:
        if not chain.is_dev:
            fail(
                f"{voter.name}, {body['from']}, has {balance} wei and its vote costs up to "
                f"{gas * price}: send it some first"
            )
        # A network for trials: its well-known account pays.
        giver = bytes.fromhex(get_accounts()[0][1][2:])
        chain.send(giver, voter.address, TRANSFER_GAS, price, "", 4 * gas * price)
    return chain.send(voter.secret, VALIDATORS, gas, price, data[2:], 0)


def settle(chain: Chain, voter: Voter, height: Height) -> None:
    """Fill the heights until a change holds, which an idle network would leave open: only then are
    those who left not needed any more.
    """
    try:
        while int(chain.ask("eth_blockNumber"), 16) < height:
            chain.send(voter.secret, voter.address, TRANSFER_GAS, chain.get_price(), "", 0)
    except (Unavailable, Problem) as error:
        say(f"The network is not at height {height} yet: {error}")
        return
    say(f"The network is at height {height}, and the old set is not needed any more.")


def pack(signature: str, *arguments: bytes | int) -> str:
    """Return the call of a function whose arguments are one word each."""
    words = [
        argument.to_bytes(32, "big") if isinstance(argument, int) else argument.rjust(32, b"\0")
        for argument in arguments
    ]
    return "0x" + (keccak256(signature.encode())[:4] + b"".join(words)).hex()
