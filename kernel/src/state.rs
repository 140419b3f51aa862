//! The state after a block: reading it at any executed or stored block, and what a block's changes make of it.

use crate::errors::{Error, Result};
use crate::keccak_lanes::hash_many;
use crate::store::{Snapshot, Store, Table};
use crate::trie::{Layer, NodeSource, Origin};
use crate::trie_node::{Chunks, Leaf, NodeId, NodeWriter, Reader};
use crate::trie_update::{Edit, Item, LANES, PARALLEL_EDITS, Top, update, update_in_lanes};
use crate::types::{Account, AccountChange, Rebase, StateChanges, StateRead};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Encodable;
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY, Nibbles, TrieAccount};
use parking_lot::Mutex;
use rayon::prelude::*;
use std::borrow::Cow;
use std::sync::Arc;

/// BLOCKHASH sees so many ancestors.
const HASHES_OF_ANCESTORS: u64 = 256;

/// The top of a trie: its root hash, and where the node is (None for the empty trie).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root {
    pub hash: B256,
    pub id: Option<NodeId>,
}

pub const EMPTY: Root = Root { hash: EMPTY_ROOT_HASH, id: None };

impl Root {
    pub fn after(self, top: Top) -> Root {
        match top {
            Top::Unchanged => self,
            Top::Changed(None) => EMPTY,
            Top::Changed(Some(link)) => Root { hash: link.reference.root(), id: Some(link.id) },
        }
    }
}

// ---- leaves

/// What the account trie holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountLeaf {
    pub account: Account,
    pub storage: Root,
}

const HAS_CODE: u8 = 0x10;
const HAS_STORAGE: u8 = 0x20;

/// Flags and length of the nonce (1), length of the balance (1), nonce, balance, then code hash (32), then storage root
/// (32) and its node's id, where the flags say so.
impl Leaf for AccountLeaf {
    fn write_record(&self, out: &mut Vec<u8>) {
        let Account { nonce, balance, code_hash } = &self.account;
        let (nonce, balance) = (nonce.to_be_bytes(), balance.to_be_bytes::<32>());
        let (nonce, balance) = (without_zeros(&nonce), without_zeros(&balance));
        let has_code = if *code_hash == KECCAK_EMPTY { 0 } else { HAS_CODE };
        let has_storage = if self.storage.id.is_none() { 0 } else { HAS_STORAGE };
        out.extend_from_slice(&[nonce.len() as u8 | has_code | has_storage, balance.len() as u8]);
        out.extend_from_slice(nonce);
        out.extend_from_slice(balance);
        if has_code != 0 {
            out.extend_from_slice(code_hash.as_slice());
        }
        if let Some(id) = self.storage.id {
            out.extend_from_slice(self.storage.hash.as_slice());
            id.write(out);
        }
    }

    fn read_record(record: &mut Reader<'_>) -> Result<Self> {
        let [flags, balance_bytes] = *record.array::<2>()?;
        let nonce_bytes = (flags & 0x0f) as usize;
        if nonce_bytes > 8 || balance_bytes > 32 {
            return Err(Error::corrupt(format!(
                "account: nonce of {nonce_bytes} and balance of {balance_bytes} bytes, expected at most 8 and 32"
            )));
        }
        let mut nonce = [0u8; 8];
        nonce[8 - nonce_bytes..].copy_from_slice(record.take(nonce_bytes)?);
        let balance = U256::from_be_slice(record.take(balance_bytes as usize)?);
        let code_hash = if flags & HAS_CODE != 0 { record.hash()? } else { KECCAK_EMPTY };
        let storage =
            if flags & HAS_STORAGE != 0 { Root { hash: record.hash()?, id: Some(record.id()?) } } else { EMPTY };
        Ok(AccountLeaf { account: Account { nonce: u64::from_be_bytes(nonce), balance, code_hash }, storage })
    }

    fn write_value(&self, out: &mut Vec<u8>) {
        let Account { nonce, balance, code_hash } = self.account;
        TrieAccount { nonce, balance, storage_root: self.storage.hash, code_hash }.encode(out);
    }
}

/// What a storage trie holds; never zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotLeaf(pub U256);

impl Leaf for SlotLeaf {
    fn write_record(&self, out: &mut Vec<u8>) {
        let value = self.0.to_be_bytes::<32>();
        let value = without_zeros(&value);
        out.push(value.len() as u8);
        out.extend_from_slice(value);
    }

    fn read_record(record: &mut Reader<'_>) -> Result<Self> {
        let length = record.byte()?;
        if length > 32 {
            return Err(Error::corrupt(format!("storage: a value of {length} bytes, expected at most 32")));
        }
        Ok(SlotLeaf(U256::from_be_slice(record.take(length as usize)?)))
    }

    fn write_value(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|&&byte| byte == 0).count()..]
}

// ---- reading

/// The nodes of some state and its top.
pub struct StateTrie {
    pub source: NodeSource,
    pub root: Root,
}

impl StateTrie {
    pub fn account(&self, address: &Address) -> Result<Option<AccountLeaf>> {
        self.source.find(self.root.id, &keccak256(address))
    }

    pub fn slot(&self, storage: &Root, slot: &U256) -> Result<U256> {
        let leaf = self.source.find::<SlotLeaf>(storage.id, &keccak256(slot.to_be_bytes::<32>()))?;
        Ok(leaf.map_or(U256::ZERO, |leaf| leaf.0))
    }
}

/// What one executed block that is not durable yet adds to its parent.
pub struct BlockLayer {
    pub nodes: Arc<Layer>,
    pub codes: Vec<(B256, Bytes)>,
    pub hash: B256,
}

/// The state after an executed or stored block. It keeps one snapshot of the store; threads take turns.
pub struct StateAt {
    number: u64,
    hash: B256,
    /// Of the blocks from the store's to this one, ascending without gaps.
    layers: Vec<Arc<BlockLayer>>,
    /// Those of them that bring code: most do not, and there may be hundreds.
    coded: Vec<Arc<BlockLayer>>,
    trie: Mutex<Cached>,
}

/// The trie with the storage root that was asked for last, since execution reads many slots of one account in a row.
struct Cached {
    trie: StateTrie,
    account: Option<(Address, Root)>,
}

impl StateAt {
    /// `layers` are those of the block itself and of its ancestors that were not durable when they were collected, which
    /// must be before this call.
    pub fn new(store: &Store, layers: Vec<Arc<BlockLayer>>, number: u64, hash: B256, root: Root) -> Result<StateAt> {
        let nodes = layers.iter().map(|layer| layer.nodes.clone()).collect();
        let trie = StateTrie { source: Origin { layers: nodes, store: store.clone() }.open()?, root };
        let coded = layers.iter().filter(|layer| !layer.codes.is_empty()).cloned().collect();
        Ok(StateAt { number, hash, layers, coded, trie: Mutex::new(Cached { trie, account: None }) })
    }

    /// The state after a block that a snapshot holds, read through that snapshot alone: what is not final may change.
    pub fn stored(store: &Store, snapshot: Snapshot, number: u64, hash: B256, root: Root) -> StateAt {
        let origin = Origin { layers: Arc::new([]), store: store.clone() };
        let trie = StateTrie { source: origin.over(snapshot), root };
        StateAt {
            number,
            hash,
            layers: Vec::new(),
            coded: Vec::new(),
            trie: Mutex::new(Cached { trie, account: None }),
        }
    }

    /// Use the trie while no other thread does.
    pub fn with_trie<T>(&self, read: impl FnOnce(&StateTrie) -> Result<T>) -> Result<T> {
        read(&self.trie.lock().trie)
    }

    /// The root after `changes`, and the nodes that they add under `version`.
    pub fn apply(&self, changes: &StateChanges, version: u64) -> Result<(Root, Layer)> {
        let (origin, root) = {
            let cached = self.trie.lock();
            (cached.trie.source.origin().clone(), cached.trie.root)
        };
        apply(&StateTrie { source: origin.open()?, root }, changes, version)
    }

    pub fn account_leaf(&self, address: &Address) -> Result<Option<AccountLeaf>> {
        self.trie.lock().trie.account(address)
    }

    /// Account (None if absent) with its proof, and for each slot value and proof (EIP-1186).
    #[allow(clippy::type_complexity)]
    pub fn prove(
        &self,
        address: &Address,
        slots: &[B256],
    ) -> Result<(Option<AccountLeaf>, Vec<Bytes>, Vec<(U256, Vec<Bytes>)>)> {
        self.with_trie(|trie| {
            let account = trie.account(address)?;
            let proof = trie.source.prove::<AccountLeaf>(trie.root.id, &keccak256(address))?;
            let storage = account.as_ref().map_or(EMPTY, |leaf| leaf.storage);
            let prove_slot = |slot: &B256| {
                let value = trie.slot(&storage, &U256::from_be_bytes(slot.0))?;
                Ok((value, trie.source.prove::<SlotLeaf>(storage.id, &keccak256(slot))?))
            };
            let slots = slots.iter().map(prove_slot).collect::<Result<_>>()?;
            Ok((account, proof, slots))
        })
    }
}

impl StateRead for StateAt {
    fn account(&self, address: &Address) -> Result<Option<Account>> {
        let mut cached = self.trie.lock();
        let leaf = cached.trie.account(address)?;
        cached.account = Some((*address, leaf.as_ref().map_or(EMPTY, |leaf| leaf.storage)));
        Ok(leaf.map(|leaf| leaf.account))
    }

    fn storage(&self, address: &Address, slot: &U256) -> Result<U256> {
        let mut cached = self.trie.lock();
        let storage = match cached.account {
            Some((last, storage)) if last == *address => storage,
            _ => {
                let storage = cached.trie.account(address)?.map_or(EMPTY, |leaf| leaf.storage);
                cached.account = Some((*address, storage));
                storage
            }
        };
        cached.trie.slot(&storage, slot)
    }

    fn code(&self, code_hash: &B256) -> Result<Bytes> {
        if *code_hash == KECCAK_EMPTY {
            return Ok(Bytes::new());
        }
        for layer in self.coded.iter().rev() {
            if let Some((_, code)) = layer.codes.iter().find(|(hash, _)| hash == code_hash) {
                return Ok(code.clone());
            }
        }
        let cached = self.trie.lock();
        let code = cached.trie.source.snapshot().get(Table::Codes, code_hash.as_slice())?;
        let code =
            code.ok_or_else(|| Error::corrupt(format!("code {code_hash}: not stored, expected by an account")))?;
        Ok(code.into_bytes())
    }

    fn block_hash(&self, number: u64) -> Result<B256> {
        if number == self.number {
            return Ok(self.hash);
        }
        // Execution of the block after this one may look back `HASHES_OF_ANCESTORS` from its own height.
        if number > self.number || self.number - number >= HASHES_OF_ANCESTORS {
            return Ok(B256::ZERO);
        }
        let first = self.layers.first().map_or(u64::MAX, |layer| layer.nodes.version);
        if number >= first {
            return Ok(self.layers.get((number - first) as usize).map_or(B256::ZERO, |layer| layer.hash));
        }
        let cached = self.trie.lock();
        let hash = crate::block::stored_hash(cached.trie.source.snapshot(), number)?;
        Ok(hash.unwrap_or_default())
    }
}

// ---- changing

/// What becomes of an account's storage.
enum StorageEdit {
    Keep,
    Set(Root),
}

struct AccountEdit<'a> {
    account: Option<&'a Account>,
    storage: StorageEdit,
}

impl Edit for AccountEdit<'_> {
    type Leaf = AccountLeaf;

    fn apply(&self, old: Option<&AccountLeaf>) -> Option<AccountLeaf> {
        let account = self.account?.clone();
        let storage = match self.storage {
            StorageEdit::Keep => old.map_or(EMPTY, |leaf| leaf.storage),
            StorageEdit::Set(root) => root,
        };
        Some(AccountLeaf { account, storage })
    }
}

struct SlotEdit(U256);

impl Edit for SlotEdit {
    type Leaf = SlotLeaf;

    fn apply(&self, _old: Option<&SlotLeaf>) -> Option<SlotLeaf> {
        (!self.0.is_zero()).then_some(SlotLeaf(self.0))
    }
}

/// A run of changed accounts whose storage is updated by one task.
struct Task<'a> {
    /// Places in the list of changes.
    accounts: Vec<(usize, B256, &'a AccountChange)>,
    slots: usize,
    first_lane: usize,
}

impl Task<'_> {
    /// A task of one account with many slots is itself divided.
    fn lanes(&self) -> usize {
        if self.accounts.len() == 1 && self.slots >= PARALLEL_EDITS { LANES } else { 1 }
    }
}

/// The trie after `changes`: its root, and the nodes to add under `version`. The same on any number of cores.
pub fn apply(trie: &StateTrie, changes: &StateChanges, version: u64) -> Result<(Root, Layer)> {
    let roots = Roots::new(trie.root, changes.base.as_ref());
    let all = roots.all_changes(trie, &changes.accounts)?;
    let accounts: &[AccountChange] = &all;
    let slots: usize = accounts.iter().map(|change| change.slots.len()).sum();
    let mut hashes = Vec::with_capacity(accounts.len());
    hash_many(accounts.iter().map(|change| change.address.as_slice()), &mut hashes);
    let in_lanes = accounts.len() >= PARALLEL_EDITS || slots >= PARALLEL_EDITS;
    let (tasks, lanes) = divide(accounts, &hashes, if in_lanes { PARALLEL_EDITS / 4 } else { usize::MAX });
    // The last lanes belong to the account trie.
    let total = if in_lanes { lanes + LANES } else { 1 };
    let mut writer = NodeWriter::new(version, 0, total);
    let mut chunks = Chunks::new();
    let mut storages: Vec<Option<Root>> = vec![None; accounts.len()];
    if in_lanes {
        let (origin, root) = (trie.source.origin(), trie.root);
        let run = |task: &Task<'_>| {
            let trie = StateTrie { source: origin.open()?, root };
            run_task_in_lanes(&trie, &roots, task, version, total)
        };
        for (roots, task_chunks) in tasks.par_iter().map(run).collect::<Result<Vec<_>>>()? {
            roots.into_iter().for_each(|(place, root)| storages[place] = Some(root));
            chunks.extend(task_chunks);
        }
    } else {
        for task in &tasks {
            for (place, root) in update_storages(trie, &roots, task, &mut writer)? {
                storages[place] = Some(root);
            }
        }
    }
    let mut items: Vec<Item<AccountEdit<'_>>> = Vec::with_capacity(accounts.len());
    for ((change, hash), storage) in accounts.iter().zip(&hashes).zip(storages) {
        let storage = match storage {
            None if roots.keeps(&change.address) => Some(old_storage(trie, &roots, hash, change)?),
            other => other,
        };
        let storage = storage.map_or(StorageEdit::Keep, StorageEdit::Set);
        let edit = AccountEdit { account: change.account.as_ref(), storage };
        items.push(Item { key: Nibbles::unpack_array(&hash.0), edit });
    }
    items.sort_unstable_by_key(|item| item.key);
    let top = if in_lanes {
        let (top, more) = update_in_lanes(&trie.source, roots.base.id, &items, version, lanes, total)?;
        chunks.extend(more.into_iter().flatten());
        top
    } else if items.is_empty() {
        Top::Unchanged
    } else {
        update(&trie.source, roots.base.id, &items, &mut writer)?
    };
    chunks.extend(writer.finish());
    chunks.sort_unstable_by_key(|(number, _)| *number);
    Ok((roots.base.after(top), Layer { version, chunks }))
}

/// What changes apply to: the state itself, or an older one but for a few accounts, whose storage is taken over by name.
struct Roots<'a> {
    current: Root,
    base: Root,
    kept: &'a [Address],
}

impl<'a> Roots<'a> {
    fn new(current: Root, base: Option<&'a Rebase>) -> Roots<'a> {
        match base {
            None => Roots { current, base: current, kept: &[] },
            Some(Rebase { root, kept }) => Roots { current, base: *root, kept },
        }
    }

    fn keeps(&self, address: &Address) -> bool {
        self.kept.binary_search(address).is_ok()
    }

    fn of(&self, address: &Address) -> Root {
        if self.keeps(address) { self.current } else { self.base }
    }

    /// The changes, and those of accounts that stay as they are in the current state, which the base may have otherwise.
    fn all_changes<'c>(&self, trie: &StateTrie, changed: &'c [AccountChange]) -> Result<Cow<'c, [AccountChange]>> {
        let mut all = Cow::Borrowed(changed);
        for address in self.kept {
            if changed.binary_search_by_key(address, |change| change.address).is_err() {
                let account = trie.account(address)?.map(|leaf| leaf.account);
                let change = AccountChange { address: *address, account, storage_wiped: false, slots: Vec::new() };
                all.to_mut().push(change);
            }
        }
        Ok(all)
    }
}

/// Tasks of about `size` slots each, in the order of accounts, and how many lanes they take.
fn divide<'a>(accounts: &'a [AccountChange], hashes: &[B256], size: usize) -> (Vec<Task<'a>>, usize) {
    let mut tasks: Vec<Task<'a>> = Vec::new();
    let mut lanes = 0;
    for (place, change) in accounts.iter().enumerate() {
        // An account that is removed needs nothing; one that keeps its storage is not looked at.
        if change.account.is_none() || (change.slots.is_empty() && !change.storage_wiped) {
            continue;
        }
        let entry = (place, hashes[place], change);
        match tasks.last_mut() {
            Some(task) if task.slots.saturating_add(change.slots.len()) <= size => {
                task.slots += change.slots.len();
                task.accounts.push(entry);
            }
            _ => {
                lanes += tasks.last().map_or(0, Task::lanes);
                tasks.push(Task { accounts: vec![entry], slots: change.slots.len(), first_lane: lanes });
            }
        }
    }
    lanes += tasks.last().map_or(0, Task::lanes);
    (tasks, lanes)
}

fn run_task_in_lanes(
    trie: &StateTrie,
    roots: &Roots<'_>,
    task: &Task<'_>,
    version: u64,
    lanes: usize,
) -> Result<(Vec<(usize, Root)>, Chunks)> {
    if let [(place, hash, change)] = task.accounts[..]
        && task.lanes() > 1
    {
        let old = old_storage(trie, roots, &hash, change)?;
        let items = slot_items(change);
        let (top, chunks) = update_in_lanes(&trie.source, old.id, &items, version, task.first_lane, lanes)?;
        return Ok((vec![(place, old.after(top))], chunks.into_iter().flatten().collect()));
    }
    let mut writer = NodeWriter::new(version, task.first_lane, lanes);
    let storages = update_storages(trie, roots, task, &mut writer)?;
    Ok((storages, writer.finish()))
}

fn update_storages(
    trie: &StateTrie,
    roots: &Roots<'_>,
    task: &Task<'_>,
    writer: &mut NodeWriter,
) -> Result<Vec<(usize, Root)>> {
    let mut storages = Vec::with_capacity(task.accounts.len());
    for (place, hash, change) in &task.accounts {
        let old = old_storage(trie, roots, hash, change)?;
        let items = slot_items(change);
        let top = if items.is_empty() { Top::Unchanged } else { update(&trie.source, old.id, &items, writer)? };
        storages.push((*place, old.after(top)));
    }
    Ok(storages)
}

fn old_storage(trie: &StateTrie, roots: &Roots<'_>, hash: &B256, change: &AccountChange) -> Result<Root> {
    if change.storage_wiped {
        return Ok(EMPTY);
    }
    let root = roots.of(&change.address);
    Ok(trie.source.find::<AccountLeaf>(root.id, hash)?.map_or(EMPTY, |leaf| leaf.storage))
}

fn slot_items(change: &AccountChange) -> Vec<Item<SlotEdit>> {
    let words: Vec<[u8; 32]> = change.slots.iter().map(|(slot, _)| slot.to_be_bytes()).collect();
    let mut hashes = Vec::with_capacity(words.len());
    hash_many(words.iter().map(|word| word.as_slice()), &mut hashes);
    let item = |((_, value), hash): (&(U256, U256), B256)| Item {
        key: Nibbles::unpack_array(&hash.0),
        edit: SlotEdit(*value),
    };
    let mut items: Vec<_> = change.slots.iter().zip(hashes).map(item).collect();
    items.sort_unstable_by_key(|item| item.key);
    items
}
