//! The records of the key-value store, and the first of them.
//!
//! The head of a block: header (160), flag (1) and id (9) of the top of the trie.

use crate::block::{self, DECISION, Decision, HEAD};
use crate::errors::{Error, Result};
use crate::keyvalue::live::LiveTrie;
use crate::keyvalue::state::{Header, Numbers, place_of};
use crate::keyvalue::tree::{Branch, Cause, Tree};
use crate::state::Root;
use crate::store::{Batch, Change, Snapshot, Store, Table, required};
use crate::tree_store::remove_unfinished;
use crate::trie::{Layer, Origin, node_key};
use crate::trie_node::{NodeWriter, Reader};
use alloy_primitives::map::B256HashMap;
use alloy_primitives::{B256, Bytes};
use std::collections::VecDeque;
use std::sync::Arc;

/// Of the records; the first three bytes tell it from a store of the Ethereum ledger.
const FORMAT_VERSION: u32 = 0x716b_7601;
/// The same, of a store that does not hold everything since genesis.
pub const PRUNED_FORMAT: u32 = 0x716b_7602;

pub fn batch_block(batch: &mut Batch, branch: &Branch, layer: &Layer, decision: Option<&Decision>) {
    let height = branch.header.height;
    for (number, chunk) in &layer.chunks {
        batch.push(Change::Append(Table::Nodes, node_key(layer.version, *number), chunk.clone()));
    }
    let record = encode_head(&branch.header, branch.root);
    batch.push(Change::Append(Table::Blocks, block::key(height, HEAD), record.into()));
    if let Some((envelope, certificate, payloads)) = decision {
        let record = block::encode_decision(envelope, certificate, payloads);
        batch.push(Change::Append(Table::Blocks, block::key(height, DECISION), record.into()));
    }
    batch.push(Change::Put(Table::Index, branch.hash.to_vec(), block::index_value(height, None)));
}

pub fn encode_head(header: &Header, root: Root) -> Vec<u8> {
    let mut record = header.encode().to_vec();
    match root.id {
        Some(id) => {
            record.push(1);
            id.write(&mut record);
        }
        None => record.extend_from_slice(&[0; 10]),
    }
    record
}

pub fn read_head(snapshot: &Snapshot, height: u64) -> Result<Option<Branch>> {
    let Some(record) = snapshot.get(Table::Blocks, &block::key(height, HEAD))? else { return Ok(None) };
    let mut reader = Reader::new(&record);
    let header = Header::decode(&mut reader)?;
    let has_top = reader.byte()? == 1;
    let id = reader.id()?;
    let root = Root { hash: header.root, id: has_top.then_some(id) };
    let (skipped, answers, events, hash) = (Vec::new(), Vec::new(), Vec::new(), header.hash());
    Ok(Some(Branch { header, hash, root, skipped, answers, events, layer: None, cause: B256::ZERO, age: 0 }))
}

pub fn height_of(snapshot: &Snapshot, hash: &B256) -> Result<Option<u64>> {
    let value = snapshot.get(Table::Index, hash.as_slice())?;
    value.map(|value| block::indexed_height(&value)).transpose()
}

pub fn durable_height(snapshot: &Snapshot) -> Result<u64> {
    let key = required(snapshot.last_key(Table::Blocks)?, || "the genesis block".to_owned())?;
    let height = key.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
    required(height, || "the height of the last block".to_owned())
}

pub fn open_store(store: &Store, identity: B256, members: &[u8], timestamp_ms: u64) -> Result<B256> {
    let nothing = Origin { layers: Arc::new([]), store: Store::in_memory() };
    let (mut state, mut writer) = (LiveTrie::default(), NodeWriter::new(0, 0, 1));
    let source = nothing.open()?;
    state.set(&source, &place_of(b'v', b""), Numbers::default(), Bytes::copy_from_slice(members))?;
    let root = state.write(&source, &mut writer)?;
    let layer = Layer { version: 0, chunks: writer.finish() };
    let (parent, payloads, envelope) = (B256::ZERO, B256::ZERO, identity);
    let header = Header { items: 0, height: 0, timestamp_ms, revision: 0, parent, envelope, root: root.hash, payloads };
    let hash = header.hash();
    let snapshot = store.snapshot()?;
    let found = snapshot.get(Table::Meta, b"format")?.map(|value| value.to_vec());
    match found {
        None => {
            let (skipped, answers, events) = (Vec::new(), Vec::new(), Vec::new());
            let branch =
                Branch { header, hash, root, skipped, answers, events, layer: None, cause: B256::ZERO, age: 0 };
            let format = FORMAT_VERSION.to_be_bytes().to_vec();
            let mut batch = vec![Change::Put(Table::Meta, b"format".to_vec(), format.into())];
            batch_block(&mut batch, &branch, &layer, None);
            store.write(&batch)?;
            return Ok(hash);
        }
        Some(format) if [FORMAT_VERSION, PRUNED_FORMAT].iter().any(|known| format == known.to_be_bytes()) => {}
        Some(format) => {
            return Err(Error::corrupt(format!(
                "{}: format {}, expected {} of the key-value application",
                store.name(),
                alloy_primitives::hex::encode(format),
                alloy_primitives::hex::encode(FORMAT_VERSION.to_be_bytes())
            )));
        }
    }
    remove_unfinished(store, &snapshot, durable_height(&snapshot)?)?;
    let stored = required(read_head(&snapshot, 0)?, || "the genesis block".to_owned())?.hash;
    if stored != hash {
        return Err(Error::invalid(format!("genesis: hash {hash}, expected {stored} of {}", store.name())));
    }
    Ok(hash)
}

/// Only the last durable block.
pub fn load_tree(store: &Store) -> Result<Tree> {
    let snapshot = store.snapshot()?;
    let height = durable_height(&snapshot)?;
    let mut head = required(read_head(&snapshot, height)?, || format!("height {height}: the head of the block"))?;
    if let Some((_, _, payloads)) = block::decision(&snapshot, height)? {
        head.cause = Cause::new(head.header.parent, payloads, head.header.envelope).name;
    }
    let hash = head.hash;
    Ok(Tree {
        branches: B256HashMap::from_iter([(hash, Arc::new(head))]),
        finals: VecDeque::new(),
        durable: (height, hash),
        recent: VecDeque::new(),
        adopted: None,
        executions: 0,
    })
}
