"""The settings of a network and of the process that runs one of its validators: `network.toml`.

One file describes the whole network, the same on every host. Precedence: environment, then file,
then default (a command line puts its flags before all of them). `QUORATE_BLOCKS_BLOCK_TIME_MS=500`
overrides `block_time_ms` of `[blocks]`, `QUORATE_ENGINE` the key `engine`; lists are separated by
commas. What replicas must agree on is not here but in the genesis file, in `config.quorate`.

Every unknown key, missing key and wrong type is an error that names the file, the key, what was
found and what was expected.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from quorate.base.errors import Invalid
from quorate.base.types import Address
from quorate.node.places import parse_place

__all__ = [
    "FILE_NAME",
    "Blocks",
    "BootnodePlace",
    "Discovery",
    "Limits",
    "Log",
    "Metrics",
    "Mining",
    "Network",
    "Peers",
    "Rpc",
    "Store",
    "ValidatorConfig",
    "check_network",
    "load_network",
    "make_bootnodes",
    "parse_bootnode",
    "parse_network",
    "render_network",
    "write_network",
]

FILE_NAME = "network.toml"
ENVIRONMENT_PREFIX = "QUORATE_"

Port: TypeAlias = Annotated[int, Meta(ge=1, le=65535)]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=1 << 40)]
Amount: TypeAlias = Annotated[int, Meta(ge=0, le=1 << 40)]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file; `Meta.description` of a key becomes its comment."""


class Blocks(Section, frozen=True, kw_only=True):
    """When blocks are made."""

    block_time_ms: Annotated[
        int,
        Meta(ge=0, le=3_600_000, description="Fixed interval; 0: at once when there is work."),
    ] = 0
    heartbeat_ms: Annotated[
        int,
        Meta(ge=0, le=86_400_000, description="An empty block after this much silence; 0: never."),
    ] = 0
    certify_ms: Annotated[
        int,
        Meta(
            ge=0, le=60_000, description="Silence before an empty block certifies the last state."
        ),
    ] = 500
    max_bytes: Annotated[
        # A block that cannot hold the largest transaction would leave it waiting for ever, and the
        # network making empty blocks for it.
        int, Meta(ge=256 << 10, le=8 << 20, description="Of the transactions in one block.")
    ] = 2 << 20


class Peers(Section, frozen=True, kw_only=True):
    """Connections between validators."""

    max_frame_bytes: Annotated[
        int, Meta(ge=64 << 10, le=64 << 20, description="A larger frame ends the connection.")
    ] = 16 << 20
    send_queue_bytes: Annotated[
        int,
        Meta(
            ge=1 << 20,
            le=1 << 30,
            description="Waiting for one peer; beyond it frames are dropped.",
        ),
    ] = 32 << 20
    ping_ms: Annotated[
        int, Meta(ge=50, le=60_000, description="A sign of life after this much silence.")
    ] = 1000
    timeout_ms: Annotated[
        int, Meta(ge=200, le=600_000, description="A peer that is silent for longer is dead.")
    ] = 5000
    reconnect_max_ms: Annotated[
        int, Meta(ge=100, le=600_000, description="Longest pause between two attempts.")
    ] = 5000
    handshake_timeout_ms: Annotated[int, Meta(ge=100, le=60_000)] = 5000
    max_handshakes: Annotated[
        int, Meta(ge=1, le=4096, description="Connections that have not proved who they are.")
    ] = 64
    handshakes_per_second: Annotated[int, Meta(ge=1, le=10_000)] = 50


class Discovery(Section, frozen=True, kw_only=True):
    """How nodes find each other where anybody may join (proof of work); no other network does."""

    outbound: Annotated[
        int, Meta(ge=1, le=64, description="Connections kept up, each to another address range.")
    ] = 8
    inbound: Annotated[int, Meta(ge=0, le=1024, description="Connections that may come in.")] = 32
    inbound_per_range: Annotated[
        int, Meta(ge=1, le=1024, description="Of those, from one range (IPv4: /16, IPv6: /32).")
    ] = 4
    range_limits: Annotated[
        bool, Meta(description="false: only where all nodes share one host or site.")
    ] = True
    advertise: Annotated[
        str, Meta(description='HOST:PORT told to others; "": own port, where they see us.')
    ] = ""
    feeler_ms: Annotated[
        int, Meta(ge=1000, le=86_400_000, description="Between two looks at an untried address.")
    ] = 120_000
    ban_minutes: Annotated[int, Meta(ge=1, le=525_600)] = 1440


class Limits(Section, frozen=True, kw_only=True):
    """Bounds on what waits in one validator."""

    pool_transactions: Count = 20_480
    pool_bytes: Count = 64 << 20
    account_slots: Annotated[Count, Meta(description="Waiting transactions of one account.")] = 64
    min_tip: Annotated[Amount, Meta(description="Smallest priority fee admitted, in wei.")] = 0
    allow_unprotected: Annotated[
        bool, Meta(description="Admit legacy transactions without a chain id (EIP-155).")
    ] = False
    ipc_clients: Count = 64
    ipc_in_flight: Annotated[Count, Meta(description="Requests of one client at a time.")] = 1024


class Rpc(Section, frozen=True, kw_only=True):
    """The JSON-RPC process of each validator; its address is in `[[validators]]`."""

    enabled: bool = True
    api: Annotated[list[str], Meta(description="Namespaces that are served.")] = msgspec.field(
        default_factory=lambda: ["eth", "net", "web3", "txpool", "quorate"]
    )
    host_allowlist: Annotated[list[str], Meta(description='Accepted Host headers; ["*"]: any.')] = (
        msgspec.field(default_factory=lambda: ["localhost", "127.0.0.1", "[::1]"])
    )
    cors_origins: Annotated[
        list[str], Meta(description='Origins of web pages that may call; ["*"]: any.')
    ] = []
    max_body_bytes: Count = 5 << 20
    max_response_bytes: Count = 25 << 20
    max_batch: Count = 1000
    max_connections: Count = 1000
    max_subscriptions: Annotated[Count, Meta(description="Of one connection.")] = 128
    max_logs: Annotated[Count, Meta(description="Results of one eth_getLogs.")] = 10_000
    gas_cap: Annotated[Count, Meta(description="Of eth_call and eth_estimateGas.")] = 50_000_000
    call_timeout_ms: Count = 10_000
    threads: Annotated[Count, Meta(description="Reads carried out at the same time.")] = 4
    nice: Annotated[
        int, Meta(ge=0, le=19, description="How far readers stand back behind agreement.")
    ] = 10


class Metrics(Section, frozen=True, kw_only=True):
    """Prometheus metrics and health; the port is in `[[validators]]`."""

    enabled: bool = True
    host: str = "127.0.0.1"


class Log(Section, frozen=True, kw_only=True):
    """What a validator writes to its log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["human", "json"] = "human"
    blocks: Annotated[bool, Meta(description="One line for every block.")] = False


class Mining(Section, frozen=True, kw_only=True):
    """Proof of work, where the engine is `pow`."""

    enabled: Annotated[bool, Meta(description="false: this node only follows.")] = True
    threads: Annotated[int, Meta(ge=1, le=1024)] = 1
    hashes_per_second: Annotated[
        int, Meta(ge=0, le=1 << 50, description="Of all threads; 0: as many as they can.")
    ] = 0


class Store(Section, frozen=True, kw_only=True):
    """The files of a validator."""

    map_bytes: Annotated[
        int,
        Meta(ge=1 << 28, le=1 << 46, description="Largest size of the ledger (address space)."),
    ] = 1 << 40
    state_history: Annotated[
        int,
        Meta(ge=0, le=1 << 40, description="Blocks whose state stays readable; 0: all."),
    ] = 90_000
    block_history: Annotated[
        int,
        Meta(ge=0, le=1 << 40, description="Blocks that are kept whole; 0: all."),
    ] = 0
    archive: Annotated[bool, Meta(description="true: keep all states and all blocks.")] = False
    state_gap: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 40,
            description="So many blocks behind, take over a state (Raft); 0: if nobody has them.",
        ),
    ] = 8192
    state_interval: Annotated[
        int,
        Meta(ge=0, le=1 << 40, description="Offer states at multiples of this height; 0: none."),
    ] = 1024
    state_kept_s: Annotated[
        int,
        Meta(ge=1, le=86_400, description="Keep what others take over so long after they asked."),
    ] = 600
    fsync: Annotated[
        bool, Meta(description="false: a power failure may break agreement; only for trials.")
    ] = True


class ValidatorConfig(Section, frozen=True, kw_only=True):
    """One validator, as all others must know it."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    address: Annotated[str, Meta(pattern=r"^0x[0-9a-fA-F]{40}$")]
    power: Annotated[int, Meta(ge=1, le=1 << 53, description="At genesis.")] = 1
    host: Annotated[str, Meta(min_length=1, description="Where its peers find it.")]
    port: Port
    listen: Annotated[str, Meta(description='Where it listens for peers; "": on `host`.')] = ""
    tls_sha256: Annotated[
        str, Meta(pattern=r"^[0-9a-f]{64}$", description="Of its certificate (DER).")
    ]
    rpc_host: str = "127.0.0.1"
    rpc_port: Port
    metrics_port: Port

    @property
    def identity(self) -> Address:
        return bytes.fromhex(self.address[2:])

    @property
    def pin(self) -> bytes:
        return bytes.fromhex(self.tls_sha256)


class BootnodePlace(Struct, frozen=True):
    """A bootnode as the file names it; `key` is empty where the file names none."""

    key: bytes
    host: str
    port: int


class Network(Section, frozen=True, kw_only=True):
    """Settings of this network."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    chain_id: Annotated[int, Meta(ge=1, le=4503599627370476)]
    engine: Annotated[str, Meta(description="How the validators agree.")] = "tendermint"
    application: Annotated[
        str,
        Meta(
            pattern=r"^(ethereum|keyvalue|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$",
            description="What they agree on: ethereum, keyvalue or package.module:Class.",
        ),
    ] = "ethereum"
    genesis: Annotated[
        str, Meta(description="File with what all must agree on, relative to this one.")
    ] = "genesis.json"
    dev: Annotated[
        bool, Meta(description="For trials only: well-known accounts, keys without a password.")
    ] = False
    bootnodes: Annotated[
        list[Annotated[str, Meta(max_length=400)]],
        Meta(max_length=64, description="Of open networks: KEY@HOST:PORT, KEY is a tls_sha256."),
    ] = []
    engine_settings: dict[str, Any] = {}
    blocks: Blocks = Blocks()
    peers: Peers = Peers()
    discovery: Discovery = Discovery()
    limits: Limits = Limits()
    rpc: Rpc = Rpc()
    metrics: Metrics = Metrics()
    log: Log = Log()
    store: Store = Store()
    mining: Mining = Mining()
    validators: Annotated[list[ValidatorConfig], Meta(min_length=1, max_length=1024)]

    def get_validator(self, which: int | str) -> ValidatorConfig:
        """Return a validator by index, name or address. Raises Invalid."""
        if isinstance(which, int) and 0 <= which < len(self.validators):
            return self.validators[which]
        for validator in self.validators:
            if which == validator.name or str(which).lower() == validator.address.lower():
                return validator
        names = ", ".join(validator.name for validator in self.validators)
        raise Invalid(f"validator {which}: not in {FILE_NAME}, expected one of {names}")


def load_network(path: Path, environment: Mapping[str, str] | None = None) -> Network:
    """Read a network file and lay the environment over it. Raises Invalid, one line."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Invalid(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Invalid(f"{path}: found bytes that are not UTF-8, expected a TOML file") from None
    return parse_network(text, str(path), os.environ if environment is None else environment)


def parse_network(text: str, source: str, environment: Mapping[str, str]) -> Network:
    """Return the settings in a TOML text. Raises Invalid that names `source` and the key."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"{source}: not TOML: {error}") from None
    origins = overlay(tree, environment)
    try:
        network = msgspec.convert(tree, Network)
    except msgspec.ValidationError as error:
        raise Invalid(explain(str(error), tree, source, origins)) from None
    check_network(network, source)
    return network


def overlay(tree: dict[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """Write the environment's values into `tree`; return key -> variable for error messages."""
    origins: dict[str, str] = {}
    for table, section in [("", Network), *get_sections()]:
        for key, hint in get_type_hints(section).items():
            variable = ENVIRONMENT_PREFIX + (f"{table}_{key}" if table else key).upper()
            found = environment.get(variable)
            if found is None or is_table(hint):
                continue
            target = tree.setdefault(table, {}) if table else tree
            if isinstance(target, dict):
                target[key] = read_variable(found, hint)
                origins[f"{table}.{key}" if table else key] = variable
    return origins


def get_sections() -> list[tuple[str, type[Section]]]:
    """Return (name, type) of the single tables of a network file, in the order of the file."""
    return [
        (key, hint)
        for key, hint in get_type_hints(Network).items()
        if isinstance(hint, type) and issubclass(hint, Section)
    ]


def is_table(hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is dict or (isinstance(hint, type) and issubclass(hint, Section)):
        return True
    return origin is list and get_args(hint)[0] is ValidatorConfig


def read_variable(found: str, hint: Any) -> Any:
    """Read a variable as its key's type; what does not fit stays text and is refused later."""
    if hint is int and re.fullmatch(r"-?[0-9]{1,18}", found):
        return int(found)
    if hint is bool and found.lower() in ("1", "true", "yes", "on"):
        return True
    if hint is bool and found.lower() in ("0", "false", "no", "off"):
        return False
    if get_origin(hint) is list:
        return [item.strip() for item in found.split(",") if item.strip()]
    return found


def explain(message: str, tree: dict[str, Any], source: str, origins: dict[str, str]) -> str:
    """Turn a validation error into `source: key: found ..., expected ...`."""
    reason, _, place = message.partition(" - at `$")
    path = re.findall(r"[A-Za-z0-9_]+", place.rstrip("`"))
    key = ".".join(path)
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", reason)
    if unknown:
        name = f"{key}.{unknown[1]}" if key else unknown[1]
        return f"{source}: {name}: unknown key, expected one of {', '.join(known_keys(path))}"
    missing = re.fullmatch(r"Object missing required field `(.*)`", reason)
    if missing:
        name = f"{key}.{missing[1]}" if key else missing[1]
        return f"{source}: {name}: missing, expected a value"
    found: Any = tree
    for part in path:
        found = found[int(part)] if isinstance(found, list) else found.get(part)
    expected = re.sub(r", got .*", "", reason).removeprefix("Expected ").replace("`", "")
    where = origins.get(key, f"{source}: {key}" if key else source)
    return f"{where}: found {found!r}, expected {expected}"


def known_keys(path: list[str]) -> list[str]:
    section: Any = Network
    if path:
        section = ValidatorConfig if path[0] == "validators" else dict(get_sections()).get(path[0])
    return list(section.__struct_fields__) if section else []


def check_network(network: Network, source: str) -> None:
    """Refuse what is well-formed and cannot work."""
    names: dict[str, str] = {}
    for index, validator in enumerate(network.validators):
        unique = {
            f"name {validator.name}": "name",
            f"address {validator.address.lower()}": "address",
            f"tls_sha256 {validator.tls_sha256}": "tls_sha256",
            f"{validator.host}:{validator.port}": "port",
        }
        if network.rpc.enabled:
            unique[f"{validator.host} {validator.rpc_host}:{validator.rpc_port}"] = "rpc_port"
        if network.metrics.enabled:
            endpoint = f"{validator.host} {network.metrics.host}:{validator.metrics_port}"
            if endpoint in unique:
                raise Invalid(
                    f"{source}: validators.{index}.metrics_port: found {validator.metrics_port}, "
                    "expected another port than rpc_port"
                )
            unique[endpoint] = "metrics_port"
        for what, key in unique.items():
            if what in names:
                raise Invalid(
                    f"{source}: validators.{index}.{key}: found {getattr(validator, key)}, "
                    f"which {names[what]} has already, expected one of its own"
                )
            names[what] = validator.name
    for index, text in enumerate(network.bootnodes):
        try:
            parse_bootnode(text)
        except Invalid as error:
            raise Invalid(f"{source}: bootnodes.{index}: {error}") from None
    if network.discovery.advertise:
        try:
            parse_place(network.discovery.advertise)
        except Invalid as error:
            raise Invalid(f"{source}: discovery.advertise: {error}") from None
    if network.store.block_history and not network.store.archive:
        if network.engine == "pow":
            raise Invalid(
                f"{source}: store.block_history: found {network.store.block_history}, expected 0: "
                "whoever joins a network of proof of work follows all of its blocks"
            )
        if network.application != "ethereum":
            raise Invalid(
                f"{source}: store.block_history: found {network.store.block_history}, expected 0: "
                f"the application {network.application} keeps all blocks"
            )
    if network.peers.timeout_ms < 2 * network.peers.ping_ms:
        raise Invalid(
            f"{source}: peers.timeout_ms: found {network.peers.timeout_ms}, "
            f"expected at least twice ping_ms, {2 * network.peers.ping_ms}"
        )


def parse_bootnode(text: str) -> BootnodePlace:
    """Return what KEY@HOST:PORT or HOST:PORT says. Raises Invalid."""
    found = re.fullmatch(r"(?:([0-9a-fA-F]{64})@)?(\[[0-9a-fA-F:.]+\]|[^@:\s]+):([0-9]{1,5})", text)
    if found is None or not 0 < int(found[3]) < 65536:
        raise Invalid(
            f"found {text!r}, expected KEY@HOST:PORT with the 64 hexadecimal digits of its "
            "certificate's SHA-256, or HOST:PORT"
        )
    return BootnodePlace(bytes.fromhex(found[1] or ""), found[2].strip("[]"), int(found[3]))


def make_bootnodes(validators: list[ValidatorConfig]) -> list[str]:
    """Return how a network file names some of its nodes as bootnodes."""
    return [
        f"{v.tls_sha256}@{f'[{v.host}]' if ':' in v.host else v.host}:{v.port}" for v in validators
    ]


def write_network(network: Network, path: Path) -> None:
    """Write the commented file, atomically."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(render_network(network), encoding="utf-8")
    temporary.replace(path)


def render_network(network: Network) -> str:
    """Return the TOML text of a network, every key with its comment."""
    lines = ["# " + (Network.__doc__ or ""), "# A variable QUORATE_<TABLE>_<KEY> overrides a key."]
    lines.append("")
    lines += render_section(network, Network)
    lines += ["", "# Settings of the engine (timeouts and the like); empty: its defaults."]
    lines += ["[engine_settings]"]
    lines += [f"{key} = {render_value(value)}" for key, value in network.engine_settings.items()]
    for name, section in get_sections():
        lines += ["", f"# {section.__doc__}", f"[{name}]"]
        lines += render_section(getattr(network, name), section)
    for index, validator in enumerate(network.validators):
        lines += ["", f"# {ValidatorConfig.__doc__}"] if index == 0 else [""]
        lines += ["[[validators]]", *render_section(validator, ValidatorConfig)]
    return "\n".join(lines) + "\n"


def render_section(section: Section, kind: type[Section]) -> list[str]:
    plain = get_type_hints(kind)
    lines = []
    for key, hint in get_type_hints(kind, include_extras=True).items():
        if is_table(plain[key]):
            continue
        notes = [meta.description for meta in getattr(hint, "__metadata__", ())]
        comment = next((f"  # {note}" for note in notes if note), "")
        lines.append(f"{key} = {render_value(getattr(section, key))}{comment}")
    return lines


def render_value(value: Any) -> str:
    """Return a TOML value; the forms of JSON that a settings file needs are TOML too."""
    if isinstance(value, str):
        return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(render_value(item) for item in value) + "]"
    if isinstance(value, dict):
        pairs = (f"{render_value(key)} = {render_value(item)}" for key, item in value.items())
        return "{ " + ", ".join(pairs) + " }"
    raise TypeError(f"network.toml: found a value of {type(value).__name__}")
