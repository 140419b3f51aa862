//! The shapes of JSON-RPC results: transactions, receipts, logs, headers, blocks, as geth gives them today.

use crate::codec::{StoredReceipt, decode_body, decode_receipts};
use crate::errors::{Error, Result};
use crate::genesis::ChainSpec;
use crate::import::Extra;
use crate::transaction::decode_any;
use crate::types::Stored;
use alloy_consensus::transaction::Recovered;
use alloy_consensus::{Eip658Value, Header, Transaction as _, TxReceipt};
use alloy_eips::eip4844::DATA_GAS_PER_BLOB;
use alloy_eips::eip7840::BlobParams;
use alloy_primitives::{Address, B256, Bytes, Log, U64, U256, keccak256};
use alloy_rlp::Encodable;
use alloy_rpc_types_eth::{Header as RpcHeader, Transaction as RpcTransaction, TransactionInfo};
use serde::Serialize;
use serde_json::{Value, json};

pub fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::corrupt(format!("json: {e}")))
}

pub fn to_value(value: impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::corrupt(format!("json: {e}")))
}

/// Where a transaction stands in its block.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub header: &'a Header,
    pub block_hash: B256,
    pub index: usize,
}

/// A transaction of a block.
pub fn included_transaction(sender: Address, raw: &Bytes, place: Place<'_>) -> Result<Value> {
    let hash = keccak256(raw);
    let envelope = decode_any(raw).map_err(|reason| Error::corrupt(format!("transaction {hash}: {reason}")))?;
    let info = TransactionInfo {
        hash: Some(hash),
        index: Some(place.index as u64),
        block_hash: Some(place.block_hash),
        block_number: Some(place.header.number),
        base_fee: place.header.base_fee_per_gas,
        block_timestamp: None,
    };
    let mut value = to_value(RpcTransaction::from_transaction(Recovered::new_unchecked(envelope, sender), info))?;
    if let Value::Object(fields) = &mut value {
        fields.insert("blockTimestamp".into(), json!(U64::from(place.header.timestamp)));
    }
    Ok(value)
}

pub fn header_value(header: &Header, hash: B256) -> Result<Value> {
    to_value(RpcHeader { hash, inner: header.clone(), total_difficulty: None, size: None })
}

/// A block with hashes or full transactions.
pub fn block_value(stored: &Stored, full: bool) -> Result<Value> {
    let body = decode_body(&stored.body)?;
    let mut value = header_value(&stored.header, stored.hash)?;
    let transactions: Vec<Value> = if full {
        let place = |index| Place { header: &stored.header, block_hash: stored.hash, index };
        let each = body.iter().enumerate();
        each.map(|(index, (sender, raw))| included_transaction(*sender, raw, place(index))).collect::<Result<_>>()?
    } else {
        body.iter().map(|(_, raw)| json!(keccak256(raw))).collect()
    };
    let Extra { ommers, withdrawals } = &stored.extra;
    if let Value::Object(fields) = &mut value {
        fields.insert("size".into(), json!(U64::from(block_size(&stored.header, &body, &stored.extra))));
        fields.insert("transactions".into(), Value::Array(transactions));
        let ommers: Vec<B256> = ommers.iter().map(|ommer| ommer.hash_slow()).collect();
        fields.insert("uncles".into(), json!(ommers));
        if stored.header.withdrawals_root.is_some() {
            fields.insert("withdrawals".into(), to_value(withdrawals)?);
        }
    }
    Ok(value)
}

/// Length of the block's RLP.
fn block_size(header: &Header, body: &[(Address, Bytes)], extra: &Extra) -> u64 {
    let one =
        |raw: &Bytes| if raw.first().is_some_and(|byte| *byte >= 0xc0) { raw.len() } else { raw.as_ref().length() };
    let list = |payload_length: usize| alloy_rlp::Header { list: true, payload_length }.length_with_payload();
    let transactions = list(body.iter().map(|(_, raw)| one(raw)).sum());
    let withdrawals = if header.withdrawals_root.is_some() { extra.withdrawals.length() } else { 0 };
    list(header.length() + transactions + extra.ommers.length() + withdrawals) as u64
}

/// A log with its place; `index` counts within the block.
pub fn log_value(log: &Log, place: Place<'_>, transaction: B256, index: u64) -> Value {
    json!({
        "address": log.address,
        "topics": log.topics(),
        "data": log.data.data,
        "blockNumber": U64::from(place.header.number),
        "transactionHash": transaction,
        "transactionIndex": U64::from(place.index as u64),
        "blockHash": place.block_hash,
        "blockTimestamp": U64::from(place.header.timestamp),
        "logIndex": U64::from(index),
        "removed": false,
    })
}

/// The receipt of the transaction at `place`; `first_log` is the block's number of logs before it.
pub fn receipt_value(
    sender: Address,
    raw: &Bytes,
    stored: &StoredReceipt,
    place: Place<'_>,
    first_log: u64,
    blobs: &BlobParams,
) -> Result<Value> {
    let hash = keccak256(raw);
    let envelope = decode_any(raw).map_err(|reason| Error::corrupt(format!("transaction {hash}: {reason}")))?;
    let logs = stored.receipt.logs().iter().zip(first_log..);
    let logs: Vec<Value> = logs.map(|(log, index)| log_value(log, place, hash, index)).collect();
    let mut value = json!({
        "blockHash": place.block_hash,
        "blockNumber": U64::from(place.header.number),
        "contractAddress": stored.created,
        "cumulativeGasUsed": U64::from(stored.receipt.cumulative_gas_used()),
        "effectiveGasPrice": U256::from(stored.effective_gas_price),
        "from": sender,
        "gasUsed": U64::from(stored.gas_used),
        "logs": logs,
        "logsBloom": stored.receipt.logs_bloom(),
        "to": envelope.to(),
        "transactionHash": hash,
        "transactionIndex": U64::from(place.index as u64),
        "type": U64::from(envelope.tx_type() as u64),
    });
    match stored.receipt.status_or_post_state() {
        Eip658Value::Eip658(success) => value["status"] = json!(U64::from(u64::from(success))),
        Eip658Value::PostState(root) => value["root"] = json!(root),
    }
    if let Some(hashes) = envelope.blob_versioned_hashes() {
        let excess = place.header.excess_blob_gas.unwrap_or_default();
        value["blobGasUsed"] = json!(U64::from(hashes.len() as u64 * DATA_GAS_PER_BLOB));
        value["blobGasPrice"] = json!(U256::from(blobs.calc_blob_fee(excess)));
    }
    Ok(value)
}

/// All receipts of a block, or the one at an index.
pub fn receipts_value(spec: &ChainSpec, stored: &Stored, only: Option<usize>) -> Result<Vec<Value>> {
    let body = decode_body(&stored.body)?;
    let receipts = decode_receipts(&stored.receipts)?;
    if body.len() != receipts.len() {
        return Err(Error::corrupt(format!(
            "block {}: {} receipts, expected {}",
            stored.header.number,
            receipts.len(),
            body.len()
        )));
    }
    let blobs = spec.schedule.blobs_at(stored.header.timestamp);
    let mut values = Vec::new();
    let mut first_log = 0;
    for (index, ((sender, raw), receipt)) in body.iter().zip(&receipts).enumerate() {
        if only.is_none_or(|wanted| wanted == index) {
            let place = Place { header: &stored.header, block_hash: stored.hash, index };
            values.push(receipt_value(*sender, raw, receipt, place, first_log, &blobs)?);
        }
        first_log += receipt.receipt.logs().len() as u64;
    }
    Ok(values)
}

/// Every log of a block in order, with what its JSON needs: (place index, transaction hash, index in the block, log).
pub fn block_logs(stored: &Stored) -> Result<Vec<(usize, B256, u64, Log)>> {
    let body = decode_body(&stored.body)?;
    let mut logs = Vec::new();
    let mut count = 0;
    for (index, ((_, raw), receipt)) in body.iter().zip(decode_receipts(&stored.receipts)?).enumerate() {
        if receipt.receipt.logs().is_empty() {
            continue;
        }
        let hash = keccak256(raw);
        for log in receipt.receipt.logs() {
            logs.push((index, hash, count, log.clone()));
            count += 1;
        }
    }
    Ok(logs)
}
