//! The key-value application as Python sees it: `KeyValue`, its blocks and its runs.

use crate::chunks::Chunks;
use crate::cutting::StateExport;
use crate::errors::{Error, Result};
use crate::history::History;
use crate::keyvalue::core::Core;
use crate::keyvalue::item::{Identity, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::keyvalue::pool::Pool;
use crate::keyvalue::port::KeyValuePort;
use crate::keyvalue::portable::{Entries, Loading};
use crate::keyvalue::run::{Event, Run};
use crate::keyvalue::state::{Answer, Entry};
use crate::keyvalue::tree::{Branch, Cause};
use crate::ledger::{DecisionTuple, decision_tuple, detached, hash_argument};
use crate::payload_hash::share;
use crate::store::Store;
use crate::view::At;
use alloy_primitives::{B256, Bytes};
use parking_lot::{Mutex, RwLock};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::path::PathBuf;
use std::sync::Arc;

/// (value, revision of creation, revision of the last change, number of changes)
type EntryTuple<'py> = (Bound<'py, PyBytes>, u64, u64, u64);
/// (identity, outcome, revision, detail)
type AnswerTuple<'py> = (Bound<'py, PyBytes>, u8, u64, Bound<'py, PyBytes>);
/// (key, revision, entry or None)
type EventTuple<'py> = (Bound<'py, PyBytes>, u64, Option<EntryTuple<'py>>);

fn entry_tuple<'py>(py: Python<'py>, entry: &Entry) -> EntryTuple<'py> {
    (PyBytes::new(py, &entry.value), entry.created, entry.modified, entry.version)
}

fn event_tuples<'py>(py: Python<'py>, events: &[Event]) -> Vec<EventTuple<'py>> {
    let tuple = |event: &Event| {
        (PyBytes::new(py, &event.key), event.revision, event.entry.as_ref().map(|entry| entry_tuple(py, entry)))
    };
    events.iter().map(tuple).collect()
}

fn identities<'py>(py: Python<'py>, identities: &[Identity]) -> Vec<Bound<'py, PyBytes>> {
    identities.iter().map(|identity| PyBytes::new(py, identity)).collect()
}

fn client_argument(bytes: &[u8]) -> Result<[u8; 16]> {
    crate::errors::fixed("client", bytes)
}

/// An executed block.
#[pyclass(frozen, module = "quorate._kernel")]
pub struct KeyValueBlock {
    pub branch: Arc<Branch>,
}

#[pymethods]
impl KeyValueBlock {
    #[getter]
    fn number(&self) -> u64 {
        self.branch.header.height
    }
    #[getter]
    fn hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.branch.hash.as_slice())
    }
    #[getter]
    fn parent<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.branch.header.parent.as_slice())
    }
    #[getter]
    fn state_root<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.branch.header.root.as_slice())
    }
    #[getter]
    fn timestamp_ms(&self) -> u64 {
        self.branch.header.timestamp_ms
    }
    #[getter]
    fn revision(&self) -> u64 {
        self.branch.header.revision
    }
    /// How many operations were executed.
    #[getter]
    fn items(&self) -> u32 {
        self.branch.header.items
    }
    #[getter]
    fn header<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.branch.header.encode())
    }
    /// (identity, reason) of operations that were not executed; empty for a block that was read from the store.
    #[getter]
    fn skipped<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyBytes>, &'static str)> {
        self.branch.skipped.iter().map(|(identity, reason)| (PyBytes::new(py, identity), *reason)).collect()
    }
    /// What clients are told; empty for a block that was read from the store.
    #[getter]
    fn answers<'py>(&self, py: Python<'py>) -> Vec<AnswerTuple<'py>> {
        let tuple = |(identity, answer): &(Identity, Answer)| {
            (PyBytes::new(py, identity), answer.outcome, answer.revision, PyBytes::new(py, &answer.detail))
        };
        self.branch.answers.iter().map(tuple).collect()
    }
    /// What watchers are told; empty for a block that was read from the store.
    #[getter]
    fn events<'py>(&self, py: Python<'py>) -> Vec<EventTuple<'py>> {
        event_tuples(py, &self.branch.events)
    }
    fn __repr__(&self) -> String {
        format!("KeyValueBlock(number={}, hash={})", self.branch.header.height, self.branch.hash)
    }
}

/// A block that is being executed; used by one thread.
#[pyclass(frozen, module = "quorate._kernel")]
pub struct KeyValueRun {
    core: Arc<Core>,
    /// None: the block is final already.
    cause: Option<Cause>,
    run: Mutex<Option<Run>>,
}

impl KeyValueRun {
    fn with<T>(&self, work: impl FnOnce(&mut Run) -> Result<T>) -> Result<T> {
        work(self.run.lock().as_mut().ok_or_else(ended)?)
    }
}

fn ended() -> Error {
    Error::unavailable("run: has ended")
}

fn key_argument(key: &[u8]) -> Result<Bytes> {
    if (1..=MAX_KEY_BYTES).contains(&key.len()) {
        return Ok(Bytes::copy_from_slice(key));
    }
    Err(Error::invalid(format!("key: {} bytes, expected 1 to {MAX_KEY_BYTES}", key.len())))
}

#[pymethods]
impl KeyValueRun {
    #[getter]
    fn height(&self) -> PyResult<u64> {
        Ok(self.with(|run| Ok(run.height))?)
    }
    #[getter]
    fn timestamp_ms(&self) -> PyResult<u64> {
        Ok(self.with(|run| Ok(run.timestamp_ms))?)
    }
    /// Execute up to the next call of the application's own code: (client, bytes); None at the end.
    #[allow(clippy::type_complexity)]
    fn next_call<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>> {
        let found = detached(py, || self.with(Run::next_call))?;
        Ok(found.map(|(client, body)| (PyBytes::new(py, &client), PyBytes::new(py, &body))))
    }
    fn get<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let key = key_argument(key)?;
        let value = self.with(|run| run.read(&key))?;
        Ok(value.map(|value| PyBytes::new(py, &value)))
    }
    fn put(&self, key: &[u8], value: &[u8]) -> PyResult<u64> {
        let key = key_argument(key)?;
        if value.len() > MAX_VALUE_BYTES {
            let found = value.len();
            return Err(Error::invalid(format!("value: {found} bytes, expected at most {MAX_VALUE_BYTES}")).into());
        }
        Ok(self.with(|run| run.put(key, Bytes::copy_from_slice(value)))?)
    }
    /// Whether there was something.
    fn delete(&self, key: &[u8]) -> PyResult<bool> {
        let key = key_argument(key)?;
        Ok(self.with(|run| run.delete(key))?.is_some())
    }
    /// End the call that is under way; what it changed stays.
    fn answer(&self, detail: &[u8]) -> PyResult<()> {
        Ok(self.with(|run| run.answer_call(Bytes::copy_from_slice(detail)))?)
    }
    /// End the call that is under way; what it changed is taken back.
    fn refuse(&self, reason: &str) -> PyResult<()> {
        Ok(self.with(|run| run.refuse_call(reason))?)
    }
    /// Keep the result as an executed block.
    fn finish(&self, py: Python<'_>) -> PyResult<KeyValueBlock> {
        let branch = detached(py, || {
            let run = self.run.lock().take().ok_or_else(ended)?;
            let cause = self.cause.as_ref().ok_or_else(|| Error::unavailable("run: of a block that is final"))?;
            let height = run.height;
            self.core.add(cause, height, run.finish()?)
        })?;
        Ok(KeyValueBlock { branch })
    }
    /// What was changed; the run ends.
    fn events<'py>(&self, py: Python<'py>) -> PyResult<Vec<EventTuple<'py>>> {
        let run = self.run.lock().take().ok_or_else(ended)?;
        Ok(event_tuples(py, &run.into_events()))
    }
}

/// A state that is being loaded. Dropped, it leaves nothing that is seen.
#[pyclass(frozen, module = "quorate._kernel")]
pub struct KeyValueImport {
    core: Arc<Core>,
    /// None once finished.
    loading: Mutex<Option<Loading>>,
}

fn finished() -> Error {
    Error::unavailable("state: its import is finished")
}

#[pymethods]
impl KeyValueImport {
    fn add(&self, py: Python<'_>, pieces: &[u8]) -> PyResult<()> {
        detached(py, || self.loading.lock().as_mut().ok_or_else(finished)?.add(pieces))
    }
    /// Let the ledger be at this state, if its root is that of the header.
    fn finish(
        &self,
        py: Python<'_>,
        header: &[u8],
        envelope: &[u8],
        certificate: &[u8],
        payloads: Vec<PyBackedBytes>,
    ) -> PyResult<()> {
        let envelope = hash_argument("envelope", envelope)?;
        let decision = (envelope, Bytes::copy_from_slice(certificate), bytes_list(payloads));
        detached(py, || {
            let mut loading = self.loading.lock().take().ok_or_else(finished)?;
            self.core.install(&mut loading, header, &decision)
        })
    }
}

/// The store, the tree of executed blocks and the pool of a key-value application. Thread-safe.
#[pyclass(frozen, module = "quorate._kernel")]
pub struct KeyValue {
    /// None once closed.
    core: RwLock<Option<Arc<Core>>>,
    genesis: B256,
}

impl KeyValue {
    fn core(&self) -> Result<Arc<Core>> {
        self.core.read().clone().ok_or_else(|| Error::unavailable("key-value store: closed"))
    }
}

fn bytes_list(list: Vec<PyBackedBytes>) -> Vec<Bytes> {
    list.into_iter().map(share).collect()
}

#[pymethods]
impl KeyValue {
    /// Open or create. `identity` names the network, `members` is what its state says of who agrees; `path` None keeps
    /// everything in memory.
    #[staticmethod]
    #[pyo3(signature = (
        path, identity, members, timestamp_ms, *, map_bytes = 1_099_511_627_776, max_items = 65_536, max_bytes = 67_108_864
    ))]
    #[allow(clippy::too_many_arguments)]
    fn open(
        py: Python<'_>,
        path: Option<PathBuf>,
        identity: &[u8],
        members: &[u8],
        timestamp_ms: u64,
        map_bytes: usize,
        max_items: usize,
        max_bytes: usize,
    ) -> PyResult<KeyValue> {
        let identity = hash_argument("identity", identity)?;
        let pool = Pool::new(max_items, max_bytes);
        let core = detached(py, || Core::open(path.as_deref(), identity, members, timestamp_ms, map_bytes, pool))?;
        Ok(KeyValue { genesis: core.genesis(), core: RwLock::new(Some(Arc::new(core))) })
    }

    #[getter]
    fn genesis_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.genesis.as_slice())
    }
    fn durable(&self) -> PyResult<u64> {
        Ok(self.core()?.durable())
    }
    fn r#final(&self) -> PyResult<u64> {
        Ok(self.core()?.tip().0)
    }
    /// An executed block by hash, or a final one by height.
    fn block(&self, py: Python<'_>, block: At) -> PyResult<Option<KeyValueBlock>> {
        let core = self.core()?;
        let branch = detached(py, || match block {
            At::Hash(hash) => core.by_hash(&hash),
            At::Height(height) => core.by_height(height),
            At::Tag(_) => core.by_hash(&core.shown()),
        })?;
        Ok(branch.map(|branch| KeyValueBlock { branch }))
    }
    /// (envelope hash, certificate, payloads) of a final height.
    fn decision<'py>(&self, py: Python<'py>, height: u64) -> PyResult<Option<DecisionTuple<'py>>> {
        let core = self.core()?;
        let decision = detached(py, || core.decision(height))?;
        Ok(decision.map(|decision| decision_tuple(py, &decision)))
    }

    // ---- what waits

    /// Admit operations; (identity, None or why not) of each, in order.
    fn add<'py>(&self, py: Python<'py>, items: Vec<Vec<u8>>) -> PyResult<Vec<(Bound<'py, PyBytes>, Option<String>)>> {
        let core = self.core()?;
        let results = detached(py, || core.admit(items.into_iter().map(Bytes::from).collect()))?;
        Ok(results.into_iter().map(|(identity, reason)| (PyBytes::new(py, &identity), reason)).collect())
    }
    /// Follow the latest block; identities of what waits again.
    fn settle<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let core = self.core()?;
        Ok(identities(py, &detached(py, || core.settle())?))
    }
    fn ready(&self) -> PyResult<bool> {
        Ok(self.core()?.pool.lock().is_ready())
    }
    /// (how many wait, their bytes)
    fn counts(&self) -> PyResult<(usize, usize)> {
        Ok(self.core()?.pool.lock().counts())
    }
    fn waiting<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let raws = self.core()?.pool.lock().list(limit);
        Ok(raws.iter().map(|raw| PyBytes::new(py, raw)).collect())
    }
    /// A payload body of what waits, over the executed block `parent`.
    fn take<'py>(
        &self,
        py: Python<'py>,
        parent: &[u8],
        max_bytes: usize,
        now_ms: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let (core, parent) = (self.core()?, hash_argument("parent", parent)?);
        let body = detached(py, || Ok(core.take(&parent, max_bytes, now_ms)))?;
        Ok(PyBytes::new(py, &body))
    }

    // ---- blocks

    /// Raise Invalid unless the payload may follow the executed block `parent`.
    fn check(&self, py: Python<'_>, parent: &[u8], payload: &[u8], now_ms: u64) -> PyResult<()> {
        let (core, parent) = (self.core()?, hash_argument("parent", parent)?);
        detached(py, || core.check(&parent, payload, now_ms))
    }
    /// Execute over the executed block `parent`, without code of an application's own. Idempotent and deterministic.
    fn execute(
        &self,
        py: Python<'_>,
        parent: &[u8],
        payloads: Vec<PyBackedBytes>,
        parent_envelope: &[u8],
    ) -> PyResult<KeyValueBlock> {
        let (core, parent) = (self.core()?, hash_argument("parent", parent)?);
        let (envelope, payloads) = (hash_argument("parent_envelope", parent_envelope)?, bytes_list(payloads));
        let branch = detached(py, || {
            let mut cause = None;
            if !core.is_fresh(&parent) {
                let found = cause.insert(Cause::new(parent, payloads.clone(), envelope));
                if let Some(known) = core.executed(found)? {
                    return Ok(known);
                }
            }
            let mut run = core.begin(&parent, &payloads, true)?;
            run.run_all()?;
            let (height, outcome) = (run.height, run.finish()?);
            // Hashed last: whoever proposes the payload or votes for it needs its hash as well, and has it by now.
            core.add(&cause.unwrap_or_else(|| Cause::new(parent, payloads, envelope)), height, outcome)
        })?;
        Ok(KeyValueBlock { branch })
    }
    /// A block that was executed from the same already.
    fn executed(
        &self,
        py: Python<'_>,
        parent: &[u8],
        payloads: Vec<PyBackedBytes>,
        parent_envelope: &[u8],
    ) -> PyResult<Option<KeyValueBlock>> {
        let (core, parent) = (self.core()?, hash_argument("parent", parent)?);
        let (envelope, payloads) = (hash_argument("parent_envelope", parent_envelope)?, bytes_list(payloads));
        let found = detached(py, || core.executed(&Cause::new(parent, payloads, envelope)))?;
        Ok(found.map(|branch| KeyValueBlock { branch }))
    }
    /// Begin to execute over `parent`; `direct`: clients may change entries without the application's own code.
    fn begin(
        &self,
        py: Python<'_>,
        parent: &[u8],
        payloads: Vec<PyBackedBytes>,
        parent_envelope: &[u8],
        direct: bool,
    ) -> PyResult<KeyValueRun> {
        let (core, parent) = (self.core()?, hash_argument("parent", parent)?);
        let (envelope, payloads) = (hash_argument("parent_envelope", parent_envelope)?, bytes_list(payloads));
        let (run, cause) = detached(py, || {
            let run = core.begin(&parent, &payloads, direct)?;
            Ok((run, Cause::new(parent, payloads, envelope)))
        })?;
        Ok(KeyValueRun { core, cause: Some(cause), run: Mutex::new(Some(run)) })
    }
    /// Begin to execute a final height again, to learn what it changed.
    fn begin_again(&self, py: Python<'_>, height: u64, direct: bool) -> PyResult<KeyValueRun> {
        let core = self.core()?;
        let run = Mutex::new(Some(detached(py, || core.begin_again(height, direct))?));
        Ok(KeyValueRun { core, cause: None, run })
    }
    /// Make an executed child of the last final block final; forget its siblings' branches.
    fn finalize(
        &self,
        py: Python<'_>,
        block: &[u8],
        envelope: &[u8],
        certificate: &[u8],
        payloads: Vec<PyBackedBytes>,
    ) -> PyResult<()> {
        let (core, block) = (self.core()?, hash_argument("block", block)?);
        let envelope = hash_argument("envelope", envelope)?;
        detached(py, || core.finalize(&block, envelope, Bytes::copy_from_slice(certificate), bytes_list(payloads)))
    }
    /// Let an executed block be the latest that readers see.
    fn adopt(&self, py: Python<'_>, block: &[u8]) -> PyResult<()> {
        let (core, block) = (self.core()?, hash_argument("block", block)?);
        detached(py, || core.adopt(&block))
    }
    /// Write all final blocks to disk in one durable transaction; return the durable height.
    fn commit(&self, py: Python<'_>) -> PyResult<u64> {
        let core = self.core()?;
        detached(py, || core.commit())
    }
    /// Forget everything above a height that is still stored (simulator: a crash loses unsynced writes).
    fn rollback(&self, py: Python<'_>, height: u64) -> PyResult<()> {
        let core = self.core()?;
        detached(py, || core.rollback(height))
    }

    // ---- the state as a whole

    /// The first heights whose state, block and header are here.
    fn history(&self, py: Python<'_>) -> PyResult<(u64, u64, u64)> {
        let core = self.core()?;
        let History { states, blocks, headers } = detached(py, || core.history())?;
        Ok((states, blocks, headers))
    }
    /// Begin to cut the state after a final block into pieces of about `limit` bytes, for others.
    fn start_export(&self, py: Python<'_>, height: u64, limit: usize) -> PyResult<StateExport> {
        let core = self.core()?;
        let block = detached(py, || core.final_at(height))?.hash;
        Ok(StateExport::new(Box::new(Entries { core, block }), limit))
    }
    /// What is kept of a state that is on its way here.
    fn chunks(&self) -> PyResult<Chunks> {
        Ok(Chunks::of(self.core()?.store()))
    }
    /// Begin to load a state that takes the place of everything here; `height` is above the durable one.
    fn start_import(&self, py: Python<'_>, height: u64) -> PyResult<KeyValueImport> {
        let core = self.core()?;
        let loading = Mutex::new(Some(detached(py, || core.start_import(height))?));
        Ok(KeyValueImport { core, loading })
    }

    // ---- reading

    /// (height, revision, entries) of the latest block, or of a final height.
    #[pyo3(signature = (keys, height = None))]
    #[allow(clippy::type_complexity)]
    fn get<'py>(
        &self,
        py: Python<'py>,
        keys: Vec<Vec<u8>>,
        height: Option<u64>,
    ) -> PyResult<(u64, u64, Vec<Option<EntryTuple<'py>>>)> {
        let core = self.core()?;
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let (header, entries) = core.get(&keys, height)?;
        let entries = entries.iter().map(|entry| entry.as_ref().map(|entry| entry_tuple(py, entry))).collect();
        Ok((header.height, header.revision, entries))
    }
    /// (header, nodes, entry or None) of a key after a final height.
    #[allow(clippy::type_complexity)]
    fn prove<'py>(
        &self,
        py: Python<'py>,
        key: &[u8],
        height: u64,
    ) -> PyResult<(Bound<'py, PyBytes>, Vec<Bound<'py, PyBytes>>, Option<EntryTuple<'py>>)> {
        let core = self.core()?;
        let (found, nodes) = detached(py, || core.prove(key, height))?;
        let nodes = nodes.iter().map(|node| PyBytes::new(py, node)).collect();
        let header = PyBytes::new(py, &found.header.encode());
        Ok((header, nodes, found.entry.as_ref().map(|entry| entry_tuple(py, entry))))
    }
    /// (outcome, revision, detail) of an operation that its client has not acknowledged.
    #[allow(clippy::type_complexity)]
    fn result<'py>(
        &self,
        py: Python<'py>,
        client: &[u8],
        sequence: u64,
    ) -> PyResult<Option<(u8, u64, Bound<'py, PyBytes>)>> {
        let (core, client) = (self.core()?, client_argument(client)?);
        let answer = detached(py, || core.result(&client, sequence))?;
        Ok(answer.map(|answer| (answer.outcome, answer.revision, PyBytes::new(py, &answer.detail))))
    }
    /// Let go of the store; what is final and not committed is lost.
    fn close(&self) {
        if let Some(core) = self.core.write().take()
            && let Store::Disk(environment) = core.store()
        {
            environment.release_writer();
        }
    }
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<KeyValueBlock>()?;
    m.add_class::<KeyValueRun>()?;
    m.add_class::<KeyValueImport>()?;
    m.add_class::<KeyValue>()?;
    m.add_class::<KeyValuePort>()
}
