//! Executes payloads: the only module (with `call.rs`) that knows revm.
//!
//! Blocks follow the Ethereum rules of their fork, with the system calls of EIP-4788 and EIP-2935 where those contracts
//! exist. Deviations: a transaction that does not apply at its place is skipped instead of making the block invalid; there
//! are no blobs and consensus-layer requests, and no withdrawals but the reward of a block; the second of a block's timestamp
//! may repeat its parent's.

mod dev;
pub mod meter;
mod overlay;

use dev::Rebased;
pub use dev::{Ancestor, Ancestors, Opening};
pub use overlay::Overlay;

use crate::dev::{Clock, Command, DEV, MAX_COMMANDS, unsigned_sender};
use crate::errors::{Error, Result};
use crate::genesis::{ChainSpec, Fork, Gas, empty_header};
use crate::ordered_trie::{logs_blooms, ordered_root};
use crate::payload::Payload;
use crate::reward::{withdrawals, withdrawals_root};
use crate::transaction::{self, Envelope, Refusal, Senders, Transaction};
use crate::types::{Included, Outcome, Parent, StateChanges, StateRead};
use alloy_consensus::{Header, Receipt, ReceiptEnvelope, ReceiptWithBloom, Transaction as _, TxType};
use alloy_eips::eip1559::{BaseFeeParams, INITIAL_BASE_FEE, calc_next_block_base_fee};
use alloy_eips::eip2718::Encodable2718;
use alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
use alloy_eips::eip4788::BEACON_ROOTS_ADDRESS;
use alloy_eips::eip4895::Withdrawal;
use alloy_eips::eip7840::BlobParams;
use alloy_primitives::map::AddressSet;
use alloy_primitives::{Address, B256, Bloom, Bytes, TxKind, U256, keccak256};
use revm::context::either::Either;
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction};
use revm::context::{BlockEnv, CfgEnv, Context, ContextTr, JournalTr, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::handler::{MainnetContext, MainnetEvm};
use revm::{ExecuteEvm, MainBuilder, SystemCallEvm};

/// EIP-7934: a block's RLP is at most 10 MiB less 2 MiB of margin.
pub const MAX_PAYLOAD_BYTES: usize = 8 << 20;
/// How far ahead of our clock a proposer's may be.
pub const MAX_AHEAD_MS: u64 = 10_000;
/// From how many transactions it pays to read their accounts in parallel first.
const PREFETCH_FROM: usize = 32;

/// What a block's transactions can see of it.
#[derive(Debug, Clone)]
pub struct BlockContext {
    pub chain_id: u64,
    pub fork: Fork,
    pub number: u64,
    pub beneficiary: Address,
    pub timestamp: u64,
    pub gas_limit: u64,
    pub base_fee: u64,
    /// Zero after the merge.
    pub difficulty: U256,
    pub prevrandao: B256,
    pub excess_blob_gas: u64,
    pub blobs: BlobParams,
}

pub type Evm<'a> = MainnetEvm<MainnetContext<Overlay<'a>>>;

/// A machine for one block; `configure` may relax its rules (calls).
pub fn build_evm<'a>(block: &BlockContext, overlay: Overlay<'a>, configure: impl FnOnce(&mut CfgEnv)) -> Evm<'a> {
    build_context(block, overlay, configure).build_mainnet()
}

/// What a machine works in.
pub fn build_context<'a>(
    block: &BlockContext,
    overlay: Overlay<'a>,
    configure: impl FnOnce(&mut CfgEnv),
) -> MainnetContext<Overlay<'a>> {
    let spec = block.fork.spec_id();
    let mut cfg = CfgEnv::new_with_spec(spec).with_chain_id(block.chain_id);
    configure(&mut cfg);
    let env = BlockEnv {
        number: U256::from(block.number),
        beneficiary: block.beneficiary,
        timestamp: U256::from(block.timestamp),
        gas_limit: block.gas_limit,
        basefee: block.base_fee,
        difficulty: block.difficulty,
        prevrandao: (block.fork >= Fork::Paris).then_some(block.prevrandao),
        blob_excess_gas_and_price: Some(BlobExcessGasAndPrice {
            excess_blob_gas: block.excess_blob_gas,
            blob_gasprice: block.blobs.calc_blob_fee(block.excess_blob_gas),
        }),
        slot_num: 0,
    };
    let context: MainnetContext<Overlay<'a>> = Context::new(overlay, spec);
    context.with_cfg(cfg).with_block(env)
}

/// The base fee of the block after `parent`.
pub fn next_base_fee(spec: &ChainSpec, parent: &Header) -> u64 {
    if let Some(fee) = Clock::after(spec, parent).base_fee() {
        return fee;
    }
    match spec.gas {
        Gas::Free => 0,
        Gas::Fees if parent.base_fee_per_gas.is_none() => INITIAL_BASE_FEE,
        Gas::Fees => calc_next_block_base_fee(
            parent.gas_used,
            parent.gas_limit,
            parent.base_fee_per_gas.unwrap_or_default(),
            BaseFeeParams::ethereum(),
        ),
    }
}

/// Execute payloads (one, or several that HoneyBadger agreed on) on top of `parent`.
///
/// Deterministic: the same arguments give the same outcome on any machine. Several payloads are concatenated; the block has
/// the lower median of their timestamps and the first one's proposer. A transaction that does not apply at its place is
/// skipped with the conventional reason. Raises Invalid for payloads that do not follow `parent`, and what `state` raises.
pub fn execute_block(
    spec: &ChainSpec,
    state: &dyn StateRead,
    parent: &Parent<'_>,
    payloads: &[Payload],
    parent_envelope: B256,
    senders: &Senders,
    ancestors: &Ancestors<'_>,
) -> Result<Outcome> {
    if !parent.header.difficulty.is_zero() {
        let (number, hash) = (parent.header.number, parent.hash);
        return Err(Error::invalid(format!(
            "block {number} ({hash}): before the merge, expected the last imported one"
        )));
    }
    let (timestamp_ms, proposer) = merge_heads(parent, payloads)?;
    let number = parent.header.number + 1;
    let raws: Vec<Bytes> = payloads.iter().flat_map(|payload| payload.transactions.iter().cloned()).collect();
    let mut opened = senders.open_all(&raws);
    let (mut opening, back_to) = Opening::of(spec, state, parent.header, timestamp_ms / 1_000, &mut opened, ancestors)?;
    let timestamp = opening.timestamp;
    let fork = spec.fork_at(timestamp);
    let block = BlockContext {
        chain_id: spec.chain_id,
        fork,
        number,
        beneficiary: proposer,
        timestamp,
        gas_limit: opening.gas_limit,
        base_fee: opening.base_fee,
        difficulty: U256::ZERO,
        prevrandao: keccak256(parent_envelope),
        excess_blob_gas: spec.schedule.next_excess_blob_gas(timestamp, parent.header),
        blobs: spec.schedule.blobs_at(timestamp),
    };
    let rebased = back_to.as_ref().map(|ancestor| Rebased::new(ancestor, state, fork));
    let mut overlay = Overlay::new(rebased.as_ref().map_or(state, |rebased| rebased));
    overlay.set_block_hash(parent.header.number, parent.hash);
    if opened.len() >= PREFETCH_FROM {
        overlay.prefetch(&collect_addresses(&opened))?;
    }
    let mut executor = Executor::new(block, overlay);
    executor.apply_system_calls(parent.hash, parent_envelope)?;
    let mut included = Vec::with_capacity(opened.len());
    let mut skipped = Vec::new();
    for (index, item) in opened.into_iter().enumerate() {
        match item {
            Err(refused) => skipped.push(refused),
            Ok(tx) => match executor.apply_any(spec, &mut opening, &tx, index)? {
                Ok(applied) => included.push(applied),
                Err(reason) => skipped.push((tx.hash, reason)),
            },
        }
    }
    let head = Header { number, beneficiary: proposer, ..empty_header(fork) };
    let paid = withdrawals(spec, &head);
    executor.pay(&paid)?;
    let (block, gas_used, mut changes) = executor.finish();
    changes.base = rebased.map(Rebased::into_base);
    let (transactions_root, receipts_root, logs_bloom) = seal(&mut included)?;
    let mut header = Header {
        parent_hash: parent.hash,
        gas_limit: block.gas_limit,
        gas_used,
        timestamp,
        mix_hash: block.prevrandao,
        base_fee_per_gas: Some(block.base_fee),
        transactions_root,
        receipts_root,
        logs_bloom,
        ..head
    };
    if spec.dev {
        header.extra_data = opening.clock.encode();
    }
    header.excess_blob_gas = header.excess_blob_gas.map(|_| block.excess_blob_gas);
    if !paid.is_empty() {
        header.withdrawals_root = Some(withdrawals_root(&paid)?);
    }
    header.parent_beacon_block_root = header.parent_beacon_block_root.map(|_| parent_envelope);
    Ok(Outcome { header, timestamp_ms, included, skipped, changes, extra: Bytes::new() })
}

/// Judge whether `payload` may follow `parent` without executing it: parent hash, timestamp, decodable transactions with
/// valid signatures and chain id, the block's gas limit and size. Raises Invalid.
pub fn check_payload(
    spec: &ChainSpec,
    parent: &Parent<'_>,
    payload: &Payload,
    now_ms: u64,
    senders: &Senders,
) -> Result<()> {
    if payload.parent != parent.hash {
        return Err(Error::invalid(format!("payload: parent {}, expected {}", payload.parent, parent.hash)));
    }
    let latest = now_ms.saturating_add(MAX_AHEAD_MS);
    if payload.timestamp_ms <= parent.timestamp_ms || payload.timestamp_ms > latest {
        return Err(Error::invalid(format!(
            "payload: timestamp {} ms, expected above {} and at most {latest}",
            payload.timestamp_ms, parent.timestamp_ms
        )));
    }
    let bytes: usize = payload.transactions.iter().map(|raw| raw.len()).sum();
    if bytes > MAX_PAYLOAD_BYTES {
        return Err(Error::invalid(format!("payload: {bytes} bytes, expected at most {MAX_PAYLOAD_BYTES} (EIP-7934)")));
    }
    let fork = spec.fork_at(payload.timestamp_ms / 1_000);
    let gas_limit = parent.header.gas_limit;
    let (mut least_gas, mut commands) = (0u64, 0);
    for (index, item) in senders.open_all(&payload.transactions).into_iter().enumerate() {
        let refuse =
            |hash: B256, reason: &str| Error::invalid(format!("payload: transaction {index} ({hash}): {reason}"));
        let tx = item.map_err(|(hash, reason)| refuse(hash, &reason))?;
        if spec.dev && tx.sender == DEV {
            Command::of(spec, &tx).map_err(|reason| refuse(tx.hash, &reason))?;
            commands += 1;
            if commands > MAX_COMMANDS {
                return Err(refuse(tx.hash, &format!("more than {MAX_COMMANDS} dev commands")));
            }
            continue;
        }
        transaction::validate(spec.chain_id, fork, &tx.envelope, true).map_err(|reason| refuse(tx.hash, &reason))?;
        if tx.envelope.gas_limit() > gas_limit {
            return Err(refuse(
                tx.hash,
                &format!("exceeds block gas limit: gas {}, limit {gas_limit}", tx.envelope.gas_limit()),
            ));
        }
        let (intrinsic, floor) = transaction::compute_intrinsic_gas(fork, &tx.envelope);
        least_gas = least_gas.saturating_add(intrinsic.max(floor) * 4 / 5);
    }
    // Refunds give back at most a fifth, so a payload beyond this bound cannot fit whatever it does.
    if least_gas > gas_limit {
        return Err(Error::invalid(format!("payload: at least {least_gas} gas, expected at most {gas_limit}")));
    }
    Ok(())
}

/// Timestamp and proposer of the block that these payloads make.
fn merge_heads(parent: &Parent<'_>, payloads: &[Payload]) -> Result<(u64, Address)> {
    let Some(first) = payloads.first() else {
        return Err(Error::invalid("block: no payload, expected at least one"));
    };
    if let Some(stray) = payloads.iter().find(|payload| payload.parent != parent.hash) {
        return Err(Error::invalid(format!("payload: parent {}, expected {}", stray.parent, parent.hash)));
    }
    let mut timestamps: Vec<u64> = payloads.iter().map(|payload| payload.timestamp_ms).collect();
    timestamps.sort_unstable();
    let median = timestamps[(timestamps.len() - 1) / 2];
    // `check` refuses a timestamp that is not later; here it only must stay so when payloads were not checked one by one.
    Ok((median.max(parent.timestamp_ms + 1), first.proposer))
}

type Opened = std::result::Result<Transaction, (B256, Refusal)>;

fn collect_addresses(opened: &[Opened]) -> Vec<Address> {
    let mut seen = AddressSet::default();
    for tx in opened.iter().flatten() {
        seen.insert(tx.sender);
        seen.extend(tx.envelope.to());
        if let Some(list) = tx.envelope.access_list() {
            seen.extend(list.iter().map(|item| item.address));
        }
    }
    seen.into_iter().collect()
}

/// Below this many transactions a loop is faster than waking other cores.
const SEAL_IN_PARALLEL_FROM: usize = 64;

/// Blooms, and the roots of transactions and receipts.
pub fn seal(included: &mut [Included]) -> Result<(B256, B256, Bloom)> {
    let blooms = logs_blooms(included.iter().map(|item| item.receipt.logs()));
    let mut bloom = Bloom::ZERO;
    for (item, logs_bloom) in included.iter_mut().zip(blooms) {
        bloom |= logs_bloom;
        if let Some(receipt) = item.receipt.as_receipt_with_bloom_mut() {
            receipt.logs_bloom = logs_bloom;
        }
    }
    let included = &*included;
    let transactions_root = || ordered_root(&included.iter().map(|item| item.raw.as_ref()).collect::<Vec<_>>());
    let receipts_root = || {
        let receipts: Vec<Vec<u8>> = included.iter().map(|item| item.receipt.encoded_2718()).collect();
        ordered_root(&receipts.iter().map(|receipt| receipt.as_slice()).collect::<Vec<_>>())
    };
    let (transactions_root, receipts_root) = if included.len() >= SEAL_IN_PARALLEL_FROM {
        rayon::join(transactions_root, receipts_root)
    } else {
        (transactions_root(), receipts_root())
    };
    Ok((transactions_root?, receipts_root?, bloom))
}

/// Executes the transactions of one block, one after the other.
pub struct Executor<'a> {
    evm: Evm<'a>,
    block: BlockContext,
    gas_used: u64,
}

impl<'a> Executor<'a> {
    pub fn new(block: BlockContext, overlay: Overlay<'a>) -> Executor<'a> {
        let evm = build_evm(&block, overlay, |_| {});
        Executor { evm, block, gas_used: 0 }
    }

    /// EIP-4788 and EIP-2935, where the contracts exist.
    pub fn apply_system_calls(&mut self, parent_hash: B256, parent_beacon_block_root: B256) -> Result<()> {
        if self.block.fork >= Fork::Prague {
            self.system_call(HISTORY_STORAGE_ADDRESS, parent_hash)?;
        }
        if self.block.fork >= Fork::Cancun {
            self.system_call(BEACON_ROOTS_ADDRESS, parent_beacon_block_root)?;
        }
        Ok(())
    }

    fn system_call(&mut self, contract: Address, input: B256) -> Result<()> {
        // A system contract that reverts leaves no trace; the chain goes on (EIP-4788 says the same of a missing one).
        self.call_system(contract, input.into()).map(|_| ())
    }

    /// Call a contract as the system does, without gas or receipt: its output, or None where there is no code.
    pub fn call_system(&mut self, contract: Address, input: Bytes) -> Result<Option<Bytes>> {
        if !self.evm.ctx.db_mut().has_code(contract)? {
            return Ok(None);
        }
        let outcome = self.evm.system_call(contract, input).map_err(fatal)?;
        self.evm.ctx.db_mut().commit(outcome.state);
        Ok(Some(outcome.result.into_output().unwrap_or_default()))
    }

    /// Make money and give it to somebody.
    pub fn credit(&mut self, address: Address, wei: U256) -> Result<()> {
        self.evm.ctx.journal_mut().balance_incr(address, wei)?;
        let state = self.evm.ctx.journal_mut().finalize();
        self.evm.ctx.db_mut().commit(state);
        Ok(())
    }

    /// The net changes so far.
    pub fn changes(&self) -> StateChanges {
        self.evm.ctx.journaled_state.database.changes()
    }

    /// Execute one transaction, or say why it does not apply here. Raises only what the state raises.
    pub fn apply(&mut self, tx: &Transaction) -> Result<std::result::Result<Included, Refusal>> {
        let limit = tx.envelope.gas_limit();
        if limit > self.block.gas_limit {
            return Ok(Err(format!("exceeds block gas limit: gas {limit}, limit {}", self.block.gas_limit)));
        }
        if limit > self.block.gas_limit - self.gas_used {
            return Ok(Err("gas limit reached".into()));
        }
        // A contract may be impersonated (EIP-3607 refuses senders with code).
        self.evm.ctx.cfg.disable_eip3607 = unsigned_sender(&tx.envelope) == Some(tx.sender);
        let result = self.evm.transact_one(tx_env(tx));
        let state = self.evm.ctx.journal_mut().finalize();
        let result = match result {
            Ok(result) => result,
            Err(EVMError::Transaction(invalid)) => return Ok(Err(refusal(&invalid, &tx_env(tx), self.block.base_fee))),
            Err(error) => return Err(fatal(error)),
        };
        self.evm.ctx.db_mut().commit(state);
        Ok(Ok(self.include(tx, result)))
    }

    fn include(&mut self, tx: &Transaction, result: ExecutionResult) -> Included {
        let gas_used = result.tx_gas_used();
        self.gas_used += gas_used;
        let receipt = ReceiptWithBloom {
            receipt: Receipt {
                status: result.is_success().into(),
                cumulative_gas_used: self.gas_used,
                logs: result.into_logs(),
            },
            logs_bloom: Bloom::ZERO,
        };
        Included {
            hash: tx.hash,
            sender: tx.sender,
            raw: tx.raw.clone(),
            receipt: match tx.envelope.tx_type() {
                TxType::Legacy => ReceiptEnvelope::Legacy(receipt),
                TxType::Eip2930 => ReceiptEnvelope::Eip2930(receipt),
                TxType::Eip1559 => ReceiptEnvelope::Eip1559(receipt),
                TxType::Eip4844 => ReceiptEnvelope::Eip4844(receipt),
                TxType::Eip7702 => ReceiptEnvelope::Eip7702(receipt),
            },
            gas_used,
            effective_gas_price: transaction::effective_price(&tx.envelope, self.block.base_fee),
            created: tx.envelope.is_create().then(|| tx.sender.create(tx.envelope.nonce())),
        }
    }

    /// EIP-4895: after all transactions, unconditionally.
    pub fn pay(&mut self, withdrawals: &[Withdrawal]) -> Result<()> {
        withdrawals.iter().try_for_each(|withdrawal| self.credit(withdrawal.address, withdrawal.amount_wei()))
    }

    /// The block and all that it changed so far, for somebody who goes on in another way.
    pub fn into_parts(self) -> (BlockContext, Overlay<'a>) {
        (self.block, self.evm.ctx.journaled_state.database)
    }

    /// (block, gas used, net changes)
    pub fn finish(self) -> (BlockContext, u64, StateChanges) {
        (self.block, self.gas_used, self.evm.ctx.journaled_state.database.changes())
    }
}

/// What revm wants to know of a transaction.
pub fn tx_env(tx: &Transaction) -> TxEnv {
    let envelope: &Envelope = &tx.envelope;
    TxEnv {
        tx_type: envelope.tx_type() as u8,
        caller: tx.sender,
        gas_limit: envelope.gas_limit(),
        gas_price: envelope.max_fee_per_gas(),
        kind: envelope.to().map_or(TxKind::Create, TxKind::Call),
        value: envelope.value(),
        data: envelope.input().clone(),
        nonce: envelope.nonce(),
        chain_id: envelope.chain_id(),
        access_list: envelope.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: envelope.max_priority_fee_per_gas(),
        blob_hashes: envelope.blob_versioned_hashes().unwrap_or_default().to_vec(),
        max_fee_per_blob_gas: envelope.max_fee_per_blob_gas().unwrap_or_default(),
        authorization_list: envelope
            .authorization_list()
            .unwrap_or_default()
            .iter()
            .map(|signed| Either::Right(transaction::recover_authority(signed)))
            .collect(),
    }
}

/// An error that is not the transaction's: the state's own, or ours.
pub fn fatal(error: EVMError<Error>) -> Error {
    match error {
        EVMError::Database(error) => error,
        other => Error::corrupt(format!("execution: {other}")),
    }
}

/// geth's words for what revm says (`core/state_transition.go`).
pub fn refusal(invalid: &InvalidTransaction, tx: &TxEnv, base_fee: u64) -> Refusal {
    use InvalidTransaction as E;
    let (sender, fee) = (tx.caller, tx.gas_price);
    match invalid {
        E::NonceTooLow { tx, state } => format!("nonce too low: address {sender}, tx: {tx} state: {state}"),
        E::NonceTooHigh { tx, state } => format!("nonce too high: address {sender}, tx: {tx} state: {state}"),
        E::NonceOverflowInTransaction => {
            format!("nonce has max value: address {sender}, nonce: {}", tx.nonce)
        }
        E::LackOfFundForMaxFee { fee, balance } => transaction::insufficient_funds(&sender, balance, fee),
        E::OverflowPaymentInTransaction => {
            format!("insufficient funds for gas * price + value: address {sender} required balance exceeds 256 bits")
        }
        E::RejectCallerWithCode => format!("sender not an eoa: address {sender}"),
        E::GasPriceLessThanBasefee => {
            format!(
                "max fee per gas less than block base fee: address {sender}, maxFeePerGas: {fee}, baseFee: {base_fee}"
            )
        }
        E::PriorityFeeGreaterThanMaxFee => format!(
            "max priority fee per gas higher than max fee per gas: address {sender}, maxPriorityFeePerGas: {}, \
             maxFeePerGas: {fee}",
            tx.gas_priority_fee.unwrap_or_default()
        ),
        E::CallerGasLimitMoreThanBlock => "exceeds block gas limit".into(),
        E::CallGasCostMoreThanGasLimit { initial_gas, gas_limit } => {
            format!("intrinsic gas too low: have {gas_limit}, want {initial_gas}")
        }
        E::GasFloorMoreThanGasLimit { gas_floor, gas_limit } => {
            format!("insufficient gas for floor data gas cost: have {gas_limit}, want {gas_floor}")
        }
        E::CreateInitCodeSizeLimit => {
            format!("max initcode size exceeded: code size {}, limit {}", tx.data.len(), transaction::MAX_INIT_CODE)
        }
        E::TxGasLimitGreaterThanCap { gas_limit, cap } => {
            format!("transaction gas limit too high (cap: {cap}, tx: {gas_limit})")
        }
        E::InvalidChainId => "invalid chain id for signer".into(),
        E::EmptyAuthorizationList => "EIP-7702 transaction with empty auth list".into(),
        E::Eip2930NotSupported | E::Eip1559NotSupported | E::Eip4844NotSupported | E::Eip7702NotSupported => {
            "transaction type not supported".into()
        }
        other => other.to_string(),
    }
}
