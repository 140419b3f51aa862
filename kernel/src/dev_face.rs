//! What JSON-RPC asks of networks for development: part of `View`.

use crate::dev::{self, Clock};
use crate::errors::{Result, fixed};
use crate::ledger::detached;
use crate::view::{At, Tag, View};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

#[pymethods]
impl View {
    /// Whether the genesis file says that the chain is for development.
    #[getter]
    fn is_dev(&self) -> PyResult<bool> {
        Ok(self.past()?.spec().dev)
    }

    /// The clock after the latest block: (its timestamp, seconds ahead of what is agreed on, timestamp of the next block or 0,
    /// blocks that are still to be made, seconds between those or 0).
    fn dev_clock(&self, py: Python<'_>) -> PyResult<(u64, i64, u64, u16, u64)> {
        let past = self.past()?;
        let (header, clock) = detached(py, || {
            let header = past.now()?.required_header(At::Tag(Tag::Latest))?;
            let clock = Clock::after(past.spec(), &header);
            Ok((header, clock))
        })?;
        Ok((header.timestamp, clock.offset, clock.next_time, clock.left, clock.interval))
    }

    /// How blocks come: (whether transactions wait until one is asked for, after how many seconds somebody asks or 0).
    fn dev_mining(&self, py: Python<'_>) -> PyResult<(bool, u64)> {
        let past = self.past()?;
        let header = detached(py, || past.now()?.required_header(At::Tag(Tag::Latest)))?;
        let clock = Clock::after(past.spec(), &header);
        Ok((clock.waits, clock.pace))
    }

    /// Whether what the block at a height did was undone by a revert.
    fn is_reverted(&self, py: Python<'_>, height: u64) -> PyResult<bool> {
        let past = self.past()?;
        detached(py, || past.now()?.is_reverted(height))
    }

    /// The raw transaction of a dev command. Raises Invalid, Rejected.
    fn encode_command<'py>(
        &self,
        py: Python<'py>,
        nonce: u64,
        salt: &[u8],
        name: &str,
        arguments: Vec<Vec<u8>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let raw = dev::encode_command(self.past()?.spec(), nonce, fixed("salt", salt)?, name, &arguments)?;
        Ok(PyBytes::new(py, &raw))
    }

    /// The raw transaction, signed by nobody, of a request in JSON that names all its fields. Raises Invalid, Rejected.
    fn impersonate<'py>(&self, py: Python<'py>, request: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let raw: Result<_> = dev::impersonate(self.past()?.spec(), request);
        Ok(PyBytes::new(py, &raw?))
    }
}
