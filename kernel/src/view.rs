//! Read-only snapshots of what is final and durable.

use crate::errors::{Error, Result};
use crate::types::History;
use parking_lot::RwLock;
use pyo3::prelude::*;
use std::sync::Arc;

/// Safe in another process and from many threads. JSON and calls have their own block of methods in `json.rs`.
#[pyclass(frozen, module = "quorate._kernel")]
pub struct View {
    /// None once closed.
    history: RwLock<Option<Arc<dyn History>>>,
}

impl View {
    /// The history of blocks; each of its answers comes from the newest snapshot. Raises Unavailable once closed.
    pub fn history(&self) -> Result<Arc<dyn History>> {
        self.history.read().clone().ok_or_else(|| Error::unavailable("view: closed"))
    }
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<View>()
}
