//! Blocks of Ethereum itself: verified by the rules of their time, executed, and written as final ones.
//!
//! Everything in a block is checked against what executing it gives: transactions, ommers, rewards, withdrawals, requests,
//! gas, blobs, difficulty, base fee, blooms and roots. What cannot be checked here is who made it: neither ethash seals nor
//! attestations of a beacon chain are looked at, so a file of blocks is worth as much as the hash of its last one.

use crate::block::Head;
use crate::chain::Core;
use crate::errors::{Error, Result};
use crate::evm::{BlockContext, Executor, Overlay, next_base_fee, seal};
use crate::genesis::{ChainSpec, MAX_GAS_LIMIT, MIN_GAS_LIMIT};
use crate::rules::{Fork, Schedule};
use crate::transaction::{Senders, Transaction};
use crate::types::{Chain as _, Included, Outcome, Parent, StateChanges, StateRead};
use alloy_consensus::constants::EMPTY_OMMER_ROOT_HASH;
use alloy_consensus::{Eip658Value, Header, Transaction as _};
use alloy_eips::eip4844::DATA_GAS_PER_BLOB;
use alloy_eips::eip4895::Withdrawal;
use alloy_eips::eip7002::{WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, WITHDRAWAL_REQUEST_TYPE};
use alloy_eips::eip7251::{CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_TYPE};
use alloy_eips::eip7685::Requests;
use alloy_primitives::{Address, B64, B256, Bytes, Log, U256, b256, keccak256};
use alloy_rlp::{Decodable, Encodable, Header as Item};
use std::collections::VecDeque;

/// EIP-7934.
const MAX_BLOCK_BYTES: usize = 8 << 20;
/// Of one block in a file, whatever its rules: a block of before EIP-7934 was bounded by its gas alone.
const MAX_READ_BYTES: usize = 256 << 20;
const MIN_DIFFICULTY: u64 = 131_072;
const MAX_EXTRA_BYTES: usize = 32;
/// Ommers are children of one of so many ancestors.
const OMMER_DEPTH: u64 = 7;
const MAX_OMMERS: usize = 2;
const ETHER: u128 = 1_000_000_000_000_000_000;
/// keccak256 of `DepositEvent(bytes,bytes,bytes,bytes,bytes)`.
const DEPOSIT_EVENT: B256 = b256!("649bbc62d0e31342afea4e5cd82d4049e7e1ee912fc0889aa790803be39038c5");
/// Lengths of the five fields of a deposit: key, credentials, amount, signature, index.
const DEPOSIT_FIELDS: [usize; 5] = [48, 32, 8, 96, 8];

/// A decoded block; transactions stay as they were received.
pub struct Imported {
    pub header: Header,
    pub hash: B256,
    pub transactions: Vec<Bytes>,
    pub ommers: Vec<Header>,
    /// None before Shanghai.
    pub withdrawals: Option<Vec<Withdrawal>>,
    bytes: usize,
}

/// What a block holds beside its transactions, as it lies in the store: RLP of ommers and withdrawals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra {
    pub ommers: Vec<Header>,
    pub withdrawals: Vec<Withdrawal>,
}

impl Extra {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.ommers.encode(&mut out);
        self.withdrawals.encode(&mut out);
        out
    }

    pub fn decode(mut record: &[u8]) -> Result<Extra> {
        let read = |record: &mut &[u8]| Ok(Extra { ommers: Vec::decode(record)?, withdrawals: Vec::decode(record)? });
        read(&mut record).map_err(|e: alloy_rlp::Error| Error::corrupt(format!("ommers and withdrawals: {e}")))
    }
}

/// Take the first block off `bytes`. Raises Invalid.
pub fn decode_block(bytes: &mut &[u8]) -> Result<Imported> {
    let whole = *bytes;
    let malformed = |e: alloy_rlp::Error| Error::invalid(format!("block: {e}, expected the RLP of one"));
    let block = Item::decode_bytes(bytes, true).map_err(malformed)?;
    let size = whole.len() - bytes.len();
    let mut rest = block;
    let head = rest;
    let header = Header::decode(&mut rest).map_err(malformed)?;
    let hash = keccak256(&head[..head.len() - rest.len()]);
    let mut list = Item::decode_bytes(&mut rest, true).map_err(malformed)?;
    let mut transactions = Vec::new();
    while !list.is_empty() {
        let before = list;
        let item = Item::decode(&mut list).map_err(malformed)?;
        let (body, after) = list
            .split_at_checked(item.payload_length)
            .ok_or_else(|| Error::invalid(format!("block {}: a transaction ends beyond its list", header.number)))?;
        list = after;
        // A list is a legacy transaction, a string wraps a typed one.
        let raw = if item.list { &before[..before.len() - after.len()] } else { body };
        transactions.push(Bytes::copy_from_slice(raw));
    }
    let ommers = Vec::decode(&mut rest).map_err(malformed)?;
    let withdrawals = if rest.is_empty() { None } else { Some(Vec::decode(&mut rest).map_err(malformed)?) };
    if !rest.is_empty() {
        return Err(Error::invalid(format!(
            "block {}: {} bytes after its parts, expected none",
            header.number,
            rest.len()
        )));
    }
    Ok(Imported { header, hash, transactions, ommers, withdrawals, bytes: size })
}

/// The RLP of a stored block.
pub fn encode_block(header: &Header, transactions: &[Bytes], extra: &Extra) -> Vec<u8> {
    let mut list = Vec::new();
    for raw in transactions {
        if raw.first().is_some_and(|byte| *byte >= 0xc0) {
            list.extend_from_slice(raw);
        } else {
            raw.encode(&mut list);
        }
    }
    let mut parts = Vec::new();
    header.encode(&mut parts);
    Item { list: true, payload_length: list.len() }.encode(&mut parts);
    parts.extend_from_slice(&list);
    extra.ommers.encode(&mut parts);
    if header.withdrawals_root.is_some() {
        extra.withdrawals.encode(&mut parts);
    }
    let mut out = Vec::with_capacity(parts.len() + 9);
    Item { list: true, payload_length: parts.len() }.encode(&mut out);
    out.extend_from_slice(&parts);
    out
}

/// What an imported block is judged by, beside the state.
pub struct Place<'a> {
    pub spec: &'a ChainSpec,
    pub senders: &'a Senders,
    pub parent: Parent<'a>,
    /// Of the chain up to the parent.
    pub total_difficulty: U256,
    /// The last headers with their hashes and ommers, newest first: the parent and the six before it.
    pub ancestors: &'a [(Header, B256, Vec<Header>)],
}

/// Execute a block and compare everything that its header says but the state root, which the caller compares.
///
/// `root` gives the state root after the changes so far, for receipts of before Byzantium. Raises Invalid.
pub fn execute(
    chain: &Place<'_>,
    state: &dyn StateRead,
    block: &Imported,
    root: &dyn Fn(&StateChanges) -> Result<B256>,
) -> Result<Outcome> {
    let Place { spec, senders, parent, .. } = chain;
    let header = &block.header;
    let wrong = |what: &str| Error::invalid(format!("block {} ({}): {what}", header.number, block.hash));
    let fork = judge_header(chain, block).map_err(|what| wrong(&what))?;
    judge_ommers(chain, block, fork).map_err(|what| wrong(&what))?;
    let context = make_context(spec, header, fork);
    let mut overlay = Overlay::new(state);
    overlay.keep_empty(fork < Fork::SpuriousDragon);
    overlay.set_block_hash(parent.header.number, parent.hash);
    let mut executor = Executor::new(context, overlay);
    executor.apply_system_calls(parent.hash, header.parent_beacon_block_root.unwrap_or_default())?;
    let mut included = Vec::with_capacity(block.transactions.len());
    for (index, item) in senders.open_any(&block.transactions).into_iter().enumerate() {
        let refused = |reason: String| wrong(&format!("transaction {index}: {reason}"));
        let tx: Transaction = item.map_err(|(_, reason)| refused(reason))?;
        let mut done = executor.apply(&tx)?.map_err(refused)?;
        if fork < Fork::Byzantium {
            let root = root(&executor.changes())?;
            if let Some(receipt) = done.receipt.as_receipt_with_bloom_mut() {
                receipt.receipt.status = Eip658Value::PostState(root);
            }
        }
        included.push(done);
    }
    let requests = if fork >= Fork::Prague {
        Some(collect_requests(&mut executor, &spec.schedule, &included).map_err(|what| wrong(&what))?)
    } else {
        None
    };
    pay_miners(&mut executor, block, fork)?;
    executor.pay(block.withdrawals.as_deref().unwrap_or_default())?;
    let (_, gas_used, changes) = executor.finish();
    let (transactions_root, receipts_root, logs_bloom) = seal(&mut included)?;
    let requests_hash = requests.map(|requests| requests.requests_hash());
    for (name, found, expected) in [
        ("gasUsed", format!("{}", header.gas_used), format!("{gas_used}")),
        ("transactionsRoot", header.transactions_root.to_string(), transactions_root.to_string()),
        ("receiptsRoot", header.receipts_root.to_string(), receipts_root.to_string()),
        ("logsBloom", header.logs_bloom.to_string(), logs_bloom.to_string()),
        ("requestsHash", format!("{:?}", header.requests_hash), format!("{requests_hash:?}")),
    ] {
        if found != expected {
            return Err(wrong(&format!("{name} {found}, expected {expected}")));
        }
    }
    let timestamp_ms = header.timestamp.saturating_mul(1_000);
    let extra = Extra { ommers: block.ommers.clone(), withdrawals: block.withdrawals.clone().unwrap_or_default() };
    let extra = if extra == Extra::default() { Bytes::new() } else { extra.encode().into() };
    Ok(Outcome { header: header.clone(), timestamp_ms, included, skipped: Vec::new(), changes, extra })
}

/// What transactions of a block see of it.
pub fn make_context(spec: &ChainSpec, header: &Header, fork: Fork) -> BlockContext {
    BlockContext {
        chain_id: spec.chain_id,
        fork,
        number: header.number,
        beneficiary: header.beneficiary,
        timestamp: header.timestamp,
        gas_limit: header.gas_limit,
        base_fee: header.base_fee_per_gas.unwrap_or_default(),
        difficulty: header.difficulty,
        prevrandao: header.mix_hash,
        excess_blob_gas: header.excess_blob_gas.unwrap_or_default(),
        blobs: spec.schedule.blobs_at(header.timestamp),
    }
}

// ---- headers

pub type Judged<T> = std::result::Result<T, String>;

fn expect<T: PartialEq + std::fmt::Debug>(name: &str, found: T, expected: T) -> Judged<()> {
    if found == expected { Ok(()) } else { Err(format!("{name} {found:?}, expected {expected:?}")) }
}

/// What a header must say after its parent; returns the rules of the block.
fn judge_header(chain: &Place<'_>, block: &Imported) -> Judged<Fork> {
    let Place { spec, parent, total_difficulty, .. } = chain;
    let (schedule, header) = (&spec.schedule, &block.header);
    expect("number", header.number, parent.header.number + 1)?;
    expect("parentHash", header.parent_hash, parent.hash)?;
    let merged = schedule.terminal_difficulty.is_none_or(|terminal| *total_difficulty >= terminal);
    let fork = if merged { schedule.fork_at(header.timestamp) } else { schedule.fork_before_merge(header.number) };
    if merged {
        expect("difficulty", header.difficulty, U256::ZERO)?;
        expect("nonce", header.nonce, B64::ZERO)?;
    } else {
        expect("difficulty", header.difficulty, next_difficulty(schedule, fork, header, parent.header))?;
    }
    judge_bounds(spec, fork, header, parent.header)?;
    judge_fields(spec, fork, block, parent.header)?;
    if fork >= Fork::Osaka && block.bytes > MAX_BLOCK_BYTES {
        return Err(format!("{} bytes, expected at most {MAX_BLOCK_BYTES} (EIP-7934)", block.bytes));
    }
    Ok(fork)
}

/// Time, gas limit, gas used, extra data and base fee.
fn judge_bounds(spec: &ChainSpec, fork: Fork, header: &Header, parent: &Header) -> Judged<()> {
    if header.timestamp <= parent.timestamp {
        return Err(format!("timestamp {}, expected above {}", header.timestamp, parent.timestamp));
    }
    if header.extra_data.len() > MAX_EXTRA_BYTES {
        return Err(format!("extraData of {} bytes, expected at most {MAX_EXTRA_BYTES}", header.extra_data.len()));
    }
    let first_with_fees = fork >= Fork::London && parent.base_fee_per_gas.is_none();
    let before = if first_with_fees { parent.gas_limit.saturating_mul(2) } else { parent.gas_limit };
    if header.gas_limit.abs_diff(before) >= before / 1_024
        || !(MIN_GAS_LIMIT..=MAX_GAS_LIMIT).contains(&header.gas_limit)
    {
        return Err(format!(
            "gasLimit {}, expected less than {} away from {before}, and {MIN_GAS_LIMIT} to {MAX_GAS_LIMIT}",
            header.gas_limit,
            before / 1_024
        ));
    }
    if header.gas_used > header.gas_limit {
        return Err(format!("gasUsed {}, expected at most {}", header.gas_used, header.gas_limit));
    }
    let base_fee = match (fork >= Fork::London, first_with_fees) {
        (false, _) => None,
        (true, true) => Some(alloy_eips::eip1559::INITIAL_BASE_FEE),
        (true, false) => Some(next_base_fee(spec, parent)),
    };
    expect("baseFeePerGas", header.base_fee_per_gas, base_fee)
}

/// Fields that came with forks: there from their fork on, and right.
fn judge_fields(spec: &ChainSpec, fork: Fork, block: &Imported, parent: &Header) -> Judged<()> {
    let header = &block.header;
    let root = block.withdrawals.as_ref().map(|paid| alloy_consensus::proofs::calculate_withdrawals_root(paid));
    expect("withdrawals", block.withdrawals.is_some(), fork >= Fork::Shanghai)?;
    expect("withdrawalsRoot", header.withdrawals_root, root)?;
    expect("parentBeaconBlockRoot", header.parent_beacon_block_root.is_some(), fork >= Fork::Cancun)?;
    expect("requestsHash", header.requests_hash.is_some(), fork >= Fork::Prague)?;
    if fork < Fork::Cancun {
        expect("excessBlobGas", header.excess_blob_gas, None)?;
        return expect("blobGasUsed", header.blob_gas_used, None);
    }
    let blobs = spec.schedule.blobs_at(header.timestamp);
    expect(
        "excessBlobGas",
        header.excess_blob_gas,
        Some(spec.schedule.next_excess_blob_gas(header.timestamp, parent)),
    )?;
    let mut used = 0u64;
    for raw in &block.transactions {
        if raw.first() == Some(&3) {
            let tx = crate::transaction::decode_any(raw)?;
            used = used
                .saturating_add(tx.blob_versioned_hashes().map_or(0, |hashes| hashes.len() as u64) * DATA_GAS_PER_BLOB);
        }
    }
    expect("blobGasUsed", header.blob_gas_used, Some(used))?;
    if used > blobs.max_blob_gas_per_block() {
        return Err(format!("blobGasUsed {used}, expected at most {}", blobs.max_blob_gas_per_block()));
    }
    Ok(())
}

/// The yellow paper's difficulty, with the changes of EIP-2, EIP-100 and the delays of the bomb.
fn next_difficulty(schedule: &Schedule, fork: Fork, header: &Header, parent: &Header) -> U256 {
    let elapsed = header.timestamp.saturating_sub(parent.timestamp);
    let step = parent.difficulty / U256::from(2_048);
    let factor: i64 = match fork {
        Fork::Frontier if elapsed < 13 => 1,
        Fork::Frontier => -1,
        _ if fork < Fork::Byzantium => 1 - (elapsed / 10).min(100) as i64,
        _ => {
            let ommers = if parent.ommers_hash == EMPTY_OMMER_ROOT_HASH { 1 } else { 2 };
            ommers - (elapsed / 9).min(101) as i64
        }
    };
    let factor = factor.max(-99);
    let change = step * U256::from(factor.unsigned_abs());
    let moved = if factor < 0 { parent.difficulty.saturating_sub(change) } else { parent.difficulty + change };
    let difficulty = moved.max(U256::from(MIN_DIFFICULTY));
    let period = header.number.saturating_sub(schedule.bomb_delay(header.number)) / 100_000;
    if period > 1 { difficulty + (U256::from(1) << (period - 2).min(255)) } else { difficulty }
}

// ---- ommers and what is paid

fn judge_ommers(chain: &Place<'_>, block: &Imported, fork: Fork) -> Judged<()> {
    let header = &block.header;
    let mut encoded = Vec::new();
    block.ommers.encode(&mut encoded);
    expect("sha3Uncles", header.ommers_hash, keccak256(&encoded))?;
    if fork >= Fork::Paris {
        return expect("ommers", block.ommers.len(), 0);
    }
    if block.ommers.len() > MAX_OMMERS {
        return Err(format!("{} ommers, expected at most {MAX_OMMERS}", block.ommers.len()));
    }
    for (index, ommer) in block.ommers.iter().enumerate() {
        let hash = ommer.hash_slow();
        let ancestor = chain.ancestors.iter().any(|(_, ancestor, _)| *ancestor == hash);
        let named = chain.ancestors.iter().flat_map(|(_, _, ommers)| ommers).any(|other| other.hash_slow() == hash);
        if ancestor || named || block.ommers[..index].iter().any(|other| other.hash_slow() == hash) {
            return Err(format!("ommer {hash}: is in the chain already, expected a new one"));
        }
        let parent = chain.ancestors.iter().skip(1).find(|(_, parent, _)| *parent == ommer.parent_hash);
        let Some((parent, ..)) = parent.filter(|(parent, ..)| header.number - parent.number <= OMMER_DEPTH) else {
            return Err(format!("ommer {hash}: parent {}, expected an ancestor below the parent", ommer.parent_hash));
        };
        let fork = chain.spec.schedule.fork_before_merge(ommer.number);
        let ommer_is = |what: String| format!("ommer {hash}: {what}");
        expect("number", ommer.number, parent.number + 1).map_err(ommer_is)?;
        let difficulty = next_difficulty(&chain.spec.schedule, fork, ommer, parent);
        expect("difficulty", ommer.difficulty, difficulty).map_err(ommer_is)?;
        judge_bounds(chain.spec, fork, ommer, parent).map_err(ommer_is)?;
    }
    Ok(())
}

/// What the miner of a block was paid before the merge, in wei.
pub fn block_reward(fork: Fork) -> Option<u128> {
    match fork {
        _ if fork < Fork::Byzantium => Some(5 * ETHER),
        Fork::Byzantium => Some(3 * ETHER),
        _ if fork < Fork::Paris => Some(2 * ETHER),
        _ => None,
    }
}

/// Rewards of before the merge: the miner's, a thirty-second of it for each ommer named, and the ommers' own.
fn pay_miners(executor: &mut Executor<'_>, block: &Imported, fork: Fork) -> Result<()> {
    let Some(reward) = block_reward(fork) else { return Ok(()) };
    for ommer in &block.ommers {
        let age = u128::from(block.header.number - ommer.number);
        executor.credit(ommer.beneficiary, U256::from(reward * (8 - age) / 8))?;
    }
    executor.credit(block.header.beneficiary, U256::from(reward + reward / 32 * block.ommers.len() as u128))
}

// ---- requests to the consensus layer (EIP-7685)

/// What the block asks of the consensus layer: deposits by their logs, and what two system contracts have collected.
pub fn collect_requests(executor: &mut Executor<'_>, schedule: &Schedule, included: &[Included]) -> Judged<Requests> {
    let mut requests = Requests::default();
    let mut deposits = Vec::new();
    if let Some(contract) = schedule.deposit_contract {
        for log in included.iter().flat_map(|item| item.receipt.logs()) {
            if log.address == contract && log.topics().first() == Some(&DEPOSIT_EVENT) {
                read_deposit(log, &mut deposits)?;
            }
        }
    }
    requests.push_request_with_type(0, deposits);
    for (kind, contract) in [
        (WITHDRAWAL_REQUEST_TYPE, WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS),
        (CONSOLIDATION_REQUEST_TYPE, CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS),
    ] {
        requests.push_request_with_type(kind, call_for_requests(executor, contract)?);
    }
    Ok(requests)
}

fn call_for_requests(executor: &mut Executor<'_>, contract: Address) -> Judged<Bytes> {
    match executor.call_system(contract, Bytes::new()) {
        Ok(Some(output)) => Ok(output),
        Ok(None) => {
            Err(format!("system contract {contract}: no code, expected EIP-7002's and EIP-7251's from Prague on"))
        }
        Err(error) => Err(format!("system contract {contract}: {error}")),
    }
}

/// The five byte strings of a deposit, from the ABI of its event.
fn read_deposit(log: &Log, out: &mut Vec<u8>) -> Judged<()> {
    let data = &log.data.data;
    let malformed =
        || format!("deposit: a log of {} bytes, expected five fields of {DEPOSIT_FIELDS:?} bytes", data.len());
    let word = |at: usize| -> Option<usize> {
        let word = data.get(at..at + 32)?;
        usize::try_from(U256::from_be_slice(word)).ok().filter(|number| *number <= data.len())
    };
    for (index, length) in DEPOSIT_FIELDS.iter().enumerate() {
        let start = word(index * 32).ok_or_else(malformed)?;
        if word(start) != Some(*length) {
            return Err(malformed());
        }
        out.extend_from_slice(data.get(start + 32..start + 32 + length).ok_or_else(malformed)?);
    }
    Ok(())
}

/// Blocks between two durable writes; the tree of executed blocks holds so many more.
const COMMIT_EVERY: u64 = 256;

/// Takes blocks in order and makes them final. One at a time may work on a ledger.
pub struct Importer<'a> {
    core: &'a Core,
    parent: Head,
    total_difficulty: U256,
    /// Newest first.
    ancestors: VecDeque<(Header, B256, Vec<Header>)>,
}

impl<'a> Importer<'a> {
    /// Begin after the last final block. Raises Invalid for a chain that is agreed on and not imported.
    pub fn new(core: &'a Core) -> Result<Importer<'a>> {
        let (height, hash) = core.tip();
        let head = |hash: &B256| core.head_by_hash(hash)?.ok_or_else(|| Error::unavailable(format!("block {hash}")));
        let parent = head(&hash)?;
        if core.decision(height)?.is_some_and(|(_, certificate, _)| !certificate.is_empty()) {
            return Err(Error::invalid(format!(
                "block {height}: was agreed on, expected only imported ones below new ones"
            )));
        }
        let mut ancestors = VecDeque::new();
        let (mut next, mut total_difficulty) = (parent.clone(), U256::ZERO);
        // What blocks weigh together does not matter where all are later ones.
        let mut is_counted = core.spec().schedule.terminal_difficulty.is_none();
        let known = core.known_difficulty();
        loop {
            if (ancestors.len() as u64) <= OMMER_DEPTH {
                ancestors.push_back((next.header.clone(), next.hash, core.extra(next.header.number)?.ommers));
            }
            if !is_counted {
                is_counted = next.hash == known.0;
                let more = if is_counted { known.1 } else { next.header.difficulty };
                total_difficulty = total_difficulty.saturating_add(more);
            }
            if next.header.number == 0 || (is_counted && ancestors.len() as u64 > OMMER_DEPTH) {
                break;
            }
            next = head(&next.header.parent_hash)?;
        }
        Ok(Importer { core, parent, total_difficulty, ancestors })
    }

    /// Verify, execute and finalize a block. One that is in the chain already is passed over. Raises Invalid.
    pub fn take(&mut self, block: &Imported) -> Result<bool> {
        let number = block.header.number;
        if number <= self.parent.header.number {
            let known = self.core.head_by_height(number)?.map(|head| head.hash);
            return match known {
                Some(hash) if hash == block.hash => Ok(false),
                _ => Err(Error::invalid(format!(
                    "block {number}: hash {}, expected {known:?} of this chain",
                    block.hash
                ))),
            };
        }
        let state = self.core.state_at(&self.parent.hash)?;
        let Head { header, hash, timestamp_ms, .. } = &self.parent;
        let chain = Place {
            spec: self.core.spec(),
            senders: self.core.senders(),
            parent: Parent { header, hash: *hash, timestamp_ms: *timestamp_ms },
            total_difficulty: self.total_difficulty,
            ancestors: self.ancestors.make_contiguous(),
        };
        let root = |changes: &StateChanges| Ok(state.apply(changes, number)?.0.hash);
        let outcome = execute(&chain, &state, block, &root)?;
        let head = self.core.add_imported(outcome, &state, block.hash)?;
        // There is no envelope; as for the genesis block, the block's own hash stands for it.
        self.core.finalize(&block.hash, block.hash, Bytes::new(), Vec::new())?;
        self.ancestors.push_front((head.header.clone(), head.hash, block.ommers.clone()));
        self.ancestors.truncate(OMMER_DEPTH as usize + 1);
        self.total_difficulty = self.total_difficulty.saturating_add(head.header.difficulty);
        self.parent = head;
        Ok(true)
    }
}

/// Whether a whole block stands at the beginning of `bytes`.
fn is_whole(bytes: &[u8]) -> Result<bool> {
    let mut rest = bytes;
    match Item::decode(&mut rest) {
        Ok(item) if !item.list => Err(Error::invalid("block: a string, expected the RLP of a block, which is a list")),
        Ok(item) if item.payload_length > MAX_READ_BYTES => Err(too_long(item.payload_length)),
        Ok(_) => Ok(true),
        Err(alloy_rlp::Error::InputTooShort) if bytes.len() <= MAX_READ_BYTES => Ok(false),
        Err(alloy_rlp::Error::InputTooShort) => Err(too_long(bytes.len())),
        Err(error) => Err(Error::invalid(format!("block: {error}, expected the RLP of one"))),
    }
}

fn too_long(bytes: usize) -> Error {
    Error::invalid(format!("block: more than {bytes} bytes, expected at most {MAX_READ_BYTES}"))
}

/// Import the whole blocks at the beginning of `bytes`; how many are new, and how many bytes they took.
///
/// What was taken before a block that is refused stays and is durable.
pub fn import_blocks(core: &Core, bytes: &[u8]) -> Result<(u64, usize)> {
    if core.spec().dev {
        return Err(Error::invalid(
            "blocks of a chain for development follow rules of their own, expected another genesis file",
        ));
    }
    let mut importer = Importer::new(core)?;
    let (mut rest, mut count) = (bytes, 0);
    let done = (|| {
        while !rest.is_empty() && is_whole(rest)? {
            let mut after = rest;
            let block = decode_block(&mut after)?;
            if importer.take(&block)? {
                count += 1;
                if count % COMMIT_EVERY == 0 {
                    core.commit()?;
                }
            }
            rest = after;
        }
        Ok(())
    })();
    core.commit()?;
    core.keep_difficulty(importer.parent.hash, importer.total_difficulty);
    done.map(|()| (count, bytes.len() - rest.len()))
}
