"""The typed face of the kernel. Every call that does real work releases the GIL.

`tests/test_kernel_face.py` keeps this file and the compiled module equal.
"""

from collections.abc import Callable
from typing import Any, final

__version__: str

# ---- errors

class Invalid(ValueError):
    """Somebody else's fault: malformed or unacceptable input.

    The message says found and expected.
    """

class Unavailable(RuntimeError):
    """Not here, or not now: an unknown block, pruned state, a full disk. Trying again may help."""

class Corrupt(RuntimeError):
    """What was read back is not what was written. Needs repair or a fresh copy."""

class Reverted(Exception):
    """An EVM execution reverted: `args == (message, output: bytes)`, message as geth words it."""

class Rejected(ValueError):
    """A transaction or call cannot run at all: `args == (message,)`, the conventional string.

    Or `(message, code)`, where JSON-RPC has a code of its own for it.
    """

def keep_to_this_thread() -> bool:
    """Let this thread do all work of the kernel by itself, for as long as the process lives, so
    that it may fork; return whether it does, False: there are other threads already.
    """

def fork_process() -> int:
    """Return 0 in a child, its id here. Raises OSError.

    The child must be the only thread's, and ends by `os._exit`: nothing that a module of Python
    asked for after a fork is done.
    """

# ---- hashes and keys (secp256k1; address = last 20 bytes of keccak256(public key))

def keccak256(data: bytes) -> bytes: ...
def hash_body(body: bytes) -> bytes:
    """Return the 32 bytes that stand for a payload's body where only its head is shown:
    `keccak256(body)` below 4,096 bytes, else keccak256 of the hashes of pieces of 1,024 bytes, with
    zeros behind them up to 4,096 bytes.
    """

def hash_payload(payload: bytes) -> bytes:
    """Return keccak256(head || hash_body(body)); the head is the first 64 bytes."""

def public_key(secret: bytes) -> bytes:
    """Return the 64-byte uncompressed public key (without 0x04)."""

def address(secret: bytes) -> bytes: ...
def sign(secret: bytes, digest: bytes) -> bytes:
    """Return 65 bytes r, s (low), parity (0 or 1); deterministic (RFC 6979)."""

def recover(digest: bytes, signature: bytes) -> bytes:
    """Return the signer's address. Raises Invalid (also for high s)."""

def recover_many(items: list[tuple[bytes, bytes]]) -> list[bytes | None]:
    """`recover` over all cores; None where it would raise."""

# ---- proof of work

def seal(header: bytes, target: bytes, start: int, count: int) -> int | None:
    """Return the first of `count` nonces from `start` on so that keccak256(keccak256(header) ||
    nonce as 8 bytes, big-endian), read as a number, is at most the 32-byte target; None: none.
    """

# ---- Merkle Patricia proofs

def verify_proof(root: bytes, key: bytes, proof: list[bytes]) -> bytes | None:
    """Return the value at keccak256(key) that the EIP-1186 proof shows, None if it shows absence.

    Raises Invalid.
    """

def transaction_hash(raw: bytes) -> bytes: ...
def inspect_transaction(raw: bytes, fork: str, chain_id: int) -> tuple[bytes, bytes, int]:
    """Return (hash, sender, intrinsic gas) of a valid transaction. Raises Rejected."""

def transition(
    fork: str, alloc: bytes, env: bytes, transactions: list[bytes], chain_id: int = 1
) -> tuple[bytes, bytes, int, list[str]]:
    """Run transactions over an allocation in memory, as `evm t8n` does; for conformance suites.

    `alloc` and `env` are their JSON. Returns (state root, hash of the logs, gas used, reasons of
    what was skipped).
    """

# ---- the journal (`quorate.storage.journal` has its layout)

def make_records(
    head: bytes,
    seed: int,
    segment: int,
    offset: int,
    sequence: int,
    batch: int,
    bodies: list[bytes],
) -> bytes:
    """Return `head` and behind it records that follow each other from an offset of a segment on.

    Raises Invalid for a body that no length of 32 bits counts.
    """

def read_records(
    raw: bytes, seed: int, segment: int, offset: int, sequence: int, limit: int
) -> tuple[list[bytes], int]:
    """Return the bodies of the good records that follow each other from an offset of a segment on,
    each of at most `limit` bytes, and where they end.
    """

def are_equal(one: list[bytes], other: list[bytes]) -> bool:
    """Return `one == other`, without a write to what they hold."""

class FileSync:
    """A thread that makes files durable without the interpreter's lock.

    After each one a byte is written to the descriptor `wake`, which has to stay open, as a file's
    descriptor has to, until the outcome of everything that was begun was taken.
    """

    def __init__(self, wake: int) -> None: ...
    def begin(self, descriptor: int) -> None:
        """Make a file's contents durable, as fdatasync does. Raises ValueError when closed."""

    def take(self) -> tuple[int, int] | None:
        """Return the system's error number (0: none) and how long it took, in nanoseconds, of the
        oldest one that is done; None if none is.
        """

    def close(self) -> None:
        """Let the thread end once everything that was begun is done."""

# ---- simulated worlds

@final
class Digest:
    """A rolling digest of events, in the order in which they are noted."""

    events: int
    """How many there are so far."""
    ladder: list[str]
    """The digest after every 1024 of them."""
    kept: list[tuple[int, int, int, int, int, bytes]]
    """(number, time, kind, machine, other machine or a number, contents) of those asked for."""

    def __init__(self) -> None: ...
    def note(self, time: int, kind: int, machine: int, other: int, contents: bytes) -> None:
        """Take up an event: integers of 64 bits and bytes."""

    def keep(self, first: int, count: int) -> None:
        """Keep so many events from a number on."""

    def finish(self) -> str:
        """Return the digest of everything so far."""

@final
class EventQueue:
    """What is to happen, by time and then by number: integers of 64 bits.

    Gives nothing any more once its digest has so many events.
    """

    now: int
    """The time of the event that was last given."""
    number: int
    """The number of the event that was last put into it."""

    def __init__(self, digest: Digest, most: int) -> None: ...
    def after(self, delay: int, call: Callable[..., None], arguments: tuple[Any, ...]) -> int:
        """Let a call be made after a delay; return its number."""

    def note(self, kind: int, machine: int, other: int, contents: bytes) -> None:
        """Let the digest take up an event of this moment."""

    def run(
        self,
        world: Any,
        until: int,
        findings: list[Any],
        on_next: Callable[[int], None] | None = None,
        done: Callable[[], bool] | None = None,
    ) -> bool:
        """Let everything happen until then, until there are findings, or until `done`, which is
        asked after each event; return whether it was.

        `world.now` is the time of each event; `on_next` is told its number before.
        """

    def next_at(self) -> int | None:
        """Return the time of the first one."""

    def frames(self) -> list[bytes]:
        """Return the frames that are under way, in order."""

    def __len__(self) -> int: ...

@final
class Seat:
    """What the queue knows of a machine.

    `fall` is called with a timer that falls and its number, `hold` with a call and its arguments
    that came while the machine is `paused`.
    """

    life: int
    """What was put into the queue in another life does not happen."""
    paused: bool
    receive: Callable[[bytes, bytes], None] | None
    """Takes an address and a frame from there; None: nobody is there."""

    def __init__(
        self,
        queue: EventQueue,
        index: int,
        fall: Callable[[Any, int], None],
        hold: Callable[[Callable[..., None], tuple[Any, ...]], None],
    ) -> None: ...
    def later(self, delay: int, call: Callable[..., None], arguments: tuple[Any, ...]) -> int:
        """Let a call be made after a delay; return its number."""

    def set_timer(self, delay: int, timer: Any) -> int:
        """Let a timer fall after a delay, of one nanosecond at least; return its number."""

@final
class TapeSeed:
    """The seed of all streams of a tape."""

    def __init__(self, text: str) -> None: ...
    def change(self, text: str) -> None:
        """Let every stream begin anew, as that of another seed, when it next says a number."""

@final
class Draws:
    """The numbers of `random.Random(seed)`; each call takes one from its `random()`.

    The seed is BLAKE2b of a name, 8 bytes of it, big-endian; of a tape's stream, of the text of the
    tape's seed, a slash and the name.
    """

    def __init__(self, name: str, tape: TapeSeed | None = None) -> None: ...
    @staticmethod
    def seeded(seed: int) -> Draws:
        """Return those of a number of 64 bits."""

    def random(self) -> float: ...
    def choose(self, n: int) -> int:
        """Return `int(random() * n)`."""

    def chance(self, permille: int) -> bool:
        """Return whether `random() * 1000` is below it."""

@final
class LinkRates:
    """What happens on all lines: how often, in permille, and how late frames are."""

    loss: int
    corrupt: int
    duplicate: int
    jitter_ns: int
    tail: int
    tail_factor: int
    reorder: bool
    """Whether frames overtake each other; they do at first."""
    bandwidth: int
    """Bytes in a millisecond; 0: any number."""
    picky: bool
    """Whether somebody looks at frames one by one."""

    def __init__(self) -> None: ...

@final
class Line:
    """One direction of a connection; nothing is carried before it is turned on.

    What arrives is noted in the digest and given to `target.receive` with `source`. Where the
    target is paused, or always without `direct`, `arrive` is called with `link`, the generation in
    which the frame was sent, the frame, and the number of the event.
    """

    blocked: int
    base_ns: int
    penalty_ns: int
    factor: int

    def __init__(
        self,
        queue: EventQueue,
        rates: LinkRates,
        streams: tuple[Draws, Draws, Draws, Draws, Draws] | None,
        arrive: Callable[..., None],
        link: Any,
        source: bytes,
        source_index: int,
        target: Seat,
        direct: bool,
        base_ns: int,
    ) -> None:
        """`streams` choose: loss, corruption, whether it comes twice, the delay, and whether that
        is a long one.
        """

    def turn(self, up: bool, generation: int) -> None:
        """Connect or disconnect; frames of other generations do not arrive."""

    def carry(self, frame: bytes) -> int:
        """Take a frame; return 0 if it arrives or if nothing is connected, 1 if it arrives twice,
        -1 if it is lost, -2 if it is corrupted, and 2 if more than rates has a say in that: because
        somebody is picky, the line is blocked, or there are no streams.

        What never happens takes no number from its stream: first loss, then corruption, then the
        delay below `jitter_ns` and whether it is `tail_factor` times as long, then the copy.
        """

    def arrival(self, size: int, delay: int) -> int:
        """Return when a frame of this size arrives that takes so long at the usual speed."""

    def push(self, frame: bytes, at: int) -> int:
        """Let a frame arrive at a time; return the number of the event."""

# ---- the ledger

@final
class Block:
    """An executed block; heavy parts stay in the kernel."""

    number: int
    hash: bytes
    parent: bytes
    state_root: bytes
    timestamp_ms: int
    base_fee: int
    gas_used: int
    gas_limit: int
    transactions: int
    """How many were included."""
    skipped: list[tuple[bytes, str]]
    """(transaction hash, conventional error string) of each payload transaction that did not
    apply.
    """

@final
class Ledger:
    """The writer's side of a store: a tree of executed blocks in memory over the final ones on
    disk.

    One process may hold a path open as Ledger; any number may as View. Thread-safe.
    """

    genesis_hash: bytes
    chain_id: int

    @staticmethod
    def open(path: str | None, genesis: bytes, map_bytes: int = 1 << 40) -> Ledger:
        """Open or create. `genesis` is geth JSON; `None` keeps everything in memory.

        Raises Invalid when the genesis is malformed or not the store's own (both hashes are named),
        Corrupt when the store cannot be read, Unavailable when another process holds it.
        """

    def check(self, parent: bytes, payload: bytes, now_ms: int) -> None:
        """Raise Invalid unless the payload may follow the executed block `parent`.

        Judged: layout, parent hash, timestamp (later than the parent's, at most 10 s after
        `now_ms`), decodable transactions with valid signatures and chain id, at most the block's
        gas limit and size. Senders are cached.
        """

    def execute(self, parent: bytes, payloads: list[bytes], parent_envelope: bytes) -> Block:
        """Execute on top of the executed block `parent` and keep the result in the tree. Idempotent
        and deterministic.

        Raises Unavailable for an unknown parent, Invalid for a payload that is not well-formed.
        """

    def block(self, block: bytes | int) -> Block | None:
        """An executed block by hash, or a final one by height."""

    def finalize(
        self, block: bytes, envelope: bytes, certificate: bytes, payloads: list[bytes]
    ) -> None:
        """Make an executed child of the last final block final; forget its siblings' branches."""

    def adopt(self, block: bytes, safe: int) -> None:
        """Let readers see, from the next commit on, the branch that ends in an executed block.

        `safe` is the height that is called safe. Raises Unavailable for a block that is not in the
        tree or lies below the last final one.
        """

    def latest(self) -> bytes:
        """The hash of the adopted tip; of the last final block where there is none."""

    def commit(self) -> int:
        """Write all final blocks, and the adopted branch above them, to disk in one durable
        transaction, which also takes out what is stored of another branch; return the durable
        height, which is final.
        """

    def import_blocks(self, blocks: bytes) -> tuple[int, int]:
        """Verify, execute, finalize and write blocks of Ethereum, their RLP one after the other.

        Returns how many are new, and how many bytes were read: a block that is cut off at the end
        is left. Raises Invalid for a block that breaks a rule; those before it are durable then.
        Seals of proof of work and of a beacon chain are not looked at.
        """

    def durable(self) -> int: ...
    def final(self) -> int: ...
    def storage(self, block: bytes, account: bytes, slots: list[bytes]) -> list[bytes]:
        """32-byte storage values at an executed block."""

    def storage_root(self, block: bytes, account: bytes) -> bytes: ...
    def decision(self, height: int) -> tuple[bytes, bytes, list[bytes]] | None:
        """(envelope hash, certificate, payloads) of a final height."""

    def rollback(self, height: int) -> None:
        """Forget everything above a height that is still stored (simulator: a crash loses
        unsynced writes).
        """

    def prune(self, states: int | None, blocks: int | None) -> bool:
        """Take one step of forgetting all but the last `states` states and the last `blocks`
        blocks before the durable height (None: keep all); whether there is more to do.

        A step is bounded and one transaction. At least eight of each stay, and all headers.
        """

    def start_import(self, height: int) -> StateImport:
        """Begin to load a state that will take the place of everything here.

        Raises Invalid unless `height` is above the durable one, Unavailable where blocks are shown
        that are not final.
        """

    def start_export(self, height: int, limit: int) -> StateExport:
        """Begin to cut the state after a final block into pieces of about `limit` bytes.

        `StateImport.add` takes them. Raises Unavailable for a height whose state is not here.
        """

    def chunks(self) -> Chunks: ...
    def note(self) -> bytes | None:
        """What came with the state that this store was made from; None: it began with genesis."""

    def view(self) -> View: ...
    def close(self) -> None: ...

def compact_store(path: str) -> tuple[int, int]:
    """Write the store at a path anew without free pages, while nobody writes there.

    Returns the size of its file before and after. Raises Unavailable while a process writes.
    """

@final
class Check:
    """A check of everything that one moment of a store holds: every hash is computed anew."""

    def range(self) -> tuple[int, int, int, int]:
        """The latest height, and the first heights whose state, whole block and header are here."""

    def blocks(self, first: int, count: int) -> list[tuple[int, str]]:
        """(height, what does not fit) of blocks, their receipts and the index."""

    def states(self, count: int) -> tuple[int | None, int, list[tuple[int, str]]]:
        """Look at `count` more nodes of states: the height that is being walked (None: all is
        done), how many nodes were looked at in all, and what does not fit.
        """

    def totals(self) -> tuple[int, int, int, int, int]:
        """After all else: bytes of nodes that are needed, that are stored, and that are dead and
        wait; index entries that are needed, and that are stored.
        """

@final
class Chunks:
    """Parts of a state that is on its way here, kept durably until it is installed."""

    def begin(self, whole: bytes) -> list[int]:
        """The numbers of the parts of something (32 bytes) that are kept; all others go."""

    def put(self, whole: bytes, number: int, chunk: bytes) -> None:
        """Keep a part, if it is of what was begun last."""

    def get(self, number: int) -> bytes | None: ...
    def forget(self) -> None: ...

@final
class StateExport:
    """A state that is cut into pieces; nothing of it is held between two calls."""

    def step(self) -> bool:
        """Go on cutting, for a bounded time; whether there is more to do.

        Raises Unavailable once the state is pruned, or where it has too many pieces.
        """

    def hashes(self) -> list[bytes]:
        """keccak256 of the pieces that are cut, in order; all nodes cut a state alike."""

    def piece(self, number: int) -> bytes | None:
        """A piece that was cut, made anew. Raises Unavailable once the state is pruned."""

@final
class StateImport:
    """A state that is being loaded, piece by piece; nothing of it is seen before `finish`."""

    accounts: int
    def add(self, piece: bytes) -> None:
        """Load the next piece of `View.export_state`.

        Raises Invalid for one that is malformed or out of order; the import is over then.
        """

    def finish(
        self,
        heads: list[bytes],
        envelope: bytes,
        certificate: bytes,
        payloads: list[bytes],
        note: bytes,
    ) -> None:
        """Let the ledger be at this state, as if it had executed all blocks up to it.

        `heads` are what `View.head_record` gives for up to 257 heights, the last that of the
        state; the rest is the decision of that height. Raises Invalid, and changes nothing, unless
        each header names the one before and the last one's state root is that of what was loaded.
        """

@final
class Pool:
    """Transactions that wait. Bounded in number, bytes and slots per account. Thread-safe."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        max_transactions: int = 5120 * 4,
        max_bytes: int = 64 << 20,
        account_slots: int = 64,
        price_bump_percent: int = 10,
        min_tip: int = 0,
        allow_unprotected: bool = False,
    ) -> None: ...
    def add(self, raws: list[bytes]) -> list[tuple[bytes, str | None]]:
        """Decode, recover (all cores), check and admit each; return (hash, None or the
        conventional error), in order.
        """

    def take(self, parent: bytes, max_bytes: int, max_gas: int) -> bytes:
        """Return a payload body: the best executable transactions over `parent`, by effective
        tip then arrival, nonces in order.
        """

    def settle(self, block: bytes) -> list[tuple[bytes, str]]:
        """Follow an executed block: drop what it includes, promote and re-check the rest; return
        (hash, reason) of what fell out.
        """

    def readmit(self) -> list[bytes]:
        """Follow the latest block and admit again what abandoned ones held; return the hashes of
        what is back.
        """

    def ready(self) -> bool:
        """Whether `take` over the last settled block would return at least one transaction."""

    def get(self, hash: bytes) -> bytes | None: ...
    def raw(self, limit: int) -> list[bytes]:
        """Up to `limit` executable raw transactions, for a peer that just connected."""

    def nonce(self, account: bytes) -> int:
        """The next nonce of an account, counting its executable waiting transactions."""

    def counts(self) -> tuple[int, int, int]:
        """(executable, queued behind a gap, bytes)."""

    def content_json(self, account: bytes | None) -> bytes:
        """txpool_content / contentFrom, as JSON."""

    def transaction_json(self, hash: bytes) -> bytes | None: ...

@final
class Responder:
    """Answers plain JSON-RPC requests for reads of a view: standard methods in the form that all
    clients use. Whatever is unusual or wrong is left, so that Python answers it.

    Reads of the newest state are answered at once; what runs the EVM goes to threads, and its
    answer comes by `collect`. All answers are equal to those that Python would give.
    """

    waiting: int
    """Executions that are not finished."""

    def __init__(
        self,
        view: View,
        *,
        methods: list[str],
        max_body_bytes: int,
        max_batch: int,
        max_response_bytes: int,
        gas_cap: int,
        threads: int,
        max_waiting: int,
        seconds: float,
    ) -> None:
        """`methods` are those that may be answered; of them the kernel takes what it knows."""

    def allow_host(self, host: bytes) -> None:
        """Take requests with this Host header from now on; until then none are."""

    def respond(self, data: bytes, room: int) -> tuple[int, list[bytes | tuple[int, int]]]:
        """Answer the plain HTTP requests that `data` begins with: how many bytes of it they were,
        and in their order what to write, or (token, size of the body) of an answer to wait for, at
        most `room` of these.
        """

    def answer(self, body: bytes) -> bytes | int | None:
        """The answer to a JSON-RPC message, the token of one to wait for, or None: not plain."""

    def fileno(self) -> int:
        """Readable while `collect` has something."""

    def collect(self) -> list[tuple[int, bool, bytes]]:
        """(token, True, answer) or (token, False, body), which Python is to answer after all."""

    def cancel(self, token: int) -> None:
        """Nobody waits for this answer any more."""

    def sweep(self) -> None:
        """Give up what is over its time, and the snapshot that is held. To be called every second
        or so.
        """

    def close(self) -> None:
        """End the threads, after what they are at."""

@final
class View:
    """Read-only snapshots of what is durable, final blocks and the adopted branch above them, for
    JSON-RPC. Safe in another process and from many threads.

    Methods ending in `_json` return the JSON of a JSON-RPC result. `at` is a height, a block hash
    or a tag: -1 the latest block, -3 the safe one, -4 the last final one. Every call answers from
    one moment. Raises Unavailable for an unknown block or state (message as geth words it), and
    Rejected with code 4444 for what was pruned.
    """

    genesis_hash: bytes
    chain_id: int
    is_dev: bool
    """Whether the genesis file says that the chain is for development."""

    @staticmethod
    def open(path: str) -> View: ...
    def dev_clock(self) -> tuple[int, int, int, int, int]:
        """The clock after the latest block: (its timestamp, seconds ahead of what is agreed on,
        the next block's timestamp or 0, blocks still to be made, seconds between those or 0).
        """

    def dev_mining(self) -> tuple[bool, int]:
        """How blocks come: (whether transactions wait until one is asked for, after how many
        seconds somebody asks or 0).
        """

    def is_reverted(self, height: int) -> bool:
        """Whether what the block at a height did was undone by a revert."""

    def encode_command(self, nonce: int, salt: bytes, name: str, arguments: list[bytes]) -> bytes:
        """The raw transaction of a dev command; numbers are big-endian, at most 32 bytes. Raises
        Invalid, Rejected.
        """

    def impersonate(self, request: bytes) -> bytes:
        """The raw transaction, signed by nobody, of a JSON request that names all its fields.
        Raises Invalid, Rejected.
        """

    def head(self) -> int:
        """The latest height."""

    def tips(self) -> tuple[int, int, int, bool]:
        """The latest, the safe and the last final height, and whether they may differ."""

    def branch(self, first: int, limit: int) -> tuple[int, list[bytes]]:
        """The last final height, and the hashes of at most `limit` blocks from `first` on."""

    def history(self) -> tuple[int, int, int]:
        """The first heights whose state, whole block and header are here. Genesis is always whole
        but for its state.
        """

    def check(self) -> Check:
        """Begin to look at everything that is stored now."""

    def export_state(
        self, at: int | bytes, cursor: bytes, limit_bytes: int
    ) -> tuple[bytes, bytes | None]:
        """A piece of the state after a block, and where the next one begins; None: that was all.

        `cursor` is empty for the first piece. A piece ends with the record that passes the limit.
        """

    def head_record(self, height: int) -> bytes | None:
        """What `StateImport.finish` takes for a block."""

    def block_hash(self, height: int) -> bytes | None: ...
    def block_number(self, hash: bytes) -> int | None: ...
    def base_fee(self, at: int | bytes) -> int: ...
    def block_json(self, at: int | bytes, full: bool) -> bytes | None: ...
    def header_json(self, at: int | bytes) -> bytes | None: ...
    def block_raw(self, at: int | bytes) -> bytes | None:
        """The RLP of a block."""

    def header_raw(self, at: int | bytes) -> bytes | None:
        """The RLP of a header."""

    def receipts_raw(self, at: int | bytes) -> list[bytes] | None:
        """The EIP-2718 bytes of each receipt of a block."""

    def block_transaction_count(self, at: int | bytes) -> int | None: ...
    def block_receipts_json(self, at: int | bytes) -> bytes | None: ...
    def transaction_json(self, hash: bytes) -> bytes | None: ...
    def transaction_at_json(self, at: int | bytes, index: int) -> bytes | None: ...
    def transaction_raw(self, hash: bytes) -> bytes | None: ...
    def receipt_json(self, hash: bytes) -> bytes | None: ...
    def logs_json(
        self,
        first: int,
        last: int,
        addresses: list[bytes],
        topics: list[list[bytes] | None],
        limit: int,
        tip: bytes | None = None,
    ) -> bytes | None:
        """Logs of blocks in [first, last]; raises Rejected when more than `limit` match.

        With `tip`, the hash that the block at `last` is to have: None where it is another one.
        """

    def block_logs(self, at: int | bytes) -> list[tuple[bytes, list[bytes], bytes]]:
        """(address, topics, JSON of the log) in order, for subscriptions."""

    def balance(self, at: int | bytes, account: bytes) -> int: ...
    def nonce(self, at: int | bytes, account: bytes) -> int: ...
    def code(self, at: int | bytes, account: bytes) -> bytes: ...
    def storage(self, at: int | bytes, account: bytes, slot: bytes) -> bytes: ...
    def proof_json(self, at: int | bytes, account: bytes, slots: list[bytes]) -> bytes:
        """The EIP-1186 answer. A slot of 32 bytes is shown as such, a shorter one as a quantity."""

    def call(self, at: int | bytes, request: bytes, overrides: bytes | None, gas_cap: int) -> bytes:
        """eth_call; `request` and `overrides` are the JSON of the parameters.

        Raises Reverted, Rejected, Invalid.
        """

    def estimate_gas(
        self, at: int | bytes, request: bytes, overrides: bytes | None, gas_cap: int
    ) -> int: ...
    def access_list(
        self, at: int | bytes, request: bytes, overrides: bytes | None, gas_cap: int
    ) -> bytes:
        """eth_createAccessList. Raises Rejected, Invalid."""

    def simulate(self, at: int | bytes, request: bytes, gas_cap: int) -> bytes:
        """eth_simulateV1. Raises Rejected, with the method's codes."""

    def trace_block(self, at: int | bytes, options: bytes | None) -> bytes | None:
        """geth's traces of all transactions of a block, as JSON of `[{txHash, result}]`.

        `options` is the JSON of geth's TraceConfig. Raises Rejected for genesis, and for a trace
        of too many steps.
        """

    def trace_transaction(self, hash: bytes, options: bytes | None) -> bytes | None: ...
    def trace_call(
        self, at: int | bytes, request: bytes, options: bytes, gas_cap: int
    ) -> bytes: ...
    def parity_block(self, at: int | bytes) -> bytes | None:
        """Parity's flat traces."""

    def parity_transaction(self, hash: bytes) -> bytes | None: ...
    def parity_replay_block(self, at: int | bytes, types: bytes) -> bytes | None:
        """Parity's replay; `types` is the JSON of a list of trace, vmTrace, stateDiff."""

    def parity_replay_transaction(self, hash: bytes, types: bytes) -> bytes | None: ...
    def parity_calls(
        self, at: int | bytes, calls: list[tuple[bytes, bytes]], gas_cap: int
    ) -> bytes: ...
    def ots_trace(self, hash: bytes) -> bytes | None:
        """ots_traceTransaction."""

    def ots_operations(self, hash: bytes) -> bytes | None:
        """ots_getInternalOperations."""

    def ots_error(self, hash: bytes) -> bytes | None:
        """What a transaction gave back when it reverted; empty where it did not."""

    def ots_block_details(self, at: int | bytes) -> bytes | None: ...
    def ots_block_transactions(self, at: int | bytes, page: int, size: int) -> bytes | None: ...
    def ots_transactions(self, places: list[tuple[int, int]]) -> bytes | None:
        """`{txs, receipts}` of the transactions at (height, index)."""

    def transaction_hash_at(self, height: int, index: int) -> bytes | None: ...
    def next_base_fee(self) -> int:
        """The base fee of the block after the last one."""

    def next_blob_base_fee(self) -> int: ...
    def config_json(self) -> bytes:
        """eth_config (EIP-7910)."""

    def fee_history_json(self, count: int, newest: int, percentiles: list[float]) -> bytes: ...
    def suggest_tip(self) -> int: ...
    def decision(self, height: int) -> tuple[bytes, bytes, list[bytes]] | None: ...
    def close(self) -> None: ...

def fill_transaction(request: bytes) -> bytes:
    """`{raw, tx}` of a transaction without signature, from the JSON of all of its fields.

    Raises Invalid, Rejected.
    """

def sign_transaction(request: bytes, secret: bytes) -> bytes:
    """`{raw, tx}` of a transaction that a key signs, from the JSON of all of its fields.

    Raises Invalid, Rejected.
    """

@final
class AddressIndex:
    """In which transactions an address takes part: a store beside a ledger's. Thread-safe."""

    is_writer: bool
    """Whether this one may write: no other process does."""

    @staticmethod
    def open(path: str | None, map_bytes: int = 1_099_511_627_776) -> AddressIndex:
        """Open for writing, or for reading where another process writes."""

    def update(self, view: View, blocks: int) -> tuple[int, int]:
        """Follow a ledger by at most so many blocks; the last height that is in, the ledger's."""

    def heights(self, view: View) -> tuple[int, int]:
        """The last height that is in, and the ledger's."""

    def search(
        self, view: View, address: bytes, first: int, is_up: bool, count: int
    ) -> tuple[list[tuple[int, int]], bool]:
        """(height, index) of transactions from `first` up or down, and whether there are more.

        At least `count` and all of the last block, if there are so many.
        """

    def creator(self, view: View, address: bytes) -> tuple[int, int, bytes] | None:
        """(height, index, creator) of the transaction that created a contract last."""

    def sent(self, view: View, sender: bytes, nonce: int) -> tuple[int, int] | None:
        """(height, index) of the transaction that an account sent with a nonce."""

    def close(self) -> None:
        """Let another process write."""

# ---- the key-value application

@final
class KeyValueBlock:
    """An executed block of a key-value ledger; heavy parts stay in the kernel."""

    number: int
    hash: bytes
    parent: bytes
    state_root: bytes
    timestamp_ms: int
    revision: int
    """Of the last change up to this block."""

    items: int
    """How many operations were executed."""

    header: bytes
    skipped: list[tuple[bytes, str]]
    """(identity, reason) of what was not executed; empty for a block of the store."""

    answers: list[tuple[bytes, int, int, bytes]]
    """(identity, outcome, revision, detail) for clients; empty for a block of the store."""

    events: list[tuple[bytes, int, tuple[bytes, int, int, int] | None]]
    """(key, revision, entry or None if deleted); empty for a block of the store."""

@final
class KeyValueRun:
    """A block that is being executed together with an application's own code."""

    height: int
    timestamp_ms: int
    def next_call(self) -> tuple[bytes, bytes] | None:
        """Execute up to the next call: (client, bytes); None at the end."""

    def get(self, key: bytes, /) -> bytes | None: ...
    def put(self, key: bytes, value: bytes, /) -> int: ...
    def delete(self, key: bytes, /) -> bool: ...
    def answer(self, detail: bytes) -> None:
        """End the call that is under way; what it changed stays."""

    def refuse(self, reason: str) -> None:
        """End the call that is under way; what it changed is taken back."""

    def finish(self) -> KeyValueBlock:
        """Keep the result as an executed block; the run ends."""

    def events(self) -> list[tuple[bytes, int, tuple[bytes, int, int, int] | None]]:
        """Return what was changed; the run ends."""

@final
class KeyValueImport:
    """A state that is being loaded, piece by piece; nothing of it is seen before `finish`."""

    def add(self, pieces: bytes) -> None:
        """Load the next pieces.

        Raises Invalid for what is malformed or out of order; the import is over then.
        """

    def finish(
        self, header: bytes, envelope: bytes, certificate: bytes, payloads: list[bytes]
    ) -> None:
        """Let the ledger be at this state. Raises Invalid, and changes nothing, unless root and
        payloads are those of the header.
        """

@final
class KeyValue:
    """The store, the tree of executed blocks and the pool of a key-value ledger. Thread-safe."""

    @staticmethod
    def open(
        path: str | None,
        identity: bytes,
        members: bytes,
        timestamp_ms: int,
        *,
        map_bytes: int = 1 << 40,
        max_items: int = 65_536,
        max_bytes: int = 64 << 20,
    ) -> KeyValue:
        """Open or create; `path` None keeps everything in memory."""

    genesis_hash: bytes
    def durable(self) -> int: ...
    def final(self) -> int: ...
    def block(self, block: bytes | int) -> KeyValueBlock | None: ...
    def decision(self, height: int) -> tuple[bytes, bytes, list[bytes]] | None: ...
    def add(self, items: list[bytes]) -> list[tuple[bytes, str | None]]: ...
    def settle(self) -> list[bytes]: ...
    def ready(self) -> bool: ...
    def counts(self) -> tuple[int, int]: ...
    def waiting(self, limit: int) -> list[bytes]: ...
    def take(self, parent: bytes, max_bytes: int, now_ms: int) -> bytes: ...
    def check(self, parent: bytes, payload: bytes, now_ms: int) -> None: ...
    def execute(
        self, parent: bytes, payloads: list[bytes], parent_envelope: bytes
    ) -> KeyValueBlock: ...
    def executed(
        self, parent: bytes, payloads: list[bytes], parent_envelope: bytes
    ) -> KeyValueBlock | None: ...
    def begin(
        self, parent: bytes, payloads: list[bytes], parent_envelope: bytes, direct: bool
    ) -> KeyValueRun: ...
    def begin_again(self, height: int, direct: bool) -> KeyValueRun: ...
    def finalize(
        self, block: bytes, envelope: bytes, certificate: bytes, payloads: list[bytes]
    ) -> None: ...
    def adopt(self, block: bytes) -> None: ...
    def commit(self) -> int: ...
    def rollback(self, height: int) -> None: ...
    def get(
        self, keys: list[bytes], height: int | None = None
    ) -> tuple[int, int, list[tuple[bytes, int, int, int] | None]]: ...
    def prove(
        self, key: bytes, height: int
    ) -> tuple[bytes, list[bytes], tuple[bytes, int, int, int] | None]: ...
    def result(self, client: bytes, sequence: int) -> tuple[int, int, bytes] | None: ...
    def history(self) -> tuple[int, int, int]:
        """The first heights whose state, whole block and header are here."""

    def start_export(self, height: int, limit: int) -> StateExport:
        """As that of `Ledger`."""

    def start_import(self, height: int) -> KeyValueImport:
        """Begin to load a state that will take the place of everything here.

        Raises Invalid unless `height` is above the durable one.
        """

    def chunks(self) -> Chunks: ...
    def close(self) -> None: ...

@final
class KeyValuePort:
    """Operations under way at the port of one node, by who asked for them. Connection 0 stands for
    all who are told one by one. Thread-safe.
    """

    def __init__(self, max_waiting: int) -> None: ...
    def __len__(self) -> int: ...
    def take(
        self, connection: int, data: bytes, room: int, due_ms: int
    ) -> tuple[int, int, list[bytes], list[bytes], int]:
        """Read at most `room` whole frames: (their bytes, how many, operations that are new, bodies
        of other requests, the size of a frame that is too long or 0).
        """

    def put(self, operation: bytes, connection: int, number: int, due_ms: int) -> bool:
        """Whether the operation is new, or waits already. Raises Unavailable for too many."""

    def remove(self, identity: bytes) -> list[tuple[int, int]]:
        """Return who asked for an operation, which waits no longer: (connection, number)."""

    def answer(
        self, block: KeyValueBlock
    ) -> tuple[list[tuple[int, bytes, int]], list[tuple[int, int, int, bytes]]]:
        """Return the answers of a block: (connection, frames, how many) for each connection, and
        (number, outcome, revision, detail) for those who are told one by one.
        """

    def late(self, now_ms: int) -> list[tuple[int, int]]:
        """Return who has waited too long: (connection, number)."""

# ---- connections between nodes

@final
class TlsKeys:
    """A certificate and its key, ready for connections in both directions."""

    def __init__(self, key: bytes, certificate: bytes) -> None:
        """Both DER, the key as PKCS #8. Raises Invalid where they cannot be used together."""

@final
class TlsLink:
    """One connection without its socket: TLS 1.3 on one side, frames on the other.

    A frame is 4 bytes of length, big-endian, and that many bytes. Any certificate is accepted whose
    key the peer proves to hold. One thread uses it. Calls on less than 64 KiB keep the GIL.
    """

    established: bool
    """Whether the handshake is done."""
    certificate: bytes | None
    """The certificate (DER) whose key the peer has proved to hold."""

    def __init__(self, keys: TlsKeys, dials: bool, first_bytes: int, most_bytes: int) -> None:
        """`first_bytes` is the most that the first frame may have, `most_bytes` any other one."""

    def receive(self, data: bytes) -> tuple[list[bytes], bytes, str | None]:
        """Take what the socket brought: (whole frames save empty ones, what the socket shall take,
        why the connection is to end). Never raises for what a peer sent; after an end, nothing.
        """

    def seal(self, frames: list[bytes]) -> bytes:
        """Return the records of frames, for the socket; none after an end.

        Raises Invalid before the link is established.
        """
