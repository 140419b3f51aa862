//! One block over an allocation that lies in memory: what `evm t8n` is to geth. The conformance suites run through it.

use crate::errors::{Error, Result};
use crate::evm::{BlockContext, Executor, Overlay};
use crate::genesis::Fork;
use crate::transaction::Senders;
use crate::types::{Account, StateChanges, StateRead};
use alloy_consensus::constants::KECCAK_EMPTY;
use alloy_eips::eip7840::BlobParams;
use alloy_genesis::GenesisAccount;
use alloy_primitives::map::{AddressMap, B256Map, HashMap};
use alloy_primitives::{Address, B256, Bytes, Log, U64, U256, keccak256};
use alloy_trie::TrieAccount;
use alloy_trie::root::{state_root_unhashed, storage_root_unhashed};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A state in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryState {
    accounts: AddressMap<(Account, HashMap<U256, U256>)>,
    codes: B256Map<Bytes>,
}

impl MemoryState {
    pub fn apply(&mut self, changes: &StateChanges) {
        for change in &changes.accounts {
            let Some(account) = &change.account else {
                self.accounts.remove(&change.address);
                continue;
            };
            let entry = self.accounts.entry(change.address).or_insert_with(|| (account.clone(), HashMap::default()));
            entry.0 = account.clone();
            if change.storage_wiped {
                entry.1.clear();
            }
            for (slot, value) in &change.slots {
                if value.is_zero() {
                    entry.1.remove(slot);
                } else {
                    entry.1.insert(*slot, *value);
                }
            }
        }
        self.codes.extend(changes.codes.iter().cloned());
    }

    /// The root of the state trie, computed afresh.
    pub fn root(&self) -> B256 {
        state_root_unhashed(self.accounts.iter().map(|(address, (account, slots))| {
            let storage = slots.iter().map(|(slot, value)| (B256::from(slot.to_be_bytes::<32>()), *value));
            let account = TrieAccount {
                nonce: account.nonce,
                balance: account.balance,
                storage_root: storage_root_unhashed(storage),
                code_hash: account.code_hash,
            };
            (*address, account)
        }))
    }
}

impl StateRead for MemoryState {
    fn account(&self, address: &Address) -> Result<Option<Account>> {
        Ok(self.accounts.get(address).map(|(account, _)| account.clone()))
    }

    fn storage(&self, address: &Address, slot: &U256) -> Result<U256> {
        Ok(self.accounts.get(address).and_then(|(_, slots)| slots.get(slot)).copied().unwrap_or_default())
    }

    fn code(&self, code_hash: &B256) -> Result<Bytes> {
        match self.codes.get(code_hash) {
            Some(code) => Ok(code.clone()),
            None => Err(Error::corrupt(format!("code {code_hash}: not here"))),
        }
    }

    /// As the suites define it: the hash of the number in decimal.
    fn block_hash(&self, number: u64) -> Result<B256> {
        Ok(keccak256(number.to_string()))
    }
}

/// The suites' block environment.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Env {
    current_coinbase: Address,
    current_gas_limit: U64,
    current_number: U64,
    current_timestamp: U64,
    #[serde(default)]
    current_base_fee: U64,
    #[serde(default)]
    current_random: U256,
    #[serde(default)]
    current_excess_blob_gas: U64,
}

fn blobs_of(fork: Fork) -> BlobParams {
    if fork >= Fork::Prague { BlobParams::prague() } else { BlobParams::cancun() }
}

fn parse_state(alloc: &[u8]) -> Result<MemoryState> {
    let alloc: BTreeMap<Address, GenesisAccount> =
        serde_json::from_slice(alloc).map_err(|e| Error::invalid(format!("alloc: {e}")))?;
    let mut state = MemoryState::default();
    for (address, account) in alloc {
        let code = account.code.unwrap_or_default();
        let code_hash = if code.is_empty() { KECCAK_EMPTY } else { keccak256(&code) };
        state.codes.insert(code_hash, code);
        let slots = account.storage.unwrap_or_default();
        let slots = slots.iter().map(|(slot, value)| ((*slot).into(), U256::from_be_bytes(value.0)));
        let slots = slots.filter(|(_, value)| !value.is_zero()).collect();
        let account = Account { nonce: account.nonce.unwrap_or_default(), balance: account.balance, code_hash };
        state.accounts.insert(address, (account, slots));
    }
    Ok(state)
}

/// What `transition` returns: (state root, hash of the RLP of all logs, gas used, reasons of what was skipped).
type Transitioned = (B256, B256, u64, Vec<String>);

fn run(fork: &str, chain_id: u64, alloc: &[u8], env: &[u8], raws: Vec<Vec<u8>>) -> Result<Transitioned> {
    let mut state = parse_state(alloc)?;
    let env: Env = serde_json::from_slice(env).map_err(|e| Error::invalid(format!("env: {e}")))?;
    let fork = Fork::parse(fork)?;
    let block = BlockContext {
        chain_id,
        fork,
        number: env.current_number.to(),
        beneficiary: env.current_coinbase,
        timestamp: env.current_timestamp.to(),
        gas_limit: env.current_gas_limit.to(),
        base_fee: env.current_base_fee.to(),
        prevrandao: env.current_random.into(),
        difficulty: U256::ZERO,
        excess_blob_gas: env.current_excess_blob_gas.to(),
        blobs: blobs_of(fork),
    };
    let senders = Senders::new(raws.len());
    let mut executor = Executor::new(block, Overlay::new(&state));
    let mut logs: Vec<Log> = Vec::new();
    let mut skipped = Vec::new();
    for raw in raws {
        match senders.open(raw.into()) {
            Err((_, reason)) => skipped.push(reason),
            Ok(tx) => match executor.apply(&tx)? {
                Err(reason) => skipped.push(reason),
                Ok(included) => logs.extend_from_slice(included.receipt.logs()),
            },
        }
    }
    let (_, gas_used, changes) = executor.finish();
    state.apply(&changes);
    Ok((state.root(), keccak256(alloy_rlp::encode(&logs)), gas_used, skipped))
}

type PyTransitioned = (Py<PyBytes>, Py<PyBytes>, u64, Vec<String>);

#[pyfunction]
#[pyo3(signature = (fork, alloc, env, transactions, chain_id = 1))]
fn transition(
    py: Python<'_>,
    fork: &str,
    alloc: &[u8],
    env: &[u8],
    transactions: Vec<Vec<u8>>,
    chain_id: u64,
) -> PyResult<PyTransitioned> {
    let (root, logs, gas, skipped) = py.detach(|| run(fork, chain_id, alloc, env, transactions))?;
    Ok((PyBytes::new(py, &root.0).unbind(), PyBytes::new(py, &logs.0).unbind(), gas, skipped))
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(transition, m)?)
}
