//! The records of a block in the store, and how to find them.
//!
//! Table `Blocks`, key = height (8 bytes) and kind (1). Integers are big-endian.
//!
//! ```text
//! 0 head      hash (32), milliseconds (8), top of the state trie (flag 1, id 9), number of transactions (4),
//!             length of the header (4), header (RLP), then per skipped transaction hash (32), length (2), reason
//! 1 decision  envelope hash (32), length of the certificate (4), certificate, then per payload length (4), payload
//! 2 body      `codec::encode_body`
//! 3 receipts  `codec::encode_receipts`
//! 4 extra     ommers and withdrawals of an imported block, where it has any
//! ```
//!
//! The last key of the table tells the last height. All heights are final, unless `tips` in table `Meta` says otherwise: the
//! last final height (8) and the one that is called safe (8); what lies above the former has no decision and may be replaced.
//! Table `Index`: hash of a transaction or a block -> height (8) and index of the transaction (4), or all ones for the block
//! itself.

use crate::errors::{Error, Result};
use crate::import::Extra;
use crate::state::Root;
use crate::store::{Snapshot, Table, required};
use crate::trie_node::{NodeId, Reader};
use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes};
use alloy_rlp::{Decodable, Encodable};

pub const HEAD: u8 = 0;
pub const DECISION: u8 = 1;
pub const BODY: u8 = 2;
pub const RECEIPTS: u8 = 3;
pub const EXTRA: u8 = 4;

/// In place of an index: the block itself.
const THE_BLOCK: u32 = u32::MAX;
const NO_NODE: [u8; 10] = [0; 10];

/// What is known of a stored block without its transactions.
#[derive(Debug, Clone)]
pub struct Head {
    pub hash: B256,
    pub timestamp_ms: u64,
    pub root: Root,
    pub transactions: u32,
    pub header: Header,
    pub skipped: Vec<(B256, String)>,
}

/// Why a height is final: (envelope hash, certificate, payloads).
pub type Decision = (B256, Bytes, Vec<Bytes>);

pub fn key(height: u64, kind: u8) -> Vec<u8> {
    let mut key = height.to_be_bytes().to_vec();
    key.push(kind);
    key
}

pub fn encode_head(head: &Head) -> Vec<u8> {
    let mut out = Vec::with_capacity(720);
    out.extend_from_slice(head.hash.as_slice());
    out.extend_from_slice(&head.timestamp_ms.to_be_bytes());
    match head.root.id {
        Some(id) => {
            out.push(1);
            id.write(&mut out);
        }
        None => out.extend_from_slice(&NO_NODE),
    }
    out.extend_from_slice(&head.transactions.to_be_bytes());
    out.extend_from_slice(&(head.header.length() as u32).to_be_bytes());
    head.header.encode(&mut out);
    for (hash, reason) in &head.skipped {
        // A reason is one short line of ours.
        let reason = &reason.as_bytes()[..reason.len().min(u16::MAX as usize)];
        out.extend_from_slice(hash.as_slice());
        out.extend_from_slice(&(reason.len() as u16).to_be_bytes());
        out.extend_from_slice(reason);
    }
    out
}

pub fn decode_head(height: u64, record: &[u8]) -> Result<Head> {
    let mut reader = Reader::new(record);
    let hash = reader.hash()?;
    let timestamp_ms = u64::from_be_bytes(*reader.array()?);
    let has_top = reader.byte()? == 1;
    let id: NodeId = reader.id()?;
    let transactions = u32::from_be_bytes(*reader.array()?);
    let length = u32::from_be_bytes(*reader.array()?);
    let header = Header::decode(&mut reader.take(length as usize)?)
        .map_err(|e| Error::corrupt(format!("height {height}: its header is not RLP of one: {e}")))?;
    let mut skipped = Vec::new();
    while !reader.is_empty() {
        let hash = reader.hash()?;
        let length = u16::from_be_bytes(*reader.array()?);
        skipped.push((hash, String::from_utf8_lossy(reader.take(length as usize)?).into_owned()));
    }
    let root = Root { hash: header.state_root, id: has_top.then_some(id) };
    Ok(Head { hash, timestamp_ms, root, transactions, header, skipped })
}

pub fn encode_decision(envelope: &B256, certificate: &[u8], payloads: &[Bytes]) -> Vec<u8> {
    let size = payloads.iter().map(|payload| payload.len() + 4).sum::<usize>();
    let mut out = Vec::with_capacity(36 + certificate.len() + size);
    out.extend_from_slice(envelope.as_slice());
    for part in std::iter::once(certificate).chain(payloads.iter().map(|payload| payload.as_ref())) {
        out.extend_from_slice(&(part.len() as u32).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

fn decode_decision(record: &[u8]) -> Result<Decision> {
    let mut reader = Reader::new(record);
    let envelope = reader.hash()?;
    let mut parts = Vec::with_capacity(2);
    while !reader.is_empty() {
        let length = u32::from_be_bytes(*reader.array()?);
        parts.push(Bytes::copy_from_slice(reader.take(length as usize)?));
    }
    if parts.is_empty() {
        return Err(Error::corrupt("decision: no certificate"));
    }
    let certificate = parts.remove(0);
    Ok((envelope, certificate, parts))
}

/// In table `Meta`, where blocks are seen before they are final.
pub const TIPS: &[u8] = b"tips";

/// The heights that have names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tips {
    pub latest: u64,
    /// From the last final one to the latest.
    pub safe: u64,
    /// Final.
    pub last: u64,
    /// Whether the three may differ.
    pub is_open: bool,
}

pub fn encode_tips(last: u64, safe: u64) -> Bytes {
    [last.to_be_bytes(), safe.to_be_bytes()].concat().into()
}

/// None for a store without genesis.
pub fn tips(snapshot: &Snapshot) -> Result<Option<Tips>> {
    let Some(latest) = latest_height(snapshot)? else { return Ok(None) };
    let Some(record) = snapshot.get(Table::Meta, TIPS)? else {
        return Ok(Some(Tips { latest, safe: latest, last: latest, is_open: false }));
    };
    let mut reader = Reader::new(&record);
    let (last, safe) = (u64::from_be_bytes(*reader.array()?), u64::from_be_bytes(*reader.array()?));
    if last > latest {
        return Err(Error::corrupt(format!("tips: height {last} is final, expected at most the latest, {latest}")));
    }
    Ok(Some(Tips { latest, safe: safe.clamp(last, latest), last, is_open: true }))
}

/// The last height; None for a store without genesis.
pub fn latest_height(snapshot: &Snapshot) -> Result<Option<u64>> {
    let Some(key) = snapshot.last_key(Table::Blocks)? else { return Ok(None) };
    let height = key.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
    required(height, || "the height of the last block".to_owned()).map(Some)
}

pub fn head(snapshot: &Snapshot, height: u64) -> Result<Option<Head>> {
    let record = snapshot.get(Table::Blocks, &key(height, HEAD))?;
    record.map(|record| decode_head(height, &record)).transpose()
}

pub fn stored_hash(snapshot: &Snapshot, height: u64) -> Result<Option<B256>> {
    let record = snapshot.get(Table::Blocks, &key(height, HEAD))?;
    record.map(|record| Reader::new(&record).hash()).transpose()
}

pub fn decision(snapshot: &Snapshot, height: u64) -> Result<Option<Decision>> {
    let record = snapshot.get(Table::Blocks, &key(height, DECISION))?;
    record.map(|record| decode_decision(&record)).transpose()
}

/// The opaque part of `kind` (`BODY` or `RECEIPTS`).
pub fn part(snapshot: &Snapshot, height: u64, kind: u8) -> Result<Bytes> {
    let record = snapshot.get(Table::Blocks, &key(height, kind))?;
    Ok(required(record, || format!("height {height}: part {kind} of the block"))?.into_bytes())
}

/// What an imported block holds beside its transactions; what follows from the rules of our own chains is not stored.
pub fn extra(snapshot: &Snapshot, height: u64) -> Result<Option<Extra>> {
    let record = snapshot.get(Table::Blocks, &key(height, EXTRA))?;
    record.map(|record| Extra::decode(&record)).transpose()
}

pub fn index_value(height: u64, index: Option<u32>) -> Bytes {
    let index = index.unwrap_or(THE_BLOCK);
    [height.to_be_bytes().as_slice(), &index.to_be_bytes()].concat().into()
}

/// The height of an index entry.
pub fn indexed_height(value: &[u8]) -> Result<u64> {
    Ok(u64::from_be_bytes(*Reader::new(value).array()?))
}

/// Whether an index entry is that of a block, not of a transaction.
pub fn names_block(value: &[u8]) -> Result<bool> {
    let mut reader = Reader::new(value);
    reader.array::<8>()?;
    Ok(u32::from_be_bytes(*reader.array()?) == THE_BLOCK)
}

fn find(snapshot: &Snapshot, hash: &B256) -> Result<Option<(u64, u32)>> {
    let Some(value) = snapshot.get(Table::Index, hash.as_slice())? else { return Ok(None) };
    let mut reader = Reader::new(&value);
    Ok(Some((u64::from_be_bytes(*reader.array()?), u32::from_be_bytes(*reader.array()?))))
}

/// Height and index of a transaction.
pub fn locate(snapshot: &Snapshot, transaction: &B256) -> Result<Option<(u64, u32)>> {
    Ok(find(snapshot, transaction)?.filter(|(_, index)| *index != THE_BLOCK))
}

/// The height of a block.
pub fn height_of(snapshot: &Snapshot, block: &B256) -> Result<Option<u64>> {
    Ok(find(snapshot, block)?.filter(|(_, index)| *index == THE_BLOCK).map(|(height, _)| height))
}

/// The height of a final block.
pub fn final_height_of(snapshot: &Snapshot, block: &B256) -> Result<Option<u64>> {
    let Some(height) = height_of(snapshot, block)? else { return Ok(None) };
    Ok(tips(snapshot)?.filter(|tips| height <= tips.last).map(|_| height))
}
