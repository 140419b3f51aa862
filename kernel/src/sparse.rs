//! What pruning leaves of a chunk of trie nodes.
//!
//! Nodes keep their names: a name is an offset in the chunk as it was written. A chunk of which at least half is dead is
//! written anew without it, as a *sparse* chunk; until then the dead stretches are only noted, in a record beside the chunk,
//! so that the death of one leaf does not rewrite 64 KiB. A chunk without any living node goes. So at most half of what is
//! stored is dead, however the deaths are spread.
//!
//! Table `Nodes`, integers big-endian; a stretch is start and length (4 each), ascending, none touching the next:
//!
//! ```text
//! height (8), chunk (4)         nodes one after the other (`trie_node.rs`), or
//!                               0x80, number of stretches (4), stretches that are left, their bytes
//! height (8), chunk (4), 0xdd   dead stretches of this chunk
//! ```

use crate::errors::{Error, Result};
use crate::store::{Batch, Change, Snapshot, Table, required};
use crate::trie::node_key;
use crate::trie_node::{NodeId, Reader};
use alloy_primitives::Bytes;
use std::collections::BTreeMap;

/// First byte of a sparse chunk; no node begins with it.
pub const SPARSE: u8 = 0x80;
const DEAD: u8 = 0xdd;
const STRETCH_BYTES: usize = 8;
const HEAD_BYTES: usize = 5;
/// Values up to this size share a page with others, so that writing them anew costs no more than a note.
const SMALL_BYTES: usize = 1536;

/// Start and length.
type Stretch = (u32, u32);

/// Nodes that no state needs any longer, by chunk.
#[derive(Default)]
pub struct Dead {
    chunks: BTreeMap<(u64, u32), Vec<Stretch>>,
    count: usize,
}

impl Dead {
    pub fn add(&mut self, id: NodeId, bytes: usize) {
        self.chunks.entry((id.version, id.chunk())).or_default().push((id.start() as u32, bytes as u32));
        self.count += 1;
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// What to write so that they are gone.
    pub fn bury(self, snapshot: &Snapshot, batch: &mut Batch) -> Result<()> {
        for ((version, chunk), stretches) in self.chunks {
            bury_in_chunk(snapshot, batch, version, chunk, stretches)?;
        }
        Ok(())
    }
}

/// Where in a sparse chunk the node is that began at `start` before; None: it is gone.
pub fn find_in_sparse(chunk: &[u8], start: usize) -> Result<Option<usize>> {
    let (stretches, bytes) = read_sparse(chunk)?;
    let mut place = chunk.len() - bytes.len();
    for (first, length) in stretches {
        let (first, length) = (first as usize, length as usize);
        if (first..first + length).contains(&start) {
            return Ok(Some(place + start - first));
        }
        place += length;
    }
    Ok(None)
}

fn read_sparse(chunk: &[u8]) -> Result<(impl Iterator<Item = Stretch> + Clone + '_, &[u8])> {
    let mut reader = Reader::new(chunk);
    reader.byte()?;
    let count = u32::from_be_bytes(*reader.array()?) as usize;
    let table = reader.take(count.saturating_mul(STRETCH_BYTES))?;
    let bytes = reader.take(reader.left())?;
    Ok((decode_stretches(table), bytes))
}

fn decode_stretches(table: &[u8]) -> impl Iterator<Item = Stretch> + Clone + '_ {
    let number = |bytes: &[u8]| bytes.iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
    table.chunks_exact(STRETCH_BYTES).map(move |entry| (number(&entry[..4]), number(&entry[4..])))
}

fn encode_stretches(stretches: &[Stretch], out: &mut Vec<u8>) {
    for (start, length) in stretches {
        out.extend_from_slice(&start.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
    }
}

fn bury_in_chunk(
    snapshot: &Snapshot,
    batch: &mut Batch,
    version: u64,
    number: u32,
    mut dead: Vec<Stretch>,
) -> Result<()> {
    let key = node_key(version, number);
    let note_key = [key.as_slice(), &[DEAD]].concat();
    let what = || format!("chunk {number} of trie nodes of height {version}");
    let chunk = required(snapshot.get(Table::Nodes, &key)?, what)?;
    let note = snapshot.get(Table::Nodes, &note_key)?;
    if let Some(note) = &note {
        dead.extend(decode_stretches(note));
    }
    let dead = merged(dead).ok_or_else(|| Error::corrupt(format!("{}: a node died twice", what())))?;
    let is_sparse = chunk.first() == Some(&SPARSE);
    let (stored, bytes): (Vec<Stretch>, &[u8]) = if is_sparse {
        let (stretches, bytes) = read_sparse(&chunk)?;
        (stretches.collect(), bytes)
    } else {
        (vec![(0, chunk.len() as u32)], &chunk)
    };
    let living =
        without(&stored, &dead).ok_or_else(|| Error::corrupt(format!("{}: a node died that is not there", what())))?;
    let living_bytes: usize = living.iter().map(|(_, length)| *length as usize).sum();
    if living_bytes * 2 > bytes.len() && chunk.len() > SMALL_BYTES {
        let mut value = Vec::with_capacity(dead.len() * STRETCH_BYTES);
        encode_stretches(&dead, &mut value);
        batch.push(Change::Put(Table::Nodes, note_key, value.into()));
        return Ok(());
    }
    if note.is_some() {
        batch.push(Change::Delete(Table::Nodes, note_key));
    }
    batch.push(if living.is_empty() {
        Change::Delete(Table::Nodes, key)
    } else {
        Change::Put(Table::Nodes, key, encode_sparse(&living, &stored, bytes))
    });
    Ok(())
}

fn encode_sparse(living: &[Stretch], stored: &[Stretch], bytes: &[u8]) -> Bytes {
    let size: usize = living.iter().map(|(_, length)| *length as usize).sum();
    let mut out = Vec::with_capacity(HEAD_BYTES + living.len() * STRETCH_BYTES + size);
    out.push(SPARSE);
    out.extend_from_slice(&(living.len() as u32).to_be_bytes());
    encode_stretches(living, &mut out);
    let mut rest = living.iter().peekable();
    let mut place = 0usize;
    for (start, length) in stored {
        while let Some((first, count)) = rest.next_if(|(first, _)| *first < start + length) {
            let from = place + (first - start) as usize;
            out.extend_from_slice(&bytes[from..from + *count as usize]);
        }
        place += *length as usize;
    }
    out.into()
}

/// Sorted, with those that touch joined; None where two overlap.
fn merged(mut stretches: Vec<Stretch>) -> Option<Vec<Stretch>> {
    stretches.sort_unstable();
    let mut joined: Vec<Stretch> = Vec::with_capacity(stretches.len());
    for (start, length) in stretches {
        match joined.last_mut() {
            Some((first, count)) if *first + *count > start => return None,
            Some((first, count)) if *first + *count == start => *count += length,
            _ => joined.push((start, length)),
        }
    }
    Some(joined)
}

/// What is left of `stored` without `dead`; None unless each of `dead` lies within.
fn without(stored: &[Stretch], dead: &[Stretch]) -> Option<Vec<Stretch>> {
    let mut left = Vec::with_capacity(stored.len() + dead.len());
    let mut dead = dead.iter().peekable();
    for (start, length) in stored {
        let (mut from, end) = (*start, start.checked_add(*length)?);
        while let Some((first, count)) = dead.next_if(|(first, _)| *first < end) {
            if *first < from || first.checked_add(*count)? > end {
                return None;
            }
            if *first > from {
                left.push((from, first - from));
            }
            from = first + count;
        }
        if end > from {
            left.push((from, end - from));
        }
    }
    dead.next().is_none().then_some(left)
}

/// Living and dead bytes of a stored chunk, for whoever counts: `note` is what lies beside it.
pub fn count_bytes(chunk: &[u8], note: Option<&[u8]>) -> Result<(u64, u64)> {
    let stored = if chunk.first() == Some(&SPARSE) { read_sparse(chunk)?.1.len() } else { chunk.len() } as u64;
    let dead: u64 = note.map_or(0, |note| decode_stretches(note).map(|(_, length)| u64::from(length)).sum());
    let living = stored.checked_sub(dead);
    living.map(|living| (living, dead)).ok_or_else(|| Error::corrupt(format!("{dead} dead bytes of {stored}")))
}

/// Whether a key of table `Nodes` is that of a note.
pub fn is_note(key: &[u8]) -> bool {
    key.last() == Some(&DEAD) && key.len() == 13
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn id(version: u64, offset: u32) -> NodeId {
        NodeId { version, offset }
    }

    fn bury(store: &Store, deaths: &[(u32, usize)]) -> Result<()> {
        let mut dead = Dead::default();
        deaths.iter().for_each(|(offset, bytes)| dead.add(id(7, *offset), *bytes));
        let (mut batch, snapshot) = (Batch::new(), store.snapshot()?);
        dead.bury(&snapshot, &mut batch)?;
        store.write(&batch)
    }

    fn chunk(store: &Store) -> Option<Vec<u8>> {
        store.snapshot().unwrap().get(Table::Nodes, &node_key(7, 0)).unwrap().map(|value| value.to_vec())
    }

    #[test]
    fn a_large_chunk_notes_deaths_until_half_of_it_is_dead() {
        let store = Store::in_memory();
        let bytes: Vec<u8> = (0..10_000u32).map(|i| (i % 113) as u8).collect();
        store.write(&vec![Change::Put(Table::Nodes, node_key(7, 0), bytes.clone().into())]).unwrap();
        bury(&store, &[(100, 50), (150, 10)]).unwrap();
        assert_eq!(chunk(&store).unwrap(), bytes, "one death rewrites nothing");
        bury(&store, &[(5000, 5000)]).unwrap();
        let sparse = chunk(&store).unwrap();
        assert!(sparse.len() < 5000 && sparse[0] == SPARSE);
        for start in [0usize, 99, 160, 4999] {
            let place = find_in_sparse(&sparse, start).unwrap().unwrap();
            assert_eq!(sparse[place], bytes[start]);
        }
        for start in [100, 159, 5000, 9999, 20_000] {
            assert_eq!(find_in_sparse(&sparse, start).unwrap(), None);
        }
        bury(&store, &[(0, 100), (160, 4840)]).unwrap();
        assert!(store.snapshot().unwrap().last_key(Table::Nodes).unwrap().is_none(), "nothing is left, no note either");
    }

    #[test]
    fn what_died_already_cannot_die_again() {
        let store = Store::in_memory();
        store.write(&vec![Change::Put(Table::Nodes, node_key(7, 0), vec![1; 4000].into())]).unwrap();
        bury(&store, &[(100, 50)]).unwrap();
        assert!(matches!(bury(&store, &[(120, 10)]), Err(Error::Corrupt(_))));
        bury(&store, &[(1000, 2900)]).unwrap();
        assert!(matches!(bury(&store, &[(100, 50)]), Err(Error::Corrupt(_))));
        assert!(matches!(bury(&store, &[(3990, 20)]), Err(Error::Corrupt(_))));
    }
}
