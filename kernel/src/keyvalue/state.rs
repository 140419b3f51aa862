//! What the trie of the key-value application holds, and the header of its blocks.
//!
//! One trie holds everything that replicas must agree on; the first byte of a name says what it is:
//!
//! ```text
//! k key        an entry: revisions of creation and last change, number of changes, value
//! c client     how far its answers are acknowledged, and the results of what is not
//! l height     clients that were listed at this height, the oldest of which expire first
//! m            how many clients there are, the oldest and the newest list
//! v            the members: 20 bytes of address and 8 of power for each
//! ```
//!
//! A name's place in the trie is its keccak256; what the trie proves of an entry is its three numbers and the keccak256 of its
//! value, so that a proof stays small whatever the value is.

use crate::errors::{Error, Result};
use crate::keccak_lanes::hash_many;
use crate::keyvalue::item::Client;
use crate::trie_node::{Leaf, Reader};
use alloy_primitives::{B256, Bytes, keccak256};

/// Operations of one client whose answers it has not acknowledged.
pub const WINDOW: u64 = 1024;
/// Of what an answer says beside its revision; the results of a client are part of the state.
pub const MAX_DETAIL_BYTES: usize = 1 << 10;

/// An entry, or anything else that the trie holds, which uses `value` and at most two of the numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    pub created: u64,
    pub modified: u64,
    pub version: u64,
    pub value: Bytes,
    pub hashed: Hashed,
}

/// What an entry says beside its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Numbers {
    pub created: u64,
    pub modified: u64,
    pub version: u64,
}

impl Numbers {
    /// The beginning of an entry's record.
    pub fn read(record: &mut Reader<'_>) -> Result<Numbers> {
        let mut number = || record.array::<8>().map(|bytes| u64::from_be_bytes(*bytes));
        Ok(Numbers { created: number()?, modified: number()?, version: number()? })
    }

    pub fn with(self, value: Bytes, hashed: Hashed) -> Entry {
        let Numbers { created, modified, version } = self;
        Entry { created, modified, version, value, hashed }
    }
}

impl Entry {
    pub fn numbers(&self) -> Numbers {
        Numbers { created: self.created, modified: self.modified, version: self.version }
    }
}

/// keccak256 of a value, where it was computed in advance; says nothing of its own.
#[derive(Debug, Clone, Default)]
pub struct Hashed(pub Option<B256>);

impl PartialEq for Hashed {
    fn eq(&self, _: &Hashed) -> bool {
        true
    }
}

impl Eq for Hashed {}

/// Three numbers (8 each), length (4), value.
impl Leaf for Entry {
    fn write_record(&self, out: &mut Vec<u8>) {
        for number in [self.created, self.modified, self.version] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&(self.value.len() as u32).to_be_bytes());
        out.extend_from_slice(&self.value);
    }

    fn read_record(record: &mut Reader<'_>) -> Result<Self> {
        let numbers = Numbers::read(record)?;
        let length = u32::from_be_bytes(*record.array::<4>()?) as usize;
        Ok(numbers.with(Bytes::copy_from_slice(record.take(length)?), Hashed(None)))
    }

    /// Three numbers (8 each), keccak256 of the value (32).
    fn write_value(&self, out: &mut Vec<u8>) {
        for number in [self.created, self.modified, self.version] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        let hash = self.hashed.0.unwrap_or_else(|| keccak256(&self.value));
        out.extend_from_slice(hash.as_slice());
    }
}

pub fn place_of(domain: u8, name: &[u8]) -> B256 {
    keccak256([&[domain], name].concat())
}

/// The places of many names, hashed together.
pub fn places_of<'a>(domain: u8, names: impl Iterator<Item = &'a [u8]>) -> Vec<B256> {
    let (mut full, mut ends) = (Vec::new(), Vec::new());
    for name in names {
        full.push(domain);
        full.extend_from_slice(name);
        ends.push(full.len());
    }
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let ranges: Vec<&[u8]> = starts.zip(&ends).map(|(start, end)| &full[start..*end]).collect();
    let mut places = Vec::with_capacity(ranges.len());
    hash_many(ranges.into_iter(), &mut places);
    places
}

// ---- clients

/// What became of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub outcome: u8,
    /// Of the change that it made, or of the entry that it found otherwise.
    pub revision: u64,
    pub detail: Bytes,
}

pub const DONE: u8 = 0;
/// There was nothing to delete.
pub const MISSING: u8 = 1;
/// The condition of a comparison did not hold.
pub const CONFLICT: u8 = 2;
/// The application's own code, or the lack of one, says no; `detail` says why.
pub const REFUSED: u8 = 3;

/// What is remembered of a client, so that nothing that it sends again is done again.
///
/// Source: Lee and others, "Implementing Linearizability at Large Scale and Low Latency", SOSP 2015, section 3: results are
/// kept until the client acknowledges them, and clients that are silent for long are forgotten. Here a deadline in each
/// operation takes the place of their leases: it passes before its client can be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Session {
    /// Every sequence up to this one is acknowledged.
    pub floor: u64,
    /// When the client was put into a list last, milliseconds.
    pub listed_ms: u64,
    /// By sequence, ascending.
    pub results: Vec<(u64, Answer)>,
}

impl Session {
    /// What became of an operation that is not acknowledged.
    pub fn result(&self, sequence: u64) -> Option<&Answer> {
        let place = self.results.binary_search_by_key(&sequence, |(known, _)| *known);
        place.ok().map(|place| &self.results[place].1)
    }

    /// Keep the result of an operation that has none yet.
    pub fn keep(&mut self, sequence: u64, answer: Answer) {
        let place = self.results.partition_point(|(known, _)| *known < sequence);
        self.results.insert(place, (sequence, answer));
    }

    pub fn acknowledge(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            let gone = self.results.partition_point(|(sequence, _)| *sequence <= floor);
            self.results.drain(..gone);
        }
    }

    /// Why an operation is not (or no longer) to be executed.
    pub fn refuse(&self, sequence: u64, acknowledged: u64) -> Option<&'static str> {
        if sequence <= self.floor || self.result(sequence).is_some() {
            return Some("already known");
        }
        (sequence > self.floor.max(acknowledged) + WINDOW)
            .then_some("too many operations of this client are not acknowledged")
    }

    pub fn to_entry(&self) -> Entry {
        let mut value = Vec::with_capacity(self.results.len() * 13);
        for (sequence, answer) in &self.results {
            value.extend_from_slice(&((sequence - self.floor) as u16).to_be_bytes());
            value.push(answer.outcome);
            value.extend_from_slice(&answer.revision.to_be_bytes());
            value.extend_from_slice(&(answer.detail.len() as u16).to_be_bytes());
            value.extend_from_slice(&answer.detail);
        }
        Entry { created: self.floor, modified: self.listed_ms, value: value.into(), ..Entry::default() }
    }

    /// What a client's entry says without being decoded.
    pub fn listed_ms(numbers: &Numbers) -> u64 {
        numbers.modified
    }

    pub fn from_entry(entry: &Entry) -> Result<Session> {
        let mut session = Session { floor: entry.created, listed_ms: entry.modified, results: Vec::new() };
        let mut reader = Reader::new(&entry.value);
        while !reader.is_empty() {
            let sequence = session.floor + u64::from(u16::from_be_bytes(*reader.array()?));
            let outcome = reader.byte()?;
            let revision = u64::from_be_bytes(*reader.array()?);
            let length = u16::from_be_bytes(*reader.array()?) as usize;
            let detail = Bytes::copy_from_slice(reader.take(length)?);
            session.results.push((sequence, Answer { outcome, revision, detail }));
        }
        Ok(session)
    }
}

/// Clients that were listed at one height, and the height of the next list (0: none yet).
pub struct Listing {
    pub time_ms: u64,
    pub next: u64,
    pub clients: Vec<Client>,
}

impl Listing {
    pub fn to_entry(&self) -> Entry {
        let value = self.clients.concat().into();
        Entry { modified: self.time_ms, version: self.next, value, ..Entry::default() }
    }

    pub fn from_entry(entry: &Entry) -> Listing {
        let (clients, _) = entry.value.as_chunks::<16>();
        Listing { time_ms: entry.modified, next: entry.version, clients: clients.to_vec() }
    }
}

/// How many clients there are, and the heights of the oldest and the newest list (0: none).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    pub clients: u64,
    pub oldest: u64,
    pub newest: u64,
}

impl Census {
    pub fn to_entry(&self) -> Entry {
        Entry { created: self.clients, modified: self.oldest, version: self.newest, ..Entry::default() }
    }

    pub fn from_entry(entry: &Entry) -> Census {
        Census { clients: entry.created, oldest: entry.modified, newest: entry.version }
    }
}

// ---- headers

pub const HEADER_BYTES: usize = 160;
const PREFIX: [u8; 4] = *b"qkv1";

/// What identifies a block. Its hash is the keccak256 of this:
///
/// ```text
/// offset  bytes
/// 0       4      "qkv1"
/// 4       4      number of operations that were executed
/// 8       8      height
/// 16      8      timestamp, milliseconds
/// 24      8      revision after it
/// 32      32     hash of the parent block
/// 64      32     hash of the parent's envelope; of genesis: identity of the network
/// 96      32     root of the state
/// 128     32     keccak256 of the names of the payloads (`payload_hash`)
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub items: u32,
    pub height: u64,
    pub timestamp_ms: u64,
    pub revision: u64,
    pub parent: B256,
    pub envelope: B256,
    pub root: B256,
    pub payloads: B256,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..4].copy_from_slice(&PREFIX);
        out[4..8].copy_from_slice(&self.items.to_be_bytes());
        for (place, number) in [self.height, self.timestamp_ms, self.revision].into_iter().enumerate() {
            out[8 + 8 * place..16 + 8 * place].copy_from_slice(&number.to_be_bytes());
        }
        for (place, hash) in [self.parent, self.envelope, self.root, self.payloads].iter().enumerate() {
            out[32 + 32 * place..64 + 32 * place].copy_from_slice(hash.as_slice());
        }
        out
    }

    pub fn decode(reader: &mut Reader<'_>) -> Result<Header> {
        if *reader.array::<4>()? != PREFIX {
            return Err(Error::corrupt("header: not one of the key-value application"));
        }
        let items = u32::from_be_bytes(*reader.array()?);
        let mut number = || reader.array::<8>().map(|bytes| u64::from_be_bytes(*bytes));
        let (height, timestamp_ms, revision) = (number()?, number()?, number()?);
        let (parent, envelope, root, payloads) = (reader.hash()?, reader.hash()?, reader.hash()?, reader.hash()?);
        Ok(Header { items, height, timestamp_ms, revision, parent, envelope, root, payloads })
    }

    pub fn hash(&self) -> B256 {
        keccak256(self.encode())
    }
}
