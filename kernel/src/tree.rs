//! The tree of executed blocks over the durable ones, in memory: what is tentative, final and adopted, and what is forgotten.
//!
//! Blocks are executed speculatively, several on one parent; one of them becomes final. Where the tip may move sideways, a branch
//! is adopted: the one that readers shall see beyond what is final. `chain.rs` executes, and writes what is final.

use crate::block::{Decision, Head};
use crate::payload_hash::hash_payload;
use crate::state::{BlockLayer, Root};
use crate::types::Executed;
use alloy_primitives::map::B256Map;
use alloy_primitives::{B256, Bytes, keccak256};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Executed children of one parent that are kept; the oldest goes first, but never one that readers see.
pub const MAX_SIBLINGS: usize = 16;
/// Executed blocks that are not durable, final or not. Beyond it, the oldest at the end of an abandoned branch goes.
pub const MAX_BRANCHES: usize = 4096;
/// Transactions of abandoned blocks that wait for the pool, and their bytes; the oldest go first.
const MAX_RETURNED: usize = 1 << 16;
const MAX_RETURNED_BYTES: usize = 64 << 20;
/// Blocks that are kept after they became durable, for the pool to follow.
pub const RECENT_BLOCKS: usize = 16;

/// An executed block that is not forgotten yet.
pub struct Branch {
    pub executed: Arc<Executed>,
    pub root: Root,
    /// How many there are; a block that was read from the store does not hold them.
    pub transactions: u32,
    /// None once durable.
    pub layer: Option<Arc<BlockLayer>>,
    /// What it was executed from.
    pub cause: B256,
    /// Counts executions: the lower, the older.
    pub age: u64,
}

/// A final block that is not durable yet.
pub struct Final {
    pub branch: Arc<Branch>,
    pub decision: Decision,
}

pub struct Tree {
    /// Speculative and final blocks by hash, and the durable one below all.
    pub branches: B256Map<Arc<Branch>>,
    /// Blocks with the hash of one of `branches` and another cause: payloads that differ in a way that no header shows, such
    /// as milliseconds within one second. Which of them is meant is known when one becomes final.
    pub twins: VecDeque<Arc<Branch>>,
    /// Ascending from the durable height + 1.
    pub finals: VecDeque<Arc<Final>>,
    pub durable: (u64, B256),
    /// The last durable blocks, whose layers are gone.
    pub recent: VecDeque<Arc<Executed>>,
    pub executions: u64,
    /// The tip that readers shall see; None until one was named.
    pub adopted: Option<B256>,
    /// The height that is called safe; counts only where it is above what is final.
    pub safe: u64,
    /// Whether tips of this store were ever adopted, so that it says what is final.
    pub is_open: bool,
    pub returned: Returned,
}

/// Transactions of abandoned blocks, oldest first.
#[derive(Default)]
pub struct Returned {
    pub raws: VecDeque<Bytes>,
    bytes: usize,
}

impl Returned {
    fn add(&mut self, raw: &Bytes) {
        self.bytes += raw.len();
        self.raws.push_back(raw.clone());
        while self.raws.len() > MAX_RETURNED || self.bytes > MAX_RETURNED_BYTES {
            self.bytes -= self.raws.pop_front().map_or(0, |raw| raw.len());
        }
    }
}

impl Tree {
    /// Only the last final block of a store.
    pub fn new(durable: Branch, is_open: bool) -> Tree {
        let (height, hash, _) = durable.place();
        Tree {
            branches: B256Map::from_iter([(hash, Arc::new(durable))]),
            twins: VecDeque::new(),
            finals: VecDeque::new(),
            durable: (height, hash),
            recent: VecDeque::new(),
            executions: 0,
            adopted: None,
            safe: 0,
            is_open,
            returned: Returned::default(),
        }
    }

    pub fn tip(&self) -> (u64, B256) {
        self.finals.back().map_or(self.durable, |last| (last.height(), last.branch.executed.hash))
    }

    /// A block with the layers that lead to it from the durable one.
    pub fn chain(&self, hash: &B256) -> Option<(Arc<Branch>, Vec<Arc<BlockLayer>>)> {
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
    pub fn forget_losers(&mut self) {
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
    pub fn bound_siblings(&mut self, parent: &B256) {
        let (height, _) = self.tip();
        let children = self.branches.values().filter(|branch| {
            let (number, _, below) = branch.place();
            below == *parent && number > height
        });
        let mut children: Vec<(u64, u64, B256)> =
            children.map(|branch| (branch.age, branch.place().0, branch.executed.hash)).collect();
        if children.len() < MAX_SIBLINGS {
            return;
        }
        children.sort_unstable();
        let loser = children.iter().find(|(_, number, hash)| self.adopted_at(*number) != Some(*hash));
        let mut forgotten: Vec<B256> = loser.map(|(_, _, hash)| *hash).into_iter().collect();
        while let Some(hash) = forgotten.pop() {
            self.branches.remove(&hash);
            let orphans = self.branches.values().map(|branch| branch.place()).filter(|(_, _, below)| *below == hash);
            forgotten.extend(orphans.map(|(_, orphan, _)| orphan));
        }
    }

    /// Make room for one more block at all, if there are tentative ones to choose from.
    pub fn bound_branches(&mut self) {
        if self.branches.len() < MAX_BRANCHES || self.adopted.is_none() {
            return;
        }
        let (height, _) = self.tip();
        let mut kept: HashSet<B256> = self.branches.values().map(|branch| branch.place().2).collect();
        kept.extend(self.adopted);
        let ends = self.branches.values().filter(|b| b.place().0 > height && !kept.contains(&b.executed.hash));
        if let Some(hash) = ends.min_by_key(|branch| branch.age).map(|branch| branch.executed.hash) {
            self.branches.remove(&hash);
        }
    }

    // ---- what readers see

    pub fn latest(&self) -> B256 {
        self.adopted.unwrap_or_else(|| self.tip().1)
    }

    /// The ancestor of a block at a height; the block itself at its own.
    pub fn ancestor(&self, hash: B256, height: u64) -> Option<B256> {
        let mut branch = self.branches.get(&hash)?;
        while branch.executed.header.number > height {
            branch = self.branches.get(&branch.executed.header.parent_hash)?;
        }
        (branch.executed.header.number == height).then_some(branch.executed.hash)
    }

    pub fn adopted_at(&self, height: u64) -> Option<B256> {
        self.adopted.and_then(|tip| self.ancestor(tip, height))
    }

    /// The adopted blocks above the last final one, ascending; None if no tip was adopted.
    pub fn adopted_blocks(&self) -> Option<Vec<Arc<Branch>>> {
        let (height, _) = self.tip();
        let mut next = self.adopted?;
        let mut blocks = Vec::new();
        while let Some(branch) = self.branches.get(&next)
            && branch.executed.header.number > height
        {
            blocks.push(branch.clone());
            next = branch.executed.header.parent_hash;
        }
        blocks.reverse();
        Some(blocks)
    }

    /// Move to a tip that the tree holds; what is abandoned gives its transactions back, the lowest block's first.
    pub fn move_to(&mut self, tip: B256) {
        let before = self.adopted.replace(tip);
        let (Some(mut old), Some(mut new)) = (before, Some(tip)) else { return };
        let mut abandoned = Vec::new();
        while old != new {
            let (Some(left), Some(right)) = (self.branches.get(&old), self.branches.get(&new)) else { break };
            let (left_height, right_height) = (left.executed.header.number, right.executed.header.number);
            if left_height >= right_height {
                abandoned.push(left.clone());
                old = left.executed.header.parent_hash;
            }
            if right_height >= left_height {
                new = right.executed.header.parent_hash;
            }
        }
        for block in abandoned.iter().rev() {
            block.executed.included.iter().for_each(|included| self.returned.add(&included.raw));
        }
    }
}

impl Final {
    pub fn height(&self) -> u64 {
        self.branch.executed.header.number
    }
}

impl Branch {
    /// Height, hash and parent.
    pub fn place(&self) -> (u64, B256, B256) {
        (self.executed.header.number, self.executed.hash, self.executed.header.parent_hash)
    }

    pub fn head(&self) -> Head {
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

/// Identifies an execution.
pub fn fingerprint(parent: &B256, payloads: &[Bytes], parent_envelope: &B256) -> B256 {
    let mut parts = parent.to_vec();
    parts.extend_from_slice(parent_envelope.as_slice());
    for payload in payloads {
        parts.extend_from_slice(hash_payload(payload).as_slice());
    }
    keccak256(parts)
}
