//! Ordered tables with one writer and any number of snapshots: LMDB on disk, ordered maps in memory.
//!
//! A `Batch` is written in one durable transaction or not at all. Readers of LMDB, also those of other processes, see the
//! last one that was committed, and never wait for the writer nor it for them. Source: the documentation of LMDB 0.9.
//!
//! On disk a folder holds `data.mdb`, `lock.mdb` and `writer.lock`, which the one writing process keeps locked.

use crate::errors::{Error, Result};
use crate::store_lmdb::{Environment, Mapped};
use alloy_primitives::Bytes;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::{Bound, Deref};
use std::path::Path;
use std::sync::Arc;

/// The tables; the number is the place in arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// What holds for the whole store, by name.
    Meta = 0,
    /// Chunks of trie nodes by (height, chunk).
    Nodes = 1,
    /// Contract code by hash.
    Codes = 2,
    /// Records of a block by (height, kind).
    Blocks = 3,
    /// Where transactions and blocks are, by hash.
    Index = 4,
}

pub const TABLES: [(Table, &str); 5] = [
    (Table::Meta, "meta"),
    (Table::Nodes, "nodes"),
    (Table::Codes, "codes"),
    (Table::Blocks, "blocks"),
    (Table::Index, "index"),
];

/// One change of a table.
pub enum Change {
    Put(Table, Vec<u8>, Bytes),
    /// As `Put`, for a key above all of the table: faster, and fills pages.
    Append(Table, Vec<u8>, Bytes),
    /// Remove all keys from this one on.
    Truncate(Table, Vec<u8>),
    /// Remove all keys from the first on, without the second.
    Clear(Table, Vec<u8>, Vec<u8>),
    Delete(Table, Vec<u8>),
}

pub type Batch = Vec<Change>;

/// A value that was read: a slice of the memory map, or shared.
pub enum Value<'a> {
    Mapped(&'a [u8]),
    Shared(Bytes),
}

impl Deref for Value<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Value::Mapped(bytes) => bytes,
            Value::Shared(bytes) => bytes,
        }
    }
}

impl Value<'_> {
    pub fn into_bytes(self) -> Bytes {
        match self {
            Value::Mapped(bytes) => Bytes::copy_from_slice(bytes),
            Value::Shared(bytes) => bytes,
        }
    }
}

type Map = BTreeMap<Vec<u8>, Bytes>;

/// Where the tables are.
#[derive(Clone)]
pub enum Store {
    Disk(Arc<Environment>),
    Memory(Arc<RwLock<[Map; TABLES.len()]>>),
}

impl Store {
    pub fn in_memory() -> Store {
        Store::Memory(Arc::default())
    }

    /// Open for writing, create what is missing. Raises Unavailable when another process (or this one) writes here already.
    pub fn open(path: &Path, map_bytes: usize) -> Result<Store> {
        Ok(Store::Disk(Environment::open_writer(path, map_bytes)?))
    }

    /// Open for reading beside a writer in any process. Raises Unavailable where there is no store yet.
    pub fn open_reader(path: &Path) -> Result<Store> {
        Ok(Store::Disk(Environment::open_reader(path)?))
    }

    /// What is committed now. A snapshot on disk keeps the pages that it sees from being reused: do not hold it for long.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(match self {
            Store::Disk(environment) => Snapshot::Disk(environment.snapshot()?),
            Store::Memory(tables) => Snapshot::Memory(tables.clone()),
        })
    }

    /// The number of the last write, where writes are counted.
    pub fn version(&self) -> Option<usize> {
        match self {
            Store::Disk(environment) => Some(environment.version()),
            Store::Memory(_) => None,
        }
    }

    /// Make all of the batch durable, in its order, or change nothing and raise.
    pub fn write(&self, batch: &Batch) -> Result<()> {
        match self {
            Store::Disk(environment) => environment.write(batch),
            Store::Memory(tables) => {
                let mut tables = tables.write();
                for change in batch {
                    apply_change(&mut tables, change);
                }
                Ok(())
            }
        }
    }

    /// Whether `write` may succeed.
    pub fn is_writer(&self) -> bool {
        match self {
            Store::Disk(environment) => environment.is_writer(),
            Store::Memory(_) => true,
        }
    }

    /// How errors name the store.
    pub fn name(&self) -> String {
        match self {
            Store::Disk(environment) => environment.name().to_owned(),
            Store::Memory(_) => "store in memory".to_owned(),
        }
    }
}

fn apply_change(tables: &mut [Map; TABLES.len()], change: &Change) {
    match change {
        Change::Put(table, key, value) | Change::Append(table, key, value) => {
            // The bytes may be a slice of something larger that must not stay alive for their sake.
            tables[*table as usize].insert(key.clone(), value.clone());
        }
        Change::Truncate(table, from) => {
            tables[*table as usize].split_off(from);
        }
        Change::Clear(table, from, until) => {
            let table = &mut tables[*table as usize];
            let mut above = table.split_off(from);
            table.extend(above.split_off(until));
        }
        Change::Delete(table, key) => {
            tables[*table as usize].remove(key);
        }
    }
}

/// Which keys are wanted: those from `low` to `high`, both included, at most `limit`.
pub struct KeyRange<'a> {
    pub table: Table,
    pub low: &'a [u8],
    pub high: &'a [u8],
    pub ascending: bool,
    pub limit: usize,
}

/// A view of the tables. On disk it is frozen; in memory single reads see the newest, which is the same for all that is
/// only ever appended.
pub enum Snapshot {
    Disk(Mapped),
    Memory(Arc<RwLock<[Map; TABLES.len()]>>),
}

impl Snapshot {
    /// The number of the last write that is seen, as `Store::version` counts.
    pub fn version(&self) -> Option<usize> {
        match self {
            Snapshot::Disk(mapped) => Some(mapped.version()),
            Snapshot::Memory(_) => None,
        }
    }

    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Value<'_>>> {
        match self {
            Snapshot::Disk(mapped) => Ok(mapped.get(table, key)?.map(Value::Mapped)),
            Snapshot::Memory(tables) => Ok(tables.read()[table as usize].get(key).cloned().map(Value::Shared)),
        }
    }

    /// The largest key of a table.
    pub fn last_key(&self, table: Table) -> Result<Option<Vec<u8>>> {
        match self {
            Snapshot::Disk(mapped) => mapped.last_key(table),
            Snapshot::Memory(tables) => Ok(tables.read()[table as usize].keys().next_back().cloned()),
        }
    }

    /// At most `limit` keys from `low` to `high`, both included, ascending or not.
    pub fn keys_between(
        &self,
        table: Table,
        low: &[u8],
        high: &[u8],
        ascending: bool,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>> {
        match self {
            _ if low > high => Ok(Vec::new()),
            Snapshot::Disk(mapped) => mapped.keys_between(&KeyRange { table, low, high, ascending, limit }),
            Snapshot::Memory(tables) => {
                let tables = tables.read();
                let keys = tables[table as usize].range(low.to_vec()..=high.to_vec()).map(|(key, _)| key.clone());
                Ok(if ascending { keys.take(limit).collect() } else { keys.rev().take(limit).collect() })
            }
        }
    }

    /// The first key after `key`, with its value.
    pub fn next(&self, table: Table, key: &[u8]) -> Result<Option<(Vec<u8>, Bytes)>> {
        match self {
            Snapshot::Disk(mapped) => mapped.next(table, key),
            Snapshot::Memory(tables) => {
                let tables = tables.read();
                let range = (Bound::Excluded(key), Bound::Unbounded);
                Ok(tables[table as usize]
                    .range::<[u8], _>(range)
                    .next()
                    .map(|(key, value)| (key.clone(), value.clone())))
            }
        }
    }

    /// The keys whose value `choose` picks, in order; reads all of the table.
    pub fn keys_where(&self, table: Table, choose: &dyn Fn(&[u8]) -> Result<bool>) -> Result<Vec<Vec<u8>>> {
        match self {
            Snapshot::Disk(mapped) => mapped.keys_where(table, choose),
            Snapshot::Memory(tables) => {
                let mut chosen = Vec::new();
                for (key, value) in &tables.read()[table as usize] {
                    if choose(value)? {
                        chosen.push(key.clone());
                    }
                }
                Ok(chosen)
            }
        }
    }
}

/// What must be there; its absence means that the store is damaged.
pub fn required<T>(value: Option<T>, what: impl FnOnce() -> String) -> Result<T> {
    value.ok_or_else(|| Error::corrupt(format!("{}: not in the store, expected to be there", what())))
}
