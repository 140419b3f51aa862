//! The rolling digest of a simulated run; `quorate.simulator.digest` says what it covers.
//!
//! What is hashed is MessagePack: for every rung a list of its events, each a list of four integers and bytes.

use blake2b_simd::{Params, State};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

const HASH_BYTES: usize = 16;
const FIELDS: u8 = 5;
const RUNG: u64 = 1024;
/// The kind of the event that a frame arrives, as `quorate.simulator.digest` has it.
pub const FRAME: i64 = 1;

fn put_int(out: &mut Vec<u8>, value: i64) {
    match value {
        -0x20..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => put_word(out, 0xcd, &(value as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => put_word(out, 0xce, &(value as u32).to_be_bytes()),
        0x1_0000_0000.. => put_word(out, 0xcf, &value.to_be_bytes()),
        -0x80..=-0x21 => out.extend_from_slice(&[0xd0, value as u8]),
        -0x8000..=-0x81 => put_word(out, 0xd1, &(value as i16).to_be_bytes()),
        -0x8000_0000..=-0x8001 => put_word(out, 0xd2, &(value as i32).to_be_bytes()),
        _ => put_word(out, 0xd3, &value.to_be_bytes()),
    }
}

fn put_word(out: &mut Vec<u8>, tag: u8, word: &[u8]) {
    out.push(tag);
    out.extend_from_slice(word);
}

/// No event holds four gigabytes.
fn put_bytes(out: &mut Vec<u8>, data: &[u8]) {
    match data.len() {
        length @ 0..=0xff => out.extend_from_slice(&[0xc4, length as u8]),
        length @ 0x100..=0xffff => put_word(out, 0xc5, &(length as u16).to_be_bytes()),
        length => put_word(out, 0xc6, &(length as u32).to_be_bytes()),
    }
    out.extend_from_slice(data);
}

/// The head of a list of at most so many events as are in a rung.
fn make_head(count: u64) -> Vec<u8> {
    match count {
        0..=0xf => vec![0x90 | count as u8],
        _ => vec![0xdc, (count >> 8) as u8, count as u8],
    }
}

type Entry = (u64, i64, i64, i64, i64, Py<PyBytes>);

/// Events from one number to another that are kept as they are.
#[derive(Default)]
struct Kept {
    first: u64,
    end: u64,
    entries: Vec<Entry>,
}

#[pyclass(module = "quorate._kernel")]
pub struct Digest {
    state: State,
    ladder: Vec<String>,
    /// The events of the rung that is not whole, as they will be hashed.
    rung: Vec<u8>,
    pub events: u64,
    kept: Kept,
}

#[pymethods]
impl Digest {
    #[new]
    fn new() -> Self {
        let state = Params::new().hash_length(HASH_BYTES).to_state();
        Digest { state, ladder: Vec::new(), rung: Vec::new(), events: 0, kept: Kept::default() }
    }

    pub fn note(&mut self, time: i64, kind: i64, machine: i64, other: i64, contents: &Bound<'_, PyBytes>) {
        let out = &mut self.rung;
        out.push(0x90 | FIELDS);
        for value in [time, kind, machine, other] {
            put_int(out, value);
        }
        put_bytes(out, contents.as_bytes());
        if self.events >= self.kept.first && self.events < self.kept.end {
            self.kept.entries.push((self.events, time, kind, machine, other, contents.clone().unbind()));
        }
        self.events += 1;
        if self.events.is_multiple_of(RUNG) {
            self.state.update(&make_head(RUNG)).update(&self.rung);
            self.rung.clear();
            let hash = self.state.finalize().to_hex();
            self.ladder.push(hash[..HASH_BYTES].to_string());
        }
    }

    #[getter]
    fn events(&self) -> u64 {
        self.events
    }

    #[getter]
    fn ladder(&self) -> Vec<String> {
        self.ladder.clone()
    }

    fn finish(&self) -> String {
        let mut state = self.state.clone();
        state.update(&make_head(self.events % RUNG)).update(&self.rung);
        state.finalize().to_hex().to_string()
    }

    fn keep(&mut self, first: u64, count: u64) {
        self.kept = Kept { first, end: first.saturating_add(count), entries: Vec::new() };
    }

    #[getter]
    fn kept(&self, py: Python<'_>) -> Vec<Entry> {
        let copy = |e: &Entry| (e.0, e.1, e.2, e.3, e.4, e.5.clone_ref(py));
        self.kept.entries.iter().map(copy).collect()
    }
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Digest>()
}
