//! The search for the nonce of a proof of work: keccak256(keccak256(header) || nonce), read as a number, is at most the
//! target. The nonce is eight bytes, big-endian, so a try is one permutation.
//!
//! Eight nonces are tried side by side where the processor has AVX-512.

use crate::errors::fixed;
use alloy_primitives::keccak256;
use pyo3::prelude::*;

/// What is hashed for one nonce: the digest of the header, then the nonce.
fn compute_seal(digest: &[u8; 32], nonce: u64) -> [u8; 32] {
    let mut message = [0u8; 40];
    message[..32].copy_from_slice(digest);
    message[32..].copy_from_slice(&nonce.to_be_bytes());
    keccak256(message).0
}

/// The first nonce of `count` from `start` on that meets the target; numbers beyond 64 bits begin again at zero.
pub fn find_nonce(digest: &[u8; 32], target: &[u8; 32], start: u64, count: u64) -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
        // SAFETY: the processor has what the function asks for.
        return unsafe { x86::find_nonce(digest, target, start, count) };
    }
    find_nonce_singly(digest, target, start, count)
}

fn find_nonce_singly(digest: &[u8; 32], target: &[u8; 32], start: u64, count: u64) -> Option<u64> {
    (0..count).map(|i| start.wrapping_add(i)).find(|&nonce| compute_seal(digest, nonce) <= *target)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{compute_seal, find_nonce_singly};
    use crate::keccak_lanes::x86::{LANES, permute};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512bw")]
    pub fn find_nonce(digest: &[u8; 32], target: &[u8; 32], start: u64, count: u64) -> Option<u64> {
        let mut block = [_mm512_setzero_si512(); 25];
        for (word, bytes) in block.iter_mut().zip(digest.as_chunks::<8>().0) {
            *word = _mm512_set1_epi64(i64::from_le_bytes(*bytes));
        }
        // The padding of a message of 40 bytes, up to the end of the 136 that are absorbed.
        block[5] = _mm512_set1_epi64(1);
        block[16] = _mm512_set1_epi64(i64::MIN);
        let swap = _mm512_set4_epi32(0x0809_0a0b, 0x0c0d_0e0f, 0x0001_0203, 0x0405_0607);
        let top = u64::from_be_bytes(target[..8].try_into().expect("eight bytes"));
        let top = _mm512_set1_epi64(top as i64);
        let mut nonces = _mm512_add_epi64(_mm512_set1_epi64(start as i64), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
        let step = _mm512_set1_epi64(LANES as i64);
        let groups = count / LANES as u64;
        for group in 0..groups {
            let mut state = block;
            state[4] = _mm512_shuffle_epi8(nonces, swap);
            permute(&mut state);
            // The first eight bytes decide for all but one in 2^64 of the nonces.
            let candidates = _mm512_cmple_epu64_mask(_mm512_shuffle_epi8(state[0], swap), top);
            if candidates != 0 {
                let first = start.wrapping_add(group * LANES as u64);
                let mut lanes = (0..LANES as u64).filter(|lane| candidates >> lane & 1 == 1);
                let found = lanes.find(|lane| compute_seal(digest, first.wrapping_add(*lane)) <= *target);
                if let Some(lane) = found {
                    return Some(first.wrapping_add(lane));
                }
            }
            nonces = _mm512_add_epi64(nonces, step);
        }
        let tried = groups * LANES as u64;
        find_nonce_singly(digest, target, start.wrapping_add(tried), count - tried)
    }
}

#[pyfunction]
fn seal(py: Python<'_>, header: &[u8], target: &[u8], start: u64, count: u64) -> PyResult<Option<u64>> {
    let target = fixed::<32>("target", target)?;
    Ok(py.detach(|| find_nonce(&keccak256(header).0, &target, start, count)))
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(seal, m)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_are_those_of_one_by_one() {
        for (round, bits) in [0u32, 1, 3, 8, 11, 13].into_iter().cycle().take(60).enumerate() {
            let digest = keccak256([round as u8]).0;
            let mut target = [0xff; 32];
            let top = u64::MAX >> bits;
            target[..8].copy_from_slice(&top.to_be_bytes());
            for start in [0, 5, u64::MAX - 20] {
                for count in [0, 1, 7, 8, 9, 1000] {
                    let found = find_nonce(&digest, &target, start, count);
                    assert_eq!(found, find_nonce_singly(&digest, &target, start, count));
                }
            }
        }
    }

    #[test]
    fn a_seal_is_at_most_the_target() {
        let digest = keccak256(b"header").0;
        let exact = compute_seal(&digest, 7);
        assert_eq!(find_nonce(&digest, &exact, 7, 1), Some(7));
        let mut below = exact;
        below[31] = below[31].wrapping_sub(1);
        if exact[31] > 0 {
            assert_eq!(find_nonce(&digest, &below, 0, 16), find_nonce_singly(&digest, &below, 0, 16));
            assert_ne!(find_nonce(&digest, &below, 7, 8), Some(7));
        }
    }
}
