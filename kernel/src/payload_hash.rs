//! The hash of a payload, by which engines name it: `keccak256(head || hash_body(body))`, so that the head can be shown without
//! the body.
//!
//! A body of `TREE_BYTES` or more is hashed in pieces, since one after the other its blocks would hold up every height of a loaded
//! network, and side by side pieces take a fifth of that: `hash_body` is then the hash of the pieces' hashes. Zeros fill these
//! up to `TREE_BYTES`, so that they are never a body which is hashed whole.
//!
//! The last names are remembered: whoever proposes, checks and executes asks again.

use crate::keccak_lanes::hash_many;
use crate::memo;
use crate::payload::HEAD_BYTES;
use alloy_primitives::{B256, Bytes, keccak256};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::collections::VecDeque;

/// From here on a call lets other threads of Python run; below, giving the lock away and taking it costs more than the work.
const LARGE_BYTES: usize = 64 << 10;
/// Shorter bodies are hashed whole.
const TREE_BYTES: usize = 1 << 12;
const PIECE_BYTES: usize = 1 << 10;
/// Shorter payloads are hashed again before they are found.
const MIN_BYTES: usize = 1 << 12;
const MAX_REMEMBERED: usize = 64;
/// Of all that are remembered, but for the last one.
const MAX_REMEMBERED_BYTES: usize = 8 << 20;

struct Known {
    payload: PyBackedBytes,
    name: B256,
}

static KNOWN: Mutex<VecDeque<Known>> = Mutex::new(VecDeque::new());

fn recall(payload: &[u8]) -> Option<B256> {
    if payload.len() < MIN_BYTES {
        return None;
    }
    let known = KNOWN.lock();
    // Mostly it is the very same object; comparing others takes a tenth of hashing them.
    let is_same = |known: &&Known| {
        known.payload.len() == payload.len()
            && (std::ptr::eq(known.payload.as_ptr(), payload.as_ptr()) || *known.payload == *payload)
    };
    known.iter().rev().find(is_same).map(|known| known.name)
}

/// What is shown of a body whose head is shown.
pub fn hash_body(body: &[u8]) -> B256 {
    if body.len() < TREE_BYTES {
        return memo::keccak256(body);
    }
    let mut hashes = Vec::with_capacity(body.len().div_ceil(PIECE_BYTES));
    hash_many(body.chunks(PIECE_BYTES), &mut hashes);
    let mut joined: Vec<u8> = Vec::with_capacity(TREE_BYTES.max(hashes.len() * 32));
    hashes.iter().for_each(|hash| joined.extend_from_slice(hash.as_slice()));
    joined.resize(joined.len().max(TREE_BYTES), 0);
    keccak256(joined)
}

fn compute_name(payload: &[u8]) -> B256 {
    let (head, body) = payload.split_at(payload.len().min(HEAD_BYTES));
    memo::keccak256(&[head, hash_body(body).as_slice()].concat())
}

/// The name that engines give a payload.
pub fn hash_payload(payload: &Bytes) -> B256 {
    recall(payload).unwrap_or_else(|| compute_name(payload))
}

fn hash_and_remember(payload: PyBackedBytes) -> B256 {
    if let Some(name) = recall(&payload) {
        return name;
    }
    let name = compute_name(&payload);
    if payload.len() >= MIN_BYTES {
        let mut known = KNOWN.lock();
        let mut bytes: usize = known.iter().map(|known| known.payload.len()).sum();
        while known.len() >= MAX_REMEMBERED || bytes > MAX_REMEMBERED_BYTES {
            bytes -= known.pop_front().map_or(0, |gone| gone.payload.len());
        }
        known.push_back(Known { payload, name });
    }
    name
}

/// A payload without a copy of it: Python's object stays as long as a part of it is needed.
pub fn share(payload: PyBackedBytes) -> Bytes {
    alloy_primitives::bytes::Bytes::from_owner(payload).into()
}

#[pyfunction]
#[pyo3(name = "hash_payload")]
fn hash_payload_face(py: Python<'_>, payload: PyBackedBytes) -> Py<PyBytes> {
    let is_large = payload.len() >= LARGE_BYTES;
    let name = if is_large { py.detach(|| hash_and_remember(payload)) } else { hash_and_remember(payload) };
    PyBytes::new(py, name.as_slice()).unbind()
}

#[pyfunction]
#[pyo3(name = "hash_body")]
fn hash_body_face(py: Python<'_>, body: &[u8]) -> Py<PyBytes> {
    PyBytes::new(py, hash_body(body).as_slice()).unbind()
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(hash_body_face, m)?)?;
    m.add_function(wrap_pyfunction!(hash_payload_face, m)?)
}
