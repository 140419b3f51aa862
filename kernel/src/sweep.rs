//! What a store no longer needs once it has been given another state, removed in bounded steps.
//!
//! The transaction that installs a state says here what is to go, and that it is pruned; so the size of what goes delays
//! nobody. Each step is a transaction of its own, and goes on after a restart.
//!
//! Table `Meta`, `sweep`: the height of the state (8), the first header that stays (8), table (1) and key where it goes on.

use crate::block::{self, HEAD};
use crate::errors::{Error, Result};
use crate::store::{Batch, Change, Snapshot, Store, Table};
use crate::trie_node::Reader;

const NAME: &[u8] = b"sweep";
/// Keys that one step looks at.
const STEP_KEYS: usize = 4_096;
/// No key is empty.
const FIRST_KEY: [u8; 1] = [0];
const ORDER: [Table; 3] = [Table::Nodes, Table::Blocks, Table::Index];

/// What is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// Of the state that was installed.
    height: u64,
    first_header: u64,
    /// In `ORDER`.
    place: u8,
    key: Vec<u8>,
}

impl Sweep {
    pub fn new(height: u64, first_header: u64) -> Sweep {
        Sweep { height, first_header, place: 0, key: FIRST_KEY.to_vec() }
    }

    pub fn read(snapshot: &Snapshot) -> Result<Option<Sweep>> {
        let Some(record) = snapshot.get(Table::Meta, NAME)? else { return Ok(None) };
        let mut reader = Reader::new(&record);
        let (height, first_header) = (u64::from_be_bytes(*reader.array()?), u64::from_be_bytes(*reader.array()?));
        let place = reader.byte()?;
        if place as usize >= ORDER.len() {
            return Err(Error::corrupt(format!("sweep: table {place}, expected below {}", ORDER.len())));
        }
        Ok(Some(Sweep { height, first_header, place, key: reader.take(reader.left())?.to_vec() }))
    }

    pub fn put(&self, batch: &mut Batch) {
        let mut record = [self.height.to_be_bytes(), self.first_header.to_be_bytes()].concat();
        record.push(self.place);
        record.extend_from_slice(&self.key);
        batch.push(Change::Put(Table::Meta, NAME.to_vec(), record.into()));
    }

    /// Whether nodes or records of a block are to go, by their key.
    pub fn takes_key(&self, table: Table, key: &[u8]) -> bool {
        let height = key.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let is_below = height < self.height;
        match table {
            Table::Nodes => is_below,
            Table::Blocks => is_below && height > 0 && (key.last() != Some(&HEAD) || height < self.first_header),
            Table::Meta | Table::Codes | Table::Index => false,
        }
    }

    /// Whether an entry of the index is to go.
    pub fn takes_entry(&self, value: &[u8]) -> Result<bool> {
        let height = block::indexed_height(value)?;
        let stays = block::names_block(value)? && (height == 0 || height >= self.first_header);
        Ok(height < self.height && !stays)
    }

    /// Take a step; whether there is more to do.
    fn step(mut self, store: &Store) -> Result<bool> {
        let snapshot = store.snapshot()?;
        let table = ORDER[self.place as usize];
        // Of nodes and blocks all that is above this stays.
        let high = match table {
            Table::Index => vec![0xff; 33],
            _ => self.height.to_be_bytes().to_vec(),
        };
        let keys = snapshot.keys_between(table, &self.key, &high, true, STEP_KEYS)?;
        let mut batch = Batch::new();
        for key in &keys {
            let goes = match table {
                Table::Index => match snapshot.get(table, key)? {
                    Some(value) => self.takes_entry(&value)?,
                    None => false,
                },
                _ => self.takes_key(table, key),
            };
            if goes {
                batch.push(Change::Delete(table, key.clone()));
            }
        }
        match keys.into_iter().nth(STEP_KEYS - 1) {
            Some(last) => self.key = [last, vec![0]].concat(),
            None => (self.place, self.key) = (self.place + 1, FIRST_KEY.to_vec()),
        }
        let is_done = self.place as usize == ORDER.len();
        if is_done {
            batch.push(Change::Delete(Table::Meta, NAME.to_vec()));
        } else {
            self.put(&mut batch);
        }
        drop(snapshot);
        store.write(&batch)?;
        Ok(!is_done)
    }
}

/// Take a step, if there is something to remove; whether there is more to do.
pub fn sweep(store: &Store) -> Result<bool> {
    let found = Sweep::read(&store.snapshot()?)?;
    found.map_or(Ok(false), |sweep| sweep.step(store))
}
