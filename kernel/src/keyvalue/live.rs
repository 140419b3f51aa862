//! The trie of one state in memory, as far as it was looked at: what blocks change is changed in place.
//!
//! A block changes a few hundred leaves, and the branches above them are those of the blocks before. Kept here they are
//! neither looked up nor decoded again, and only their new records are written. What was not looked at yet is read from the
//! store when a path leads there, so that an empty trie in memory over the same root gives the same nodes, only later.
//!
//! Nodes keep the shape of Yellow Paper, appendix D: no branch with one child, no extension before an extension or a leaf.
//! A leaf holds its whole key, so that its path follows from its depth. References are hashes: no node of this application's
//! trie has an RLP below 32 bytes, since what a leaf says has 56.

use crate::errors::{Error, Result};
use crate::keccak_lanes::hash_many;
use crate::keyvalue::state::{Entry, Hashed, Numbers};
use crate::state::{EMPTY, Root};
use crate::trie::NodeSource;
use crate::trie_node::{HashedLink, Leaf as _, Link, MAX_CHANGES, Node, NodeId, NodeWriter, hashed_link};
use alloy_primitives::{B256, Bytes};
use alloy_trie::Nibbles;

const KEY_NIBBLES: usize = 64;
/// Nodes whose hashes are computed together; they fit into the processor's cache.
const LINKED_AT_ONCE: usize = 64;
/// Ways that `warm` goes side by side.
const WARM_AT_ONCE: usize = 32;
/// Of a leaf: its value is the stored one.
const STORED: u32 = u32::MAX;

/// What is known of the node in a slot; the number is its place among those of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kid {
    Unread,
    Branch(u32),
    Leaf(u32),
    Extension(u32),
}

/// Where a node hangs. Small, as most of the memory is slots: what a block takes is mostly waiting for them.
#[derive(Debug, Clone, Copy)]
struct Slot {
    link: HashedLink,
    /// Of `Kid`.
    kind: u8,
    place: u32,
}

impl Slot {
    fn stored(link: Link) -> Result<Slot> {
        let link = link.to_hashed();
        let link = link.ok_or_else(|| Error::corrupt("trie node: a child inside its parent, expected its hash"))?;
        Ok(Slot { link, kind: 0, place: 0 })
    }

    fn of_hash(hash: B256, id: NodeId) -> Slot {
        Slot { link: hashed_link(&hash.0, id), kind: 0, place: 0 }
    }

    /// Of a new node, whose link follows.
    fn new(kid: Kid) -> Slot {
        let mut slot = Slot { link: [0; size_of::<HashedLink>()], kind: 0, place: 0 };
        slot.set(kid);
        slot
    }

    fn kid(&self) -> Kid {
        match self.kind {
            1 => Kid::Branch(self.place),
            2 => Kid::Leaf(self.place),
            3 => Kid::Extension(self.place),
            _ => Kid::Unread,
        }
    }

    fn set(&mut self, kid: Kid) {
        (self.kind, self.place) = match kid {
            Kid::Unread => (0, 0),
            Kid::Branch(place) => (1, place),
            Kid::Leaf(place) => (2, place),
            Kid::Extension(place) => (3, place),
        };
    }

    fn link(&self) -> Link {
        Link::of_hashed(&self.link)
    }
}

#[derive(Debug, Default)]
struct Branch {
    bitmap: u16,
    /// Children that have changed since it was written.
    open: u16,
    /// How it was written last, and how many other records that one refers to.
    stored: Option<(NodeId, u8)>,
    /// One for each bit, ascending.
    slots: Vec<Slot>,
}

impl Branch {
    fn position(&self, nibble: u8) -> usize {
        (self.bitmap & ((1 << nibble) - 1)).count_ones() as usize
    }

    fn has(&self, nibble: u8) -> bool {
        self.bitmap & (1 << nibble) != 0
    }

    fn insert(&mut self, nibble: u8, slot: Slot, is_open: bool) {
        self.slots.insert(self.position(nibble), slot);
        self.bitmap |= 1 << nibble;
        self.open |= u16::from(is_open) << nibble;
    }

    fn remove(&mut self, nibble: u8) {
        self.slots.remove(self.position(nibble));
        self.bitmap &= !(1 << nibble);
        self.open &= !(1 << nibble);
    }
}

#[derive(Debug)]
struct Leaf {
    place: B256,
    numbers: Numbers,
    /// The place of its new value, or `STORED`.
    value: u32,
}

#[derive(Debug)]
struct Extension {
    path: Nibbles,
    below: Slot,
    /// Whether what is below has changed since it was written.
    is_open: bool,
}

/// Nodes of one kind; places of those that are gone are used again.
#[derive(Debug)]
struct Arena<T> {
    nodes: Vec<T>,
    free: Vec<u32>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Arena { nodes: Vec::new(), free: Vec::new() }
    }
}

impl<T> Arena<T> {
    fn add(&mut self, node: T) -> u32 {
        if let Some(place) = self.free.pop() {
            self.nodes[place as usize] = node;
            return place;
        }
        self.nodes.push(node);
        self.nodes.len() as u32 - 1
    }

    fn remove(&mut self, place: u32) {
        self.free.push(place);
    }

    fn count(&self) -> usize {
        self.nodes.len() - self.free.len()
    }
}

/// The slot of a node: that of the top, of a branch's child by nibble, or of an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Top,
    Branch(u32, u8),
    Extension(u32),
}

/// See above. An error leaves it unusable.
#[derive(Debug, Default)]
pub struct LiveTrie {
    top: Option<Slot>,
    is_open: bool,
    branches: Arena<Branch>,
    leaves: Arena<Leaf>,
    extensions: Arena<Extension>,
    /// New values with their hashes.
    values: Vec<(Bytes, B256)>,
    /// The slots on the way that `find` went last.
    way: Vec<At>,
}

fn nibble_of(place: &B256, depth: usize) -> u8 {
    let byte = place[depth / 2];
    if depth.is_multiple_of(2) { byte >> 4 } else { byte & 15 }
}

/// How many nibbles two keys share from the beginning.
fn shared(one: &B256, other: &B256) -> usize {
    match one.iter().zip(other.iter()).position(|(a, b)| a != b) {
        None => KEY_NIBBLES,
        Some(byte) => 2 * byte + usize::from((one[byte] ^ other[byte]) < 16),
    }
}

fn path_of(place: &B256, from: usize, to: usize) -> Nibbles {
    Nibbles::unpack_array(&place.0).slice(from..to)
}

fn too_deep(depth: usize) -> Error {
    Error::corrupt(format!("trie: a node below depth {depth}, expected at most {KEY_NIBBLES} nibbles"))
}

impl LiveTrie {
    pub fn new(root: Root) -> LiveTrie {
        let slot = |id| Slot::of_hash(root.hash, id);
        LiveTrie { top: root.id.map(slot), ..LiveTrie::default() }
    }

    /// How many nodes are here.
    pub fn count(&self) -> usize {
        self.branches.count() + self.leaves.count() + self.extensions.count()
    }

    fn slot(&mut self, at: At) -> Option<&mut Slot> {
        match at {
            At::Top => self.top.as_mut(),
            At::Branch(branch, nibble) => {
                let node = &mut self.branches.nodes[branch as usize];
                let position = node.position(nibble);
                node.slots.get_mut(position)
            }
            At::Extension(extension) => Some(&mut self.extensions.nodes[extension as usize].below),
        }
    }

    /// Let another node hang there, which is new or has changed.
    fn hang(&mut self, at: At, slot: Slot) {
        match at {
            At::Top => self.top = Some(slot),
            At::Branch(..) | At::Extension(_) => {
                if let Some(known) = self.slot(at) {
                    *known = slot;
                }
            }
        }
        self.mark(at);
    }

    fn mark(&mut self, at: At) {
        match at {
            At::Top => self.is_open = true,
            At::Branch(branch, nibble) => self.branches.nodes[branch as usize].open |= 1 << nibble,
            At::Extension(extension) => self.extensions.nodes[extension as usize].is_open = true,
        }
    }

    /// The node in a slot at `depth` on the way to `key`, read if it was not; None where nothing hangs.
    fn kid(&mut self, source: &NodeSource, at: At, key: &B256, depth: usize) -> Result<Option<Kid>> {
        let Some(slot) = self.slot(at) else { return Ok(None) };
        if slot.kid() != Kid::Unread {
            return Ok(Some(slot.kid()));
        }
        let id = slot.link().id;
        let kid = match Node::read(&source.node(id)?)? {
            Node::Branch(branch) => {
                if depth >= KEY_NIBBLES {
                    return Err(too_deep(depth));
                }
                let (children, changes) = source.children(&branch)?;
                let (mut bitmap, mut slots) = (0, Vec::new());
                for (nibble, link) in children.into_iter().enumerate() {
                    if let Some(link) = link {
                        bitmap |= 1 << nibble;
                        slots.push(Slot::stored(link)?);
                    }
                }
                let stored = Some((id, changes));
                Kid::Branch(self.branches.add(Branch { bitmap, open: 0, stored, slots }))
            }
            Node::Extension(path, link) => {
                if path.is_empty() || depth + path.len() >= KEY_NIBBLES {
                    return Err(too_deep(depth));
                }
                Kid::Extension(self.extensions.add(Extension { path, below: Slot::stored(link)?, is_open: false }))
            }
            Node::Leaf(path, mut record) => {
                let whole = path_of(key, 0, depth).join(&path);
                if depth + path.len() != KEY_NIBBLES {
                    return Err(too_deep(depth + path.len()));
                }
                let mut place = B256::ZERO;
                whole.pack_to(&mut place.0);
                let numbers = Numbers::read(&mut record)?;
                Kid::Leaf(self.leaves.add(Leaf { place, numbers, value: STORED }))
            }
        };
        if let Some(slot) = self.slot(at) {
            slot.set(kid);
        }
        Ok(Some(kid))
    }

    /// Go all ways at once, step by step, so that the processor waits for memory once for all and not for one after the other.
    pub fn warm(&self, places: &[B256]) {
        for group in places.chunks(WARM_AT_ONCE) {
            let mut ways: Vec<(Kid, usize, &B256)> = Vec::with_capacity(WARM_AT_ONCE);
            let top = self.top.map_or(Kid::Unread, |top| top.kid());
            ways.extend(group.iter().map(|place| (top, 0, place)));
            while !ways.is_empty() {
                for (kid, depth, place) in &ways {
                    if let Kid::Branch(branch) = kid {
                        let node = &self.branches.nodes[*branch as usize];
                        prefetch(node.slots.as_ptr().wrapping_add(node.position(nibble_of(place, *depth))));
                    }
                }
                ways.retain_mut(|(kid, depth, place)| {
                    let Kid::Branch(branch) = *kid else { return false };
                    let (node, nibble) = (&self.branches.nodes[branch as usize], nibble_of(place, *depth));
                    let slot = node.slots.get(node.position(nibble)).filter(|_| node.has(nibble));
                    (*kid, *depth) = (slot.map_or(Kid::Unread, Slot::kid), *depth + 1);
                    match *kid {
                        Kid::Branch(branch) => prefetch(&self.branches.nodes[branch as usize]),
                        Kid::Leaf(leaf) => prefetch(&self.leaves.nodes[leaf as usize]),
                        Kid::Extension(_) | Kid::Unread => {}
                    }
                    matches!(kid, Kid::Branch(_)) && *depth < KEY_NIBBLES
                });
            }
        }
    }

    /// The entry at `place`: its leaf and its numbers.
    pub fn find(&mut self, source: &NodeSource, place: &B256) -> Result<Option<(u32, Numbers)>> {
        let (mut at, mut depth) = (At::Top, 0);
        self.way.clear();
        loop {
            self.way.push(at);
            match self.kid(source, at, place, depth)? {
                None | Some(Kid::Unread) => return Ok(None),
                Some(Kid::Branch(branch)) => match self.step(branch, place, depth) {
                    Some(next) => (at, depth) = (next, depth + 1),
                    None => return Ok(None),
                },
                Some(Kid::Leaf(number)) => {
                    let leaf = &self.leaves.nodes[number as usize];
                    return Ok((leaf.place == *place).then_some((number, leaf.numbers)));
                }
                Some(Kid::Extension(extension)) => {
                    let path = &self.extensions.nodes[extension as usize].path;
                    let end = depth + path.len();
                    if path_of(place, depth, end) != *path {
                        return Ok(None);
                    }
                    (at, depth) = (At::Extension(extension), end);
                }
            }
        }
    }

    /// The slot of a branch at `depth` on the way to `place`.
    fn step(&self, branch: u32, place: &B256, depth: usize) -> Option<At> {
        let (nibble, node) = (nibble_of(place, depth), &self.branches.nodes[branch as usize]);
        node.has(nibble).then_some(At::Branch(branch, nibble))
    }

    // ---- changes

    /// Note that the leaf which was found last will be overwritten, or written again as it is.
    pub fn mark_found(&mut self) {
        let way = std::mem::take(&mut self.way);
        for at in &way {
            self.mark(*at);
        }
        self.way = way;
    }

    /// Set the entry of a leaf that was marked.
    pub fn overwrite(&mut self, leaf: u32, numbers: Numbers, value: Bytes) {
        let fresh = self.values.len() as u32;
        self.values.push((value, B256::ZERO));
        let leaf = &mut self.leaves.nodes[leaf as usize];
        (leaf.numbers, leaf.value) = (numbers, fresh);
    }

    /// Set the entry at `place`.
    pub fn set(&mut self, source: &NodeSource, place: &B256, numbers: Numbers, value: Bytes) -> Result<()> {
        let fresh = self.values.len() as u32;
        self.values.push((value, B256::ZERO));
        let new = Leaf { place: *place, numbers, value: fresh };
        let (mut at, mut depth) = (At::Top, 0);
        loop {
            let kid = self.kid(source, at, place, depth)?;
            self.mark(at);
            match kid {
                None | Some(Kid::Unread) => {
                    let leaf = Slot::new(Kid::Leaf(self.leaves.add(new)));
                    self.hang(at, leaf);
                    return Ok(());
                }
                Some(Kid::Branch(branch)) => {
                    let Some(next) = self.step(branch, place, depth) else {
                        let leaf = Slot::new(Kid::Leaf(self.leaves.add(new)));
                        self.branches.nodes[branch as usize].insert(nibble_of(place, depth), leaf, true);
                        return Ok(());
                    };
                    (at, depth) = (next, depth + 1);
                }
                Some(Kid::Leaf(leaf)) => {
                    let other = self.leaves.nodes[leaf as usize].place;
                    if other == *place {
                        self.leaves.nodes[leaf as usize] = new;
                        return Ok(());
                    }
                    let fork = shared(&other, place);
                    // Its path becomes shorter; its value is read again by its name when it is written.
                    let old = self.slot(at).copied().unwrap_or_else(|| Slot::new(Kid::Leaf(leaf)));
                    self.fork(at, place, (depth, fork), nibble_of(&other, fork), (old, true), new);
                    return Ok(());
                }
                Some(Kid::Extension(extension)) => {
                    let Extension { path, below, is_open } = self.extensions.nodes[extension as usize];
                    let common = path_of(place, depth, depth + path.len()).common_prefix_length(&path);
                    if common == path.len() {
                        (at, depth) = (At::Extension(extension), depth + path.len());
                        continue;
                    }
                    let rest = path.slice(common + 1..);
                    self.extensions.remove(extension);
                    let old = if rest.is_empty() {
                        (below, is_open)
                    } else {
                        let rest = Extension { path: rest, below, is_open };
                        (Slot::new(Kid::Extension(self.extensions.add(rest))), true)
                    };
                    self.fork(at, place, (depth, depth + common), path.get_unchecked(common), old, new);
                    return Ok(());
                }
            }
        }
    }

    /// Let a branch at depth `fork` hang where only `old` did at `depth`: that by `nibble`, and a new leaf.
    fn fork(
        &mut self,
        at: At,
        place: &B256,
        (depth, fork): (usize, usize),
        nibble: u8,
        (old, is_open): (Slot, bool),
        new: Leaf,
    ) {
        let leaf = Slot::new(Kid::Leaf(self.leaves.add(new)));
        let mut branch = Branch::default();
        branch.insert(nibble, old, is_open);
        branch.insert(nibble_of(place, fork), leaf, true);
        let branch = Slot::new(Kid::Branch(self.branches.add(branch)));
        let slot = if fork > depth {
            let path = path_of(place, depth, fork);
            Slot::new(Kid::Extension(self.extensions.add(Extension { path, below: branch, is_open: true })))
        } else {
            branch
        };
        self.hang(at, slot);
    }

    /// Remove the entry at `place`, if there is one.
    pub fn remove(&mut self, source: &NodeSource, place: &B256) -> Result<()> {
        if self.find(source, place)?.is_none() {
            return Ok(());
        }
        // Slots on the way with their depths, that of the leaf last.
        let (mut at, mut depth) = (At::Top, 0);
        let mut way = vec![(at, depth)];
        loop {
            self.mark(at);
            match self.kid(source, at, place, depth)? {
                Some(Kid::Branch(branch)) => match self.step(branch, place, depth) {
                    Some(next) => (at, depth) = (next, depth + 1),
                    None => return Err(too_deep(depth)),
                },
                Some(Kid::Extension(extension)) => {
                    let length = self.extensions.nodes[extension as usize].path.len();
                    (at, depth) = (At::Extension(extension), depth + length);
                }
                Some(Kid::Leaf(leaf)) => {
                    self.leaves.remove(leaf);
                    way.pop();
                    return self.remove_slot(source, place, at, &way);
                }
                None | Some(Kid::Unread) => return Err(too_deep(depth)),
            }
            way.push((at, depth));
        }
    }

    /// Take the slot of a removed leaf from its branch; `way` leads to that branch.
    fn remove_slot(&mut self, source: &NodeSource, place: &B256, at: At, way: &[(At, usize)]) -> Result<()> {
        let (At::Branch(branch, nibble), Some((above, depth))) = (at, way.last().copied()) else {
            self.top = None;
            return Ok(());
        };
        let node = &mut self.branches.nodes[branch as usize];
        node.remove(nibble);
        if node.slots.len() > 1 {
            return Ok(());
        }
        // A branch with one child goes; what is left hangs in its place, with a longer path.
        let nibble = node.bitmap.trailing_zeros() as u8;
        let beside = with_nibble(place, depth, nibble);
        let kid = self.kid(source, At::Branch(branch, nibble), &beside, depth + 1)?;
        let node = &mut self.branches.nodes[branch as usize];
        let is_open = node.open != 0;
        let mut left = node.slots.pop().ok_or_else(|| too_deep(depth))?;
        self.branches.remove(branch);
        match kid {
            Some(Kid::Extension(extension)) => {
                let node = &mut self.extensions.nodes[extension as usize];
                node.path = Nibbles::from_nibbles([nibble]).join(&node.path);
            }
            Some(Kid::Branch(_)) => {
                let path = Nibbles::from_nibbles([nibble]);
                left = Slot::new(Kid::Extension(self.extensions.add(Extension { path, below: left, is_open })));
            }
            _ => {}
        }
        self.hang(above, left);
        if let (At::Extension(before), [.., (place_before, _), _]) = (above, way) {
            self.join(*place_before, before, left);
        }
        Ok(())
    }

    /// Leave out an extension before an extension or a leaf.
    fn join(&mut self, at: At, before: u32, left: Slot) {
        if let Kid::Extension(extension) = left.kid() {
            let path = self.extensions.nodes[before as usize].path;
            let node = &mut self.extensions.nodes[extension as usize];
            node.path = path.join(&node.path);
        }
        self.extensions.remove(before);
        self.hang(at, left);
    }

    // ---- writing

    /// Write what has changed, level by level from the leaves up: nodes of one depth need nothing of each other.
    pub fn write(&mut self, source: &NodeSource, writer: &mut NodeWriter) -> Result<Root> {
        self.hash_values();
        let levels = self.open_levels();
        for (depth, level) in levels.iter().enumerate().rev() {
            for part in level.chunks(LINKED_AT_ONCE) {
                for at in part {
                    self.add(source, writer, *at, depth)?;
                }
                let (mut next, mut is_sound) = (part.iter(), true);
                writer.link_all(|link| is_sound &= next.next().is_some_and(|at| self.linked(*at, link)));
                if !is_sound {
                    return Err(Error::corrupt("trie: a node below 32 bytes, expected its hash"));
                }
            }
        }
        self.is_open = false;
        self.values.clear();
        Ok(self.top.map_or(EMPTY, |top| {
            let Link { reference, id } = top.link();
            Root { hash: reference.root(), id: Some(id) }
        }))
    }

    /// Take note of how the node in a slot was written; whether it could be.
    fn linked(&mut self, at: At, link: Link) -> bool {
        let Some((slot, hashed)) = self.slot(at).zip(link.to_hashed()) else { return false };
        slot.link = hashed;
        if let Kid::Branch(branch) = slot.kid() {
            let node = &mut self.branches.nodes[branch as usize];
            node.stored = node.stored.map(|(_, changes)| (link.id, changes));
        }
        true
    }

    fn hash_values(&mut self) {
        let mut hashes = Vec::with_capacity(self.values.len());
        hash_many(self.values.iter().map(|(value, _)| &value[..]), &mut hashes);
        for ((_, known), hash) in self.values.iter_mut().zip(hashes) {
            *known = hash;
        }
    }

    /// The slots that are open, by depth.
    fn open_levels(&mut self) -> Vec<Vec<At>> {
        let mut levels: Vec<Vec<At>> = Vec::new();
        let mut waiting: Vec<(At, usize)> = self.is_open.then_some((At::Top, 0)).into_iter().collect();
        while let Some((at, depth)) = waiting.pop() {
            let Some(slot) = self.slot(at) else { continue };
            let kid = slot.kid();
            if levels.len() <= depth {
                levels.resize_with(depth + 1, Vec::new);
            }
            levels[depth].push(at);
            match kid {
                Kid::Branch(branch) => {
                    let mut open = self.branches.nodes[branch as usize].open;
                    while open != 0 {
                        waiting.push((At::Branch(branch, open.trailing_zeros() as u8), depth + 1));
                        open &= open - 1;
                    }
                }
                Kid::Extension(extension) => {
                    let node = &self.extensions.nodes[extension as usize];
                    if node.is_open {
                        waiting.push((At::Extension(extension), depth + node.path.len()));
                    }
                }
                Kid::Leaf(_) | Kid::Unread => {}
            }
        }
        levels
    }

    /// Add an open node to those that are linked together.
    fn add(&mut self, source: &NodeSource, writer: &mut NodeWriter, at: At, depth: usize) -> Result<()> {
        let Some(slot) = self.slot(at).copied() else { return Ok(()) };
        match slot.kid() {
            Kid::Branch(branch) => {
                let node = &mut self.branches.nodes[branch as usize];
                let (changed, links) = (std::mem::take(&mut node.open), node.slots.iter().map(|slot| &slot.link));
                let earlier = node.stored.filter(|(_, changes)| *changes < MAX_CHANGES);
                let of_changes = earlier.map(|(id, _)| (id, changed));
                let is_change = writer.add_branch_of_hashes(node.bitmap, links, of_changes)?;
                let changes = earlier.filter(|_| is_change).map_or(0, |(_, changes)| changes + 1);
                // Its name follows.
                node.stored = Some((NodeId { version: 0, offset: 0 }, changes));
                Ok(())
            }
            Kid::Extension(extension) => {
                let node = &mut self.extensions.nodes[extension as usize];
                node.is_open = false;
                writer.add_extension(&node.path, &node.below.link())
            }
            Kid::Leaf(leaf) => {
                let leaf = &mut self.leaves.nodes[leaf as usize];
                let path = path_of(&leaf.place, depth, KEY_NIBBLES);
                let entry = match std::mem::replace(&mut leaf.value, STORED) {
                    STORED => read_entry(source, slot.link().id)?,
                    fresh => {
                        let (value, hash) = std::mem::take(&mut self.values[fresh as usize]);
                        leaf.numbers.with(value, Hashed(Some(hash)))
                    }
                };
                writer.add_leaf(&path, &entry)
            }
            Kid::Unread => Err(Error::corrupt("trie: an open node that was never read")),
        }
    }
}

/// Begin to bring what is there into the processor's cache.
fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, whatever is there.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

fn with_nibble(place: &B256, depth: usize, nibble: u8) -> B256 {
    let mut other = *place;
    let byte = &mut other[depth / 2];
    *byte = if depth.is_multiple_of(2) { *byte & 15 | nibble << 4 } else { *byte & 0xf0 | nibble };
    other
}

/// The entry of a stored leaf.
fn read_entry(source: &NodeSource, id: NodeId) -> Result<Entry> {
    match Node::read(&source.node(id)?)? {
        Node::Leaf(_, mut record) => Entry::read_record(&mut record),
        _ => Err(Error::corrupt(format!("trie node {} of height {}: expected a leaf", id.offset, id.version))),
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
