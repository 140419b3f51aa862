//! Transactions: decoding, sender recovery, stateless validity.

/// Senders by transaction hash, bounded, shared between pool, check and execution. Thread-safe.
pub struct Senders {
    _capacity: usize,
}

impl Senders {
    pub fn new(capacity: usize) -> Senders {
        Senders { _capacity: capacity }
    }
}
