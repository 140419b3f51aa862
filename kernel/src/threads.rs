//! The threads that large calls share their work between: rayon's, as many as there are processors.

use pyo3::prelude::*;
use rayon::ThreadPoolBuilder;

/// Lets the calling thread do all work by itself, for as long as the process lives; false if there are threads already.
#[pyfunction]
fn keep_to_this_thread() -> bool {
    ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global().is_ok()
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(keep_to_this_thread, m)?)
}
