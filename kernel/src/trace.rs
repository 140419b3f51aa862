//! What happened inside transactions: geth's tracers (`debug_`), Parity's (`trace_`), and access lists.
//!
//! A transaction of a stored block is run again over the state before it, so a trace needs that state to be there.

use crate::call::{Call, describe_halt};
use crate::codec::decode_body;
use crate::dev::{Command, is_command};
use crate::errors::{Error, Result};
use crate::evm::{BlockContext, Executor, Opening, Overlay, build_context, fatal, tx_env};
use crate::genesis::{ChainSpec, Fork};
use crate::import::make_context;
use crate::json::{to_bytes, to_value};
use crate::ledger::{detached, hash_argument};
use crate::queries::{Answer, answer};
use crate::trace_budget::{Bounded, Budget};
use crate::transaction::{Transaction, decode_any};
use crate::types::{StateRead, Stored};
use crate::view::{At, Moment, View};
use alloy_consensus::{Header, Transaction as _};
use alloy_primitives::map::HashSet;
use alloy_primitives::{Address, B256, Bytes, U64, keccak256};
use alloy_rpc_types_eth::TransactionInfo;
use alloy_rpc_types_trace::geth::{
    GethDebugTracingCallOptions as GethCallOptions, GethDebugTracingOptions as GethOptions,
};
use alloy_rpc_types_trace::parity::TraceType;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use revm::context::result::{EVMError, ExecutionResult, ResultAndState};
use revm::context::{ContextTr, JournalTr, TxEnv};
use revm::handler::MainnetContext;
use revm::state::EvmState;
use revm::{InspectEvm, Inspector, MainBuilder};
use revm_inspectors::access_list::AccessListInspector;
use revm_inspectors::tracing::{DebugInspector, TracingInspector, TracingInspectorConfig, TransactionContext};
use serde_json::{Value, json};

/// Of runs until an access list names all that a call touches.
const MAX_ACCESS_LIST_RUNS: usize = 16;

/// One run under an inspector, which leaves the state as it was; with the state that it would leave.
pub fn inspect<'a, I>(
    context: MainnetContext<Overlay<'a>>,
    tx: TxEnv,
    inspector: I,
    budget: &mut Budget,
) -> Result<(Overlay<'a>, I, ResultAndState)>
where
    I: Inspector<MainnetContext<Overlay<'a>>>,
{
    let mut evm = context.build_mainnet_with_inspector(Bounded::new(budget, inspector));
    let result = evm.inspect_one_tx(tx);
    let state = evm.ctx.journal_mut().finalize();
    let Bounded { budget, tracer, .. } = evm.inspector;
    let overlay = evm.ctx.journaled_state.database;
    budget.settle(&state)?;
    match result {
        Ok(result) => Ok((overlay, tracer, ResultAndState::new(result, state))),
        Err(EVMError::Transaction(invalid)) => Err(Error::rejected(invalid.to_string())),
        Err(error) => Err(fatal(error)),
    }
}

/// A stored block that is run again.
pub struct Replay {
    pub block: BlockContext,
    pub hash: B256,
    pub transactions: Vec<Transaction>,
}

fn parse<T: serde::de::DeserializeOwned + Default>(name: &str, json: Option<&[u8]>) -> Result<T> {
    let Some(json) = json else { return Ok(T::default()) };
    let found: Option<T> = serde_json::from_slice(json).map_err(|e| Error::invalid(format!("{name}: {e}")))?;
    Ok(found.unwrap_or_default())
}

fn tracer_error(error: impl std::fmt::Display) -> Error {
    Error::rejected(format!("tracer: {error}"))
}

impl Moment<'_> {
    /// Run the transactions of a block again, and let `each` run those from `first` on, in order.
    ///
    /// `each` gets the block, the index of its transaction and the state before it, and gives that state back with what the
    /// transaction changed.
    pub fn replay(
        self,
        stored: &Stored,
        first: usize,
        count: usize,
        mut each: impl for<'s> FnMut(&Replay, usize, Overlay<'s>) -> Result<(Overlay<'s>, EvmState)>,
    ) -> Result<()> {
        let header = &stored.header;
        let Some(below) = header.number.checked_sub(1) else { return Err(Error::rejected("genesis is not traceable")) };
        let spec = self.spec();
        let state = self.into_state(At::Height(below))?;
        let fork = spec.schedule.fork_of(header);
        let transactions = open_stored(stored)?;
        let mut overlay = Overlay::new(&state);
        overlay.keep_empty(fork < Fork::SpuriousDragon);
        overlay.set_block_hash(below, header.parent_hash);
        let mut executor = Executor::new(make_context(spec, header, fork), overlay);
        executor.apply_system_calls(header.parent_hash, header.parent_beacon_block_root.unwrap_or_default())?;
        // Commands of a network for development come first, and run no code that could be traced.
        let commands = transactions.iter().take_while(|transaction| is_command(transaction)).count();
        if commands > 0 && first < commands {
            let goes_back = matches!(Command::decode(transactions[0].envelope.input()), Ok(Command::RevertTo { .. }));
            if count == 1 || (goes_back && commands < transactions.len()) {
                return Err(Error::rejected("dev commands run no code, expected a transaction to trace"));
            }
        }
        let first = first.max(commands);
        let mut opening = Opening::again(header);
        for (index, transaction) in transactions.iter().enumerate().take(first) {
            executor
                .apply_any(spec, &mut opening, transaction, index)?
                .map_err(|reason| Error::corrupt(format!("{}: {reason}", transaction.hash)))?;
        }
        let (block, mut overlay) = executor.into_parts();
        let replay = Replay { block, hash: stored.hash, transactions };
        for index in first..replay.transactions.len().min(first.saturating_add(count)) {
            let (before, changes) = each(&replay, index, overlay)?;
            overlay = before;
            overlay.commit(changes);
        }
        Ok(())
    }

    /// geth's traces of some transactions of a block.
    fn trace_geth(self, stored: &Stored, first: usize, count: usize, options: &GethOptions) -> Result<Vec<Value>> {
        let mut traces = Vec::new();
        let mut budget = Budget::of_geth(options);
        self.replay(stored, first, count, |replay, index, overlay| {
            let tx = tx_env(&replay.transactions[index]);
            let inspector = DebugInspector::new(options.clone()).map_err(tracer_error)?;
            let context = build_context(&replay.block, overlay, |cfg| cfg.disable_eip3607 = true);
            let environment = context.block.clone();
            let (mut overlay, mut inspector, done) = inspect(context, tx.clone(), inspector, &mut budget)?;
            let place = TransactionContext {
                block_hash: Some(replay.hash),
                tx_index: Some(index),
                tx_hash: Some(replay.transactions[index].hash),
            };
            let trace = inspector.get_result(Some(place), &tx, &environment, &done, &mut overlay);
            traces.push(to_value(trace.map_err(tracer_error)?)?);
            Ok((overlay, done.state))
        })?;
        Ok(traces)
    }

    /// Parity's traces of some transactions of a block: flat, with their places.
    fn trace_parity(self, stored: &Stored, first: usize, count: usize) -> Result<Vec<Value>> {
        let mut traces = Vec::new();
        let types = HashSet::from_iter([TraceType::Trace]);
        let mut budget = Budget::of_parity(&types);
        self.replay(stored, first, count, |replay, index, overlay| {
            let transaction = &replay.transactions[index];
            let (overlay, inspector, done) = replay.inspect_parity(index, overlay, &types, &mut budget)?;
            let place = TransactionInfo {
                hash: Some(transaction.hash),
                index: Some(index as u64),
                block_hash: Some(replay.hash),
                block_number: Some(replay.block.number),
                base_fee: Some(replay.block.base_fee),
                block_timestamp: None,
            };
            for trace in inspector.into_parity_builder().into_localized_transaction_traces(place) {
                traces.push(to_value(trace)?);
            }
            Ok((overlay, done.state))
        })?;
        Ok(traces)
    }

    /// Parity's replays of some transactions of a block, of the types that are asked for.
    fn replay_parity(
        self,
        stored: &Stored,
        first: usize,
        count: usize,
        types: &HashSet<TraceType>,
    ) -> Result<Vec<Value>> {
        let mut replays = Vec::new();
        let mut budget = Budget::of_parity(types);
        self.replay(stored, first, count, |replay, index, overlay| {
            let (mut overlay, inspector, done) = replay.inspect_parity(index, overlay, types, &mut budget)?;
            let results = inspector.into_parity_builder().into_trace_results_with_state(&done, types, &mut overlay)?;
            let mut value = to_value(results)?;
            value["transactionHash"] = json!(replay.transactions[index].hash);
            replays.push(value);
            Ok((overlay, done.state))
        })?;
        Ok(replays)
    }
}

impl Replay {
    fn inspect_parity<'s>(
        &self,
        index: usize,
        overlay: Overlay<'s>,
        types: &HashSet<TraceType>,
        budget: &mut Budget,
    ) -> Result<(Overlay<'s>, TracingInspector, ResultAndState)> {
        let transaction = &self.transactions[index];
        let inspector = TracingInspector::new(TracingInspectorConfig::from_parity_config(types));
        let context = build_context(&self.block, overlay, |cfg| cfg.disable_eip3607 = true);
        let (overlay, mut inspector, done) = inspect(context, tx_env(transaction), inspector, budget)?;
        inspector.set_transaction_gas_limit(transaction.envelope.gas_limit());
        inspector.set_transaction_caller(transaction.sender);
        Ok((overlay, inspector, done))
    }
}

/// The transactions of a stored block, whose senders are known.
pub fn open_stored(stored: &Stored) -> Result<Vec<Transaction>> {
    let open = |(sender, raw): (Address, Bytes)| {
        let hash = keccak256(&raw);
        match decode_any(&raw) {
            Ok(envelope) => Ok(Transaction { hash, sender, raw, envelope }),
            Err(reason) => Err(Error::corrupt(format!("transaction {hash}: {reason}"))),
        }
    };
    decode_body(&stored.body)?.into_iter().map(open).collect()
}

// ---- calls

/// geth's trace of a call.
fn trace_call(
    spec: &ChainSpec,
    state: &dyn StateRead,
    header: &Header,
    request: &[u8],
    options: &[u8],
    gas_cap: u64,
) -> Result<Vec<u8>> {
    let options: GethCallOptions = parse("tracer options", Some(options))?;
    let overrides = json!([options.state_overrides, options.block_overrides]).to_string();
    let (context, tx) = prepare(spec, state, header, request, Some(overrides.as_bytes()), gas_cap)?;
    let environment = context.block.clone();
    let mut budget = Budget::of_geth(&options.tracing_options);
    let inspector = DebugInspector::new(options.tracing_options).map_err(tracer_error)?;
    let (mut overlay, mut inspector, done) = inspect(context, tx.clone(), inspector, &mut budget)?;
    to_bytes(&inspector.get_result(None, &tx, &environment, &done, &mut overlay).map_err(tracer_error)?)
}

/// Parity's traces of calls that come one after the other; all together share the gas cap.
fn trace_calls_parity(
    spec: &ChainSpec,
    state: &dyn StateRead,
    header: &Header,
    calls: &[(Vec<u8>, Vec<u8>)],
    gas_cap: u64,
) -> Result<Vec<Value>> {
    let mut budget = Budget::of_calls();
    let (mut overlay, mut gas_left) = (Overlay::new(state), gas_cap);
    let mut traces = Vec::with_capacity(calls.len());
    for (request, types) in calls {
        let types: HashSet<TraceType> = parse("trace types", Some(types))?;
        budget.turn_to(&types);
        if gas_left == 0 {
            return Err(Error::rejected(format!("calls: more than {gas_cap} gas together")));
        }
        let (context, tx) = settle(Call::parse_over(spec, overlay, header, request, None)?, gas_left);
        let inspector = TracingInspector::new(TracingInspectorConfig::from_parity_config(&types));
        let (gas_limit, caller) = (tx.gas_limit, tx.caller);
        let (mut before, mut inspector, done) = inspect(context, tx, inspector, &mut budget)?;
        inspector.set_transaction_gas_limit(gas_limit);
        inspector.set_transaction_caller(caller);
        let trace = inspector.into_parity_builder().into_trace_results_with_state(&done, &types, &mut before)?;
        traces.push(to_value(trace)?);
        gas_left = gas_left.saturating_sub(done.result.tx_gas_used());
        before.commit(done.state);
        overlay = before;
    }
    Ok(traces)
}

fn prepare<'a>(
    spec: &ChainSpec,
    state: &'a dyn StateRead,
    header: &Header,
    request: &[u8],
    overrides: Option<&[u8]>,
    gas_cap: u64,
) -> Result<(MainnetContext<Overlay<'a>>, TxEnv)> {
    Ok(settle(Call::parse(spec, state, header, request, overrides)?, gas_cap))
}

fn settle(call: Call<'_>, gas_cap: u64) -> (MainnetContext<Overlay<'_>>, TxEnv) {
    let mut tx = call.tx;
    tx.gas_limit = call.named_gas.unwrap_or(u64::MAX).min(gas_cap);
    (call.evm.ctx, tx)
}

/// The access list with which a transaction touches nothing that it does not name, and its gas (EIP-2930).
///
/// The list changes what is warm and thereby the gas and perhaps the path, so it is looked for until it stays.
fn create_access_list(
    spec: &ChainSpec,
    state: &dyn StateRead,
    header: &Header,
    request: &[u8],
    overrides: Option<&[u8]>,
    gas_cap: u64,
) -> Result<Vec<u8>> {
    let mut list = None;
    for _ in 0..MAX_ACCESS_LIST_RUNS {
        let (context, mut tx) = prepare(spec, state, header, request, overrides, gas_cap)?;
        let known = list.unwrap_or_else(|| tx.access_list.clone());
        if tx.tx_type == 0 {
            tx.tx_type = 1;
        }
        tx.access_list = known.clone();
        let inspector = AccessListInspector::new(known.clone());
        let (_, inspector, done) = inspect(context, tx, inspector, &mut Budget::nothing())?;
        let mut found = inspector.into_access_list();
        found.0.sort_unstable_by_key(|item| item.address);
        if found == known {
            let gas = U64::from(done.result.tx_gas_used());
            let mut value = json!({"accessList": found, "gasUsed": gas});
            match &done.result {
                ExecutionResult::Success { .. } => {}
                ExecutionResult::Revert { .. } => value["error"] = json!("execution reverted"),
                ExecutionResult::Halt { reason, .. } => value["error"] = json!(describe_halt(reason)),
            }
            return to_bytes(&value);
        }
        list = Some(found);
    }
    Err(Error::rejected(format!("access list: still changes after {MAX_ACCESS_LIST_RUNS} runs")))
}

#[pymethods]
impl View {
    /// geth's traces of all transactions of a block, as JSON of `[{txHash, result}]`; None for an unknown block.
    #[pyo3(signature = (at, options))]
    fn trace_block<'py>(&self, py: Python<'py>, at: At, options: Option<&[u8]>) -> Answer<'py> {
        let past = self.past()?;
        answer(py, || {
            let past = past.now()?;
            let Some(stored) = past.stored_at(at)? else { return Ok(None) };
            let options = parse("tracer options", options)?;
            let traces = past.trace_geth(&stored, 0, usize::MAX, &options)?;
            let hashes = decode_body(&stored.body)?.into_iter().map(|(_, raw)| keccak256(raw));
            let pairs = hashes.zip(traces).map(|(hash, result)| json!({"txHash": hash, "result": result}));
            Ok(Some(to_bytes(&pairs.collect::<Vec<_>>())?))
        })
    }

    /// geth's trace of a transaction; None for an unknown one.
    #[pyo3(signature = (hash, options))]
    fn trace_transaction<'py>(&self, py: Python<'py>, hash: &[u8], options: Option<&[u8]>) -> Answer<'py> {
        let (past, hash) = (self.past()?, hash_argument("hash", hash)?);
        answer(py, || {
            let past = past.now()?;
            let Some((stored, index)) = past.stored_of(&hash)? else { return Ok(None) };
            let options = parse("tracer options", options)?;
            past.trace_geth(&stored, index, 1, &options)?.first().map(to_bytes).transpose()
        })
    }

    /// geth's trace of a call; `options` may hold overrides.
    fn trace_call<'py>(
        &self,
        py: Python<'py>,
        at: At,
        request: &[u8],
        options: &[u8],
        gas_cap: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let past = self.past()?;
        let trace = detached(py, || {
            let moment = past.now()?;
            let (header, state) = (moment.required_header(at)?, moment.into_state(at)?);
            trace_call(past.spec(), &state, &header, request, options, gas_cap)
        })?;
        Ok(PyBytes::new(py, &trace))
    }

    /// Parity's flat traces of a block; None for an unknown one.
    fn parity_block<'py>(&self, py: Python<'py>, at: At) -> Answer<'py> {
        let past = self.past()?;
        answer(py, || {
            let past = past.now()?;
            match past.stored_at(at)? {
                Some(stored) if stored.header.number == 0 => Ok(Some(b"[]".to_vec())),
                Some(stored) => Ok(Some(to_bytes(&past.trace_parity(&stored, 0, usize::MAX)?)?)),
                None => Ok(None),
            }
        })
    }

    /// Parity's flat traces of a transaction; None for an unknown one.
    fn parity_transaction<'py>(&self, py: Python<'py>, hash: &[u8]) -> Answer<'py> {
        let (past, hash) = (self.past()?, hash_argument("hash", hash)?);
        answer(py, || {
            let past = past.now()?;
            match past.stored_of(&hash)? {
                Some((stored, index)) => Ok(Some(to_bytes(&past.trace_parity(&stored, index, 1)?)?)),
                None => Ok(None),
            }
        })
    }

    /// Parity's replay of a block with the JSON of a list of types; None for an unknown one.
    fn parity_replay_block<'py>(&self, py: Python<'py>, at: At, types: &[u8]) -> Answer<'py> {
        let past = self.past()?;
        answer(py, || {
            let past = past.now()?;
            let types = parse("trace types", Some(types))?;
            let Some(stored) = past.stored_at(at)? else { return Ok(None) };
            Ok(Some(to_bytes(&past.replay_parity(&stored, 0, usize::MAX, &types)?)?))
        })
    }

    /// Parity's replay of a transaction; None for an unknown one.
    fn parity_replay_transaction<'py>(&self, py: Python<'py>, hash: &[u8], types: &[u8]) -> Answer<'py> {
        let (past, hash) = (self.past()?, hash_argument("hash", hash)?);
        answer(py, || {
            let past = past.now()?;
            let types = parse("trace types", Some(types))?;
            let Some((stored, index)) = past.stored_of(&hash)? else { return Ok(None) };
            past.replay_parity(&stored, index, 1, &types)?.first().map(to_bytes).transpose()
        })
    }

    /// Parity's traces of calls, pairs of a request and the JSON of a list of types, each over what the one before it left.
    fn parity_calls<'py>(
        &self,
        py: Python<'py>,
        at: At,
        calls: Vec<(Vec<u8>, Vec<u8>)>,
        gas_cap: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let past = self.past()?;
        let traces = detached(py, || {
            let moment = past.now()?;
            let (header, state) = (moment.required_header(at)?, moment.into_state(at)?);
            to_bytes(&trace_calls_parity(past.spec(), &state, &header, &calls, gas_cap)?)
        })?;
        Ok(PyBytes::new(py, &traces))
    }

    /// eth_createAccessList.
    #[pyo3(signature = (at, request, overrides, gas_cap))]
    fn access_list<'py>(
        &self,
        py: Python<'py>,
        at: At,
        request: &[u8],
        overrides: Option<&[u8]>,
        gas_cap: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let past = self.past()?;
        let list = detached(py, || {
            let moment = past.now()?;
            let (header, state) = (moment.required_header(at)?, moment.into_state(at)?);
            create_access_list(past.spec(), &state, &header, request, overrides, gas_cap)
        })?;
        Ok(PyBytes::new(py, &list))
    }
}
