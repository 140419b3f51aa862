//! Read-only snapshots of what is durable, final or adopted: `View`, less its calls and JSON, which are in `json.rs`.

use crate::block::{self, BODY, Decision, Head, RECEIPTS, Tips};
use crate::dev::Reverted;
use crate::errors::{Error, Result, fixed};
use crate::genesis::{self, ChainSpec};
use crate::history::History;
use crate::import::Extra;
use crate::ledger::{DecisionTuple, address_argument, decision_tuple, detached, hash_argument};
use crate::reward::withdrawals;
use crate::state::{EMPTY, StateAt};
use crate::store::{Snapshot, Store, Table, required};
use crate::types::{StateRead, Stored};
use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes, U256};
use alloy_trie::KECCAK_EMPTY;
use parking_lot::RwLock;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// A height that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    Latest,
    Safe,
    Finalized,
}

/// A height, a block hash or a tag.
#[derive(Debug, Clone, Copy)]
pub enum At {
    Height(u64),
    Hash(B256),
    Tag(Tag),
}

impl At {
    pub fn is_latest(self) -> bool {
        matches!(self, At::Tag(Tag::Latest))
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for At {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<At> {
        if let Ok(hash) = object.cast::<PyBytes>() {
            return Ok(At::Hash(B256::new(fixed("block hash", hash.as_bytes())?)));
        }
        match object.extract::<i64>() {
            Ok(-1) => Ok(At::Tag(Tag::Latest)),
            Ok(-3) => Ok(At::Tag(Tag::Safe)),
            Ok(-4) => Ok(At::Tag(Tag::Finalized)),
            Ok(height @ 0..) => Ok(At::Height(height.unsigned_abs())),
            _ => Err(PyTypeError::new_err("block: expected a height, a 32-byte hash or a tag")),
        }
    }
}

/// The blocks of a store.
pub struct Past {
    store: Store,
    spec: ChainSpec,
}

impl Past {
    pub fn spec(&self) -> &ChainSpec {
        &self.spec
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The newest snapshot. One answer comes from one of them, since the blocks that are not final may be others in the next.
    pub fn now(&self) -> Result<Moment<'_>> {
        Ok(Moment { past: self, snapshot: self.store.snapshot()? })
    }
}

/// The blocks of a store at one moment.
pub struct Moment<'a> {
    past: &'a Past,
    snapshot: Snapshot,
}

impl<'a> Moment<'a> {
    pub fn spec(&self) -> &'a ChainSpec {
        &self.past.spec
    }

    pub fn version(&self) -> Option<usize> {
        self.snapshot.version()
    }

    pub fn tips(&self) -> Result<Tips> {
        required(block::tips(&self.snapshot)?, || "the genesis block".to_owned())
    }

    /// The last height.
    pub fn head(&self) -> Result<u64> {
        required(block::latest_height(&self.snapshot)?, || "the genesis block".to_owned())
    }

    pub fn history(&self) -> Result<History> {
        History::read(&self.snapshot)
    }

    /// A block's head. Raises 4444 for one of before this store.
    pub fn head_at(&self, height: u64) -> Result<Option<Head>> {
        let head = block::head(&self.snapshot, height)?;
        if head.is_none() {
            self.expect_header(height)?;
        }
        Ok(head)
    }

    /// The height that `at` means, if it is stored.
    pub fn height_at(&self, at: At) -> Result<Option<u64>> {
        match at {
            At::Height(height) => Ok((height <= self.head()?).then_some(height)),
            At::Hash(hash) => self.block_number(&hash),
            At::Tag(Tag::Latest) => self.head().map(Some),
            At::Tag(Tag::Safe) => Ok(Some(self.tips()?.safe)),
            At::Tag(Tag::Finalized) => Ok(Some(self.tips()?.last)),
        }
    }

    /// The state after a block. Raises Unavailable, in geth's words, for an unknown one.
    pub fn into_state(self, at: At) -> Result<StateAt> {
        let height = match (at, self.height_at(at)?) {
            (_, Some(height)) => height,
            (At::Hash(_), None) => return Err(Error::unavailable("header for hash not found")),
            (_, None) => return Err(Error::unavailable("header not found")),
        };
        self.expect_state(height)?;
        let head = required(block::head(&self.snapshot, height)?, || format!("height {height}: its head"))?;
        Ok(StateAt::stored(&self.past.store, self.snapshot, height, head.hash, head.root))
    }

    pub fn block_number(&self, hash: &B256) -> Result<Option<u64>> {
        block::height_of(&self.snapshot, hash)
    }

    pub fn block_hash(&self, height: u64) -> Result<Option<B256>> {
        block::stored_hash(&self.snapshot, height)
    }

    /// Header, its hash, and milliseconds.
    pub fn header(&self, number: u64) -> Result<Option<(Header, B256, u64)>> {
        let head = self.head_at(number)?;
        Ok(head.map(|head| (head.header, head.hash, head.timestamp_ms)))
    }

    pub fn stored(&self, number: u64) -> Result<Option<Stored>> {
        let Some(head) = self.head_at(number)? else { return Ok(None) };
        self.expect_block(number)?;
        Ok(Some(Stored {
            hash: head.hash,
            body: block::part(&self.snapshot, number, BODY)?,
            receipts: block::part(&self.snapshot, number, RECEIPTS)?,
            extra: match block::extra(&self.snapshot, number)? {
                Some(extra) => extra,
                None => Extra { ommers: Vec::new(), withdrawals: withdrawals(&self.past.spec, &head.header) },
            },
            header: head.header,
        }))
    }

    /// Height and index; None for what was undone since (`dev.rs`), which may come again under the same hash.
    pub fn locate(&self, transaction: &B256) -> Result<Option<(u64, u32)>> {
        match block::locate(&self.snapshot, transaction)? {
            Some((height, _)) if self.is_reverted(height)? => Ok(None),
            found => Ok(found),
        }
    }

    /// Whether what the block at a height did was undone.
    pub fn is_reverted(&self, height: u64) -> Result<bool> {
        if !self.past.spec.dev {
            return Ok(false);
        }
        Reverted::read(&self.past.now()?.into_state(At::Tag(Tag::Latest))?)?.holds(height)
    }

    /// Raises 4444 for one that was pruned.
    pub fn decision(&self, height: u64) -> Result<Option<Decision>> {
        let decision = match self.history()?.is_gone(height) {
            true => None,
            false => block::decision(&self.snapshot, height)?,
        };
        if decision.is_none() {
            self.expect_block(height)?;
        }
        Ok(decision)
    }
}

/// A storage key of at most 32 bytes, padded on the left.
fn proof_key(slot: &[u8]) -> Result<B256> {
    if slot.len() > 32 {
        return Err(Error::invalid(format!("slot: {} bytes, expected at most 32", slot.len())));
    }
    Ok(B256::left_padding_from(slot))
}

/// Read-only snapshots of what is durable: final blocks, and the adopted branch above them. Safe in another process and from
/// many threads.
#[pyclass(frozen, module = "quorate._kernel")]
pub struct View {
    /// None once closed.
    past: RwLock<Option<Arc<Past>>>,
    genesis_hash: B256,
    chain_id: u64,
}

impl View {
    pub fn over(store: Store, spec: ChainSpec, genesis_hash: B256) -> View {
        let chain_id = spec.chain_id;
        View { past: RwLock::new(Some(Arc::new(Past { store, spec }))), genesis_hash, chain_id }
    }

    pub fn genesis(&self) -> B256 {
        self.genesis_hash
    }

    /// Raises Unavailable once closed.
    pub fn past(&self) -> Result<Arc<Past>> {
        self.past.read().clone().ok_or_else(|| Error::unavailable("view: closed"))
    }
}

#[pymethods]
impl View {
    #[getter]
    pub fn genesis_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.genesis_hash.as_slice())
    }

    #[getter]
    fn chain_id(&self) -> u64 {
        self.chain_id
    }

    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<View> {
        detached(py, || {
            let store = Store::open_reader(&path)?;
            let snapshot = store.snapshot()?;
            crate::tree_store::check_format(&store, &snapshot)?;
            let Some(json) = snapshot.get(Table::Meta, b"genesis")? else {
                return Err(Error::unavailable(format!("{}: has no genesis yet", store.name())));
            };
            let spec = genesis::parse(&json)?.spec;
            let hash = required(block::stored_hash(&snapshot, 0)?, || "the genesis block".to_owned())?;
            Ok(View::over(store.clone(), spec, hash))
        })
    }

    /// The last height.
    fn head(&self) -> PyResult<u64> {
        Ok(self.past()?.now()?.head()?)
    }

    /// The latest, the safe and the last final height, and whether they may differ.
    fn tips(&self) -> PyResult<(u64, u64, u64, bool)> {
        let Tips { latest, safe, last, is_open } = self.past()?.now()?.tips()?;
        Ok((latest, safe, last, is_open))
    }

    /// (last final height, hashes of the blocks from `first` on to the latest, at most `limit`), all at one moment.
    fn branch<'py>(&self, py: Python<'py>, first: u64, limit: usize) -> PyResult<(u64, Vec<Bound<'py, PyBytes>>)> {
        let past = self.past()?;
        let (last, hashes) = detached(py, || {
            let now = past.now()?;
            let tips = now.tips()?;
            let hash = |height| required(now.block_hash(height)?, || format!("height {height}: the hash of the block"));
            Ok((tips.last, (first..=tips.latest).take(limit).map(hash).collect::<Result<Vec<_>>>()?))
        })?;
        Ok((last, hashes.iter().map(|hash| PyBytes::new(py, hash.as_slice())).collect()))
    }

    fn block_hash<'py>(&self, py: Python<'py>, height: u64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let hash = self.past()?.now()?.block_hash(height)?;
        Ok(hash.map(|hash| PyBytes::new(py, hash.as_slice())))
    }

    fn block_number(&self, hash: &[u8]) -> PyResult<Option<u64>> {
        Ok(self.past()?.now()?.block_number(&hash_argument("block hash", hash)?)?)
    }

    fn balance<'py>(&self, py: Python<'py>, at: At, account: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let (past, account) = (self.past()?, address_argument("account", account)?);
        let found = detached(py, || past.now()?.into_state(at)?.account(&account))?;
        let balance = found.map_or(U256::ZERO, |account| account.balance).to_le_bytes::<32>();
        py.get_type::<pyo3::types::PyInt>().call_method1("from_bytes", (PyBytes::new(py, &balance), "little"))
    }

    fn nonce(&self, py: Python<'_>, at: At, account: &[u8]) -> PyResult<u64> {
        let (past, account) = (self.past()?, address_argument("account", account)?);
        Ok(detached(py, || past.now()?.into_state(at)?.account(&account))?.map_or(0, |account| account.nonce))
    }

    fn code<'py>(&self, py: Python<'py>, at: At, account: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let (past, account) = (self.past()?, address_argument("account", account)?);
        let code = detached(py, || {
            let state = past.now()?.into_state(at)?;
            state.account(&account)?.map_or(Ok(Bytes::new()), |account| state.code(&account.code_hash))
        })?;
        Ok(PyBytes::new(py, &code))
    }

    fn storage<'py>(&self, py: Python<'py>, at: At, account: &[u8], slot: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let (past, account) = (self.past()?, address_argument("account", account)?);
        let slot = hash_argument("slot", slot)?;
        let value = detached(py, || past.now()?.into_state(at)?.storage(&account, &U256::from_be_bytes(slot.0)))?;
        Ok(PyBytes::new(py, &value.to_be_bytes::<32>()))
    }

    /// The EIP-1186 answer. A slot of 32 bytes is shown as such, a shorter one as a quantity, as geth does.
    fn proof_json<'py>(
        &self,
        py: Python<'py>,
        at: At,
        account: &[u8],
        slots: Vec<Vec<u8>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let (past, account) = (self.past()?, address_argument("account", account)?);
        let keys = slots.iter().map(|slot| proof_key(slot)).collect::<Result<Vec<_>>>()?;
        let answer = detached(py, || {
            let (leaf, proof, storage) = past.now()?.into_state(at)?.prove(&account, &keys)?;
            let root = leaf.as_ref().map_or(EMPTY, |leaf| leaf.storage);
            let found = leaf.map(|leaf| leaf.account);
            let storage = slots.iter().zip(&keys).zip(storage).map(|((slot, key), (value, proof))| {
                let key = if slot.len() == 32 { json!(key) } else { json!(U256::from_be_bytes(key.0)) };
                json!({"key": key, "value": value, "proof": proof})
            });
            let answer = json!({
                "address": account,
                "accountProof": proof,
                "balance": found.as_ref().map_or(U256::ZERO, |account| account.balance),
                "codeHash": found.as_ref().map_or(KECCAK_EMPTY, |account| account.code_hash),
                "nonce": U256::from(found.as_ref().map_or(0, |account| account.nonce)),
                "storageHash": root.hash,
                "storageProof": storage.collect::<Vec<_>>(),
            });
            serde_json::to_vec(&answer).map_err(|e| Error::invalid(format!("proof: {e}")))
        })?;
        Ok(PyBytes::new(py, &answer))
    }

    fn decision<'py>(&self, py: Python<'py>, height: u64) -> PyResult<Option<DecisionTuple<'py>>> {
        let past = self.past()?;
        let decision = detached(py, || past.now()?.decision(height))?;
        Ok(decision.map(|decision| decision_tuple(py, &decision)))
    }

    fn close(&self) {
        *self.past.write() = None;
    }
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<View>()
}
