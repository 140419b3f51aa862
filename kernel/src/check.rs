//! Looks at everything that a store holds, and says what does not fit: blocks, indexes, and states down to the last node.
//!
//! A check reads one snapshot of the store from beginning to end, so that it works beside a validator that writes; the store
//! grows meanwhile by what the validator replaces. Every hash is computed anew.

use crate::block::{self, BODY, Head, RECEIPTS};
use crate::codec::{decode_body, decode_receipts};
use crate::errors::{Error, Result};
use crate::history::History;
use crate::ledger::detached;
use crate::ordered_trie::ordered_root;
use crate::sparse::{count_bytes, is_note};
use crate::state::{AccountLeaf, SlotLeaf};
use crate::store::{Snapshot, Store, Table};
use crate::sweep::Sweep;
use crate::trie::{NodeSource, Origin};
use crate::trie_node::{Leaf, Node, NodeId, write_branch_rlp, write_extension_rlp, write_leaf_rlp};
use crate::view::View;
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{B256, Bloom, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY};
use parking_lot::Mutex;
use pyo3::prelude::*;
use std::collections::HashSet;
use std::sync::Arc;

/// (height, what does not fit there)
type Finding = (u64, String);

/// How a parent names a node.
#[derive(Clone)]
enum Expected {
    Hash(B256),
    Inline(Vec<u8>),
}

struct Waiting {
    id: NodeId,
    expected: Expected,
    /// In the storage of an account.
    is_below: bool,
}

/// What was looked at so far.
struct Checked {
    source: NodeSource,
    latest: u64,
    history: History,
    /// The state that is being walked; every state is walked but for what an older one had.
    height: u64,
    is_begun: bool,
    waiting: Vec<Waiting>,
    codes: HashSet<B256>,
    nodes: u64,
    bytes: u64,
    entries: u64,
}

impl Checked {
    fn new(store: &Store) -> Result<Checked> {
        let source = Origin { layers: Arc::new([]), store: store.clone() }.open()?;
        let latest = block::latest_height(source.snapshot())?
            .ok_or_else(|| Error::unavailable(format!("{}: has no genesis yet", store.name())))?;
        let history = History::read(source.snapshot())?;
        let height = history.states;
        let (waiting, codes) = (Vec::new(), HashSet::new());
        Ok(Checked { source, latest, history, height, is_begun: false, waiting, codes, nodes: 0, bytes: 0, entries: 0 })
    }

    fn snapshot(&self) -> &Snapshot {
        self.source.snapshot()
    }

    // ---- blocks

    fn check_block(&mut self, height: u64) -> Result<()> {
        if height > 0 && height < self.history.headers {
            // Pruned, though it may be stored until it is swept away.
            return Ok(());
        }
        let head = block::head(self.snapshot(), height)?.ok_or_else(|| damaged("its header is missing"))?;
        self.entries += 1;
        expect("hash", head.header.hash_slow(), head.hash)?;
        expect("number", head.header.number, height)?;
        if height > 0
            && let Some(parent) = block::stored_hash(self.snapshot(), height - 1)?
            && height > self.history.headers
        {
            expect("hash of the parent", head.header.parent_hash, parent)?;
        }
        expect("height by hash", block::height_of(self.snapshot(), &head.hash)?, Some(height))?;
        if self.history.has_block(height) { self.check_contents(&head) } else { Ok(()) }
    }

    fn check_contents(&mut self, head: &Head) -> Result<()> {
        let (height, header) = (head.header.number, &head.header);
        let body = decode_body(&block::part(self.snapshot(), height, BODY)?)?;
        let raws: Vec<&[u8]> = body.iter().map(|(_, raw)| raw.as_ref()).collect();
        expect("number of transactions", body.len() as u32, head.transactions)?;
        expect("root of transactions", ordered_root(&raws)?, header.transactions_root)?;
        let receipts = decode_receipts(&block::part(self.snapshot(), height, RECEIPTS)?)?;
        expect("number of receipts", receipts.len(), body.len())?;
        let encoded: Vec<Vec<u8>> = receipts.iter().map(|one| one.receipt.encoded_2718()).collect();
        let encoded: Vec<&[u8]> = encoded.iter().map(|one| one.as_slice()).collect();
        expect("root of receipts", ordered_root(&encoded)?, header.receipts_root)?;
        let bloom = receipts.iter().fold(Bloom::ZERO, |sum, one| sum | *one.receipt.logs_bloom());
        expect("bloom of logs", bloom, header.logs_bloom)?;
        for (index, (_, raw)) in body.iter().enumerate() {
            let hash = keccak256(raw);
            let found = block::locate(self.snapshot(), &hash)?;
            if found != Some((height, index as u32)) {
                return Err(damaged(format!("transaction {hash}: index says {found:?}, expected {index} of it")));
            }
            self.entries += 1;
        }
        Ok(())
    }

    // ---- states

    /// Look at some nodes; the height that is being walked, None when all are done. Findings end the walk of a height.
    fn check_nodes(&mut self, count: u64, findings: &mut Vec<Finding>) -> Option<u64> {
        let until = self.nodes + count;
        while self.height <= self.latest {
            let done = self.check_state(until);
            match done {
                Ok(false) => return Some(self.height),
                Ok(true) => {}
                Err(error) => {
                    findings.push((self.height, error.to_string()));
                    self.waiting.clear();
                }
            }
            self.height += 1;
            self.is_begun = false;
        }
        None
    }

    fn check_state(&mut self, until: u64) -> Result<bool> {
        if !self.is_begun {
            self.is_begun = true;
            let Some(head) = block::head(self.snapshot(), self.height)? else {
                return Err(damaged("its header is missing"));
            };
            match head.root.id {
                Some(id) if self.is_unseen(id) => {
                    let expected = Expected::Hash(head.header.state_root);
                    self.waiting.push(Waiting { id, expected, is_below: false });
                }
                Some(_) => {}
                None => expect("state root", EMPTY_ROOT_HASH, head.header.state_root)?,
            }
        }
        while let Some(next) = self.waiting.pop() {
            if self.nodes >= until {
                self.waiting.push(next);
                return Ok(false);
            }
            self.check_node(next)?;
        }
        Ok(true)
    }

    /// Nodes of earlier heights belong to the state before as well, which was walked; of the first state, all are new.
    fn is_unseen(&self, id: NodeId) -> bool {
        self.height == self.history.states || id.version >= self.height
    }

    fn check_node(&mut self, place: Waiting) -> Result<()> {
        let Waiting { id, expected, is_below } = place;
        let name = || format!("node {} of height {}", id.offset, id.version);
        let mut rlp = Vec::new();
        let mut found: Vec<Waiting> = Vec::new();
        let mut code = None;
        let record = self.source.node(id)?;
        let bytes = match Node::read(&record)? {
            Node::Branch(branch) => {
                let (children, rest) = branch.children_and_rest()?;
                write_branch_rlp(&children, &mut rlp);
                for link in children.iter().flatten() {
                    found.push(Waiting { id: link.id, expected: named(&link.reference), is_below });
                }
                record.len() - rest
            }
            Node::Extension(path, link) => {
                write_extension_rlp(&path, &link.reference, &mut rlp);
                found.push(Waiting { id: link.id, expected: named(&link.reference), is_below });
                link.reference.extension_bytes(&path)
            }
            Node::Leaf(path, mut reader) => {
                let mut value = Vec::new();
                if is_below {
                    SlotLeaf::read_record(&mut reader)?.write_value(&mut value);
                } else {
                    let leaf = AccountLeaf::read_record(&mut reader)?;
                    leaf.write_value(&mut value);
                    code = Some(leaf.account.code_hash);
                    if let Some(id) = leaf.storage.id {
                        found.push(Waiting { id, expected: Expected::Hash(leaf.storage.hash), is_below: true });
                    }
                }
                write_leaf_rlp(&path, &value, &mut rlp);
                record.len() - reader.left()
            }
        };
        drop(record);
        let fits = match &expected {
            Expected::Hash(hash) => keccak256(&rlp) == *hash,
            Expected::Inline(inline) => rlp == *inline,
        };
        if !fits {
            return Err(damaged(format!("{}: it is not what its parent names", name())));
        }
        if let Some(hash) = code.filter(|hash| *hash != KECCAK_EMPTY) {
            self.check_code(hash)?;
        }
        (self.nodes, self.bytes) = (self.nodes + 1, self.bytes + bytes as u64);
        found.retain(|next| self.is_unseen(next.id));
        self.waiting.extend(found);
        Ok(())
    }

    fn check_code(&mut self, hash: B256) -> Result<()> {
        if !self.codes.insert(hash) {
            return Ok(());
        }
        let code = self.snapshot().get(Table::Codes, hash.as_slice())?;
        let code = code.ok_or_else(|| damaged(format!("code {hash}: missing")))?;
        expect("hash of code", keccak256(&*code), hash)
    }

    // ---- what is there beside it

    /// Living bytes of trie nodes that are stored, those that are dead and not rewritten yet, and index entries.
    fn count(&self) -> Result<(u64, u64, u64)> {
        let (mut living, mut dead, mut entries) = (0, 0, 0);
        // What another state left goes in small steps.
        let sweep = Sweep::read(self.snapshot())?;
        let mut key = vec![0];
        while let Some((next, value)) = self.snapshot().next(Table::Nodes, &key)? {
            let goes = sweep.as_ref().is_some_and(|sweep| sweep.takes_key(Table::Nodes, &next));
            if !is_note(&next) && !goes {
                let note = self.snapshot().get(Table::Nodes, &[next.as_slice(), &[0xdd]].concat())?;
                let (alive, gone) = count_bytes(&value, note.as_deref())?;
                (living, dead) = (living + alive, dead + gone);
            }
            key = next;
        }
        let mut key = vec![0];
        while let Some((next, value)) = self.snapshot().next(Table::Index, &key)? {
            let goes = sweep.as_ref().map_or(Ok(false), |sweep| sweep.takes_entry(&value))?;
            entries += u64::from(!goes);
            key = next;
        }
        Ok((living, dead, entries))
    }
}

fn damaged(what: impl Into<String>) -> Error {
    Error::corrupt(what)
}

fn expect<T: PartialEq + std::fmt::Debug>(name: &str, found: T, expected: T) -> Result<()> {
    if found == expected { Ok(()) } else { Err(damaged(format!("{name}: {found:?}, expected {expected:?}"))) }
}

fn named(reference: &crate::trie_node::Reference) -> Expected {
    if reference.is_hash() { Expected::Hash(reference.root()) } else { Expected::Inline(reference.as_slice().to_vec()) }
}

/// A check of everything that one snapshot of a store holds.
#[pyclass(frozen, module = "quorate._kernel")]
pub struct Check {
    checked: Mutex<Checked>,
}

#[pymethods]
impl Check {
    /// The latest height, and the first heights whose state, whole block and header are here.
    fn range(&self) -> (u64, u64, u64, u64) {
        let checked = self.checked.lock();
        let History { states, blocks, headers } = checked.history;
        (checked.latest, states, blocks, headers)
    }

    /// What does not fit of the blocks from a height on: (height, what).
    fn blocks(&self, py: Python<'_>, first: u64, count: u64) -> PyResult<Vec<Finding>> {
        detached(py, || {
            let mut checked = self.checked.lock();
            let mut findings = Vec::new();
            for height in first..=checked.latest.min(first.saturating_add(count).saturating_sub(1)) {
                if let Err(error) = checked.check_block(height) {
                    findings.push((height, error.to_string()));
                }
            }
            Ok(findings)
        })
    }

    /// Look at so many more nodes of states: the height that is being walked (None: all is done), how many nodes were looked
    /// at in all, and what does not fit.
    fn states(&self, py: Python<'_>, count: u64) -> PyResult<(Option<u64>, u64, Vec<Finding>)> {
        detached(py, || {
            let mut checked = self.checked.lock();
            let mut findings = Vec::new();
            let height = checked.check_nodes(count, &mut findings);
            Ok((height, checked.nodes, findings))
        })
    }

    /// After all else: (bytes of nodes that are needed, that are stored, that are dead and wait; index entries that are
    /// needed, that are stored).
    fn totals(&self, py: Python<'_>) -> PyResult<(u64, u64, u64, u64, u64)> {
        detached(py, || {
            let checked = self.checked.lock();
            let (living, dead, entries) = checked.count()?;
            Ok((checked.bytes, living, dead, checked.entries, entries))
        })
    }
}

impl View {
    pub fn new_check(&self) -> Result<Check> {
        Ok(Check { checked: Mutex::new(Checked::new(self.past()?.store())?) })
    }
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Check>()
}
