//! What the modules of the kernel pass to each other.

use crate::errors::Result;
use crate::genesis::ChainSpec;
use crate::import::Extra;
use crate::state::Root;
use crate::transaction::Senders;
use alloy_consensus::{Header, ReceiptEnvelope};
use alloy_primitives::{Address, B256, Bytes, U256};
use std::sync::Arc;

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
    /// Where the changes are not of the parent's state.
    pub base: Option<Rebase>,
}

/// An older state that a block begins from; accounts that are kept come from its parent all the same.
#[derive(Debug, Clone)]
pub struct Rebase {
    pub root: Root,
    /// Sorted.
    pub kept: Vec<Address>,
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
    /// `import::Extra`, encoded; empty where there is nothing in it.
    pub extra: Bytes,
}

/// The block that another one follows.
#[derive(Debug, Clone, Copy)]
pub struct Parent<'a> {
    pub header: &'a Header,
    pub hash: B256,
    pub timestamp_ms: u64,
}

/// An executed block of the ledger's tree, as the pool looks at it.
pub struct Executed {
    pub header: Header,
    pub hash: B256,
    pub timestamp_ms: u64,
    pub included: Vec<Included>,
    pub skipped: Vec<(B256, String)>,
    /// `import::Extra`, encoded; empty where there is nothing in it.
    pub extra: Bytes,
    /// (address, nonce, balance) of every account that the block changed; zeros where it is gone.
    pub changed: Vec<(Address, u64, U256)>,
    /// Whether any account may have changed: the block went back to an older state.
    pub is_rebased: bool,
}

impl Executed {
    /// Split what execution returned: the block, once its header is complete, and the changes of state.
    pub fn new(outcome: Outcome, header: Header, hash: B256) -> (Executed, StateChanges) {
        let fields = |change: &AccountChange| {
            let (nonce, balance) = change.account.as_ref().map_or((0, U256::ZERO), |a| (a.nonce, a.balance));
            (change.address, nonce, balance)
        };
        let executed = Executed {
            header,
            hash,
            timestamp_ms: outcome.timestamp_ms,
            included: outcome.included,
            skipped: outcome.skipped,
            extra: outcome.extra,
            changed: outcome.changes.accounts.iter().map(fields).collect(),
            is_rebased: outcome.changes.base.is_some(),
        };
        (executed, outcome.changes)
    }
}

/// The ledger as the pool sees it. Implemented by what is inside `Ledger` (an `Arc` of it goes to the pool).
pub trait Chain: Send + Sync {
    fn spec(&self) -> &ChainSpec;
    /// The cache that check and execution use as well.
    fn senders(&self) -> &Senders;
    /// The last final block.
    fn final_hash(&self) -> B256;
    /// The latest block, and the raw transactions of blocks that were abandoned since the last call, oldest first.
    fn take_returned(&self) -> (B256, Vec<Bytes>);
    /// An executed block, or None when it is unknown.
    fn executed(&self, block: &B256) -> Result<Option<Arc<Executed>>>;
    /// The state after an executed block.
    fn state(&self, block: &B256) -> Result<Arc<dyn StateRead>>;
}

/// A durable block as it was stored.
pub struct Stored {
    pub header: Header,
    pub hash: B256,
    /// `codec::encode_body`.
    pub body: Bytes,
    /// `codec::encode_receipts`.
    pub receipts: Bytes,
    pub extra: Extra,
}
