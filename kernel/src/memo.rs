//! The last hashes of short inputs. Consensus hashes the same again and again: what every member signed, what each of
//! them proves, the envelope that all of them carry.
//!
//! A slot is chosen by a quick hash and holds one input, which is compared whole: who finds inputs that share a slot
//! gains that nothing is remembered.

use alloy_primitives::{B256, keccak256 as compute};
use std::cell::RefCell;

/// Where a look costs less than the hash, and what consensus hashes fits in.
const LONGEST: usize = 448;
const SLOTS: usize = 1 << 9;

#[derive(Clone)]
struct Slot {
    length: usize,
    input: [u8; LONGEST],
    hash: B256,
}

thread_local! {
    static SLOTS_OF_THREAD: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
}

fn choose_slot(data: &[u8]) -> usize {
    let (words, rest) = data.as_chunks::<8>();
    let mut sum = data.len() as u64;
    let mut take = |word: u64| sum = (sum.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for word in words {
        take(u64::from_le_bytes(*word));
    }
    take(rest.iter().fold(1, |sum, byte| sum << 8 | u64::from(*byte)));
    (sum >> 55) as usize % SLOTS
}

/// keccak256, from memory where it was computed a moment ago.
pub fn keccak256(data: &[u8]) -> B256 {
    if data.len() > LONGEST {
        return compute(data);
    }
    SLOTS_OF_THREAD.with_borrow_mut(|slots| {
        if slots.is_empty() {
            *slots = vec![Slot { length: usize::MAX, input: [0; LONGEST], hash: B256::ZERO }; SLOTS];
        }
        let slot = &mut slots[choose_slot(data)];
        if slot.length != data.len() || slot.input[..data.len()] != *data {
            slot.hash = compute(data);
            slot.length = data.len();
            slot.input[..data.len()].copy_from_slice(data);
        }
        slot.hash
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_the_hash() {
        let inputs: Vec<Vec<u8>> = (0..3 * SLOTS)
            .map(|n| n.to_le_bytes().iter().copied().cycle().take(n % (LONGEST + 20)).collect())
            .collect();
        for _ in 0..2 {
            for input in &inputs {
                assert_eq!(keccak256(input), compute(input));
            }
        }
    }

    #[test]
    fn inputs_of_one_slot_are_told_apart() {
        let first = [7u8; 93];
        let slot = choose_slot(&first);
        let second = (0u64..)
            .map(|n| [&n.to_le_bytes()[..], &[0; 85]].concat())
            .find(|input| choose_slot(input) == slot)
            .expect("one in a thousand");
        for input in [&first[..], &second, &first, &second] {
            assert_eq!(keccak256(input), compute(input));
        }
    }
}
