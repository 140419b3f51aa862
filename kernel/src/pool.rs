//! Transactions that wait for a block. The Python class is in `pool_face.rs`.
//!
//! Each account's transactions are sorted by nonce; those that follow its nonce without a gap and that its balance covers
//! are executable. Error strings are geth's. Everything is bounded: transactions, bytes, transactions of one account.
//! Nothing depends on hash order or time, so that a simulated node is deterministic.

use crate::dev::{Clock, Command, DEV, MAX_COMMANDS, is_command, judge, unsigned_sender};
use crate::errors::{Error, Result};
use crate::evm::next_base_fee;
use crate::genesis::Fork;
use crate::transaction::{self, MAX_BYTES, Refusal, Transaction, compute_cost, effective_price};
use crate::types::{Account, Chain, Executed, StateRead};
use alloy_consensus::{Header, Transaction as _};
use alloy_primitives::map::{B256Map, B256Set};
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256};
use alloy_rlp::Encodable;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

/// What the delegation of an account begins with (EIP-7702).
const DELEGATION: [u8; 3] = [0xef, 0x01, 0x00];
/// The least that a transaction can use.
const LEAST_GAS: u64 = 21_000;
/// A full pool makes room for so many transactions at once, so that a flood does not sort it each time.
const EVICTED_AT_ONCE: usize = 64;

pub struct Settings {
    pub max_transactions: usize,
    pub max_bytes: usize,
    pub account_slots: usize,
    pub price_bump_percent: u64,
    pub min_tip: u128,
    pub allow_unprotected: bool,
}

struct Waiting {
    tx: Transaction,
    cost: U256,
    arrival: u64,
}

/// The transactions of one account.
struct Queue {
    nonce: u64,
    balance: U256,
    waiting: BTreeMap<u64, Waiting>,
    executable: usize,
}

impl Queue {
    /// How many follow the account's nonce without a gap.
    fn contiguous(&self) -> usize {
        (self.nonce..).zip(self.waiting.keys()).take_while(|(expected, nonce)| expected == *nonce).count()
    }

    /// Of those, how many the balance covers.
    fn count_executable(&self) -> usize {
        let mut left = self.balance;
        let covered = self.waiting.values().take(self.contiguous()).take_while(|waiting| {
            let (rest, is_short) = left.overflowing_sub(waiting.cost);
            left = rest;
            !is_short
        });
        covered.count()
    }
}

struct Inner {
    head: B256,
    header: Header,
    state: Arc<dyn StateRead>,
    base_fee: u64,
    fork: Fork,
    accounts: BTreeMap<Address, Queue>,
    places: B256Map<(Address, u64)>,
    /// Accounts whose first transaction would be taken now.
    ready: BTreeSet<Address>,
    executable: usize,
    bytes: usize,
    arrivals: u64,
}

/// Nonce and balance of an account at some block.
type ReadAccount<'a> = dyn Fn(&Address, &Queue) -> Result<(u64, U256)> + 'a;

/// (hash, why it left)
pub type Dropped = Vec<(B256, Refusal)>;

pub struct Waiters {
    chain: Arc<dyn Chain>,
    settings: Settings,
    inner: Mutex<Inner>,
}

impl Waiters {
    /// An empty pool over the last final block.
    pub fn new(chain: Arc<dyn Chain>, settings: Settings) -> Result<Waiters> {
        let head = chain.final_hash();
        let executed = executed(&*chain, &head)?;
        let inner = Inner {
            state: chain.state(&head)?,
            base_fee: next_base_fee(chain.spec(), &executed.header),
            fork: chain.spec().fork_at(executed.header.timestamp),
            header: executed.header.clone(),
            head,
            accounts: BTreeMap::new(),
            places: B256Map::default(),
            ready: BTreeSet::new(),
            executable: 0,
            bytes: 0,
            arrivals: 0,
        };
        Ok(Waiters { chain, settings, inner: Mutex::new(inner) })
    }

    /// Decode, recover, check and admit each; (hash, None or why not), in order.
    pub fn add(&self, raws: &[Bytes]) -> Result<Vec<(B256, Option<Refusal>)>> {
        let small: Vec<Bytes> = raws.iter().filter(|raw| raw.len() <= MAX_BYTES).cloned().collect();
        let mut opened = self.chain.senders().open_all(&small).into_iter();
        let mut inner = self.inner.lock();
        let mut answers = Vec::with_capacity(raws.len());
        for raw in raws {
            let next = if raw.len() <= MAX_BYTES { opened.next() } else { None };
            let answer = match next {
                None => {
                    let reason = format!("oversized data: transaction size {}, limit {MAX_BYTES}", raw.len());
                    (alloy_primitives::keccak256(raw), Some(reason))
                }
                Some(Err((hash, reason))) => (hash, Some(reason)),
                Some(Ok(tx)) => (tx.hash, inner.admit(&*self.chain, &self.settings, tx)?.err()),
            };
            answers.push(answer);
        }
        Ok(answers)
    }

    /// The raw transactions of a payload body: the best over `parent`.
    pub fn take(&self, parent: &B256, max_bytes: usize, max_gas: u64) -> Result<Vec<Bytes>> {
        let inner = self.inner.lock();
        let spec = self.chain.spec();
        if inner.head == *parent {
            let account = |_: &Address, queue: &Queue| Ok((queue.nonce, queue.balance));
            let clock = Clock::after(spec, &inner.header);
            return inner.take(inner.base_fee, clock, max_bytes, max_gas, &account);
        }
        let state = self.chain.state(parent)?;
        let over = executed(&*self.chain, parent)?;
        let (base_fee, clock) = (next_base_fee(spec, &over.header), Clock::after(spec, &over.header));
        let account = |address: &Address, _: &Queue| {
            Ok(state.account(address)?.map_or((0, U256::ZERO), |account| (account.nonce, account.balance)))
        };
        inner.take(base_fee, clock, max_bytes, max_gas, &account)
    }

    /// Follow an executed block; what fell out, and why.
    pub fn settle(&self, block: &B256) -> Result<Dropped> {
        let executed = executed(&*self.chain, block)?;
        let state = self.chain.state(block)?;
        let mut inner = self.inner.lock();
        let is_next = executed.header.parent_hash == inner.head;
        inner.move_to(&*self.chain, &executed, state);
        let included: B256Set = executed.included.iter().map(|item| item.hash).collect();
        if is_next && !executed.is_rebased {
            for (address, nonce, balance) in &executed.changed {
                if let Some(queue) = inner.accounts.get_mut(address) {
                    (queue.nonce, queue.balance) = (*nonce, *balance);
                }
            }
        } else {
            inner.reread_accounts()?;
        }
        let mut dropped = Dropped::new();
        for (hash, reason) in &executed.skipped {
            if !may_apply_later(reason) && inner.places.contains_key(hash) {
                inner.remove(hash);
                dropped.push((*hash, reason.clone()));
            }
        }
        for hash in self.ordered_out(&executed) {
            inner.remove(&hash);
        }
        inner.drop_useless(&included, &mut dropped);
        Ok(dropped)
    }

    /// What commands of a block took out of every pool.
    fn ordered_out(&self, block: &Executed) -> Vec<B256> {
        let spec = self.chain.spec();
        if !spec.dev {
            return Vec::new();
        }
        let commands = block.included.iter().filter(|item| item.sender == DEV);
        let opened = commands.filter_map(|item| self.chain.senders().open(item.raw.clone()).ok());
        let dropped = opened.filter_map(|tx| match judge(spec, &tx) {
            Some(Ok(Command::DropTransaction { hash })) => Some(hash),
            _ => None,
        });
        dropped.collect()
    }

    /// Admit again what abandoned blocks held, as far as it may still apply after the latest block; the hashes of what is back.
    pub fn readmit(&self) -> Result<Vec<B256>> {
        let (latest, raws) = self.chain.take_returned();
        if raws.is_empty() {
            return Ok(Vec::new());
        }
        // Judged over a block that was abandoned meanwhile, its own transactions would be refused, and lost.
        let head = self.inner.lock().head;
        if head != latest {
            self.settle(&latest)?;
        }
        let answers = self.add(&raws)?;
        Ok(answers.into_iter().filter(|(_, refusal)| refusal.is_none()).map(|(hash, _)| hash).collect())
    }

    /// Whether a block is to be made: something waits that would be taken, or a command asked for blocks.
    pub fn is_ready(&self) -> bool {
        let inner = self.inner.lock();
        let clock = Clock::after(self.chain.spec(), &inner.header);
        clock.left > 0 || if clock.waits { inner.ready.contains(&DEV) } else { !inner.ready.is_empty() }
    }

    pub fn get(&self, hash: &B256) -> Option<Transaction> {
        let inner = self.inner.lock();
        let (address, nonce) = inner.places.get(hash)?;
        Some(inner.accounts.get(address)?.waiting.get(nonce)?.tx.clone())
    }

    /// Up to `limit` executable ones, account after account.
    pub fn raw(&self, limit: usize) -> Vec<Bytes> {
        let inner = self.inner.lock();
        let executable = |queue: &Queue| -> Vec<Bytes> {
            queue.waiting.values().take(queue.executable).map(|waiting| waiting.tx.raw.clone()).collect()
        };
        inner.accounts.values().flat_map(executable).take(limit).collect()
    }

    /// The next nonce of an account, counting what follows its own without a gap.
    pub fn nonce(&self, account: &Address) -> Result<u64> {
        let inner = self.inner.lock();
        match inner.accounts.get(account) {
            Some(queue) => Ok(queue.nonce + queue.contiguous() as u64),
            None => Ok(inner.state.account(account)?.map_or(0, |account| account.nonce)),
        }
    }

    /// (executable, queued, bytes)
    pub fn counts(&self) -> (usize, usize, usize) {
        let inner = self.inner.lock();
        (inner.executable, inner.places.len() - inner.executable, inner.bytes)
    }

    /// By account and nonce: (is executable, transaction).
    pub fn content(&self, account: Option<&Address>) -> Vec<(bool, Transaction)> {
        let inner = self.inner.lock();
        let mut content = Vec::new();
        for (address, queue) in &inner.accounts {
            if account.is_none_or(|only| only == address) {
                let numbered = queue.waiting.values().enumerate();
                content.extend(numbered.map(|(place, waiting)| (place < queue.executable, waiting.tx.clone())));
            }
        }
        content
    }
}

fn executed(chain: &dyn Chain, block: &B256) -> Result<Arc<Executed>> {
    let found = chain.executed(block)?;
    found.ok_or_else(|| Error::unavailable(format!("block {block}: not executed here, or long ago")))
}

/// Whether a transaction that a block skipped may apply at another place.
fn may_apply_later(reason: &str) -> bool {
    ["nonce too", "insufficient funds", "gas limit reached", "max fee per gas less"]
        .iter()
        .any(|r| reason.starts_with(r))
}

impl Inner {
    fn admit(
        &mut self,
        chain: &dyn Chain,
        settings: &Settings,
        tx: Transaction,
    ) -> Result<std::result::Result<(), Refusal>> {
        if self.places.contains_key(&tx.hash) {
            return Ok(Err("already known".into()));
        }
        let stateless = match judge(chain.spec(), &tx) {
            Some(command) => command.map(|_| ()),
            None => transaction::validate(chain.spec().chain_id, self.fork, &tx.envelope, settings.allow_unprotected)
                .and_then(|()| self.check_price(settings, &tx)),
        };
        if let Err(reason) = stateless {
            return Ok(Err(reason));
        }
        let (nonce, balance) = match self.accounts.get(&tx.sender) {
            Some(queue) => (queue.nonce, queue.balance),
            None => match self.read_sender(&tx)? {
                Ok(known) => known,
                Err(reason) => return Ok(Err(reason)),
            },
        };
        if let Err(reason) = self.check_account(settings, &tx, nonce, balance) {
            return Ok(Err(reason));
        }
        if let Err(reason) = self.make_room(settings, &tx) {
            return Ok(Err(reason));
        }
        self.insert(tx, nonce, balance);
        Ok(Ok(()))
    }

    fn check_price(&self, settings: &Settings, tx: &Transaction) -> std::result::Result<(), Refusal> {
        let limit = tx.envelope.gas_limit();
        if limit > self.header.gas_limit {
            return Err(format!("exceeds block gas limit: gas {limit}, limit {}", self.header.gas_limit));
        }
        let tip = tip_cap(tx);
        if tip < settings.min_tip {
            return Err(format!("transaction underpriced: gas tip cap {tip}, minimum needed {}", settings.min_tip));
        }
        Ok(())
    }

    /// Nonce and balance of an account that has no queue; its code must be none, or a delegation (EIP-3607, EIP-7702).
    fn read_sender(&self, tx: &Transaction) -> Result<std::result::Result<(u64, U256), Refusal>> {
        let sender = &tx.sender;
        let Some(Account { nonce, balance, code_hash }) = self.state.account(sender)? else {
            return Ok(Ok((0, U256::ZERO)));
        };
        let is_unsigned = unsigned_sender(&tx.envelope) == Some(*sender);
        if !is_unsigned && code_hash != KECCAK256_EMPTY && !self.state.code(&code_hash)?.starts_with(&DELEGATION) {
            return Ok(Err(format!("sender not an eoa: address {sender}, codehash: {code_hash}")));
        }
        Ok(Ok((nonce, balance)))
    }

    fn check_account(
        &self,
        settings: &Settings,
        tx: &Transaction,
        nonce: u64,
        balance: U256,
    ) -> std::result::Result<(), Refusal> {
        let own = tx.envelope.nonce();
        if own < nonce {
            return Err(format!("nonce too low: next nonce {nonce}, tx nonce {own}"));
        }
        let cost = compute_cost(&tx.envelope);
        let short = "insufficient funds for gas * price + value";
        if cost > balance {
            return Err(format!("{short}: balance {balance}, tx cost {cost}, overshot {}", cost - balance));
        }
        let Some(queue) = self.accounts.get(&tx.sender) else { return Ok(()) };
        let replaced = queue.waiting.get(&own);
        if let Some(replaced) = replaced {
            check_bump(settings.price_bump_percent, &replaced.tx, tx)?;
        } else if queue.waiting.len() >= settings.account_slots {
            return Err(format!(
                "account limit exceeded: {} waiting, limit {}",
                queue.waiting.len(),
                settings.account_slots
            ));
        }
        let others = queue.waiting.values().fold(U256::ZERO, |sum, waiting| sum.saturating_add(waiting.cost));
        let others = others.saturating_sub(replaced.map_or(U256::ZERO, |waiting| waiting.cost));
        if others.saturating_add(cost) > balance {
            let overshot = others.saturating_add(cost) - balance;
            return Err(format!(
                "{short}: balance {balance}, queued cost {others}, tx cost {cost}, overshot {overshot}"
            ));
        }
        Ok(())
    }

    /// Let the worst go where the pool is full; refuse `tx` if it is itself one of them.
    fn make_room(&mut self, settings: &Settings, tx: &Transaction) -> std::result::Result<(), Refusal> {
        let is_full = |inner: &Inner| {
            inner.places.len() >= settings.max_transactions || inner.bytes + tx.raw.len() > settings.max_bytes
        };
        if !is_full(self) {
            return Ok(());
        }
        // Only an account's last transaction can go without leaving a gap: the queued first, then the cheapest.
        let mut tails: Vec<(bool, u128, Reverse<u64>, B256)> = Vec::new();
        for queue in self.accounts.values() {
            if let Some((place, last)) = queue.waiting.values().enumerate().next_back() {
                let is_executable = place < queue.executable;
                tails.push((is_executable, self.price(&last.tx), Reverse(last.arrival), last.tx.hash));
            }
        }
        tails.sort_unstable();
        let price = self.price(tx);
        let worse = tails.iter().take_while(|(is_executable, tail, _, _)| !is_executable || *tail < price);
        let victims: Vec<B256> = worse.take(EVICTED_AT_ONCE).map(|(_, _, _, hash)| *hash).collect();
        for hash in victims {
            if self.get(&hash).is_some_and(|victim| victim.sender != tx.sender) {
                self.remove(&hash);
            }
        }
        if is_full(self) { Err("txpool is full".into()) } else { Ok(()) }
    }

    fn get(&self, hash: &B256) -> Option<&Transaction> {
        let (address, nonce) = self.places.get(hash)?;
        Some(&self.accounts.get(address)?.waiting.get(nonce)?.tx)
    }

    /// What a proposer gets per gas, now; below zero counts as zero.
    fn price(&self, tx: &Transaction) -> u128 {
        if is_command(tx) {
            return u128::MAX;
        }
        effective_price(&tx.envelope, self.base_fee).saturating_sub(u128::from(self.base_fee))
    }

    fn insert(&mut self, tx: Transaction, nonce: u64, balance: U256) {
        let (sender, own, hash) = (tx.sender, tx.envelope.nonce(), tx.hash);
        self.arrivals += 1;
        self.bytes += tx.raw.len();
        self.places.insert(hash, (sender, own));
        let new = || Queue { nonce, balance, waiting: BTreeMap::new(), executable: 0 };
        let queue = self.accounts.entry(sender).or_insert_with(new);
        let waiting = Waiting { cost: compute_cost(&tx.envelope), tx, arrival: self.arrivals };
        if let Some(replaced) = queue.waiting.insert(own, waiting) {
            self.bytes -= replaced.tx.raw.len();
            self.places.remove(&replaced.tx.hash);
        }
        self.recount(&sender);
    }

    fn remove(&mut self, hash: &B256) {
        let Some((sender, nonce)) = self.places.remove(hash) else { return };
        let Some(queue) = self.accounts.get_mut(&sender) else { return };
        if let Some(gone) = queue.waiting.remove(&nonce) {
            self.bytes -= gone.tx.raw.len();
        }
        self.recount(&sender);
    }

    /// Bring what is counted of an account up to date; an empty queue goes.
    fn recount(&mut self, sender: &Address) {
        let Some(queue) = self.accounts.get_mut(sender) else { return };
        self.executable -= queue.executable;
        queue.executable = queue.count_executable();
        self.executable += queue.executable;
        let first = if queue.executable > 0 { queue.waiting.values().next() } else { None };
        // A limit that was lowered since may have no room for it, and then no block is made for it.
        let limit = self.header.gas_limit;
        let is_ready =
            first.is_some_and(|first| covers(&first.tx, self.base_fee) && first.tx.envelope.gas_limit() <= limit);
        if is_ready {
            self.ready.insert(*sender);
        } else {
            self.ready.remove(sender);
        }
        if queue.waiting.is_empty() {
            self.accounts.remove(sender);
        }
    }

    fn move_to(&mut self, chain: &dyn Chain, block: &Executed, state: Arc<dyn StateRead>) {
        self.head = block.hash;
        self.header = block.header.clone();
        self.state = state;
        self.base_fee = next_base_fee(chain.spec(), &block.header);
        self.fork = chain.spec().fork_at(block.header.timestamp);
    }

    fn reread_accounts(&mut self) -> Result<()> {
        for (address, queue) in &mut self.accounts {
            let account = self.state.account(address)?;
            (queue.nonce, queue.balance) = account.map_or((0, U256::ZERO), |account| (account.nonce, account.balance));
        }
        Ok(())
    }

    /// Remove what can never apply any more; `included` is not worth a word.
    fn drop_useless(&mut self, included: &B256Set, dropped: &mut Dropped) {
        let mut useless = Dropped::new();
        for queue in self.accounts.values() {
            for (nonce, waiting) in &queue.waiting {
                if *nonce < queue.nonce {
                    let reason = format!("nonce too low: next nonce {}, tx nonce {nonce}", queue.nonce);
                    useless.push((waiting.tx.hash, reason));
                } else if waiting.cost > queue.balance {
                    let sender = waiting.tx.sender;
                    useless.push((
                        waiting.tx.hash,
                        transaction::insufficient_funds(&sender, &queue.balance, &waiting.cost),
                    ));
                }
            }
        }
        for (hash, reason) in useless {
            self.remove(&hash);
            if !included.contains(&hash) {
                dropped.push((hash, reason));
            }
        }
        // Nonces, balances and the base fee moved.
        let all: Vec<Address> = self.accounts.keys().copied().collect();
        all.iter().for_each(|sender| self.recount(sender));
    }

    /// Whether only commands go into the next block, since nobody has asked for one with transactions.
    fn holds_back(&self, clock: &Clock, account: &ReadAccount<'_>) -> Result<bool> {
        if !clock.waits || clock.left > 0 {
            return Ok(false);
        }
        let Some(queue) = self.accounts.get(&DEV) else { return Ok(true) };
        let commands = queue.waiting.range(account(&DEV, queue)?.0..).take(MAX_COMMANDS);
        let mut decoded = commands.flat_map(|(_, waiting)| Command::decode(waiting.tx.envelope.input()));
        Ok(!decoded.any(|command| command.makes_a_block()))
    }

    fn take(
        &self,
        base_fee: u64,
        clock: Clock,
        max_bytes: usize,
        max_gas: u64,
        account: &ReadAccount<'_>,
    ) -> Result<Vec<Bytes>> {
        let mut best = BinaryHeap::new();
        let mut left: BTreeMap<Address, U256> = BTreeMap::new();
        let offer = |sender: &Address, waiting: &Waiting| {
            let tip = match is_command(&waiting.tx) {
                true => u128::MAX,
                false => effective_price(&waiting.tx.envelope, base_fee).saturating_sub(u128::from(base_fee)),
            };
            covers(&waiting.tx, base_fee).then_some((
                tip,
                Reverse(waiting.arrival),
                *sender,
                waiting.tx.envelope.nonce(),
            ))
        };
        let held = self.holds_back(&clock, account)?;
        for (sender, queue) in self.accounts.iter().filter(|(sender, _)| !held || **sender == DEV) {
            let (nonce, balance) = account(sender, queue)?;
            if let Some(first) = queue.waiting.get(&nonce) {
                best.extend(offer(sender, first));
                left.insert(*sender, balance);
            }
        }
        // The list's own head takes at most nine bytes.
        let (mut bytes, mut gas) = (max_bytes.saturating_sub(9), max_gas);
        let mut taken = Vec::new();
        let mut commands = 0;
        while let Some((_, _, sender, nonce)) = best.pop() {
            let queue = &self.accounts[&sender];
            let Some(waiting) = queue.waiting.get(&nonce) else { continue };
            let (size, limit) = (waiting.tx.raw.length(), waiting.tx.envelope.gas_limit());
            let balance = left.entry(sender).or_default();
            // What does not fit ends its account's turn, since nonces must follow each other.
            if size > bytes || limit > gas || waiting.cost > *balance {
                if gas < LEAST_GAS {
                    break;
                }
                continue;
            }
            if is_command(&waiting.tx) {
                commands += 1;
                let goes_back = matches!(Command::decode(waiting.tx.envelope.input()), Ok(Command::RevertTo { .. }));
                // Going back to an older state stands alone: what waits was judged over another one.
                match goes_back {
                    true if taken.is_empty() => return Ok(vec![waiting.tx.raw.clone()]),
                    true => continue,
                    false if commands > MAX_COMMANDS => continue,
                    false => {}
                }
            }
            (bytes, gas, *balance) = (bytes - size, gas - limit, *balance - waiting.cost);
            taken.push(waiting.tx.raw.clone());
            if let Some(next) = queue.waiting.get(&(nonce + 1)) {
                best.extend(offer(&sender, next));
            }
        }
        Ok(taken)
    }
}

/// Whether a transaction pays a base fee; a command need not.
fn covers(tx: &Transaction, base_fee: u64) -> bool {
    is_command(tx) || tx.envelope.max_fee_per_gas() >= u128::from(base_fee)
}

fn tip_cap(tx: &Transaction) -> u128 {
    tx.envelope.max_priority_fee_per_gas().unwrap_or_else(|| tx.envelope.max_fee_per_gas())
}

/// A replacement pays more, in both its prices.
fn check_bump(percent: u64, old: &Transaction, new: &Transaction) -> std::result::Result<(), Refusal> {
    let bumped = |price: u128| U256::from(price) * U256::from(100 + percent) / U256::from(100);
    let (old_fee, new_fee) = (old.envelope.max_fee_per_gas(), new.envelope.max_fee_per_gas());
    let (old_tip, new_tip) = (tip_cap(old), tip_cap(new));
    let pays_more = new_fee > old_fee && new_tip > old_tip;
    // Where gas is free there is no price to raise: the newer wish counts.
    let is_free = old_fee == 0 && new_fee == 0;
    if is_free || (pays_more && U256::from(new_fee) >= bumped(old_fee) && U256::from(new_tip) >= bumped(old_tip)) {
        return Ok(());
    }
    Err("replacement transaction underpriced".into())
}
