//! One operation of a client, as it is sent, gossiped and agreed on.
//!
//! ```text
//! offset  bytes
//! 0       1      kind: 1 put, 2 delete, 3 compare, 4 call, 5 nothing
//! 1       16     client, chosen at random by it
//! 17      8      sequence, from 1, counted by the client; integers are big-endian
//! 25      8      acknowledged: every sequence up to this one was answered, so that its result may be forgotten
//! 33      8      deadline, milliseconds of Unix time; a block that is later skips the operation
//! 41      ...    put: key length (2), key, value
//!                delete: key
//!                compare: key length (2), key, condition, then 0 (delete) or 1 and the new value
//!                call: bytes for the application's own code
//! ```
//!
//! A condition is 0 (the key is absent), 1 and a revision (8), or 2, a length (4) and a value.

use crate::errors::{Error, Result};
use alloy_primitives::Bytes;

pub const MAX_KEY_BYTES: usize = 1 << 10;
pub const MAX_VALUE_BYTES: usize = 1 << 16;
pub const HEAD_BYTES: usize = 41;
/// Of a whole item: a comparison with a value, and a new one.
pub const MAX_ITEM_BYTES: usize = HEAD_BYTES + MAX_KEY_BYTES + 2 * MAX_VALUE_BYTES + 16;

pub type Client = [u8; 16];
/// Client and sequence: the same operation, however often it is sent.
pub type Identity = [u8; 24];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition<Part = Bytes> {
    Absent,
    Revision(u64),
    Value(Part),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<Part = Bytes> {
    Put { key: Part, value: Part },
    Delete { key: Part },
    Compare { key: Part, condition: Condition<Part>, value: Option<Part> },
    Call(Part),
    Nothing,
}

#[derive(Debug, Clone)]
pub struct Item {
    pub client: Client,
    pub sequence: u64,
    pub acknowledged: u64,
    pub deadline_ms: u64,
    pub action: Action,
}

/// The identity of anything that is long enough to have one, otherwise zeros.
pub fn identity_of(raw: &[u8]) -> Identity {
    raw.get(1..25).and_then(|part| part.try_into().ok()).unwrap_or([0; 24])
}

/// What the pool has to know of an operation.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    pub client: Client,
    pub sequence: u64,
    pub acknowledged: u64,
    pub deadline_ms: u64,
}

impl Head {
    /// Raises Invalid unless it begins an operation, and that is a whole one.
    pub fn parse(raw: &[u8]) -> Result<Head> {
        let (head, _) = parse(raw)?;
        Ok(head)
    }
}

impl Item {
    pub fn parse(raw: &Bytes) -> Result<Item> {
        let (Head { client, sequence, acknowledged, deadline_ms }, action) = parse(raw)?;
        let cut = |part: &[u8]| raw.slice_ref(part);
        let action = match action {
            Action::Put { key, value } => Action::Put { key: cut(key), value: cut(value) },
            Action::Delete { key } => Action::Delete { key: cut(key) },
            Action::Compare { key, condition, value } => {
                let condition = match condition {
                    Condition::Absent => Condition::Absent,
                    Condition::Revision(revision) => Condition::Revision(revision),
                    Condition::Value(value) => Condition::Value(cut(value)),
                };
                Action::Compare { key: cut(key), condition, value: value.map(cut) }
            }
            Action::Call(body) => Action::Call(cut(body)),
            Action::Nothing => Action::Nothing,
        };
        Ok(Item { client, sequence, acknowledged, deadline_ms, action })
    }

    pub fn identity(&self) -> Identity {
        let mut identity = [0; 24];
        identity[..16].copy_from_slice(&self.client);
        identity[16..].copy_from_slice(&self.sequence.to_be_bytes());
        identity
    }
}

fn parse(raw: &[u8]) -> Result<(Head, Action<&[u8]>)> {
    if raw.len() < HEAD_BYTES || raw.len() > MAX_ITEM_BYTES {
        return Err(Error::invalid(format!(
            "operation: {} bytes, expected {HEAD_BYTES} to {MAX_ITEM_BYTES}",
            raw.len()
        )));
    }
    let mut client = [0; 16];
    client.copy_from_slice(&raw[1..17]);
    let (sequence, acknowledged, deadline_ms) = (number(raw, 17), number(raw, 25), number(raw, 33));
    if acknowledged >= sequence || sequence >= 1 << 62 {
        return Err(Error::invalid(format!(
            "operation: sequence {sequence} after acknowledged {acknowledged}, expected the sequence to be larger"
        )));
    }
    let body = &raw[HEAD_BYTES..];
    let action = match raw[0] {
        1 => {
            let (key, value) = split_key(body)?;
            Action::Put { key, value: check_value(value)? }
        }
        2 => Action::Delete { key: check_key(body)? },
        3 => parse_compare(body)?,
        4 => Action::Call(check_value(body)?),
        5 if body.is_empty() => Action::Nothing,
        kind => return Err(Error::invalid(format!("operation: kind {kind}, expected 1 to 5"))),
    };
    Ok((Head { client, sequence, acknowledged, deadline_ms }, action))
}

fn number(raw: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&raw[at..at + 8]);
    u64::from_be_bytes(bytes)
}

fn too_short() -> Error {
    Error::invalid("operation: ends in the middle, expected a whole one")
}

fn check_key(key: &[u8]) -> Result<&[u8]> {
    if (1..=MAX_KEY_BYTES).contains(&key.len()) {
        return Ok(key);
    }
    Err(Error::invalid(format!("key: {} bytes, expected 1 to {MAX_KEY_BYTES}", key.len())))
}

fn check_value(value: &[u8]) -> Result<&[u8]> {
    if value.len() <= MAX_VALUE_BYTES {
        return Ok(value);
    }
    Err(Error::invalid(format!("value: {} bytes, expected at most {MAX_VALUE_BYTES}", value.len())))
}

fn split_key(body: &[u8]) -> Result<(&[u8], &[u8])> {
    let length = body.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes) as usize).ok_or_else(too_short)?;
    if body.len() < 2 + length {
        return Err(too_short());
    }
    Ok((check_key(&body[2..2 + length])?, &body[2 + length..]))
}

fn parse_compare(body: &[u8]) -> Result<Action<&[u8]>> {
    let (key, rest) = split_key(body)?;
    let (condition, rest) = match rest.first().ok_or_else(too_short)? {
        0 => (Condition::Absent, &rest[1..]),
        1 if rest.len() >= 9 => (Condition::Revision(number(rest, 1)), &rest[9..]),
        2 if rest.len() >= 5 => {
            let mut length = [0; 4];
            length.copy_from_slice(&rest[1..5]);
            let end = 5usize.saturating_add(u32::from_be_bytes(length) as usize);
            if end > rest.len() {
                return Err(too_short());
            }
            (Condition::Value(check_value(&rest[5..end])?), &rest[end..])
        }
        1 | 2 => return Err(too_short()),
        kind => return Err(Error::invalid(format!("condition: kind {kind}, expected 0 to 2"))),
    };
    let value = match rest.first().ok_or_else(too_short)? {
        0 if rest.len() == 1 => None,
        1 => Some(check_value(&rest[1..])?),
        kind => return Err(Error::invalid(format!("comparison: action {kind}, expected 0 alone or 1 and a value"))),
    };
    Ok(Action::Compare { key, condition, value })
}
