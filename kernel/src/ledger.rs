//! The writer's side of a store as Python sees it: `Ledger` and `Block`.

use crate::block::Head;
use crate::chain::Core;
use crate::errors::{Error, Result, fixed};
use crate::import;
use crate::store::Store;
use crate::types::{Chain, StateRead};
use crate::view::{At, View};
use alloy_primitives::{Address, B256, Bytes, U256};
use parking_lot::RwLock;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

/// Run `work` without the interpreter lock; a panic becomes RuntimeError. No lock of the kernel is poisoned by one, and a
/// transaction that it interrupts is aborted.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    match py.detach(|| catch_unwind(AssertUnwindSafe(work))) {
        Ok(result) => result.map_err(PyErr::from),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(PyRuntimeError::new_err(format!("kernel: panic: {message}")))
        }
    }
}

pub fn hash_argument(name: &str, bytes: &[u8]) -> Result<B256> {
    fixed(name, bytes).map(B256::new)
}

pub fn address_argument(name: &str, bytes: &[u8]) -> Result<Address> {
    fixed(name, bytes).map(Address::new)
}

/// An executed block; heavy parts stay in the kernel.
#[pyclass(frozen, module = "quorate._kernel")]
pub struct Block {
    head: Head,
}

#[pymethods]
impl Block {
    #[getter]
    fn number(&self) -> u64 {
        self.head.header.number
    }
    #[getter]
    fn hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.head.hash.as_slice())
    }
    #[getter]
    fn parent<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.head.header.parent_hash.as_slice())
    }
    #[getter]
    fn state_root<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.head.header.state_root.as_slice())
    }
    #[getter]
    fn timestamp_ms(&self) -> u64 {
        self.head.timestamp_ms
    }
    #[getter]
    fn base_fee(&self) -> u64 {
        self.head.header.base_fee_per_gas.unwrap_or(0)
    }
    #[getter]
    fn gas_used(&self) -> u64 {
        self.head.header.gas_used
    }
    #[getter]
    fn gas_limit(&self) -> u64 {
        self.head.header.gas_limit
    }
    /// How many were included.
    #[getter]
    fn transactions(&self) -> u32 {
        self.head.transactions
    }
    /// (transaction hash, conventional error string) of each payload transaction that did not apply.
    #[getter]
    fn skipped<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyBytes>, String)> {
        let pair = |(hash, reason): &(B256, String)| (PyBytes::new(py, hash.as_slice()), reason.clone());
        self.head.skipped.iter().map(pair).collect()
    }
    fn __repr__(&self) -> String {
        format!("Block(number={}, hash={})", self.head.header.number, self.head.hash)
    }
}

/// The writer's side of a store: a tree of executed blocks in memory over the final ones on disk.
///
/// One process may hold a path open as Ledger; any number may as View. Thread-safe.
#[pyclass(frozen, module = "quorate._kernel")]
pub struct Ledger {
    /// None once closed.
    core: RwLock<Option<Arc<Core>>>,
    genesis_hash: B256,
    chain_id: u64,
}

impl Ledger {
    /// What pool and execution see of the ledger. Raises Unavailable once closed.
    pub fn chain(&self) -> Result<Arc<dyn Chain>> {
        Ok(self.core()?)
    }

    pub fn core(&self) -> Result<Arc<Core>> {
        self.core.read().clone().ok_or_else(|| Error::unavailable("ledger: closed"))
    }
}

/// (envelope hash, certificate, payloads)
pub type DecisionTuple<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>, Vec<Bound<'py, PyBytes>>);

pub fn decision_tuple<'py>(py: Python<'py>, decision: &crate::block::Decision) -> DecisionTuple<'py> {
    let (envelope, certificate, payloads) = decision;
    let payloads = payloads.iter().map(|payload| PyBytes::new(py, payload)).collect();
    (PyBytes::new(py, envelope.as_slice()), PyBytes::new(py, certificate), payloads)
}

#[pymethods]
impl Ledger {
    #[getter]
    fn genesis_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.genesis_hash.as_slice())
    }

    #[getter]
    fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// Open or create. `genesis` is geth JSON; `path` None keeps everything in memory.
    #[staticmethod]
    #[pyo3(signature = (path, genesis, map_bytes = 1_099_511_627_776))]
    fn open(py: Python<'_>, path: Option<PathBuf>, genesis: &[u8], map_bytes: usize) -> PyResult<Ledger> {
        let core = detached(py, || Core::open(path.as_deref(), genesis, map_bytes))?;
        let (genesis_hash, chain_id) = (core.genesis_hash(), core.spec().chain_id);
        Ok(Ledger { core: RwLock::new(Some(Arc::new(core))), genesis_hash, chain_id })
    }

    /// Raise Invalid unless the payload may follow the executed block `parent`.
    fn check(&self, py: Python<'_>, parent: &[u8], payload: &[u8], now_ms: u64) -> PyResult<()> {
        let (core, parent) = (self.core()?, hash_argument("parent", parent)?);
        detached(py, || core.check(&parent, payload, now_ms))
    }

    /// Execute on top of the executed block `parent` and keep the result in the tree. Idempotent and deterministic.
    fn execute(
        &self,
        py: Python<'_>,
        parent: &[u8],
        payloads: Vec<Vec<u8>>,
        parent_envelope: &[u8],
    ) -> PyResult<Block> {
        let (core, parent) = (self.core()?, hash_argument("parent", parent)?);
        let envelope = hash_argument("parent_envelope", parent_envelope)?;
        let payloads: Vec<Bytes> = payloads.into_iter().map(Bytes::from).collect();
        Ok(Block { head: detached(py, || core.execute(&parent, &payloads, envelope))? })
    }

    /// An executed block by hash, or a final one by height.
    fn block(&self, py: Python<'_>, block: At) -> PyResult<Option<Block>> {
        let core = self.core()?;
        let head = detached(py, || match block {
            At::Hash(hash) => core.head_by_hash(&hash),
            At::Height(height) => core.head_by_height(height),
            At::Tag(_) => Err(Error::invalid("block: expected a height or a hash")),
        })?;
        Ok(head.map(|head| Block { head }))
    }

    /// Make an executed child of the last final block final; forget its siblings' branches.
    fn finalize(
        &self,
        py: Python<'_>,
        block: &[u8],
        envelope: &[u8],
        certificate: &[u8],
        payloads: Vec<Vec<u8>>,
    ) -> PyResult<()> {
        let (core, block) = (self.core()?, hash_argument("block", block)?);
        let envelope = hash_argument("envelope", envelope)?;
        let payloads = payloads.into_iter().map(Bytes::from).collect();
        detached(py, || core.finalize(&block, envelope, Bytes::copy_from_slice(certificate), payloads))
    }

    /// Let readers see, from the next commit on, the branch that ends in an executed block; `safe` is the height called so.
    fn adopt(&self, py: Python<'_>, block: &[u8], safe: u64) -> PyResult<()> {
        let (core, block) = (self.core()?, hash_argument("block", block)?);
        detached(py, || core.adopt(&block, safe))
    }

    /// The hash of the adopted tip; of the last final block where there is none.
    fn latest<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, self.core()?.latest().as_slice()))
    }

    /// Write all final blocks, and the adopted branch above them, to disk in one durable transaction; return the durable
    /// height.
    fn commit(&self, py: Python<'_>) -> PyResult<u64> {
        let core = self.core()?;
        detached(py, || core.commit())
    }

    /// Verify, execute, finalize and write blocks of Ethereum, their RLP one after the other; how many are new, and how many
    /// bytes were read, since the last one may be cut off.
    fn import_blocks(&self, py: Python<'_>, blocks: &[u8]) -> PyResult<(u64, usize)> {
        let core = self.core()?;
        detached(py, || import::import_blocks(&core, blocks))
    }

    fn durable(&self) -> PyResult<u64> {
        Ok(self.core()?.durable())
    }

    fn r#final(&self) -> PyResult<u64> {
        Ok(self.core()?.tip().0)
    }

    /// 32-byte storage values at an executed block.
    fn storage<'py>(
        &self,
        py: Python<'py>,
        block: &[u8],
        account: &[u8],
        slots: Vec<Vec<u8>>,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let (core, block) = (self.core()?, hash_argument("block", block)?);
        let account = address_argument("account", account)?;
        let slots = slots.iter().map(|slot| hash_argument("slot", slot)).collect::<Result<Vec<_>>>()?;
        let values = detached(py, || {
            let state = core.state_at(&block)?;
            slots.iter().map(|slot| state.storage(&account, &U256::from_be_bytes(slot.0))).collect::<Result<Vec<_>>>()
        })?;
        Ok(values.iter().map(|value| PyBytes::new(py, &value.to_be_bytes::<32>())).collect())
    }

    fn storage_root<'py>(&self, py: Python<'py>, block: &[u8], account: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let (core, block) = (self.core()?, hash_argument("block", block)?);
        let account = address_argument("account", account)?;
        let leaf = detached(py, || core.state_at(&block)?.account_leaf(&account))?;
        let root = leaf.map_or(crate::state::EMPTY, |leaf| leaf.storage);
        Ok(PyBytes::new(py, root.hash.as_slice()))
    }

    /// (envelope hash, certificate, payloads) of a final height.
    fn decision<'py>(&self, py: Python<'py>, height: u64) -> PyResult<Option<DecisionTuple<'py>>> {
        let core = self.core()?;
        let decision = detached(py, || core.decision(height))?;
        Ok(decision.map(|decision| decision_tuple(py, &decision)))
    }

    /// Forget everything above a height that is still stored (simulator: a crash loses unsynced writes).
    fn rollback(&self, py: Python<'_>, height: u64) -> PyResult<()> {
        let core = self.core()?;
        detached(py, || core.rollback(height))
    }

    fn view(&self) -> PyResult<View> {
        let core = self.core()?;
        Ok(View::over(core.store().clone(), core.spec().clone(), self.genesis_hash))
    }

    /// Let go of the store; what is final and not committed is lost. Views stay usable.
    fn close(&self) {
        if let Some(core) = self.core.write().take()
            && let Store::Disk(environment) = core.store()
        {
            environment.release_writer();
        }
    }
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Block>()?;
    m.add_class::<Ledger>()
}
