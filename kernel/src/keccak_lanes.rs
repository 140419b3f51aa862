//! keccak256 of several messages at once: four or eight side by side where the processor has AVX-512, otherwise one by one.
//!
//! Source: FIPS 202 (the permutation), with the padding of the original Keccak that Ethereum uses.

use alloy_primitives::{B256, keccak256};

/// Append the hash of each message, in order.
pub fn hash_many<'a>(messages: impl ExactSizeIterator<Item = &'a [u8]>, out: &mut Vec<B256>) {
    #[cfg(target_arch = "x86_64")]
    if messages.len() >= x86::WORTHWHILE && has_lanes() {
        let first = out.len();
        out.resize(first + messages.len(), B256::ZERO);
        // SAFETY: the processor has AVX-512F and AVX-512VL.
        return unsafe { x86::hash_many(messages, &mut out[first..]) };
    }
    out.extend(messages.map(keccak256));
}

#[cfg(target_arch = "x86_64")]
fn has_lanes() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl")
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use alloy_primitives::{B256, keccak256};
    use std::arch::x86_64::*;

    /// Four lanes cost less than this many single hashes.
    pub const WORTHWHILE: usize = 2;
    pub const LANES: usize = 8;
    /// Bytes that one permutation absorbs, as words.
    const RATE_BYTES: usize = 136;
    const RATE_WORDS: usize = RATE_BYTES / 8;

    const ROUND_CONSTANTS: [i64; 24] = [
        0x0000_0000_0000_0001,
        0x0000_0000_0000_8082,
        0x8000_0000_0000_808a_u64 as i64,
        0x8000_0000_8000_8000_u64 as i64,
        0x0000_0000_0000_808b,
        0x0000_0000_8000_0001,
        0x8000_0000_8000_8081_u64 as i64,
        0x8000_0000_0000_8009_u64 as i64,
        0x0000_0000_0000_008a,
        0x0000_0000_0000_0088,
        0x0000_0000_8000_8009,
        0x0000_0000_8000_000a,
        0x0000_0000_8000_808b,
        0x8000_0000_0000_008b_u64 as i64,
        0x8000_0000_0000_8089_u64 as i64,
        0x8000_0000_0000_8003_u64 as i64,
        0x8000_0000_0000_8002_u64 as i64,
        0x8000_0000_0000_0080_u64 as i64,
        0x0000_0000_0000_800a,
        0x8000_0000_8000_000a_u64 as i64,
        0x8000_0000_8000_8081_u64 as i64,
        0x8000_0000_0000_8080_u64 as i64,
        0x0000_0000_8000_0001,
        0x8000_0000_8000_8008_u64 as i64,
    ];

    /// How many permutations a message takes; its padding has at least one byte.
    fn blocks(message: &[u8]) -> usize {
        message.len() / RATE_BYTES + 1
    }

    #[target_feature(enable = "avx512f,avx512vl")]
    pub fn hash_many<'a>(messages: impl ExactSizeIterator<Item = &'a [u8]>, out: &mut [B256]) {
        // Lanes of one length waste no permutation.
        let mut order: Vec<(usize, &[u8])> = messages.enumerate().collect();
        order.sort_unstable_by_key(|(place, message)| (blocks(message), *place));
        for group in order.chunks(LANES) {
            match group.len() {
                0..WORTHWHILE => group.iter().for_each(|(place, message)| out[*place] = keccak256(message)),
                WORTHWHILE..=narrow::LANES => narrow::hash_group(group, out),
                _ => wide::hash_group(group, out),
            }
        }
    }

    /// One block of a message into its lane; nothing beyond its last.
    #[inline]
    fn absorb<const LANES: usize>(message: &[u8], block: usize, lane: usize, words: &mut [[i64; LANES]; RATE_WORDS]) {
        let rest = message.get(block * RATE_BYTES..);
        let Some(rest) = rest else { return };
        let mut padded = [0u8; RATE_BYTES];
        let bytes = if rest.len() >= RATE_BYTES {
            &rest[..RATE_BYTES]
        } else {
            padded[..rest.len()].copy_from_slice(rest);
            padded[rest.len()] = 1;
            padded[RATE_BYTES - 1] |= 0x80;
            &padded
        };
        for (word, eight) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            word[lane] = i64::from_le_bytes(*eight);
        }
    }

    /// Rho and pi: the word at x + 5y goes, rotated, to y + 5 (2x + 3y mod 5).
    macro_rules! rotate {
        ($rol:ident, $from:ident, $to:ident; $($source:literal => $target:literal by $bits:literal),* $(,)?) => {
            $($to[$target] = $rol::<$bits>($from[$source]);)*
        };
    }

    /// The same for vectors of two widths.
    macro_rules! lanes {
        (
            $(#[$doc:meta])* $name:ident, $lanes:literal, $features:literal, $vector:ty, $zero:ident, $load:ident, $store:ident,
            $xor:ident, $ternary:ident, $rol:ident, $splat:ident
        ) => {
            $(#[$doc])*
            pub mod $name {
                use super::*;

                pub const LANES: usize = $lanes;

                #[target_feature(enable = $features)]
                pub fn hash_group(group: &[(usize, &[u8])], out: &mut [B256]) {
                    let mut state = [$zero(); 25];
                    let most = group.iter().map(|(_, message)| blocks(message)).max().unwrap_or(0);
                    for block in 0..most {
                        let mut words = [[0i64; LANES]; RATE_WORDS];
                        for (lane, (_, message)) in group.iter().enumerate() {
                            absorb(message, block, lane, &mut words);
                        }
                        for (place, word) in words.iter().enumerate() {
                            // SAFETY: a row is as long as a vector; the load asks for no alignment.
                            let row = unsafe { $load(word.as_ptr().cast()) };
                            state[place] = $xor(state[place], row);
                        }
                        permute(&mut state);
                        let is_last = |message: &[u8]| blocks(message) == block + 1;
                        if group.iter().any(|(_, message)| is_last(message)) {
                            let digest = squeeze(&state);
                            for (lane, (place, message)) in group.iter().enumerate() {
                                if is_last(message) {
                                    for (word, row) in digest.iter().enumerate() {
                                        out[*place][word * 8..word * 8 + 8].copy_from_slice(&row[lane].to_le_bytes());
                                    }
                                }
                            }
                        }
                    }
                }

                #[target_feature(enable = $features)]
                fn squeeze(state: &[$vector; 25]) -> [[i64; LANES]; 4] {
                    let mut digest = [[0i64; LANES]; 4];
                    for (row, lanes) in digest.iter_mut().zip(state) {
                        // SAFETY: a row is as long as a vector; the store asks for no alignment.
                        unsafe { $store(row.as_mut_ptr().cast(), *lanes) };
                    }
                    digest
                }

                #[inline]
                #[target_feature(enable = $features)]
                pub fn permute(state: &mut [$vector; 25]) {
                    const XOR3: i32 = 0x96;
                    // a ^ (!b & c)
                    const CHI: i32 = 0xd2;
                    let mut a = *state;
                    for constant in ROUND_CONSTANTS {
                        let mut c = [$zero(); 5];
                        for x in 0..5 {
                            let upper = $ternary::<XOR3>(a[x], a[x + 5], a[x + 10]);
                            c[x] = $ternary::<XOR3>(upper, a[x + 15], a[x + 20]);
                        }
                        for x in 0..5 {
                            let (left, right) = (c[(x + 4) % 5], $rol::<1>(c[(x + 1) % 5]));
                            for y in 0..5 {
                                a[x + 5 * y] = $ternary::<XOR3>(a[x + 5 * y], left, right);
                            }
                        }
                        let mut b = [$zero(); 25];
                        rotate!($rol, a, b;
                            0 => 0 by 0, 1 => 10 by 1, 2 => 20 by 62, 3 => 5 by 28, 4 => 15 by 27,
                            5 => 16 by 36, 6 => 1 by 44, 7 => 11 by 6, 8 => 21 by 55, 9 => 6 by 20,
                            10 => 7 by 3, 11 => 17 by 10, 12 => 2 by 43, 13 => 12 by 25, 14 => 22 by 39,
                            15 => 23 by 41, 16 => 8 by 45, 17 => 18 by 15, 18 => 3 by 21, 19 => 13 by 8,
                            20 => 14 by 18, 21 => 24 by 2, 22 => 9 by 61, 23 => 19 by 56, 24 => 4 by 14,
                        );
                        for y in 0..5 {
                            for x in 0..5 {
                                let row = 5 * y;
                                let (next, after) = (b[row + (x + 1) % 5], b[row + (x + 2) % 5]);
                                a[row + x] = $ternary::<CHI>(b[row + x], next, after);
                            }
                        }
                        a[0] = $xor(a[0], $splat(constant));
                    }
                    *state = a;
                }
            }
        };
    }

    lanes!(
        wide,
        8,
        "avx512f",
        __m512i,
        _mm512_setzero_si512,
        _mm512_loadu_si512,
        _mm512_storeu_si512,
        _mm512_xor_si512,
        _mm512_ternarylogic_epi64,
        _mm512_rol_epi64,
        _mm512_set1_epi64
    );
    lanes!(
        /// Half as wide, twice as fast: three units work on these, and two on the others.
        narrow, 4, "avx512f,avx512vl", __m256i, _mm256_setzero_si256, _mm256_loadu_si256, _mm256_storeu_si256,
        _mm256_xor_si256, _mm256_ternarylogic_epi64, _mm256_rol_epi64, _mm256_set1_epi64x
    );
    pub use wide::permute;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_hashes_are_those_of_one_by_one() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| (i * 7 + i / 256) as u8).collect();
        for count in 0..40 {
            let messages: Vec<&[u8]> = (0..count).map(|i| &bytes[i..i + (i * 37 + count * 13) % 600]).collect();
            let mut found = vec![B256::ZERO];
            hash_many(messages.iter().copied(), &mut found);
            let expected: Vec<B256> = messages.iter().map(keccak256).collect();
            assert_eq!(found[1..], expected);
        }
        // Around the borders of a block.
        let messages: Vec<&[u8]> = (130..150).chain(265..280).map(|length| &bytes[..length]).collect();
        let mut found = Vec::new();
        hash_many(messages.iter().copied(), &mut found);
        assert_eq!(found, messages.iter().map(keccak256).collect::<Vec<_>>());
    }

    #[test]
    #[ignore = "prints timings"]
    fn hash_bench() {
        let bytes = vec![7u8; 600];
        for length in [20usize, 110, 532] {
            for lanes in [1usize, 2, 4, 8, 16] {
                let start = std::time::Instant::now();
                let mut out = Vec::new();
                for _ in 0..20_000 {
                    out.clear();
                    hash_many((0..lanes).map(|i| &bytes[i..i + length]), &mut out);
                }
                println!("{length} bytes, {lanes} at once: {:.0?} each", start.elapsed() / (20_000 * lanes as u32));
            }
        }
    }
}
