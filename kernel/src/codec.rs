//! How bodies and receipts lie in the store: opaque bytes per height to whoever keeps them.
//!
//! Integers are big-endian. Blooms are not stored: they follow from the logs.
//!
//! ```text
//! body      per transaction: sender (20), length (4), transaction as received (EIP-2718)
//! receipts  per transaction: type (1), status (1), cumulative gas (8), gas (8), price per gas (16), address of the
//!           contract that it created (flag 1, 20), length (4), logs (RLP); with status 2 (imported ones of before
//!           Byzantium) the root of the state after it (32)
//! ```

use crate::errors::{Error, Result};
use crate::types::Included;
use alloy_consensus::{Eip658Value, Receipt, ReceiptEnvelope, ReceiptWithBloom, TxType};
use alloy_primitives::{Address, B256, Bytes, Log, logs_bloom};
use alloy_rlp::Encodable;

const POST_STATE: u8 = 2;
const BODY_HEAD: usize = 20 + 4;
const RECEIPT_HEAD: usize = 1 + 1 + 8 + 8 + 16 + 21 + 4;

/// A receipt, with what JSON-RPC adds to it.
#[derive(Debug, Clone)]
pub struct StoredReceipt {
    pub receipt: ReceiptEnvelope,
    pub gas_used: u64,
    pub effective_gas_price: u128,
    pub created: Option<Address>,
}

/// Senders and raw transactions of a block.
pub fn encode_body(included: &[Included]) -> Vec<u8> {
    let mut out = Vec::with_capacity(included.iter().map(|item| BODY_HEAD + item.raw.len()).sum());
    for item in included {
        out.extend_from_slice(item.sender.as_slice());
        out.extend_from_slice(&(item.raw.len() as u32).to_be_bytes());
        out.extend_from_slice(&item.raw);
    }
    out
}

/// Sender and raw transaction of each; raw ones share the body. Raises Corrupt.
pub fn decode_body(body: &Bytes) -> Result<Vec<(Address, Bytes)>> {
    let mut transactions = Vec::new();
    let mut place = 0;
    while place < body.len() {
        let head = body.get(place..place + BODY_HEAD).ok_or_else(|| too_short("body", body.len()))?;
        let start = place + BODY_HEAD;
        let length = u32::from_be_bytes([head[20], head[21], head[22], head[23]]) as usize;
        place = start + length;
        if place > body.len() {
            return Err(too_short("body", body.len()));
        }
        transactions.push((Address::from_slice(&head[..20]), body.slice(start..place)));
    }
    Ok(transactions)
}

/// Receipts of a block, with what JSON-RPC adds to them.
pub fn encode_receipts(included: &[Included]) -> Vec<u8> {
    let mut out = Vec::with_capacity(included.len() * (RECEIPT_HEAD + 8));
    let mut logs = Vec::new();
    for item in included {
        logs.clear();
        // A list even where it is empty, so that nothing depends on how many there are.
        item.receipt.logs().to_vec().encode(&mut logs);
        out.push(item.receipt.tx_type() as u8);
        let status = item.receipt.as_receipt().map(|receipt| receipt.status);
        out.push(match status {
            Some(Eip658Value::PostState(_)) => POST_STATE,
            _ => u8::from(item.receipt.status()),
        });
        out.extend_from_slice(&item.receipt.cumulative_gas_used().to_be_bytes());
        out.extend_from_slice(&item.gas_used.to_be_bytes());
        out.extend_from_slice(&item.effective_gas_price.to_be_bytes());
        out.push(u8::from(item.created.is_some()));
        out.extend_from_slice(item.created.unwrap_or_default().as_slice());
        out.extend_from_slice(&(logs.len() as u32).to_be_bytes());
        out.extend_from_slice(&logs);
        if let Some(Eip658Value::PostState(root)) = status {
            out.extend_from_slice(root.as_slice());
        }
    }
    out
}

/// The receipts of a block, blooms included. Raises Corrupt.
pub fn decode_receipts(receipts: &[u8]) -> Result<Vec<StoredReceipt>> {
    let mut decoded = Vec::new();
    let mut rest = receipts;
    while !rest.is_empty() {
        let head = take(&mut rest, RECEIPT_HEAD)?;
        let number = |from: usize| u64::from_be_bytes(std::array::from_fn(|i| head[from + i]));
        let effective_gas_price = u128::from_be_bytes(std::array::from_fn(|i| head[18 + i]));
        let created = (head[34] == 1).then(|| Address::from_slice(&head[35..55]));
        let length = u32::from_be_bytes(std::array::from_fn(|i| head[55 + i])) as usize;
        let logs = <Vec<Log> as alloy_rlp::Decodable>::decode(&mut take(&mut rest, length)?)
            .map_err(|e| Error::corrupt(format!("receipts: logs are not RLP: {e}")))?;
        let status = match head[1] {
            POST_STATE => Eip658Value::PostState(B256::from_slice(take(&mut rest, 32)?)),
            status => (status == 1).into(),
        };
        let receipt = Receipt { status, cumulative_gas_used: number(2), logs };
        let receipt = envelope(head[0], receipt)?;
        decoded.push(StoredReceipt { receipt, gas_used: number(10), effective_gas_price, created });
    }
    Ok(decoded)
}

fn envelope(kind: u8, receipt: Receipt) -> Result<ReceiptEnvelope> {
    let logs_bloom = logs_bloom(&receipt.logs);
    let receipt = ReceiptWithBloom { receipt, logs_bloom };
    let kind = TxType::try_from(kind)
        .map_err(|_| Error::corrupt(format!("receipts: transaction type {kind}, expected 0 to 4")))?;
    Ok(match kind {
        TxType::Legacy => ReceiptEnvelope::Legacy(receipt),
        TxType::Eip2930 => ReceiptEnvelope::Eip2930(receipt),
        TxType::Eip1559 => ReceiptEnvelope::Eip1559(receipt),
        TxType::Eip4844 => ReceiptEnvelope::Eip4844(receipt),
        TxType::Eip7702 => ReceiptEnvelope::Eip7702(receipt),
    })
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count).ok_or_else(|| too_short("receipts", rest.len()))?;
    *rest = after;
    Ok(taken)
}

fn too_short(what: &str, length: usize) -> Error {
    Error::corrupt(format!("{what}: {length} bytes end within an entry"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn included(logs: Vec<Log>, created: Option<Address>) -> Included {
        let receipt = Receipt { status: true.into(), cumulative_gas_used: 7, logs };
        let logs_bloom = logs_bloom(&receipt.logs);
        Included {
            hash: B256::ZERO,
            sender: Address::repeat_byte(3),
            raw: Bytes::from_static(b"\x02raw"),
            receipt: ReceiptEnvelope::Eip1559(ReceiptWithBloom { receipt, logs_bloom }),
            gas_used: 21_000,
            effective_gas_price: u128::from(u64::MAX) + 1,
            created,
        }
    }

    #[test]
    fn what_is_stored_comes_back() {
        let log = Log::new_unchecked(Address::repeat_byte(9), vec![B256::repeat_byte(1)], Bytes::from_static(b"data"));
        let block = [included(vec![log.clone(), log], None), included(vec![], Some(Address::repeat_byte(5)))];
        let body = decode_body(&encode_body(&block).into()).unwrap();
        assert_eq!(body, block.iter().map(|item| (item.sender, item.raw.clone())).collect::<Vec<_>>());
        for (found, item) in decode_receipts(&encode_receipts(&block)).unwrap().iter().zip(&block) {
            assert_eq!(found.receipt, item.receipt);
            assert_eq!(found.created, item.created);
            assert_eq!((found.gas_used, found.effective_gas_price), (item.gas_used, item.effective_gas_price));
        }
    }

    #[test]
    fn a_cut_record_is_corrupt() {
        let block = [included(vec![], None)];
        let (body, receipts) = (Bytes::from(encode_body(&block)), encode_receipts(&block));
        assert!(matches!(decode_body(&body.slice(..body.len() - 1)), Err(Error::Corrupt(_))));
        assert!(matches!(decode_receipts(&receipts[..receipts.len() - 1]), Err(Error::Corrupt(_))));
    }
}
