//! A key-value state in pieces, and a store that goes on from one.
//!
//! A piece is a run of entries in the order of their places in the trie:
//!
//! ```text
//! 4 entry     place (32), record of the leaf (`state.rs`)
//! ```

use crate::block::{self, DECISION, Decision, HEAD};
use crate::chunks;
use crate::cutting::Told;
use crate::errors::{Error, Result};
use crate::history::{History, Over};
use crate::keyvalue::core::Core;
use crate::keyvalue::records::{PRUNED_FORMAT, encode_head};
use crate::keyvalue::state::{Entry, Header};
use crate::payload_hash::hash_payload;
use crate::site::{Put, Site, append};
use crate::sparse::Dead;
use crate::state::{EMPTY, Root};
use crate::store::{Batch, Change, Store, Table};
use crate::sweep::Sweep;
use crate::trie_node::{Leaf, NodeId, Reader};
use crate::trie_update::Item;
use alloy_primitives::{B256, Bytes, keccak256};
use alloy_trie::Nibbles;
use std::sync::Arc;

const ENTRY: u8 = 4;

impl Over for Entry {
    fn below(&self) -> Option<NodeId> {
        None
    }
}

/// The state after a block, as others are told it.
pub struct Entries {
    pub core: Arc<Core>,
    pub block: B256,
}

impl Told for Entries {
    fn codes(&self, _: &B256) -> Result<(Vec<B256>, Option<B256>)> {
        Ok((Vec::new(), None))
    }

    fn code(&self, hash: &B256) -> Result<Bytes> {
        Err(Error::unavailable(format!("code {hash}: not known")))
    }

    fn leaves(&self, cursor: &[u8], limit: usize) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
        let first = if cursor.is_empty() { B256::ZERO } else { B256::new(crate::errors::fixed("cursor", cursor)?) };
        let (branch, source) = self.core.state_at(&self.block)?;
        let (mut piece, mut next) = (Vec::new(), None);
        source.walk_from::<Entry>(branch.root.id, &first, &mut |place, entry| {
            if piece.len() >= limit {
                next = Some(place.to_vec());
                return Ok(false);
            }
            piece.push(ENTRY);
            piece.extend_from_slice(place.as_slice());
            entry.write_record(&mut piece);
            Ok(true)
        })?;
        Ok((piece, next))
    }
}

/// A state that is being built.
pub struct Loading {
    site: Site,
    root: Root,
    last: Option<B256>,
    is_broken: bool,
}

impl Loading {
    pub fn start(store: &Store, durable: u64, height: u64) -> Result<Loading> {
        Ok(Loading { site: Site::clear(store, durable, height)?, root: EMPTY, last: None, is_broken: false })
    }

    pub fn height(&self) -> u64 {
        self.site.height()
    }

    /// It is installed.
    pub fn keep(&mut self) {
        self.site.keep();
    }

    /// Load the next pieces. Raises Invalid for what is malformed or out of order, and then for all that follows.
    pub fn add(&mut self, pieces: &[u8]) -> Result<()> {
        if self.is_broken {
            return Err(Error::invalid("state: an earlier piece was refused"));
        }
        self.is_broken = true;
        self.load(pieces).map_err(|error| match error {
            // What a reader says of records that end too soon is the sender's fault here.
            Error::Corrupt(message) => Error::Invalid(message),
            error => error,
        })?;
        self.is_broken = false;
        Ok(())
    }

    fn load(&mut self, pieces: &[u8]) -> Result<()> {
        let mut items: Vec<Item<Put<Entry>>> = Vec::new();
        let mut reader = Reader::new(pieces);
        while !reader.is_empty() {
            let kind = reader.byte()?;
            if kind != ENTRY {
                return Err(Error::invalid(format!("state: a record of kind {kind}, expected {ENTRY}")));
            }
            let place = reader.hash()?;
            if self.last.is_some_and(|last| last >= place) {
                return Err(Error::invalid(format!("state: entry {place}, expected in order")));
            }
            self.last = Some(place);
            let entry = Entry::read_record(&mut reader)?;
            items.push(Item { key: Nibbles::unpack_array(&place.0), edit: Put(entry) });
        }
        let (source, mut writer, mut dead) = (self.site.source()?, self.site.writer(), Dead::default());
        self.root = append(&source, self.root, &items, &mut writer, &mut dead)?;
        self.site.write(Batch::new(), writer.finish(), dead, &source)
    }

    pub fn complete(&self) -> Result<Root> {
        if self.is_broken {
            return Err(Error::invalid("state: an earlier piece was refused"));
        }
        Ok(self.root)
    }
}

/// What makes a built state the one that the store shows.
pub fn batch_install(header: &[u8], height: u64, root: Root, decision: &Decision) -> Result<Batch> {
    let mut reader = Reader::new(header);
    let found = Header::decode(&mut reader).map_err(|error| Error::invalid(error.to_string()))?;
    if found.height != height || !reader.is_empty() {
        return Err(Error::invalid(format!("header of height {}, expected {height} alone", found.height)));
    }
    if found.root != root.hash {
        return Err(Error::invalid(format!("height {height}: state root {}, expected {}", root.hash, found.root)));
    }
    let (envelope, certificate, payloads) = decision;
    let hashes: Vec<u8> = payloads.iter().flat_map(|payload| hash_payload(payload).0).collect();
    if keccak256(hashes) != found.payloads {
        return Err(Error::invalid(format!("height {height}: payloads of another block")));
    }
    let record = block::encode_decision(envelope, certificate, payloads);
    let mut batch = vec![
        Change::Put(Table::Blocks, block::key(height, HEAD), encode_head(&found, root).into()),
        Change::Put(Table::Blocks, block::key(height, DECISION), record.into()),
        Change::Put(Table::Index, found.hash().to_vec(), block::index_value(height, None)),
        Change::Put(Table::Meta, b"format".to_vec(), PRUNED_FORMAT.to_be_bytes().to_vec().into()),
    ];
    History { states: height, blocks: height + 1, headers: height }.put(&mut batch);
    Sweep::new(height, height).put(&mut batch);
    chunks::batch_forget(&mut batch);
    Ok(batch)
}
