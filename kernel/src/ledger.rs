//! The writer's side of a store: a tree of executed blocks in memory over the final ones on disk.

use crate::errors::{Error, Result};
use crate::types::Chain;
use parking_lot::RwLock;
use pyo3::prelude::*;
use std::sync::Arc;

/// One process may hold a path open as Ledger; any number may as View. Thread-safe.
#[pyclass(frozen, module = "quorate._kernel")]
pub struct Ledger {
    /// None once closed.
    chain: RwLock<Option<Arc<dyn Chain>>>,
}

impl Ledger {
    /// What pool and execution see of the ledger. Raises Unavailable once closed.
    pub fn chain(&self) -> Result<Arc<dyn Chain>> {
        self.chain.read().clone().ok_or_else(|| Error::unavailable("ledger: closed"))
    }
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Ledger>()
}
