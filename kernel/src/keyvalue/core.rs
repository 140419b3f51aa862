//! The key-value application's store, the tree of executed blocks over it, and what waits for a block.
//!
//! As in `tree.rs` of the Ethereum ledger: blocks are executed speculatively, several on one parent; one of them becomes
//! final; all final ones are written in one transaction by `commit`. Readers see the adopted tip, which is the last final
//! block unless an open engine names another.

use crate::block::{self, Decision};
use crate::errors::{Error, Result};
use crate::history::History;
use crate::keyvalue::item::{Client, Head, Identity, MAX_ITEM_BYTES};
use crate::keyvalue::pool::Pool;
use crate::keyvalue::portable::{Loading, batch_install};
use crate::keyvalue::records::{batch_block, durable_height, height_of, load_tree, open_store, read_head};
use crate::keyvalue::run::{LATE, Live, Outcome, Run, find};
use crate::keyvalue::state::{Answer, Entry, Header, Session, place_of};
use crate::keyvalue::tree::{Branch, Cause, Final, Tree};
use crate::payload::Payload;
use crate::state::Root;
use crate::store::{Batch, Change, Store, Table, required};
use crate::sweep::{Sweep, sweep};
use crate::trie::{NodeSource, Origin, node_key};
use alloy_primitives::map::{HashMap, HashSet};
use alloy_primitives::{B256, Bytes};
use parking_lot::{Mutex, RwLock};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Executed blocks that are not durable, final or not.
const MAX_BRANCHES: usize = 4096;
/// How far a payload's time may lie before the wall clock.
const MAX_AHEAD_MS: u64 = 10_000;

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
    /// What is in memory of the state after the block that was executed last: its hash, its root. Blocks mostly follow each other;
    /// one that follows another block begins with nothing in memory.
    newest: Mutex<Option<(B256, Root, Live)>>,
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
        let (pool, newest, writing) = (Mutex::new(pool), Mutex::default(), Mutex::default());
        Ok(Core { store, genesis, tree, pool, newest, writing, sweeping })
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

    /// Whether nothing was executed over this block yet, so that there is nothing to be found again.
    pub fn is_fresh(&self, parent: &B256) -> bool {
        let tree = self.tree.read();
        tree.branches.contains_key(parent) && tree.branches.values().all(|branch| branch.header.parent != *parent)
    }

    /// A block that was executed from the same already.
    pub fn executed(&self, cause: &Cause) -> Result<Option<Arc<Branch>>> {
        let parent = &cause.parent;
        if let Some(known) = self.tree.read().branches.values().find(|branch| branch.cause == cause.name) {
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
        if head.header.envelope == cause.envelope && stored == cause.payloads {
            return Ok(Some(Arc::new(head)));
        }
        Err(Error::unavailable(format!("block {parent}: height {height} is final with other payloads")))
    }

    /// Begin to execute over `parent`.
    pub fn begin(&self, parent: &B256, payloads: &[Bytes], direct: bool) -> Result<Run> {
        self.begin_with(parent, payloads, direct, |root| self.take_live(root))
    }

    fn begin_with(
        &self,
        parent: &B256,
        payloads: &[Bytes],
        direct: bool,
        live: impl FnOnce(Root) -> Live,
    ) -> Result<Run> {
        let parsed = payloads.iter().map(Payload::parse_shared).collect::<Result<Vec<_>>>()?;
        let (branch, source) = self.state_at(parent)?;
        let Header { height, timestamp_ms, revision, .. } = branch.header;
        Ok(Run::new(live(branch.root), source, branch.root, height + 1, timestamp_ms, revision, parsed, direct))
    }

    /// What is in memory of the state with this root; it comes back with the block that is executed over it.
    fn take_live(&self, root: Root) -> Live {
        let mut newest = self.newest.lock();
        match newest.take_if(|(_, known, _)| *known == root) {
            Some((_, _, live)) => live,
            None => Live::new(root),
        }
    }

    /// Begin to execute a stored height again, to learn what it changed.
    pub fn begin_again(&self, height: u64, direct: bool) -> Result<Run> {
        let unknown = || Error::unavailable(format!("height {height}: not final here"));
        let (_, _, payloads) = self.decision(height)?.ok_or_else(unknown)?;
        let parent = self.by_height(height.saturating_sub(1))?.ok_or_else(unknown)?;
        // What comes of it is not kept, so that what is in memory stays with those who go on.
        self.begin_with(&parent.hash, &payloads, direct, Live::new)
    }

    /// Keep what a run led to as an executed block.
    pub fn add(&self, cause: &Cause, height: u64, outcome: Outcome) -> Result<Arc<Branch>> {
        let parent = &cause.parent;
        let header = Header {
            items: outcome.answers.len() as u32,
            height,
            timestamp_ms: outcome.timestamp_ms,
            revision: outcome.revision,
            parent: *parent,
            envelope: cause.envelope,
            root: outcome.root.hash,
            payloads: cause.digest,
        };
        let (hash, cause) = (header.hash(), cause.name);
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
        let Outcome { root, layer, answers, skipped, events, live, .. } = outcome;
        let (layer, age) = (Some(Arc::new(layer)), tree.executions);
        let branch = Arc::new(Branch { header, hash, root, skipped, answers, events, layer, cause, age });
        tree.branches.insert(hash, branch.clone());
        // Whoever holds `newest` may ask for the tree.
        drop(tree);
        *self.newest.lock() = (!live.is_full()).then_some((hash, root, live));
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
        tree.remember(branch.clone());
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

    /// The time of the last final block: later ones are later.
    fn final_time_ms(&self) -> Result<u64> {
        let height = self.tree.read().tip().0;
        Ok(self.final_at(height)?.header.timestamp_ms)
    }

    /// Let the pool follow what readers see, without what no block can execute any more; what waits again because its
    /// block was abandoned.
    pub fn settle(&self) -> Result<Vec<Identity>> {
        let included = self.included(&self.shown());
        let time_ms = self.final_time_ms()?;
        let mut pool = self.pool.lock();
        pool.forget_late(time_ms);
        Ok(pool.settle(included))
    }

    /// The body of a payload over `parent`.
    pub fn take(&self, parent: &B256, max_bytes: usize, now_ms: u64) -> Vec<u8> {
        let included = self.included(parent);
        self.pool.lock().take(&included, max_bytes, now_ms)
    }

    /// Admit items, unless the state after the last final block knows them, or no block can execute them any more. What only a
    /// block above it holds waits here, unseen: that block may be abandoned.
    pub fn admit(&self, raws: Vec<Bytes>) -> Result<Vec<(Identity, Option<String>)>> {
        let ((_, last), time_ms) = (self.tip(), self.final_time_ms()?);
        // Clients that were heard lately are in memory, if no block is being executed right now.
        let newest = self.newest.lock();
        let live = newest.as_ref().filter(|(hash, _, _)| *hash == last).map(|(_, _, live)| live);
        let mut state: Option<(Arc<Branch>, NodeSource)> = None;
        let mut read: HashMap<Client, Option<Session>> = HashMap::default();
        let mut refuse = |head: &Head| -> Result<Option<&'static str>> {
            let refuse = |session: &Session| session.refuse(head.sequence, head.acknowledged);
            if let Some(session) = live.and_then(|live| live.clients.get(&head.client)) {
                return Ok(refuse(session));
            }
            if let Some(known) = read.get(&head.client) {
                return Ok(known.as_ref().and_then(refuse));
            }
            let (branch, source) = match &mut state {
                Some(state) => state,
                None => state.insert(self.state_at(&last)?),
            };
            let entry = find(source, branch.root, b'c', &head.client)?;
            let session = entry.map(|entry| Session::from_entry(&entry)).transpose()?;
            let reason = session.as_ref().and_then(refuse);
            read.insert(head.client, session);
            Ok(reason)
        };
        // What was executed is answered by its result, however late it comes again.
        let mut refuse_late = |head: &Head| -> Result<Option<&'static str>> {
            Ok(refuse(head)?.or((head.deadline_ms < time_ms).then_some(LATE)))
        };
        self.pool.lock().add(raws, &mut refuse_late)
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
        *self.newest.lock() = None;
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
        *self.newest.lock() = None;
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

    /// What became of an operation in final blocks, as far as its client did not acknowledge it.
    pub fn result(&self, client: &[u8; 16], sequence: u64) -> Result<Option<Answer>> {
        let (branch, source) = self.state_at(&self.tip().1)?;
        let Some(entry) = find(&source, branch.root, b'c', client)? else { return Ok(None) };
        Ok(Session::from_entry(&entry)?.result(sequence).cloned())
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
