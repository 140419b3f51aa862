//! Which rules of Ethereum hold for which block: forks by number before the merge, by time after it, and the blob schedule.
//!
//! Chains that Quorate agrees on begin after the merge. Older rules are for blocks that are imported (`import.rs`).

use crate::errors::{Error, Result};
use alloy_consensus::Header;
use alloy_eips::eip7840::BlobParams;
use alloy_eips::eip7892::BlobScheduleBlobParams;
use alloy_genesis::ChainConfig;
use alloy_primitives::{Address, U256};
use revm::primitives::hardfork::SpecId;

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
