//! Genesis files: geth's JSON with `config.quorate` = {engine, gas, validators, block_reward_gwei, pow, dev} inside.
//!
//! Block 0 is post-merge, unless the file names a terminal total difficulty: then the chain is one of Ethereum's own, whose
//! blocks can be imported. When the file names no fork after the merge, all up to Osaka hold from the start; otherwise each
//! holds from the time that the file names. The only withdrawal of a block of ours is its reward (`reward.rs`).

use crate::errors::{Error, Result};
pub use crate::rules::Fork;
use crate::rules::Schedule;
use crate::types::{Account, AccountChange, StateChanges};
use alloy_consensus::Header;
use alloy_consensus::constants::{EMPTY_OMMER_ROOT_HASH, EMPTY_ROOT_HASH, EMPTY_WITHDRAWALS, KECCAK_EMPTY};
use alloy_eips::eip1559::INITIAL_BASE_FEE;
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_genesis::ChainConfig;
use alloy_primitives::{Address, B64, B256, Bytes, U256, keccak256};
use serde::Deserialize;

pub const MIN_GAS_LIMIT: u64 = 5_000;
pub const MAX_GAS_LIMIT: u64 = i64::MAX as u64;
const MAX_EXTRA_BYTES: usize = 32;
const MAX_VALIDATORS: usize = 1_024;
/// A million ether: however long a chain becomes, its sum of money stays below 2^256 wei.
const MAX_REWARD_GWEI: u64 = 1_000_000_000_000_000;

/// How transactions pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gas {
    /// EIP-1559.
    Fees,
    /// The base fee is always zero and zero prices are admitted; gas limits still hold.
    Free,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validator {
    pub address: Address,
    pub power: u64,
}

/// `config.quorate`. Engine and validators are only judged here: who agrees is Python's business.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Quorate {
    #[allow(dead_code)]
    engine: String,
    gas: Gas,
    validators: Vec<Validator>,
    block_reward_gwei: u64,
    #[allow(dead_code)]
    pow: Option<Work>,
    dev: bool,
}

/// `config.quorate.pow`: what all must agree on of proof of work, which is Python's business too.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Work {
    #[allow(dead_code)]
    interval_ms: u64,
    #[allow(dead_code)]
    initial_difficulty: u64,
    #[allow(dead_code)]
    min_difficulty: u64,
    #[allow(dead_code)]
    window: u64,
}

impl Default for Quorate {
    fn default() -> Self {
        Quorate {
            engine: "tendermint".into(),
            gas: Gas::Fees,
            validators: Vec::new(),
            block_reward_gwei: 0,
            pow: None,
            dev: false,
        }
    }
}

/// What holds for every block of a chain.
#[derive(Debug, Clone)]
pub struct ChainSpec {
    pub chain_id: u64,
    pub gas: Gas,
    /// What the proposer of a block is paid, newly made; 0: nothing.
    pub block_reward_gwei: u64,
    /// Whether the chain is for development, and takes commands (`dev.rs`).
    pub dev: bool,
    pub schedule: Schedule,
}

impl ChainSpec {
    /// The rules after the merge of a block with this timestamp (seconds).
    pub fn fork_at(&self, timestamp: u64) -> Fork {
        self.schedule.fork_at(timestamp)
    }
}

/// A parsed genesis file.
#[derive(Debug, Clone)]
pub struct Genesis {
    pub spec: ChainSpec,
    /// Complete but for the state root.
    pub header: Header,
    /// The allocation, as changes of the empty state.
    pub changes: StateChanges,
}

/// Parse and check a genesis file. Raises Invalid naming found and expected.
pub fn parse(json: &[u8]) -> Result<Genesis> {
    let malformed = |e: serde_json::Error| Error::invalid(format!("genesis: {e}, expected geth's genesis JSON"));
    let mut value: serde_json::Value = serde_json::from_slice(json).map_err(malformed)?;
    let quorate = normalize(&mut value)?;
    let file: alloy_genesis::Genesis = serde_json::from_value(value).map_err(malformed)?;
    let spec = chain_spec(&file.config, quorate)?;
    let header = genesis_header(&file, &spec)?;
    if spec.block_reward_gwei > MAX_REWARD_GWEI {
        let found = spec.block_reward_gwei;
        return Err(Error::invalid(format!("genesis: block_reward_gwei {found}, expected at most {MAX_REWARD_GWEI}")));
    }
    if spec.block_reward_gwei > 0 && header.withdrawals_root.is_none() {
        return Err(Error::invalid(
            "genesis: block_reward_gwei above 0 without shanghaiTime, expected Shanghai from the start",
        ));
    }
    let changes = allocation(file);
    if let Some(bare) = changes.accounts.iter().find(|change| is_bare(change)) {
        return Err(Error::invalid(format!(
            "genesis: account {} has storage but neither code nor nonce, expected one of them (EIP-7610)",
            bare.address
        )));
    }
    Ok(Genesis { spec, header, changes })
}

/// Take `config.quorate` out and make sure that a chain id is there (Besu spells it in any case).
fn normalize(value: &mut serde_json::Value) -> Result<Quorate> {
    let config = value
        .get_mut("config")
        .and_then(|config| config.as_object_mut())
        .ok_or_else(|| Error::invalid("genesis: no `config` object, expected geth's genesis JSON"))?;
    if !config.contains_key("chainId") {
        let other = config.keys().find(|key| key.eq_ignore_ascii_case("chainid")).cloned();
        let id = other.and_then(|key| config.remove(&key));
        config.insert(
            "chainId".into(),
            id.ok_or_else(|| Error::invalid("genesis: no `config.chainId`, expected a number"))?,
        );
    }
    match config.remove("quorate") {
        None => Ok(Quorate::default()),
        Some(extras) => serde_json::from_value(extras).map_err(|e| {
            Error::invalid(format!(
                "genesis: config.quorate: {e}; expected {{engine, gas: fees|free, validators, block_reward_gwei, dev}}"
            ))
        }),
    }
}

fn chain_spec(config: &ChainConfig, mut quorate: Quorate) -> Result<ChainSpec> {
    if config.chain_id == 0 {
        return Err(Error::invalid("genesis: config.chainId 0, expected a positive number"));
    }
    if quorate.validators.len() > MAX_VALIDATORS {
        return Err(Error::invalid(format!(
            "genesis: {} validators, expected at most {MAX_VALIDATORS}",
            quorate.validators.len()
        )));
    }
    quorate.validators.sort_by_key(|validator| validator.address);
    for pair in quorate.validators.windows(2) {
        if pair[0].address == pair[1].address {
            return Err(Error::invalid(format!("genesis: validator {} twice, expected once", pair[0].address)));
        }
    }
    if let Some(zero) = quorate.validators.iter().find(|v| v.power == 0 || v.power > u64::from(u32::MAX)) {
        return Err(Error::invalid(format!(
            "genesis: validator {} with power {}, expected 1 to {}",
            zero.address,
            zero.power,
            u32::MAX
        )));
    }
    Ok(ChainSpec {
        chain_id: config.chain_id,
        gas: quorate.gas,
        block_reward_gwei: quorate.block_reward_gwei,
        dev: quorate.dev,
        schedule: Schedule::parse(config)?,
    })
}

fn genesis_header(file: &alloy_genesis::Genesis, spec: &ChainSpec) -> Result<Header> {
    if !(MIN_GAS_LIMIT..=MAX_GAS_LIMIT).contains(&file.gas_limit) {
        return Err(Error::invalid(format!(
            "genesis: gasLimit {}, expected {MIN_GAS_LIMIT} to {MAX_GAS_LIMIT}",
            file.gas_limit
        )));
    }
    if file.extra_data.len() > MAX_EXTRA_BYTES {
        return Err(Error::invalid(format!(
            "genesis: extraData of {} bytes, expected at most {MAX_EXTRA_BYTES}",
            file.extra_data.len()
        )));
    }
    if file.timestamp > u64::MAX / 1_000 {
        return Err(Error::invalid(format!("genesis: timestamp {}, expected seconds", file.timestamp)));
    }
    for (name, found) in [
        ("number", file.number.unwrap_or_default()),
        ("excessBlobGas", file.excess_blob_gas.unwrap_or_default()),
        ("blobGasUsed", file.blob_gas_used.unwrap_or_default()),
    ] {
        if found != 0 {
            return Err(Error::invalid(format!("genesis: {name} {found}, expected 0")));
        }
    }
    let (total, difficulty) = (spec.schedule.terminal_difficulty, file.difficulty);
    if total.is_none() && !difficulty.is_zero() {
        return Err(Error::invalid(format!(
            "genesis: difficulty {difficulty}, expected 0 without config.terminalTotalDifficulty"
        )));
    }
    let probe = Header { difficulty, timestamp: file.timestamp, ..Header::default() };
    let fork = spec.schedule.fork_of(&probe);
    Ok(Header {
        parent_hash: file.parent_hash.unwrap_or_default(),
        nonce: B64::from(file.nonce),
        timestamp: file.timestamp,
        extra_data: file.extra_data.clone(),
        gas_limit: file.gas_limit,
        mix_hash: file.mix_hash,
        beneficiary: file.coinbase,
        difficulty,
        base_fee_per_gas: if fork >= Fork::London { Some(genesis_base_fee(file, spec)?) } else { None },
        ..empty_header(fork)
    })
}

fn genesis_base_fee(file: &alloy_genesis::Genesis, spec: &ChainSpec) -> Result<u64> {
    match (spec.gas, file.base_fee_per_gas) {
        (Gas::Free, None | Some(0)) => Ok(0),
        (Gas::Free, Some(found)) => {
            Err(Error::invalid(format!("genesis: baseFeePerGas {found}, expected 0 with gas = free")))
        }
        (Gas::Fees, None) => Ok(INITIAL_BASE_FEE),
        (Gas::Fees, Some(found)) => u64::try_from(found)
            .map_err(|_| Error::invalid(format!("genesis: baseFeePerGas {found}, expected less than 2^64"))),
    }
}

/// A header with the fields that a fork asks for, all of them of an empty block.
pub fn empty_header(fork: Fork) -> Header {
    let from = |first: Fork| fork >= first;
    Header {
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        state_root: EMPTY_ROOT_HASH,
        transactions_root: EMPTY_ROOT_HASH,
        receipts_root: EMPTY_ROOT_HASH,
        difficulty: U256::ZERO,
        withdrawals_root: from(Fork::Shanghai).then_some(EMPTY_WITHDRAWALS),
        blob_gas_used: from(Fork::Cancun).then_some(0),
        excess_blob_gas: from(Fork::Cancun).then_some(0),
        parent_beacon_block_root: from(Fork::Cancun).then_some(B256::ZERO),
        requests_hash: from(Fork::Prague).then_some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    }
}

/// Storage under an account that a contract could still be created at: the only collision that execution does not see.
fn is_bare(change: &AccountChange) -> bool {
    let plain = change.account.as_ref().is_none_or(|a| a.nonce == 0 && a.code_hash == KECCAK_EMPTY);
    plain && !change.slots.is_empty()
}

fn allocation(file: alloy_genesis::Genesis) -> StateChanges {
    let mut changes = StateChanges::default();
    for (address, account) in file.alloc {
        let code: Bytes = account.code.unwrap_or_default();
        let code_hash = if code.is_empty() { KECCAK_EMPTY } else { keccak256(&code) };
        if !code.is_empty() {
            changes.codes.push((code_hash, code));
        }
        let storage = account.storage.unwrap_or_default();
        changes.accounts.push(AccountChange {
            address,
            account: Some(Account { nonce: account.nonce.unwrap_or_default(), balance: account.balance, code_hash }),
            storage_wiped: false,
            slots: storage
                .into_iter()
                .map(|(slot, value)| (U256::from_be_bytes(slot.0), U256::from_be_bytes(value.0)))
                .filter(|(_, value)| !value.is_zero())
                .collect(),
        });
    }
    changes.codes.sort_by_key(|(hash, _)| *hash);
    changes.codes.dedup_by_key(|(hash, _)| *hash);
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn genesis(extra: &str) -> String {
        format!(
            r#"{{"config":{{"chainId":7{extra}}},"gasLimit":"0x1c9c380","timestamp":"0x10",
                "alloc":{{"0x00000000000000000000000000000000000000aa":{{"balance":"0x5","code":"0x6001","storage":
                {{"0x00":"0x01","0x01":"0x00"}}}}}}}}"#
        )
    }

    #[test]
    fn all_forks_hold_from_the_start_when_none_is_named() {
        let genesis = parse(genesis("").as_bytes()).unwrap();
        assert_eq!(genesis.spec.fork_at(0), Fork::Osaka);
        assert_eq!(genesis.header.base_fee_per_gas, Some(INITIAL_BASE_FEE));
        assert_eq!(genesis.header.requests_hash, Some(EMPTY_REQUESTS_HASH));
        assert_eq!(genesis.changes.accounts[0].slots, vec![(U256::ZERO, U256::from(1))]);
        assert_eq!(genesis.changes.codes.len(), 1);
    }

    #[test]
    fn named_forks_hold_from_their_times() {
        let spec = parse(genesis(r#","shanghaiTime":0,"cancunTime":100"#).as_bytes()).unwrap().spec;
        assert_eq!((spec.fork_at(99), spec.fork_at(100)), (Fork::Shanghai, Fork::Cancun));
    }

    #[test]
    fn free_gas_has_no_base_fee() {
        let extra = r#","quorate":{"engine":"raft","gas":"free","validators":[]}"#;
        let genesis = parse(genesis(extra).as_bytes()).unwrap();
        assert_eq!(genesis.header.base_fee_per_gas, Some(0));
        assert_eq!(genesis.spec.gas, Gas::Free);
    }

    #[test]
    fn refusals_name_found_and_expected() {
        for (extra, words) in [
            (r#","londonBlock":27"#, "London and later from block 27 on without config.terminalTotalDifficulty"),
            (r#","cancunTime":1"#, "Cancun at 1, expected after every older fork"),
            (r#","quorate":{"gas":"cheap"}"#, "unknown variant `cheap`"),
            (r#","quorate":{"gaz":"free"}"#, "unknown field `gaz`"),
            (
                r#","quorate":{"validators":[{"address":"0x00000000000000000000000000000000000000aa","power":0}]}"#,
                "power 0, expected 1",
            ),
        ] {
            let error = parse(genesis(extra).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{error} lacks {words}");
        }
        assert!(parse(b"[]").unwrap_err().to_string().contains("config"));
        assert!(parse(b"{").is_err());
        assert!(parse(b"{\"config\":{}}").unwrap_err().to_string().contains("chainId"));
    }
}
