//! The tree of executed blocks over the durable ones: what is inside `Ledger`.
//!
//! Blocks are executed speculatively, several on one parent; one of them becomes final; all final ones are written in one
//! transaction by `commit`, on another thread. Only then are their layers dropped, so that a failed commit changes nothing.

use crate::block::{self, BODY, DECISION, Decision, EXTRA, HEAD, Head, RECEIPTS};
use crate::errors::{Error, Result};
use crate::evm;
use crate::genesis::{self, ChainSpec};
use crate::import::Extra;
use crate::payload::Payload;
use crate::state::{BlockLayer, EMPTY, Root, StateAt, StateTrie, apply};
use crate::store::{Batch, Change, Snapshot, Store, Table, required};
use crate::transaction::Senders;
use crate::trie::{Layer, Origin, node_key};
use crate::types::{Chain, Executed, Included, Outcome, Parent, StateChanges, StateRead};
use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes, keccak256};
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

/// Of the layout that `block.rs`, `trie_node.rs` and `codec.rs` describe.
const FORMAT_VERSION: u32 = 1;
/// Executed children of one parent that are kept; the oldest goes first.
const MAX_SIBLINGS: usize = 16;
/// Executed blocks that are not durable, final or not.
const MAX_BRANCHES: usize = 4096;
/// Blocks that are kept after they became durable, for the pool to follow.
const RECENT_BLOCKS: usize = 16;
const CACHED_SENDERS: usize = 1 << 17;

/// An executed block that is not forgotten yet.
struct Branch {
    executed: Arc<Executed>,
    root: Root,
    /// How many there are; a block that was read from the store does not hold them.
    transactions: u32,
    /// None once durable.
    layer: Option<Arc<BlockLayer>>,
    /// What it was executed from.
    cause: B256,
    /// Counts executions: the lower, the older.
    age: u64,
}

/// A final block that is not durable yet.
struct Final {
    branch: Arc<Branch>,
    envelope: B256,
    certificate: Bytes,
    payloads: Vec<Bytes>,
}

struct Tree {
    /// Speculative and final blocks by hash, and the durable one below all.
    branches: HashMap<B256, Arc<Branch>>,
    /// Blocks with the hash of one of `branches` and another cause: payloads that differ in a way that no header shows, such
    /// as milliseconds within one second. Which of them is meant is known when one becomes final.
    twins: VecDeque<Arc<Branch>>,
    /// Ascending from the durable height + 1.
    finals: VecDeque<Arc<Final>>,
    durable: (u64, B256),
    /// The last durable blocks, whose layers are gone.
    recent: VecDeque<Arc<Executed>>,
    executions: u64,
}

impl Tree {
    fn tip(&self) -> (u64, B256) {
        self.finals.back().map_or(self.durable, |last| (last.height(), last.branch.executed.hash))
    }

    /// A block with the layers that lead to it from the durable one.
    fn chain(&self, hash: &B256) -> Option<(Arc<Branch>, Vec<Arc<BlockLayer>>)> {
        let branch = self.branches.get(hash)?.clone();
        let mut layers = Vec::new();
        let mut next = branch.clone();
        while let Some(layer) = &next.layer {
            layers.push(layer.clone());
            next = self.branches.get(&next.executed.header.parent_hash)?.clone();
        }
        layers.reverse();
        Some((branch, layers))
    }

    /// Forget all that is not final and does not descend from the final tip.
    fn forget_losers(&mut self) {
        let (height, tip) = self.tip();
        let mut above: Vec<(u64, B256, B256)> = self.branches.values().map(|branch| branch.place()).collect();
        above.retain(|(number, _, _)| *number > height);
        above.sort_unstable();
        let mut kept = HashSet::from([tip, self.durable.1]);
        kept.extend(self.finals.iter().map(|last| last.branch.executed.hash));
        let mut living = HashSet::from([tip]);
        for (_, hash, parent) in above {
            if living.contains(&parent) {
                living.insert(hash);
            }
        }
        self.branches.retain(|hash, _| kept.contains(hash) || living.contains(hash));
        self.twins.retain(|twin| living.contains(&twin.executed.hash) && twin.executed.hash != tip);
    }

    /// Make room for one more child of `parent`.
    fn bound_siblings(&mut self, parent: &B256) {
        let (height, _) = self.tip();
        let children = self.branches.values().filter(|branch| {
            let (number, _, below) = branch.place();
            below == *parent && number > height
        });
        let mut children: Vec<(u64, B256)> = children.map(|branch| (branch.age, branch.executed.hash)).collect();
        if children.len() < MAX_SIBLINGS {
            return;
        }
        children.sort_unstable();
        let mut forgotten = vec![children[0].1];
        while let Some(hash) = forgotten.pop() {
            self.branches.remove(&hash);
            let orphans = self.branches.values().map(|branch| branch.place()).filter(|(_, _, below)| *below == hash);
            forgotten.extend(orphans.map(|(_, orphan, _)| orphan));
        }
    }
}

impl Final {
    fn height(&self) -> u64 {
        self.branch.executed.header.number
    }
}

/// What `Ledger` and `Pool` share.
pub struct Core {
    store: Store,
    spec: ChainSpec,
    senders: Senders,
    genesis_hash: B256,
    tree: RwLock<Tree>,
    /// Held by whoever changes what is durable.
    writing: Mutex<()>,
}

impl Core {
    /// Open or create; `path` None keeps everything in memory.
    pub fn open(path: Option<&Path>, json: &[u8], map_bytes: usize) -> Result<Core> {
        let store = match path {
            Some(path) => Store::open(path, map_bytes)?,
            None => Store::in_memory(),
        };
        let snapshot = store.snapshot()?;
        check_format(&store, &snapshot)?;
        if block::durable_height(&snapshot)?.is_none() {
            create_genesis(&store, json)?;
        }
        let genesis_hash = check_genesis(&store, json)?;
        let spec = genesis::parse(json)?.spec;
        let tree = RwLock::new(load_tree(&store)?);
        Ok(Core { store, spec, senders: Senders::new(CACHED_SENDERS), genesis_hash, tree, writing: Mutex::new(()) })
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn genesis_hash(&self) -> B256 {
        self.genesis_hash
    }

    pub fn durable(&self) -> u64 {
        self.tree.read().durable.0
    }

    /// Height and hash of the last final block.
    pub fn tip(&self) -> (u64, B256) {
        self.tree.read().tip()
    }

    /// Raise Invalid unless the payload may follow the executed block `parent`.
    pub fn check(&self, parent: &B256, payload: &[u8], now_ms: u64) -> Result<()> {
        let payload = Payload::parse(payload)?;
        let (header, timestamp_ms) = self.parent(parent)?;
        let parent = Parent { header: &header, hash: *parent, timestamp_ms };
        evm::check_payload(&self.spec, &parent, &payload, now_ms, &self.senders)
    }

    /// Execute on top of `parent`, unless that was done already, and keep the result.
    pub fn execute(&self, parent: &B256, payloads: &[Bytes], parent_envelope: B256) -> Result<Head> {
        let cause = fingerprint(parent, payloads, &parent_envelope);
        let known = {
            let tree = self.tree.read();
            tree.branches.values().chain(&tree.twins).find(|branch| branch.cause == cause).map(|branch| branch.head())
        };
        if let Some(head) = known {
            return Ok(head);
        }
        let Some((branch, state)) = self.branch_and_state(parent)? else {
            return self.executed_before(parent, payloads, parent_envelope);
        };
        let parsed = payloads.iter().map(|payload| Payload::parse(payload)).collect::<Result<Vec<_>>>()?;
        let Executed { header, hash, timestamp_ms, .. } = &*branch.executed;
        let above = Parent { header, hash: *hash, timestamp_ms: *timestamp_ms };
        let outcome = evm::execute_block(&self.spec, &state, &above, &parsed, parent_envelope, &self.senders)?;
        let (root, nodes) = state.apply(&outcome.changes, header.number + 1)?;
        let mut header = outcome.header.clone();
        header.state_root = root.hash;
        let hash = header.hash_slow();
        let (executed, changes) = Executed::new(outcome, header, hash);
        let layer = BlockLayer { nodes: Arc::new(nodes), codes: changes.codes, hash };
        let transactions = executed.included.len() as u32;
        self.add(Branch {
            executed: Arc::new(executed),
            root,
            transactions,
            layer: Some(Arc::new(layer)),
            cause,
            age: 0,
        })
    }

    /// Keep an imported block. Raises Invalid where its state root is not what executing it gave.
    pub fn add_imported(&self, outcome: Outcome, state: &StateAt, hash: B256) -> Result<Head> {
        let number = outcome.header.number;
        let (root, nodes) = state.apply(&outcome.changes, number)?;
        let header = outcome.header.clone();
        if root.hash != header.state_root {
            return Err(Error::invalid(format!(
                "block {number} ({hash}): stateRoot {}, expected {}",
                header.state_root, root.hash
            )));
        }
        let (executed, changes) = Executed::new(outcome, header, hash);
        let layer = BlockLayer { nodes: Arc::new(nodes), codes: changes.codes, hash };
        let transactions = executed.included.len() as u32;
        let (executed, layer) = (Arc::new(executed), Some(Arc::new(layer)));
        self.add(Branch { executed, root, transactions, layer, cause: hash, age: 0 })
    }

    /// Ommers and withdrawals of a final block that was imported; empty for others.
    pub fn extra(&self, height: u64) -> Result<Extra> {
        if let Some(last) = self.waiting(height) {
            let extra = &last.branch.executed.extra;
            return if extra.is_empty() { Ok(Extra::default()) } else { Extra::decode(extra) };
        }
        Ok(block::extra(&self.store.snapshot()?, height)?.unwrap_or_default())
    }

    fn add(&self, mut branch: Branch) -> Result<Head> {
        let mut tree = self.tree.write();
        let (number, hash, parent) = branch.place();
        let head = branch.head();
        if let Some(known) = tree.branches.get(&hash) {
            // Without another cause, another thread was faster.
            if known.cause != branch.cause {
                if tree.twins.len() == MAX_SIBLINGS {
                    tree.twins.pop_front();
                }
                tree.twins.push_back(Arc::new(branch));
            }
            return Ok(head);
        }
        let (height, tip) = tree.tip();
        if !tree.branches.contains_key(&parent) || number <= height || (number == height + 1 && parent != tip) {
            return Err(Error::unavailable(format!("block {parent}: height {height} became final on another branch")));
        }
        if tree.branches.len() >= MAX_BRANCHES {
            return Err(Error::unavailable(format!(
                "height {number}: {} executed blocks wait for the disk, expected fewer than {MAX_BRANCHES}",
                tree.branches.len()
            )));
        }
        tree.bound_siblings(&parent);
        tree.executions += 1;
        branch.age = tree.executions;
        tree.branches.insert(hash, Arc::new(branch));
        Ok(head)
    }

    /// Answer for a height that is final and durable: the engine may deliver it again after a restart.
    fn executed_before(&self, parent: &B256, payloads: &[Bytes], parent_envelope: B256) -> Result<Head> {
        let unknown = || Error::unavailable(format!("block {parent}: not executed here, expected as a parent"));
        let snapshot = self.store.snapshot()?;
        let height = block::height_of(&snapshot, parent)?.ok_or_else(unknown)? + 1;
        let head = block::head(&snapshot, height)?.ok_or_else(unknown)?;
        let (_, _, stored) = block::decision(&snapshot, height)?.ok_or_else(unknown)?;
        let same = head.header.parent_hash == *parent
            && head.header.parent_beacon_block_root == Some(parent_envelope)
            && stored == payloads;
        if same {
            return Ok(head);
        }
        Err(Error::unavailable(format!("block {parent}: height {height} is final with other payloads")))
    }

    /// An executed block by hash, or a stored one.
    pub fn head_by_hash(&self, hash: &B256) -> Result<Option<Head>> {
        if let Some(branch) = self.branch(hash) {
            return Ok(Some(branch.head()));
        }
        let snapshot = self.store.snapshot()?;
        match block::height_of(&snapshot, hash)? {
            Some(height) => block::head(&snapshot, height),
            None => Ok(None),
        }
    }

    /// A final block by height.
    pub fn head_by_height(&self, height: u64) -> Result<Option<Head>> {
        if let Some(last) = self.waiting(height) {
            return Ok(Some(last.branch.head()));
        }
        block::head(&self.store.snapshot()?, height)
    }

    pub fn decision(&self, height: u64) -> Result<Option<Decision>> {
        if let Some(last) = self.waiting(height) {
            return Ok(Some((last.envelope, last.certificate.clone(), last.payloads.clone())));
        }
        block::decision(&self.store.snapshot()?, height)
    }

    /// Make an executed child of the last final block final.
    pub fn finalize(&self, hash: &B256, envelope: B256, certificate: Bytes, payloads: Vec<Bytes>) -> Result<()> {
        let unknown = || Error::unavailable(format!("block {hash}: not executed here"));
        let header = self.branch(hash).ok_or_else(unknown)?.executed.header.clone();
        let cause = fingerprint(&header.parent_hash, &payloads, &header.parent_beacon_block_root.unwrap_or_default());
        let mut tree = self.tree.write();
        let (height, tip) = tree.tip();
        let branch = tree.twins.iter().find(|twin| twin.executed.hash == *hash && twin.cause == cause);
        let branch = branch.or_else(|| tree.branches.get(hash)).cloned().ok_or_else(unknown)?;
        let (number, parent) = (branch.executed.header.number, branch.executed.header.parent_hash);
        if number != height + 1 || parent != tip {
            return Err(Error::invalid(format!(
                "block {hash}: height {number} on {parent}, expected height {} on the last final block {tip}",
                height + 1
            )));
        }
        tree.branches.insert(*hash, branch.clone());
        tree.finals.push_back(Arc::new(Final { branch, envelope, certificate, payloads }));
        tree.forget_losers();
        Ok(())
    }

    /// Write all final blocks in one durable transaction; the durable height.
    pub fn commit(&self) -> Result<u64> {
        let _writing = self.writing.lock();
        let (finals, durable) = {
            let tree = self.tree.read();
            (tree.finals.iter().cloned().collect::<Vec<_>>(), tree.durable.0)
        };
        let Some(last) = finals.last() else { return Ok(durable) };
        let mut batch = Batch::new();
        for block in &finals {
            batch_block(&mut batch, block)?;
        }
        self.store.write(&batch)?;
        let mut tree = self.tree.write();
        tree.finals.drain(..finals.len());
        for block in &finals {
            tree.branches.remove(&block.branch.executed.hash);
            if tree.recent.len() == RECENT_BLOCKS {
                tree.recent.pop_front();
            }
            tree.recent.push_back(block.branch.executed.clone());
        }
        let hash = last.branch.executed.hash;
        let Branch { executed, root, transactions, cause, age, .. } = &*last.branch;
        let (executed, root, transactions, cause, age) = (executed.clone(), *root, *transactions, *cause, *age);
        let bare = Branch { executed, root, transactions, layer: None, cause, age };
        let below = std::mem::replace(&mut tree.durable, (last.height(), hash));
        tree.branches.remove(&below.1);
        tree.branches.insert(hash, Arc::new(bare));
        Ok(last.height())
    }

    /// Forget everything above a stored height.
    pub fn rollback(&self, height: u64) -> Result<()> {
        let _writing = self.writing.lock();
        let snapshot = self.store.snapshot()?;
        let durable = required(block::durable_height(&snapshot)?, || "the genesis block".to_owned())?;
        if height > durable {
            return Err(Error::unavailable(format!("height {height}: not stored, the last one is {durable}")));
        }
        if height < durable {
            let above = |value: &[u8]| Ok(block::indexed_height(value)? > height);
            let mut batch: Batch = snapshot
                .keys_where(Table::Index, &above)?
                .into_iter()
                .map(|key| Change::Delete(Table::Index, key))
                .collect();
            batch.push(Change::Truncate(Table::Blocks, block::key(height + 1, 0)));
            batch.push(Change::Truncate(Table::Nodes, node_key(height + 1, 0)));
            self.store.write(&batch)?;
        }
        let mut tree = self.tree.write();
        *tree = load_tree(&self.store)?;
        Ok(())
    }

    /// The state after an executed or stored block.
    pub fn state_at(&self, hash: &B256) -> Result<StateAt> {
        if let Some((_, state)) = self.branch_and_state(hash)? {
            return Ok(state);
        }
        let snapshot = self.store.snapshot()?;
        let unknown = || Error::unavailable(format!("block {hash}: not executed here"));
        let height = block::height_of(&snapshot, hash)?.ok_or_else(unknown)?;
        let head = block::head(&snapshot, height)?.ok_or_else(unknown)?;
        StateAt::new(&self.store, Vec::new(), height, *hash, head.root)
    }

    /// A block of the tree with the state after it; None for a block that is not there.
    fn branch_and_state(&self, hash: &B256) -> Result<Option<(Arc<Branch>, StateAt)>> {
        let Some((branch, layers)) = self.tree.read().chain(hash) else { return Ok(None) };
        // The snapshot comes after the layers were collected, so that what was durable then is in it.
        let number = branch.executed.header.number;
        let state = StateAt::new(&self.store, layers, number, branch.executed.hash, branch.root)?;
        Ok(Some((branch, state)))
    }

    fn branch(&self, hash: &B256) -> Option<Arc<Branch>> {
        self.tree.read().branches.get(hash).cloned()
    }

    /// A final block that is not durable yet.
    fn waiting(&self, height: u64) -> Option<Arc<Final>> {
        let tree = self.tree.read();
        let place = height.checked_sub(tree.durable.0 + 1)?;
        tree.finals.get(place as usize).cloned()
    }

    fn parent(&self, hash: &B256) -> Result<(Header, u64)> {
        let head = self.head_by_hash(hash)?;
        let head =
            head.ok_or_else(|| Error::unavailable(format!("block {hash}: not executed here, expected as a parent")))?;
        Ok((head.header, head.timestamp_ms))
    }
}

impl Branch {
    /// Height, hash and parent.
    fn place(&self) -> (u64, B256, B256) {
        (self.executed.header.number, self.executed.hash, self.executed.header.parent_hash)
    }

    fn head(&self) -> Head {
        let Executed { header, hash, timestamp_ms, skipped, .. } = &*self.executed;
        Head {
            hash: *hash,
            timestamp_ms: *timestamp_ms,
            root: self.root,
            transactions: self.transactions,
            header: header.clone(),
            skipped: skipped.clone(),
        }
    }
}

impl Chain for Core {
    fn spec(&self) -> &ChainSpec {
        &self.spec
    }

    fn senders(&self) -> &Senders {
        &self.senders
    }

    fn final_hash(&self) -> B256 {
        self.tip().1
    }

    fn executed(&self, block: &B256) -> Result<Option<Arc<Executed>>> {
        let tree = self.tree.read();
        let branch = tree.branches.get(block).map(|branch| branch.executed.clone());
        Ok(branch.or_else(|| tree.recent.iter().find(|executed| executed.hash == *block).cloned()))
    }

    fn state(&self, block: &B256) -> Result<Arc<dyn StateRead>> {
        Ok(Arc::new(self.state_at(block)?))
    }
}

/// Identifies an execution.
fn fingerprint(parent: &B256, payloads: &[Bytes], parent_envelope: &B256) -> B256 {
    let mut parts = parent.to_vec();
    parts.extend_from_slice(parent_envelope.as_slice());
    for payload in payloads {
        parts.extend_from_slice(keccak256(payload).as_slice());
    }
    keccak256(parts)
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

fn batch_block(batch: &mut Batch, block: &Final) -> Result<()> {
    let layer = block.branch.layer.as_ref();
    let layer = required(layer, || format!("height {}: its layer", block.height()))?;
    batch_nodes(batch, &layer.nodes);
    batch_codes(batch, &layer.codes);
    let decision = block::encode_decision(&block.envelope, &block.certificate, &block.payloads);
    let executed = &block.branch.executed;
    batch_executed(batch, &block.branch.head(), &executed.included, &executed.extra, Some(decision));
    Ok(())
}

// ---- opening

pub fn check_format(store: &Store, snapshot: &Snapshot) -> Result<()> {
    let Some(value) = snapshot.get(Table::Meta, b"format")? else { return Ok(()) };
    let found = value.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
    match found {
        Some(FORMAT_VERSION) => Ok(()),
        Some(other) => Err(Error::corrupt(format!(
            "{}: format {other}, expected {FORMAT_VERSION}; open it with the version of Quorate that wrote it, or sync anew",
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

/// Only the last durable block.
fn load_tree(store: &Store) -> Result<Tree> {
    let snapshot = store.snapshot()?;
    let height = required(block::durable_height(&snapshot)?, || "the genesis block".to_owned())?;
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
    let executed = Arc::new(Executed { header, hash, timestamp_ms, included, skipped, extra, changed });
    let tip = Branch { executed, root, transactions, layer: None, cause, age: 0 };
    Ok(Tree {
        branches: HashMap::from([(hash, Arc::new(tip))]),
        twins: VecDeque::new(),
        finals: VecDeque::new(),
        durable: (height, hash),
        recent: VecDeque::new(),
        executions: 0,
    })
}
