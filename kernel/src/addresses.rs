//! In which transactions an address takes part: an index beside the ledger, in a store of its own.
//!
//! Whoever reads the ledger builds it, from blocks that are stored, so that agreement neither waits for it nor depends on it;
//! it may be deleted at any time. Table `Index`, integers big-endian:
//!
//! ```text
//! 0, address (20), height (8), index (4)    takes part in a transaction
//! 1, address (20), height (8), index (4)    was created in it; value: by whom (20)
//! 2, address (20), nonce (8)                sent it; value: height (8), index (4)
//! ```
//!
//! Table `Meta`: `genesis`, the hash of the chain; `top`, height and hash of the last block that is in; `undo` with the height of a
//! block that is not final: its hash, and its keys, each with its length.

use crate::errors::{Error, Result};
use crate::ledger::{address_argument, detached};
use crate::store::{Batch, Change, Snapshot, Store, Table};
use crate::trie_node::Reader;
use crate::view::{Moment, Past, View};
use alloy_primitives::{Address, B256, Bytes};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::PathBuf;

const TAKES_PART: u8 = 0;
const CREATED: u8 = 1;
const SENT: u8 = 2;

const GENESIS: &[u8] = b"genesis";
const TOP: &[u8] = b"top";

/// Entries that one durable write holds, give or take those of a block.
const MAX_ENTRIES: usize = 20_000;
/// Entries that a search reads at once.
const CHUNK: usize = 64;

fn undo_key(height: u64) -> Vec<u8> {
    [b"undo".as_slice(), &height.to_be_bytes()].concat()
}

fn entry_key(kind: u8, address: &Address, height: u64, index: u32) -> Vec<u8> {
    [&[kind], address.as_slice(), &height.to_be_bytes(), &index.to_be_bytes()].concat()
}

fn nonce_key(sender: &Address, nonce: u64) -> Vec<u8> {
    [&[SENT], sender.as_slice(), &nonce.to_be_bytes()].concat()
}

fn place_of(bytes: &[u8]) -> Result<(u64, u32)> {
    let mut reader = Reader::new(bytes);
    Ok((u64::from_be_bytes(*reader.array()?), u32::from_be_bytes(*reader.array()?)))
}

fn block_record(height: u64, hash: &B256) -> Bytes {
    [height.to_be_bytes().as_slice(), hash.as_slice()].concat().into()
}

/// What is in the index at one moment, less what belongs to blocks that are gone.
struct Reading<'a> {
    snapshot: Snapshot,
    moment: Moment<'a>,
    /// The first block that is not pruned.
    first: u64,
    latest: u64,
}

impl Reading<'_> {
    /// Whether the block that an entry is of is the one that readers see.
    fn is_there(&self, height: u64) -> Result<bool> {
        if height > self.latest || height < self.first {
            return Ok(false);
        }
        match self.snapshot.get(Table::Meta, &undo_key(height))? {
            Some(record) => Ok(self.moment.block_hash(height)? == Some(Reader::new(&record).hash()?)),
            None => Ok(true),
        }
    }

    /// Places of transactions from `first` on, or down: at least `count` and all of the last block, if there are so many; and
    /// whether there are more.
    fn search(&self, address: &Address, first: u64, is_up: bool, count: usize) -> Result<(Vec<(u64, u32)>, bool)> {
        let (lowest, highest) = match is_up {
            true => (first.max(self.first), u64::MAX),
            false => (self.first, first),
        };
        let mut low = entry_key(TAKES_PART, address, lowest, 0);
        let mut high = entry_key(TAKES_PART, address, highest, u32::MAX);
        let mut found: Vec<(u64, u32)> = Vec::new();
        loop {
            let keys = self.snapshot.keys_between(Table::Index, &low, &high, is_up, CHUNK)?;
            for key in &keys {
                let place = place_of(&key[21..])?;
                if !self.is_there(place.0)? {
                    continue;
                }
                if found.len() >= count && found.last().is_some_and(|last| last.0 != place.0) {
                    return Ok((found, true));
                }
                found.push(place);
            }
            let Some(last) = keys.last().filter(|_| keys.len() == CHUNK) else { return Ok((found, false)) };
            let (height, index) = place_of(&last[21..])?;
            match is_up {
                true => low = entry_key(TAKES_PART, address, height, index + 1),
                false => match index.checked_sub(1) {
                    Some(index) => high = entry_key(TAKES_PART, address, height, index),
                    None => high = entry_key(TAKES_PART, address, height.saturating_sub(1), u32::MAX),
                },
            }
        }
    }

    /// Where the contract at an address was created last, and by whom.
    fn creator(&self, address: &Address) -> Result<Option<(u64, u32, Address)>> {
        let low = entry_key(CREATED, address, 0, 0);
        let high = entry_key(CREATED, address, self.latest, u32::MAX);
        for key in self.snapshot.keys_between(Table::Index, &low, &high, false, CHUNK)? {
            let (height, index) = place_of(&key[21..])?;
            if self.is_there(height)?
                && let Some(value) = self.snapshot.get(Table::Index, &key)?
            {
                return Ok(Some((height, index, Address::from(*Reader::new(&value).array::<20>()?))));
            }
        }
        Ok(None)
    }

    fn sent(&self, sender: &Address, nonce: u64) -> Result<Option<(u64, u32)>> {
        let Some(value) = self.snapshot.get(Table::Index, &nonce_key(sender, nonce))? else { return Ok(None) };
        let place = place_of(&value)?;
        Ok(self.is_there(place.0)?.then_some(place))
    }
}

struct Core {
    store: Store,
    /// Held by whoever writes.
    writer: Mutex<()>,
}

impl Core {
    fn top(&self, snapshot: &Snapshot, genesis: &B256) -> Result<(u64, B256)> {
        let Some(record) = snapshot.get(Table::Meta, TOP)? else { return Ok((0, *genesis)) };
        let mut reader = Reader::new(&record);
        Ok((u64::from_be_bytes(*reader.array()?), reader.hash()?))
    }

    /// Follow the ledger by at most so many blocks; the last height that is in, and the ledger's.
    fn update(&self, past: &Past, genesis: &B256, blocks: u64) -> Result<(u64, u64)> {
        let _writer = self.writer.lock();
        let (moment, snapshot) = (past.now()?, self.store.snapshot()?);
        let tips = moment.tips()?;
        let mut batch = Batch::new();
        let mut top = self.top(&snapshot, genesis)?;
        let is_other = snapshot.get(Table::Meta, GENESIS)?.is_none_or(|found| *found != *genesis.as_slice());
        if is_other {
            top = wipe(&mut batch, genesis);
        }
        let first = first_block(&moment)?;
        if top.0 + 1 < first {
            // What is pruned cannot be read any more.
            let Some((_, hash, _)) = moment.header(first - 1)? else { return Ok((top.0, tips.latest)) };
            top = (first - 1, hash);
        }
        while top.0 >= first && moment.block_hash(top.0)? != Some(top.1) {
            let Some(below) = self.step_back(&mut batch, &snapshot, &moment, top.0)? else {
                // What is final can only be away until the ledger has caught up again, unless it is another one.
                if moment.block_hash(top.0)?.is_none() {
                    return Ok((top.0, tips.latest));
                }
                batch.clear();
                top = wipe(&mut batch, genesis);
                break;
            };
            top = below;
        }
        let last = tips.latest.min(top.0.saturating_add(blocks));
        while top.0 < last && batch.len() < MAX_ENTRIES {
            match self.add_block(&mut batch, past, top, tips.last)? {
                Some(next) => top = next,
                None => break,
            }
        }
        // What is final by now is not taken back.
        let settled = snapshot.keys_between(Table::Meta, &undo_key(0), &undo_key(tips.last), true, usize::MAX)?;
        batch.extend(settled.into_iter().map(|key| Change::Delete(Table::Meta, key)));
        if !batch.is_empty() || top != self.top(&snapshot, genesis)? {
            batch.push(Change::Put(Table::Meta, TOP.to_vec(), block_record(top.0, &top.1)));
            self.store.write(&batch)?;
        }
        Ok((top.0, tips.latest))
    }

    /// Take a block out that is gone; the one below it. None for one that was final.
    fn step_back(
        &self,
        batch: &mut Batch,
        snapshot: &Snapshot,
        moment: &Moment<'_>,
        height: u64,
    ) -> Result<Option<(u64, B256)>> {
        let Some(record) = snapshot.get(Table::Meta, &undo_key(height))? else { return Ok(None) };
        let mut reader = Reader::new(&record);
        reader.hash()?;
        while !reader.is_empty() {
            let length = reader.byte()?;
            batch.push(Change::Delete(Table::Index, reader.take(length as usize)?.to_vec()));
        }
        batch.push(Change::Delete(Table::Meta, undo_key(height)));
        let below = height - 1;
        Ok(match snapshot.get(Table::Meta, &undo_key(below))? {
            Some(record) => Some((below, Reader::new(&record).hash()?)),
            None => moment.block_hash(below)?.map(|hash| (below, hash)),
        })
    }

    /// Add the block above `top`. None where it is not there, or stands on another one by now.
    fn add_block(
        &self,
        batch: &mut Batch,
        past: &Past,
        top: (u64, B256),
        last_final: u64,
    ) -> Result<Option<(u64, B256)>> {
        let height = top.0 + 1;
        let Some(stored) = past.now()?.stored(height)? else { return Ok(None) };
        let moment = past.now()?;
        if stored.header.parent_hash != top.1 || moment.block_hash(height)? != Some(stored.hash) {
            return Ok(None);
        }
        let first = batch.len();
        for (index, one) in moment.appearances(&stored)?.into_iter().enumerate() {
            let index = index as u32;
            let mut put = |key: Vec<u8>, value: Bytes| batch.push(Change::Put(Table::Index, key, value));
            put(nonce_key(&one.sender, one.nonce), [&height.to_be_bytes()[..], &index.to_be_bytes()].concat().into());
            for address in &one.addresses {
                put(entry_key(TAKES_PART, address, height, index), Bytes::new());
            }
            for (address, creator) in &one.created {
                put(entry_key(CREATED, address, height, index), Bytes::copy_from_slice(creator.as_slice()));
            }
        }
        if height > last_final {
            let mut record = stored.hash.to_vec();
            for change in &batch[first..] {
                if let Change::Put(Table::Index, key, _) = change {
                    record.push(key.len() as u8);
                    record.extend_from_slice(key);
                }
            }
            batch.push(Change::Put(Table::Meta, undo_key(height), record.into()));
        }
        Ok(Some((height, stored.hash)))
    }
}

/// The first block above genesis that can be read whole.
fn first_block(moment: &Moment<'_>) -> Result<u64> {
    let history = moment.history()?;
    Ok(history.blocks.max(history.headers))
}

/// Begin anew, with a chain of this genesis block.
fn wipe(batch: &mut Batch, genesis: &B256) -> (u64, B256) {
    batch.push(Change::Truncate(Table::Index, vec![0]));
    batch.push(Change::Truncate(Table::Meta, vec![0]));
    batch.push(Change::Put(Table::Meta, GENESIS.to_vec(), Bytes::copy_from_slice(genesis.as_slice())));
    (0, *genesis)
}

/// In which transactions an address takes part. Thread-safe.
#[pyclass(frozen, module = "quorate._kernel")]
pub struct AddressIndex {
    core: Core,
}

impl AddressIndex {
    fn read<'a>(&self, past: &'a Past) -> Result<Reading<'a>> {
        // The ledger comes second: what the index holds beyond it belongs to a block that is gone.
        let (snapshot, moment) = (self.core.store.snapshot()?, past.now()?);
        let (first, latest) = (first_block(&moment)?, moment.tips()?.latest);
        Ok(Reading { snapshot, moment, first, latest })
    }
}

type Places = (Vec<(u64, u32)>, bool);

#[pymethods]
impl AddressIndex {
    /// Open for writing, or for reading where another process writes; `path` None keeps it in memory.
    #[staticmethod]
    #[pyo3(signature = (path, map_bytes = 1_099_511_627_776))]
    fn open(py: Python<'_>, path: Option<PathBuf>, map_bytes: usize) -> PyResult<AddressIndex> {
        let store = detached(py, || {
            let Some(path) = path else { return Ok(Store::in_memory()) };
            match Store::open(&path, map_bytes) {
                Err(Error::Unavailable(_)) => Store::open_reader(&path),
                store => store,
            }
        })?;
        Ok(AddressIndex { core: Core { store, writer: Mutex::new(()) } })
    }

    /// Whether this one may write.
    #[getter]
    fn is_writer(&self) -> bool {
        self.core.store.is_writer()
    }

    /// Follow a ledger by at most so many blocks; the last height that is in, and the ledger's.
    fn update(&self, py: Python<'_>, view: &View, blocks: u64) -> PyResult<(u64, u64)> {
        let (past, genesis) = (view.past()?, view.genesis());
        detached(py, || self.core.update(&past, &genesis, blocks))
    }

    /// The last height that is in, and the ledger's.
    fn heights(&self, py: Python<'_>, view: &View) -> PyResult<(u64, u64)> {
        let (past, genesis) = (view.past()?, view.genesis());
        detached(py, || {
            let snapshot = self.core.store.snapshot()?;
            Ok((self.core.top(&snapshot, &genesis)?.0, past.now()?.head()?))
        })
    }

    /// (height, index) of transactions that an address takes part in, from `first` up or down: at least `count` and all of the
    /// last block, if there are so many; and whether there are more.
    fn search(
        &self,
        py: Python<'_>,
        view: &View,
        address: &[u8],
        first: u64,
        is_up: bool,
        count: usize,
    ) -> PyResult<Places> {
        let (past, address) = (view.past()?, address_argument("address", address)?);
        detached(py, || self.read(&past)?.search(&address, first, is_up, count))
    }

    /// (height, index, creator) of the transaction in which the contract at an address was created last.
    fn creator<'py>(
        &self,
        py: Python<'py>,
        view: &View,
        address: &[u8],
    ) -> PyResult<Option<(u64, u32, Bound<'py, PyBytes>)>> {
        let (past, address) = (view.past()?, address_argument("address", address)?);
        let found = detached(py, || self.read(&past)?.creator(&address))?;
        Ok(found.map(|(height, index, by)| (height, index, PyBytes::new(py, by.as_slice()))))
    }

    /// (height, index) of the transaction that an account sent with a nonce.
    fn sent(&self, py: Python<'_>, view: &View, sender: &[u8], nonce: u64) -> PyResult<Option<(u64, u32)>> {
        let (past, sender) = (view.past()?, address_argument("sender", sender)?);
        detached(py, || self.read(&past)?.sent(&sender, nonce))
    }

    /// Let another process write.
    fn close(&self) {
        if let Store::Disk(environment) = &self.core.store {
            environment.release_writer();
        }
    }
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<AddressIndex>()
}
