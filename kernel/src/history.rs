//! What a store holds of the past, and letting go of it: old states, and the contents of old blocks.
//!
//! The state after a block is a trie whose nodes never change, and the next block's trie shares all but what it replaced. So
//! the nodes that only the older of two states needs are found by looking at what the newer one added: whatever that names of
//! earlier heights lives on, all else of the older trie is dead. One step costs about what the block cost, whatever the size
//! of the state, and no list is kept. `sparse.rs` frees the bytes.
//!
//! Table `Meta`, `history`: the first height whose state is here, the first whose block is whole, and the first whose header
//! is here (8 bytes each). Genesis is always whole but for its state. Without the record all is here. Headers stay when a
//! block is pruned, as with other clients (EIP-4444); a store that was made from a snapshot begins with a few of them.

use crate::block::{self, BODY, DECISION, EXTRA, Head, RECEIPTS};
use crate::codec::decode_body;
use crate::errors::{Error, Result};
use crate::sparse::Dead;
use crate::state::{AccountLeaf, SlotLeaf};
use crate::store::{Batch, Change, Snapshot, Store, Table, required};
use crate::trie::{NodeSource, Origin};
use crate::trie_node::{Leaf, Node, NodeId};
use alloy_primitives::{Bytes, keccak256};
use std::collections::HashSet;
use std::sync::Arc;

const HISTORY: &[u8] = b"history";
/// JSON-RPC's code for what was there and is not kept, as Ethereum clients use it (EIP-4444).
pub const PRUNED: i64 = 4444;
/// States before the last one that stay whatever the settings say: members are read two heights back, and who began to
/// execute over a tip may finish.
pub const MIN_STATES: u64 = 8;
/// Blocks that stay: who has just fallen behind asks for them.
pub const MIN_BLOCKS: u64 = 8;
/// Dead nodes of one step that end it.
const STEP_NODES: usize = 20_000;
/// Heights of one step.
const STEP_HEIGHTS: u64 = 64;
/// Bytes of blocks whose removal ends a step.
const STEP_BLOCK_BYTES: usize = 4 << 20;

/// Raised where something was pruned.
pub fn pruned() -> Error {
    Error::coded(PRUNED, "pruned history unavailable")
}

/// The first heights of which things are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    pub states: u64,
    pub blocks: u64,
    pub headers: u64,
}

impl History {
    pub fn read(snapshot: &Snapshot) -> Result<History> {
        let Some(record) = snapshot.get(Table::Meta, HISTORY)? else { return Ok(History::default()) };
        let mut reader = crate::trie_node::Reader::new(&record);
        let mut number = || reader.array::<8>().map(|bytes| u64::from_be_bytes(*bytes));
        Ok(History { states: number()?, blocks: number()?, headers: number()? })
    }

    pub fn put(&self, batch: &mut Batch) {
        let value: Vec<u8> =
            [self.states, self.blocks, self.headers].iter().flat_map(|number| number.to_be_bytes()).collect();
        batch.push(Change::Put(Table::Meta, HISTORY.to_vec(), value.into()));
    }

    /// Whether neither state nor block of a height are here.
    pub fn is_gone(&self, height: u64) -> bool {
        height < self.states.min(self.blocks)
    }

    pub fn has_block(&self, height: u64) -> bool {
        height >= self.blocks || height == 0
    }
}

/// A leaf below which there may be another trie.
pub trait Over: Leaf {
    fn below(&self) -> Option<NodeId>;
}

impl Over for AccountLeaf {
    fn below(&self) -> Option<NodeId> {
        self.storage.id
    }
}

impl Over for SlotLeaf {
    fn below(&self) -> Option<NodeId> {
        None
    }
}

/// One node, as far as walks over whole tries need it.
pub struct Visited {
    pub bytes: usize,
    /// Nodes of the same trie.
    pub children: Vec<NodeId>,
    /// The top of the trie below a leaf.
    pub below: Option<NodeId>,
}

pub fn visit<L: Over>(source: &NodeSource, id: NodeId) -> Result<Visited> {
    let record = source.node(id)?;
    Ok(match Node::read(&record)? {
        Node::Branch(branch) => {
            let (children, rest) = branch.children_and_rest()?;
            let children = children.iter().flatten().map(|link| link.id).collect();
            Visited { bytes: record.len() - rest, children, below: None }
        }
        Node::Extension(path, link) => {
            Visited { bytes: link.reference.extension_bytes(&path), children: vec![link.id], below: None }
        }
        Node::Leaf(_, mut reader) => {
            let leaf = L::read_record(&mut reader)?;
            Visited { bytes: record.len() - reader.left(), children: Vec::new(), below: leaf.below() }
        }
    })
}

/// Find the nodes that the state below `old` needs and the one of the next height, `version`, does not.
pub fn find_dead<L: Over>(
    source: &NodeSource,
    old: Option<NodeId>,
    new: Option<NodeId>,
    version: u64,
    dead: &mut Dead,
) -> Result<()> {
    if old == new {
        return Ok(());
    }
    let mut kept = HashSet::new();
    walk::<L>(
        source,
        new,
        &mut |id| {
            let is_new = id.version >= version;
            if !is_new {
                kept.insert(id);
            }
            is_new
        },
        &mut |_, _| {},
    )?;
    walk::<L>(source, old, &mut |id| !kept.contains(&id), &mut |id, bytes| dead.add(id, bytes))
}

/// Walk a trie and those below its leaves; `enter` says whether a node, with all below it, is looked at.
fn walk<L: Over>(
    source: &NodeSource,
    root: Option<NodeId>,
    enter: &mut dyn FnMut(NodeId) -> bool,
    leave: &mut dyn FnMut(NodeId, usize),
) -> Result<()> {
    let mut waiting: Vec<(NodeId, bool)> = root.map(|id| (id, false)).into_iter().collect();
    while let Some((id, is_below)) = waiting.pop() {
        if !enter(id) {
            continue;
        }
        let visited = if is_below { visit::<SlotLeaf>(source, id)? } else { visit::<L>(source, id)? };
        leave(id, visited.bytes);
        waiting.extend(visited.children.into_iter().map(|child| (child, is_below)));
        waiting.extend(visited.below.map(|top| (top, true)));
    }
    Ok(())
}

/// Take one step of forgetting: states before the last `states` ones before `durable`, blocks likewise; None: keep all.
/// Whether there is more to do. One transaction, so that a crash leaves a store before the step or after it.
pub fn prune(store: &Store, durable: u64, states: Option<u64>, blocks: Option<u64>) -> Result<bool> {
    let snapshot = store.snapshot()?;
    let before = History::read(&snapshot)?;
    let mut after = before;
    let mut batch = Batch::new();
    let first_state = states.map_or(0, |count| durable.saturating_sub(count.max(MIN_STATES)));
    let first_block = blocks.map_or(0, |count| durable.saturating_sub(count.max(MIN_BLOCKS)));
    if after.states < first_state {
        after.states = prune_states(store, &mut batch, after.states, first_state)?;
    }
    if after.blocks < first_block {
        after.blocks = prune_blocks(&snapshot, &mut batch, after.blocks, first_block)?;
    }
    if after == before {
        return Ok(false);
    }
    after.put(&mut batch);
    // A store that was never pruned can be read by versions that know nothing of it.
    batch.push(Change::Put(Table::Meta, b"format".to_vec(), crate::tree_store::PRUNED_FORMAT.into()));
    drop(snapshot);
    store.write(&batch)?;
    Ok(after.states < first_state || after.blocks < first_block)
}

fn prune_states(store: &Store, batch: &mut Batch, first: u64, until: u64) -> Result<u64> {
    let source = Origin { layers: Arc::new([]), store: store.clone() }.open()?;
    let mut dead = Dead::default();
    let head_at = |height: u64| -> Result<Head> {
        required(block::head(source.snapshot(), height)?, || format!("height {height}: the head of the block"))
    };
    let mut height = first;
    let mut old = head_at(height)?;
    while height < until.min(first + STEP_HEIGHTS) && dead.count() < STEP_NODES {
        let new = head_at(height + 1)?;
        find_dead::<AccountLeaf>(&source, old.root.id, new.root.id, height + 1, &mut dead)?;
        (old, height) = (new, height + 1);
    }
    dead.bury(source.snapshot(), batch)?;
    Ok(height)
}

fn prune_blocks(snapshot: &Snapshot, batch: &mut Batch, first: u64, until: u64) -> Result<u64> {
    let (mut height, mut bytes) = (first, 0);
    while height < until.min(first + STEP_HEIGHTS) && bytes < STEP_BLOCK_BYTES {
        if height > 0 {
            let body: Bytes = block::part(snapshot, height, BODY)?;
            bytes += body.len();
            for (_, raw) in decode_body(&body)? {
                batch.push(Change::Delete(Table::Index, keccak256(raw).to_vec()));
            }
            for kind in [DECISION, BODY, RECEIPTS, EXTRA] {
                batch.push(Change::Delete(Table::Blocks, block::key(height, kind)));
            }
        }
        height += 1;
    }
    Ok(height)
}
