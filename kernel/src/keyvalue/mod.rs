//! The key-value application: operations of clients on an authenticated map of keys.
//!
//! `item` is what clients send, `state` what the trie holds, `run` the execution of one block, `core` the tree of executed
//! blocks over the store, `pool` what waits, `portable` the state in pieces, `face` what Python sees.

mod core;
mod face;
mod item;
mod pool;
mod portable;
mod run;
mod state;
#[cfg(test)]
mod tests;

pub use face::export;
