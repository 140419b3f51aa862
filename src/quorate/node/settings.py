"""What one node may choose for itself; nothing here has to be equal on all members."""

from msgspec import Struct

from quorate.base.types import Milliseconds


class Settings(Struct, frozen=True, kw_only=True):
    """Local settings, with units. Bounds are per node unless they say otherwise."""

    block_time_ms: Milliseconds = 0
    """Fixed interval between blocks; 0: at once when there is something to agree on, else none."""
    heartbeat_ms: Milliseconds = 0
    """An empty block after this much silence; 0: never."""
    certify_ms: Milliseconds = 500
    """The empty block that certifies the last state comes after this much silence: transactions
    that follow each other certify one another, and a client that began to wait for a block just
    after its transaction's own sees one more.
    """
    max_payload_bytes: int = 2 << 20
    """Of one payload that this node builds."""
    max_frame_bytes: int = 16 << 20
    """A larger frame from a peer is malformed."""

    gossip_ms: Milliseconds = 2
    """Transactions are told to peers at most this often, everything that came in between at
    once.
    """
    forward: bool = False
    """Tell items only to the member that alone proposes, where the engine knows one: saves the
    others the work of admitting what they execute a moment later. Where clients are answered as
    soon as an item waits, it may then be lost with the one member that it waits at.
    """
    gossip_batch_bytes: int = 1 << 20
    """Of one frame of transactions."""
    gossip_again_ms: Milliseconds = 2000
    """What waits is told again after this long without a new height, and little by little while
    heights come: links may have lost it, or pools let go of it.
    """
    seen_transactions: int = 1 << 16
    """How many recent transactions are remembered, to suppress duplicates; 0: none, and the pool
    alone does it.
    """
    seen_bytes: int = 32 << 20
    seen_ms: Milliseconds = 10_000
    """They are remembered for so long, three times as long at most: what comes again later is
    judged again, since the pool may have let go of it.
    """
    admission_bytes: int = 32 << 20
    """Waiting for the pool's judgement; beyond it, items from peers are dropped and clients
    refused.
    """
    welcome_transactions: int = 5000
    """Told to a newly connected peer, or told again to all, in one go; at least 1."""

    peer_bytes_per_second: int = 64 << 20
    peer_transactions_per_second: int = 50_000
    """Twice as much may come at once."""
    peer_strikes: int = 100
    """Frames of one peer over its bounds that are dropped before it is disconnected."""
    peer_malformed: int = 5
    """Malformed frames of one peer before it is disconnected."""

    tip_ms: Milliseconds = 50
    """Peers that are no members are told the height at most this often."""
    tip_again_ms: Milliseconds = 1000
    """Members are told it so often while they have neither told nor shown that they are as far."""
    sync_patience_ms: Milliseconds = 200
    """How long a short gap may last before it is closed by asking, since votes may still close
    it.
    """
    sync_timeout_ms: Milliseconds = 3000
    """How long an answer may take; twice as long after each that did not come in time."""
    sync_range: int = 64
    """Heights in one request."""
    sync_requests: int = 4
    """Requests under way."""
    sync_reply_bytes: int = 4 << 20
    """A reply ends with the decision that passes this."""
    sync_buffer_bytes: int = 64 << 20
    """Downloaded and not yet verified."""
    serve_requests: int = 2
    """Requests of one peer that are being answered; more are dropped."""

    state_interval: int = 1024
    """Snapshots of the state are offered to others at multiples of this height; 0: never."""
    state_gap: int = 8192
    """Who is so many heights behind takes over the state at a height, where engine and application
    can, instead of executing its way there; 0: only where nobody has the blocks any more.
    """
    state_kept_ms: Milliseconds = 600_000
    """An offered state is kept so long after somebody asked for it, whatever else is pruned: who is
    restarted goes on with it, and who has all of it needs the blocks that follow.
    """
    state_chunk_bytes: int = 1 << 18
    """Of a chunk of a snapshot, about. Only members with the same number can help each other out
    while one downloads.
    """

    read_timeout_ms: Milliseconds = 5000
    """A linearizable read that has not become possible by then is refused."""
    max_reads: int = 1 << 16
    """Linearizable reads that wait; more are refused."""

    commit_ms: Milliseconds = 0
    """How long a final height may wait for others to become durable in the store with it; 0: not at
    all. The journal holds it until then. Suits applications whose readers do not look at the store.
    """
    commit_heights: int = 16
    """So many do not wait any longer, nor does half of `max_uncommitted_bytes`."""

    state_history: int = 0
    """Heights below the durable one whose state is kept; 0: all."""
    block_history: int = 0
    """Heights whose blocks and certificates are kept; 0: all."""
    prune_every: int = 16
    """Heights that are let go together, so that few writes are spent on it."""

    max_uncommitted: int = 128
    """Heights that may be final and not yet durable; beyond it agreement waits for the store."""
    max_uncommitted_bytes: int = 1 << 30
    """Of their payloads."""
    max_waiting_effects: int = 1 << 16
    """Effects that wait for the disk; beyond it frames of peers are dropped."""
