//! Roots of lists: the trie from RLP(index) to value that headers hold of transactions and receipts, and blooms of logs.
//!
//! Source: Yellow Paper, section 4.3.2 and appendix D; EIP-2718. As everywhere here, siblings are hashed together.

use crate::errors::{Error, Result};
use crate::keccak_lanes::hash_many;
use crate::store::Store;
use crate::trie::Origin;
use crate::trie_node::{Leaf, NodeWriter, Reader};
use crate::trie_update::{Edit, Item, Top, update};
use alloy_primitives::{B256, Bloom, BloomInput, Log};
use alloy_rlp::Encodable;
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles};
use std::sync::Arc;

/// A value that is hashed and not stored.
#[derive(Clone, Copy, PartialEq)]
struct Hashed<'a>(&'a [u8]);

impl Leaf for Hashed<'_> {
    fn write_record(&self, _out: &mut Vec<u8>) {}

    fn read_record(_record: &mut Reader<'_>) -> Result<Self> {
        Err(Error::corrupt("trie of a list: read a node, expected only to write"))
    }

    fn write_value(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0);
    }
}

impl<'a> Edit for Hashed<'a> {
    type Leaf = Hashed<'a>;

    fn apply(&self, _old: Option<&Hashed<'a>>) -> Option<Hashed<'a>> {
        Some(*self)
    }
}

/// The root of the list of these values.
pub fn ordered_root(values: &[&[u8]]) -> Result<B256> {
    let mut items = Vec::with_capacity(values.len());
    let mut push = |index: usize| {
        let mut key = [0u8; 10];
        let mut rest = &mut key[..];
        index.encode(&mut rest);
        let left = rest.len();
        let key = Nibbles::unpack(&key[..10 - left]);
        items.push(Item { key, edit: Hashed(values[index]) });
    };
    // The order of the keys: RLP of 0 is 0x80, of 1 to 127 one smaller byte, of all above a larger prefix.
    let small = values.len().min(0x80);
    (1..small).chain((!values.is_empty()).then_some(0)).chain(small..values.len()).for_each(&mut push);
    if items.is_empty() {
        return Ok(EMPTY_ROOT_HASH);
    }
    let source = Origin { layers: Arc::new([]), store: Store::in_memory() }.open()?;
    let mut writer = NodeWriter::new(0, 0, 1);
    Ok(match update(&source, None, &items, &mut writer)? {
        Top::Changed(Some(link)) => link.reference.root(),
        Top::Changed(None) | Top::Unchanged => EMPTY_ROOT_HASH,
    })
}

/// The bloom of each of these lists of logs.
pub fn logs_blooms<'a>(lists: impl Iterator<Item = &'a [Log]> + Clone) -> Vec<Bloom> {
    let parts = |log: &'a Log| std::iter::once(log.address.as_slice()).chain(log.topics().iter().map(|t| t.as_slice()));
    let inputs: Vec<&[u8]> = lists.clone().flatten().flat_map(parts).collect();
    let mut hashes = Vec::with_capacity(inputs.len());
    hash_many(inputs.into_iter(), &mut hashes);
    let mut hashes = hashes.into_iter();
    let bloom_of = |logs: &[Log]| {
        let mut bloom = Bloom::ZERO;
        let count = logs.iter().map(|log| 1 + log.topics().len()).sum();
        hashes.by_ref().take(count).for_each(|hash| bloom.accrue(BloomInput::Hash(hash)));
        bloom
    };
    lists.map(bloom_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, Bytes, keccak256};
    use alloy_trie::root::ordered_trie_root_encoded;

    #[test]
    fn roots_are_those_of_the_hash_builder() {
        let bytes: Vec<u8> = (0..400u32).flat_map(|i| keccak256(i.to_be_bytes()).0).collect();
        for count in (0..300).chain([1000, 66_000]) {
            let values: Vec<&[u8]> = (0..count).map(|i| &bytes[i % 97..i % 97 + 1 + i * 31 % 500]).collect();
            let expected = if count == 0 { EMPTY_ROOT_HASH } else { ordered_trie_root_encoded(&values) };
            assert_eq!(ordered_root(&values).unwrap(), expected, "{count} values");
        }
        // Short values lie inside their parents.
        let tiny: Vec<&[u8]> = (0..200).map(|i| &bytes[i..i + 1 + i % 3]).collect();
        assert_eq!(ordered_root(&tiny).unwrap(), ordered_trie_root_encoded(&tiny));
    }

    #[test]
    fn blooms_are_those_of_each_list() {
        let log = |i: usize| {
            let topics = (0..i % 5).map(|t| B256::repeat_byte((i + t) as u8)).collect();
            Log::new_unchecked(Address::repeat_byte(i as u8), topics, Bytes::from(vec![1; i]))
        };
        let lists: Vec<Vec<Log>> = (0..40).map(|i| (0..i % 4).map(|j| log(i * 3 + j)).collect()).collect();
        let found = logs_blooms(lists.iter().map(|logs| logs.as_slice()));
        let expected: Vec<Bloom> = lists.iter().map(alloy_primitives::logs_bloom).collect();
        assert_eq!(found, expected);
    }
}
