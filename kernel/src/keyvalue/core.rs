//! The tree of executed blocks of the key-value application over the durable ones, and what waits for a block.
//!
//! As in `tree.rs`: blocks are executed speculatively, several on one parent; one of them becomes final; all final ones are
//! written in one transaction by `commit`. Readers see the adopted tip, which is the last final block unless an open engine
//! names another.

use crate::block::{self, DECISION, Decision, HEAD};
use crate::errors::{Error, Result};
use crate::history::History;
use crate::keyvalue::item::{Identity, MAX_ITEM_BYTES};
use crate::keyvalue::pool::Pool;
use crate::keyvalue::portable::{Loading, batch_install};
use crate::keyvalue::run::{Event, Outcome, Run, apply, edit, find};
use crate::keyvalue::state::{Answer, Entry, Header, Session, place_of};
use crate::payload::Payload;
use crate::state::{EMPTY, Root};
use crate::store::{Batch, Change, Snapshot, Store, Table, required};
use crate::sweep::{Sweep, sweep};
use crate::tree_store::remove_unfinished;
use crate::trie::{Layer, NodeSource, Origin, node_key};
use crate::trie_node::Reader;
use alloy_primitives::{B256, Bytes, keccak256};
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Of the records below; the first three bytes tell it from a store of the Ethereum ledger.
const FORMAT_VERSION: u32 = 0x716b_7601;
/// The same, of a store that does not hold everything since genesis.
pub const PRUNED_FORMAT: u32 = 0x716b_7602;
/// Executed blocks that are not durable, final or not.
const MAX_BRANCHES: usize = 4096;
/// Executed children of one parent that are kept; the oldest goes first.
const MAX_SIBLINGS: usize = 16;
/// Final blocks whose answers and events are kept for those who ask.
const RECENT_BLOCKS: usize = 16;
/// How far a payload's time may lie before the wall clock.
const MAX_AHEAD_MS: u64 = 10_000;

/// An executed block.
pub struct Branch {
    pub header: Header,
    pub hash: B256,
    pub root: Root,
    pub skipped: Vec<(Identity, &'static str)>,
    pub answers: Vec<(Identity, Answer)>,
    pub events: Vec<Event>,
    /// None once durable.
    layer: Option<Arc<Layer>>,
    /// What it was executed from.
    cause: B256,
    age: u64,
}

struct Final {
    branch: Arc<Branch>,
    decision: Decision,
}

struct Tree {
    /// Executed blocks above the durable one, and that one.
    branches: HashMap<B256, Arc<Branch>>,
    /// Ascending from the durable height + 1.
    finals: VecDeque<Arc<Final>>,
    durable: (u64, B256),
    recent: VecDeque<Arc<Branch>>,
    /// What readers see as the latest, if it is above the last final block.
    adopted: Option<B256>,
    executions: u64,
}

impl Tree {
    fn tip(&self) -> (u64, B256) {
        self.finals.back().map_or(self.durable, |last| (last.branch.header.height, last.branch.hash))
    }

    /// A block and the layers from the durable one to it.
    fn chain(&self, hash: &B256) -> Option<(Arc<Branch>, Vec<Arc<Layer>>)> {
        let branch = self.branches.get(hash)?.clone();
        let mut layers = Vec::new();
        let mut next = branch.clone();
        while let Some(layer) = &next.layer {
            layers.push(layer.clone());
            next = self.branches.get(&next.header.parent)?.clone();
        }
        layers.reverse();
        Some((branch, layers))
    }

    /// Blocks from `hash` down to the last final one, which is left out.
    fn above_final(&self, hash: &B256) -> Vec<Arc<Branch>> {
        let (height, _) = self.tip();
        let mut found = Vec::new();
        let mut next = self.branches.get(hash);
        while let Some(branch) = next.filter(|branch| branch.header.height > height) {
            found.push(branch.clone());
            next = self.branches.get(&branch.header.parent);
        }
        found
    }

    fn forget_losers(&mut self) {
        let (height, tip) = self.tip();
        let mut above: Vec<(u64, B256, B256)> = self
            .branches
            .values()
            .filter(|branch| branch.header.height > height)
            .map(|branch| (branch.header.height, branch.hash, branch.header.parent))
            .collect();
        above.sort_unstable();
        let mut living = HashSet::from([tip]);
        for (_, hash, parent) in above {
            if living.contains(&parent) {
                living.insert(hash);
            }
        }
        let mut kept: HashSet<B256> = self.finals.iter().map(|last| last.branch.hash).collect();
        kept.insert(self.durable.1);
        self.branches.retain(|hash, _| kept.contains(hash) || living.contains(hash));
        self.adopted = self.adopted.filter(|hash| living.contains(hash) && *hash != tip);
    }

    fn bound_siblings(&mut self, parent: &B256) {
        let (height, _) = self.tip();
        let children = self.branches.values().filter(|b| b.header.parent == *parent && b.header.height > height);
        let mut children: Vec<(u64, B256)> = children.map(|branch| (branch.age, branch.hash)).collect();
        if children.len() < MAX_SIBLINGS {
            return;
        }
        children.sort_unstable();
        let mut forgotten = vec![children[0].1];
        while let Some(hash) = forgotten.pop() {
            self.branches.remove(&hash);
            forgotten.extend(self.branches.values().filter(|b| b.header.parent == hash).map(|branch| branch.hash));
        }
    }
}

/// An entry with the block at which it was read.
pub struct Found {
    pub header: Header,
    pub entry: Option<Entry>,
}

pub struct Core {
    store: Store,
    genesis: B256,
    tree: RwLock<Tree>,
    pub pool: Mutex<Pool>,
    /// Held by whoever changes what is durable.
    writing: Mutex<()>,
    /// Whether the store still holds what another state left.
    sweeping: AtomicBool,
}

impl Core {
    /// Open or create. `identity` is that of the network, `members` who agrees in it.
    pub fn open(
        path: Option<&Path>,
        identity: B256,
        members: &[u8],
        timestamp_ms: u64,
        map_bytes: usize,
        pool: Pool,
    ) -> Result<Core> {
        let store = match path {
            Some(path) => Store::open(path, map_bytes)?,
            None => Store::in_memory(),
        };
        let genesis = open_store(&store, identity, members, timestamp_ms)?;
        let tree = RwLock::new(load_tree(&store)?);
        let sweeping = AtomicBool::new(Sweep::read(&store.snapshot()?)?.is_some());
        Ok(Core { store, genesis, tree, pool: Mutex::new(pool), writing: Mutex::new(()), sweeping })
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn genesis(&self) -> B256 {
        self.genesis
    }

    pub fn durable(&self) -> u64 {
        self.tree.read().durable.0
    }

    pub fn tip(&self) -> (u64, B256) {
        self.tree.read().tip()
    }

    // ---- blocks

    pub fn by_hash(&self, hash: &B256) -> Result<Option<Arc<Branch>>> {
        let tree = self.tree.read();
        // First those with their answers: the branch of a durable block has none, and a commit may overtake who asks.
        let recent = tree.recent.iter().rev().find(|branch| branch.hash == *hash);
        if let Some(branch) = recent.or_else(|| tree.branches.get(hash)) {
            return Ok(Some(branch.clone()));
        }
        drop(tree);
        let snapshot = self.store.snapshot()?;
        match height_of(&snapshot, hash)? {
            Some(height) => read_head(&snapshot, height).map(|head| head.map(Arc::new)),
            None => Ok(None),
        }
    }

    pub fn by_height(&self, height: u64) -> Result<Option<Arc<Branch>>> {
        let recent = self.tree.read().recent.iter().rev().find(|branch| branch.header.height == height).cloned();
        if let Some(branch) = recent.or_else(|| self.waiting(height).map(|last| last.branch.clone())) {
            return Ok(Some(branch));
        }
        let snapshot = self.store.snapshot()?;
        if height > 0 && height < History::read(&snapshot)?.headers {
            return Ok(None);
        }
        Ok(read_head(&snapshot, height)?.map(Arc::new))
    }

    pub fn decision(&self, height: u64) -> Result<Option<Decision>> {
        if let Some(last) = self.waiting(height) {
            return Ok(Some(last.decision.clone()));
        }
        let snapshot = self.store.snapshot()?;
        if History::read(&snapshot)?.is_gone(height) {
            return Ok(None);
        }
        block::decision(&snapshot, height)
    }

    fn waiting(&self, height: u64) -> Option<Arc<Final>> {
        let tree = self.tree.read();
        let place = height.checked_sub(tree.durable.0 + 1)?;
        tree.finals.get(place as usize).cloned()
    }

    fn parent(&self, hash: &B256) -> Result<Arc<Branch>> {
        let found = self.by_hash(hash)?;
        found.ok_or_else(|| Error::unavailable(format!("block {hash}: not executed here, expected as a parent")))
    }

    // ---- execution

    /// Raise Invalid unless the payload may follow the executed block `parent`.
    pub fn check(&self, parent: &B256, raw: &[u8], now_ms: u64) -> Result<()> {
        let payload = Payload::parse(raw)?;
        if payload.parent != *parent {
            return Err(Error::invalid(format!("payload: parent block {}, expected {parent}", payload.parent)));
        }
        let (earliest, latest) = (self.parent(parent)?.header.timestamp_ms + 1, now_ms + MAX_AHEAD_MS);
        if !(earliest..=latest).contains(&payload.timestamp_ms) {
            return Err(Error::invalid(format!(
                "payload: timestamp {} ms, expected {earliest} to {latest}",
                payload.timestamp_ms
            )));
        }
        if let Some(item) = payload.transactions.iter().find(|item| item.len() > MAX_ITEM_BYTES) {
            return Err(Error::invalid(format!(
                "payload: an operation of {} bytes, expected at most {MAX_ITEM_BYTES}",
                item.len()
            )));
        }
        Ok(())
    }

    /// A block that was executed from the same already.
    pub fn executed(&self, parent: &B256, payloads: &[Bytes], envelope: &B256) -> Result<Option<Arc<Branch>>> {
        let cause = fingerprint(parent, payloads, envelope);
        if let Some(known) = self.tree.read().branches.values().find(|branch| branch.cause == cause) {
            return Ok(Some(known.clone()));
        }
        // A height that is final and durable: the engine may deliver it again after a restart.
        if self.tree.read().branches.contains_key(parent) {
            return Ok(None);
        }
        let unknown = || Error::unavailable(format!("block {parent}: not executed here, expected as a parent"));
        let snapshot = self.store.snapshot()?;
        let height = height_of(&snapshot, parent)?.ok_or_else(unknown)? + 1;
        let head = read_head(&snapshot, height)?.ok_or_else(unknown)?;
        let (_, _, stored) = block::decision(&snapshot, height)?.ok_or_else(unknown)?;
        if head.header.envelope == *envelope && stored == payloads {
            return Ok(Some(Arc::new(head)));
        }
        Err(Error::unavailable(format!("block {parent}: height {height} is final with other payloads")))
    }

    /// Begin to execute over `parent`.
    pub fn begin(&self, parent: &B256, payloads: &[Bytes], direct: bool) -> Result<Run> {
        let (branch, source) = self.state_at(parent)?;
        let parsed = payloads.iter().map(|payload| Payload::parse(payload)).collect::<Result<Vec<_>>>()?;
        let Header { height, timestamp_ms, revision, .. } = branch.header;
        Ok(Run::new(source, branch.root, height + 1, timestamp_ms, revision, parsed, direct))
    }

    /// Begin to execute a stored height again, to learn what it changed.
    pub fn begin_again(&self, height: u64, direct: bool) -> Result<Run> {
        let unknown = || Error::unavailable(format!("height {height}: not final here"));
        let (_, _, payloads) = self.decision(height)?.ok_or_else(unknown)?;
        let parent = self.by_height(height.saturating_sub(1))?.ok_or_else(unknown)?;
        self.begin(&parent.hash, &payloads, direct)
    }

    /// Keep what a run led to as an executed block.
    pub fn add(
        &self,
        parent: &B256,
        payloads: &[Bytes],
        envelope: B256,
        height: u64,
        outcome: Outcome,
    ) -> Result<Arc<Branch>> {
        let hashes: Vec<u8> = payloads.iter().flat_map(|payload| keccak256(payload).0).collect();
        let header = Header {
            items: outcome.answers.len() as u32,
            height,
            timestamp_ms: outcome.timestamp_ms,
            revision: outcome.revision,
            parent: *parent,
            envelope,
            root: outcome.root.hash,
            payloads: keccak256(hashes),
        };
        let (hash, cause) = (header.hash(), fingerprint(parent, payloads, &envelope));
        let mut tree = self.tree.write();
        if let Some(known) = tree.branches.get(&hash) {
            return Ok(known.clone());
        }
        let (last, tip) = tree.tip();
        if !tree.branches.contains_key(parent) || height <= last || (height == last + 1 && *parent != tip) {
            return Err(Error::unavailable(format!("block {parent}: height {last} became final on another branch")));
        }
        if tree.branches.len() >= MAX_BRANCHES {
            return Err(Error::unavailable(format!(
                "height {height}: {} executed blocks wait for the disk, expected fewer than {MAX_BRANCHES}",
                tree.branches.len()
            )));
        }
        tree.bound_siblings(parent);
        tree.executions += 1;
        let Outcome { root, layer, answers, skipped, events, .. } = outcome;
        let (layer, age) = (Some(Arc::new(layer)), tree.executions);
        let branch = Arc::new(Branch { header, hash, root, skipped, answers, events, layer, cause, age });
        tree.branches.insert(hash, branch.clone());
        Ok(branch)
    }

    // ---- what is final, and what readers see

    pub fn finalize(&self, hash: &B256, envelope: B256, certificate: Bytes, payloads: Vec<Bytes>) -> Result<()> {
        let mut tree = self.tree.write();
        let branch = tree.branches.get(hash).cloned();
        let branch = branch.ok_or_else(|| Error::unavailable(format!("block {hash}: not executed here")))?;
        let (height, tip) = tree.tip();
        if branch.header.height != height + 1 || branch.header.parent != tip {
            return Err(Error::invalid(format!(
                "block {hash}: height {} on {}, expected height {} on the last final block {tip}",
                branch.header.height,
                branch.header.parent,
                height + 1
            )));
        }
        tree.finals.push_back(Arc::new(Final { branch: branch.clone(), decision: (envelope, certificate, payloads) }));
        if tree.recent.len() == RECENT_BLOCKS {
            tree.recent.pop_front();
        }
        tree.recent.push_back(branch.clone());
        tree.forget_losers();
        drop(tree);
        let skipped = branch.skipped.iter().map(|(identity, _)| identity);
        self.pool.lock().remove(branch.answers.iter().map(|(identity, _)| identity).chain(skipped));
        Ok(())
    }

    pub fn adopt(&self, hash: &B256) -> Result<()> {
        let mut tree = self.tree.write();
        if !tree.branches.contains_key(hash) {
            return Err(Error::unavailable(format!("block {hash}: not executed here")));
        }
        let (_, tip) = tree.tip();
        tree.adopted = (*hash != tip).then_some(*hash);
        Ok(())
    }

    /// What is in the blocks between the last final one and `hash`.
    fn included(&self, hash: &B256) -> HashSet<Identity> {
        let blocks = self.tree.read().above_final(hash);
        blocks.iter().flat_map(|branch| branch.answers.iter().map(|(identity, _)| *identity)).collect()
    }

    /// What readers see as the latest block.
    pub fn shown(&self) -> B256 {
        let tree = self.tree.read();
        tree.adopted.unwrap_or(tree.tip().1)
    }

    /// Let the pool follow what readers see; what waits again because its block was abandoned.
    pub fn settle(&self) -> Vec<Identity> {
        let included = self.included(&self.shown());
        self.pool.lock().settle(included)
    }

    /// The body of a payload over `parent`.
    pub fn take(&self, parent: &B256, max_bytes: usize, now_ms: u64) -> Vec<u8> {
        let included = self.included(parent);
        self.pool.lock().take(&included, max_bytes, now_ms)
    }

    /// Admit items, unless the state after the latest block knows them.
    pub fn admit(&self, raws: Vec<Bytes>) -> Result<Vec<(Identity, Option<String>)>> {
        let (branch, source) = self.state_at(&self.shown())?;
        let session = |client: &[u8; 16]| -> Result<Option<Session>> {
            let entry = find(&source, branch.root, b'c', client)?;
            entry.map(|entry| Session::from_entry(&entry)).transpose()
        };
        self.pool.lock().add(raws, &session)
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
            let layer = required(block.branch.layer.as_ref(), || "the layer of a final block".to_owned())?;
            batch_block(&mut batch, &block.branch, layer, Some(&block.decision));
        }
        self.store.write(&batch)?;
        let mut tree = self.tree.write();
        for block in &finals {
            tree.finals.pop_front();
            tree.branches.remove(&block.branch.header.parent);
        }
        tree.durable = (last.branch.header.height, last.branch.hash);
        let bottom = Arc::new(Branch { layer: None, ..last.branch.summary() });
        tree.branches.insert(last.branch.hash, bottom);
        drop(tree);
        if self.sweeping.load(Ordering::Relaxed) {
            self.sweeping.store(sweep(&self.store)?, Ordering::Relaxed);
        }
        Ok(last.branch.header.height)
    }

    // ---- another state in place of this one

    /// Begin to load the state after a height.
    pub fn start_import(&self, height: u64) -> Result<Loading> {
        let _writing = self.writing.lock();
        Loading::start(&self.store, self.durable(), height)
    }

    /// Let the ledger be at a state that was loaded. What waits is judged anew over it.
    pub fn install(&self, loading: &mut Loading, header: &[u8], decision: &Decision) -> Result<()> {
        let writing = self.writing.lock();
        let (height, durable) = (loading.height(), self.durable());
        if durable >= height {
            return Err(Error::unavailable(format!("height {height}: the ledger is at {durable} by now")));
        }
        self.store.write(&batch_install(header, height, loading.complete()?, decision)?)?;
        loading.keep();
        self.sweeping.store(true, Ordering::Relaxed);
        *self.tree.write() = load_tree(&self.store)?;
        drop(writing);
        let waiting = {
            let mut pool = self.pool.lock();
            let waiting = pool.list(usize::MAX);
            *pool = pool.emptied();
            waiting
        };
        self.admit(waiting).map(|_| ())
    }

    /// The first heights whose state, block and header are here.
    pub fn history(&self) -> Result<History> {
        History::read(&self.store.snapshot()?)
    }

    /// Forget everything above a height that is still stored.
    pub fn rollback(&self, height: u64) -> Result<()> {
        let _writing = self.writing.lock();
        let snapshot = self.store.snapshot()?;
        if height < History::read(&snapshot)?.states {
            return Err(Error::unavailable(format!("height {height}: pruned, its state is not here")));
        }
        if height < durable_height(&snapshot)? {
            let above = |value: &[u8]| Ok(block::indexed_height(value)? > height);
            let keys = snapshot.keys_where(Table::Index, &above)?;
            let mut batch: Batch = keys.into_iter().map(|key| Change::Delete(Table::Index, key)).collect();
            batch.push(Change::Truncate(Table::Blocks, block::key(height + 1, 0)));
            batch.push(Change::Truncate(Table::Nodes, node_key(height + 1, 0)));
            self.store.write(&batch)?;
        }
        *self.tree.write() = load_tree(&self.store)?;
        let mut pool = self.pool.lock();
        *pool = pool.emptied();
        Ok(())
    }

    // ---- the state

    pub fn state_at(&self, hash: &B256) -> Result<(Arc<Branch>, NodeSource)> {
        let found = self.tree.read().chain(hash);
        let (branch, layers) = match found {
            Some(found) => found,
            None => (self.parent(hash)?, Vec::new()),
        };
        // The snapshot comes after the layers were collected, so that what was durable then is in it.
        let source = Origin { layers: layers.into(), store: self.store.clone() }.open()?;
        Ok((branch, source))
    }

    /// What readers see of keys, or what they saw after a final height.
    pub fn get(&self, keys: &[&[u8]], height: Option<u64>) -> Result<(Header, Vec<Option<Entry>>)> {
        let hash = match height {
            None => self.shown(),
            Some(height) => self.final_at(height)?.hash,
        };
        let (branch, source) = self.state_at(&hash)?;
        let entries = keys.iter().map(|key| find(&source, branch.root, b'k', key)).collect::<Result<Vec<_>>>()?;
        Ok((branch.header.clone(), entries))
    }

    pub fn prove(&self, key: &[u8], height: u64) -> Result<(Found, Vec<Bytes>)> {
        let hash = self.final_at(height)?.hash;
        let (branch, source) = self.state_at(&hash)?;
        let entry = find(&source, branch.root, b'k', key)?;
        let nodes = source.prove::<Entry>(branch.root.id, &place_of(b'k', key))?;
        Ok((Found { header: branch.header.clone(), entry }, nodes))
    }

    /// What became of an operation, as far as its client did not acknowledge it.
    pub fn result(&self, client: &[u8; 16], sequence: u64) -> Result<Option<Answer>> {
        let (branch, source) = self.state_at(&self.shown())?;
        let Some(entry) = find(&source, branch.root, b'c', client)? else { return Ok(None) };
        Ok(Session::from_entry(&entry)?.results.remove(&sequence))
    }

    pub fn final_at(&self, height: u64) -> Result<Arc<Branch>> {
        if let Some(branch) = self.by_height(height)? {
            return Ok(branch);
        }
        let first = self.history()?.states;
        let reason =
            if height < first { format!("pruned, the first here is {first}") } else { "not final here".into() };
        Err(Error::unavailable(format!("height {height}: {reason}")))
    }
}

impl Branch {
    /// All but what only those need who hear of it at once.
    fn summary(&self) -> Branch {
        Branch {
            header: self.header.clone(),
            hash: self.hash,
            root: self.root,
            skipped: self.skipped.clone(),
            answers: Vec::new(),
            events: Vec::new(),
            layer: self.layer.clone(),
            cause: self.cause,
            age: self.age,
        }
    }
}

fn fingerprint(parent: &B256, payloads: &[Bytes], envelope: &B256) -> B256 {
    let mut parts = parent.to_vec();
    parts.extend_from_slice(envelope.as_slice());
    for payload in payloads {
        parts.extend_from_slice(keccak256(payload).as_slice());
    }
    keccak256(parts)
}

// ---- records: header (160), flag (1) and id (9) of the top of the trie, then per skipped operation identity (24)

fn batch_block(batch: &mut Batch, branch: &Branch, layer: &Layer, decision: Option<&Decision>) {
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

fn read_head(snapshot: &Snapshot, height: u64) -> Result<Option<Branch>> {
    let Some(record) = snapshot.get(Table::Blocks, &block::key(height, HEAD))? else { return Ok(None) };
    let mut reader = Reader::new(&record);
    let header = Header::decode(&mut reader)?;
    let has_top = reader.byte()? == 1;
    let id = reader.id()?;
    let root = Root { hash: header.root, id: has_top.then_some(id) };
    let (skipped, answers, events, hash) = (Vec::new(), Vec::new(), Vec::new(), header.hash());
    Ok(Some(Branch { header, hash, root, skipped, answers, events, layer: None, cause: B256::ZERO, age: 0 }))
}

fn height_of(snapshot: &Snapshot, hash: &B256) -> Result<Option<u64>> {
    let value = snapshot.get(Table::Index, hash.as_slice())?;
    value.map(|value| block::indexed_height(&value)).transpose()
}

fn durable_height(snapshot: &Snapshot) -> Result<u64> {
    let key = required(snapshot.last_key(Table::Blocks)?, || "the genesis block".to_owned())?;
    let height = key.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
    required(height, || "the height of the last block".to_owned())
}

fn open_store(store: &Store, identity: B256, members: &[u8], timestamp_ms: u64) -> Result<B256> {
    let nothing = Origin { layers: Arc::new([]), store: Store::in_memory() };
    let entry = Entry { value: Bytes::copy_from_slice(members), ..Entry::default() };
    let (root, layer) = apply(&nothing.open()?, EMPTY, &[edit(b'v', b"", Some(entry))], 0)?;
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
fn load_tree(store: &Store) -> Result<Tree> {
    let snapshot = store.snapshot()?;
    let height = durable_height(&snapshot)?;
    let mut head = required(read_head(&snapshot, height)?, || format!("height {height}: the head of the block"))?;
    if let Some((_, _, payloads)) = block::decision(&snapshot, height)? {
        head.cause = fingerprint(&head.header.parent, &payloads, &head.header.envelope);
    }
    let hash = head.hash;
    Ok(Tree {
        branches: HashMap::from([(hash, Arc::new(head))]),
        finals: VecDeque::new(),
        durable: (height, hash),
        recent: VecDeque::new(),
        adopted: None,
        executions: 0,
    })
}
