//! The threads that large calls share their work between: rayon's, as many as there are processors. And processes that
//! have none but one, and fork.

use pyo3::prelude::*;
use rayon::ThreadPoolBuilder;

/// Lets the calling thread do all work by itself, for as long as the process lives; false if there are threads already.
#[pyfunction]
fn keep_to_this_thread() -> bool {
    ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global().is_ok()
}

unsafe extern "C" {
    fn fork() -> i32;
}

/// Python's own fork makes locks anew and calls what modules registered, which touches a tenth of all memory that a short
/// child writes to. With one thread no lock is held by anybody else: the child's one goes on where the parent's was.
#[pyfunction]
fn fork_process() -> PyResult<i32> {
    // Safety: the interpreter is attached to this thread, and the caller has no other.
    match unsafe { fork() } {
        -1 => Err(std::io::Error::last_os_error().into()),
        child => Ok(child),
    }
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(keep_to_this_thread, m)?)?;
    m.add_function(wrap_pyfunction!(fork_process, m)?)
}
