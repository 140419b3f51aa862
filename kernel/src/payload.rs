//! A payload: what is agreed on, before anybody has executed it; the layout of `ledger/payload.py`.

use crate::errors::{Error, Result};
use alloy_primitives::{Address, B256, Bytes};

pub const HEAD_BYTES: usize = 64;
const VERSION: [u8; 4] = [1, 0, 0, 0];

/// The parts of a payload; transactions are slices of the body, not yet decoded.
#[derive(Debug, Clone)]
pub struct Payload {
    pub timestamp_ms: u64,
    pub proposer: Address,
    pub parent: B256,
    /// As received (EIP-2718 bytes), in order.
    pub transactions: Vec<Bytes>,
}

impl Payload {
    /// Parse head and body, with one copy. Raises Invalid with found and expected.
    pub fn parse(payload: &[u8]) -> Result<Payload> {
        Payload::parse_shared(&Bytes::copy_from_slice(payload))
    }

    /// The same without a copy.
    pub fn parse_shared(payload: &Bytes) -> Result<Payload> {
        let Some((head, _)) = payload.split_at_checked(HEAD_BYTES) else {
            return Err(Error::invalid(format!("payload: {} bytes, expected at least {HEAD_BYTES}", payload.len())));
        };
        if head[..4] != VERSION {
            return Err(Error::invalid(format!(
                "payload: version {}, expected 01000000",
                alloy_primitives::hex::encode(&head[..4])
            )));
        }
        let mut timestamp = [0u8; 8];
        timestamp.copy_from_slice(&head[4..12]);
        Ok(Payload {
            timestamp_ms: u64::from_be_bytes(timestamp),
            proposer: Address::from_slice(&head[12..32]),
            parent: B256::from_slice(&head[32..64]),
            transactions: parse_body(&payload.slice(HEAD_BYTES..))?,
        })
    }
}

/// Split an RLP list of byte strings; nothing may follow it.
fn parse_body(body: &Bytes) -> Result<Vec<Bytes>> {
    let mut rest = &body[..];
    let header = alloy_rlp::Header::decode(&mut rest).map_err(|e| Error::invalid(format!("payload body: {e}")))?;
    if !header.list || header.payload_length != rest.len() {
        return Err(Error::invalid(format!(
            "payload body: {} bytes, expected one RLP list that fills them",
            body.len()
        )));
    }
    let start = body.len() - rest.len();
    let mut transactions = Vec::new();
    while !rest.is_empty() {
        let raw = alloy_rlp::Header::decode_bytes(&mut rest, false)
            .map_err(|e| Error::invalid(format!("payload body: transaction {}: {e}", transactions.len())))?;
        let end = body.len() - rest.len();
        debug_assert!(end - raw.len() >= start);
        transactions.push(body.slice(end - raw.len()..end));
    }
    Ok(transactions)
}

/// The RLP list of raw transactions.
pub fn encode_body<'a>(raws: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
    use alloy_rlp::Encodable;
    let payload_length = raws.clone().map(|raw| raw.length()).sum();
    let mut out = Vec::with_capacity(payload_length + 9);
    alloy_rlp::Header { list: true, payload_length }.encode(&mut out);
    for raw in raws {
        raw.encode(&mut out);
    }
    out
}
