//! What is changed in place is what would be built at once, whatever is read back; damaged nodes are refused.

use super::*;
use crate::store::{Batch, Change, Store, Table};
use crate::trie::{Layer, Origin, check_proof, node_key};
use crate::trie_update::{Edit, Item, update};
use std::collections::BTreeMap;
use std::sync::Arc;

struct Put(Entry);

impl Edit for Put {
    type Leaf = Entry;

    fn apply(&self, _: Option<&Entry>) -> Option<Entry> {
        Some(self.0.clone())
    }
}

/// The root of a trie that is built at once.
fn built(entries: &BTreeMap<B256, Entry>) -> Root {
    let source = Origin { layers: Arc::new([]), store: Store::in_memory() }.open().unwrap();
    let item = |(place, entry): (&B256, &Entry)| Item { key: path_of(place, 0, 64), edit: Put(entry.clone()) };
    let items: Vec<_> = entries.iter().map(item).collect();
    if items.is_empty() {
        return EMPTY;
    }
    EMPTY.after(update(&source, None, &items, &mut NodeWriter::new(1, 0, 1)).unwrap())
}

struct Bench {
    store: Store,
    root: Root,
    version: u64,
    seed: u64,
    entries: BTreeMap<B256, Entry>,
    live: LiveTrie,
}

impl Bench {
    fn random(&mut self, bound: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % bound
    }

    /// A few nibbles, at any depth, tell keys apart, so that paths of every length come and go below a wide top.
    fn place(&mut self) -> B256 {
        let mut place = B256::ZERO;
        for (depth, bound) in [(0, 16), (1, 3), (2, 3), (5, 3), (31, 2), (62, 2), (63, 2)] {
            let nibble = self.random(2 * bound) / 2;
            place = with_nibble(&place, depth, nibble as u8);
        }
        place
    }

    /// What anyone reads who has nothing in memory.
    fn check(&mut self) {
        let source = Origin { layers: Arc::new([]), store: self.store.clone() }.open().unwrap();
        let mut found = BTreeMap::new();
        let mut visit = |place, entry: Entry| {
            found.insert(place, entry);
            Ok(())
        };
        source.walk::<Entry>(self.root.id, &mut visit).unwrap();
        assert_eq!(found, self.entries);
        for _ in 0..20 {
            let place = self.place();
            let expected = self.entries.get(&place);
            assert_eq!(source.find::<Entry>(self.root.id, &place).unwrap().as_ref(), expected);
            let proof = source.prove::<Entry>(self.root.id, &place).unwrap();
            let shown = check_proof(&self.root.hash, &place, &proof).unwrap();
            assert_eq!(shown.is_some(), expected.is_some());
        }
        assert!(self.live.leaves.count() <= self.entries.len());
        assert!(self.live.branches.count() < self.entries.len().max(1));
    }

    fn block(&mut self, edits: u64, deaths: u64) {
        self.version += 1;
        let source = Origin { layers: Arc::new([]), store: self.store.clone() }.open().unwrap();
        let mut changed = BTreeMap::new();
        for _ in 0..edits {
            let (place, dies) = (self.place(), self.random(10) < deaths);
            let numbers = Numbers { created: 1, modified: self.version, version: self.random(9) };
            let value = Bytes::from(vec![7; self.random(300) as usize]);
            changed.insert(place, (!dies).then(|| numbers.with(value, Hashed(None))));
        }
        let (mut marked, mut others) = (Vec::new(), Vec::new());
        for (place, entry) in changed {
            let before = self.entries.get(&place).map(Entry::numbers);
            let found = self.live.find(&source, &place).unwrap();
            assert_eq!(found.map(|(_, numbers)| numbers), before);
            match (found, self.random(3)) {
                (Some((leaf, _)), 0) if entry.is_some() => {
                    self.live.mark_found();
                    marked.push((leaf, place, entry.unwrap()));
                }
                // As where a change is taken back.
                (Some(_), 1) => {
                    self.live.mark_found();
                    others.push((self.random(2) == 0).then_some((place, entry)));
                }
                _ => others.push(Some((place, entry))),
            }
        }
        for (leaf, place, entry) in marked {
            self.live.overwrite(leaf, entry.numbers(), entry.value.clone());
            self.entries.insert(place, entry);
        }
        for (place, entry) in others.into_iter().flatten() {
            match entry {
                Some(entry) => {
                    self.live.set(&source, &place, entry.numbers(), entry.value.clone()).unwrap();
                    self.entries.insert(place, entry);
                }
                None => {
                    self.live.remove(&source, &place).unwrap();
                    self.entries.remove(&place);
                }
            }
        }
        let mut writer = NodeWriter::new(self.version, 0, 1);
        self.root = self.live.write(&source, &mut writer).unwrap();
        let layer = Layer { version: self.version, chunks: writer.finish() };
        let put = |(number, chunk): &(u32, Bytes)| {
            Change::Append(Table::Nodes, node_key(layer.version, *number), chunk.clone())
        };
        self.store.write(&layer.chunks.iter().map(put).collect::<Batch>()).unwrap();
        assert_eq!(self.root.hash, built(&self.entries).hash);
    }
}

#[test]
fn what_is_changed_in_place_is_what_would_be_built_at_once() {
    let mut bench = Bench {
        store: Store::in_memory(),
        root: EMPTY,
        version: 0,
        seed: 1,
        entries: BTreeMap::new(),
        live: LiveTrie::new(EMPTY),
    };
    let mut most = 0;
    for round in 0..400 {
        // Mostly growing, then mostly dying, down to nothing.
        let deaths = [1, 3, 9, 10][round / 25 % 4];
        let edits = [1, 2, 6, 40][round % 4];
        bench.block(edits, deaths);
        if round % 7 == 0 {
            bench.live = LiveTrie::new(bench.root);
        }
        if round % 20 == 0 {
            bench.check();
        }
        let changes = bench.live.branches.nodes.iter().filter_map(|branch| branch.stored);
        most = changes.map(|(_, changes)| changes).max().unwrap_or(0).max(most);
    }
    assert_eq!(most, MAX_CHANGES, "branches of which only changes were written");
}

#[test]
fn a_state_without_changes_stays() {
    let store = Store::in_memory();
    let source = Origin { layers: Arc::new([]), store }.open().unwrap();
    let mut writer = NodeWriter::new(1, 0, 1);
    assert_eq!(LiveTrie::new(EMPTY).write(&source, &mut writer).unwrap(), EMPTY);
    let root = Root { hash: B256::repeat_byte(7), id: Some(NodeId { version: 3, offset: 4 }) };
    let mut live = LiveTrie::new(root);
    assert_eq!(live.write(&source, &mut writer).unwrap(), root);
    assert!(writer.finish().is_empty());
    assert!(matches!(live.find(&source, &B256::ZERO), Err(Error::Unavailable(_))), "its nodes are not here");
}

#[test]
fn damaged_nodes_are_not_followed() {
    let store = Store::in_memory();
    let record = |kind: u8, path: &[u8], rest: &[u8]| [&[kind, path.len() as u8 * 2], path, rest].concat();
    let child = [&[32][..], &[1; 32], &[0; 9]].concat();
    let records = [
        record(1, &[], &child),
        record(1, &[0; 32], &child),
        record(2, &[0; 31], &[0; 28]),
        record(2, &[0; 32], &[0; 20]),
        [&[0, 0, 3][..], &[1, 0x80], &[0; 9], &[1, 0x80], &[0; 9]].concat(),
        // Changes of a branch: none, of one that it lacks, of itself, of a leaf.
        [&[0x20, 0, 3, 0, 0][..], &[0; 9]].concat(),
        [&[0x20, 0, 3, 0, 4][..], &[0; 9], &[0; 41]].concat(),
        [&[0x20, 0, 3, 0, 1][..], &[0, 0, 0, 0, 1, 0, 7, 0, 0], &[0; 41]].concat(),
        [&[0x20, 0, 3, 0, 1][..], &[0, 0, 0, 0, 1, 0, 3, 0, 0], &[0; 41]].concat(),
    ];
    for (number, record) in records.iter().enumerate() {
        let key = node_key(1, number as u32);
        store.write(&vec![Change::Put(Table::Nodes, key, record.clone().into())]).unwrap();
        let source = Origin { layers: Arc::new([]), store: store.clone() }.open().unwrap();
        let id = NodeId { version: 1, offset: (number as u32) << 16 };
        let mut live = LiveTrie::new(Root { hash: B256::ZERO, id: Some(id) });
        let found = live.set(&source, &B256::ZERO, Numbers::default(), Bytes::new());
        assert!(matches!(found, Err(Error::Corrupt(_))), "{number}: {found:?}");
        let found = source.find::<Entry>(Some(id), &B256::repeat_byte(0x11));
        assert!(number < 5 || matches!(found, Err(Error::Corrupt(_))), "{number}: {found:?}");
    }
}
