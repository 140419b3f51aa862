//! A connection between two nodes without its socket: TLS 1.3 on one side (RFC 8446), frames on the other.
//!
//! Python makes one call for what a socket brought, and one for what a turn sends. Who is let in, what a frame says and when
//! a connection ends is decided there; here are records, frames and their bounds. No thread, no lock, nothing shared
//! between connections but the keys.

mod frames;
mod keys;
#[cfg(test)]
mod tests;

use crate::errors::{Error, Result};
use frames::{Frames, Packer};
use keys::TlsKeys;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use rustls::{AlertDescription, CertificateError, Connection, Error as TlsError};
use std::fmt::Debug;
use std::io::{BufRead, Write};

/// What a peer may send before its handshake is done. One with certificates like ours takes less than 2 KiB.
const MAX_HANDSHAKE_BYTES: usize = 16 << 10;
/// From here on a call lets other threads of Python run; below, giving the lock away and taking it costs more than the work.
const LARGE_BYTES: usize = 64 << 10;

/// What TLS adds to a record: its head, its type and its tag (RFC 8446, 5.2).
const RECORD_EXTRA_BYTES: usize = 5 + 1 + 16;

const CLOSED: &str = "closed by the peer";

/// One connection: what the socket brings goes to `receive`, what the socket shall take comes from it and from `seal`.
#[pyclass(module = "quorate._kernel")]
struct TlsLink {
    connection: Connection,
    frames: Frames,
    handshake_bytes: usize,
    ended: bool,
}

impl TlsLink {
    fn open(keys: &TlsKeys, dials: bool, first_bytes: usize, most_bytes: usize) -> Result<Self> {
        let mut connection = keys.open(dials)?;
        // What is given is taken whole: the caller has its own bound.
        connection.set_buffer_limit(None);
        Ok(Self { connection, frames: Frames::new(first_bytes, most_bytes), handshake_bytes: 0, ended: false })
    }

    /// Decrypt what arrived and cut it into frames, until something ends the connection: that is returned as text.
    fn take(&mut self, mut data: &[u8]) -> Option<String> {
        while !data.is_empty() {
            let before = data.len();
            match self.connection.read_tls(&mut data) {
                // Nothing is read after a peer has said that it ends.
                Ok(0) => return Some(CLOSED.into()),
                Ok(_) => {}
                Err(error) => return Some(self.blame(&error.to_string())),
            }
            let processed = self.connection.process_new_packets();
            // Frames before a bad record are whole and authentic.
            if let Some(trouble) = self.read_plaintext() {
                return Some(trouble);
            }
            match processed {
                Err(error) => return Some(self.blame(&describe(&error))),
                Ok(state) if state.peer_has_closed() => return Some(CLOSED.into()),
                Ok(_) => {}
            }
            if self.connection.is_handshaking() {
                self.handshake_bytes += before - data.len();
                if self.handshake_bytes > MAX_HANDSHAKE_BYTES {
                    return Some(self.blame(&format!("more than {MAX_HANDSHAKE_BYTES} bytes")));
                }
            }
        }
        None
    }

    /// Move what is decrypted to the frames; a frame beyond the limit is returned as text.
    fn read_plaintext(&mut self) -> Option<String> {
        let mut reader = self.connection.reader();
        // An error says that there is nothing more for now, and an empty chunk that there will never be.
        while let Ok(chunk) = reader.fill_buf()
            && !chunk.is_empty()
        {
            let length = chunk.len();
            if let Err(trouble) = self.frames.extend(chunk) {
                return Some(trouble);
            }
            reader.consume(length);
        }
        None
    }

    fn blame(&self, what: &str) -> String {
        let when = if self.connection.is_handshaking() { "TLS handshake failed" } else { "TLS failed" };
        format!("{when}: {what}")
    }

    /// Encrypt frames, each after its length.
    fn put(&mut self, frames: &[&[u8]]) -> std::io::Result<Vec<u8>> {
        let mut writer = self.connection.writer();
        let mut packer = Packer::new(|plain: &[u8]| writer.write_all(plain));
        for frame in frames {
            packer.put_frame(frame)?;
        }
        packer.finish()?;
        let size = frames.iter().map(|frame| frames::HEAD_BYTES + frame.len()).sum::<usize>();
        Ok(self.take_records(size + (size / frames::RECORD_BYTES + 2) * RECORD_EXTRA_BYTES))
    }

    /// What the socket shall take, for which there will be so much room.
    fn take_records(&mut self, expected: usize) -> Vec<u8> {
        let mut records = Vec::with_capacity(expected);
        // Writing into memory never fails.
        while self.connection.wants_write() && self.connection.write_tls(&mut records).is_ok() {}
        records
    }
}

#[pymethods]
impl TlsLink {
    #[new]
    fn new(keys: &TlsKeys, dials: bool, first_bytes: usize, most_bytes: usize) -> PyResult<Self> {
        Ok(Self::open(keys, dials, first_bytes, most_bytes)?)
    }

    #[getter]
    fn established(&self) -> bool {
        !self.connection.is_handshaking()
    }

    #[getter]
    fn certificate<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        if self.connection.is_handshaking() {
            return None;
        }
        let certificate = self.connection.peer_certificates()?.first()?;
        Some(PyBytes::new(py, certificate.as_ref()))
    }

    fn receive<'py>(
        &mut self,
        py: Python<'py>,
        data: &[u8],
    ) -> PyResult<(Bound<'py, PyList>, Bound<'py, PyBytes>, Option<String>)> {
        let mut trouble = None;
        if !self.ended {
            trouble = if data.len() >= LARGE_BYTES { py.detach(|| self.take(data)) } else { self.take(data) };
            self.ended = trouble.is_some();
        }
        let frames = PyList::empty(py);
        for frame in self.frames.whole() {
            frames.append(PyBytes::new(py, frame))?;
        }
        self.frames.forget_whole();
        Ok((frames, PyBytes::new(py, &self.take_records(0)), trouble))
    }

    fn seal<'py>(&mut self, py: Python<'py>, frames: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyBytes>> {
        if self.ended {
            return Ok(PyBytes::new(py, &[]));
        }
        if self.connection.is_handshaking() {
            return Err(Error::invalid("link: found a frame before the end of the handshake, expected none").into());
        }
        let mut held = Vec::with_capacity(frames.len());
        for frame in frames.iter() {
            held.push(frame.cast_into::<PyBytes>()?);
        }
        let parts: Vec<&[u8]> = held.iter().map(|frame| frame.as_bytes()).collect();
        let size: usize = parts.iter().map(|part| part.len()).sum();
        let sealed = if size >= LARGE_BYTES { py.detach(|| self.put(&parts)) } else { self.put(&parts) };
        Ok(PyBytes::new(py, &sealed?))
    }
}

/// Words for what went wrong, on one line, for a log that an operator reads.
fn describe(error: &TlsError) -> String {
    match error {
        TlsError::InvalidMessage(what) => format!("the bytes are not TLS ({})", in_words(what)),
        TlsError::NoCertificatesPresented => "the peer showed no certificate".into(),
        TlsError::InvalidCertificate(CertificateError::BadSignature) => {
            "the peer does not hold the key of its certificate".into()
        }
        TlsError::InvalidCertificate(what) => format!("the peer's certificate cannot be used ({})", in_words(what)),
        TlsError::DecryptError => "a record was damaged or forged on its way".into(),
        TlsError::AlertReceived(AlertDescription::CertificateRequired) => {
            "the peer wants a certificate and found none".into()
        }
        TlsError::AlertReceived(what) => format!("the peer refuses ({})", in_words(what)),
        TlsError::PeerIncompatible(what) => {
            format!("found no common protocol and ciphers, expected TLS 1.3 ({})", in_words(what))
        }
        TlsError::PeerMisbehaved(what) => format!("the peer breaks the protocol ({})", in_words(what)),
        TlsError::InappropriateMessage { got_type, .. } => format!("a message out of turn ({})", in_words(got_type)),
        TlsError::InappropriateHandshakeMessage { got_type, .. } => {
            format!("a message out of turn ({})", in_words(got_type))
        }
        other => other.to_string().replace('\n', " "),
    }
}

/// `UnknownCa` as `unknown ca`: the names of RFC 8446 and of rustls, as words.
fn in_words(name: &impl Debug) -> String {
    let mut words = String::new();
    let mut last = ' ';
    for c in format!("{name:?}").chars().take(160) {
        if c.is_ascii_uppercase() && last.is_ascii_lowercase() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
        last = c;
    }
    words
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<TlsKeys>()?;
    m.add_class::<TlsLink>()
}
