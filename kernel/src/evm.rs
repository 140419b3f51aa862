//! Executes payloads: the only module (with `call.rs`) that knows revm.

use crate::errors::{Error, Result};
use crate::genesis::ChainSpec;
use crate::payload::Payload;
use crate::transaction::Senders;
use crate::types::{Outcome, Parent, StateRead};
use alloy_primitives::B256;

/// Execute payloads (one, or several that HoneyBadger agreed on) on top of `parent`.
///
/// Deterministic: the same arguments give the same outcome on any machine. A transaction that does not apply at its place
/// is skipped with the conventional reason. Raises Invalid for payloads that are not well-formed (e.g. wrong parent),
/// and what `state` raises.
pub fn execute_block(
    _spec: &ChainSpec,
    _state: &dyn StateRead,
    _parent: &Parent<'_>,
    _payloads: &[Payload],
    _parent_envelope: B256,
    _senders: &Senders,
) -> Result<Outcome> {
    Err(Error::unavailable("evm: not here yet"))
}

/// Judge whether `payload` may follow `parent` without executing it: parent hash, timestamp, decodable transactions with
/// valid signatures and chain id, the block's gas limit and size. Raises Invalid.
pub fn check_payload(
    _spec: &ChainSpec,
    _parent: &Parent<'_>,
    _payload: &Payload,
    _now_ms: u64,
    _senders: &Senders,
) -> Result<()> {
    Err(Error::unavailable("evm: not here yet"))
}
