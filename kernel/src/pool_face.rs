//! The pool as Python sees it: `Pool`.

use crate::errors::{Error, Result};
use crate::ledger::{Ledger, address_argument, detached, hash_argument};
use crate::payload::encode_body;
use crate::pool::{Settings, Waiters};
use crate::transaction::Transaction;
use alloy_consensus::Transaction as _;
use alloy_consensus::transaction::Recovered;
use alloy_primitives::{B256, Bytes};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde_json::{Map, Value};

/// Transactions that wait. Bounded in number, bytes and slots per account. Thread-safe.
#[pyclass(frozen, module = "quorate._kernel")]
pub struct Pool {
    waiters: Waiters,
}

fn with_hashes<'py, T>(py: Python<'py>, items: Vec<(B256, T)>) -> Vec<(Bound<'py, PyBytes>, T)> {
    items.into_iter().map(|(hash, rest)| (PyBytes::new(py, hash.as_slice()), rest)).collect()
}

#[pymethods]
impl Pool {
    #[new]
    #[pyo3(signature = (
        ledger, *, max_transactions = 20480, max_bytes = 67108864, account_slots = 64, price_bump_percent = 10,
        min_tip = 0, allow_unprotected = false
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        ledger: &Ledger,
        max_transactions: usize,
        max_bytes: usize,
        account_slots: usize,
        price_bump_percent: u64,
        min_tip: u128,
        allow_unprotected: bool,
    ) -> PyResult<Pool> {
        let chain = ledger.chain()?;
        let settings =
            Settings { max_transactions, max_bytes, account_slots, price_bump_percent, min_tip, allow_unprotected };
        Ok(Pool { waiters: detached(py, || Waiters::new(chain, settings))? })
    }

    /// Decode, recover (all cores), check and admit each; return (hash, None or the conventional error), in order.
    fn add<'py>(&self, py: Python<'py>, raws: Vec<Vec<u8>>) -> PyResult<Vec<(Bound<'py, PyBytes>, Option<String>)>> {
        let raws: Vec<Bytes> = raws.into_iter().map(Bytes::from).collect();
        let answers = detached(py, || self.waiters.add(&raws))?;
        Ok(with_hashes(py, answers))
    }

    /// Return a payload body: the best executable transactions over `parent`, nonces in order.
    fn take<'py>(
        &self,
        py: Python<'py>,
        parent: &[u8],
        max_bytes: usize,
        max_gas: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let parent = hash_argument("parent", parent)?;
        let body = detached(py, || {
            let taken = self.waiters.take(&parent, max_bytes, max_gas)?;
            Ok(encode_body(taken.iter().map(|raw| raw.as_ref())))
        })?;
        Ok(PyBytes::new(py, &body))
    }

    /// Follow an executed block; return (hash, reason) of what fell out.
    fn settle<'py>(&self, py: Python<'py>, block: &[u8]) -> PyResult<Vec<(Bound<'py, PyBytes>, String)>> {
        let block = hash_argument("block", block)?;
        let dropped = detached(py, || self.waiters.settle(&block))?;
        Ok(with_hashes(py, dropped))
    }

    /// Follow the latest block and admit again what abandoned ones held; return the hashes of what is back.
    fn readmit<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let hashes = detached(py, || self.waiters.readmit())?;
        Ok(hashes.iter().map(|hash| PyBytes::new(py, hash.as_slice())).collect())
    }

    /// Whether `take` over the last settled block would return at least one transaction.
    fn ready(&self, py: Python<'_>) -> bool {
        py.detach(|| self.waiters.is_ready())
    }

    fn get<'py>(&self, py: Python<'py>, hash: &[u8]) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let hash = hash_argument("hash", hash)?;
        let found = py.detach(|| self.waiters.get(&hash));
        Ok(found.map(|tx| PyBytes::new(py, &tx.raw)))
    }

    /// Up to `limit` executable raw transactions, for a peer that just connected.
    fn raw<'py>(&self, py: Python<'py>, limit: usize) -> Vec<Bound<'py, PyBytes>> {
        py.detach(|| self.waiters.raw(limit)).iter().map(|raw| PyBytes::new(py, raw)).collect()
    }

    /// The next nonce of an account, counting its executable waiting transactions.
    fn nonce(&self, py: Python<'_>, account: &[u8]) -> PyResult<u64> {
        let account = address_argument("account", account)?;
        detached(py, || self.waiters.nonce(&account))
    }

    /// (executable, queued behind a gap, bytes).
    fn counts(&self, py: Python<'_>) -> (usize, usize, usize) {
        py.detach(|| self.waiters.counts())
    }

    /// txpool_content / contentFrom, as JSON.
    fn content_json<'py>(&self, py: Python<'py>, account: Option<&[u8]>) -> PyResult<Bound<'py, PyBytes>> {
        let account = account.map(|account| address_argument("account", account)).transpose()?;
        let json = detached(py, || {
            let mut parts = [Map::new(), Map::new()];
            for (is_executable, tx) in self.waiters.content(account.as_ref()) {
                let part = &mut parts[usize::from(!is_executable)];
                let described = waiting_transaction(&tx)?;
                let nonce = tx.envelope.nonce().to_string();
                let place = match account {
                    Some(_) => part,
                    None => {
                        let of_sender = part.entry(tx.sender.to_checksum(None)).or_insert_with(|| Map::new().into());
                        let Value::Object(of_sender) = of_sender else { continue };
                        of_sender
                    }
                };
                place.insert(nonce, described);
            }
            let [pending, queued] = parts;
            to_bytes(&serde_json::json!({"pending": pending, "queued": queued}))
        })?;
        Ok(PyBytes::new(py, &json))
    }

    fn transaction_json<'py>(&self, py: Python<'py>, hash: &[u8]) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let hash = hash_argument("hash", hash)?;
        let json = detached(py, || self.waiters.get(&hash).map(|tx| to_bytes(&waiting_transaction(&tx)?)).transpose())?;
        Ok(json.map(|json| PyBytes::new(py, &json)))
    }
}

/// A transaction in no block, as `eth_getTransactionByHash` shows it.
fn waiting_transaction(tx: &Transaction) -> Result<Value> {
    let described = alloy_rpc_types_eth::Transaction {
        inner: Recovered::new_unchecked(tx.envelope.clone(), tx.sender),
        block_hash: None,
        block_number: None,
        transaction_index: None,
        effective_gas_price: Some(tx.envelope.max_fee_per_gas()),
        block_timestamp: None,
    };
    let mut value = serde_json::to_value(described).map_err(|e| Error::invalid(format!("JSON: {e}")))?;
    value["blockTimestamp"] = Value::Null;
    Ok(value)
}

fn to_bytes(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::invalid(format!("JSON: {e}")))
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Pool>()
}
