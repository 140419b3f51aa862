//! Applies sorted edits to a trie in one descent and writes what changed.
//!
//! Branches are rebuilt bottom-up. A node stays unwritten ("open") until it is known whether the branch above it keeps more
//! than one child: if not, a path grows by that branch's nibble (Yellow Paper, appendix D: no branch with one child, no
//! extension before an extension or a leaf). When the whole is known, open nodes are written and hashed level by level from
//! the leaves up, since few branches have enough new children to hash several side by side.

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
    /// The children that are linked, and the open ones by nibble; two or more of all.
    Branch(Box<Children>, Open<L>),
}

type Open<L> = Vec<(u8, Subtrie<L>)>;

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

/// An open node on its way to be written.
struct Pending<L> {
    /// A leaf, an extension, or a branch with the children that are linked already.
    subtrie: Subtrie<L>,
    /// Its other children: nibble, and place among the nodes.
    open: Vec<(u8, usize)>,
    link: Option<Link>,
}

/// Open nodes by their height above the lowest open node below them.
struct Levels<L> {
    nodes: Vec<Pending<L>>,
    by_height: Vec<Vec<usize>>,
}

impl<L> Levels<L> {
    /// Take in an open node with all below it; its place and height.
    fn take(&mut self, subtrie: Subtrie<L>) -> (usize, usize) {
        let (subtrie, open, height) = match subtrie {
            Subtrie::Branch(links, open) => {
                let (open, height) = self.take_all(open);
                (Subtrie::Branch(links, Vec::new()), open, height)
            }
            whole => (whole, Vec::new(), 0),
        };
        if self.by_height.len() <= height {
            self.by_height.resize_with(height + 1, Vec::new);
        }
        let place = self.nodes.len();
        self.by_height[height].push(place);
        self.nodes.push(Pending { subtrie, open, link: None });
        (place, height)
    }

    /// Take in the open children of a branch; their places, and the height of the branch.
    fn take_all(&mut self, open: Open<L>) -> (Vec<(u8, usize)>, usize) {
        let mut places = Vec::with_capacity(open.len());
        let mut height = 0;
        for (nibble, subtrie) in open {
            let (place, below) = self.take(subtrie);
            places.push((nibble, place));
            height = height.max(below + 1);
        }
        (places, height)
    }
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
            Node::Branch(branch) => Some(source.children(&branch)?.0),
            _ => None,
        },
    };
    let Some(children) = children else {
        let result = update(source, root, items, &mut top)?;
        return Ok((result, vec![top.finish()]));
    };
    let parts = split_by_nibble(items, 0);
    let origin = source.origin();
    let update_part = |(lane, part): (usize, &&[Item<E>])| -> Result<(Subtrie<E::Leaf>, Chunks)> {
        if part.is_empty() {
            return Ok((Subtrie::Unchanged, Vec::new()));
        }
        let source = origin.open()?;
        let mut writer = NodeWriter::new(version, first + lane, lanes);
        let mut update = Update::<E> { source: &source, writer: &mut writer, edits: std::marker::PhantomData };
        let subtrie = update.descend(children[lane].map_or(Old::Nothing, |link| Old::Node(link.id)), 1, part)?;
        // What is below is written here, side by side with the other parts; the node itself may yet grow a path.
        let subtrie = update.settle(subtrie)?;
        Ok((subtrie, writer.finish()))
    };
    let done = parts.par_iter().enumerate().map(update_part).collect::<Result<Vec<_>>>()?;
    let (parts, mut chunks): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    let mut links = Box::new(children);
    let mut open = Vec::new();
    for (nibble, subtrie) in parts.into_iter().enumerate() {
        if !matches!(subtrie, Subtrie::Unchanged) {
            links[nibble] = None;
            open.push((nibble as u8, subtrie));
        }
    }
    let mut update = Update::<E> { source, writer: &mut top, edits: std::marker::PhantomData };
    let subtrie = update.finish_branch(links, open)?;
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
            Node::Branch(branch) => self.descend_branch(source.children(&branch)?.0, depth, items),
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
        let mut links = Box::new(old);
        let mut open = Vec::new();
        for (nibble, part) in split_by_nibble(items, depth).into_iter().enumerate() {
            if part.is_empty() {
                continue;
            }
            let below = links[nibble].map_or(Old::Nothing, |link| Old::Node(link.id));
            match self.descend(below, depth + 1, part)? {
                Subtrie::Unchanged => {}
                Subtrie::Empty if links[nibble].is_none() => {}
                subtrie => {
                    links[nibble] = None;
                    open.push((nibble as u8, subtrie));
                }
            }
        }
        if open.is_empty() { Ok(Subtrie::Unchanged) } else { self.finish_branch(links, open) }
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
        let mut links: Box<Children> = Box::new([None; 16]);
        let mut open = Vec::new();
        for (nibble, part) in split_by_nibble(items, depth + common).into_iter().enumerate() {
            let here = nibble == fork as usize;
            let subtrie = match (part.is_empty(), here) {
                (true, _) => Subtrie::Unchanged,
                (false, false) => self.build(None, depth + common + 1, part)?,
                (false, true) => {
                    let old = if rest.is_empty() { Old::Node(link.id) } else { Old::Extension(rest, link) };
                    self.descend(old, depth + common + 1, part)?
                }
            };
            match subtrie {
                Subtrie::Unchanged if !here => {}
                Subtrie::Unchanged if rest.is_empty() => links[nibble] = Some(link),
                Subtrie::Unchanged => open.push((nibble as u8, Subtrie::Extension(rest, link))),
                changed => open.push((nibble as u8, changed)),
            }
        }
        let branch = self.finish_branch(links, open)?;
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
        let mut open = Vec::new();
        for (nibble, part) in split_by_nibble(items, fork).into_iter().enumerate() {
            let here = old.take_if(|(key, _)| key.get_unchecked(fork) as usize == nibble);
            if here.is_some() || !part.is_empty() {
                open.push((nibble as u8, self.build(here, fork + 1, part)?));
            }
        }
        let branch = self.finish_branch(Box::new([None; 16]), open)?;
        self.prefix(path.slice(..common), branch)
    }

    /// A branch of these children, or what is left of it when less than two remain.
    fn finish_branch(&mut self, mut links: Box<Children>, mut open: Open<E::Leaf>) -> Result<Subtrie<E::Leaf>> {
        open.retain(|(nibble, subtrie)| match subtrie {
            Subtrie::Empty => false,
            Subtrie::Stored(link) => {
                links[*nibble as usize] = Some(*link);
                false
            }
            _ => true,
        });
        let mut linked = links.iter().enumerate().filter_map(|(nibble, link)| link.map(|link| (nibble as u8, link)));
        match (linked.next(), linked.next(), open.len()) {
            (None, _, 0) => Ok(Subtrie::Empty),
            (Some((nibble, link)), None, 0) => {
                let subtrie = self.reopen(link)?;
                self.collapse(nibble, subtrie)
            }
            (None, _, 1) => match open.pop() {
                Some((nibble, subtrie)) => self.collapse(nibble, subtrie),
                None => Ok(Subtrie::Empty),
            },
            _ => Ok(Subtrie::Branch(links, open)),
        }
    }

    /// Write what is open below a node, but not itself.
    fn settle(&mut self, subtrie: Subtrie<E::Leaf>) -> Result<Subtrie<E::Leaf>> {
        let (mut links, open) = match subtrie {
            Subtrie::Branch(links, open) if !open.is_empty() => (links, open),
            settled => return Ok(settled),
        };
        let mut levels = Levels { nodes: Vec::new(), by_height: Vec::new() };
        let (places, _) = levels.take_all(open);
        self.write_levels(&mut levels)?;
        for (nibble, place) in places {
            links[nibble as usize] = levels.nodes[place].link;
        }
        Ok(Subtrie::Branch(links, Vec::new()))
    }

    /// Write nodes level by level: those of one height need nothing of each other.
    fn write_levels(&mut self, levels: &mut Levels<E::Leaf>) -> Result<()> {
        for places in std::mem::take(&mut levels.by_height) {
            for place in &places {
                let mut subtrie = std::mem::replace(&mut levels.nodes[*place].subtrie, Subtrie::Empty);
                if let Subtrie::Branch(links, _) = &mut subtrie {
                    for (nibble, below) in &levels.nodes[*place].open {
                        links[*nibble as usize] = levels.nodes[*below].link;
                    }
                }
                self.add(&subtrie)?;
            }
            let mut next = places.into_iter();
            self.writer.link_all(|link| {
                if let Some(place) = next.next() {
                    levels.nodes[place].link = Some(link);
                }
            });
        }
        Ok(())
    }

    /// Write an open node; its link follows.
    fn add(&mut self, subtrie: &Subtrie<E::Leaf>) -> Result<()> {
        match subtrie {
            Subtrie::Leaf(path, leaf) => self.writer.add_leaf(path, leaf),
            Subtrie::Extension(path, link) => self.writer.add_extension(path, link),
            Subtrie::Branch(children, _) => self.writer.add_branch(children),
            Subtrie::Unchanged | Subtrie::Empty | Subtrie::Stored(_) => unreachable!("not an open node"),
        }
    }

    /// What takes the place of a branch with one child.
    fn collapse(&mut self, nibble: u8, child: Subtrie<E::Leaf>) -> Result<Subtrie<E::Leaf>> {
        let mut path = Nibbles::new();
        path.push(nibble);
        self.prefix(path, child)
    }

    /// A stored node whose path may grow.
    fn reopen(&self, link: Link) -> Result<Subtrie<E::Leaf>> {
        Ok(match Node::read(&self.source.node(link.id)?)? {
            Node::Branch(_) => Subtrie::Stored(link),
            Node::Extension(rest, below) => Subtrie::Extension(rest, below),
            Node::Leaf(rest, mut record) => Subtrie::Leaf(rest, E::Leaf::read_record(&mut record)?),
        })
    }

    fn seal(&mut self, subtrie: Subtrie<E::Leaf>) -> Result<Option<Link>> {
        let mut sealed = None;
        match subtrie {
            Subtrie::Empty => {}
            Subtrie::Stored(link) => sealed = Some(link),
            open => {
                let settled = self.settle(open)?;
                self.add(&settled)?;
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
