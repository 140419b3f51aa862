//! Typed errors, and the Python exceptions that they become.

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

create_exception!(quorate._kernel, Invalid, PyValueError, "Malformed or unacceptable input from somebody else.");
create_exception!(quorate._kernel, Unavailable, PyRuntimeError, "Not here, or not now; trying again may help.");
create_exception!(quorate._kernel, Corrupt, PyRuntimeError, "What was read back is not what was written.");
create_exception!(quorate._kernel, Reverted, PyException, "An EVM execution reverted: (message, output).");
create_exception!(
    quorate._kernel,
    Rejected,
    PyValueError,
    "A transaction or call cannot run at all: (message,) or (message, code)."
);

/// What can go wrong in the kernel; each message names the thing, what was found and what was expected.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Corrupt(String),
    #[error("{message}")]
    Reverted { message: String, output: Vec<u8> },
    #[error("{0}")]
    Rejected(String),
    /// With a JSON-RPC code of its own.
    #[error("{message}")]
    Coded { code: i64, message: String },
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::Invalid(message.into())
    }
    pub fn unavailable(message: impl Into<String>) -> Self {
        Error::Unavailable(message.into())
    }
    pub fn corrupt(message: impl Into<String>) -> Self {
        Error::Corrupt(message.into())
    }
    pub fn coded(code: i64, message: impl Into<String>) -> Self {
        Error::Coded { code, message: message.into() }
    }
    pub fn rejected(message: impl Into<String>) -> Self {
        Error::Rejected(message.into())
    }
}

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        match error {
            Error::Invalid(m) => Invalid::new_err(m),
            Error::Unavailable(m) => Unavailable::new_err(m),
            Error::Corrupt(m) => Corrupt::new_err(m),
            Error::Rejected(m) => Rejected::new_err(m),
            Error::Coded { code, message } => Rejected::new_err((message, code)),
            Error::Reverted { message, output } => Reverted::new_err((message, output)),
        }
    }
}

/// `bytes` of a fixed length, or Invalid with what was found.
pub fn fixed<const N: usize>(name: &str, bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| Error::invalid(format!("{name}: {} bytes, expected {N}", bytes.len())))
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    m.add("Invalid", py.get_type::<Invalid>())?;
    m.add("Unavailable", py.get_type::<Unavailable>())?;
    m.add("Corrupt", py.get_type::<Corrupt>())?;
    m.add("Reverted", py.get_type::<Reverted>())?;
    m.add("Rejected", py.get_type::<Rejected>())
}
