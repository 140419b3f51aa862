//! How fast states are updated, committed and read; prints, asserts nothing about time.
//!
//! `cargo test --release -- --ignored --nocapture state_bench`

use crate::state::{EMPTY, Root, StateTrie, apply};
use crate::store::{Batch, Change, Store, Table};
use crate::trie::{Layer, Origin, node_key};
use crate::types::{Account, AccountChange, StateChanges};
use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_trie::KECCAK_EMPTY;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ACCOUNTS: u64 = 100_000;

fn address(i: u64) -> Address {
    Address::from_slice(&keccak256(i.to_be_bytes())[12..])
}

fn account(i: u64, version: u64) -> AccountChange {
    let balance = U256::from(10).pow(U256::from(18)) + U256::from(i * 1_000_003 + version);
    let account = Some(Account { nonce: version, balance, code_hash: KECCAK_EMPTY });
    AccountChange { address: address(i), account, storage_wiped: version == 0, slots: vec![] }
}

fn contract(i: u64, version: u64, slots: impl Iterator<Item = u64>) -> AccountChange {
    let account = Some(Account { nonce: 1, balance: U256::ZERO, code_hash: B256::repeat_byte(1) });
    let value = U256::from(1_000_000 + version);
    let mut slots: Vec<_> = slots.map(|slot| (keccak256(slot.to_be_bytes()).into(), value)).collect();
    slots.sort_unstable();
    slots.dedup_by_key(|(slot, _)| *slot);
    AccountChange { address: address(i), account, storage_wiped: version == 0, slots }
}

fn changes(mut accounts: Vec<AccountChange>) -> StateChanges {
    accounts.sort_unstable_by_key(|change| change.address);
    accounts.dedup_by_key(|change| change.address);
    StateChanges { accounts, ..StateChanges::default() }
}

struct Bench {
    store: Store,
    root: Root,
    version: u64,
    seed: u64,
}

impl Bench {
    fn random(&mut self, bound: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % bound
    }

    /// Several like it; the fastest counts, as other work disturbs the rest.
    fn blocks(&mut self, name: &str, count: u64, make: impl Fn(&mut Bench) -> StateChanges) {
        let mut best = (Duration::MAX, Duration::MAX, 0);
        for _ in 0..count {
            let changes = make(self);
            let (updated, committed, bytes) = self.block(&changes);
            best = (best.0.min(updated), best.1.min(committed), best.2.max(bytes));
        }
        println!("{name}: update {:.1?}, commit {:.1?}, {} bytes of nodes", best.0, best.1, best.2);
    }

    fn block(&mut self, changes: &StateChanges) -> (Duration, Duration, usize) {
        let start = Instant::now();
        let source = Origin { layers: Arc::new([]), store: self.store.clone() }.open().unwrap();
        let (root, layer) = apply(&StateTrie { source, root: self.root }, changes, self.version).unwrap();
        let updated = start.elapsed();
        let bytes: usize = layer.chunks.iter().map(|(_, chunk)| chunk.len()).sum();
        let start = Instant::now();
        self.store.write(&batch(&layer)).unwrap();
        let committed = start.elapsed();
        self.root = root;
        self.version += 1;
        (updated, committed, bytes)
    }
}

fn batch(layer: &Layer) -> Batch {
    let append = |(number, chunk): &(u32, alloy_primitives::Bytes)| {
        Change::Append(Table::Nodes, node_key(layer.version, *number), chunk.clone())
    };
    layer.chunks.iter().map(append).collect()
}

#[test]
#[ignore = "prints timings"]
fn state_bench() {
    let folder = std::env::temp_dir().join(format!("quorate-state-bench-{}", std::process::id()));
    for threads in [1, 4] {
        let _ = std::fs::remove_dir_all(&folder);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        println!("--- {threads} threads");
        pool.install(|| {
            let store = Store::open(&folder, 1 << 34).unwrap();
            run(Bench { store, root: EMPTY, version: 0, seed: 1 });
        });
    }
    let _ = std::fs::remove_dir_all(&folder);
}

fn run(mut bench: Bench) {
    bench.blocks("genesis, 100000 accounts", 1, |_| changes((0..ACCOUNTS).map(|i| account(i, 0)).collect()));
    bench.blocks("contract of 100000 slots", 1, |_| changes(vec![contract(ACCOUNTS, 0, 0..100_000)]));
    bench.blocks("20000 random accounts", 10, |bench| {
        let version = bench.version;
        changes((0..20_000).map(|_| account(bench.random(ACCOUNTS), version)).collect())
    });
    bench.blocks("20000 random slots of one contract", 10, |bench| {
        let chosen = (0..20_000).map(|_| bench.random(100_000)).collect::<Vec<_>>();
        changes(vec![contract(ACCOUNTS, bench.version, chosen.into_iter())])
    });
    bench.blocks("1 transaction", 1000, |bench| {
        let version = bench.version;
        let mut all: Vec<_> = (0..3).map(|_| account(bench.random(ACCOUNTS), version)).collect();
        all.push(contract(ACCOUNTS, version, [version % 8191, version % 8191 + 8191, 77].into_iter()));
        changes(all)
    });
    let source = Origin { layers: Arc::new([]), store: bench.store.clone() }.open().unwrap();
    let trie = StateTrie { source, root: bench.root };
    let start = Instant::now();
    for _ in 0..200_000 {
        let chosen = address(bench.random(ACCOUNTS));
        assert!(trie.account(&chosen).unwrap().is_some());
    }
    println!("account read: {:.2?} (with 2 keccak256)", start.elapsed() / 200_000);
    let storage = trie.account(&address(ACCOUNTS)).unwrap().unwrap().storage;
    let start = Instant::now();
    for _ in 0..200_000 {
        let slot: U256 = keccak256(bench.random(100_000).to_be_bytes()).into();
        assert!(!trie.slot(&storage, &slot).unwrap().is_zero());
    }
    println!("slot read: {:.2?} (with 2 keccak256)", start.elapsed() / 200_000);
    let start = Instant::now();
    for _ in 0..100_000 {
        bench.store.snapshot().unwrap();
    }
    println!("snapshot: {:.2?}", start.elapsed() / 100_000);
}
