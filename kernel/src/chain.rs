//! The chain over its store: what is inside `Ledger`.
//!
//! Blocks are executed into the tree (`tree.rs`); all final ones are written in one transaction by `commit`, on another thread.
//! Only then are their layers dropped, so that a failed commit changes nothing.
//!
//! Where the tip may move sideways, `adopt` names the branch that readers shall see beyond what is final. The next commit
//! writes it, and takes out what an earlier one had written of another branch, in the same transaction. Layers of blocks
//! that are not final stay in memory even so: the writer reads above the final height from layers alone, since what the
//! store holds there may change under it.

use crate::block::{self, Decision, Head};
use crate::errors::{Error, Result};
use crate::evm::{self, Ancestor};
use crate::genesis::{self, ChainSpec};
use crate::history::History;
use crate::import::Extra;
use crate::payload::Payload;
use crate::state::{BlockLayer, StateAt};
use crate::store::{Batch, Store};
use crate::sweep::{Sweep, sweep};
use crate::transaction::Senders;
use crate::tree::{Branch, Final, MAX_BRANCHES, MAX_SIBLINGS, RECENT_BLOCKS, Tree, fingerprint};
use crate::tree_store::{Shown, batch_block, batch_rollback, batch_tips, batch_without, load, open_store};
use crate::types::{Chain, Executed, Outcome, Parent, StateRead};
use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes, U256};
use parking_lot::{Mutex, RwLock};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const CACHED_SENDERS: usize = 1 << 17;

/// What `Ledger` and `Pool` share.
pub struct Core {
    store: Store,
    spec: ChainSpec,
    senders: Senders,
    genesis_hash: B256,
    tree: RwLock<Tree>,
    /// What the store holds above the durable height; locked by whoever changes what is durable.
    pub shown: Mutex<Vec<Shown>>,
    /// A block that was imported, and the difficulty of all blocks up to it.
    difficulty: Mutex<(B256, U256)>,
    /// Held by whoever changes what is kept of the past; taken before `shown`.
    pub pruning: Mutex<()>,
    /// Whether the store still holds what another state left.
    pub sweeping: AtomicBool,
}

impl Core {
    /// Open or create; `path` None keeps everything in memory.
    pub fn open(path: Option<&Path>, json: &[u8], map_bytes: usize) -> Result<Core> {
        let store = match path {
            Some(path) => Store::open(path, map_bytes)?,
            None => Store::in_memory(),
        };
        let genesis_hash = open_store(&store, json)?;
        let spec = genesis::parse(json)?.spec;
        let (tree, shown) = load(&store)?;
        let (tree, shown) = (RwLock::new(tree), Mutex::new(shown));
        let senders = Senders::new(CACHED_SENDERS).allow_unsigned(spec.dev);
        let (difficulty, pruning) = (Mutex::default(), Mutex::new(()));
        let sweeping = AtomicBool::new(Sweep::read(&store.snapshot()?)?.is_some());
        Ok(Core { store, spec, senders, genesis_hash, tree, shown, difficulty, pruning, sweeping })
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

    /// The tip that was adopted, or the last final block.
    pub fn latest(&self) -> B256 {
        self.tree.read().latest()
    }

    /// Raise Invalid unless the payload may follow the executed block `parent`. Of twins any may be meant, so that only what
    /// comes before all of them is too early; whoever knows which one looks at its milliseconds again.
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
        let ancestors = |height| self.ancestor(parent, height);
        let outcome =
            evm::execute_block(&self.spec, &state, &above, &parsed, parent_envelope, &self.senders, &ancestors)?;
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

    /// A block with the difficulty of all blocks up to it, if one was imported.
    pub fn known_difficulty(&self) -> (B256, U256) {
        *self.difficulty.lock()
    }

    pub fn keep_difficulty(&self, hash: B256, total: U256) {
        *self.difficulty.lock() = (hash, total);
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
        tree.bound_branches();
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
        let height = block::final_height_of(&snapshot, parent)?.ok_or_else(unknown)? + 1;
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
        match block::final_height_of(&snapshot, hash)? {
            Some(height) => block::head(&snapshot, height),
            None => Ok(None),
        }
    }

    /// A final block by height.
    pub fn head_by_height(&self, height: u64) -> Result<Option<Head>> {
        if let Some(last) = self.waiting(height) {
            return Ok(Some(last.branch.head()));
        }
        if height > self.durable() {
            return Ok(None);
        }
        block::head(&self.store.snapshot()?, height)
    }

    pub fn decision(&self, height: u64) -> Result<Option<Decision>> {
        if let Some(last) = self.waiting(height) {
            return Ok(Some(last.decision.clone()));
        }
        let snapshot = self.store.snapshot()?;
        // What another state left is stored for a while.
        if History::read(&snapshot)?.is_gone(height) {
            return Ok(None);
        }
        block::decision(&snapshot, height)
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
        let is_abandoned = tree.adopted.is_some() && tree.adopted_at(number) != Some(*hash);
        if is_abandoned {
            tree.move_to(*hash);
        }
        tree.branches.insert(*hash, branch.clone());
        tree.finals.push_back(Arc::new(Final { branch, decision: (envelope, certificate, payloads) }));
        tree.forget_losers();
        Ok(())
    }

    /// Let readers see, from the next commit on, the branch that ends in this executed block, which is not below the last
    /// final one. `safe` is the height that is called safe.
    pub fn adopt(&self, hash: &B256, safe: u64) -> Result<()> {
        let mut tree = self.tree.write();
        let (height, _) = tree.tip();
        let number = tree.branches.get(hash).map(|branch| branch.executed.header.number);
        if number.is_none_or(|number| number < height) {
            return Err(Error::unavailable(format!("block {hash}: not executed here, expected as the tip")));
        }
        tree.is_open = true;
        tree.safe = safe;
        tree.move_to(*hash);
        Ok(())
    }

    /// Write all final blocks and the adopted branch above them in one durable transaction, and take out what the store holds
    /// of another branch; the durable height.
    pub fn commit(&self) -> Result<u64> {
        let mut shown = self.shown.lock();
        let (finals, adopted, safe, is_open, durable) = {
            let tree = self.tree.read();
            let finals: Vec<Arc<Final>> = tree.finals.iter().cloned().collect();
            (finals, tree.adopted_blocks(), tree.safe, tree.is_open, tree.durable.0)
        };
        let names_tip = adopted.is_some();
        let wanted: Vec<Arc<Branch>> =
            finals.iter().map(|last| last.branch.clone()).chain(adopted.into_iter().flatten()).collect();
        let kept = shown
            .iter_mut()
            .zip(&wanted)
            .map(|(shown, branch)| shown.is(branch))
            .take_while(|is_same| *is_same)
            .count();
        // Before the first tip is named after a start, what an earlier process showed stays if it may.
        let is_cut = kept < shown.len() && (names_tip || kept < wanted.len());
        if finals.is_empty() && kept == wanted.len() && !is_cut {
            return Ok(durable);
        }
        let mut batch = Batch::new();
        if is_cut {
            batch_without(&mut batch, &self.store, durable + 1 + kept as u64)?;
        }
        for (place, branch) in wanted.iter().enumerate() {
            let decision = finals.get(place).map(|last| &last.decision);
            batch_block(&mut batch, branch, decision, place < kept)?;
        }
        let last = durable + finals.len() as u64;
        if is_open {
            batch_tips(&mut batch, last, safe);
        }
        self.store.write(&batch)?;
        if is_cut {
            shown.truncate(kept);
        }
        shown.extend(wanted[kept..].iter().map(Shown::new));
        shown.drain(..finals.len());
        self.forget_durable(&finals);
        drop(shown);
        self.sweep()?;
        Ok(last)
    }

    /// Remove some of what another state left; whether there is more to do.
    pub fn sweep(&self) -> Result<bool> {
        if !self.sweeping.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let _one = self.pruning.lock();
        let is_behind = sweep(&self.store)?;
        self.sweeping.store(is_behind, Ordering::Relaxed);
        Ok(is_behind)
    }

    /// These final blocks are durable: their layers go.
    fn forget_durable(&self, finals: &[Arc<Final>]) {
        let Some(last) = finals.last() else { return };
        let mut tree = self.tree.write();
        tree.finals.drain(..finals.len());
        for block in finals {
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
    }

    /// Forget everything above a stored final height, and of the last one itself all that was only executed.
    pub fn rollback(&self, height: u64) -> Result<()> {
        let _pruning = self.pruning.lock();
        let mut shown = self.shown.lock();
        batch_rollback(&self.store, height)?;
        self.reload(&mut shown)
    }

    /// Begin again from what the store holds.
    pub fn reload(&self, shown: &mut Vec<Shown>) -> Result<()> {
        let mut tree = self.tree.write();
        (*tree, *shown) = load(&self.store)?;
        Ok(())
    }

    /// The state after an executed or stored block.
    pub fn state_at(&self, hash: &B256) -> Result<StateAt> {
        if let Some((_, state)) = self.branch_and_state(hash)? {
            return Ok(state);
        }
        let snapshot = self.store.snapshot()?;
        let unknown = || Error::unavailable(format!("block {hash}: not executed here"));
        let height = block::final_height_of(&snapshot, hash)?.ok_or_else(unknown)?;
        let head = block::head(&snapshot, height)?.ok_or_else(unknown)?;
        let first = History::read(&snapshot)?.states;
        if height < first {
            return Err(Error::unavailable(format!("height {height}: its state is pruned, the first here is {first}")));
        }
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

    /// The block at a height below another one that was executed here, or that one itself, with the state after it.
    fn ancestor(&self, hash: &B256, height: u64) -> Result<Option<Ancestor>> {
        let found = self.tree.read().ancestor(*hash, height);
        let head = match found {
            Some(found) => self.head_by_hash(&found)?,
            None => self.head_by_height(height)?,
        };
        let Some(Head { hash, root, header, .. }) = head else { return Ok(None) };
        Ok(Some(Ancestor { header, root, state: Arc::new(self.state_at(&hash)?) }))
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
        let tree = self.tree.read();
        let twins = tree.twins.iter().filter(|twin| twin.executed.hash == *hash).map(|twin| twin.executed.timestamp_ms);
        Ok((head.header, twins.fold(head.timestamp_ms, u64::min)))
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

    fn take_returned(&self) -> (B256, Vec<Bytes>) {
        let mut tree = self.tree.write();
        let taken = std::mem::take(&mut tree.returned);
        (tree.latest(), taken.raws.into())
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
