//! Transactions: EIP-2718 decoding (types 0 to 4), sender recovery on all cores, and what can be judged without state.
//!
//! Error strings are geth's (`core/error.go`, `core/txpool/errors.go`): wallets and SDKs match on them.

use crate::crypto::recover_address;
use crate::dev::unsigned_sender;
use crate::errors::Error;
use crate::genesis::Fork;
use crate::keccak_lanes::hash_many;
use alloy_consensus::transaction::RlpEcdsaDecodableTx;
use alloy_consensus::{EthereumTxEnvelope, Transaction as _, TxEip4844, TxLegacy};
use alloy_eips::eip2718::Decodable2718;
use alloy_eips::eip7702::{RecoveredAuthority, RecoveredAuthorization, SignedAuthorization};
use alloy_primitives::map::B256Map;
use alloy_primitives::{Address, B256, Bytes, Signature, U256, keccak256};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rayon::prelude::*;

pub type Envelope = EthereumTxEnvelope<TxEip4844>;

/// The largest transaction the pool admits (geth's `txMaxSize`).
pub const MAX_BYTES: usize = 128 * 1024;
/// EIP-7825.
pub const MAX_GAS: u64 = 1 << 24;
/// EIP-3860: twice the largest code (EIP-170).
pub const MAX_INIT_CODE: usize = 2 * 24_576;
/// Below this many transactions a loop is faster than waking other cores.
const PARALLEL_FROM: usize = 8;
/// Transactions that one core hashes side by side, and then opens.
const OPENED_TOGETHER: usize = 16;

const GAS_BASE: u64 = 21_000;
const GAS_CREATE: u64 = 32_000;
const GAS_TOKEN: u64 = 4;
const GAS_FLOOR_TOKEN: u64 = 10;
const GAS_INIT_WORD: u64 = 2;
const GAS_ACCESS_ADDRESS: u64 = 2_400;
const GAS_ACCESS_SLOT: u64 = 1_900;
const GAS_AUTHORIZATION: u64 = 25_000;

/// A decoded transaction with its sender.
#[derive(Debug, Clone)]
pub struct Transaction {
    pub hash: B256,
    pub sender: Address,
    /// As received.
    pub raw: Bytes,
    pub envelope: Envelope,
}

/// Why a transaction was refused, in geth's words.
pub type Refusal = String;

type Decode = fn(&[u8]) -> std::result::Result<Envelope, Refusal>;

/// Of a type that is unknown, or that networks of ours do not carry: no blobs are served.
pub const UNSUPPORTED: &str = "transaction type not supported";

/// Decode EIP-2718 bytes; blob transactions and unknown types are refused.
pub fn decode(raw: &[u8]) -> std::result::Result<Envelope, Refusal> {
    match raw.first() {
        Some(3) => Err(UNSUPPORTED.into()),
        _ => decode_any(raw),
    }
}

/// `decode` of what stands in a block of Ethereum: with blob transactions.
pub fn decode_any(raw: &[u8]) -> std::result::Result<Envelope, Refusal> {
    match raw.first() {
        None => Err("typed transaction too short".into()),
        Some(kind @ 1..=4) => Envelope::decode_2718_exact(raw)
            .map_err(|e| format!("rlp: malformed transaction: {e}, expected the fields of type {kind}")),
        Some(0xc0..) => decode_legacy(raw),
        Some(0x80..0xc0) => Err("rlp: expected List".into()),
        Some(_) => Err(UNSUPPORTED.into()),
    }
}

fn decode_legacy(mut raw: &[u8]) -> std::result::Result<Envelope, Refusal> {
    let signed = TxLegacy::rlp_decode_signed(&mut raw)
        .map_err(|e| format!("rlp: malformed transaction: {e}, expected the nine fields of a legacy one"))?;
    if !raw.is_empty() {
        return Err(format!("rlp: malformed transaction: {} bytes after its end, expected none", raw.len()));
    }
    Ok(Envelope::Legacy(signed))
}

fn signature_bytes(signature: &Signature) -> [u8; 65] {
    let mut bytes = [0u8; 65];
    bytes[..32].copy_from_slice(&signature.r().to_be_bytes::<32>());
    bytes[32..64].copy_from_slice(&signature.s().to_be_bytes::<32>());
    bytes[64] = u8::from(signature.v());
    bytes
}

/// The sender, by libsecp256k1. High s is refused (EIP-2).
pub fn recover(envelope: &Envelope) -> std::result::Result<Address, Refusal> {
    recover_address(&envelope.signature_hash().0, &signature_bytes(envelope.signature()))
        .map_err(|e| format!("invalid sender: {e}"))
}

/// The authority of an EIP-7702 authorization; an unusable signature is kept as invalid, since it only voids that tuple.
pub fn recover_authority(signed: &SignedAuthorization) -> RecoveredAuthorization {
    let authority = signed
        .signature()
        .ok()
        .and_then(|s| recover_address(&signed.inner().signature_hash().0, &signature_bytes(&s)).ok())
        .map_or(RecoveredAuthority::Invalid, RecoveredAuthority::Valid);
    RecoveredAuthorization::new_unchecked(signed.inner().clone(), authority)
}

/// Senders by transaction hash, shared between pool, check and execution. Thread-safe.
///
/// Bounded by two generations per shard: when the young one is full it becomes the old one, and the old one is forgotten.
pub struct Senders {
    shards: Vec<Mutex<Generations>>,
    per_generation: usize,
    /// Whether transactions may be by nobody (`dev.rs`).
    allows_unsigned: bool,
}

#[derive(Default)]
struct Generations {
    young: B256Map<Address>,
    old: B256Map<Address>,
}

const SHARDS: usize = 16;

impl Senders {
    /// At most `capacity` entries (rounded up to a multiple of 32).
    pub fn new(capacity: usize) -> Senders {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Senders { shards, per_generation: capacity.div_ceil(2 * SHARDS).max(1), allows_unsigned: false }
    }

    /// For networks for development.
    pub fn allow_unsigned(mut self, allow: bool) -> Senders {
        self.allows_unsigned = allow;
        self
    }

    fn shard(&self, hash: &B256) -> &Mutex<Generations> {
        &self.shards[usize::from(hash[31]) % SHARDS]
    }

    pub fn get(&self, hash: &B256) -> Option<Address> {
        let shard = self.shard(hash).lock();
        shard.young.get(hash).or_else(|| shard.old.get(hash)).copied()
    }

    pub fn insert(&self, hash: B256, sender: Address) {
        let mut shard = self.shard(&hash).lock();
        if shard.young.len() >= self.per_generation {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(hash, sender);
    }

    /// Decode one transaction and find its sender. The refusal comes with the hash.
    pub fn open(&self, raw: Bytes) -> std::result::Result<Transaction, (B256, Refusal)> {
        let hash = keccak256(&raw);
        self.open_hashed(raw, hash, decode)
    }

    fn open_hashed(&self, raw: Bytes, hash: B256, decode: Decode) -> std::result::Result<Transaction, (B256, Refusal)> {
        let refuse = |reason| (hash, reason);
        let envelope = decode(&raw).map_err(refuse)?;
        if self.allows_unsigned
            && let Some(sender) = unsigned_sender(&envelope)
        {
            return Ok(Transaction { hash, sender, raw, envelope });
        }
        let sender = match self.get(&hash) {
            Some(sender) => sender,
            None => {
                let sender = recover(&envelope).map_err(refuse)?;
                self.insert(hash, sender);
                sender
            }
        };
        Ok(Transaction { hash, sender, raw, envelope })
    }

    /// `open` over all cores, in order.
    pub fn open_all(&self, raws: &[Bytes]) -> Vec<std::result::Result<Transaction, (B256, Refusal)>> {
        self.open_all_by(raws, decode)
    }

    /// `open_all` of transactions of any type that Ethereum knows.
    pub fn open_any(&self, raws: &[Bytes]) -> Vec<std::result::Result<Transaction, (B256, Refusal)>> {
        self.open_all_by(raws, decode_any)
    }

    fn open_all_by(&self, raws: &[Bytes], decode: Decode) -> Vec<std::result::Result<Transaction, (B256, Refusal)>> {
        let open_some = |raws: &[Bytes]| {
            let mut hashes = Vec::with_capacity(raws.len());
            hash_many(raws.iter().map(|raw| raw.as_ref()), &mut hashes);
            raws.iter().zip(hashes).map(|(raw, hash)| self.open_hashed(raw.clone(), hash, decode)).collect::<Vec<_>>()
        };
        if raws.len() < PARALLEL_FROM {
            return open_some(raws);
        }
        raws.par_chunks(OPENED_TOGETHER).flat_map_iter(open_some).collect()
    }
}

/// Intrinsic gas and the EIP-7623 floor (zero before Prague).
pub fn compute_intrinsic_gas(fork: Fork, tx: &Envelope) -> (u64, u64) {
    let data = tx.input();
    let zeros = data.iter().filter(|byte| **byte == 0).count() as u64;
    let tokens = zeros + (data.len() as u64 - zeros) * 4;
    let mut gas = GAS_BASE + tokens * GAS_TOKEN;
    if tx.is_create() {
        gas += GAS_CREATE;
        if fork >= Fork::Shanghai {
            gas += GAS_INIT_WORD * (data.len() as u64).div_ceil(32);
        }
    }
    if let Some(list) = tx.access_list() {
        gas += list.len() as u64 * GAS_ACCESS_ADDRESS;
        gas += list.iter().map(|item| item.storage_keys.len() as u64).sum::<u64>() * GAS_ACCESS_SLOT;
    }
    gas += tx.authorization_list().map_or(0, |list| list.len() as u64) * GAS_AUTHORIZATION;
    let floor = if fork >= Fork::Prague { GAS_BASE + tokens * GAS_FLOOR_TOKEN } else { 0 };
    (gas, floor)
}

/// What holds for a transaction anywhere in the chain: judged by the pool before admission and by `check`.
pub fn validate(chain_id: u64, fork: Fork, tx: &Envelope, allow_unprotected: bool) -> std::result::Result<(), Refusal> {
    match tx.chain_id() {
        Some(id) if id != chain_id => {
            return Err(format!("invalid sender: invalid chain id for signer: have {id} want {chain_id}"));
        }
        None if !allow_unprotected => {
            return Err("only replay-protected (EIP-155) transactions allowed over RPC".into());
        }
        _ => {}
    }
    if tx.is_eip4844() || (tx.is_eip7702() && fork < Fork::Prague) {
        return Err(UNSUPPORTED.into());
    }
    let data = tx.input().len();
    if tx.is_create() && fork >= Fork::Shanghai && data > MAX_INIT_CODE {
        return Err(format!("max initcode size exceeded: code size {data}, limit {MAX_INIT_CODE}"));
    }
    if fork >= Fork::Osaka && tx.gas_limit() > MAX_GAS {
        return Err(format!("transaction gas limit too high (cap: {MAX_GAS}, tx: {})", tx.gas_limit()));
    }
    if tx.max_priority_fee_per_gas().is_some_and(|tip| tip > tx.max_fee_per_gas()) {
        return Err("max priority fee per gas higher than max fee per gas".into());
    }
    if tx.nonce() == u64::MAX {
        return Err("nonce has max value".into());
    }
    if tx.authorization_list().is_some_and(|list| list.is_empty()) {
        return Err("EIP-7702 transaction with empty auth list".into());
    }
    let (intrinsic, floor) = compute_intrinsic_gas(fork, tx);
    if tx.gas_limit() < intrinsic {
        return Err(format!("intrinsic gas too low: gas {}, minimum needed {intrinsic}", tx.gas_limit()));
    }
    if tx.gas_limit() < floor {
        return Err(format!(
            "insufficient gas for floor data gas cost: gas {}, minimum needed {floor}",
            tx.gas_limit()
        ));
    }
    Ok(())
}

/// The most that a transaction can take from its sender; saturates where no balance could pay it.
pub fn compute_cost(tx: &Envelope) -> U256 {
    let gas = U256::from(tx.gas_limit()) * U256::from(tx.max_fee_per_gas());
    gas.saturating_add(tx.value())
}

/// What a transaction pays per gas in a block with this base fee.
pub fn effective_price(tx: &Envelope, base_fee: u64) -> u128 {
    match tx.max_priority_fee_per_gas() {
        Some(tip) => tx.max_fee_per_gas().min(tip.saturating_add(u128::from(base_fee))),
        None => tx.max_fee_per_gas(),
    }
}

/// geth's words for a balance that does not cover `want`.
pub fn insufficient_funds(sender: &Address, have: &U256, want: &U256) -> Refusal {
    format!("insufficient funds for gas * price + value: address {sender} have {have} want {want}")
}

/// (hash, sender, intrinsic gas) of a transaction that is valid under these rules; raises Rejected otherwise.
#[pyfunction]
fn inspect_transaction(
    py: Python<'_>,
    raw: &[u8],
    fork: &str,
    chain_id: u64,
) -> PyResult<(Py<PyBytes>, Py<PyBytes>, u64)> {
    let fork = Fork::parse(fork)?;
    let envelope = decode(raw).map_err(Error::rejected)?;
    validate(chain_id, fork, &envelope, true).map_err(Error::rejected)?;
    let sender = recover(&envelope).map_err(Error::rejected)?;
    let hash = keccak256(raw);
    let (gas, _) = compute_intrinsic_gas(fork, &envelope);
    Ok((PyBytes::new(py, hash.as_slice()).unbind(), PyBytes::new(py, sender.as_slice()).unbind(), gas))
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(inspect_transaction, m)?)
}
