//! How bodies and receipts lie in the store: opaque bytes per height to whoever keeps them.

use crate::types::Included;

/// Senders and raw transactions of a block.
pub fn encode_body(_included: &[Included]) -> Vec<u8> {
    Vec::new()
}

/// Receipts of a block, with what JSON-RPC adds to them.
pub fn encode_receipts(_included: &[Included]) -> Vec<u8> {
    Vec::new()
}
