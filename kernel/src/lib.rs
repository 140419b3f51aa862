//! The kernel of Quorate: whatever happens once per transaction, hash, trie node, signature, record of a journal, frame of a
//! link or event of a simulated run.
//!
//! This file only exports; `src/quorate/_kernel.pyi` describes what Python sees. Nothing here decides.

mod addresses;
mod appearances;
mod block;
mod call;
mod chain;
mod check;
mod chunks;
mod codec;
mod crypto;
mod cutting;
mod dev;
mod dev_face;
mod digest;
mod errors;
mod event_queue;
mod evm;
mod file_sync;
mod fill;
mod genesis;
mod history;
mod import;
mod journal;
mod json;
mod keccak_lanes;
mod keyvalue;
#[cfg(test)]
mod kill_tests;
mod ledger;
mod lines;
mod link;
mod memo;
mod ordered_trie;
mod otterscan;
mod payload;
mod payload_hash;
mod pool;
mod pool_face;
mod portable;
mod precompiles;
mod queries;
mod responder;
mod reward;
mod rules;
mod seal;
mod simulate;
mod site;
mod snapshot_face;
mod sparse;
mod state;
#[cfg(test)]
mod state_bench;
#[cfg(test)]
mod state_tests;
mod store;
mod store_lmdb;
mod sweep;
mod threads;
mod trace;
mod trace_budget;
mod transaction;
mod transition;
mod tree;
mod tree_store;
mod trie;
mod trie_node;
mod trie_update;
mod twister;
mod types;
#[cfg(test)]
mod vector_tests;
mod view;

use pyo3::prelude::*;

#[pymodule]
fn _kernel(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    errors::export(m)?;
    crypto::export(m)?;
    payload_hash::export(m)?;
    seal::export(m)?;
    transaction::export(m)?;
    transition::export(m)?;
    trie::export(m)?;
    keyvalue::export(m)?;
    ledger::export(m)?;
    journal::export(m)?;
    file_sync::export(m)?;
    digest::export(m)?;
    event_queue::export(m)?;
    lines::export(m)?;
    twister::export(m)?;
    pool_face::export(m)?;
    view::export(m)?;
    addresses::export(m)?;
    fill::export(m)?;
    snapshot_face::export(m)?;
    chunks::export(m)?;
    cutting::export(m)?;
    check::export(m)?;
    responder::export(m)?;
    threads::export(m)?;
    link::export(m)?;
    Ok(())
}
