//! eth_simulateV1: calls in made-up blocks over a stored one, as the specification of the execution API has it.
//!
//! Source: the method's specification and its suite in execution-apis; where they are silent, what geth answers. Nothing is
//! signed: transactions carry zeros for a signature, and so do the hashes that the answer names.

use crate::call::{apply_overrides, describe_halt, request_env, reverted};
use crate::errors::{Error, Result};
use crate::evm::{BlockContext, Executor, Overlay, build_context, fatal, next_base_fee, refusal, seal};
use crate::genesis::{ChainSpec, Fork, empty_header};
use crate::import::{Extra, block_reward, collect_requests, encode_block};
use crate::json::{Place, header_value, log_value, to_bytes, to_value};
use crate::ledger::detached;
use crate::precompiles::Precompiles;
use crate::state::StateAt;
use crate::types::Included;
use crate::view::{At, View};
use alloy_consensus::{Header, Receipt, ReceiptEnvelope, ReceiptWithBloom};
use alloy_eips::eip4844::DATA_GAS_PER_BLOB;
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256, Bloom, Bytes, Log, LogData, TxKind, U64, U256, address, b256, keccak256};
use alloy_rlp::Encodable;
use alloy_rpc_types_eth::{TransactionRequest, state::StateOverride};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction};
use revm::context::{ContextTr, JournalTr, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::inspector::JournalExt;
use revm::interpreter::{CallInputs, CallOutcome, CallScheme, CreateInputs, CreateOutcome};
use revm::{Database, InspectEvm, Inspector, MainBuilder};
use serde::Deserialize;
use serde_json::{Value, json};

/// Blocks that one request may make, those that fill gaps included.
const MAX_BLOCKS: u64 = 256;
const MAX_CALLS: usize = 10_000;
/// Between blocks that name no time, in seconds.
const INTERVAL: u64 = 12;
/// Who seems to log a transfer of ether, and what (ERC-7528 and ERC-20).
const ETHER: Address = address!("eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee");
const TRANSFER: B256 = b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");

const TOO_MANY_BLOCKS: i64 = -38026;
const NUMBERS: i64 = -38020;
const TIMES: i64 = -38021;
const BLOCK_GAS: i64 = -38015;
const INVALID: i64 = -32602;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    block_state_calls: Vec<Wanted>,
    #[serde(default)]
    trace_transfers: bool,
    #[serde(default)]
    validation: bool,
    #[serde(default)]
    return_full_transactions: bool,
}

/// A block as the caller describes it.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    block_overrides: Option<Overrides>,
    state_overrides: Option<StateOverride>,
    calls: Option<Vec<TransactionRequest>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Overrides {
    number: Option<U256>,
    difficulty: Option<U256>,
    time: Option<U64>,
    gas_limit: Option<U64>,
    fee_recipient: Option<Address>,
    prev_randao: Option<B256>,
    base_fee_per_gas: Option<U256>,
    blob_base_fee: Option<U256>,
    beacon_root: Option<B256>,
    withdrawals: Option<Vec<Withdrawal>>,
}

/// A block whose place in the chain is settled.
struct Planned {
    number: u64,
    time: u64,
    overrides: Overrides,
    state: StateOverride,
    calls: Vec<TransactionRequest>,
}

/// Settle numbers and times, and fill the gaps between numbers with empty blocks.
fn plan(base: &Header, wanted: Vec<Wanted>) -> Result<Vec<Planned>> {
    let mut planned: Vec<Planned> = Vec::new();
    let (mut number, mut time) = (base.number, base.timestamp);
    for block in wanted {
        let overrides = block.block_overrides.unwrap_or_default();
        let next = overrides.number.map_or(number + 1, |number| number.saturating_to::<u64>());
        if next <= number {
            return Err(Error::coded(NUMBERS, format!("block numbers must be in order: {next} <= {number}")));
        }
        if next - base.number > MAX_BLOCKS {
            return Err(Error::coded(TOO_MANY_BLOCKS, "too many blocks"));
        }
        for gap in number + 1..next {
            time += INTERVAL;
            let (overrides, state, calls) = (Overrides::default(), StateOverride::default(), Vec::new());
            planned.push(Planned { number: gap, time, overrides, state, calls });
        }
        let then = overrides.time.map_or(time + INTERVAL, |time| time.to());
        if then <= time {
            return Err(Error::coded(TIMES, format!("block timestamps must be in order: {then} <= {time}")));
        }
        (number, time) = (next, then);
        let (state, calls) = (block.state_overrides.unwrap_or_default(), block.calls.unwrap_or_default());
        planned.push(Planned { number, time, overrides, state, calls });
    }
    if planned.iter().map(|block| block.calls.len()).sum::<usize>() > MAX_CALLS {
        return Err(Error::coded(INVALID, format!("more than {MAX_CALLS} calls")));
    }
    Ok(planned)
}

/// Logs in the order of execution, with transfers of ether among them where they are asked for.
#[derive(Default)]
struct Recorder {
    transfers: bool,
    /// Logs of the block so far, those that a revert took back among them: each log is numbered when it happens.
    count: u64,
    logs: Vec<(u64, Log)>,
    /// How many logs there were when each frame that still runs began.
    frames: Vec<usize>,
}

impl Recorder {
    fn transfer(&mut self, from: Address, to: Address, wei: U256) {
        if self.transfers && !wei.is_zero() {
            let topics = vec![TRANSFER, from.into_word(), to.into_word()];
            let data = Bytes::from(wei.to_be_bytes::<32>());
            self.record(Log { address: ETHER, data: LogData::new_unchecked(topics, data) });
        }
    }

    fn record(&mut self, log: Log) {
        self.logs.push((self.count, log));
        self.count += 1;
    }

    fn end(&mut self, success: bool) {
        if let Some(before) = self.frames.pop()
            && !success
        {
            self.logs.truncate(before);
        }
    }
}

impl<CTX: ContextTr<Journal: JournalExt>> Inspector<CTX> for Recorder {
    fn log(&mut self, _: &mut CTX, log: Log) {
        self.record(log);
    }

    fn call(&mut self, _: &mut CTX, inputs: &mut CallInputs) -> Option<CallOutcome> {
        self.frames.push(self.logs.len());
        if !matches!(inputs.scheme, CallScheme::DelegateCall)
            && let Some(wei) = inputs.transfer_value()
        {
            self.transfer(inputs.caller, inputs.target_address, wei);
        }
        None
    }

    fn call_end(&mut self, _: &mut CTX, _: &CallInputs, outcome: &mut CallOutcome) {
        self.end(outcome.result.result.is_ok());
    }

    fn create(&mut self, context: &mut CTX, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        self.frames.push(self.logs.len());
        let nonce = context.journal_mut().load_account(inputs.caller()).map_or(0, |account| account.data.info.nonce);
        let created = inputs.created_address(nonce);
        self.transfer(inputs.caller(), created, inputs.value());
        None
    }

    fn create_end(&mut self, _: &mut CTX, _: &CreateInputs, outcome: &mut CreateOutcome) {
        self.end(outcome.result.result.is_ok());
    }

    fn selfdestruct(&mut self, contract: Address, target: Address, value: U256) {
        self.transfer(contract, target, value);
    }
}

/// What one call left.
struct Done {
    included: Included,
    /// With their numbers in the block.
    logs: Vec<(u64, Log)>,
    result: ExecutionResult,
    tx: TxEnv,
}

struct Simulator<'a> {
    spec: &'a ChainSpec,
    state: &'a StateAt,
    request: &'a Request,
    /// Gas that all calls together may still use.
    gas_left: u64,
}

/// What the calls of a block have used so far.
#[derive(Default)]
struct Used {
    gas: u64,
    logs: u64,
}

/// Run the blocks that a request describes over the state after `base`. Raises Rejected, with the method's codes.
fn simulate(
    spec: &ChainSpec,
    state: &StateAt,
    base: &Header,
    base_hash: B256,
    json: &[u8],
    gas_cap: u64,
) -> Result<Vec<u8>> {
    let mut request: Request =
        serde_json::from_slice(json).map_err(|e| Error::coded(INVALID, format!("simulation: {e}")))?;
    let wanted = std::mem::take(&mut request.block_state_calls);
    if wanted.is_empty() {
        return Err(Error::coded(INVALID, "empty input"));
    }
    if wanted.len() as u64 > MAX_BLOCKS {
        return Err(Error::coded(TOO_MANY_BLOCKS, "too many blocks"));
    }
    let mut simulator = Simulator { spec, state, request: &request, gas_left: gas_cap };
    let mut overlay = Overlay::new(state);
    let (mut parent, mut parent_hash) = (base.clone(), base_hash);
    let mut answers = Vec::new();
    for block in plan(base, wanted)? {
        overlay.set_block_hash(parent.number, parent_hash);
        let (after, header, hash, answer) = simulator.run_block(overlay, block, &parent, parent_hash)?;
        (overlay, parent, parent_hash) = (after, header, hash);
        answers.push(answer);
    }
    to_bytes(&answers)
}

impl<'a> Simulator<'a> {
    fn run_block(
        &mut self,
        mut overlay: Overlay<'a>,
        planned: Planned,
        parent: &Header,
        parent_hash: B256,
    ) -> Result<(Overlay<'a>, Header, B256, Value)> {
        let fork = match parent.difficulty.is_zero() {
            true => self.spec.fork_at(planned.time),
            false => self.spec.schedule.fork_before_merge(planned.number),
        };
        let (block, price) = self.make_block(&planned, parent, fork);
        let mut precompiles = Precompiles::new(fork.spec_id());
        precompiles.apply(&planned.state)?;
        apply_overrides(&mut overlay, planned.state.clone())?;
        let beacon_root = planned.overrides.beacon_root.unwrap_or_default();
        let mut executor = Executor::new(block.clone(), overlay);
        executor.apply_system_calls(parent_hash, beacon_root)?;
        (_, overlay) = executor.into_parts();

        let mut done: Vec<Done> = Vec::new();
        let mut used = Used::default();
        for call in planned.calls {
            let (after, one) = self.run_call(overlay, &block, price, &precompiles, call, &mut used)?;
            overlay = after;
            done.push(one);
        }
        let mut included: Vec<Included> = done.iter().map(|one| one.included.clone()).collect();
        let (transactions_root, receipts_root, logs_bloom) = seal(&mut included)?;
        let mut executor = Executor::new(block.clone(), overlay);
        let requests = if fork >= Fork::Prague {
            collect_requests(&mut executor, &self.spec.schedule, &included).unwrap_or_default()
        } else {
            Default::default()
        };
        let withdrawals = planned.overrides.withdrawals.unwrap_or_default();
        if let Some(reward) = block_reward(fork) {
            executor.credit(block.beneficiary, U256::from(reward))?;
        }
        executor.pay(&withdrawals)?;
        (_, overlay) = executor.into_parts();

        let mut header = Header {
            parent_hash,
            beneficiary: block.beneficiary,
            number: block.number,
            gas_limit: block.gas_limit,
            gas_used: used.gas,
            timestamp: block.timestamp,
            mix_hash: block.prevrandao,
            difficulty: block.difficulty,
            base_fee_per_gas: (fork >= Fork::London).then_some(block.base_fee),
            state_root: self.state.apply(&overlay.changes(), parent.number + 1)?.0.hash,
            transactions_root,
            receipts_root,
            logs_bloom,
            ..empty_header(fork)
        };
        header.parent_beacon_block_root = header.parent_beacon_block_root.map(|_| beacon_root);
        let blobs: usize = done.iter().map(|one| one.tx.blob_hashes.len()).sum();
        header.blob_gas_used = header.blob_gas_used.map(|_| blobs as u64 * DATA_GAS_PER_BLOB);
        header.excess_blob_gas = header.excess_blob_gas.map(|_| block.excess_blob_gas);
        header.requests_hash = header.requests_hash.map(|_| requests.requests_hash());
        if !withdrawals.is_empty() {
            header.withdrawals_root = Some(alloy_consensus::proofs::calculate_withdrawals_root(&withdrawals));
        }
        let hash = header.hash_slow();
        let extra = Extra { ommers: Vec::new(), withdrawals };
        let answer = describe(&header, hash, &done, &extra, self.request.return_full_transactions)?;
        Ok((overlay, header, hash, answer))
    }

    fn make_block(&self, planned: &Planned, parent: &Header, fork: Fork) -> (BlockContext, Option<u128>) {
        let Overrides { difficulty, gas_limit, fee_recipient, prev_randao, base_fee_per_gas, blob_base_fee, .. } =
            &planned.overrides;
        let base_fee = match base_fee_per_gas {
            Some(fee) => fee.saturating_to(),
            None if self.request.validation => next_base_fee(self.spec, parent),
            None => 0,
        };
        let block = BlockContext {
            chain_id: self.spec.chain_id,
            fork,
            number: planned.number,
            beneficiary: fee_recipient.unwrap_or(parent.beneficiary),
            timestamp: planned.time,
            gas_limit: gas_limit.map_or(parent.gas_limit, |limit| limit.to()),
            base_fee,
            difficulty: difficulty.unwrap_or(parent.difficulty),
            prevrandao: prev_randao.unwrap_or_default(),
            excess_blob_gas: self.spec.schedule.next_excess_blob_gas(planned.time, parent),
            blobs: self.spec.schedule.blobs_at(planned.time),
        };
        (block, blob_base_fee.map(|price| price.saturating_to()))
    }

    fn run_call(
        &mut self,
        mut overlay: Overlay<'a>,
        block: &BlockContext,
        blob_price: Option<u128>,
        precompiles: &Precompiles,
        call: TransactionRequest,
        used: &mut Used,
    ) -> Result<(Overlay<'a>, Done)> {
        let caller = call.from.unwrap_or_default();
        let nonce = match call.nonce {
            Some(nonce) => nonce,
            None => overlay.basic(caller)?.map_or(0, |info| info.nonce),
        };
        let left = block.gas_limit.saturating_sub(used.gas);
        let wanted = call.gas.unwrap_or(left);
        if wanted > left {
            return Err(Error::coded(
                BLOCK_GAS,
                format!("block gas limit reached: {} >= {}", used.gas.saturating_add(wanted), block.gas_limit),
            ));
        }
        let prices_by_type = call.gas_price.is_some();
        let mut tx = request_env(call, caller, nonce, self.spec.chain_id)?;
        tx.gas_limit = wanted.min(self.gas_left);
        if prices_by_type {
            (tx.tx_type, tx.access_list) = (0, Default::default());
        } else if tx.tx_type < 2 {
            (tx.tx_type, tx.gas_priority_fee) = (2, Some(0));
        }
        let validation = self.request.validation;
        if tx.nonce == u64::MAX {
            // EIP-2681; before prices are looked at.
            return Err(refuse(&InvalidTransaction::NonceOverflowInTransaction, &tx, block.base_fee));
        }
        let mut context = build_context(block, overlay, |cfg| {
            cfg.disable_nonce_check = !validation;
            cfg.disable_base_fee = !validation;
            cfg.disable_eip3607 = !validation;
            cfg.disable_block_gas_limit = true;
            cfg.tx_gas_limit_cap = Some(u64::MAX);
        });
        if let Some(blob_gasprice) = blob_price {
            let excess_blob_gas = block.excess_blob_gas;
            context.block.blob_excess_gas_and_price = Some(BlobExcessGasAndPrice { excess_blob_gas, blob_gasprice });
        }
        let recorder = Recorder { transfers: self.request.trace_transfers, count: used.logs, ..Recorder::default() };
        let mut evm = context.build_mainnet_with_inspector(recorder).with_precompiles(precompiles.clone());
        let result = evm.inspect_one_tx(tx.clone());
        let changes = evm.ctx.journal_mut().finalize();
        let recorder = evm.inspector;
        let mut overlay = evm.ctx.journaled_state.database;
        let result = match result {
            Ok(result) => result,
            Err(EVMError::Transaction(invalid)) => return Err(refuse(&invalid, &tx, block.base_fee)),
            Err(error) => return Err(fatal(error)),
        };
        overlay.commit(changes);
        used.gas += result.tx_gas_used();
        used.logs = recorder.count;
        self.gas_left = self.gas_left.saturating_sub(result.tx_gas_used());
        let included = include(&tx, &result, used.gas, block.base_fee);
        Ok((overlay, Done { included, logs: recorder.logs, result, tx }))
    }
}

/// The specification's code for a call that cannot be in a block, with geth's words.
fn refuse(invalid: &InvalidTransaction, tx: &TxEnv, base_fee: u64) -> Error {
    use InvalidTransaction as E;
    let code = match invalid {
        E::NonceTooLow { .. } => -38010,
        E::NonceTooHigh { .. } => -38011,
        E::GasPriceLessThanBasefee => -38012,
        E::CallGasCostMoreThanGasLimit { .. } | E::GasFloorMoreThanGasLimit { .. } => -38013,
        E::LackOfFundForMaxFee { .. } | E::OverflowPaymentInTransaction => -38014,
        E::RejectCallerWithCode => -38024,
        E::CreateInitCodeSizeLimit => -38025,
        E::PriorityFeeGreaterThanMaxFee => INVALID,
        _ => -32603,
    };
    let words = refusal(invalid, tx, base_fee);
    Error::coded(code, format!("err: {words} (supplied gas {})", tx.gas_limit))
}

// ---- transactions without signatures

/// RLP of an unsigned transaction, zeros in place of the signature.
fn encode(tx: &TxEnv) -> Bytes {
    let mut fields: Vec<u8> = Vec::new();
    let out = &mut fields;
    if tx.tx_type != 0 {
        tx.chain_id.unwrap_or_default().encode(out);
    }
    tx.nonce.encode(out);
    if tx.tx_type >= 2 {
        tx.gas_priority_fee.unwrap_or_default().encode(out);
    }
    tx.gas_price.encode(out);
    tx.gas_limit.encode(out);
    match tx.kind {
        TxKind::Call(to) => to.encode(out),
        TxKind::Create => out.push(alloy_rlp::EMPTY_STRING_CODE),
    }
    tx.value.encode(out);
    tx.data.encode(out);
    if tx.tx_type != 0 {
        tx.access_list.encode(out);
    }
    if tx.tx_type == 3 {
        tx.max_fee_per_blob_gas.encode(out);
        tx.blob_hashes.encode(out);
    }
    if tx.tx_type == 4 {
        let signed: Vec<_> = tx.authorization_list.iter().filter_map(|one| one.as_ref().left().cloned()).collect();
        signed.encode(out);
    }
    for _ in 0..3 {
        0u8.encode(out);
    }
    let mut raw = Vec::new();
    if tx.tx_type != 0 {
        raw.push(tx.tx_type);
    }
    alloy_rlp::Header { list: true, payload_length: fields.len() }.encode(&mut raw);
    raw.extend_from_slice(&fields);
    raw.into()
}

fn effective_price(tx: &TxEnv, base_fee: u64) -> u128 {
    match tx.gas_priority_fee {
        Some(tip) => tx.gas_price.min(tip.saturating_add(u128::from(base_fee))),
        None => tx.gas_price,
    }
}

fn include(tx: &TxEnv, result: &ExecutionResult, cumulative_gas_used: u64, base_fee: u64) -> Included {
    let raw = encode(tx);
    let receipt = ReceiptWithBloom {
        receipt: Receipt {
            status: result.is_success().into(),
            cumulative_gas_used,
            logs: if result.is_success() { result.logs().to_vec() } else { Vec::new() },
        },
        logs_bloom: Bloom::ZERO,
    };
    Included {
        hash: keccak256(&raw),
        sender: tx.caller,
        raw,
        receipt: match tx.tx_type {
            0 => ReceiptEnvelope::Legacy(receipt),
            1 => ReceiptEnvelope::Eip2930(receipt),
            2 => ReceiptEnvelope::Eip1559(receipt),
            3 => ReceiptEnvelope::Eip4844(receipt),
            _ => ReceiptEnvelope::Eip7702(receipt),
        },
        gas_used: result.tx_gas_used(),
        effective_gas_price: effective_price(tx, base_fee),
        created: None,
    }
}

// ---- the answer

fn describe(header: &Header, hash: B256, done: &[Done], extra: &Extra, full: bool) -> Result<Value> {
    let mut value = header_value(header, hash)?;
    let mut calls = Vec::new();
    for (index, one) in done.iter().enumerate() {
        let place = Place { header, block_hash: hash, index };
        let logs = one.logs.iter().map(|(number, log)| log_value(log, place, one.included.hash, *number)).collect();
        calls.push(describe_call(one, logs));
    }
    let place = |index: usize| Place { header, block_hash: hash, index };
    let transactions: Vec<Value> = if full {
        done.iter().enumerate().map(|(index, one)| describe_transaction(one, place(index))).collect()
    } else {
        done.iter().map(|one| json!(one.included.hash)).collect()
    };
    let raws: Vec<Bytes> = done.iter().map(|one| one.included.raw.clone()).collect();
    value["size"] = json!(U64::from(encode_block(header, &raws, extra).len()));
    value["transactions"] = Value::Array(transactions);
    value["uncles"] = json!([]);
    if header.withdrawals_root.is_some() {
        value["withdrawals"] = to_value(&extra.withdrawals)?;
    }
    value["calls"] = Value::Array(calls);
    Ok(value)
}

fn describe_call(one: &Done, logs: Vec<Value>) -> Value {
    let gas = one.result.gas();
    let most = gas.total_gas_spent().max(gas.floor_gas());
    let mut value = json!({
        "returnData": Bytes::new(),
        "logs": logs,
        "gasUsed": U64::from(one.result.tx_gas_used()),
        "maxUsedGas": U64::from(most),
        "status": U64::from(u64::from(one.result.is_success())),
    });
    match &one.result {
        ExecutionResult::Success { output, .. } => {
            value["returnData"] = json!(output.data());
        }
        ExecutionResult::Revert { output, .. } => {
            let message = reverted(output).to_string();
            value["error"] = json!({"code": 3, "message": message, "data": output});
        }
        ExecutionResult::Halt { reason, .. } => {
            value["error"] = json!({"code": -32015, "message": describe_halt(reason)});
        }
    }
    value
}

fn describe_transaction(one: &Done, place: Place<'_>) -> Value {
    let tx = &one.tx;
    let mut value = json!({
        "blockHash": place.block_hash,
        "blockNumber": U64::from(place.header.number),
        "blockTimestamp": U64::from(place.header.timestamp),
        "from": tx.caller,
        "gas": U64::from(tx.gas_limit),
        "gasPrice": U256::from(one.included.effective_gas_price),
        "hash": one.included.hash,
        "input": tx.data,
        "nonce": U64::from(tx.nonce),
        "to": tx.kind.to(),
        "transactionIndex": U64::from(place.index),
        "value": tx.value,
        "type": U64::from(tx.tx_type),
        "v": "0x0",
        "r": "0x0",
        "s": "0x0",
    });
    if tx.tx_type != 0 {
        value["accessList"] = json!(tx.access_list);
        value["chainId"] = json!(U64::from(tx.chain_id.unwrap_or_default()));
        value["yParity"] = json!("0x0");
    }
    if tx.tx_type >= 2 {
        value["maxFeePerGas"] = json!(U256::from(tx.gas_price));
        value["maxPriorityFeePerGas"] = json!(U256::from(tx.gas_priority_fee.unwrap_or_default()));
    }
    if tx.tx_type == 3 {
        value["maxFeePerBlobGas"] = json!(U256::from(tx.max_fee_per_blob_gas));
        value["blobVersionedHashes"] = json!(tx.blob_hashes);
    }
    value
}

#[pymethods]
impl View {
    /// eth_simulateV1: the JSON of the blocks. Raises Rejected, with the codes of the method.
    fn simulate<'py>(&self, py: Python<'py>, at: At, request: &[u8], gas_cap: u64) -> PyResult<Bound<'py, PyBytes>> {
        let past = self.past()?;
        let blocks = detached(py, || {
            let moment = past.now()?;
            let (base, hash) = moment.header_at(at)?.ok_or_else(|| Error::unavailable("header not found"))?;
            let state = moment.into_state(at)?;
            simulate(past.spec(), &state, &base, hash, request, gas_cap)
        })?;
        Ok(PyBytes::new(py, &blocks))
    }
}
