//! What the store holds of the tree of executed blocks: records of a batch, opening, and what readers see above the last
//! final block.

use crate::block::{self, BODY, DECISION, Decision, EXTRA, HEAD, Head, RECEIPTS};
use crate::codec::decode_body;
use crate::errors::{Error, Result};
use crate::genesis;
use crate::history::History;
use crate::state::{EMPTY, Root, StateTrie, apply};
use crate::store::{Batch, Change, Snapshot, Store, Table, required};
use crate::tree::{Branch, Tree, fingerprint};
use crate::trie::{Layer, Origin, node_key};
use crate::types::{Executed, Included, StateChanges};
use alloy_primitives::{B256, Bytes, keccak256};
use std::sync::Arc;

/// Of the layout that `block.rs`, `trie_node.rs` and `codec.rs` describe.
const FORMAT_VERSION: u32 = 1;
/// The same, of a store that does not hold everything since genesis (`history.rs`).
pub const PRUNED_FORMAT: [u8; 4] = 2u32.to_be_bytes();

/// A block of the adopted branch as the store holds it.
pub struct Shown {
    /// Of the block's head record, which tells twins apart too.
    mark: B256,
    /// None after a start, until the block was executed again.
    branch: Option<Arc<Branch>>,
}

impl Shown {
    pub fn new(branch: &Arc<Branch>) -> Shown {
        Shown { mark: keccak256(block::encode_head(&branch.head())), branch: Some(branch.clone()) }
    }

    /// Whether the store holds just this.
    pub fn is(&mut self, branch: &Arc<Branch>) -> bool {
        if self.branch.as_ref().is_some_and(|own| Arc::ptr_eq(own, branch)) {
            return true;
        }
        let is_same = self.mark == keccak256(block::encode_head(&branch.head()));
        if is_same {
            self.branch = Some(branch.clone());
        }
        is_same
    }
}

// ---- what is written

fn batch_nodes(batch: &mut Batch, layer: &Layer) {
    for (number, chunk) in &layer.chunks {
        batch.push(Change::Append(Table::Nodes, node_key(layer.version, *number), chunk.clone()));
    }
}

fn batch_codes(batch: &mut Batch, codes: &[(B256, Bytes)]) {
    for (hash, code) in codes {
        batch.push(Change::Put(Table::Codes, hash.to_vec(), code.clone()));
    }
}

fn batch_executed(batch: &mut Batch, head: &Head, included: &[Included], extra: &Bytes, decision: Option<Vec<u8>>) {
    let height = head.header.number;
    let mut put = |kind: u8, value: Vec<u8>| {
        batch.push(Change::Append(Table::Blocks, block::key(height, kind), value.into()));
    };
    put(HEAD, block::encode_head(head));
    if let Some(decision) = decision {
        put(DECISION, decision);
    }
    put(BODY, crate::codec::encode_body(included));
    put(RECEIPTS, crate::codec::encode_receipts(included));
    if !extra.is_empty() {
        put(EXTRA, extra.to_vec());
    }
    batch.push(Change::Put(Table::Index, head.hash.to_vec(), block::index_value(height, None)));
    for (index, included) in included.iter().enumerate() {
        let value = block::index_value(height, Some(index as u32));
        batch.push(Change::Put(Table::Index, included.hash.to_vec(), value));
    }
}

/// A final block, or one of the adopted branch, which has no decision yet. Of one that the store holds already only the
/// decision is news.
pub fn batch_block(batch: &mut Batch, branch: &Branch, decision: Option<&Decision>, is_shown: bool) -> Result<()> {
    let height = branch.executed.header.number;
    let decision =
        decision.map(|(envelope, certificate, payloads)| block::encode_decision(envelope, certificate, payloads));
    if is_shown {
        let put = |decision: Vec<u8>| Change::Put(Table::Blocks, block::key(height, DECISION), decision.into());
        batch.extend(decision.map(put));
        return Ok(());
    }
    let layer = required(branch.layer.as_ref(), || format!("height {height}: its layer"))?;
    batch_nodes(batch, &layer.nodes);
    batch_codes(batch, &layer.codes);
    let executed = &branch.executed;
    batch_executed(batch, &branch.head(), &executed.included, &executed.extra, decision);
    Ok(())
}

/// Where it is not the last block that is final.
pub fn batch_tips(batch: &mut Batch, last: u64, safe: u64) {
    batch.push(Change::Put(Table::Meta, block::TIPS.to_vec(), block::encode_tips(last, safe)));
}

/// Take out all blocks from a height on, none of which is final. Codes stay, since their name is their content.
pub fn batch_without(batch: &mut Batch, store: &Store, first: u64) -> Result<()> {
    let snapshot = store.snapshot()?;
    let latest = required(block::latest_height(&snapshot)?, || "the genesis block".to_owned())?;
    for height in first..=latest {
        let hash =
            required(block::stored_hash(&snapshot, height)?, || format!("height {height}: the hash of the block"))?;
        batch.push(Change::Delete(Table::Index, hash.to_vec()));
        for (_, raw) in decode_body(&block::part(&snapshot, height, BODY)?)? {
            batch.push(Change::Delete(Table::Index, keccak256(raw).to_vec()));
        }
    }
    batch.push(Change::Truncate(Table::Blocks, block::key(first, 0)));
    batch.push(Change::Truncate(Table::Nodes, node_key(first, 0)));
    Ok(())
}

/// Forget everything above a final height, unless it is the last one.
pub fn batch_rollback(store: &Store, height: u64) -> Result<()> {
    let snapshot = store.snapshot()?;
    let tips = required(block::tips(&snapshot)?, || "the genesis block".to_owned())?;
    if height > tips.last {
        return Err(Error::unavailable(format!("height {height}: not stored, the last one is {}", tips.last)));
    }
    if height == tips.last {
        return Ok(());
    }
    let history = History::read(&snapshot)?;
    if height < history.states || !history.has_block(height) {
        return Err(Error::unavailable(format!("height {height}: pruned, its state or block is not here")));
    }
    let above = |value: &[u8]| Ok(block::indexed_height(value)? > height);
    let mut batch: Batch =
        snapshot.keys_where(Table::Index, &above)?.into_iter().map(|key| Change::Delete(Table::Index, key)).collect();
    batch.push(Change::Truncate(Table::Blocks, block::key(height + 1, 0)));
    batch.push(Change::Truncate(Table::Nodes, node_key(height + 1, 0)));
    if tips.is_open {
        batch_tips(&mut batch, height, height);
    }
    store.write(&batch)
}

// ---- opening

/// Create what is missing in the store, check what is there; the hash of the genesis block.
pub fn open_store(store: &Store, json: &[u8]) -> Result<B256> {
    let snapshot = store.snapshot()?;
    check_format(store, &snapshot)?;
    match block::latest_height(&snapshot)? {
        None => create_genesis(store, json)?,
        Some(latest) => remove_unfinished(store, &snapshot, latest)?,
    }
    check_genesis(store, json)
}

/// A state that was being imported when the process ended lies above the last block; nothing names it.
pub fn remove_unfinished(store: &Store, snapshot: &Snapshot, latest: u64) -> Result<()> {
    let first = node_key(latest + 1, 0);
    if snapshot.last_key(Table::Nodes)?.is_some_and(|last| last >= first) {
        store.write(&vec![Change::Truncate(Table::Nodes, first)])?;
    }
    Ok(())
}

pub fn check_format(store: &Store, snapshot: &Snapshot) -> Result<()> {
    let Some(value) = snapshot.get(Table::Meta, b"format")? else { return Ok(()) };
    let found = value.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
    match found {
        Some(FORMAT_VERSION..=2) => Ok(()),
        Some(other) => Err(Error::corrupt(format!(
            "{}: format {other}, expected {FORMAT_VERSION} or 2; open it with the version of Quorate that wrote it, or sync anew",
            store.name()
        ))),
        None => Err(Error::corrupt(format!("{}: its format is not a number", store.name()))),
    }
}

fn create_genesis(store: &Store, json: &[u8]) -> Result<()> {
    let genesis = genesis::parse(json)?;
    let (root, layer) = genesis_state(&genesis.changes)?;
    let mut header = genesis.header;
    header.state_root = root.hash;
    let hash = header.hash_slow();
    let timestamp_ms = header.timestamp.saturating_mul(1000);
    let head = Head { hash, timestamp_ms, root, transactions: 0, header, skipped: Vec::new() };
    let mut batch = vec![
        Change::Put(Table::Meta, b"format".to_vec(), FORMAT_VERSION.to_be_bytes().to_vec().into()),
        Change::Put(Table::Meta, b"genesis".to_vec(), json.to_vec().into()),
    ];
    batch_nodes(&mut batch, &layer);
    batch_codes(&mut batch, &genesis.changes.codes);
    batch_executed(&mut batch, &head, &[], &Bytes::new(), None);
    store.write(&batch)
}

/// The state of an allocation, which begins from nothing.
fn genesis_state(changes: &StateChanges) -> Result<(Root, Layer)> {
    let nothing = Origin { layers: Arc::new([]), store: Store::in_memory() };
    apply(&StateTrie { source: nothing.open()?, root: EMPTY }, changes, 0)
}

/// The hash of the stored genesis block. Raises Invalid unless `json` describes the same.
fn check_genesis(store: &Store, json: &[u8]) -> Result<B256> {
    let snapshot = store.snapshot()?;
    let hash = required(block::stored_hash(&snapshot, 0)?, || "the genesis block".to_owned())?;
    let stored = required(snapshot.get(Table::Meta, b"genesis")?, || "the genesis file".to_owned())?;
    if *stored == *json {
        return Ok(hash);
    }
    let genesis = genesis::parse(json)?;
    let mut header = genesis.header;
    header.state_root = genesis_state(&genesis.changes)?.0.hash;
    let found = header.hash_slow();
    if found != hash {
        return Err(Error::invalid(format!("genesis: hash {found}, expected {hash} of {}", store.name())));
    }
    let config = |json: &[u8]| -> Result<serde_json::Value> {
        let file: serde_json::Value =
            serde_json::from_slice(json).map_err(|e| Error::invalid(format!("genesis: {e}")))?;
        Ok(file.get("config").cloned().unwrap_or_default())
    };
    // The hash does not cover the settings.
    let (found, expected) = (config(json)?, config(&stored)?);
    if found != expected {
        return Err(Error::invalid(format!("genesis: config {found}, expected {expected} of {}", store.name())));
    }
    Ok(hash)
}

/// The last durable block, and what the store holds above it.
pub fn load(store: &Store) -> Result<(Tree, Vec<Shown>)> {
    let snapshot = store.snapshot()?;
    let tips = required(block::tips(&snapshot)?, || "the genesis block".to_owned())?;
    let height = tips.last;
    let head = required(block::head(&snapshot, height)?, || format!("height {height}: the head of the block"))?;
    let hash = head.hash;
    let cause = match block::decision(&snapshot, height)? {
        Some((_, _, payloads)) => {
            let envelope = head.header.parent_beacon_block_root.unwrap_or_default();
            fingerprint(&head.header.parent_hash, &payloads, &envelope)
        }
        None => B256::ZERO,
    };
    let Head { root, transactions, timestamp_ms, header, skipped, .. } = head;
    let (included, changed) = (Vec::new(), Vec::new());
    let extra = Bytes::new();
    let is_rebased = false;
    let executed = Arc::new(Executed { header, hash, timestamp_ms, included, skipped, extra, changed, is_rebased });
    let durable = Branch { executed, root, transactions, layer: None, cause, age: 0 };
    let mark = |height: u64| {
        let record = snapshot.get(Table::Blocks, &block::key(height, HEAD))?;
        let record = required(record, || format!("height {height}: the head of the block"))?;
        Ok(Shown { mark: keccak256(&*record), branch: None })
    };
    let shown = (height + 1..=tips.latest).map(mark).collect::<Result<Vec<_>>>()?;
    Ok((Tree::new(durable, tips.is_open), shown))
}
