//! What `View` answers beyond state: blocks, transactions, receipts, logs, fees, calls.

use crate::call;
use crate::codec::{decode_body, decode_receipts};
use crate::errors::{Error, Result};
use crate::evm::next_base_fee;
use crate::genesis::Gas;
use crate::import::encode_block;
use crate::json::{
    Place, block_logs, block_value, header_value, included_transaction, log_value, receipts_value, to_bytes,
};
use crate::ledger::{address_argument, detached, hash_argument};
use crate::types::Stored;
use crate::view::{At, Moment, View};
use alloy_consensus::Header;
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bloom, BloomInput, Bytes, U64, U256};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde_json::{Value, json};

/// The most blocks that one fee history covers (geth).
const MAX_FEE_BLOCKS: u64 = 1_024;
const MAX_PERCENTILES: usize = 100;
/// geth's gas price oracle: blocks looked at, cheapest transactions of each, percentile, default and cap in wei.
const TIP_BLOCKS: u64 = 20;
const TIP_SAMPLES: usize = 3;
const TIP_PERCENTILE: usize = 60;
const TIP_DEFAULT: u128 = 1_000_000_000;
const TIP_CAP: u128 = 500_000_000_000;

impl Moment<'_> {
    pub fn stored_at(&self, at: At) -> Result<Option<Stored>> {
        match self.height_at(at)? {
            Some(height) => self.stored(height),
            None => Ok(None),
        }
    }

    pub fn header_at(&self, at: At) -> Result<Option<(Header, B256)>> {
        match self.height_at(at)? {
            Some(height) => Ok(self.header(height)?.map(|(header, hash, _)| (header, hash))),
            None => Ok(None),
        }
    }

    pub fn required_header(&self, at: At) -> Result<Header> {
        let missing = || Error::unavailable("header not found");
        Ok(self.header_at(at)?.ok_or_else(missing)?.0)
    }

    /// The block that holds a transaction, and its index there.
    pub fn stored_of(&self, transaction: &B256) -> Result<Option<(Stored, usize)>> {
        let Some((height, index)) = self.locate(transaction)? else { return Ok(None) };
        Ok(self.stored(height)?.map(|stored| (stored, index as usize)))
    }

    fn transaction_json(&self, stored: &Stored, index: usize) -> Result<Option<Vec<u8>>> {
        let body = decode_body(&stored.body)?;
        let Some((sender, raw)) = body.get(index) else { return Ok(None) };
        let place = Place { header: &stored.header, block_hash: stored.hash, index };
        Ok(Some(to_bytes(&included_transaction(*sender, raw, place)?)?))
    }

    fn logs_json(&self, first: u64, last: u64, filter: &LogFilter, limit: usize) -> Result<Vec<u8>> {
        let mut found: Vec<Value> = Vec::new();
        // Of genesis there are no logs; what follows it must be whole.
        self.expect_block(first.max(1).min(last))?;
        for height in first..=last.min(self.head()?) {
            let Some((header, ..)) = self.header(height)? else { break };
            if !filter.may_match(&header.logs_bloom) || (first < last && self.is_reverted(height)?) {
                continue;
            }
            let Some(stored) = self.stored(height)? else { break };
            for (index, transaction, position, log) in block_logs(&stored)? {
                if !filter.matches(&log) {
                    continue;
                }
                if found.len() >= limit {
                    return Err(Error::rejected(format!("query returned more than {limit} results")));
                }
                let place = Place { header: &stored.header, block_hash: stored.hash, index };
                found.push(log_value(&log, place, transaction, position));
            }
        }
        to_bytes(&found)
    }

    fn fee_history(&self, count: u64, newest: u64, percentiles: &[f64]) -> Result<Vec<u8>> {
        if percentiles.len() > MAX_PERCENTILES {
            return Err(Error::invalid(format!(
                "{} percentiles, expected at most {MAX_PERCENTILES}",
                percentiles.len()
            )));
        }
        let ordered = percentiles.windows(2).all(|pair| pair[0] <= pair[1]);
        if !ordered || percentiles.iter().any(|p| !(0.0..=100.0).contains(p)) {
            return Err(Error::invalid("invalid reward percentile: expected ascending numbers from 0 to 100"));
        }
        if newest > self.head()? {
            return Err(Error::rejected(format!(
                "request beyond head block: requested {newest}, head {}",
                self.head()?
            )));
        }
        let count = count.min(MAX_FEE_BLOCKS).min(newest + 1);
        let oldest = newest + 1 - count;
        let (mut base_fees, mut ratios, mut rewards) = (Vec::new(), Vec::new(), Vec::new());
        let mut next = 0;
        for height in oldest..=newest {
            let header = self.required_header(At::Height(height))?;
            base_fees.push(U64::from(header.base_fee_per_gas.unwrap_or_default()));
            ratios.push(header.gas_used as f64 / header.gas_limit as f64);
            if !percentiles.is_empty() {
                rewards.push(self.block_rewards(&header, percentiles)?);
            }
            next = next_base_fee(self.spec(), &header);
        }
        if count == 0 {
            return to_bytes(&json!({"oldestBlock": "0x0", "gasUsedRatio": null}));
        }
        base_fees.push(U64::from(next));
        let mut value = json!({
            "oldestBlock": U64::from(oldest),
            "baseFeePerGas": base_fees,
            "gasUsedRatio": ratios,
            "baseFeePerBlobGas": vec![U64::from(1); count as usize + 1],
            "blobGasUsedRatio": vec![0; count as usize],
        });
        if !percentiles.is_empty() {
            value["reward"] = json!(rewards);
        }
        to_bytes(&value)
    }

    /// Effective tips at percentiles of the gas that the block used.
    fn block_rewards(&self, header: &Header, percentiles: &[f64]) -> Result<Vec<U256>> {
        let mut tips: Vec<(u128, u64)> = self.priority_fees(header)?;
        tips.sort_unstable();
        let mut rewards = Vec::with_capacity(percentiles.len());
        let (mut index, mut sum) = (0, tips.first().map_or(0, |(_, gas)| *gas));
        for percentile in percentiles {
            let threshold = (header.gas_used as f64 * percentile / 100.0) as u64;
            while sum < threshold && index + 1 < tips.len() {
                index += 1;
                sum += tips[index].1;
            }
            rewards.push(U256::from(tips.get(index).map_or(0, |(tip, _)| *tip)));
        }
        Ok(rewards)
    }

    /// (effective tip, gas used) of each transaction of a block.
    fn priority_fees(&self, header: &Header) -> Result<Vec<(u128, u64)>> {
        if header.gas_used == 0 {
            return Ok(Vec::new());
        }
        let base_fee = u128::from(header.base_fee_per_gas.unwrap_or_default());
        let Some(stored) = self.stored(header.number)? else { return Ok(Vec::new()) };
        let receipts = decode_receipts(&stored.receipts)?;
        Ok(receipts.iter().map(|r| (r.effective_gas_price.saturating_sub(base_fee), r.gas_used)).collect())
    }

    pub fn suggest_tip(&self) -> Result<u128> {
        if self.spec().gas == Gas::Free {
            return Ok(0);
        }
        let head = self.head()?;
        let mut samples: Vec<u128> = Vec::new();
        let first = head.saturating_sub(TIP_BLOCKS - 1).max(self.history()?.blocks);
        for height in first..=head {
            let Some((header, ..)) = self.header(height)? else { continue };
            let mut tips: Vec<u128> = self.priority_fees(&header)?.into_iter().map(|(tip, _)| tip).collect();
            tips.sort_unstable();
            samples.extend(tips.iter().take(TIP_SAMPLES));
        }
        if samples.is_empty() {
            return Ok(TIP_DEFAULT);
        }
        samples.sort_unstable();
        Ok(samples[(samples.len() - 1) * TIP_PERCENTILE / 100].min(TIP_CAP))
    }
}

/// Addresses and topics as eth_getLogs names them, with their blooms.
struct LogFilter {
    addresses: Vec<Address>,
    topics: Vec<Option<Vec<B256>>>,
    blooms: Vec<Vec<Bloom>>,
}

impl LogFilter {
    fn new(addresses: Vec<Address>, topics: Vec<Option<Vec<B256>>>) -> LogFilter {
        let bloom = |bytes: &[u8]| Bloom::from(BloomInput::Raw(bytes));
        let mut blooms: Vec<Vec<Bloom>> = Vec::new();
        if !addresses.is_empty() {
            blooms.push(addresses.iter().map(|address| bloom(address.as_slice())).collect());
        }
        let named = topics.iter().flatten().filter(|choices| !choices.is_empty());
        blooms.extend(named.map(|choices| choices.iter().map(|topic| bloom(topic.as_slice())).collect::<Vec<_>>()));
        LogFilter { addresses, topics, blooms }
    }

    fn may_match(&self, block: &Bloom) -> bool {
        self.blooms.iter().all(|choices| choices.iter().any(|bloom| block.contains(bloom)))
    }

    fn matches(&self, log: &alloy_primitives::Log) -> bool {
        let found = log.topics();
        (self.addresses.is_empty() || self.addresses.contains(&log.address))
            && self.topics.len() <= found.len()
            && self.topics.iter().zip(found).all(|(wanted, topic)| {
                wanted.as_ref().is_none_or(|choices| choices.is_empty() || choices.contains(topic))
            })
    }
}

pub type Answer<'py> = PyResult<Option<Bound<'py, PyBytes>>>;

pub fn answer<'py>(py: Python<'py>, work: impl FnOnce() -> Result<Option<Vec<u8>>> + Send) -> Answer<'py> {
    Ok(detached(py, work)?.map(|bytes| PyBytes::new(py, &bytes)))
}

#[pymethods]
impl View {
    fn base_fee(&self, py: Python<'_>, at: At) -> PyResult<u64> {
        let past = self.past()?;
        detached(py, || Ok(past.now()?.required_header(at)?.base_fee_per_gas.unwrap_or_default()))
    }

    /// The base fee of the block after the last one.
    fn next_base_fee(&self, py: Python<'_>) -> PyResult<u64> {
        let past = self.past()?;
        detached(py, || {
            let past = past.now()?;
            Ok(next_base_fee(past.spec(), &past.required_header(At::Height(past.head()?))?))
        })
    }

    /// What a unit of blob gas costs in the block after the last one.
    fn next_blob_base_fee(&self, py: Python<'_>) -> PyResult<u128> {
        let past = self.past()?;
        detached(py, || {
            let past = past.now()?;
            let header = past.required_header(At::Height(past.head()?))?;
            let (schedule, time) = (&past.spec().schedule, header.timestamp);
            Ok(schedule.blobs_at(time).calc_blob_fee(schedule.next_excess_blob_gas(time, &header)))
        })
    }

    /// eth_config (EIP-7910).
    fn config_json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let past = self.past()?;
        let genesis = B256::from_slice(self.genesis_hash(py).as_bytes());
        let config = detached(py, || {
            let past = past.now()?;
            let now = past.required_header(At::Height(past.head()?))?.timestamp;
            to_bytes(&past.spec().schedule.describe(past.spec().chain_id, genesis, now))
        })?;
        Ok(PyBytes::new(py, &config))
    }

    fn block_json<'py>(&self, py: Python<'py>, at: At, full: bool) -> Answer<'py> {
        let past = self.past()?;
        answer(py, || past.now()?.stored_at(at)?.map(|stored| to_bytes(&block_value(&stored, full)?)).transpose())
    }

    fn header_json<'py>(&self, py: Python<'py>, at: At) -> Answer<'py> {
        let past = self.past()?;
        answer(py, || {
            past.now()?.header_at(at)?.map(|(header, hash)| to_bytes(&header_value(&header, hash)?)).transpose()
        })
    }

    /// The RLP of a block.
    fn block_raw<'py>(&self, py: Python<'py>, at: At) -> Answer<'py> {
        let past = self.past()?;
        answer(py, || {
            let Some(stored) = past.now()?.stored_at(at)? else { return Ok(None) };
            let raws: Vec<Bytes> = decode_body(&stored.body)?.into_iter().map(|(_, raw)| raw).collect();
            Ok(Some(encode_block(&stored.header, &raws, &stored.extra)))
        })
    }

    /// The RLP of a header.
    fn header_raw<'py>(&self, py: Python<'py>, at: At) -> Answer<'py> {
        let past = self.past()?;
        answer(py, || Ok(past.now()?.header_at(at)?.map(|(header, _)| alloy_rlp::encode(header))))
    }

    /// The EIP-2718 bytes of each receipt of a block.
    fn receipts_raw<'py>(&self, py: Python<'py>, at: At) -> PyResult<Option<Vec<Bound<'py, PyBytes>>>> {
        let past = self.past()?;
        let found = detached(py, || {
            let Some(stored) = past.now()?.stored_at(at)? else { return Ok(None) };
            let receipts = decode_receipts(&stored.receipts)?;
            Ok(Some(receipts.iter().map(|one| one.receipt.encoded_2718()).collect::<Vec<_>>()))
        })?;
        Ok(found.map(|receipts| receipts.iter().map(|one| PyBytes::new(py, one)).collect()))
    }

    fn block_transaction_count(&self, py: Python<'_>, at: At) -> PyResult<Option<usize>> {
        let past = self.past()?;
        detached(py, || past.now()?.stored_at(at)?.map(|stored| Ok(decode_body(&stored.body)?.len())).transpose())
    }

    fn block_receipts_json<'py>(&self, py: Python<'py>, at: At) -> Answer<'py> {
        let past = self.past()?;
        answer(py, || {
            let stored = past.now()?.stored_at(at)?;
            stored.map(|stored| to_bytes(&receipts_value(past.spec(), &stored, None)?)).transpose()
        })
    }

    fn transaction_json<'py>(&self, py: Python<'py>, hash: &[u8]) -> Answer<'py> {
        let (past, hash) = (self.past()?, hash_argument("hash", hash)?);
        answer(py, || {
            let now = past.now()?;
            match now.stored_of(&hash)? {
                Some((stored, index)) => now.transaction_json(&stored, index),
                None => Ok(None),
            }
        })
    }

    fn transaction_at_json<'py>(&self, py: Python<'py>, at: At, index: usize) -> Answer<'py> {
        let past = self.past()?;
        answer(py, || {
            let now = past.now()?;
            match now.stored_at(at)? {
                Some(stored) => now.transaction_json(&stored, index),
                None => Ok(None),
            }
        })
    }

    fn transaction_raw<'py>(&self, py: Python<'py>, hash: &[u8]) -> Answer<'py> {
        let (past, hash) = (self.past()?, hash_argument("hash", hash)?);
        answer(py, || {
            let Some((stored, index)) = past.now()?.stored_of(&hash)? else { return Ok(None) };
            Ok(decode_body(&stored.body)?.get(index).map(|(_, raw)| raw.to_vec()))
        })
    }

    fn receipt_json<'py>(&self, py: Python<'py>, hash: &[u8]) -> Answer<'py> {
        let (past, hash) = (self.past()?, hash_argument("hash", hash)?);
        answer(py, || {
            let Some((stored, index)) = past.now()?.stored_of(&hash)? else { return Ok(None) };
            receipts_value(past.spec(), &stored, Some(index))?.first().map(to_bytes).transpose()
        })
    }

    /// Logs of blocks in [first, last]; raises Rejected when more than `limit` match. With `tip`, the hash that the block at
    /// `last` is to have: None where it is another one by now.
    #[pyo3(signature = (first, last, addresses, topics, limit, tip = None))]
    #[allow(clippy::too_many_arguments)]
    fn logs_json<'py>(
        &self,
        py: Python<'py>,
        first: u64,
        last: u64,
        addresses: Vec<Vec<u8>>,
        topics: Vec<Option<Vec<Vec<u8>>>>,
        limit: usize,
        tip: Option<&[u8]>,
    ) -> Answer<'py> {
        let past = self.past()?;
        let tip = tip.map(|tip| hash_argument("tip", tip)).transpose()?;
        let addresses = addresses.iter().map(|a| address_argument("address", a)).collect::<Result<Vec<_>>>()?;
        let topics = topics
            .iter()
            .map(|position| {
                let choices = position.as_ref();
                choices.map(|choices| choices.iter().map(|t| hash_argument("topic", t)).collect()).transpose()
            })
            .collect::<Result<Vec<Option<Vec<B256>>>>>()?;
        let filter = LogFilter::new(addresses, topics);
        answer(py, || {
            let now = past.now()?;
            if tip.is_some() && now.block_hash(last)? != tip {
                return Ok(None);
            }
            now.logs_json(first, last, &filter, limit).map(Some)
        })
    }

    /// (address, topics, JSON of the log) in order, for subscriptions.
    #[allow(clippy::type_complexity)]
    fn block_logs<'py>(
        &self,
        py: Python<'py>,
        at: At,
    ) -> PyResult<Vec<(Bound<'py, PyBytes>, Vec<Bound<'py, PyBytes>>, Bound<'py, PyBytes>)>> {
        let past = self.past()?;
        let found = detached(py, || {
            let missing = || Error::unavailable(format!("block {at:?}: not stored"));
            let stored = past.now()?.stored_at(at)?.ok_or_else(missing)?;
            let mut found = Vec::new();
            for (index, transaction, position, log) in block_logs(&stored)? {
                let place = Place { header: &stored.header, block_hash: stored.hash, index };
                let json = to_bytes(&log_value(&log, place, transaction, position))?;
                found.push((log, json));
            }
            Ok(found)
        })?;
        let bytes = |slice: &[u8]| PyBytes::new(py, slice);
        let one = |(log, json): &(alloy_primitives::Log, Vec<u8>)| {
            let topics = log.topics().iter().map(|topic| bytes(topic.as_slice())).collect();
            (bytes(log.address.as_slice()), topics, bytes(json))
        };
        Ok(found.iter().map(one).collect())
    }

    /// eth_call; `request` and `overrides` are the JSON of the parameters. Raises Reverted, Rejected, Invalid.
    #[pyo3(signature = (at, request, overrides, gas_cap))]
    fn call<'py>(
        &self,
        py: Python<'py>,
        at: At,
        request: &[u8],
        overrides: Option<&[u8]>,
        gas_cap: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let past = self.past()?;
        let output = detached(py, || {
            let now = past.now()?;
            let (header, state) = (now.required_header(at)?, now.into_state(at)?);
            call::call(past.spec(), &state, &header, request, overrides, gas_cap)
        })?;
        Ok(PyBytes::new(py, &output))
    }

    #[pyo3(signature = (at, request, overrides, gas_cap))]
    fn estimate_gas(
        &self,
        py: Python<'_>,
        at: At,
        request: &[u8],
        overrides: Option<&[u8]>,
        gas_cap: u64,
    ) -> PyResult<u64> {
        let past = self.past()?;
        detached(py, || {
            let now = past.now()?;
            let (header, state) = (now.required_header(at)?, now.into_state(at)?);
            call::estimate_gas(past.spec(), &state, &header, request, overrides, gas_cap)
        })
    }

    fn fee_history_json<'py>(
        &self,
        py: Python<'py>,
        count: u64,
        newest: u64,
        percentiles: Vec<f64>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let past = self.past()?;
        let history = detached(py, || past.now()?.fee_history(count, newest, &percentiles))?;
        Ok(PyBytes::new(py, &history))
    }

    fn suggest_tip(&self, py: Python<'_>) -> PyResult<u128> {
        let past = self.past()?;
        detached(py, || past.now()?.suggest_tip())
    }
}
