//! The official RLP and trie vectors, with counts.
//!
//! RLP is that of the library which reads every block and transaction here. A key of our tries is never the beginning of
//! another one: keys of the state are hashes, those of lists are RLP of numbers. Cases where one is are counted apart.

use crate::state_tests::{RawTrie, parse_bytes, vectors};
use alloy_primitives::hex;
use alloy_rlp::{Encodable, Error, Header};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Debug, PartialEq)]
enum Tree {
    Bytes(Vec<u8>),
    List(Vec<Tree>),
}

impl Tree {
    fn decode(rest: &mut &[u8]) -> Result<Tree, Error> {
        let header = Header::decode(rest)?;
        let (mut payload, after) = rest.split_at_checked(header.payload_length).ok_or(Error::InputTooShort)?;
        *rest = after;
        if !header.list {
            return Ok(Tree::Bytes(payload.to_vec()));
        }
        let mut items = Vec::new();
        while !payload.is_empty() {
            items.push(Tree::decode(&mut payload)?);
        }
        Ok(Tree::List(items))
    }

    fn decode_whole(mut bytes: &[u8]) -> Result<Tree, Error> {
        let tree = Tree::decode(&mut bytes)?;
        if bytes.is_empty() { Ok(tree) } else { Err(Error::UnexpectedLength) }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Tree::Bytes(bytes) => bytes.as_slice().encode(&mut out),
            Tree::List(items) => {
                let payload: Vec<u8> = items.iter().flat_map(Tree::encode).collect();
                Header { list: true, payload_length: payload.len() }.encode(&mut out);
                out.extend_from_slice(&payload);
            }
        }
        out
    }

    fn of_json(value: &Value) -> Tree {
        match value {
            Value::Array(items) => Tree::List(items.iter().map(Tree::of_json).collect()),
            Value::Number(number) => Tree::Bytes(parse_decimal(&number.to_string())),
            Value::String(text) => match text.strip_prefix('#') {
                Some(digits) => Tree::Bytes(parse_decimal(digits)),
                None => Tree::Bytes(text.as_bytes().to_vec()),
            },
            other => panic!("{other}: expected a string, a number or a list"),
        }
    }
}

/// A number of any size as RLP holds it: big-endian, without leading zeros.
fn parse_decimal(digits: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for digit in digits.bytes() {
        let mut carry = u32::from(digit - b'0');
        for byte in bytes.iter_mut().rev() {
            carry += u32::from(*byte) * 10;
            *byte = carry as u8;
            carry >>= 8;
        }
        if carry > 0 {
            bytes.insert(0, carry as u8);
        }
    }
    bytes
}

fn read_cases(file: &Path) -> BTreeMap<String, Value> {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn official_rlp_vectors() {
    let Some(folder) = vectors("RLPTests") else { return };
    let mut counts = [0, 0];
    for file in ["rlptest.json", "invalidRLPTest.json", "RandomRLPTests/example.json"] {
        for (name, case) in read_cases(&folder.join(file)) {
            let encoded = hex::decode(case["out"].as_str().unwrap()).unwrap();
            let decoded = Tree::decode_whole(&encoded);
            if case["in"] == "INVALID" {
                assert!(decoded.is_err(), "{file} {name}: {decoded:?}, expected an error");
                counts[1] += 1;
                continue;
            }
            let decoded = decoded.unwrap_or_else(|error| panic!("{file} {name}: {error}"));
            assert_eq!(decoded.encode(), encoded, "{file} {name}");
            if case["in"] != "VALID" {
                assert_eq!(decoded, Tree::of_json(&case["in"]), "{file} {name}");
            }
            counts[0] += 1;
        }
    }
    println!("RLPTests: {} valid, {} invalid", counts[0], counts[1]);
    assert_eq!(counts, [29, 26]);
}

#[test]
fn official_plain_trie_vectors() {
    let Some(folder) = vectors("TrieTests") else { return };
    let (mut ran, mut prefixes) = (0, Vec::new());
    for file in ["trietest.json", "trieanyorder.json"] {
        for (name, case) in read_cases(&folder.join(file)) {
            let pair = |key: &str, value: &Value| (parse_bytes(key), value.as_str().map(parse_bytes));
            let inputs: Vec<(Vec<u8>, Option<Vec<u8>>)> = match &case["in"] {
                Value::Array(pairs) => pairs.iter().map(|one| pair(one[0].as_str().unwrap(), &one[1])).collect(),
                Value::Object(pairs) => pairs.iter().map(|(key, value)| pair(key, value)).collect(),
                other => panic!("{file} {name}: {other}"),
            };
            let mut keys: Vec<&Vec<u8>> = inputs.iter().map(|(key, _)| key).collect();
            keys.sort();
            keys.dedup();
            if keys.windows(2).any(|two| two[1].starts_with(two[0])) {
                prefixes.push(name);
                continue;
            }
            let mut trie = RawTrie::new();
            for (key, value) in &inputs {
                trie.edit(&BTreeMap::from([(key.clone(), value.clone())]));
            }
            assert_eq!(trie.root.hash.to_string(), case["root"].as_str().unwrap(), "{file} {name}");
            ran += 1;
        }
    }
    println!("TrieTests: {ran} roots, {} cases where a key begins another one: {prefixes:?}", prefixes.len());
    assert_eq!((ran, prefixes.len()), (4, 8));
}
