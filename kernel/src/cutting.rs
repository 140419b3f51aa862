//! A state cut into pieces for others, in bounded steps: first which codes its accounts have, then where each piece begins and
//! what it hashes to. A piece is made anew when it is asked for, so that nothing of the state is held, in memory or by a
//! transaction, between two calls.
//!
//! All nodes cut a state alike. The table of codes holds more than one state's, and not the same everywhere; so the pieces hold
//! those that accounts name, by hash (32 bytes each are all that is remembered).

use crate::errors::{Error, Result};
use crate::ledger::detached;
use crate::portable::write_code;
use alloy_primitives::{B256, Bytes, keccak256};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::BTreeSet;

/// Pieces of a step end with the one that passes this.
const STEP_BYTES: usize = 4 << 20;
/// Of one state.
const MAX_PIECES: usize = 1 << 16;
/// Different codes of one state.
const MAX_CODES: usize = 1 << 22;

/// A state that can be told.
pub trait Told: Send + Sync {
    /// The codes of some accounts from a key on, by hash, and the key of the next one.
    fn codes(&self, first: &B256) -> Result<(Vec<B256>, Option<B256>)>;
    fn code(&self, hash: &B256) -> Result<Bytes>;
    /// Leaves from a cursor on (empty: the beginning) until `limit` bytes are passed, and the cursor of what follows.
    fn leaves(&self, cursor: &[u8], limit: usize) -> Result<(Vec<u8>, Option<Vec<u8>>)>;
}

#[derive(Clone)]
enum Begin {
    /// Of the codes, in order.
    Code(usize),
    Leaf(Vec<u8>),
}

#[derive(Default)]
struct Cut {
    /// Until all accounts were looked at: from which one on to go on.
    next_account: Option<B256>,
    found: BTreeSet<B256>,
    codes: Vec<B256>,
    /// Of the next piece; None: all are cut.
    next: Option<Begin>,
    begins: Vec<Begin>,
    hashes: Vec<B256>,
}

impl Cut {
    fn step(&mut self, told: &dyn Told, limit: usize) -> Result<bool> {
        if let Some(first) = self.next_account {
            let (found, next) = told.codes(&first)?;
            self.found.extend(found);
            if self.found.len() > MAX_CODES {
                return Err(Error::unavailable(format!("state: more than {MAX_CODES} different codes")));
            }
            self.next_account = next;
            if next.is_none() {
                self.codes = std::mem::take(&mut self.found).into_iter().collect();
                self.next = Some(self.begin_at(0));
            }
            return Ok(true);
        }
        let mut bytes = 0;
        while bytes < STEP_BYTES
            && let Some(begin) = self.next.clone()
        {
            let (piece, next) = self.cut(told, &begin, limit)?;
            bytes += piece.len();
            if !piece.is_empty() {
                if self.begins.len() == MAX_PIECES {
                    return Err(Error::unavailable(format!("state: more than {MAX_PIECES} pieces of {limit} bytes")));
                }
                self.begins.push(begin);
                self.hashes.push(keccak256(&piece));
            }
            self.next = next;
        }
        Ok(self.next.is_some())
    }

    fn begin_at(&self, code: usize) -> Begin {
        if code < self.codes.len() { Begin::Code(code) } else { Begin::Leaf(Vec::new()) }
    }

    fn cut(&self, told: &dyn Told, begin: &Begin, limit: usize) -> Result<(Vec<u8>, Option<Begin>)> {
        match begin {
            Begin::Leaf(cursor) => {
                let (piece, next) = told.leaves(cursor, limit)?;
                Ok((piece, next.map(Begin::Leaf)))
            }
            Begin::Code(first) => {
                let (mut piece, mut place) = (Vec::new(), *first);
                while place < self.codes.len() && piece.len() < limit {
                    write_code(&told.code(&self.codes[place])?, &mut piece);
                    place += 1;
                }
                Ok((piece, Some(self.begin_at(place))))
            }
        }
    }
}

/// A state that is being cut, or was.
#[pyclass(frozen, module = "quorate._kernel")]
pub struct StateExport {
    told: Box<dyn Told>,
    limit: usize,
    cut: Mutex<Cut>,
}

impl StateExport {
    pub fn new(told: Box<dyn Told>, limit: usize) -> StateExport {
        let cut = Cut { next_account: Some(B256::ZERO), ..Cut::default() };
        StateExport { told, limit: limit.max(1), cut: Mutex::new(cut) }
    }
}

#[pymethods]
impl StateExport {
    fn step(&self, py: Python<'_>) -> PyResult<bool> {
        detached(py, || self.cut.lock().step(&*self.told, self.limit))
    }

    fn hashes<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        self.cut.lock().hashes.iter().map(|hash| PyBytes::new(py, hash.as_slice())).collect()
    }

    fn piece<'py>(&self, py: Python<'py>, number: usize) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let piece = detached(py, || {
            let cut = self.cut.lock();
            let Some(begin) = cut.begins.get(number) else { return Ok(None) };
            cut.cut(&*self.told, begin, self.limit).map(|(piece, _)| Some(piece))
        })?;
        Ok(piece.map(|piece| PyBytes::new(py, &piece)))
    }
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<StateExport>()
}
