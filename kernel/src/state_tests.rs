//! The trie against alloy-trie's hash builder, random histories and the official secure trie vectors.

use crate::errors::Result;
use crate::state::{AccountLeaf, EMPTY, Root, SlotLeaf, StateTrie, apply};
use crate::store::{Change, Store, Table};
use crate::trie::{Layer, Origin, check_proof, node_key};
use crate::trie_node::{Leaf, NodeWriter, Reader};
use crate::trie_update::{Edit, Item, Top, update};
use crate::types::{Account, AccountChange, StateChanges};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{HashBuilder, KECCAK_EMPTY, Nibbles, TrieAccount};
use std::collections::BTreeMap;
use std::sync::Arc;

/// SplitMix64: the same sequence everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A leaf of any bytes.
#[derive(Debug, Clone, PartialEq)]
struct Raw(Vec<u8>);

impl Leaf for Raw {
    fn write_record(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.0.len() as u16).to_be_bytes());
        out.extend_from_slice(&self.0);
    }
    fn read_record(record: &mut Reader<'_>) -> Result<Self> {
        let length = u16::from_be_bytes(*record.array()?);
        Ok(Raw(record.take(length as usize)?.to_vec()))
    }
    fn write_value(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

struct SetRaw(Option<Vec<u8>>);

impl Edit for SetRaw {
    type Leaf = Raw;
    fn apply(&self, _old: Option<&Raw>) -> Option<Raw> {
        self.0.clone().map(Raw)
    }
}

/// A trie of raw leaves with its history, in memory.
pub struct RawTrie {
    store: Store,
    pub root: Root,
    version: u64,
}

impl RawTrie {
    pub fn new() -> RawTrie {
        RawTrie { store: Store::in_memory(), root: EMPTY, version: 0 }
    }

    pub fn edit<K: AsRef<[u8]>>(&mut self, edits: &BTreeMap<K, Option<Vec<u8>>>) {
        self.version += 1;
        let source = Origin { layers: Arc::new([]), store: self.store.clone() }.open().unwrap();
        let item =
            |(key, value): (&K, &Option<Vec<u8>>)| Item { key: Nibbles::unpack(key), edit: SetRaw(value.clone()) };
        let items: Vec<_> = edits.iter().map(item).collect();
        let mut writer = NodeWriter::new(self.version, 0, 1);
        match update(&source, self.root.id, &items, &mut writer).unwrap() {
            Top::Unchanged => {}
            Top::Changed(None) => self.root = EMPTY,
            Top::Changed(Some(link)) => self.root = Root { hash: link.reference.root(), id: Some(link.id) },
        }
        write_layer(&self.store, &Layer { version: self.version, chunks: writer.finish() });
    }

    fn check(&self, model: &BTreeMap<B256, Vec<u8>>) {
        assert_eq!(self.root.hash, root_of(model.iter().map(|(key, value)| (*key, value.clone()))));
        let source = Origin { layers: Arc::new([]), store: self.store.clone() }.open().unwrap();
        let mut found = BTreeMap::new();
        let mut visit = |key, leaf: Raw| {
            found.insert(key, leaf.0);
            Ok(())
        };
        source.walk(self.root.id, &mut visit).unwrap();
        assert_eq!(&found, model);
    }
}

fn write_layer(store: &Store, layer: &Layer) {
    let append =
        |(number, chunk): &(u32, Bytes)| Change::Append(Table::Nodes, node_key(layer.version, *number), chunk.clone());
    store.write(&layer.chunks.iter().map(append).collect()).unwrap();
}

fn root_of(sorted: impl Iterator<Item = (B256, Vec<u8>)>) -> B256 {
    let mut builder = HashBuilder::default();
    for (key, value) in sorted {
        builder.add_leaf(Nibbles::unpack(key), &value);
    }
    builder.root()
}

/// Keys that share long prefixes, so that extensions, splits and nodes inside their parent occur.
fn crowded_key(random: &mut Random) -> B256 {
    let mut key = [0u8; 32];
    let spread = [1, 2, 16, 31, 32][random.below(5) as usize];
    for place in 0..spread {
        key[31 - place * 31 / 32] ^= (random.below(4) * [1, 16, 64][random.below(3) as usize]) as u8;
    }
    key[random.below(32) as usize] ^= [0, 0, 1, 0x10][random.below(4) as usize];
    B256::new(key)
}

#[test]
fn random_edits_give_the_roots_of_a_fresh_build() {
    for seed in 0..400u64 {
        let mut random = Random(seed);
        let (mut trie, mut model) = (RawTrie::new(), BTreeMap::new());
        for _ in 0..12 {
            let mut edits = BTreeMap::new();
            for _ in 0..1 + random.below(12) {
                let chosen = random.below(model.len().max(1) as u64) as usize;
                let known = model.keys().nth(chosen).copied();
                let key = known.filter(|_| random.below(2) == 0).unwrap_or_else(|| crowded_key(&mut random));
                let value =
                    (random.below(5) < 3).then(|| vec![1 + random.below(200) as u8; 1 + random.below(40) as usize]);
                edits.insert(key, value);
            }
            trie.edit(&edits);
            for (key, value) in edits {
                match value {
                    Some(value) => model.insert(key, value),
                    None => model.remove(&key),
                };
            }
            trie.check(&model);
        }
        let everything = model.keys().map(|key| (*key, None)).collect();
        trie.edit(&everything);
        assert_eq!(trie.root, EMPTY, "seed {seed}");
    }
}

#[test]
fn proofs_show_what_is_there_and_what_is_not_at_every_version() {
    for seed in 0..60u64 {
        let mut random = Random(1000 + seed);
        let (mut trie, mut model) = (RawTrie::new(), BTreeMap::new());
        let mut history = Vec::new();
        for _ in 0..6 {
            let mut edits = BTreeMap::new();
            for _ in 0..1 + random.below(20) {
                let value =
                    (random.below(4) > 0).then(|| vec![1 + random.below(200) as u8; 1 + random.below(40) as usize]);
                edits.insert(crowded_key(&mut random), value);
            }
            trie.edit(&edits);
            for (key, value) in edits {
                match value {
                    Some(value) => model.insert(key, value),
                    None => model.remove(&key),
                };
            }
            history.push((trie.root, model.clone()));
        }
        let source = Origin { layers: Arc::new([]), store: trie.store.clone() }.open().unwrap();
        for (root, model) in history {
            let absent = (0..10).map(|_| crowded_key(&mut random)).collect::<Vec<_>>();
            for key in model.keys().copied().chain(absent) {
                let proof = source.prove::<Raw>(root.id, &key).unwrap();
                let shown = check_proof(&root.hash, &key, &proof).unwrap();
                assert_eq!(shown.as_ref(), model.get(&key));
                assert_eq!(source.find::<Raw>(root.id, &key).unwrap().map(|leaf| leaf.0), shown);
                let oracle = alloy_trie::proof::verify_proof(root.hash, Nibbles::unpack(key), shown, &proof);
                assert!(oracle.is_ok(), "{oracle:?}");
                forge(&mut random, &root.hash, &key, &proof);
            }
        }
    }
}

/// No changed proof passes.
fn forge(random: &mut Random, root: &B256, key: &B256, proof: &[Bytes]) {
    if proof.is_empty() {
        return;
    }
    let place = random.below(proof.len() as u64) as usize;
    let mut bytes = proof[place].to_vec();
    let byte = random.below(bytes.len() as u64) as usize;
    bytes[byte] ^= 1 << random.below(8);
    let mut forged = proof.to_vec();
    forged[place] = bytes.into();
    assert!(check_proof(root, key, &forged).is_err());
    assert!(check_proof(root, key, &proof[..proof.len() - 1]).is_err());
    assert!(check_proof(root, key, &[proof, &proof[..1]].concat()).is_err());
}

// ---- whole states

type Model = BTreeMap<Address, (Account, BTreeMap<U256, U256>)>;

fn state_root(model: &Model) -> B256 {
    let mut accounts: BTreeMap<B256, TrieAccount> = BTreeMap::new();
    for (address, (account, slots)) in model {
        let slots = slots.iter().map(|(slot, value)| (B256::from(*slot), *value));
        let storage_root = alloy_trie::root::storage_root_unhashed(slots);
        let Account { nonce, balance, code_hash } = *account;
        accounts.insert(keccak256(address), TrieAccount { nonce, balance, storage_root, code_hash });
    }
    alloy_trie::root::state_root(accounts)
}

fn random_account(random: &mut Random) -> Account {
    let code_hash = if random.below(2) == 0 { KECCAK_EMPTY } else { B256::from(U256::from(random.next())) };
    let balance = U256::from(random.next()) << (random.below(190) as usize);
    Account { nonce: random.next() >> random.below(64), balance, code_hash }
}

/// Some accounts changed, removed or created anew; the model follows.
fn random_changes(random: &mut Random, model: &mut Model, accounts: u64, count: u64, slots: u64) -> StateChanges {
    let mut changed: BTreeMap<Address, AccountChange> = BTreeMap::new();
    for _ in 0..count {
        let address = Address::from_word(B256::from(U256::from(random.below(accounts))));
        if random.below(8) == 0 {
            model.remove(&address);
            changed.insert(address, AccountChange { address, account: None, storage_wiped: true, slots: vec![] });
            continue;
        }
        let account = random_account(random);
        let is_new = !model.contains_key(&address);
        let entry = model.entry(address).or_insert_with(|| (account.clone(), BTreeMap::new()));
        entry.0 = account.clone();
        let storage_wiped = is_new || random.below(10) == 0;
        if storage_wiped {
            entry.1.clear();
        }
        let mut written = BTreeMap::new();
        for _ in 0..random.below(slots + 1) {
            let slot = U256::from(random.below(slots * 2));
            let value = if random.below(4) == 0 { U256::ZERO } else { U256::from(random.next()) << 3 };
            written.insert(slot, value);
            if value.is_zero() {
                entry.1.remove(&slot)
            } else {
                entry.1.insert(slot, value)
            };
        }
        let slots = written.into_iter().collect();
        // Of two changes of one account the last is what counts, as one block reports each account once.
        let is_again = changed.contains_key(&address);
        let all = || entry.1.iter().map(|(slot, value)| (*slot, *value)).collect();
        let (storage_wiped, slots) = if is_again { (true, all()) } else { (storage_wiped, slots) };
        changed.insert(address, AccountChange { address, account: Some(account), storage_wiped, slots });
    }
    StateChanges { accounts: changed.into_values().collect(), ..StateChanges::default() }
}

fn check_state(trie: &StateTrie, model: &Model) {
    for (address, (account, slots)) in model {
        let leaf: AccountLeaf = trie.account(address).unwrap().unwrap();
        assert_eq!(&leaf.account, account);
        for (slot, value) in slots {
            assert_eq!(trie.slot(&leaf.storage, slot).unwrap(), *value);
        }
        let mut count = 0;
        let mut visit = |_, _: SlotLeaf| {
            count += 1;
            Ok(())
        };
        trie.source.walk(leaf.storage.id, &mut visit).unwrap();
        assert_eq!(count, slots.len());
    }
}

fn run_history(seed: u64, blocks: u64, accounts: u64, count: u64, slots: u64) {
    let mut random = Random(seed);
    let (store, mut root, mut model) = (Store::in_memory(), EMPTY, Model::new());
    let mut layers: Vec<Arc<Layer>> = Vec::new();
    for version in 1..=blocks {
        let changes = random_changes(&mut random, &mut model, accounts, count, slots);
        let source = Origin { layers: layers.clone().into(), store: store.clone() }.open().unwrap();
        let (new, layer) = apply(&StateTrie { source, root }, &changes, version).unwrap();
        assert_eq!(new.hash, state_root(&model), "seed {seed} version {version}");
        root = new;
        layers.push(Arc::new(layer));
        // Layers become durable late and several at once, as commits do.
        if random.below(3) == 0 {
            layers.drain(..).for_each(|layer| write_layer(&store, &layer));
        }
        if version % 4 == 0 {
            let source = Origin { layers: layers.clone().into(), store: store.clone() }.open().unwrap();
            check_state(&StateTrie { source, root }, &model);
        }
    }
}

#[test]
fn state_roots_of_random_histories_are_those_of_a_fresh_build() {
    for seed in 0..40 {
        run_history(seed, 12, 40, 12, 6);
    }
}

#[test]
fn large_changes_in_lanes_give_the_same_roots() {
    run_history(77, 4, 6000, 3000, 2);
    run_history(78, 4, 200, 150, 60);
    run_history(79, 3, 3, 3, 5000);
}

#[test]
fn a_chunk_does_not_depend_on_the_number_of_threads() {
    let chunks = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut random = Random(5);
        let changes = random_changes(&mut random, &mut Model::new(), 5000, 4000, 3);
        let source = Origin { layers: Arc::new([]), store: Store::in_memory() }.open().unwrap();
        let origin = source.origin().clone();
        drop(source);
        pool.install(|| {
            apply(&StateTrie { source: origin.open().unwrap(), root: EMPTY }, &changes, 1).unwrap().1.chunks
        })
    };
    assert_eq!(chunks(1), chunks(4));
}

// ---- official vectors

/// A folder of the official vectors, if they are here.
pub fn vectors(name: &str) -> Option<std::path::PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors");
    let folder = std::env::var("QUORATE_VECTORS").unwrap_or_else(|_| default.to_owned());
    let folder = std::path::Path::new(&folder).join("ethereum-tests").join(name);
    if !folder.is_dir() {
        eprintln!("skipped: no vectors at {}; set QUORATE_VECTORS", folder.display());
        return None;
    }
    Some(folder)
}

pub fn parse_bytes(text: &str) -> Vec<u8> {
    match text.strip_prefix("0x") {
        Some(hex) => alloy_primitives::hex::decode(hex).unwrap(),
        None => text.as_bytes().to_vec(),
    }
}

#[test]
fn official_secure_trie_vectors() {
    let Some(folder) = vectors("TrieTests") else { return };
    let mut count = 0;
    for file in ["trietest_secureTrie.json", "trieanyorder_secureTrie.json", "hex_encoded_securetrie_test.json"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let cases: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert!(!cases.is_empty());
        for (name, case) in cases {
            let inputs: Vec<(Vec<u8>, Option<Vec<u8>>)> = match &case["in"] {
                serde_json::Value::Array(pairs) => {
                    let pair = |pair: &serde_json::Value| {
                        (parse_bytes(pair[0].as_str().unwrap()), pair[1].as_str().map(parse_bytes))
                    };
                    pairs.iter().map(pair).collect()
                }
                map => {
                    let map = map.as_object().unwrap();
                    map.iter().map(|(k, v)| (parse_bytes(k), v.as_str().map(parse_bytes))).collect()
                }
            };
            let expected = B256::from_slice(&parse_bytes(case["root"].as_str().unwrap()));
            let (mut one_by_one, mut at_once) = (RawTrie::new(), BTreeMap::new());
            for (key, value) in inputs {
                let value = value.filter(|value| !value.is_empty());
                one_by_one.edit(&BTreeMap::from([(keccak256(&key), value.clone())]));
                at_once.insert(keccak256(&key), value);
            }
            assert_eq!(one_by_one.root.hash, expected, "{file} {name}");
            let mut together = RawTrie::new();
            together.edit(&at_once);
            assert_eq!(together.root.hash, expected, "{file} {name}");
            count += 1;
        }
    }
    println!("TrieTests: {count} roots of hashed keys");
}
