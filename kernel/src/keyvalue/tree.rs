//! Executed blocks over the durable ones: what of them lives, and which of them are final.

use crate::block::Decision;
use crate::keyvalue::item::Identity;
use crate::keyvalue::run::Event;
use crate::keyvalue::state::{Answer, Header};
use crate::payload_hash::hash_payload;
use crate::state::Root;
use crate::trie::Layer;
use alloy_primitives::map::{B256HashMap, B256HashSet};
use alloy_primitives::{B256, Bytes, keccak256};
use std::collections::VecDeque;
use std::sync::Arc;

/// Executed children of one parent that are kept; the oldest goes first.
const MAX_SIBLINGS: usize = 16;
/// Final blocks whose answers and events are kept for those who ask.
const RECENT_BLOCKS: usize = 16;

/// An executed block.
pub struct Branch {
    pub header: Header,
    pub hash: B256,
    pub root: Root,
    pub skipped: Vec<(Identity, &'static str)>,
    pub answers: Vec<(Identity, Answer)>,
    pub events: Vec<Event>,
    /// None once durable.
    pub layer: Option<Arc<Layer>>,
    /// What it was executed from.
    pub cause: B256,
    pub age: u64,
}

pub struct Final {
    pub branch: Arc<Branch>,
    pub decision: Decision,
}

pub struct Tree {
    /// Executed blocks above the durable one, and that one.
    pub branches: B256HashMap<Arc<Branch>>,
    /// Ascending from the durable height + 1.
    pub finals: VecDeque<Arc<Final>>,
    pub durable: (u64, B256),
    pub recent: VecDeque<Arc<Branch>>,
    /// What readers see as the latest, if it is above the last final block.
    pub adopted: Option<B256>,
    pub executions: u64,
}

impl Tree {
    pub fn tip(&self) -> (u64, B256) {
        self.finals.back().map_or(self.durable, |last| (last.branch.header.height, last.branch.hash))
    }

    /// A block and the layers from the durable one to it.
    pub fn chain(&self, hash: &B256) -> Option<(Arc<Branch>, Vec<Arc<Layer>>)> {
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
    pub fn above_final(&self, hash: &B256) -> Vec<Arc<Branch>> {
        let (height, _) = self.tip();
        let mut found = Vec::new();
        let mut next = self.branches.get(hash);
        while let Some(branch) = next.filter(|branch| branch.header.height > height) {
            found.push(branch.clone());
            next = self.branches.get(&branch.header.parent);
        }
        found
    }

    /// Keep the answers of a block that became final.
    pub fn remember(&mut self, branch: Arc<Branch>) {
        if self.recent.len() == RECENT_BLOCKS {
            self.recent.pop_front();
        }
        self.recent.push_back(branch);
    }

    pub fn forget_losers(&mut self) {
        if self.branches.len() == self.finals.len() + 1 {
            // The durable block and the final ones: mostly nothing else was executed.
            self.adopted = None;
            return;
        }
        let (height, tip) = self.tip();
        let mut above: Vec<(u64, B256, B256)> = self
            .branches
            .values()
            .filter(|branch| branch.header.height > height)
            .map(|branch| (branch.header.height, branch.hash, branch.header.parent))
            .collect();
        above.sort_unstable();
        let mut living = B256HashSet::from_iter([tip]);
        for (_, hash, parent) in above {
            if living.contains(&parent) {
                living.insert(hash);
            }
        }
        let mut kept: B256HashSet = self.finals.iter().map(|last| last.branch.hash).collect();
        kept.insert(self.durable.1);
        self.branches.retain(|hash, _| kept.contains(hash) || living.contains(hash));
        self.adopted = self.adopted.filter(|hash| living.contains(hash) && *hash != tip);
    }

    pub fn bound_siblings(&mut self, parent: &B256) {
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

impl Branch {
    /// All but what only those need who hear of it at once.
    pub fn summary(&self) -> Branch {
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

/// What a block is executed from, hashed once.
pub struct Cause {
    pub parent: B256,
    pub payloads: Vec<Bytes>,
    pub envelope: B256,
    /// keccak256 of the names of the payloads.
    pub digest: B256,
    /// Of all of it.
    pub name: B256,
}

impl Cause {
    pub fn new(parent: B256, payloads: Vec<Bytes>, envelope: B256) -> Cause {
        let hashes: Vec<u8> = payloads.iter().flat_map(|payload| hash_payload(payload).0).collect();
        let digest = keccak256(hashes);
        let name = keccak256([parent.0, envelope.0, digest.0].concat());
        Cause { parent, payloads, envelope, digest, name }
    }
}
