//! Records of a journal, many at a time; `quorate.storage.journal` has their layout and judges what is not whole.

use crate::errors::{Error, Result};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::io::Write;

const MAGIC: &[u8; 4] = b"QREC";
const FIELDS_BYTES: usize = 40;
const HEADER_BYTES: usize = 44;

/// What `zlib.crc32(data, seed)` returns.
fn crc32(data: &[u8], seed: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(data);
    hasher.finalize()
}

/// The place of records in a journal: whose it is, in which segment, and what their numbers begin with.
struct Place {
    seed: u32,
    segment: u64,
    offset: usize,
    sequence: u64,
}

fn make_header(place: &mut Place, batch: u64, body: &[u8]) -> Result<[u8; HEADER_BYTES]> {
    let back = place.sequence.checked_sub(batch).and_then(|n| u32::try_from(n).ok());
    let (Ok(length), Some(back)) = (u32::try_from(body.len()), back) else {
        return Err(Error::invalid(format!(
            "journal: record {} of {} bytes in an append from {batch} on: \
            expected lengths of 32 bits",
            place.sequence,
            body.len()
        )));
    };
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(MAGIC);
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..16].copy_from_slice(&place.segment.to_le_bytes());
    header[16..24].copy_from_slice(&(place.offset as u64).to_le_bytes());
    header[24..32].copy_from_slice(&place.sequence.to_le_bytes());
    header[32..36].copy_from_slice(&back.to_le_bytes());
    header[36..40].copy_from_slice(&crc32(body, place.seed).to_le_bytes());
    let check = crc32(&header[..FIELDS_BYTES], place.seed);
    header[FIELDS_BYTES..].copy_from_slice(&check.to_le_bytes());
    place.offset += HEADER_BYTES + body.len();
    place.sequence += 1;
    Ok(header)
}

/// The body of the record that is at its place in a segment, unless something is wrong there.
fn get_body<'a>(raw: &'a [u8], place: &Place, limit: usize) -> Option<&'a [u8]> {
    let (header, rest) = raw.get(place.offset..)?.split_at_checked(HEADER_BYTES)?;
    let (fields, check) = header.split_at(FIELDS_BYTES);
    let word = |at: usize| u32::from_le_bytes(fields[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| u64::from_le_bytes(fields[at..at + 8].try_into().expect("eight bytes"));
    let length = word(4) as usize;
    let is_here = long(8) == place.segment && long(16) == place.offset as u64 && long(24) == place.sequence;
    if !is_here || length > limit || crc32(fields, place.seed).to_le_bytes() != *check {
        return None;
    }
    let body = rest.get(..length)?;
    (crc32(body, place.seed) == word(36)).then_some(body)
}

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "each is a field of what is made")]
fn make_records<'py>(
    py: Python<'py>,
    head: &[u8],
    seed: u32,
    segment: u64,
    offset: usize,
    sequence: u64,
    batch: u64,
    bodies: Vec<Bound<'py, PyBytes>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let total: usize = bodies.iter().map(|body| HEADER_BYTES + body.as_bytes().len()).sum();
    let size = head.len() + total;
    let mut place = Place { seed, segment, offset, sequence };
    PyBytes::new_with(py, size, |mut out| {
        out.write_all(head)?;
        for body in &bodies {
            out.write_all(&make_header(&mut place, batch, body.as_bytes())?)?;
            out.write_all(body.as_bytes())?;
        }
        Ok(())
    })
}

#[pyfunction]
fn read_records<'py>(
    py: Python<'py>,
    raw: &[u8],
    seed: u32,
    segment: u64,
    offset: usize,
    sequence: u64,
    limit: usize,
) -> PyResult<(Bound<'py, PyList>, usize)> {
    let bodies = PyList::empty(py);
    let mut place = Place { seed, segment, offset, sequence };
    while let Some(body) = get_body(raw, &place, limit) {
        bodies.append(PyBytes::new(py, body))?;
        place.offset += HEADER_BYTES + body.len();
        place.sequence += 1;
    }
    Ok((bodies, place.offset))
}

/// Whether two lists hold equal bytes. Python would count a reference to each while it compares, and so write to all
/// memory in which they lie, which a process that shares it with its parent would have to copy.
#[pyfunction]
fn are_equal(one: &Bound<'_, PyList>, other: &Bound<'_, PyList>) -> bool {
    let py = one.py();
    // Safety: the lists hold what is borrowed, and nothing else runs meanwhile.
    let get = |list: &Bound<'_, PyList>, place: usize| unsafe {
        ffi::PyList_GetItem(list.as_ptr(), place as ffi::Py_ssize_t)
    };
    one.len() == other.len()
        && (0..one.len()).all(|place| {
            let (one, other) = (get(one, place), get(other, place));
            // Safety: as above; what is not bytes is compared by nobody, and equals nothing.
            unsafe {
                one == other
                    || match (
                        Borrowed::from_ptr(py, one).cast::<PyBytes>(),
                        Borrowed::from_ptr(py, other).cast::<PyBytes>(),
                    ) {
                        (Ok(one), Ok(other)) => one.as_bytes() == other.as_bytes(),
                        _ => false,
                    }
            }
        })
}

pub fn export(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(make_records, m)?)?;
    m.add_function(wrap_pyfunction!(read_records, m)?)?;
    m.add_function(wrap_pyfunction!(are_equal, m)?)
}
