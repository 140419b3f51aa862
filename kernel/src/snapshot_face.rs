//! Pruning, exporting and importing states, and what is kept, as Python sees them.

use crate::block::{self, Head};
use crate::chain::Core;
use crate::check::Check;
use crate::chunks::Chunks;
use crate::cutting::{StateExport, Told};
use crate::errors::{Error, Result};
use crate::history::{History, prune, pruned};
use crate::ledger::{Ledger, detached, hash_argument};
use crate::portable::{Loading, NOTE, after_codes, batch_install, export as export_piece, list_codes, read_heads};
use crate::state::Root;
use crate::store::Table;
use crate::store_lmdb::Environment;
use crate::types::{Chain as _, StateRead};
use crate::view::{At, View};
use alloy_primitives::{B256, Bytes};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

type Piece<'py> = (Bound<'py, PyBytes>, Option<Bound<'py, PyBytes>>);

#[pymethods]
impl Ledger {
    /// Take one step of forgetting all but the last `states` states and `blocks` blocks before the durable one (None: keep
    /// all); whether there is more to do.
    #[pyo3(signature = (states, blocks))]
    fn prune(&self, py: Python<'_>, states: Option<u64>, blocks: Option<u64>) -> PyResult<bool> {
        let core = self.core()?;
        detached(py, || core.prune(states, blocks))
    }

    /// Begin to load a state that takes the place of everything here; `height` is above the durable one.
    fn start_import(&self, py: Python<'_>, height: u64) -> PyResult<StateImport> {
        let core = self.core()?;
        let loading = detached(py, || core.start_import(height))?;
        Ok(StateImport { core, loading: Mutex::new(Some(loading)) })
    }

    /// Begin to cut the state after a final block into pieces of about `limit` bytes, for others.
    fn start_export(&self, py: Python<'_>, height: u64, limit: usize) -> PyResult<StateExport> {
        let core = self.core()?;
        let told = detached(py, || {
            core.refuse_dev("told without its past")?;
            let head = core.head_by_height(height)?;
            let head = head.ok_or_else(|| Error::unavailable(format!("height {height}: not here")))?;
            // Raises where it is pruned.
            core.state_at(&head.hash)?;
            Ok(Accounts { core: core.clone(), block: head.hash })
        })?;
        Ok(StateExport::new(Box::new(told), limit))
    }

    /// What is kept of a state that is on its way here.
    fn chunks(&self) -> PyResult<Chunks> {
        Ok(Chunks::of(self.core()?.store()))
    }

    /// What came with the state that this store was made from, None if it was made from genesis.
    fn note<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let core = self.core()?;
        let found = detached(py, || Ok(core.store().snapshot()?.get(Table::Meta, NOTE)?.map(|note| note.to_vec())))?;
        Ok(found.map(|note| PyBytes::new(py, &note)))
    }
}

/// The state after a block, as others are told it.
struct Accounts {
    core: Arc<Core>,
    block: B256,
}

impl Told for Accounts {
    fn codes(&self, first: &B256) -> Result<(Vec<B256>, Option<B256>)> {
        self.core.state_at(&self.block)?.with_trie(|trie| list_codes(trie, first))
    }

    fn code(&self, hash: &B256) -> Result<Bytes> {
        self.core.state_at(&self.block)?.code(hash)
    }

    fn leaves(&self, cursor: &[u8], limit: usize) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
        let first = after_codes();
        let cursor = if cursor.is_empty() { &first } else { cursor };
        self.core.state_at(&self.block)?.with_trie(|trie| export_piece(trie, cursor, limit))
    }
}

/// A state that is being loaded. Dropped, it leaves nothing that is seen.
#[pyclass(frozen, module = "quorate._kernel")]
pub struct StateImport {
    core: Arc<Core>,
    /// None once finished.
    loading: Mutex<Option<Loading>>,
}

fn finished() -> Error {
    Error::unavailable("state: its import is finished")
}

#[pymethods]
impl StateImport {
    fn add(&self, py: Python<'_>, piece: &[u8]) -> PyResult<()> {
        detached(py, || self.loading.lock().as_mut().ok_or_else(finished)?.add(piece))
    }

    #[getter]
    fn accounts(&self) -> u64 {
        self.loading.lock().as_ref().map_or(0, Loading::accounts)
    }

    /// Let the ledger be at this state, if its root is that of the last header. The ledger's tree begins anew there.
    fn finish(
        &self,
        py: Python<'_>,
        heads: Vec<Vec<u8>>,
        envelope: &[u8],
        certificate: &[u8],
        payloads: Vec<Vec<u8>>,
        note: &[u8],
    ) -> PyResult<()> {
        let envelope = hash_argument("envelope", envelope)?;
        let payloads: Vec<Bytes> = payloads.into_iter().map(Bytes::from).collect();
        let decision = (envelope, Bytes::copy_from_slice(certificate), payloads);
        detached(py, || {
            let mut loading = self.loading.lock().take().ok_or_else(finished)?;
            let heads = read_heads(&heads, loading.height())?;
            self.core.install(&mut loading, heads, &decision, note)
        })
    }
}

#[pymethods]
impl View {
    /// The first heights whose state, whole block and header are here.
    fn history(&self, py: Python<'_>) -> PyResult<(u64, u64, u64)> {
        let past = self.past()?;
        let History { states, blocks, headers } = detached(py, || past.now()?.history())?;
        Ok((states, blocks, headers))
    }

    /// Begin to look at everything that is stored now.
    fn check(&self, py: Python<'_>) -> PyResult<Check> {
        detached(py, || self.new_check())
    }

    /// A piece of the state after a block, from a cursor on (empty: from the beginning), and the cursor of the next one.
    fn export_state<'py>(&self, py: Python<'py>, at: At, cursor: &[u8], limit_bytes: usize) -> PyResult<Piece<'py>> {
        let past = self.past()?;
        let (piece, next) =
            detached(py, || past.now()?.into_state(at)?.with_trie(|trie| export_piece(trie, cursor, limit_bytes)))?;
        Ok((PyBytes::new(py, &piece), next.map(|next| PyBytes::new(py, &next))))
    }

    /// What `StateImport.finish` takes for a block: its header with what the ledger adds.
    fn head_record<'py>(&self, py: Python<'py>, height: u64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let past = self.past()?;
        let record = detached(py, || {
            let head = past.now()?.head_at(height)?;
            // Where its state lies differs from node to node.
            Ok(head.map(|head| block::encode_head(&Head { root: Root { id: None, ..head.root }, ..head })))
        })?;
        Ok(record.map(|record| PyBytes::new(py, &record)))
    }
}

impl Core {
    /// See `Ledger.prune`.
    pub fn prune(&self, states: Option<u64>, blocks: Option<u64>) -> Result<bool> {
        self.refuse_dev("pruned")?;
        if self.sweep()? {
            return Ok(true);
        }
        let _one = self.pruning.lock();
        prune(self.store(), self.durable(), states, blocks)
    }

    /// A chain for development keeps all: a revert brings any state back, and whoever lacks it cannot follow.
    fn refuse_dev(&self, what: &str) -> Result<()> {
        if self.spec().dev {
            return Err(Error::invalid(format!(
                "a chain for development is not {what}: evm_revert may bring back any of its states"
            )));
        }
        Ok(())
    }

    pub fn start_import(&self, height: u64) -> Result<Loading> {
        self.refuse_dev("begun with a state")?;
        let _one = self.pruning.lock();
        let shown = self.shown.lock();
        if !shown.is_empty() {
            return Err(Error::unavailable("state: blocks are shown here that are not final"));
        }
        Loading::start(self.store(), self.durable(), height)
    }

    pub fn install(
        &self,
        loading: &mut Loading,
        heads: Vec<Head>,
        decision: &block::Decision,
        note: &[u8],
    ) -> Result<()> {
        let root = loading.complete()?;
        let _one = self.pruning.lock();
        let mut shown = self.shown.lock();
        if self.durable() >= loading.height() {
            return Err(Error::unavailable(format!(
                "height {}: the ledger is at {} by now",
                loading.height(),
                self.durable()
            )));
        }
        self.store().write(&batch_install(heads, root, decision, note)?)?;
        loading.keep();
        self.sweeping.store(true, Ordering::Relaxed);
        self.reload(&mut shown)
    }
}

impl crate::view::Moment<'_> {
    /// Raises 4444 for what came before this store.
    pub fn expect_header(&self, height: u64) -> Result<()> {
        let history = self.history()?;
        if height > 0 && height < history.headers { Err(pruned()) } else { Ok(()) }
    }

    pub fn expect_block(&self, height: u64) -> Result<()> {
        if self.history()?.has_block(height) { Ok(()) } else { Err(pruned()) }
    }

    pub fn expect_state(&self, height: u64) -> Result<()> {
        if height < self.history()?.states { Err(pruned()) } else { Ok(()) }
    }
}

/// Write the store at a path anew without free pages, while nobody writes there; its size before and after.
#[pyfunction]
fn compact_store(py: Python<'_>, path: PathBuf) -> PyResult<(u64, u64)> {
    detached(py, || Environment::compact(&path))
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(compact_store, m)?)?;
    m.add_class::<StateImport>()
}
