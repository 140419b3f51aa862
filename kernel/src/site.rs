//! A state that is being built beside what the store shows, a run of leaves at a time in the order of their keys.
//!
//! Its nodes lie under a height above the last durable one, where nothing names them: a crash, or another beginning, leaves
//! what the store shows as it is. What a later run replaces of an earlier one is buried at once.

use crate::errors::{Error, Result};
use crate::history::{Over, visit};
use crate::sparse::Dead;
use crate::state::Root;
use crate::store::{Batch, Change, Store, Table};
use crate::trie::{NodeSource, Origin, node_key};
use crate::trie_node::{Chunks, Node, NodeId, NodeWriter};
use crate::trie_update::{Edit, Item, update};
use alloy_trie::Nibbles;
use std::sync::Arc;

/// What becomes of a leaf: it is there from now on.
pub struct Put<L>(pub L);

impl<L: Over> Edit for Put<L> {
    type Leaf = L;

    fn apply(&self, _: Option<&L>) -> Option<L> {
        Some(self.0.clone())
    }
}

/// Given up, it takes away what it wrote.
pub struct Site {
    store: Store,
    height: u64,
    next_chunk: u32,
    is_kept: bool,
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.next_chunk > 0 && !self.is_kept {
            let (first, end) = (node_key(self.height, 0), node_key(self.height + 1, 0));
            // Should this fail, the next opening of the store does it.
            let _ = self.store.write(&vec![Change::Clear(Table::Nodes, first, end)]);
        }
    }
}

impl Site {
    /// Begin; what an earlier attempt left above `durable` goes.
    pub fn clear(store: &Store, durable: u64, height: u64) -> Result<Site> {
        if height <= durable {
            return Err(Error::invalid(format!("height {height}: expected above the last durable one, {durable}")));
        }
        store.write(&vec![Change::Truncate(Table::Nodes, node_key(durable + 1, 0))])?;
        Ok(Site { store: store.clone(), height, next_chunk: 0, is_kept: false })
    }

    pub fn height(&self) -> u64 {
        self.height
    }

    /// What was built is part of the store from now on.
    pub fn keep(&mut self) {
        self.is_kept = true;
    }

    pub fn source(&self) -> Result<NodeSource> {
        Origin { layers: Arc::new([]), store: self.store.clone() }.open()
    }

    pub fn writer(&self) -> NodeWriter {
        NodeWriter::resume(self.height, self.next_chunk as usize, 1)
    }

    /// Write what was built, and bury what it replaced of earlier runs.
    pub fn write(&mut self, mut batch: Batch, chunks: Chunks, dead: Dead, source: &NodeSource) -> Result<()> {
        for (number, chunk) in chunks {
            self.next_chunk = number + 1;
            batch.push(Change::Put(Table::Nodes, node_key(self.height, number), chunk));
        }
        dead.bury(source.snapshot(), &mut batch)?;
        self.store.write(&batch)
    }
}

/// The trie with leaves added whose keys lie above all that are there.
pub fn append<L: Over>(
    source: &NodeSource,
    root: Root,
    items: &[Item<Put<L>>],
    writer: &mut NodeWriter,
    dead: &mut Dead,
) -> Result<Root> {
    let Some(first) = items.first() else { return Ok(root) };
    note_replaced::<L>(source, root.id, &first.key, dead)?;
    Ok(root.after(update(source, root.id, items, writer)?))
}

/// Note the nodes on the way to a key that is going to be added above all others: all of them are replaced, and no others,
/// since what else is added lies above it.
fn note_replaced<L: Over>(source: &NodeSource, root: Option<NodeId>, key: &Nibbles, dead: &mut Dead) -> Result<()> {
    let mut depth = 0;
    let mut next = root;
    while let Some(id) = next.take() {
        dead.add(id, visit::<L>(source, id)?.bytes);
        match Node::read(&source.node(id)?)? {
            Node::Branch(branch) => {
                next = key.get(depth).map(|nibble| source.child(&branch, nibble)).transpose()?.flatten();
                depth += 1;
            }
            Node::Extension(path, link) if key.slice(depth..).starts_with(&path) => {
                depth += path.len();
                next = Some(link.id);
            }
            Node::Extension(..) | Node::Leaf(..) => {}
        }
    }
    Ok(())
}
