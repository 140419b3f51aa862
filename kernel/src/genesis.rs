//! Genesis files: geth's JSON with `config.quorate` = {engine, gas, validators} inside.

use crate::errors::{Error, Result};
use crate::types::StateChanges;
use alloy_consensus::Header;
use alloy_primitives::Address;

/// How transactions pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gas {
    /// EIP-1559.
    Fees,
    /// The base fee is always zero and zero prices are admitted; gas limits still hold.
    Free,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validator {
    pub address: Address,
    pub power: u64,
}

/// What holds for every block of a chain.
#[derive(Debug, Clone)]
pub struct ChainSpec {
    pub chain_id: u64,
    pub engine: String,
    pub gas: Gas,
    /// As the genesis names them; the ledger's own contract holds later ones.
    pub validators: Vec<Validator>,
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
pub fn parse(_json: &[u8]) -> Result<Genesis> {
    Err(Error::unavailable("genesis: not parsed yet"))
}
