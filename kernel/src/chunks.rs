//! Parts of a state that is on its way here, kept until all are there.
//!
//! Table `Meta`: `chunk`, what they are parts of (32 bytes), and `chunk` with a number (4), a part. They go in the transaction
//! in which the state is installed.

use crate::errors::Result;
use crate::ledger::{detached, hash_argument};
use crate::store::{Batch, Change, Store, Table};
use alloy_primitives::{B256, Bytes};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

const NAME: &[u8] = b"chunk";
/// The first name after all of them.
const END: &[u8] = b"chunl";

fn key(number: u32) -> Vec<u8> {
    [NAME, &number.to_be_bytes()].concat()
}

/// Forget all parts.
pub fn batch_forget(batch: &mut Batch) {
    batch.push(Change::Clear(Table::Meta, NAME.to_vec(), END.to_vec()));
}

fn is_of(store: &Store, whole: &B256) -> Result<bool> {
    Ok(store.snapshot()?.get(Table::Meta, NAME)?.is_some_and(|found| *found == *whole.as_slice()))
}

/// The numbers of the parts of `whole` that are kept; those of anything else are forgotten.
fn begin(store: &Store, whole: &B256) -> Result<Vec<u32>> {
    if !is_of(store, whole)? {
        let mut batch = Batch::new();
        batch_forget(&mut batch);
        batch.push(Change::Put(Table::Meta, NAME.to_vec(), Bytes::copy_from_slice(whole.as_slice())));
        store.write(&batch)?;
        return Ok(Vec::new());
    }
    let keys = store.snapshot()?.keys_between(Table::Meta, &key(0), &key(u32::MAX), true, usize::MAX)?;
    let number = |key: Vec<u8>| key.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
    Ok(keys.into_iter().filter_map(number).collect())
}

/// The parts that a store keeps.
#[pyclass(frozen, module = "quorate._kernel")]
pub struct Chunks {
    store: Store,
}

impl Chunks {
    pub fn of(store: &Store) -> Chunks {
        Chunks { store: store.clone() }
    }
}

#[pymethods]
impl Chunks {
    fn begin(&self, py: Python<'_>, whole: &[u8]) -> PyResult<Vec<u32>> {
        let whole = hash_argument("whole", whole)?;
        detached(py, || begin(&self.store, &whole))
    }

    /// Keep a part durably, if it is of what was begun last.
    fn put(&self, py: Python<'_>, whole: &[u8], number: u32, chunk: &[u8]) -> PyResult<()> {
        let whole = hash_argument("whole", whole)?;
        detached(py, || {
            if !is_of(&self.store, &whole)? {
                return Ok(());
            }
            self.store.write(&vec![Change::Put(Table::Meta, key(number), Bytes::copy_from_slice(chunk))])
        })
    }

    fn get<'py>(&self, py: Python<'py>, number: u32) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let found = detached(py, || {
            Ok(self.store.snapshot()?.get(Table::Meta, &key(number))?.map(|chunk| chunk.into_bytes()))
        })?;
        Ok(found.map(|chunk| PyBytes::new(py, &chunk)))
    }

    fn forget(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || {
            let mut batch = Batch::new();
            batch_forget(&mut batch);
            self.store.write(&batch)
        })
    }
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Chunks>()
}
