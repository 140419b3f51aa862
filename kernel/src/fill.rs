//! Transactions from fields that are all named: without signature (eth_fillTransaction), and signed by a known key.

use crate::crypto::sign_digest;
use crate::errors::{Error, Result};
use crate::json::{to_bytes, to_value};
use crate::ledger::detached;
use alloy_consensus::transaction::SignableTransaction;
use alloy_consensus::{TxLegacy, TypedTransaction};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Bytes, Signature, TxKind, U256, keccak256};
use alloy_rlp::Encodable;
use alloy_rpc_types_eth::TransactionRequest;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde_json::json;

/// geth leaves all three parts of a missing signature zero, the recovery number of an old transaction too.
fn encode_unsigned(tx: &TxLegacy) -> Vec<u8> {
    let mut fields = Vec::new();
    tx.nonce.encode(&mut fields);
    tx.gas_price.encode(&mut fields);
    tx.gas_limit.encode(&mut fields);
    tx.to.encode(&mut fields);
    tx.value.encode(&mut fields);
    tx.input.encode(&mut fields);
    for _ in 0..3 {
        0u8.encode(&mut fields);
    }
    let mut out = Vec::with_capacity(fields.len() + 9);
    alloy_rlp::Header { list: true, payload_length: fields.len() }.encode(&mut out);
    out.extend_from_slice(&fields);
    out
}

fn parse(request: &[u8]) -> Result<TypedTransaction> {
    let mut request: TransactionRequest = serde_json::from_slice(request)
        .map_err(|e| Error::invalid(format!("transaction: {e}, expected its fields")))?;
    // Without `to`, a contract is made.
    request.to = Some(request.to.unwrap_or(TxKind::Create));
    let missing = |_| Error::invalid("transaction: expected nonce, gas, prices, and an address or code");
    match request.build_typed_tx().map_err(missing)? {
        TypedTransaction::Eip4844(_) => Err(Error::rejected("blobs are not served, expected a transaction without")),
        typed => Ok(typed),
    }
}

fn fill(request: &[u8]) -> Result<Vec<u8>> {
    let typed = parse(request)?;
    let unsigned = match &typed {
        TypedTransaction::Legacy(tx) => Some(encode_unsigned(tx)),
        _ => None,
    };
    let envelope = typed.into_envelope(Signature::new(U256::ZERO, U256::ZERO, false));
    let mut value = to_value(&envelope)?;
    let raw = match unsigned {
        Some(raw) => {
            (value["v"], value["hash"]) = (json!("0x0"), json!(keccak256(&raw)));
            raw
        }
        None => envelope.encoded_2718(),
    };
    to_bytes(&json!({"raw": Bytes::from(raw), "tx": value}))
}

fn sign(request: &[u8], secret: &[u8]) -> Result<Vec<u8>> {
    let typed = parse(request)?;
    let signature = Signature::from_raw_array(&sign_digest(secret, typed.signature_hash().0)?)
        .map_err(|e| Error::invalid(format!("signature: {e}")))?;
    let envelope = typed.into_envelope(signature);
    to_bytes(&json!({"raw": Bytes::from(envelope.encoded_2718()), "tx": to_value(&envelope)?}))
}

/// `{raw, tx}` of a transaction without signature, from the JSON of its fields. Raises Invalid, Rejected.
#[pyfunction]
fn fill_transaction<'py>(py: Python<'py>, request: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &detached(py, || fill(request))?))
}

/// `{raw, tx}` of a transaction that a key signs, from the JSON of its fields, `chainId` among them. Raises Invalid, Rejected.
#[pyfunction]
fn sign_transaction<'py>(py: Python<'py>, request: &[u8], secret: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &detached(py, || sign(request, secret))?))
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(fill_transaction, m)?)?;
    m.add_function(wrap_pyfunction!(sign_transaction, m)?)
}
