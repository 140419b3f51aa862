//! The hashes of a payload: the engine names it by `keccak256(head || keccak256(body))`, so that the head can be shown without
//! the body, and the header of a key-value block covers `keccak256(payload)`.
//!
//! Both go over the same bytes, and where the processor hashes side by side both together take the time of one. So the other is
//! computed along, and the last ones are remembered until the block is executed.

use crate::keccak_lanes::{has_lanes, hash_many};
use crate::memo;
use crate::payload::HEAD_BYTES;
use alloy_primitives::{B256, Bytes, keccak256};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::collections::VecDeque;

/// From here on a call lets other threads of Python run; below, giving the lock away and taking it costs more than the work.
const LARGE_BYTES: usize = 32 << 10;
/// Shorter ones are hashed again before they are found.
const MIN_BYTES: usize = 1 << 12;
const MAX_REMEMBERED: usize = 64;
/// Of all that are remembered, but for the last one.
const MAX_REMEMBERED_BYTES: usize = 8 << 20;

struct Known {
    payload: PyBackedBytes,
    name: B256,
    whole: B256,
}

static KNOWN: Mutex<VecDeque<Known>> = Mutex::new(VecDeque::new());

fn recall(payload: &[u8]) -> Option<(B256, B256)> {
    if payload.len() < MIN_BYTES || !has_lanes() {
        return None;
    }
    let known = KNOWN.lock();
    // Mostly it is the very same object; comparing others takes a hundredth of hashing them.
    let is_same = |known: &&Known| {
        known.payload.len() == payload.len()
            && (std::ptr::eq(known.payload.as_ptr(), payload.as_ptr()) || *known.payload == *payload)
    };
    known.iter().rev().find(is_same).map(|known| (known.name, known.whole))
}

fn name_of(head: &[u8], body: &B256) -> B256 {
    memo::keccak256(&[head, body.as_slice()].concat())
}

/// The name that engines give a payload.
pub fn hash_payload(payload: PyBackedBytes) -> B256 {
    let (head, body) = payload.split_at(payload.len().min(HEAD_BYTES));
    if payload.len() < MIN_BYTES || !has_lanes() {
        return name_of(head, &memo::keccak256(body));
    }
    if let Some((name, _)) = recall(&payload) {
        return name;
    }
    let mut hashes = Vec::with_capacity(2);
    hash_many([body, &payload[..]].into_iter(), &mut hashes);
    let (name, whole) = (name_of(head, &hashes[0]), hashes[1]);
    let mut known = KNOWN.lock();
    let mut bytes: usize = known.iter().map(|known| known.payload.len()).sum();
    while known.len() >= MAX_REMEMBERED || bytes > MAX_REMEMBERED_BYTES {
        bytes -= known.pop_front().map_or(0, |gone| gone.payload.len());
    }
    known.push_back(Known { payload, name, whole });
    name
}

/// keccak256 of a payload.
pub fn hash_whole(payload: &Bytes) -> B256 {
    recall(payload).map_or_else(|| keccak256(payload), |(_, whole)| whole)
}

/// A payload without a copy of it: Python's object stays as long as a part of it is needed.
pub fn share(payload: PyBackedBytes) -> Bytes {
    alloy_primitives::bytes::Bytes::from_owner(payload).into()
}

#[pyfunction]
#[pyo3(name = "hash_payload")]
fn hash_payload_face(py: Python<'_>, payload: PyBackedBytes) -> Py<PyBytes> {
    let is_large = payload.len() >= LARGE_BYTES;
    let name = if is_large { py.detach(|| hash_payload(payload)) } else { hash_payload(payload) };
    PyBytes::new(py, name.as_slice()).unbind()
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(hash_payload_face, m)?)
}
