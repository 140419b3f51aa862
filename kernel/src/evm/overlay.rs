//! What a block has changed so far, over the state it started from: the database that revm reads and commits to.

use super::meter::Meter;
use crate::errors::{Error, Result};
use crate::types::{Account, AccountChange, StateChanges, StateRead};
use alloy_consensus::constants::KECCAK_EMPTY;
use alloy_primitives::map::{AddressMap, B256Map, Entry, HashMap};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use parking_lot::Mutex;
use rayon::prelude::*;
use revm::bytecode::Bytecode;
use revm::database_interface::DBErrorMarker;
use revm::state::{Account as EvmAccount, AccountInfo, EvmState};
use revm::{Database, DatabaseRef};
use std::sync::LazyLock;

impl DBErrorMarker for Error {}

/// Codes with their jump tables, shared by all blocks and calls: analysis costs as much as a plain transfer.
static ANALYSED: LazyLock<Mutex<[B256Map<Bytecode>; 2]>> = LazyLock::new(Mutex::default);
/// Entries per generation of `ANALYSED`; at 24 KiB each, both together stay below 32 MiB.
const ANALYSED_CODES: usize = 512;

#[derive(Clone, Copy)]
struct Slot {
    before: U256,
    now: U256,
}

struct Cached {
    before: Option<Account>,
    now: Option<AccountInfo>,
    /// Its storage of before the block is gone.
    wiped: bool,
    slots: HashMap<U256, Slot>,
}

impl Cached {
    fn new(before: Option<Account>) -> Cached {
        let now = before.as_ref().map(|account| AccountInfo {
            balance: account.balance,
            nonce: account.nonce,
            code_hash: account.code_hash,
            account_id: None,
            code: (account.code_hash == KECCAK_EMPTY).then(Bytecode::default),
        });
        Cached { before, now, wiped: false, slots: HashMap::default() }
    }

    fn remove(&mut self) {
        self.now = None;
        self.wiped = true;
        self.slots.clear();
    }
}

/// A state with changes on top. Reads are kept, so that nothing is read twice.
pub struct Overlay<'a> {
    state: &'a dyn StateRead,
    accounts: AddressMap<Cached>,
    new_codes: B256Map<Bytes>,
    block_hashes: HashMap<u64, B256>,
    keep_empty: bool,
    /// Slots that were read.
    slots: usize,
    pub meter: Meter,
}

impl<'a> Overlay<'a> {
    pub fn new(state: &'a dyn StateRead) -> Overlay<'a> {
        Overlay {
            state,
            accounts: AddressMap::default(),
            new_codes: B256Map::default(),
            block_hashes: HashMap::default(),
            keep_empty: false,
            slots: 0,
            meter: Meter::default(),
        }
    }

    /// How many accounts and slots are kept.
    pub fn kept(&self) -> usize {
        self.accounts.len() + self.slots
    }

    /// Whether touched accounts without anything in them stay (before EIP-161).
    pub fn keep_empty(&mut self, keep: bool) {
        self.keep_empty = keep;
    }

    /// What BLOCKHASH gives for `number`, whatever the state below says.
    pub fn set_block_hash(&mut self, number: u64, hash: B256) {
        self.block_hashes.insert(number, hash);
    }

    /// Read accounts over all cores, before a loop on one core asks for them.
    pub fn prefetch(&mut self, addresses: &[Address]) -> Result<()> {
        let state = self.state;
        let read: Vec<(Address, Option<Account>)> = addresses
            .par_iter()
            .with_min_len(16)
            .map(|address| Ok((*address, state.account(address)?)))
            .collect::<Result<_>>()?;
        self.accounts.reserve(read.len());
        for (address, account) in read {
            self.accounts.entry(address).or_insert_with(|| Cached::new(account));
        }
        Ok(())
    }

    fn cached(&mut self, address: Address) -> Result<&mut Cached> {
        match self.accounts.entry(address) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(Cached::new(self.state.account(&address)?))),
        }
    }

    pub fn has_code(&mut self, address: Address) -> Result<bool> {
        Ok(self.cached(address)?.now.as_ref().is_some_and(|info| info.code_hash != KECCAK_EMPTY))
    }

    /// Change an account by hand (state overrides of calls).
    pub fn override_account(&mut self, address: Address, change: impl FnOnce(&mut AccountInfo)) -> Result<()> {
        change(self.cached(address)?.now.get_or_insert_default());
        Ok(())
    }

    /// What the changes are on top of.
    pub fn state(&self) -> &'a dyn StateRead {
        self.state
    }

    /// Give an account other code, to stay. Raises Corrupt for what is not code.
    pub fn set_code(&mut self, address: Address, code: Bytes) -> Result<()> {
        let code_hash = if code.is_empty() { KECCAK_EMPTY } else { keccak256(&code) };
        let analysed = analyse(code.clone())?;
        if !code.is_empty() {
            self.new_codes.insert(code_hash, code);
        }
        self.override_account(address, |info| (info.code_hash, info.code) = (code_hash, Some(analysed)))
    }

    /// Replace (`wipe`) or change storage by hand.
    pub fn override_storage(
        &mut self,
        address: Address,
        wipe: bool,
        slots: impl Iterator<Item = (U256, U256)>,
    ) -> Result<()> {
        let state = self.state;
        let cached = self.cached(address)?;
        cached.now.get_or_insert_default();
        if wipe {
            cached.wiped = true;
            cached.slots.clear();
        }
        let bare = cached.wiped || cached.before.is_none();
        for (slot, now) in slots {
            match cached.slots.entry(slot) {
                Entry::Occupied(mut entry) => entry.get_mut().now = now,
                Entry::Vacant(entry) => {
                    let before = if bare { U256::ZERO } else { state.storage(&address, &slot)? };
                    entry.insert(Slot { before, now });
                }
            }
        }
        Ok(())
    }

    /// Take over what one transaction changed.
    pub fn commit(&mut self, state: EvmState) {
        for (address, account) in state {
            if account.is_touched() {
                self.commit_account(address, account);
            }
        }
    }

    fn commit_account(&mut self, address: Address, account: EvmAccount) {
        // Whatever a transaction touched it has read through `basic`, save accounts that it created out of nothing.
        let cached = self.accounts.entry(address).or_insert_with(|| Cached::new(None));
        if account.is_selfdestructed() || (account.info.is_empty() && !self.keep_empty) {
            cached.remove();
            return;
        }
        if account.is_created() {
            cached.remove();
        }
        for (slot, value) in account.storage {
            if !value.is_changed() {
                continue;
            }
            match cached.slots.entry(slot) {
                Entry::Occupied(mut entry) => entry.get_mut().now = value.present_value,
                Entry::Vacant(entry) => {
                    entry.insert(Slot { before: value.original_value, now: value.present_value });
                }
            }
        }
        let info = account.info;
        let old_code = cached.now.as_ref().map(|now| now.code_hash);
        if info.code_hash != KECCAK_EMPTY
            && old_code != Some(info.code_hash)
            && let Some(code) = &info.code
        {
            self.new_codes.insert(info.code_hash, code.original_bytes());
        }
        cached.now = Some(info);
    }

    /// The net effect, sorted.
    pub fn changes(&self) -> StateChanges {
        let mut changes = StateChanges::default();
        for (&address, cached) in &self.accounts {
            let now = cached.now.as_ref();
            let account =
                now.map(|info| Account { nonce: info.nonce, balance: info.balance, code_hash: info.code_hash });
            let wiped = cached.wiped && cached.before.is_some();
            let mut slots: Vec<(U256, U256)> = cached
                .slots
                .iter()
                .filter(|(_, slot)| if cached.wiped { !slot.now.is_zero() } else { slot.now != slot.before })
                .map(|(key, slot)| (*key, slot.now))
                .collect();
            if account == cached.before && slots.is_empty() && !wiped {
                continue;
            }
            // Only an override leaves an account behind that has nothing in it.
            let gone = !self.keep_empty && now.is_some_and(|info| info.is_empty()) && account != cached.before;
            let account = account.filter(|_| !gone);
            slots.sort_unstable();
            changes.accounts.push(AccountChange { address, account, storage_wiped: wiped, slots });
        }
        changes.accounts.sort_unstable_by_key(|change| change.address);
        changes.codes = self.new_codes.iter().map(|(hash, code)| (*hash, code.clone())).collect();
        changes.codes.sort_unstable_by_key(|(hash, _)| *hash);
        changes
    }
}

impl Database for Overlay<'_> {
    type Error = Error;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>> {
        Ok(self.cached(address)?.now.clone())
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode> {
        if code_hash == KECCAK_EMPTY {
            return Ok(Bytecode::default());
        }
        if let Some(code) = self.new_codes.get(&code_hash) {
            return analyse(code.clone());
        }
        if let Some(code) = {
            let known = ANALYSED.lock();
            known[0].get(&code_hash).or_else(|| known[1].get(&code_hash)).cloned()
        } {
            return Ok(code);
        }
        let code = analyse(self.state.code(&code_hash)?)?;
        let mut known = ANALYSED.lock();
        if known[0].len() >= ANALYSED_CODES {
            known[1] = std::mem::take(&mut known[0]);
        }
        known[0].insert(code_hash, code.clone());
        Ok(code)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256> {
        let state = self.state;
        let cached = self.cached(address)?;
        if let Some(known) = cached.slots.get(&slot) {
            return Ok(known.now);
        }
        if cached.wiped || cached.before.is_none() {
            return Ok(U256::ZERO);
        }
        let before = state.storage(&address, &slot)?;
        cached.slots.insert(slot, Slot { before, now: before });
        self.slots += 1;
        Ok(before)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256> {
        match self.block_hashes.get(&number) {
            Some(hash) => Ok(*hash),
            None => self.state.block_hash(number),
        }
    }
}

/// Reads without keeping what was read, for tracers that look at the state of before a transaction.
impl DatabaseRef for Overlay<'_> {
    type Error = Error;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>> {
        match self.accounts.get(&address) {
            Some(cached) => Ok(cached.now.clone()),
            None => Ok(Cached::new(self.state.account(&address)?).now),
        }
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode> {
        match self.new_codes.get(&code_hash) {
            _ if code_hash == KECCAK_EMPTY => Ok(Bytecode::default()),
            Some(code) => analyse(code.clone()),
            None => analyse(self.state.code(&code_hash)?),
        }
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256> {
        match self.accounts.get(&address) {
            Some(cached) if cached.slots.contains_key(&slot) => Ok(cached.slots[&slot].now),
            Some(cached) if cached.wiped || cached.before.is_none() => Ok(U256::ZERO),
            _ => self.state.storage(&address, &slot),
        }
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256> {
        match self.block_hashes.get(&number) {
            Some(hash) => Ok(*hash),
            None => self.state.block_hash(number),
        }
    }
}

fn analyse(code: Bytes) -> Result<Bytecode> {
    Bytecode::new_raw_checked(code).map_err(|e| Error::corrupt(format!("stored code: {e}")))
}
