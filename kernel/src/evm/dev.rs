//! Execution of what networks for development add to a block: commands, which come first, and the clock.

use super::{Executor, Opened, next_base_fee};
use crate::dev::{Clock, Command, DEV, MAX_MINED, MAX_TIME, REFUSED, Reverted, is_command, kept_accounts};
use crate::errors::Result;
use crate::genesis::{ChainSpec, Fork, Gas};
use crate::state::Root;
use crate::transaction::{Refusal, Transaction};
use crate::types::{Account, Included, Rebase, StateRead};
use alloy_consensus::{Header, Receipt, ReceiptEnvelope, ReceiptWithBloom, Transaction as _};
use alloy_primitives::{Address, B256, Bloom, Bytes, Log, U256};
use revm::Database;
use revm::context::ContextTr;
use std::sync::Arc;

/// A block below the one that is executed, with the state after it.
pub struct Ancestor {
    pub header: Header,
    pub root: Root,
    pub state: Arc<dyn StateRead>,
}

/// The ancestor at a height, the parent's among them.
pub type Ancestors<'a> = dyn Fn(u64) -> Result<Option<Ancestor>> + 'a;

/// What is known of a block before its first transaction.
pub struct Opening {
    pub timestamp: u64,
    pub base_fee: u64,
    pub gas_limit: u64,
    /// As the header shall tell it, before commands change it.
    pub clock: Clock,
    /// What was agreed on, in seconds.
    seconds: u64,
    /// The height whose state the block goes back to.
    back_to: Option<u64>,
}

impl Opening {
    /// Of a block on a chain that is not for development.
    pub fn usual(spec: &ChainSpec, parent: &Header, seconds: u64) -> Opening {
        let (base_fee, gas_limit) = (next_base_fee(spec, parent), parent.gas_limit);
        Opening { timestamp: seconds, base_fee, gas_limit, clock: Clock::default(), seconds, back_to: None }
    }

    /// Of a block that is run again.
    pub fn again(header: &Header) -> Opening {
        Opening {
            timestamp: header.timestamp,
            base_fee: header.base_fee_per_gas.unwrap_or_default(),
            gas_limit: header.gas_limit,
            clock: Clock::default(),
            seconds: header.timestamp,
            back_to: None,
        }
    }

    /// Put commands before transactions, and find where and when the block begins.
    ///
    /// A block with nothing but commands takes no time and leaves the price of gas, as if it were not there, unless it was
    /// asked for (`mine`).
    pub fn of(
        spec: &ChainSpec,
        state: &dyn StateRead,
        parent: &Header,
        seconds: u64,
        opened: &mut [Opened],
        ancestors: &Ancestors<'_>,
    ) -> Result<(Opening, Option<Ancestor>)> {
        if !spec.dev {
            return Ok((Opening::usual(spec, parent, seconds), None));
        }
        let command = |item: &Opened| item.as_ref().ok().filter(|tx| is_command(tx)).map(|tx| Command::of(spec, tx));
        opened.sort_by_key(|item| command(item).is_none());
        let mut opening = Opening { clock: Clock::after(spec, parent), ..Opening::usual(spec, parent, seconds) };
        if let Some(Ok(tx)) = opened.first()
            && is_command(tx)
            && let Ok(Command::RevertTo { height }) = Command::of(spec, tx)
            && state.account(&DEV)?.map_or(0, |account| account.nonce) == tx.envelope.nonce()
            && height <= parent.number
            && !Reverted::read(state)?.holds(height)?
            && let Some(ancestor) = ancestors(height)?
        {
            opening.go_back(spec, &ancestor.header);
            return Ok((opening, Some(ancestor)));
        }
        let is_quiet = opening.clock.left == 0
            && !opened.is_empty()
            && opened.iter().all(|item| command(item).is_some_and(|c| !c.is_ok_and(|c| c.makes_a_block())));
        if is_quiet {
            opening.timestamp = parent.timestamp;
            opening.keep_price(spec, parent);
        } else {
            opening.timestamp = opening.clock.strike(seconds, parent.timestamp);
        }
        Ok((opening, None))
    }

    /// Have the price of the block `like`, and let the next one have the price that followed it.
    fn keep_price(&mut self, spec: &ChainSpec, like: &Header) {
        if spec.gas == Gas::Fees {
            self.base_fee = like.base_fee_per_gas.unwrap_or_default();
            self.clock.next_fee = next_base_fee(spec, like).saturating_add(1);
        }
    }

    fn go_back(&mut self, spec: &ChainSpec, like: &Header) {
        (self.timestamp, self.gas_limit) = (like.timestamp, like.gas_limit);
        // How blocks are asked for is no part of the state.
        let Clock { waits, pace, .. } = self.clock;
        self.clock = Clock { waits, pace, ..Clock::default() };
        self.clock.set(self.seconds, like.timestamp);
        self.keep_price(spec, like);
        self.back_to = Some(like.number);
    }
}

/// An older state, but for a few accounts.
pub struct Rebased<'a> {
    base: &'a dyn StateRead,
    current: &'a dyn StateRead,
    root: Root,
    /// Sorted.
    kept: Vec<Address>,
}

impl<'a> Rebased<'a> {
    pub fn new(ancestor: &'a Ancestor, current: &'a dyn StateRead, fork: Fork) -> Rebased<'a> {
        Rebased { base: &*ancestor.state, current, root: ancestor.root, kept: kept_accounts(fork) }
    }

    pub fn into_base(self) -> Rebase {
        Rebase { root: self.root, kept: self.kept }
    }

    fn of(&self, address: &Address) -> &dyn StateRead {
        if self.kept.binary_search(address).is_ok() { self.current } else { self.base }
    }
}

impl StateRead for Rebased<'_> {
    fn account(&self, address: &Address) -> Result<Option<Account>> {
        self.of(address).account(address)
    }

    fn storage(&self, address: &Address, slot: &U256) -> Result<U256> {
        self.of(address).storage(address, slot)
    }

    /// Codes are never forgotten.
    fn code(&self, code_hash: &B256) -> Result<Bytes> {
        self.current.code(code_hash)
    }

    fn block_hash(&self, number: u64) -> Result<B256> {
        self.current.block_hash(number)
    }
}

impl Executor<'_> {
    /// `apply` to what may be a command; `index` is its place in the block.
    pub fn apply_any(
        &mut self,
        spec: &ChainSpec,
        opening: &mut Opening,
        tx: &Transaction,
        index: usize,
    ) -> Result<std::result::Result<Included, Refusal>> {
        if spec.dev && is_command(tx) { self.command(spec, opening, tx, index == 0) } else { self.apply(tx) }
    }

    /// Let a command take effect, or say why it has no place here. One that is in its place and cannot take effect is
    /// included all the same, with what was wrong as a log.
    fn command(
        &mut self,
        spec: &ChainSpec,
        opening: &mut Opening,
        tx: &Transaction,
        is_first: bool,
    ) -> Result<std::result::Result<Included, Refusal>> {
        let nonce = self.evm.ctx.db_mut().basic(DEV)?.map_or(0, |info| info.nonce);
        let own = tx.envelope.nonce();
        if own != nonce {
            let what = if own < nonce { "low" } else { "high" };
            return Ok(Err(format!("nonce too {what}: address {DEV}, tx: {own} state: {nonce}")));
        }
        let command = match Command::of(spec, tx) {
            Ok(command) => command,
            Err(reason) => return Ok(Err(reason)),
        };
        let done = match command {
            Command::RevertTo { height } => self.note_revert(opening, height, is_first)?,
            Command::SetBalance { .. }
            | Command::SetNonce { .. }
            | Command::SetCode { .. }
            | Command::SetStorageAt { .. } => self.change_account(command)?,
            _ => self.change_chain(opening, &command),
        };
        self.evm.ctx.db_mut().override_account(DEV, |info| info.nonce = nonce + 1)?;
        Ok(Ok(self.include_command(tx, done)))
    }

    fn change_account(&mut self, command: Command) -> Result<std::result::Result<(), Refusal>> {
        let overlay = self.evm.ctx.db_mut();
        match command {
            Command::SetBalance { account, balance } => {
                overlay.override_account(account, |info| info.balance = balance)?;
            }
            Command::SetNonce { account, nonce } => overlay.override_account(account, |info| info.nonce = nonce)?,
            Command::SetCode { account, code } => overlay.set_code(account, code)?,
            Command::SetStorageAt { account, slot, value } => {
                let info = overlay.basic(account)?.unwrap_or_default();
                if info.nonce == 0 && info.is_empty_code_hash() {
                    return Ok(Err(format!(
                        "account {account} has neither code nor nonce, and cannot have storage (EIP-7610); set one first"
                    )));
                }
                overlay.override_storage(account, false, std::iter::once((slot, value)))?;
            }
            _ => {}
        }
        Ok(Ok(()))
    }

    fn change_chain(&mut self, opening: &mut Opening, command: &Command) -> std::result::Result<(), Refusal> {
        let Opening { clock, seconds, .. } = opening;
        match *command {
            Command::IncreaseTime { seconds: more } => {
                let offset = clock.offset.saturating_add_unsigned(more);
                if seconds.saturating_add_signed(offset) > MAX_TIME {
                    return Err(format!("time {offset} s ahead, expected at most {MAX_TIME} since 1970"));
                }
                clock.offset = offset;
            }
            Command::SetTime { timestamp } | Command::SetNextBlockTimestamp { timestamp } => {
                if timestamp <= self.block.timestamp {
                    return Err(format!(
                        "Timestamp {timestamp} is lower than or equal to previous block's timestamp {}",
                        self.block.timestamp
                    ));
                }
                match command {
                    Command::SetTime { .. } => clock.set(*seconds, timestamp),
                    _ => clock.next_time = timestamp,
                }
            }
            Command::SetNextBlockBaseFeePerGas { fee } => clock.next_fee = fee.saturating_add(1),
            Command::SetBlockGasLimit { gas_limit } => {
                self.block.gas_limit = gas_limit;
                self.evm.ctx.block.gas_limit = gas_limit;
            }
            Command::Mine { blocks, interval } => {
                let left = u64::from(clock.left) + blocks - 1;
                if left >= MAX_MINED {
                    return Err(format!("{left} blocks are to be made, expected fewer than {MAX_MINED}"));
                }
                (clock.left, clock.interval) = (left as u16, if left > 0 { interval } else { 0 });
            }
            Command::SetMining { waits, pace } => (clock.waits, clock.pace) = (waits, pace),
            _ => {}
        }
        Ok(())
    }

    /// Write down which heights are undone; the state itself was chosen before the block began.
    fn note_revert(
        &mut self,
        opening: &Opening,
        height: u64,
        is_first: bool,
    ) -> Result<std::result::Result<(), Refusal>> {
        if !is_first || opening.back_to != Some(height) {
            return Ok(Err(match is_first {
                true => format!("height {height}: not in this chain, or undone by a revert"),
                false => "a revert has to come first in its block".into(),
            }));
        }
        let number = self.block.number;
        let spans = {
            let reverted = Reverted::read(self.evm.ctx.db_mut().state())?;
            let mut count = reverted.count();
            while count > 0 && reverted.span(count)?.0 >= height {
                count -= 1;
            }
            (reverted.count(), count)
        };
        let mut slots: Vec<(U256, U256)> = (spans.1 + 1..=spans.0).map(|n| (U256::from(n), U256::ZERO)).collect();
        let mut count = spans.1;
        if height + 1 < number {
            count += 1;
            slots.push((U256::from(count), Reverted::pack(height, number)));
        }
        slots.push((U256::ZERO, U256::from(count)));
        self.evm.ctx.db_mut().override_storage(DEV, false, slots.into_iter())?;
        Ok(Ok(()))
    }

    fn include_command(&self, tx: &Transaction, done: std::result::Result<(), Refusal>) -> Included {
        let logs = match &done {
            Ok(()) => Vec::new(),
            Err(reason) => vec![Log::new_unchecked(DEV, vec![*REFUSED], encode_text(reason))],
        };
        let receipt = Receipt { status: done.is_ok().into(), cumulative_gas_used: self.gas_used, logs };
        Included {
            hash: tx.hash,
            sender: DEV,
            raw: tx.raw.clone(),
            receipt: ReceiptEnvelope::Eip1559(ReceiptWithBloom { receipt, logs_bloom: Bloom::ZERO }),
            gas_used: 0,
            effective_gas_price: 0,
            created: None,
        }
    }
}

/// A string as the ABI has it.
fn encode_text(text: &str) -> Bytes {
    let mut data = U256::from(32).to_be_bytes::<32>().to_vec();
    data.extend_from_slice(&U256::from(text.len()).to_be_bytes::<32>());
    data.extend_from_slice(text.as_bytes());
    data.resize(64 + text.len().next_multiple_of(32), 0);
    data.into()
}
