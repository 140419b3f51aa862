//! A writer that is killed at any moment leaves a store that opens at a height that it had committed.
//!
//! The writer is this test program once more, told by the environment to write instead of to test.

use crate::errors::Result;
use crate::state::{AccountLeaf, EMPTY, Root, SlotLeaf, StateTrie, apply};
use crate::store::{Batch, Change, Store, Table};
use crate::trie::{Origin, node_key};
use crate::trie_node::{Leaf, Reader};
use crate::types::{Account, AccountChange, StateChanges};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{HashBuilder, KECCAK_EMPTY, Nibbles};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const FOLDER: &str = "QUORATE_TEST_KILLED_WRITER";
const KILLS: u64 = 40;
const ACCOUNTS: u64 = 400;

fn mix(seed: u64) -> u64 {
    let hash = keccak256(seed.to_be_bytes());
    u64::from_be_bytes(*hash.first_chunk().unwrap())
}

/// What block `height` changes: derived from the height alone, so that writer and checker agree.
fn changes(height: u64) -> StateChanges {
    let mut accounts: Vec<AccountChange> = (0..40)
        .map(|i| {
            let chosen = mix(height * 1000 + i) % ACCOUNTS;
            let address = Address::from_slice(&keccak256(chosen.to_be_bytes())[12..]);
            let is_gone = mix(height * 1000 + i + 500).is_multiple_of(11);
            let account = Account { nonce: height, balance: U256::from(mix(height + i)), code_hash: KECCAK_EMPTY };
            let slots = (0..3).map(|s| (U256::from(s), U256::from(mix(height * 7 + s) % 5))).collect();
            let (account, slots) = if is_gone { (None, vec![]) } else { (Some(account), slots) };
            AccountChange { address, account, storage_wiped: is_gone, slots }
        })
        .collect();
    accounts.sort_by_key(|change| change.address);
    accounts.dedup_by_key(|change| change.address);
    StateChanges { accounts, ..StateChanges::default() }
}

/// The last committed height and its state: one record that the nodes' transaction carries.
fn last(store: &Store) -> Result<(u64, Root)> {
    let snapshot = store.snapshot()?;
    let Some(record) = snapshot.get(Table::Meta, b"last")? else { return Ok((0, EMPTY)) };
    let mut reader = Reader::new(&record);
    let height = u64::from_be_bytes(*reader.array()?);
    let hash = reader.hash()?;
    let id = if reader.byte()? == 1 { Some(reader.id()?) } else { None };
    Ok((height, Root { hash, id }))
}

fn write_block(store: &Store, height: u64, root: Root) -> Result<Root> {
    let source = Origin { layers: Arc::new([]), store: store.clone() }.open()?;
    let (root, layer) = apply(&StateTrie { source, root }, &changes(height), height)?;
    let append =
        |(number, chunk): &(u32, Bytes)| Change::Append(Table::Nodes, node_key(height, *number), chunk.clone());
    let mut batch: Batch = layer.chunks.iter().map(append).collect();
    let mut record = height.to_be_bytes().to_vec();
    record.extend_from_slice(root.hash.as_slice());
    record.push(u8::from(root.id.is_some()));
    if let Some(id) = root.id {
        id.write(&mut record);
    }
    batch.push(Change::Put(Table::Meta, b"last".to_vec(), record.into()));
    store.write(&batch)?;
    Ok(root)
}

/// Runs in the process that is killed.
fn write_for_ever(folder: &Path) -> Result<()> {
    let store = Store::open(folder, 1 << 32)?;
    let (mut height, mut root) = last(&store)?;
    loop {
        height += 1;
        root = write_block(&store, height, root)?;
        println!("committed {height}");
    }
}

/// The root by its definition, from all leaves.
fn recompute(store: &Store, root: Root) -> B256 {
    let source = Origin { layers: Arc::new([]), store: store.clone() }.open().unwrap();
    let mut accounts = HashBuilder::default();
    let mut visit = |key: B256, leaf: AccountLeaf| {
        let mut slots = HashBuilder::default();
        source.walk(leaf.storage.id, &mut |slot: B256, leaf: SlotLeaf| {
            let mut value = Vec::new();
            leaf.write_value(&mut value);
            slots.add_leaf(Nibbles::unpack(slot), &value);
            Ok(())
        })?;
        assert_eq!(slots.root(), leaf.storage.hash);
        let mut value = Vec::new();
        leaf.write_value(&mut value);
        accounts.add_leaf(Nibbles::unpack(key), &value);
        Ok(())
    };
    source.walk(root.id, &mut visit).unwrap();
    accounts.root()
}

#[test]
fn a_killed_writer_leaves_a_committed_height() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        write_for_ever(&PathBuf::from(folder)).unwrap();
        return;
    }
    let folder = std::env::temp_dir().join(format!("quorate-kill-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let (mut model, mut reached) = ((0, EMPTY), 0);
    let fresh = Store::in_memory();
    for kill in 0..KILLS {
        let told = run_and_kill(&folder, Duration::from_micros(mix(kill) % 30_000));
        let store = Store::open(&folder, 1 << 32).unwrap();
        let (height, root) = last(&store).unwrap();
        assert!(height >= told && height >= reached, "height {height}, the writer had told {told}");
        while model.0 < height {
            model = (model.0 + 1, write_block(&fresh, model.0 + 1, model.1).unwrap());
        }
        assert_eq!(root, model.1, "kill {kill}");
        assert_eq!(recompute(&store, root), root.hash, "kill {kill}");
        reached = height;
    }
    assert!(reached > KILLS, "only {reached} heights: the test showed nothing");
    let _ = std::fs::remove_dir_all(&folder);
}

/// Let a writer commit something, then kill it some time later; the last height that it told.
fn run_and_kill(folder: &Path, later: Duration) -> u64 {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill_tests::a_killed_writer_leaves_a_committed_height", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let mut told = 0;
    let mut read_height = |line: std::io::Result<String>| {
        if let Some(height) = line.unwrap().strip_prefix("committed ") {
            told = height.parse().unwrap();
            return true;
        }
        false
    };
    // The program's own words come first.
    while !read_height(lines.next().expect("the writer ended by itself")) {}
    // Spinning is more exact than sleeping: the moment must not follow the writer's rhythm.
    let deadline = Instant::now() + later;
    while Instant::now() < deadline {
        std::hint::spin_loop();
    }
    writer.kill().unwrap();
    writer.wait().unwrap();
    for line in lines {
        read_height(line);
    }
    told
}
