//! A state in pieces that another node can build the same state from: written in the order of keys, read back in that order.
//!
//! A piece is a run of records, integers big-endian; a hashed key is what the trie has in place of an address or a slot:
//!
//! ```text
//! 1 code      length (4), code
//! 2 account   hashed key (32), record of the account's leaf (`state.rs`; its node's id says nothing)
//! 3 slot      hashed key (32), record of the slot's leaf; of the account before it, perhaps in an earlier piece
//! ```
//!
//! All codes come first, then accounts by key, each with its slots by key. Whoever loads them holds one piece at a time, and
//! what it built counts only once its root is the one that is wanted: until then the store shows nothing of it.

use crate::block::{self, Decision, Head};
use crate::chunks;
use crate::errors::{Error, Result};
use crate::history::History;
use crate::site::{Put, Site, append};
use crate::sparse::Dead;
use crate::state::{AccountLeaf, EMPTY, Root, SlotLeaf, StateTrie};
use crate::store::{Batch, Change, Store, Table};
use crate::sweep::Sweep;
use crate::trie::NodeSource;
use crate::trie_node::{Leaf, NodeId, NodeWriter, Reader};
use crate::trie_update::Item;
use alloy_primitives::{B256, Bytes, U256, keccak256};
use alloy_trie::{KECCAK_EMPTY, Nibbles};
use std::collections::HashSet;

const CODE: u8 = 1;
const ACCOUNT: u8 = 2;
const SLOT: u8 = 3;
/// Of one code; a chain of ours has at most 24 KiB (EIP-170), others may differ.
const MAX_CODE_BYTES: usize = 16 << 20;
/// Accounts that one look for codes visits.
const ACCOUNTS_AT_ONCE: usize = 50_000;
/// Headers that come with a state: BLOCKHASH sees so many, and the block itself.
pub const MAX_HEADS: usize = 257;

// ---- writing pieces

/// Where the next piece begins.
enum Place {
    /// After the code with this hash.
    Code(Vec<u8>),
    /// At the first account from this key on.
    Account(B256),
    /// Within an account, at the first slot from this key on.
    Slot(B256, B256),
}

impl Place {
    fn read(cursor: &[u8]) -> Result<Place> {
        let hash = |bytes: &[u8]| B256::from_slice(bytes);
        Ok(match (cursor.first(), cursor.len()) {
            (None, _) => Place::Code(vec![0]),
            (Some(0), 33) => Place::Code(cursor[1..].to_vec()),
            (Some(1), 33) => Place::Account(hash(&cursor[1..])),
            (Some(2), 65) => Place::Slot(hash(&cursor[1..33]), hash(&cursor[33..])),
            _ => return Err(Error::invalid(format!("cursor: {} bytes of no kind that is known", cursor.len()))),
        })
    }

    fn write(&self) -> Vec<u8> {
        match self {
            Place::Code(hash) => [&[0], hash.as_slice()].concat(),
            Place::Account(key) => [&[1], key.as_slice()].concat(),
            Place::Slot(account, key) => [&[2], account.as_slice(), key.as_slice()].concat(),
        }
    }
}

/// The key after this one.
fn after(key: &B256) -> Option<B256> {
    U256::from_be_bytes(key.0).checked_add(U256::from(1)).map(B256::from)
}

/// The piece of a state that begins at a cursor (empty: at the beginning) and ends soon after `limit` bytes, and the cursor of
/// what follows; None: that was all.
pub fn export(trie: &StateTrie, cursor: &[u8], limit: usize) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    let mut out = Vec::new();
    let mut place = Place::read(cursor)?;
    if let Place::Code(mut last) = place {
        while let Some((hash, code)) = trie.source.snapshot().next(Table::Codes, &last)? {
            write_code(&code, &mut out);
            last = hash;
            if out.len() >= limit {
                return Ok((out, Some(Place::Code(last).write())));
            }
        }
        place = Place::Account(B256::ZERO);
    }
    let mut first = B256::ZERO;
    match place {
        Place::Slot(account, slot) => {
            let leaf = trie.source.find::<AccountLeaf>(trie.root.id, &account)?;
            let storage = leaf.map_or(EMPTY, |leaf| leaf.storage);
            if let Some(next) = export_slots(&trie.source, &storage, &slot, limit, &mut out)? {
                return Ok((out, Some(Place::Slot(account, next).write())));
            }
            match after(&account) {
                Some(next) => first = next,
                None => return Ok((out, None)),
            }
        }
        Place::Account(key) => first = key,
        Place::Code(_) => {}
    }
    let mut next = None;
    trie.source.walk_from::<AccountLeaf>(trie.root.id, &first, &mut |key, leaf| {
        if out.len() >= limit {
            next = Some(Place::Account(key).write());
            return Ok(false);
        }
        out.push(ACCOUNT);
        out.extend_from_slice(key.as_slice());
        without_place(&leaf).write_record(&mut out);
        let rest = export_slots(&trie.source, &leaf.storage, &B256::ZERO, limit, &mut out)?;
        next = rest.map(|slot| Place::Slot(key, slot).write());
        Ok(next.is_none())
    })?;
    Ok((out, next))
}

pub fn write_code(code: &[u8], out: &mut Vec<u8>) {
    out.push(CODE);
    out.extend_from_slice(&(code.len() as u32).to_be_bytes());
    out.extend_from_slice(code);
}

/// Where the nodes of its storage lie differs from node to node; what is told must not.
fn without_place(leaf: &AccountLeaf) -> AccountLeaf {
    let nowhere = NodeId { version: 0, offset: 0 };
    let storage = Root { hash: leaf.storage.hash, id: leaf.storage.id.map(|_| nowhere) };
    AccountLeaf { account: leaf.account.clone(), storage }
}

/// The cursor of the first piece behind the codes.
pub fn after_codes() -> Vec<u8> {
    Place::Account(B256::ZERO).write()
}

/// The codes of some accounts from a key on, by hash, and the key of the next one.
pub fn list_codes(trie: &StateTrie, first: &B256) -> Result<(Vec<B256>, Option<B256>)> {
    let (mut found, mut next, mut count) = (Vec::new(), None, 0);
    trie.source.walk_from::<AccountLeaf>(trie.root.id, first, &mut |key, leaf| {
        if count == ACCOUNTS_AT_ONCE {
            next = Some(key);
            return Ok(false);
        }
        count += 1;
        if leaf.account.code_hash != KECCAK_EMPTY {
            found.push(leaf.account.code_hash);
        }
        Ok(true)
    })?;
    Ok((found, next))
}

/// The first slot that did not find room, if any.
fn export_slots(
    source: &NodeSource,
    storage: &Root,
    first: &B256,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<Option<B256>> {
    let mut next = None;
    source.walk_from::<SlotLeaf>(storage.id, first, &mut |key, leaf| {
        if out.len() >= limit {
            next = Some(key);
            return Ok(false);
        }
        out.push(SLOT);
        out.extend_from_slice(key.as_slice());
        leaf.write_record(out);
        Ok(true)
    })?;
    Ok(next)
}

// ---- loading pieces

/// An account whose slots are not complete.
struct Open {
    key: B256,
    declared: AccountLeaf,
    storage: Root,
    last_slot: Option<B256>,
}

/// A state that is being built.
pub struct Loading {
    site: Site,
    root: Root,
    last_account: Option<B256>,
    open: Option<Open>,
    /// Accounts that are complete and not in the trie yet.
    complete: Vec<Item<Put<AccountLeaf>>>,
    accounts: u64,
    is_broken: bool,
}

impl Loading {
    /// Begin; what an earlier attempt left above `durable` goes.
    pub fn start(store: &Store, durable: u64, height: u64) -> Result<Loading> {
        Ok(Loading {
            site: Site::clear(store, durable, height)?,
            root: EMPTY,
            last_account: None,
            open: None,
            complete: Vec::new(),
            accounts: 0,
            is_broken: false,
        })
    }

    pub fn height(&self) -> u64 {
        self.site.height()
    }

    pub fn accounts(&self) -> u64 {
        self.accounts
    }

    /// It is installed.
    pub fn keep(&mut self) {
        self.site.keep();
    }

    /// Load the next piece. Raises Invalid for one that is malformed or out of order, and then for all that follow.
    pub fn add(&mut self, piece: &[u8]) -> Result<()> {
        if self.is_broken {
            return Err(Error::invalid("state: an earlier piece was refused"));
        }
        self.is_broken = true;
        self.load(piece).map_err(|error| match error {
            // What a reader says of records that end too soon is the sender's fault here.
            Error::Corrupt(message) => Error::Invalid(message),
            error => error,
        })?;
        self.is_broken = false;
        Ok(())
    }

    fn load(&mut self, piece: &[u8]) -> Result<()> {
        let source = self.site.source()?;
        let mut writer = self.site.writer();
        let mut batch = Batch::new();
        let mut dead = Dead::default();
        let mut codes: HashSet<B256> = HashSet::new();
        let mut slots: Vec<Item<Put<SlotLeaf>>> = Vec::new();
        let mut reader = Reader::new(piece);
        while !reader.is_empty() {
            match reader.byte()? {
                CODE => {
                    let length = u32::from_be_bytes(*reader.array()?) as usize;
                    if length > MAX_CODE_BYTES || self.open.is_some() {
                        return Err(Error::invalid(format!(
                            "state: a code of {length} bytes, expected at most {MAX_CODE_BYTES} and before all accounts"
                        )));
                    }
                    let code = Bytes::copy_from_slice(reader.take(length)?);
                    let hash = keccak256(&code);
                    codes.insert(hash);
                    batch.push(Change::Put(Table::Codes, hash.to_vec(), code));
                }
                ACCOUNT => {
                    self.close_account(&source, &mut slots, &mut writer, &mut dead)?;
                    let key = reader.hash()?;
                    let declared = AccountLeaf::read_record(&mut reader)?;
                    self.open_account(&source, key, declared, &codes)?;
                }
                SLOT => {
                    let key = reader.hash()?;
                    let leaf = SlotLeaf::read_record(&mut reader)?;
                    let Some(open) = &mut self.open else {
                        return Err(Error::invalid("state: a slot, expected an account before it"));
                    };
                    let last =
                        slots.last().map(|item| item.key).or(open.last_slot.map(|key| Nibbles::unpack_array(&key.0)));
                    let place = Nibbles::unpack_array(&key.0);
                    if leaf.0.is_zero() || last.is_some_and(|last| last >= place) {
                        return Err(Error::invalid(format!("state: slot {key}, expected not zero and in order")));
                    }
                    slots.push(Item { key: place, edit: Put(leaf) });
                }
                kind => return Err(Error::invalid(format!("state: a record of kind {kind}, expected 1, 2 or 3"))),
            }
        }
        self.add_slots(&source, &mut slots, &mut writer, &mut dead)?;
        self.add_accounts(&source, &mut writer, &mut dead)?;
        self.site.write(batch, writer.finish(), dead, &source)
    }

    fn open_account(
        &mut self,
        source: &NodeSource,
        key: B256,
        declared: AccountLeaf,
        codes: &HashSet<B256>,
    ) -> Result<()> {
        if self.last_account.is_some_and(|last| last >= key) {
            return Err(Error::invalid(format!("state: account {key}, expected in order")));
        }
        let hash = declared.account.code_hash;
        let is_there = hash == KECCAK_EMPTY
            || codes.contains(&hash)
            || source.snapshot().get(Table::Codes, hash.as_slice())?.is_some();
        if !is_there {
            return Err(Error::invalid(format!("state: account {key}: code {hash} is not there, expected before it")));
        }
        self.last_account = Some(key);
        self.accounts += 1;
        self.open = Some(Open { key, declared, storage: EMPTY, last_slot: None });
        Ok(())
    }

    fn add_slots(
        &mut self,
        source: &NodeSource,
        slots: &mut Vec<Item<Put<SlotLeaf>>>,
        writer: &mut NodeWriter,
        dead: &mut Dead,
    ) -> Result<()> {
        let (Some(open), Some(last)) = (&mut self.open, slots.last()) else {
            return Ok(());
        };
        let last = B256::from_slice(&last.key.pack());
        open.storage = append(source, open.storage, slots, writer, dead)?;
        open.last_slot = Some(last);
        slots.clear();
        Ok(())
    }

    fn close_account(
        &mut self,
        source: &NodeSource,
        slots: &mut Vec<Item<Put<SlotLeaf>>>,
        writer: &mut NodeWriter,
        dead: &mut Dead,
    ) -> Result<()> {
        self.add_slots(source, slots, writer, dead)?;
        let Some(Open { key, declared, storage, .. }) = self.open.take() else { return Ok(()) };
        if storage.hash != declared.storage.hash {
            return Err(Error::invalid(format!(
                "state: account {key}: storage root {}, expected {}",
                storage.hash, declared.storage.hash
            )));
        }
        let leaf = AccountLeaf { account: declared.account, storage };
        self.complete.push(Item { key: Nibbles::unpack_array(&key.0), edit: Put(leaf) });
        Ok(())
    }

    fn add_accounts(&mut self, source: &NodeSource, writer: &mut NodeWriter, dead: &mut Dead) -> Result<()> {
        self.root = append(source, self.root, &self.complete, writer, dead)?;
        self.complete.clear();
        Ok(())
    }

    /// Complete the state: its root.
    pub fn complete(&mut self) -> Result<Root> {
        if self.is_broken {
            return Err(Error::invalid("state: an earlier piece was refused"));
        }
        let source = self.site.source()?;
        let mut writer = self.site.writer();
        let mut dead = Dead::default();
        self.close_account(&source, &mut Vec::new(), &mut writer, &mut dead)?;
        self.add_accounts(&source, &mut writer, &mut dead)?;
        self.site.write(Batch::new(), writer.finish(), dead, &source)?;
        Ok(self.root)
    }
}

// ---- what comes with a state

/// The headers that a state comes with, oldest first, the last one its own. Raises Invalid unless each names the one before.
pub fn read_heads(records: &[Vec<u8>], height: u64) -> Result<Vec<Head>> {
    if records.is_empty() || records.len() > MAX_HEADS || records.len() as u64 > height {
        return Err(Error::invalid(format!("{} headers, expected 1 to {MAX_HEADS}, none of genesis", records.len())));
    }
    let first = height + 1 - records.len() as u64;
    let mut heads: Vec<Head> = Vec::with_capacity(records.len());
    for (record, number) in records.iter().zip(first..) {
        let mut head = block::decode_head(number, record).map_err(|error| Error::invalid(error.to_string()))?;
        let hash = head.header.hash_slow();
        if head.hash != hash || head.header.number != number {
            return Err(Error::invalid(format!(
                "header {} with hash {hash}, expected {number} with {}",
                head.header.number, head.hash
            )));
        }
        if heads.last().is_some_and(|parent| parent.hash != head.header.parent_hash) {
            return Err(Error::invalid(format!(
                "header {number}: parent {}, expected the header before it",
                head.header.parent_hash
            )));
        }
        head.root.id = None;
        heads.push(head);
    }
    Ok(heads)
}

/// What makes a built state the one that the store shows: everything else is pruned but genesis, and is to be swept away.
pub fn batch_install(mut heads: Vec<Head>, root: Root, decision: &Decision, note: &[u8]) -> Result<Batch> {
    let Some(last) = heads.last_mut() else { return Err(Error::invalid("0 headers, expected at least one")) };
    if last.header.state_root != root.hash {
        return Err(Error::invalid(format!(
            "height {}: state root {}, expected {}",
            last.header.number, root.hash, last.header.state_root
        )));
    }
    last.root = root;
    let height = last.header.number;
    let first = heads[0].header.number;
    let mut batch = vec![Change::Delete(Table::Meta, block::TIPS.to_vec())];
    Sweep::new(height, first).put(&mut batch);
    chunks::batch_forget(&mut batch);
    for head in &heads {
        let number = head.header.number;
        batch.push(Change::Put(Table::Blocks, block::key(number, block::HEAD), block::encode_head(head).into()));
        batch.push(Change::Put(Table::Index, head.hash.to_vec(), block::index_value(number, None)));
    }
    let (envelope, certificate, payloads) = decision;
    let record = block::encode_decision(envelope, certificate, payloads);
    batch.push(Change::Put(Table::Blocks, block::key(height, block::DECISION), record.into()));
    History { states: height, blocks: height + 1, headers: first }.put(&mut batch);
    batch.push(Change::Put(Table::Meta, b"format".to_vec(), crate::tree_store::PRUNED_FORMAT.into()));
    batch.push(Change::Put(Table::Meta, NOTE.to_vec(), Bytes::copy_from_slice(note)));
    Ok(batch)
}

/// In table `Meta`: what whoever installed a state wants to remember with it.
pub const NOTE: &[u8] = b"note";
