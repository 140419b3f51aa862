//! Which rules of Ethereum hold for which block: forks by number before the merge, by time after it, and the blob schedule.
//!
//! Chains that Quorate agrees on begin after the merge. Older rules are for blocks that are imported (`import.rs`).

use crate::errors::{Error, Result};
use alloy_consensus::Header;
use alloy_eips::eip2124::ForkHash;
use alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
use alloy_eips::eip4788::BEACON_ROOTS_ADDRESS;
use alloy_eips::eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS;
use alloy_eips::eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS;
use alloy_eips::eip7840::BlobParams;
use alloy_eips::eip7892::BlobScheduleBlobParams;
use alloy_genesis::ChainConfig;
use alloy_primitives::{Address, B256, U64, U256, hex};
use revm::primitives::hardfork::SpecId;
use serde_json::{Value, json};

/// Rules of Ethereum, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fork {
    Frontier,
    Homestead,
    Tangerine,
    SpuriousDragon,
    Byzantium,
    /// Without EIP-1283, which Petersburg took back: no block of a public network with it survives.
    Constantinople,
    Petersburg,
    Istanbul,
    Berlin,
    London,
    Paris,
    Shanghai,
    Cancun,
    Prague,
    Osaka,
}

impl Fork {
    /// A fork that a network may run, by its name. Raises Invalid.
    pub fn parse(name: &str) -> Result<Fork> {
        match name {
            "Paris" | "Merge" => Ok(Fork::Paris),
            "Shanghai" => Ok(Fork::Shanghai),
            "Cancun" => Ok(Fork::Cancun),
            "Prague" => Ok(Fork::Prague),
            "Osaka" => Ok(Fork::Osaka),
            other => Err(Error::invalid(format!("fork {other}, expected Paris, Shanghai, Cancun, Prague or Osaka"))),
        }
    }

    /// What revm calls it.
    pub fn spec_id(self) -> SpecId {
        match self {
            Fork::Frontier => SpecId::FRONTIER,
            Fork::Homestead => SpecId::HOMESTEAD,
            Fork::Tangerine => SpecId::TANGERINE,
            Fork::SpuriousDragon => SpecId::SPURIOUS_DRAGON,
            Fork::Byzantium => SpecId::BYZANTIUM,
            Fork::Constantinople | Fork::Petersburg => SpecId::PETERSBURG,
            Fork::Istanbul => SpecId::ISTANBUL,
            Fork::Berlin => SpecId::BERLIN,
            Fork::London => SpecId::LONDON,
            Fork::Paris => SpecId::MERGE,
            Fork::Shanghai => SpecId::SHANGHAI,
            Fork::Cancun => SpecId::CANCUN,
            Fork::Prague => SpecId::PRAGUE,
            Fork::Osaka => SpecId::OSAKA,
        }
    }
}

/// When which rules hold.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// From which block number each fork before the merge holds, in order; empty where the chain begins after it.
    before_merge: Vec<(Fork, u64)>,
    /// From which block timestamp (seconds) each fork after the merge holds, in order.
    pub forks: Vec<(Fork, u64)>,
    /// By how many blocks the difficulty bomb is put off, from which block on.
    bomb_delays: Vec<(u64, u64)>,
    /// The total difficulty with which proof of work ends; None where the chain begins after the merge.
    pub terminal_difficulty: Option<U256>,
    blobs: BlobScheduleBlobParams,
    pub deposit_contract: Option<Address>,
    /// Numbers of all forks before the merge, and times of those after it, above genesis (EIP-2124).
    activations: [Vec<u64>; 2],
}

impl Schedule {
    /// Parse geth's `config`. Raises Invalid.
    pub fn parse(config: &ChainConfig) -> Result<Schedule> {
        if let Some(at) = config.amsterdam_time {
            return Err(Error::invalid(format!("genesis: config.amsterdamTime {at}, expected no fork after Osaka")));
        }
        let before_merge = parse_blocks(config)?;
        let terminal_difficulty = config.terminal_total_difficulty.filter(|total| !total.is_zero());
        if terminal_difficulty.is_none() && !before_merge.is_empty() {
            let (fork, at) = before_merge[0];
            return Err(Error::invalid(format!(
                "genesis: {fork:?} and later from block {at} on without config.terminalTotalDifficulty, expected it to be above 0"
            )));
        }
        Ok(Schedule {
            before_merge: if terminal_difficulty.is_some() { before_merge } else { Vec::new() },
            forks: parse_times(config)?,
            bomb_delays: [
                (config.byzantium_block, 3_000_000),
                (config.constantinople_block, 5_000_000),
                (config.muir_glacier_block, 9_000_000),
                (config.london_block, 9_700_000),
                (config.arrow_glacier_block, 10_700_000),
                (config.gray_glacier_block, 11_400_000),
            ]
            .into_iter()
            .filter_map(|(block, delay)| block.map(|block| (block, delay)))
            .collect(),
            terminal_difficulty,
            blobs: config.blob_schedule_blob_params(),
            deposit_contract: config.deposit_contract_address,
            activations: list_activations(config),
        })
    }

    /// eth_config (EIP-7910): the rules that hold at a time, and those that are scheduled next and last.
    pub fn describe(&self, chain_id: u64, genesis: B256, now: u64) -> Value {
        let mut times: Vec<u64> = self.forks.iter().map(|(_, at)| *at).collect();
        times.extend(self.blobs.scheduled.iter().map(|(at, _)| *at));
        times.sort_unstable();
        times.dedup();
        let current = times.iter().rev().find(|at| **at <= now).copied().unwrap_or_default();
        let next = times.iter().find(|at| **at > now);
        let last = next.and(times.last());
        let at = |time: u64| self.describe_at(chain_id, genesis, time);
        json!({"current": at(current), "next": next.map(|time| at(*time)), "last": last.map(|time| at(*time))})
    }

    fn describe_at(&self, chain_id: u64, genesis: B256, time: u64) -> Value {
        let (fork, blobs) = (self.fork_at(time), self.blobs_at(time));
        let named = |from: Fork, names: &[(&str, Address)]| -> Vec<(String, Value)> {
            let held = names.iter().filter(|_| fork >= from);
            held.map(|(name, address)| ((*name).to_owned(), json!(address))).collect()
        };
        let numbered = |from: Fork, first: u64, names: &[&str]| -> Vec<(String, Value)> {
            let held = names.iter().zip(first..).filter(|_| fork >= from);
            held.map(|(name, number)| ((*name).to_owned(), json!(precompile(number)))).collect()
        };
        let mut precompiles = numbered(Fork::Frontier, 1, &PRECOMPILES);
        precompiles.extend(numbered(Fork::Cancun, 10, &["KZG_POINT_EVALUATION"]));
        precompiles.extend(numbered(Fork::Prague, 11, &PRECOMPILES_OF_PRAGUE));
        precompiles.extend(numbered(Fork::Osaka, 0x100, &["P256VERIFY"]));
        let mut contracts = named(Fork::Cancun, &[("BEACON_ROOTS_ADDRESS", BEACON_ROOTS_ADDRESS)]);
        contracts.extend(named(
            Fork::Prague,
            &[
                ("CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS", CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS),
                ("HISTORY_STORAGE_ADDRESS", HISTORY_STORAGE_ADDRESS),
                ("WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS", WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS),
            ],
        ));
        if let Some(contract) = self.deposit_contract {
            contracts.extend(named(Fork::Prague, &[("DEPOSIT_CONTRACT_ADDRESS", contract)]));
        }
        let mut fork_hash = ForkHash::from(genesis);
        let [blocks, times] = &self.activations;
        blocks.iter().chain(times.iter().filter(|at| **at <= time)).for_each(|at| fork_hash += *at);
        let schedule = json!({
            "target": blobs.target_blob_count,
            "max": blobs.max_blob_count,
            "baseFeeUpdateFraction": blobs.update_fraction as u64,
        });
        json!({
            "activationTime": time,
            "blobSchedule": (fork >= Fork::Cancun).then_some(schedule),
            "chainId": U64::from(chain_id),
            "forkId": hex::encode_prefixed(fork_hash.0),
            "precompiles": Value::Object(precompiles.into_iter().collect()),
            "systemContracts": Value::Object(contracts.into_iter().collect()),
        })
    }

    /// The rules after the merge of a block with this timestamp (seconds).
    pub fn fork_at(&self, timestamp: u64) -> Fork {
        self.forks.iter().rev().find(|(_, from)| *from <= timestamp).map_or(Fork::Paris, |(fork, _)| *fork)
    }

    /// The rules before the merge of a block with this number.
    pub fn fork_before_merge(&self, number: u64) -> Fork {
        self.before_merge.iter().rev().find(|(_, from)| *from <= number).map_or(Fork::Frontier, |(fork, _)| *fork)
    }

    /// The rules of a block: one with a difficulty is of before the merge.
    pub fn fork_of(&self, header: &Header) -> Fork {
        if header.difficulty.is_zero() { self.fork_at(header.timestamp) } else { self.fork_before_merge(header.number) }
    }

    /// Blob limits and prices of a block with this timestamp (seconds).
    pub fn blobs_at(&self, timestamp: u64) -> BlobParams {
        let scheduled = self.blobs.active_scheduled_params_at_timestamp(timestamp);
        *scheduled.unwrap_or(match self.fork_at(timestamp) {
            Fork::Osaka => self.blobs.osaka(),
            Fork::Prague => self.blobs.prague(),
            _ => self.blobs.cancun(),
        })
    }

    /// EIP-4844 and EIP-7918: the excess of a block after `parent`.
    pub fn next_excess_blob_gas(&self, timestamp: u64, parent: &Header) -> u64 {
        self.blobs_at(timestamp).next_block_excess_blob_gas_osaka(
            parent.excess_blob_gas.unwrap_or_default(),
            parent.blob_gas_used.unwrap_or_default(),
            parent.base_fee_per_gas.unwrap_or_default(),
        )
    }

    /// By how many blocks the difficulty bomb is put off at a block.
    pub fn bomb_delay(&self, number: u64) -> u64 {
        self.bomb_delays.iter().rev().find(|(from, _)| *from <= number).map_or(0, |(_, delay)| *delay)
    }
}

const PRECOMPILES: [&str; 9] =
    ["ECREC", "SHA256", "RIPEMD160", "ID", "MODEXP", "BN254_ADD", "BN254_MUL", "BN254_PAIRING", "BLAKE2F"];
const PRECOMPILES_OF_PRAGUE: [&str; 7] = [
    "BLS12_G1ADD",
    "BLS12_G1MSM",
    "BLS12_G2ADD",
    "BLS12_G2MSM",
    "BLS12_PAIRING_CHECK",
    "BLS12_MAP_FP_TO_G1",
    "BLS12_MAP_FP2_TO_G2",
];

fn precompile(number: u64) -> Address {
    Address::left_padding_from(&number.to_be_bytes())
}

/// Numbers of forks before the merge and times of those after it, ascending, each once, without those of genesis.
fn list_activations(config: &ChainConfig) -> [Vec<u64>; 2] {
    let sorted = |mut list: Vec<u64>| {
        list.retain(|at| *at > 0);
        list.sort_unstable();
        list.dedup();
        list
    };
    let blocks = [
        config.homestead_block,
        config.dao_fork_block,
        config.eip150_block,
        config.eip155_block,
        config.eip158_block,
        config.byzantium_block,
        config.constantinople_block,
        config.petersburg_block,
        config.istanbul_block,
        config.muir_glacier_block,
        config.berlin_block,
        config.london_block,
        config.arrow_glacier_block,
        config.gray_glacier_block,
        config.merge_netsplit_block,
    ];
    let times = [
        config.shanghai_time,
        config.cancun_time,
        config.prague_time,
        config.osaka_time,
        config.bpo1_time,
        config.bpo2_time,
        config.bpo3_time,
        config.bpo4_time,
        config.bpo5_time,
    ];
    [sorted(blocks.into_iter().flatten().collect()), sorted(times.into_iter().flatten().collect())]
}

/// Forks before the merge by block number; empty where all hold from the start.
fn parse_blocks(config: &ChainConfig) -> Result<Vec<(Fork, u64)>> {
    if config.dao_fork_block.is_some_and(|at| at != 0) && config.dao_fork_support {
        return Err(Error::invalid(
            "genesis: config.daoForkSupport, expected no chain that moved the balances of the DAO",
        ));
    }
    let named = [
        (Fork::Homestead, config.homestead_block),
        (Fork::Tangerine, config.eip150_block),
        (Fork::SpuriousDragon, config.eip155_block.max(config.eip158_block)),
        (Fork::Byzantium, config.byzantium_block),
        (Fork::Constantinople, config.constantinople_block),
        (Fork::Petersburg, config.petersburg_block),
        (Fork::Istanbul, config.istanbul_block),
        (Fork::Berlin, config.berlin_block),
        (Fork::London, config.london_block),
    ];
    let mut blocks: Vec<(Fork, u64)> = Vec::new();
    for (fork, at) in named {
        let Some(at) = at else { continue };
        if let Some((before, from)) = blocks.last().filter(|(_, from)| *from > at) {
            return Err(Error::invalid(format!(
                "genesis: {fork:?} at block {at}, expected after {before:?} at {from}"
            )));
        }
        blocks.push((fork, at));
    }
    let later = [config.muir_glacier_block, config.arrow_glacier_block, config.gray_glacier_block];
    let all_at_once = blocks.iter().map(|(_, at)| *at).chain(later.into_iter().flatten()).all(|at| at == 0);
    Ok(if all_at_once && config.terminal_total_difficulty.is_none_or(|total| total.is_zero()) {
        Vec::new()
    } else {
        blocks
    })
}

/// Forks after the merge by time. When the file names none, all up to Osaka hold from the start.
fn parse_times(config: &ChainConfig) -> Result<Vec<(Fork, u64)>> {
    let named = [
        (Fork::Shanghai, config.shanghai_time),
        (Fork::Cancun, config.cancun_time),
        (Fork::Prague, config.prague_time),
        (Fork::Osaka, config.osaka_time),
    ];
    if named.iter().all(|(_, at)| at.is_none()) {
        return Ok(named.map(|(fork, _)| (fork, 0)).to_vec());
    }
    let mut forks: Vec<(Fork, u64)> = Vec::new();
    for (index, (fork, at)) in named.into_iter().enumerate() {
        let Some(at) = at else { continue };
        if forks.len() != index || forks.last().is_some_and(|(_, before)| *before > at) {
            return Err(Error::invalid(format!(
                "genesis: {fork:?} at {at}, expected after every older fork, none of them absent"
            )));
        }
        forks.push((fork, at));
    }
    Ok(forks)
}
