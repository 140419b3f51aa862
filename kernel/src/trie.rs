//! Reading a versioned Merkle Patricia Trie: lookups, proofs (EIP-1186), complete walks; checking of proofs.
//!
//! Keys are keccak256 hashes, so that all have 64 nibbles. Updates are in `trie_update.rs`, records in `trie_node.rs`.

use crate::errors::{Error, Result, fixed};
use crate::sparse::{SPARSE, find_in_sparse};
use crate::store::{Snapshot, Store, Table, Value};
use crate::trie_node::{
    Branch, Child, Children, Chunks, Leaf, MAX_CHANGES, Node, NodeId, Reader, write_branch_rlp, write_extension_rlp,
    write_leaf_rlp,
};
use alloy_primitives::{B256, Bytes, keccak256};
use alloy_trie::nodes::{RlpNode, TrieNode};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::cell::RefCell;
use std::sync::Arc;

/// A proof has at most one node per nibble; anything longer is refused before it is hashed.
const MAX_PROOF_NODES: usize = 65;
const KEY_NIBBLES: usize = 64;

/// The new nodes of one version, not durable yet.
#[derive(Debug, Default)]
pub struct Layer {
    pub version: u64,
    /// Ascending by number.
    pub chunks: Chunks,
}

impl Layer {
    fn chunk(&self, number: u32) -> Option<&Bytes> {
        // Without lanes a chunk's number is its place.
        match self.chunks.get(number as usize) {
            Some((found, chunk)) if *found == number => Some(chunk),
            _ => self.chunks.binary_search_by_key(&number, |(n, _)| *n).ok().map(|place| &self.chunks[place].1),
        }
    }
}

pub fn node_key(version: u64, chunk: u32) -> Vec<u8> {
    [version.to_be_bytes().as_slice(), &chunk.to_be_bytes()].concat()
}

/// Where the nodes of a state are: layers over what the store holds.
#[derive(Clone)]
pub struct Origin {
    /// One per height, without gaps, the first directly above what the store is sure to hold.
    pub layers: Arc<[Arc<Layer>]>,
    pub store: Store,
}

impl Origin {
    /// Begin to read. Nodes of final blocks never change, so that a newer snapshot serves as well, and every thread may have its
    /// own.
    pub fn open(&self) -> Result<NodeSource> {
        Ok(self.over(self.store.snapshot()?))
    }

    /// Begin to read through a snapshot.
    pub fn over(&self, snapshot: Snapshot) -> NodeSource {
        NodeSource { origin: self.clone(), found: RefCell::default(), snapshot }
    }
}

/// Reads nodes through one snapshot.
pub struct NodeSource {
    origin: Origin,
    /// Chunks found lately, by a hash of their key. Declared before `snapshot`, whose memory they point into.
    found: RefCell<Vec<Found>>,
    snapshot: Snapshot,
}

#[derive(Clone, Copy)]
struct Found {
    version: u64,
    number: u32,
    /// Of the snapshot; not really static, see `stored_chunk`.
    chunk: &'static [u8],
}

/// A power of two. Walks that begin at one root share their upper nodes, which lie in a few chunks.
const FOUND_CHUNKS: usize = 256;

impl NodeSource {
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The record of a node; what follows it in its chunk comes along.
    pub fn node(&self, id: NodeId) -> Result<Value<'_>> {
        let place = self.origin.layers.first().and_then(|first| id.version.checked_sub(first.version));
        let chunk = match place {
            Some(place) => {
                let layer = self.origin.layers.get(place as usize);
                layer.and_then(|layer| layer.chunk(id.chunk())).map(|chunk| Value::Mapped(chunk))
            }
            None => self.stored_chunk(id.version, id.chunk())?,
        };
        let place = match &chunk {
            // What pruning left of a chunk says where its nodes are.
            Some(chunk) if chunk.first() == Some(&SPARSE) => find_in_sparse(chunk, id.start())?,
            Some(_) => Some(id.start()),
            None => None,
        };
        let record = match (chunk, place) {
            (Some(Value::Mapped(bytes)), Some(place)) => bytes.get(place..).map(Value::Mapped),
            (Some(Value::Shared(bytes)), Some(place)) if place <= bytes.len() => {
                Some(Value::Shared(bytes.slice(place..)))
            }
            _ => None,
        };
        record.ok_or_else(|| {
            Error::unavailable(format!("trie node {} of height {}: not stored (pruned?)", id.offset, id.version))
        })
    }

    fn stored_chunk(&self, version: u64, number: u32) -> Result<Option<Value<'_>>> {
        let place = (version.wrapping_mul(0x9e37_79b9) as usize ^ number as usize) % FOUND_CHUNKS;
        if let Some(known) = self.found.borrow().get(place)
            && (known.version, known.number) == (version, number)
        {
            return Ok(Some(Value::Mapped(known.chunk)));
        }
        let mut key = [0u8; 12];
        key[..8].copy_from_slice(&version.to_be_bytes());
        key[8..].copy_from_slice(&number.to_be_bytes());
        let value = self.snapshot.get(Table::Nodes, &key)?;
        if let Some(Value::Mapped(chunk)) = &value {
            let mut found = self.found.borrow_mut();
            if found.is_empty() {
                found.resize(FOUND_CHUNKS, Found { version: u64::MAX, number: 0, chunk: &[] });
            }
            // SAFETY: a mapped value stays where it is and unchanged as long as its read transaction, which `self.snapshot`
            // owns. This cache ends with it, and `node` gives its slices out for no longer than `self` is borrowed.
            let chunk: &'static [u8] = unsafe { std::mem::transmute::<&[u8], &'static [u8]>(*chunk) };
            found[place] = Found { version, number, chunk };
        }
        Ok(value)
    }

    /// The name of a branch's child.
    pub fn child(&self, branch: &Branch<'_>, nibble: u8) -> Result<Option<NodeId>> {
        let mut found = branch.child(nibble)?;
        for _ in 0..=MAX_CHANGES {
            match found {
                Child::Nothing => return Ok(None),
                Child::Here(id) => return Ok(Some(id)),
                Child::AsIn(earlier) => match Node::read(&self.node(earlier)?)? {
                    Node::Branch(branch) => found = branch.child(nibble)?,
                    _ => return Err(no_branch(earlier)),
                },
            }
        }
        Err(Error::corrupt("trie: a branch that refers to too many others"))
    }

    /// The children of a branch, and how many other records they came from.
    pub fn children(&self, branch: &Branch<'_>) -> Result<(Children, u8)> {
        let mut children = [None; 16];
        branch.take_children(u16::MAX, &mut children)?;
        let (mut missing, mut next) = (branch.missing(), branch.earlier());
        let mut changes = 0;
        while missing != 0 {
            let Some(earlier) = next.filter(|_| changes < MAX_CHANGES) else {
                return Err(Error::corrupt(format!("trie: a branch whose children {missing:#x} are nowhere")));
            };
            changes += 1;
            match Node::read(&self.node(earlier)?)? {
                Node::Branch(branch) => {
                    missing &= !branch.take_children(missing, &mut children)?;
                    next = branch.earlier();
                }
                _ => return Err(no_branch(earlier)),
            }
        }
        Ok((children, changes))
    }

    /// The leaf at `key` in the trie whose top node is `root`.
    pub fn find<L: Leaf>(&self, root: Option<NodeId>, key: &B256) -> Result<Option<L>> {
        let key = Nibbles::unpack_array(&key.0);
        let mut depth = 0;
        let mut next = root;
        while let Some(id) = next {
            match Node::read(&self.node(id)?)? {
                Node::Branch(branch) => {
                    next = self.child(&branch, nibble_at(&key, depth)?)?;
                    depth += 1;
                }
                Node::Extension(path, link) => {
                    if !key.slice(depth..).starts_with(&path) {
                        return Ok(None);
                    }
                    depth += path.len();
                    next = Some(link.id);
                }
                Node::Leaf(path, mut record) => {
                    return if key.slice(depth..) == path { L::read_record(&mut record).map(Some) } else { Ok(None) };
                }
            }
        }
        Ok(None)
    }

    /// The nodes from the top towards `key`, as RLP; those inside their parent are not repeated. Empty for the empty trie.
    pub fn prove<L: Leaf>(&self, root: Option<NodeId>, key: &B256) -> Result<Vec<Bytes>> {
        let key = Nibbles::unpack_array(&key.0);
        let mut proof: Vec<Bytes> = Vec::new();
        let mut depth = 0;
        let mut next = root;
        while let Some(id) = next.take() {
            let mut rlp = Vec::new();
            match Node::read(&self.node(id)?)? {
                Node::Branch(branch) => {
                    let children = self.children(&branch)?.0;
                    write_branch_rlp(&children, &mut rlp);
                    next = children[nibble_at(&key, depth)? as usize].map(|link| link.id);
                    depth += 1;
                }
                Node::Extension(path, link) => {
                    write_extension_rlp(&path, &link.reference, &mut rlp);
                    if key.slice(depth..).starts_with(&path) {
                        next = Some(link.id);
                    }
                    depth += path.len();
                }
                Node::Leaf(path, mut record) => write_leaf_rlp(&path, &value_of::<L>(&mut record)?, &mut rlp),
            }
            if rlp.len() >= 32 || proof.is_empty() {
                proof.push(rlp.into());
            }
        }
        Ok(proof)
    }

    /// Show every leaf to `visit`, in the order of keys.
    #[cfg(test)]
    pub fn walk<L: Leaf>(&self, root: Option<NodeId>, visit: &mut dyn FnMut(B256, L) -> Result<()>) -> Result<()> {
        self.walk_from(root, &B256::ZERO, &mut |key, leaf| visit(key, leaf).map(|()| true))
    }

    /// Show the leaves from key `first` on to `visit`, in the order of keys, until it says no.
    pub fn walk_from<L: Leaf>(
        &self,
        root: Option<NodeId>,
        first: &B256,
        visit: &mut dyn FnMut(B256, L) -> Result<bool>,
    ) -> Result<()> {
        let begin = Nibbles::unpack_array(&first.0);
        let is_before = |path: &Nibbles| *path < begin.slice(..path.len());
        let mut waiting: Vec<(Nibbles, NodeId)> = root.map(|id| (Nibbles::new(), id)).into_iter().collect();
        while let Some((mut path, id)) = waiting.pop() {
            if is_before(&path) {
                continue;
            }
            match Node::read(&self.node(id)?)? {
                Node::Branch(branch) => {
                    for (nibble, child) in self.children(&branch)?.0.iter().enumerate().rev() {
                        if let Some(link) = child {
                            let mut below = path;
                            nibble_at(&Nibbles::unpack(B256::ZERO), path.len())?;
                            below.push(nibble as u8);
                            waiting.push((below, link.id));
                        }
                    }
                }
                Node::Extension(rest, link) => {
                    path = extended(&path, &rest)?;
                    waiting.push((path, link.id));
                }
                Node::Leaf(rest, mut record) => {
                    let key = extended(&path, &rest)?;
                    let packed = fixed::<32>("trie key", &key.pack()).map_err(|e| Error::corrupt(e.to_string()))?;
                    if !is_before(&key) && !visit(B256::new(packed), L::read_record(&mut record)?)? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

fn no_branch(id: NodeId) -> Error {
    Error::corrupt(format!("trie node {} of height {}: expected a branch", id.offset, id.version))
}

fn value_of<L: Leaf>(record: &mut Reader<'_>) -> Result<Vec<u8>> {
    let mut value = Vec::new();
    L::read_record(record)?.write_value(&mut value);
    Ok(value)
}

fn nibble_at(key: &Nibbles, depth: usize) -> Result<u8> {
    key.get(depth)
        .ok_or_else(|| Error::corrupt(format!("trie: a branch at depth {depth}, expected below {KEY_NIBBLES}")))
}

fn extended(path: &Nibbles, rest: &Nibbles) -> Result<Nibbles> {
    let length = path.len() + rest.len();
    if length > KEY_NIBBLES {
        return Err(Error::corrupt(format!("trie: a path of {length} nibbles, expected at most {KEY_NIBBLES}")));
    }
    Ok(path.join(rest))
}

/// The value at `key` (already hashed) that the proof shows, None if it shows that there is none. Raises Invalid.
pub fn check_proof(root: &B256, key: &B256, proof: &[Bytes]) -> Result<Option<Vec<u8>>> {
    if proof.len() > MAX_PROOF_NODES {
        return Err(Error::invalid(format!("proof: {} nodes, expected at most {MAX_PROOF_NODES}", proof.len())));
    }
    let is_of_nothing = proof.is_empty() || (proof.len() == 1 && proof[0][..] == [alloy_rlp::EMPTY_STRING_CODE]);
    if is_of_nothing {
        return if *root == EMPTY_ROOT_HASH {
            Ok(None)
        } else {
            Err(Error::invalid(format!("proof: shows the empty trie, expected root {root}")))
        };
    }
    let key = Nibbles::unpack_array(&key.0);
    let mut depth = 0;
    let mut nodes = proof.iter().enumerate();
    // What is next: a hash whose preimage the proof must hold, or a node inside its parent.
    let mut next = Some(RlpNode::word_rlp(root));
    let mut value = None;
    while let Some(reference) = next.take() {
        let node = if let Some(hash) = reference.as_hash() {
            let (place, rlp) = nodes.next().ok_or_else(|| Error::invalid(format!("proof: ends before node {hash}")))?;
            let found = keccak256(rlp);
            if found != hash {
                return Err(Error::invalid(format!("proof: node {place} has hash {found}, expected {hash}")));
            }
            decode_node(rlp)?
        } else {
            decode_node(reference.as_slice())?
        };
        (next, value) = follow(node, &key, &mut depth)?;
    }
    match nodes.next() {
        None => Ok(value),
        Some((place, _)) => Err(Error::invalid(format!("proof: {} nodes, expected {place}", proof.len()))),
    }
}

fn decode_node(mut rlp: &[u8]) -> Result<TrieNode> {
    let node = <TrieNode as alloy_rlp::Decodable>::decode(&mut rlp);
    let node = node.map_err(|e| Error::invalid(format!("proof: a node is not RLP of a trie node: {e}")))?;
    if rlp.is_empty() { Ok(node) } else { Err(Error::invalid(format!("proof: {} bytes after a node", rlp.len()))) }
}

/// One step of a proof: the reference to follow, or the value that was reached.
fn follow(node: TrieNode, key: &Nibbles, depth: &mut usize) -> Result<(Option<RlpNode>, Option<Vec<u8>>)> {
    let rest = key.slice((*depth).min(KEY_NIBBLES)..);
    match node {
        TrieNode::EmptyRoot => Ok((None, None)),
        TrieNode::Branch(branch) => {
            let nibble = rest.first().ok_or_else(|| Error::invalid("proof: longer than its key"))?;
            *depth += 1;
            if !branch.state_mask.is_bit_set(nibble) {
                return Ok((None, None));
            }
            let place = (branch.state_mask.get() & ((1 << nibble) - 1)).count_ones() as usize;
            Ok((branch.stack.get(place).cloned(), None))
        }
        TrieNode::Extension(extension) => {
            *depth += extension.key.len();
            Ok((rest.starts_with(&extension.key).then_some(extension.child), None))
        }
        TrieNode::Leaf(leaf) => Ok((None, (rest == leaf.key).then_some(leaf.value))),
    }
}

#[pyfunction]
fn verify_proof(py: Python<'_>, root: &[u8], key: &[u8], proof: Vec<Vec<u8>>) -> PyResult<Option<Py<PyBytes>>> {
    let root = B256::new(fixed("root", root)?);
    let value = py.detach(|| {
        let proof: Vec<Bytes> = proof.into_iter().map(Bytes::from).collect();
        check_proof(&root, &keccak256(key), &proof)
    })?;
    Ok(value.map(|value| PyBytes::new(py, &value).unbind()))
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(verify_proof, m)?)
}
