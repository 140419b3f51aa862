//! The key-value application: operations of clients on an authenticated map of keys.
//!
//! `item` is what clients send, `state` what the trie holds, `run` the execution of one block, `tree` the executed
//! blocks, `live` the newest state in memory, `records` what the store holds of blocks, `core` all of it together, `pool` what
//! waits for a block, `port` who waits for an answer, `portable` the state in pieces, `face` what Python sees.

mod core;
mod face;
mod item;
mod live;
mod pool;
mod port;
mod portable;
mod records;
mod run;
mod state;
mod tree;

pub use face::export;
