//! keccak256, and secp256k1 signatures with public key recovery (SEC 1, EIP-2 low s, RFC 6979 nonces).

use crate::errors::{Error, Result, fixed};
use crate::memo;
use alloy_primitives::{Address, B256, keccak256 as keccak};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rayon::prelude::*;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};

/// n / 2 of secp256k1, big-endian: the largest s that EIP-2 admits.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5d, 0x57, 0x6e,
    0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

pub fn address_of(key: &PublicKey) -> Address {
    Address::from_slice(&keccak(&key.serialize_uncompressed()[1..])[12..])
}

/// The signer of `digest`; refuses high s, so that no signature has a second form.
pub fn recover_address(digest: &[u8; 32], signature: &[u8; 65]) -> Result<Address> {
    if signature[32..64] > HALF_ORDER[..] {
        return Err(Error::invalid("signature: s is above n/2, expected the low form (EIP-2)"));
    }
    let parity = RecoveryId::try_from(i32::from(signature[64]))
        .ok()
        .filter(|_| signature[64] < 2)
        .ok_or_else(|| Error::invalid(format!("signature: parity {}, expected 0 or 1", signature[64])))?;
    let recoverable = RecoverableSignature::from_compact(&signature[..64], parity)
        .map_err(|e| Error::invalid(format!("signature: {e}")))?;
    let key = SECP256K1
        .recover_ecdsa(Message::from_digest(*digest), &recoverable)
        .map_err(|_| Error::invalid("signature: no public key gives it"))?;
    Ok(address_of(&key))
}

fn parse_secret(secret: &[u8]) -> Result<SecretKey> {
    SecretKey::from_byte_array(fixed::<32>("secret key", secret)?)
        .map_err(|_| Error::invalid("secret key: not in [1, n)"))
}

#[pyfunction]
fn keccak256(py: Python<'_>, data: &[u8]) -> Py<PyBytes> {
    PyBytes::new(py, memo::keccak256(data).as_slice()).unbind()
}

#[pyfunction]
fn public_key(py: Python<'_>, secret: &[u8]) -> PyResult<Py<PyBytes>> {
    let key = PublicKey::from_secret_key(SECP256K1, &parse_secret(secret)?);
    Ok(PyBytes::new(py, &key.serialize_uncompressed()[1..]).unbind())
}

#[pyfunction]
fn address(py: Python<'_>, secret: &[u8]) -> PyResult<Py<PyBytes>> {
    let key = PublicKey::from_secret_key(SECP256K1, &parse_secret(secret)?);
    Ok(PyBytes::new(py, address_of(&key).as_slice()).unbind())
}

/// r, s and parity.
pub fn sign_digest(secret: &[u8], digest: [u8; 32]) -> Result<[u8; 65]> {
    let key = parse_secret(secret)?;
    let (parity, compact) = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest), &key).serialize_compact();
    let mut signature = [0u8; 65];
    signature[..64].copy_from_slice(&compact);
    signature[64] = i32::from(parity) as u8;
    Ok(signature)
}

#[pyfunction]
fn sign(py: Python<'_>, secret: &[u8], digest: &[u8]) -> PyResult<Py<PyBytes>> {
    let digest = fixed::<32>("digest", digest)?;
    Ok(PyBytes::new(py, &sign_digest(secret, digest)?).unbind())
}

#[pyfunction]
fn recover(py: Python<'_>, digest: &[u8], signature: &[u8]) -> PyResult<Py<PyBytes>> {
    let signer = recover_address(&fixed::<32>("digest", digest)?, &fixed::<65>("signature", signature)?)?;
    Ok(PyBytes::new(py, signer.as_slice()).unbind())
}

#[pyfunction]
fn recover_many(py: Python<'_>, items: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<Option<Py<PyBytes>>> {
    let one = |(digest, signature): &(Vec<u8>, Vec<u8>)| {
        recover_address(&fixed("digest", digest).ok()?, &fixed("signature", signature).ok()?).ok()
    };
    let signers: Vec<Option<Address>> = py.detach(|| items.par_iter().map(one).collect());
    signers.iter().map(|s| s.map(|a| PyBytes::new(py, a.as_slice()).unbind())).collect()
}

#[pyfunction]
fn transaction_hash(py: Python<'_>, raw: &[u8]) -> Py<PyBytes> {
    let hash: B256 = keccak(raw);
    PyBytes::new(py, hash.as_slice()).unbind()
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(keccak256, m)?)?;
    m.add_function(wrap_pyfunction!(public_key, m)?)?;
    m.add_function(wrap_pyfunction!(address, m)?)?;
    m.add_function(wrap_pyfunction!(sign, m)?)?;
    m.add_function(wrap_pyfunction!(recover, m)?)?;
    m.add_function(wrap_pyfunction!(recover_many, m)?)?;
    m.add_function(wrap_pyfunction!(transaction_hash, m)?)
}
