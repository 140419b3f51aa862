//! Files that become durable beside the interpreter: a thread that needs no lock of it waits for the disk, and wakes an event
//! loop by a byte. Python's own threads wait for the interpreter once more when the disk is done.

use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;
use std::time::Instant;

/// EIO, where a system says nothing more exact.
const UNKNOWN: i32 = 5;

/// The system's error number, 0 for none, and how long it took in nanoseconds.
type Outcome = (i32, u64);

#[pyclass(frozen, module = "quorate._kernel")]
struct FileSync {
    orders: Mutex<Option<Sender<RawFd>>>,
    outcomes: Arc<Mutex<VecDeque<Outcome>>>,
}

#[pymethods]
impl FileSync {
    #[new]
    fn new(wake: RawFd) -> PyResult<FileSync> {
        let (orders, received) = channel();
        let outcomes = Arc::new(Mutex::default());
        let told = Arc::clone(&outcomes);
        Builder::new().name("quorate-sync".into()).spawn(move || run(&received, &told, wake))?;
        Ok(FileSync { orders: Mutex::new(Some(orders)), outcomes })
    }

    fn begin(&self, descriptor: RawFd) -> PyResult<()> {
        let orders = self.orders.lock();
        let sent = orders.as_ref().is_some_and(|orders| orders.send(descriptor).is_ok());
        if sent { Ok(()) } else { Err(PyValueError::new_err("sync: closed")) }
    }

    fn take(&self) -> Option<Outcome> {
        self.outcomes.lock().pop_front()
    }

    fn close(&self) {
        *self.orders.lock() = None;
    }
}

fn run(received: &Receiver<RawFd>, outcomes: &Mutex<VecDeque<Outcome>>, wake: RawFd) {
    while let Ok(descriptor) = received.recv() {
        let began = Instant::now();
        let number = match borrow(descriptor).sync_data() {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(UNKNOWN),
        };
        outcomes.lock().push_back((number, began.elapsed().as_nanos() as u64));
        // It fails where the loop has not read for very long, and is awake therefore, or where nobody listens any more.
        let _ = borrow(wake).write_all(&[0]);
    }
}

/// A file that stays its owner's.
fn borrow(descriptor: RawFd) -> ManuallyDrop<File> {
    // Safety: whoever gave the descriptor keeps it open until it has the outcome.
    ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) })
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<FileSync>()
}
