//! eth_call and eth_estimateGas, as geth answers them.
//!
//! Without a gas price the base fee is zero, as for a caller who pays nothing. Time and memory are bounded by the gas cap.

use crate::errors::{Error, Result};
use crate::evm::{BlockContext, Evm, Overlay, build_evm, fatal, meter};
use crate::genesis::{ChainSpec, Fork};
use crate::transaction::{MAX_GAS, insufficient_funds, recover_authority};
use crate::types::StateRead;
use alloy_consensus::Header;
use alloy_primitives::{Address, Bytes, TxKind, U256, keccak256};
use alloy_rpc_types_eth::{BlockOverrides, TransactionRequest, state::StateOverride};
use revm::bytecode::Bytecode;
use revm::context::either::Either;
use revm::context::result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction, OutOfGasError};
use revm::context::{ContextTr, JournalTr, TxEnv};
use revm::{Database, ExecuteEvm};
use serde_json::Value;

const TRANSFER_GAS: u64 = 21_000;
const CALL_STIPEND: u64 = 2_300;
/// geth's `estimateGasErrorRatio`, 0.015, as a fraction.
const ERROR_RATIO: (u64, u64) = (15, 1_000);
/// Addresses and slots that overrides may name.
const MAX_OVERRIDES: usize = 10_000;

/// What a call is about, parsed.
pub struct Call<'a> {
    pub evm: Evm<'a>,
    pub tx: TxEnv,
    gas_limit: u64,
    pub named_gas: Option<u64>,
    fork: Fork,
}

/// Plain calls over one state, one after another, each as if it were alone: what they read is read once.
pub struct Caller<'a> {
    call: Call<'a>,
}

impl<'a> Caller<'a> {
    pub fn new(spec: &ChainSpec, state: &'a dyn StateRead, header: &Header) -> Result<Caller<'a>> {
        Ok(Caller { call: Call::parse(spec, state, header, b"{}", None)? })
    }

    /// As `call` with these fields alone.
    pub fn call(&mut self, from: Option<Address>, to: Address, input: Bytes, gas_cap: u64) -> Result<Bytes> {
        let caller = from.unwrap_or_default();
        let tx = &mut self.call.tx;
        (tx.caller, tx.kind, tx.data) = (caller, TxKind::Call(to), input);
        tx.nonce = self.call.evm.ctx.db_mut().basic(caller)?.map_or(0, |info| info.nonce);
        self.call.output(gas_cap)
    }

    /// Make `call_briefly` possible.
    pub fn with_meter(mut self) -> Caller<'a> {
        meter::install(self.call.evm.instruction.instruction_table_mut());
        self
    }

    /// As `call`, or None where it takes about more work than `work` of gas costs.
    pub fn call_briefly(
        &mut self,
        from: Option<Address>,
        to: Address,
        input: Bytes,
        gas_cap: u64,
        work: u64,
    ) -> Option<Result<Bytes>> {
        if is_reserved(&to) {
            return None;
        }
        self.call.evm.ctx.db_mut().meter.start(work);
        let output = self.call(from, to, input, gas_cap);
        (!self.call.evm.ctx.db_mut().meter.is_exhausted()).then_some(output)
    }

    /// How many accounts and slots are remembered.
    pub fn kept(&mut self) -> usize {
        self.call.evm.ctx.db_mut().kept()
    }
}

/// Run a call over the state after `header`; returns its output. Raises Reverted, Rejected, Invalid.
pub fn call(
    spec: &ChainSpec,
    state: &dyn StateRead,
    header: &Header,
    request: &[u8],
    overrides: Option<&[u8]>,
    gas_cap: u64,
) -> Result<Vec<u8>> {
    let mut call = Call::parse(spec, state, header, request, overrides)?;
    let gas = call.named_gas.unwrap_or(u64::MAX).min(gas_cap);
    call.output(gas).map(Into::into)
}

/// The least gas limit with which a transaction succeeds, within 1.5 per cent. Raises Reverted, Rejected, Invalid.
pub fn estimate_gas(
    spec: &ChainSpec,
    state: &dyn StateRead,
    header: &Header,
    request: &[u8],
    overrides: Option<&[u8]>,
    gas_cap: u64,
) -> Result<u64> {
    let mut call = Call::parse(spec, state, header, request, overrides)?;
    let highest = call.highest_gas(gas_cap)?;
    if call.is_plain_transfer()? && call.succeeds(TRANSFER_GAS)? {
        return Ok(TRANSFER_GAS);
    }
    let (used, refunded) = match call.run(highest)? {
        Ok(ExecutionResult::Success { gas, .. }) => (gas.tx_gas_used(), gas.inner_refunded()),
        Ok(ExecutionResult::Revert { output, .. }) => return Err(reverted(&output)),
        Ok(ExecutionResult::Halt { reason: HaltReason::OutOfGas(_), .. }) => return Err(exceeds_allowance(highest)),
        Ok(ExecutionResult::Halt { reason, .. }) => return Err(Error::rejected(describe_halt(&reason))),
        Err(refused) if is_too_little_gas(&refused) => return Err(exceeds_allowance(highest)),
        Err(refused) => return Err(refused),
    };
    call.search(highest, used, refunded)
}

impl<'a> Call<'a> {
    pub fn parse(
        spec: &ChainSpec,
        state: &'a dyn StateRead,
        header: &Header,
        request: &[u8],
        overrides: Option<&[u8]>,
    ) -> Result<Call<'a>> {
        Call::parse_over(spec, Overlay::new(state), header, request, overrides)
    }

    /// Over a state that earlier calls changed.
    pub fn parse_over(
        spec: &ChainSpec,
        mut overlay: Overlay<'a>,
        header: &Header,
        request: &[u8],
        overrides: Option<&[u8]>,
    ) -> Result<Call<'a>> {
        let request: TransactionRequest = serde_json::from_slice(request)
            .map_err(|e| Error::invalid(format!("call: {e}, expected hex fields of a transaction")))?;
        let (state_changes, block_changes) = parse_overrides(overrides)?;
        if state_changes.values().any(|account| account.move_precompile_to.is_some()) {
            return Err(Error::invalid("overrides: movePrecompileToAddress, expected none but in eth_simulateV1"));
        }
        apply_overrides(&mut overlay, state_changes)?;
        let mut block = block_context(spec, header, block_changes, &mut overlay);
        check_request(spec, &request)?;
        let price = request.gas_price.or(request.max_fee_per_gas).unwrap_or_default();
        if price == 0 && request.max_priority_fee_per_gas.unwrap_or_default() == 0 {
            block.base_fee = 0;
        }
        let caller = request.from.unwrap_or_default();
        let nonce = match request.nonce {
            Some(nonce) => nonce,
            None => overlay.basic(caller)?.map_or(0, |info| info.nonce),
        };
        let (fork, gas_limit, named_gas) = (block.fork, block.gas_limit, request.gas);
        let evm = build_evm(&block, overlay, |cfg| {
            cfg.disable_nonce_check = true;
            cfg.disable_eip3607 = true;
            cfg.disable_block_gas_limit = true;
            cfg.tx_gas_limit_cap = Some(u64::MAX);
        });
        Ok(Call { evm, tx: request_env(request, caller, nonce, spec.chain_id)?, gas_limit, named_gas, fork })
    }

    fn output(&mut self, gas: u64) -> Result<Bytes> {
        match self.run(gas)?? {
            ExecutionResult::Success { output, .. } => Ok(output.into_data()),
            ExecutionResult::Revert { output, .. } => Err(reverted(&output)),
            ExecutionResult::Halt { reason, .. } => Err(Error::rejected(describe_halt(&reason))),
        }
    }

    /// One run that leaves no trace. The inner error is why it cannot run at all.
    fn run(&mut self, gas: u64) -> Result<std::result::Result<ExecutionResult, Error>> {
        let mut tx = self.tx.clone();
        tx.gas_limit = gas;
        let result = self.evm.transact_one(tx);
        // What it changed is dropped; what it read stays in the overlay.
        let _ = self.evm.ctx.journal_mut().finalize();
        match result {
            Ok(result) => Ok(Ok(result)),
            Err(EVMError::Transaction(invalid)) => Ok(Err(self.describe_refusal(&invalid))),
            Err(error) => Err(fatal(error)),
        }
    }

    fn succeeds(&mut self, gas: u64) -> Result<bool> {
        match self.run(gas)? {
            Ok(result) => Ok(result.is_success()),
            Err(refused) if is_too_little_gas(&refused) => Ok(false),
            Err(refused) => Err(refused),
        }
    }

    fn is_plain_transfer(&mut self) -> Result<bool> {
        let TxKind::Call(to) = self.tx.kind else { return Ok(false) };
        let bare = self.tx.data.is_empty() && self.tx.access_list.0.is_empty() && self.tx.authorization_list.is_empty();
        // Precompiles have no code and still cost something.
        Ok(bare && !is_reserved(&to) && !self.evm.ctx.db_mut().has_code(to)?)
    }

    /// The gas limit to start from: what is named, the block's, what the sender can pay, the caps.
    fn highest_gas(&mut self, gas_cap: u64) -> Result<u64> {
        let mut highest = self.named_gas.filter(|gas| *gas >= TRANSFER_GAS).unwrap_or(self.gas_limit);
        if self.tx.gas_price > 0 {
            let balance = self.evm.ctx.db_mut().basic(self.tx.caller)?.unwrap_or_default().balance;
            let Some(available) = balance.checked_sub(self.tx.value) else {
                return Err(Error::rejected("insufficient funds for transfer"));
            };
            let allowance = available / U256::from(self.tx.gas_price);
            highest = highest.min(allowance.saturating_to());
        }
        if self.fork >= Fork::Osaka {
            highest = highest.min(MAX_GAS);
        }
        Ok(highest.min(gas_cap))
    }

    fn search(&mut self, mut high: u64, used: u64, refunded: u64) -> Result<u64> {
        let mut low = used.saturating_sub(1);
        // Every nested call keeps back a 64th, and a call with value gets a stipend.
        let optimistic = (used + refunded + CALL_STIPEND) / 63 * 64 + 64;
        if optimistic < high {
            if self.succeeds(optimistic)? {
                high = optimistic;
            } else {
                low = optimistic;
            }
        }
        while low + 1 < high {
            if (high - low) * ERROR_RATIO.1 < high * ERROR_RATIO.0 {
                break;
            }
            let middle = (low + (high - low) / 2).min(low.saturating_mul(2));
            if self.succeeds(middle)? {
                high = middle;
            } else {
                low = middle;
            }
        }
        Ok(high)
    }

    fn describe_refusal(&self, invalid: &InvalidTransaction) -> Error {
        use InvalidTransaction as E;
        let caller = self.tx.caller;
        Error::rejected(match invalid {
            E::LackOfFundForMaxFee { fee, balance } => insufficient_funds(&caller, balance, fee),
            E::GasPriceLessThanBasefee => format!(
                "max fee per gas less than block base fee: address {caller}, maxFeePerGas: {}",
                self.tx.gas_price
            ),
            E::PriorityFeeGreaterThanMaxFee => format!(
                "max priority fee per gas higher than max fee per gas: address {caller}, maxPriorityFeePerGas: {}, \
                 maxFeePerGas: {}",
                self.tx.gas_priority_fee.unwrap_or_default(),
                self.tx.gas_price
            ),
            E::CallGasCostMoreThanGasLimit { initial_gas, gas_limit } => {
                format!("intrinsic gas too low: have {gas_limit}, want {initial_gas}")
            }
            E::GasFloorMoreThanGasLimit { gas_floor, gas_limit } => {
                format!("insufficient gas for floor data gas cost: have {gas_limit}, want {gas_floor}")
            }
            E::CreateInitCodeSizeLimit => "max initcode size exceeded".into(),
            E::NonceOverflowInTransaction => format!("nonce has max value: address {caller}"),
            E::EmptyAuthorizationList => "EIP-7702 transaction with empty auth list".into(),
            E::OverflowPaymentInTransaction => {
                format!(
                    "insufficient funds for gas * price + value: address {caller} required balance exceeds 256 bits"
                )
            }
            other => other.to_string(),
        })
    }
}

/// Whether an address is among those that precompiles have.
fn is_reserved(address: &Address) -> bool {
    address.0[..18].iter().all(|byte| *byte == 0)
}

fn exceeds_allowance(gas: u64) -> Error {
    Error::rejected(format!("gas required exceeds allowance ({gas})"))
}

fn is_too_little_gas(refused: &Error) -> bool {
    let message = refused.to_string();
    message.starts_with("intrinsic gas too low") || message.starts_with("insufficient gas for floor")
}

// ---- what the caller names

fn check_request(spec: &ChainSpec, request: &TransactionRequest) -> Result<()> {
    if request.gas_price.is_some() && (request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some())
    {
        return Err(Error::rejected("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"));
    }
    if let Some(id) = request.chain_id
        && id != spec.chain_id
    {
        return Err(Error::rejected(format!("chainId does not match node's (have={id}, want={})", spec.chain_id)));
    }
    if request.sidecar.is_some() {
        return Err(Error::rejected("blobs are not served, expected their versioned hashes alone"));
    }
    Ok(())
}

pub fn request_env(request: TransactionRequest, caller: Address, nonce: u64, chain_id: u64) -> Result<TxEnv> {
    let authorizations = request.authorization_list.unwrap_or_default();
    let kind = request.to.unwrap_or(TxKind::Create);
    if !authorizations.is_empty() && kind.is_create() {
        return Err(Error::rejected("EIP-7702 transaction cannot be used to create contract"));
    }
    let is_dynamic = request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some();
    let blob_hashes = request.blob_versioned_hashes.unwrap_or_default();
    let tx_type = match () {
        () if !blob_hashes.is_empty() => 3,
        () if !authorizations.is_empty() => 4,
        () if is_dynamic => 2,
        () if request.access_list.is_some() => 1,
        () => 0,
    };
    let tip = request.max_priority_fee_per_gas;
    Ok(TxEnv {
        tx_type,
        caller,
        gas_limit: 0,
        gas_price: request.gas_price.or(request.max_fee_per_gas).or(tip).unwrap_or_default(),
        kind,
        value: request.value.unwrap_or_default(),
        data: request
            .input
            .try_into_unique_input()
            .map_err(|_| Error::rejected(r#"both "data" and "input" are set and not equal. Please use "input" to pass transaction call data"#))?
            .unwrap_or_default(),
        nonce,
        chain_id: Some(chain_id),
        access_list: request.access_list.unwrap_or_default(),
        gas_priority_fee: (tx_type >= 2).then(|| tip.unwrap_or_default()),
        blob_hashes,
        max_fee_per_blob_gas: request.max_fee_per_blob_gas.unwrap_or_default(),
        authorization_list: authorizations.iter().map(|signed| Either::Right(recover_authority(signed))).collect(),
    })
}

/// State overrides, or `[state, block]` with either null.
fn parse_overrides(overrides: Option<&[u8]>) -> Result<(StateOverride, BlockOverrides)> {
    let malformed = |e: serde_json::Error| Error::invalid(format!("overrides: {e}"));
    let Some(json) = overrides else { return Ok(Default::default()) };
    let mut value: Value = serde_json::from_slice(json).map_err(malformed)?;
    let (state, block) = match &mut value {
        Value::Array(parts) if parts.len() <= 2 => {
            let mut take = |index: usize| parts.get_mut(index).map_or(Value::Null, Value::take);
            (take(0), take(1))
        }
        Value::Array(parts) => {
            return Err(Error::invalid(format!("overrides: {} parts, expected [state, block]", parts.len())));
        }
        _ => (value.take(), Value::Null),
    };
    let state: Option<StateOverride> = serde_json::from_value(state).map_err(malformed)?;
    let block: Option<BlockOverrides> = serde_json::from_value(block).map_err(malformed)?;
    Ok((state.unwrap_or_default(), block.unwrap_or_default()))
}

pub fn apply_overrides(overlay: &mut Overlay<'_>, overrides: StateOverride) -> Result<()> {
    let mut named = 0usize;
    for (address, account) in overrides {
        named += 1 + account.state.as_ref().map_or(0, |s| s.len()) + account.state_diff.as_ref().map_or(0, |s| s.len());
        if named > MAX_OVERRIDES {
            return Err(Error::invalid(format!("overrides: more than {MAX_OVERRIDES} accounts and slots")));
        }
        if account.state.is_some() && account.state_diff.is_some() {
            return Err(Error::invalid(format!("account {address} has both 'state' and 'stateDiff'")));
        }
        overlay.override_account(address, |info| {
            info.balance = account.balance.unwrap_or(info.balance);
            info.nonce = account.nonce.unwrap_or(info.nonce);
            if let Some(code) = account.code {
                info.code_hash = keccak256(&code);
                info.code = Bytecode::new_raw_checked(code.clone()).ok().or_else(|| Some(Bytecode::new_legacy(code)));
            }
        })?;
        let wipe = account.state.is_some();
        if let Some(slots) = account.state.or(account.state_diff) {
            let number = |word: alloy_primitives::B256| U256::from_be_bytes(word.0);
            overlay.override_storage(address, wipe, slots.into_iter().map(|(k, v)| (number(k), number(v))))?;
        }
    }
    Ok(())
}

fn block_context(
    spec: &ChainSpec,
    header: &Header,
    changes: BlockOverrides,
    overlay: &mut Overlay<'_>,
) -> BlockContext {
    for (number, hash) in changes.block_hash.unwrap_or_default() {
        overlay.set_block_hash(number, hash);
    }
    let timestamp = changes.time.unwrap_or(header.timestamp);
    BlockContext {
        chain_id: spec.chain_id,
        fork: match header.difficulty.is_zero() {
            true => spec.fork_at(timestamp),
            false => spec.schedule.fork_before_merge(header.number),
        },
        number: changes.number.map_or(header.number, |number| number.saturating_to()),
        beneficiary: changes.coinbase.unwrap_or(header.beneficiary),
        timestamp,
        gas_limit: changes.gas_limit.unwrap_or(header.gas_limit),
        base_fee: changes.base_fee.map_or(header.base_fee_per_gas.unwrap_or_default(), |fee| fee.saturating_to()),
        difficulty: header.difficulty,
        prevrandao: changes.random.unwrap_or(header.mix_hash),
        excess_blob_gas: header.excess_blob_gas.unwrap_or_default(),
        blobs: spec.schedule.blobs_at(timestamp),
    }
}

// ---- why it failed

const ERROR_STRING: [u8; 4] = [0x08, 0xc3, 0x79, 0xa0];
const PANIC: [u8; 4] = [0x4e, 0x48, 0x7b, 0x71];

/// geth's error of an execution that reverted with this output.
pub fn reverted(output: &[u8]) -> Error {
    let message = match decode_reason(output) {
        Some(reason) => format!("execution reverted: {reason}"),
        None => "execution reverted".into(),
    };
    Error::Reverted { message, output: output.to_vec() }
}

/// The text of Error(string) or Panic(uint256), as geth words it.
fn decode_reason(output: &[u8]) -> Option<String> {
    let (selector, data) = output.split_at_checked(4)?;
    let word = |from: usize| data.get(from..from + 32).map(U256::from_be_slice);
    if selector == ERROR_STRING {
        let start = usize::try_from(word(0)?).ok()?;
        let length = usize::try_from(word(start)?).ok()?;
        let from = start.checked_add(32)?;
        let text = data.get(from..from.checked_add(length)?)?;
        return Some(String::from_utf8_lossy(text).into_owned());
    }
    if selector != PANIC || data.len() != 32 {
        return None;
    }
    let code = word(0)?;
    let known = match u8::try_from(code).ok() {
        Some(0x00) => "generic panic",
        Some(0x01) => "assert(false)",
        Some(0x11) => "arithmetic underflow or overflow",
        Some(0x12) => "division or modulo by zero",
        Some(0x21) => "enum overflow",
        Some(0x22) => "invalid encoded storage byte array accessed",
        Some(0x31) => "out-of-bounds array access; popping on an empty array",
        Some(0x32) => "out-of-bounds access of an array or bytesN",
        Some(0x41) => "out of memory",
        Some(0x51) => "uninitialized function",
        _ => return Some(format!("unknown panic code: {code:#x}")),
    };
    Some(known.into())
}

/// geth's words for an execution that was cut off.
pub fn describe_halt(reason: &HaltReason) -> String {
    match reason {
        HaltReason::OutOfGas(OutOfGasError::ReentrancySentry) => "not enough gas for reentrancy sentry".into(),
        HaltReason::OutOfGas(_) => "out of gas".into(),
        HaltReason::OpcodeNotFound | HaltReason::NotActivated => "invalid opcode".into(),
        HaltReason::InvalidFEOpcode => "invalid opcode: INVALID".into(),
        HaltReason::InvalidJump => "invalid jump destination".into(),
        HaltReason::StackUnderflow => "stack underflow".into(),
        HaltReason::StackOverflow => "stack limit reached 1024".into(),
        HaltReason::OutOfOffset => "return data out of bounds".into(),
        HaltReason::CreateCollision => "contract address collision".into(),
        HaltReason::NonceOverflow => "nonce uint64 overflow".into(),
        HaltReason::CreateContractSizeLimit => "max code size exceeded".into(),
        HaltReason::CreateContractStartingWithEF => "invalid code: must not begin with 0xef".into(),
        HaltReason::CreateInitCodeSizeLimit => "max initcode size exceeded".into(),
        HaltReason::StateChangeDuringStaticCall | HaltReason::CallNotAllowedInsideStatic => "write protection".into(),
        HaltReason::OutOfFunds => "insufficient balance for transfer".into(),
        HaltReason::CallTooDeep => "max call depth exceeded".into(),
        other => format!("execution failed: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;

    #[test]
    fn reasons_are_worded_as_geth_does() {
        let text = hex!(
            "08c379a00000000000000000000000000000000000000000000000000000000000000020"
            "000000000000000000000000000000000000000000000000000000000000000a75736572206572726f7200000000000000000000000000000000000000000000"
        );
        assert_eq!(reverted(&text).to_string(), "execution reverted: user error");
        let panic = hex!("4e487b710000000000000000000000000000000000000000000000000000000000000011");
        assert_eq!(reverted(&panic).to_string(), "execution reverted: arithmetic underflow or overflow");
        assert_eq!(reverted(&hex!("deadbeef")).to_string(), "execution reverted");
    }

    #[test]
    fn malformed_reasons_are_ignored() {
        for cut in 0..68 {
            let mut bytes = hex!("08c379a0").to_vec();
            bytes.extend(std::iter::repeat_n(0xff, cut));
            assert_eq!(reverted(&bytes).to_string(), "execution reverted");
        }
    }
}
