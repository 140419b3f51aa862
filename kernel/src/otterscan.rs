//! What the explorer Otterscan asks for (`ots_`), in the shapes of Erigon.

use crate::codec::{decode_body, decode_receipts};
use crate::errors::{Error, Result};
use crate::evm::{build_context, tx_env};
use crate::import::block_reward;
use crate::json::{Place, block_value, included_transaction, receipts_value, to_bytes};
use crate::ledger::hash_argument;
use crate::queries::{Answer, answer};
use crate::trace::inspect;
use crate::trace_budget::Budget;
use crate::types::Stored;
use crate::view::{At, Moment, View};
use alloy_primitives::{Address, B256, Bytes, U256};
use pyo3::prelude::*;
use revm::Inspector;
use revm::context::result::ExecutionResult;
use revm::context::{ContextTr, JournalTr};
use revm::inspector::JournalExt;
use revm::interpreter::{CallInputs, CallOutcome, CallScheme, CreateInputs, CreateOutcome, CreateScheme};
use serde_json::{Value, json};

/// Wei of a gwei.
const GWEI: u64 = 1_000_000_000;
/// Of an input, before the rest of it is cut off: 0x and four bytes.
const SELECTOR_LENGTH: usize = 10;

/// A call, a creation or a self-destruct.
struct Entry {
    kind: &'static str,
    depth: usize,
    from: Address,
    to: Address,
    /// None where a call cannot move any.
    value: Option<U256>,
    input: Bytes,
    output: Bytes,
    is_precompile: bool,
}

/// Writes down what is called, in order.
#[derive(Default)]
struct Recorder {
    entries: Vec<Entry>,
    /// The entries of frames that still run.
    open: Vec<usize>,
}

impl Recorder {
    #[allow(clippy::too_many_arguments)]
    fn begin(
        &mut self,
        kind: &'static str,
        from: Address,
        to: Address,
        value: Option<U256>,
        input: Bytes,
        is_precompile: bool,
    ) {
        let depth = self.open.len();
        self.open.push(self.entries.len());
        self.entries.push(Entry { kind, depth, from, to, value, input, output: Bytes::new(), is_precompile });
    }

    fn end(&mut self, output: &Bytes) {
        if let Some(entry) = self.open.pop().and_then(|index| self.entries.get_mut(index)) {
            entry.output = output.clone();
        }
    }
}

impl<CTX: ContextTr<Journal: JournalExt>> Inspector<CTX> for Recorder {
    fn call(&mut self, context: &mut CTX, inputs: &mut CallInputs) -> Option<CallOutcome> {
        let value = inputs.value.get();
        let (kind, to, value) = match inputs.scheme {
            CallScheme::Call => ("CALL", inputs.target_address, Some(value)),
            CallScheme::CallCode => ("CALLCODE", inputs.bytecode_address, Some(value)),
            CallScheme::DelegateCall => ("DELEGATECALL", inputs.bytecode_address, None),
            CallScheme::StaticCall => ("STATICCALL", inputs.target_address, None),
        };
        let from = if inputs.scheme == CallScheme::DelegateCall { inputs.target_address } else { inputs.caller };
        let is_precompile = context.journal_ref().precompile_addresses().contains(&inputs.bytecode_address);
        let input = inputs.input.bytes(context);
        self.begin(kind, from, to, value, input, is_precompile);
        None
    }

    fn call_end(&mut self, _: &mut CTX, _: &CallInputs, outcome: &mut CallOutcome) {
        self.end(&outcome.result.output);
    }

    fn create(&mut self, context: &mut CTX, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        let nonce = context.journal_mut().load_account(inputs.caller()).map_or(0, |account| account.data.info.nonce);
        let kind = if matches!(inputs.scheme(), CreateScheme::Create2 { .. }) { "CREATE2" } else { "CREATE" };
        let (to, code) = (inputs.created_address(nonce), inputs.init_code().clone());
        self.begin(kind, inputs.caller(), to, Some(inputs.value()), code, false);
        None
    }

    fn create_end(&mut self, _: &mut CTX, _: &CreateInputs, outcome: &mut CreateOutcome) {
        self.end(&outcome.result.output);
    }

    fn selfdestruct(&mut self, contract: Address, target: Address, value: U256) {
        self.begin("SELFDESTRUCT", contract, target, Some(value), Bytes::new(), false);
        self.end(&Bytes::new());
    }
}

impl Entry {
    fn trace(&self) -> Value {
        let Entry { kind, depth, from, to, value, input, output, .. } = self;
        json!({"type": kind, "depth": depth, "from": from, "to": to, "value": value, "input": input, "output": output})
    }

    /// A movement of ether or a change of contracts below the transaction's own; None for others.
    fn operation(&self) -> Option<Value> {
        let kind = match self.kind {
            "CALL" if self.depth > 0 && self.value.is_some_and(|value| !value.is_zero()) => 0,
            "SELFDESTRUCT" => 1,
            "CREATE" if self.depth > 0 => 2,
            "CREATE2" if self.depth > 0 => 3,
            _ => return None,
        };
        Some(json!({"type": kind, "from": self.from, "to": self.to, "value": self.value}))
    }
}

impl Moment<'_> {
    /// What a transaction calls, and how it ends.
    fn record(self, stored: &Stored, index: usize) -> Result<(Vec<Entry>, ExecutionResult)> {
        let mut found = None;
        self.replay(stored, index, 1, |replay, index, overlay| {
            let context = build_context(&replay.block, overlay, |cfg| cfg.disable_eip3607 = true);
            let tx = tx_env(&replay.transactions[index]);
            let (overlay, recorder, done) = inspect(context, tx, Recorder::default(), &mut Budget::of_calls())?;
            found = Some((recorder.entries, done.result));
            Ok((overlay, done.state))
        })?;
        found.ok_or_else(|| Error::corrupt(format!("block {}: has no transaction {index}", stored.hash)))
    }

    /// What came into being with a block: the miner's reward, and that of the miners of its ommers.
    fn issuance(&self, stored: &Stored) -> (U256, U256) {
        if stored.header.number == 0 {
            return (U256::ZERO, U256::ZERO);
        }
        let fork = self.spec().schedule.fork_of(&stored.header);
        let Some(reward) = block_reward(fork).map(U256::from) else {
            // Of our own blocks of work: one withdrawal, in gwei.
            return (U256::from(self.spec().block_reward_gwei) * U256::from(GWEI), U256::ZERO);
        };
        let ommers = &stored.extra.ommers;
        let own = reward + reward / U256::from(32) * U256::from(ommers.len());
        let theirs = ommers.iter().map(|ommer| {
            let distance = stored.header.number.saturating_sub(ommer.number).min(8);
            reward * U256::from(8 - distance) / U256::from(8)
        });
        (own, theirs.sum())
    }

    fn block_details(&self, stored: &Stored) -> Result<Value> {
        let (reward, ommers) = self.issuance(stored);
        let receipts = decode_receipts(&stored.receipts)?;
        let fees: U256 =
            receipts.iter().map(|one| U256::from(one.effective_gas_price) * U256::from(one.gas_used)).sum();
        let mut block = block_value(stored, false)?;
        if let Value::Object(fields) = &mut block {
            fields.remove("transactions");
            fields.insert("transactionCount".into(), json!(receipts.len()));
            fields.insert("logsBloom".into(), Value::Null);
        }
        Ok(json!({
            "block": block,
            "issuance": {"blockReward": reward, "uncleReward": ommers, "issuance": reward + ommers},
            "totalFees": fees,
        }))
    }

    /// A page of a block's transactions with their receipts; page 0 holds the last ones.
    fn block_transactions(&self, stored: &Stored, page: usize, size: usize) -> Result<Value> {
        let body = decode_body(&stored.body)?;
        let end = body.len().saturating_sub(page.saturating_mul(size));
        let start = end.saturating_sub(size);
        let mut transactions = Vec::with_capacity(end - start);
        for (index, (sender, raw)) in body.iter().enumerate().take(end).skip(start) {
            let place = Place { header: &stored.header, block_hash: stored.hash, index };
            let mut value = included_transaction(*sender, raw, place)?;
            if let Some(Value::String(input)) = value.get_mut("input") {
                input.truncate(SELECTOR_LENGTH);
            }
            transactions.push(value);
        }
        let mut receipts = receipts_value(self.spec(), stored, None)?;
        receipts.truncate(end);
        receipts.drain(..start);
        for receipt in &mut receipts {
            (receipt["logs"], receipt["logsBloom"]) = (Value::Null, Value::Null);
        }
        let mut block = block_value(stored, false)?;
        if let Value::Object(fields) = &mut block {
            fields.insert("transactions".into(), Value::Array(transactions));
            fields.insert("transactionCount".into(), json!(body.len()));
            fields.insert("logsBloom".into(), Value::Null);
        }
        Ok(json!({"fullblock": block, "receipts": receipts}))
    }

    /// Transactions at places, with their receipts. What is not there any more is left out.
    fn transactions_at(&self, places: &[(u64, u32)]) -> Result<Value> {
        let (mut transactions, mut receipts) = (Vec::new(), Vec::new());
        for group in places.chunk_by(|left, right| left.0 == right.0) {
            let Some(stored) = self.stored(group[0].0)? else { continue };
            let (body, all) = (decode_body(&stored.body)?, receipts_value(self.spec(), &stored, None)?);
            for (_, index) in group {
                let index = *index as usize;
                let (Some((sender, raw)), Some(receipt)) = (body.get(index), all.get(index)) else { continue };
                let place = Place { header: &stored.header, block_hash: stored.hash, index };
                transactions.push(included_transaction(*sender, raw, place)?);
                let mut receipt = receipt.clone();
                receipt["timestamp"] = json!(stored.header.timestamp);
                receipts.push(receipt);
            }
        }
        Ok(json!({"txs": transactions, "receipts": receipts}))
    }

    fn transaction_hash(&self, height: u64, index: u32) -> Result<Option<B256>> {
        let Some(stored) = self.stored(height)? else { return Ok(None) };
        Ok(decode_body(&stored.body)?.get(index as usize).map(|(_, raw)| alloy_primitives::keccak256(raw)))
    }
}

#[pymethods]
impl View {
    /// ots_traceTransaction; None for an unknown one.
    fn ots_trace<'py>(&self, py: Python<'py>, hash: &[u8]) -> Answer<'py> {
        let (past, hash) = (self.past()?, hash_argument("hash", hash)?);
        answer(py, || {
            let now = past.now()?;
            let Some((stored, index)) = now.stored_of(&hash)? else { return Ok(None) };
            let (entries, _) = now.record(&stored, index)?;
            let traces = entries.iter().filter(|entry| !entry.is_precompile).map(Entry::trace);
            Ok(Some(to_bytes(&traces.collect::<Vec<_>>())?))
        })
    }

    /// ots_getInternalOperations; None for an unknown transaction.
    fn ots_operations<'py>(&self, py: Python<'py>, hash: &[u8]) -> Answer<'py> {
        let (past, hash) = (self.past()?, hash_argument("hash", hash)?);
        answer(py, || {
            let now = past.now()?;
            let Some((stored, index)) = now.stored_of(&hash)? else { return Ok(None) };
            let (entries, _) = now.record(&stored, index)?;
            Ok(Some(to_bytes(&entries.iter().filter_map(Entry::operation).collect::<Vec<_>>())?))
        })
    }

    /// What a transaction gave back when it reverted; empty where it did not, None for an unknown one.
    fn ots_error<'py>(&self, py: Python<'py>, hash: &[u8]) -> Answer<'py> {
        let (past, hash) = (self.past()?, hash_argument("hash", hash)?);
        answer(py, || {
            let now = past.now()?;
            let Some((stored, index)) = now.stored_of(&hash)? else { return Ok(None) };
            if decode_receipts(&stored.receipts)?.get(index).is_some_and(|one| one.receipt.status()) {
                return Ok(Some(Vec::new()));
            }
            match now.record(&stored, index)?.1 {
                ExecutionResult::Revert { output, .. } => Ok(Some(output.to_vec())),
                _ => Ok(Some(Vec::new())),
            }
        })
    }

    /// ots_getBlockDetails; None for an unknown block.
    fn ots_block_details<'py>(&self, py: Python<'py>, at: At) -> Answer<'py> {
        let past = self.past()?;
        answer(py, || {
            let now = past.now()?;
            now.stored_at(at)?.map(|stored| to_bytes(&now.block_details(&stored)?)).transpose()
        })
    }

    /// ots_getBlockTransactions; None for an unknown block.
    fn ots_block_transactions<'py>(&self, py: Python<'py>, at: At, page: usize, size: usize) -> Answer<'py> {
        let past = self.past()?;
        answer(py, || {
            let now = past.now()?;
            now.stored_at(at)?.map(|stored| to_bytes(&now.block_transactions(&stored, page, size)?)).transpose()
        })
    }

    /// `{txs, receipts}` of the transactions at (height, index).
    fn ots_transactions<'py>(&self, py: Python<'py>, places: Vec<(u64, u32)>) -> Answer<'py> {
        let past = self.past()?;
        answer(py, || Ok(Some(to_bytes(&past.now()?.transactions_at(&places)?)?)))
    }

    /// The hash of the transaction at a place.
    fn transaction_hash_at<'py>(&self, py: Python<'py>, height: u64, index: u32) -> Answer<'py> {
        let past = self.past()?;
        answer(py, || Ok(past.now()?.transaction_hash(height, index)?.map(|hash| hash.to_vec())))
    }
}
