//! Who takes part in a transaction: sender, recipient, parties of calls inside, what they create.

use crate::errors::{Error, Result};
use crate::evm::build_context;
use crate::evm::tx_env;
use crate::trace::{inspect, open_stored};
use crate::trace_budget::Budget;
use crate::transaction::Transaction;
use crate::types::Stored;
use crate::view::Moment;
use alloy_consensus::Transaction as _;
use alloy_primitives::{Address, U256};
use revm::Inspector;
use revm::context::{ContextTr, JournalTr};
use revm::inspector::JournalExt;
use revm::interpreter::{CallInputs, CallOutcome, CreateInputs, CreateOutcome};
use std::collections::BTreeSet;

/// Who takes part in one transaction.
pub struct Appearances {
    pub sender: Address,
    pub nonce: u64,
    pub addresses: BTreeSet<Address>,
    /// Contracts that are there afterwards, with whoever created each.
    pub created: Vec<(Address, Address)>,
}

/// Looks at who calls whom. Reverted calls count, what they created does not.
#[derive(Default)]
struct Recorder {
    addresses: BTreeSet<Address>,
    created: Vec<(Address, Address)>,
    /// How many there were when each frame that still runs began.
    frames: Vec<usize>,
}

impl Recorder {
    fn end(&mut self, success: bool) {
        if let Some(before) = self.frames.pop()
            && !success
        {
            self.created.truncate(before);
        }
    }
}

/// Precompiles would be in nearly every transaction.
fn is_precompile(address: &Address) -> bool {
    address.0[..18].iter().all(|byte| *byte == 0)
}

impl<CTX: ContextTr<Journal: JournalExt>> Inspector<CTX> for Recorder {
    fn call(&mut self, _: &mut CTX, inputs: &mut CallInputs) -> Option<CallOutcome> {
        let is_inner = !self.frames.is_empty();
        self.frames.push(self.created.len());
        for address in [inputs.caller, inputs.target_address, inputs.bytecode_address] {
            if !(is_inner && is_precompile(&address)) {
                self.addresses.insert(address);
            }
        }
        None
    }

    fn call_end(&mut self, _: &mut CTX, _: &CallInputs, outcome: &mut CallOutcome) {
        self.end(outcome.result.result.is_ok());
    }

    fn create(&mut self, context: &mut CTX, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        self.frames.push(self.created.len());
        let nonce = context.journal_mut().load_account(inputs.caller()).map_or(0, |account| account.data.info.nonce);
        self.addresses.insert(inputs.caller());
        self.addresses.insert(inputs.created_address(nonce));
        None
    }

    fn create_end(&mut self, _: &mut CTX, inputs: &CreateInputs, outcome: &mut CreateOutcome) {
        let success = outcome.result.result.is_ok();
        self.end(success);
        if success && let Some(address) = outcome.address {
            self.addresses.insert(address);
            self.created.push((address, inputs.caller()));
        }
    }

    fn selfdestruct(&mut self, contract: Address, target: Address, _: U256) {
        self.addresses.extend([contract, target]);
    }
}

/// What the records of a block say of it: parties of calls inside are not known.
fn read(stored: &Stored, transactions: &[Transaction]) -> Result<Vec<Appearances>> {
    let receipts = crate::codec::decode_receipts(&stored.receipts)?;
    let one = |(transaction, receipt): (&Transaction, &crate::codec::StoredReceipt)| {
        let created = receipt.created.filter(|_| alloy_consensus::TxReceipt::status(&receipt.receipt));
        let parties = [Some(transaction.sender), transaction.envelope.to(), receipt.created];
        Appearances {
            sender: transaction.sender,
            nonce: transaction.envelope.nonce(),
            addresses: parties.into_iter().flatten().collect(),
            created: created.map(|address| (address, transaction.sender)).into_iter().collect(),
        }
    };
    Ok(transactions.iter().zip(&receipts).map(one).collect())
}

impl Moment<'_> {
    /// Who takes part in each transaction of a block, in order. Of one that cannot run again, only who it and its receipt name.
    pub fn appearances(self, stored: &Stored) -> Result<Vec<Appearances>> {
        let transactions = open_stored(stored)?;
        if transactions.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = read(stored, &transactions)?;
        let traced = self.replay(stored, 0, usize::MAX, |replay, index, overlay| {
            let transaction = &replay.transactions[index];
            let context = build_context(&replay.block, overlay, |cfg| cfg.disable_eip3607 = true);
            let (overlay, recorder, done) =
                inspect(context, tx_env(transaction), Recorder::default(), &mut Budget::nothing())?;
            let one = &mut found[index];
            one.addresses.extend(recorder.addresses);
            one.created = recorder.created;
            Ok((overlay, done.state))
        });
        match traced {
            // History that is not kept has a code of its own, and what development networks revert cannot run again.
            Ok(()) | Err(Error::Coded { .. } | Error::Rejected(_)) => Ok(found),
            Err(error) => Err(error),
        }
    }
}
