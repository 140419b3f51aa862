//! Applies sorted edits to a trie in one descent and writes what changed.
//!
//! Branches are rebuilt bottom-up. A node stays unwritten ("open") until it is known whether the branch above it keeps more
//! than one child: if not, a path grows by that branch's nibble (Yellow Paper, appendix D: no branch with one child, no
//! extension before an extension or a leaf). If so, the branch's open children are written and hashed together.

use crate::errors::Result;
use crate::trie::NodeSource;
use crate::trie_node::{Children, Chunks, Leaf, Link, Node, NodeId, NodeWriter};
use alloy_trie::Nibbles;
use rayon::prelude::*;

/// What becomes of one leaf.
pub trait Edit: Sync {
    type Leaf: Leaf;
    /// The leaf afterwards, given the one before.
    fn apply(&self, old: Option<&Self::Leaf>) -> Option<Self::Leaf>;
}

/// An edit with the hashed key that it concerns.
pub struct Item<E> {
    pub key: Nibbles,
    pub edit: E,
}

/// Above this many edits the sixteen subtries of the top branch are updated side by side.
pub const PARALLEL_EDITS: usize = 1024;
/// The lanes that `update_in_lanes` needs: one per subtrie and one for the top.
pub const LANES: usize = 17;

/// What became of a subtrie.
enum Subtrie<L> {
    Unchanged,
    Empty,
    Stored(Link),
    Leaf(Nibbles, L),
    Extension(Nibbles, Link),
    Branch(Box<Children>),
}

/// What is below a branch at one nibble, while it is rebuilt.
enum Child<L> {
    Kept(Option<Link>),
    New(Subtrie<L>),
}

/// What is there before the edits.
enum Old {
    Nothing,
    Node(NodeId),
    Extension(Nibbles, Link),
}

/// The top of a trie after an update: None for the empty trie.
pub enum Top {
    Unchanged,
    Changed(Option<Link>),
}

struct Update<'a, E: Edit> {
    source: &'a NodeSource,
    writer: &'a mut NodeWriter,
    edits: std::marker::PhantomData<fn() -> E>,
}

/// Apply `items`, sorted by key and without repetition, to the trie at `root`.
pub fn update<E: Edit>(
    source: &NodeSource,
    root: Option<NodeId>,
    items: &[Item<E>],
    writer: &mut NodeWriter,
) -> Result<Top> {
    let mut update = Update { source, writer, edits: std::marker::PhantomData };
    let subtrie = update.descend(root.map_or(Old::Nothing, Old::Node), 0, items)?;
    update.close(subtrie)
}

/// `update` over all cores, with `LANES` lanes of `lanes` beginning at `first`; the same names on any machine.
pub fn update_in_lanes<E: Edit + Send>(
    source: &NodeSource,
    root: Option<NodeId>,
    items: &[Item<E>],
    version: u64,
    first: usize,
    lanes: usize,
) -> Result<(Top, Vec<Chunks>)> {
    let mut top = NodeWriter::new(version, first + 16, lanes);
    let children = match root {
        None => Some([None; 16]),
        Some(id) => match Node::read(&source.node(id)?)? {
            Node::Branch(branch) => Some(branch.children()?),
            _ => None,
        },
    };
    let Some(children) = children else {
        let result = update(source, root, items, &mut top)?;
        return Ok((result, vec![top.finish()]));
    };
    let parts = split_by_nibble(items, 0);
    let origin = source.origin();
    let update_part = |(lane, part): (usize, &&[Item<E>])| -> Result<(Child<E::Leaf>, Chunks)> {
        let old = children[lane];
        if part.is_empty() {
            return Ok((Child::Kept(old), Vec::new()));
        }
        let source = origin.open()?;
        let mut writer = NodeWriter::new(version, first + lane, lanes);
        let mut update = Update::<E> { source: &source, writer: &mut writer, edits: std::marker::PhantomData };
        let subtrie = update.descend(old.map_or(Old::Nothing, |link| Old::Node(link.id)), 1, part)?;
        let child = match subtrie {
            Subtrie::Unchanged => Child::Kept(old),
            changed => Child::New(changed),
        };
        Ok((child, writer.finish()))
    };
    let done = parts.par_iter().enumerate().map(update_part).collect::<Result<Vec<_>>>()?;
    let (parts, mut chunks): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    let mut update = Update::<E> { source, writer: &mut top, edits: std::marker::PhantomData };
    let subtrie = update.finish_branch(parts)?;
    let result = update.close(subtrie)?;
    chunks.push(top.finish());
    Ok((result, chunks))
}

/// The runs of items with each nibble at `depth`.
fn split_by_nibble<E>(items: &[Item<E>], depth: usize) -> [&[Item<E>]; 16] {
    let mut parts: [&[Item<E>]; 16] = [&[]; 16];
    let mut rest = items;
    while let Some(first) = rest.first() {
        let nibble = first.key.get_unchecked(depth);
        let count = rest.partition_point(|item| item.key.get_unchecked(depth) == nibble);
        (parts[nibble as usize], rest) = rest.split_at(count);
    }
    parts
}

/// How many nibbles from `depth` on a key shares with `path`.
fn shared(key: &Nibbles, depth: usize, path: &Nibbles) -> usize {
    key.slice(depth..).common_prefix_length(path)
}

impl<E: Edit> Update<'_, E> {
    /// The subtrie at `depth` after `items`, which all lead here.
    fn descend(&mut self, old: Old, depth: usize, items: &[Item<E>]) -> Result<Subtrie<E::Leaf>> {
        let id = match old {
            Old::Node(id) => id,
            Old::Extension(path, link) => return self.descend_extension(path, link, depth, items),
            Old::Nothing => return self.build(None, depth, items),
        };
        let source = self.source;
        match Node::read(&source.node(id)?)? {
            Node::Branch(branch) => self.descend_branch(branch.children()?, depth, items),
            Node::Extension(path, link) => self.descend_extension(path, link, depth, items),
            Node::Leaf(path, mut record) => {
                let leaf = E::Leaf::read_record(&mut record)?;
                let mut key = items[0].key.slice(..depth);
                key.extend(&path);
                if let [item] = items
                    && item.key == key
                {
                    return Ok(match item.edit.apply(Some(&leaf)) {
                        Some(new) if new == leaf => Subtrie::Unchanged,
                        Some(new) => Subtrie::Leaf(path, new),
                        None => Subtrie::Empty,
                    });
                }
                self.build(Some((key, leaf)), depth, items)
            }
        }
    }

    fn descend_branch(&mut self, old: Children, depth: usize, items: &[Item<E>]) -> Result<Subtrie<E::Leaf>> {
        let mut children = Vec::with_capacity(16);
        let mut changed = false;
        for (part, old) in split_by_nibble(items, depth).into_iter().zip(old) {
            if part.is_empty() {
                children.push(Child::Kept(old));
                continue;
            }
            let below = old.map_or(Old::Nothing, |link| Old::Node(link.id));
            match self.descend(below, depth + 1, part)? {
                Subtrie::Unchanged => children.push(Child::Kept(old)),
                Subtrie::Empty if old.is_none() => children.push(Child::Kept(None)),
                subtrie => {
                    changed = true;
                    children.push(Child::New(subtrie));
                }
            }
        }
        if changed { self.finish_branch(children) } else { Ok(Subtrie::Unchanged) }
    }

    fn descend_extension(
        &mut self,
        path: Nibbles,
        link: Link,
        depth: usize,
        items: &[Item<E>],
    ) -> Result<Subtrie<E::Leaf>> {
        // Items are sorted: what the first and the last share with the path, all do.
        let first = shared(&items[0].key, depth, &path);
        let last = shared(&items[items.len() - 1].key, depth, &path);
        let common = first.min(last);
        if common == path.len() {
            let below = self.descend(Old::Node(link.id), depth + common, items)?;
            return self.prefix(path, below);
        }
        // The path forks here: a branch, with the rest of the extension below one of its nibbles.
        let fork = path.get_unchecked(common);
        let rest = path.slice(common + 1..);
        let mut children = Vec::with_capacity(16);
        for (nibble, part) in split_by_nibble(items, depth + common).into_iter().enumerate() {
            let here = nibble == fork as usize;
            children.push(match (part.is_empty(), here) {
                (true, false) => Child::Kept(None),
                (true, true) if rest.is_empty() => Child::Kept(Some(link)),
                (true, true) => Child::New(Subtrie::Extension(rest, link)),
                (false, false) => Child::New(self.build(None, depth + common + 1, part)?),
                (false, true) => {
                    let old = if rest.is_empty() { Old::Node(link.id) } else { Old::Extension(rest, link) };
                    match (self.descend(old, depth + common + 1, part)?, rest.is_empty()) {
                        (Subtrie::Unchanged, true) => Child::Kept(Some(link)),
                        (Subtrie::Unchanged, false) => Child::New(Subtrie::Extension(rest, link)),
                        (changed, _) => Child::New(changed),
                    }
                }
            });
        }
        let branch = self.finish_branch(children)?;
        self.prefix(path.slice(..common), branch)
    }

    /// A subtrie from nothing, or from one leaf (with its whole key).
    fn build(&mut self, old: Option<(Nibbles, E::Leaf)>, depth: usize, items: &[Item<E>]) -> Result<Subtrie<E::Leaf>> {
        let Some((first, last)) = items.first().zip(items.last()) else {
            return Ok(old.map_or(Subtrie::Empty, |(key, leaf)| Subtrie::Leaf(key.slice(depth..), leaf)));
        };
        if items.len() == 1 && old.as_ref().is_none_or(|(key, _)| *key == first.key) {
            let new = first.edit.apply(old.as_ref().map(|(_, leaf)| leaf));
            return Ok(new.map_or(Subtrie::Empty, |leaf| Subtrie::Leaf(first.key.slice(depth..), leaf)));
        }
        let path = first.key.slice(depth..);
        let mut common = shared(&last.key, depth, &path);
        if let Some((key, _)) = &old {
            common = common.min(shared(key, depth, &path));
        }
        let fork = depth + common;
        let mut old = old;
        let mut children = Vec::with_capacity(16);
        for (nibble, part) in split_by_nibble(items, fork).into_iter().enumerate() {
            let here = old.take_if(|(key, _)| key.get_unchecked(fork) as usize == nibble);
            children.push(Child::New(self.build(here, fork + 1, part)?));
        }
        let branch = self.finish_branch(children)?;
        self.prefix(path.slice(..common), branch)
    }

    /// A branch of these children, or what is left of it when less than two remain.
    fn finish_branch(&mut self, children: Vec<Child<E::Leaf>>) -> Result<Subtrie<E::Leaf>> {
        let is_there = |child: &Child<E::Leaf>| !matches!(child, Child::Kept(None) | Child::New(Subtrie::Empty));
        let mut present = children.iter().enumerate().filter(|(_, child)| is_there(child)).map(|(nibble, _)| nibble);
        match (present.next(), present.next()) {
            (None, _) => Ok(Subtrie::Empty),
            (Some(only), None) => {
                let child = children.into_iter().nth(only);
                self.collapse(only as u8, child.unwrap_or(Child::Kept(None)))
            }
            _ => self.link_children(children).map(|links| Subtrie::Branch(Box::new(links))),
        }
    }

    /// Write the open ones among the children.
    fn link_children(&mut self, children: Vec<Child<E::Leaf>>) -> Result<Children> {
        let mut links: Children = [None; 16];
        let mut open = [0u8; 16];
        let mut count = 0;
        for (nibble, child) in children.into_iter().enumerate() {
            match child {
                Child::Kept(link) => links[nibble] = link,
                Child::New(Subtrie::Stored(link)) => links[nibble] = Some(link),
                Child::New(Subtrie::Empty) => {}
                Child::New(subtrie) => {
                    self.add(&subtrie)?;
                    open[count] = nibble as u8;
                    count += 1;
                }
            }
        }
        let mut nibbles = open.iter();
        self.writer.link_all(|link| {
            if let Some(nibble) = nibbles.next() {
                links[*nibble as usize] = Some(link);
            }
        });
        Ok(links)
    }

    /// Write an open node; its link follows.
    fn add(&mut self, subtrie: &Subtrie<E::Leaf>) -> Result<()> {
        match subtrie {
            Subtrie::Leaf(path, leaf) => self.writer.add_leaf(path, leaf),
            Subtrie::Extension(path, link) => self.writer.add_extension(path, link),
            Subtrie::Branch(children) => self.writer.add_branch(children),
            Subtrie::Unchanged | Subtrie::Empty | Subtrie::Stored(_) => unreachable!("not an open node"),
        }
    }

    /// What takes the place of a branch with one child.
    fn collapse(&mut self, nibble: u8, child: Child<E::Leaf>) -> Result<Subtrie<E::Leaf>> {
        let mut path = Nibbles::new();
        path.push(nibble);
        let subtrie = match child {
            Child::New(subtrie) => subtrie,
            Child::Kept(None) => Subtrie::Empty,
            Child::Kept(Some(link)) => match Node::read(&self.source.node(link.id)?)? {
                Node::Branch(_) => Subtrie::Stored(link),
                Node::Extension(rest, below) => Subtrie::Extension(rest, below),
                Node::Leaf(rest, mut record) => Subtrie::Leaf(rest, E::Leaf::read_record(&mut record)?),
            },
        };
        self.prefix(path, subtrie)
    }

    fn seal(&mut self, subtrie: Subtrie<E::Leaf>) -> Result<Option<Link>> {
        let mut sealed = None;
        match subtrie {
            Subtrie::Empty => {}
            Subtrie::Stored(link) => sealed = Some(link),
            open => {
                self.add(&open)?;
                self.writer.link_all(|link| sealed = Some(link));
            }
        }
        Ok(sealed)
    }

    fn close(&mut self, subtrie: Subtrie<E::Leaf>) -> Result<Top> {
        Ok(match subtrie {
            Subtrie::Unchanged => Top::Unchanged,
            changed => Top::Changed(self.seal(changed)?),
        })
    }

    /// The subtrie with `path` before it.
    fn prefix(&mut self, mut path: Nibbles, subtrie: Subtrie<E::Leaf>) -> Result<Subtrie<E::Leaf>> {
        if path.is_empty() {
            return Ok(subtrie);
        }
        Ok(match subtrie {
            Subtrie::Unchanged => Subtrie::Unchanged,
            Subtrie::Leaf(rest, leaf) => {
                path.extend(&rest);
                Subtrie::Leaf(path, leaf)
            }
            Subtrie::Extension(rest, link) => {
                path.extend(&rest);
                Subtrie::Extension(path, link)
            }
            branch => self.seal(branch)?.map_or(Subtrie::Empty, |link| Subtrie::Extension(path, link)),
        })
    }
}
