//! What the modules of the kernel pass to each other.

use crate::errors::Result;
use alloy_consensus::{Header, ReceiptEnvelope};
use alloy_primitives::{Address, B256, Bytes, U256};

/// An account as execution sees it; its storage root belongs to the trie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub nonce: u64,
    pub balance: U256,
    pub code_hash: B256,
}

/// State after one block, live or historical.
pub trait StateRead: Send + Sync {
    fn account(&self, address: &Address) -> Result<Option<Account>>;
    fn storage(&self, address: &Address, slot: &U256) -> Result<U256>;
    fn code(&self, code_hash: &B256) -> Result<Bytes>;
    /// The hash of an ancestor block by number (BLOCKHASH); zero where unknown.
    fn block_hash(&self, number: u64) -> Result<B256>;
}

/// What one account became. `account: None` removes it with all its storage.
#[derive(Debug, Clone)]
pub struct AccountChange {
    pub address: Address,
    pub account: Option<Account>,
    /// The account's old storage is gone before `slots` apply (created anew, or destroyed and recreated).
    pub storage_wiped: bool,
    /// Sorted by slot; zero removes.
    pub slots: Vec<(U256, U256)>,
}

/// The effect of a block on the state: sorted by address, no address twice.
#[derive(Debug, Clone, Default)]
pub struct StateChanges {
    pub accounts: Vec<AccountChange>,
    pub codes: Vec<(B256, Bytes)>,
}

/// One included transaction of an executed block.
#[derive(Debug, Clone)]
pub struct Included {
    pub hash: B256,
    pub sender: Address,
    /// As received (EIP-2718 bytes).
    pub raw: Bytes,
    pub receipt: ReceiptEnvelope,
    pub gas_used: u64,
    pub effective_gas_price: u128,
    /// Address of the contract that it created.
    pub created: Option<Address>,
}

/// What `evm::execute_block` returns; the state root is still missing from `header`.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub header: Header,
    pub timestamp_ms: u64,
    pub included: Vec<Included>,
    /// (transaction hash, conventional error string)
    pub skipped: Vec<(B256, String)>,
    pub changes: StateChanges,
}
