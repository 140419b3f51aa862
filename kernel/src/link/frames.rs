//! Frames in a stream of bytes: 4 bytes of length, big-endian, and that many bytes. Length 0 is a sign of life.

use std::ops::Range;

pub const HEAD_BYTES: usize = 4;
/// What one TLS record holds (RFC 8446, 5.1).
pub const RECORD_BYTES: usize = 16 << 10;
/// Room that is kept between calls, however much a frame took, or how many there were.
const KEPT_BYTES: usize = 64 << 10;
const KEPT_RANGES: usize = 64;

/// What has arrived and is not handed on: whole frames, and the beginning of one.
///
/// Its room grows with what has come, never with what a length promises, and is less than one frame and what one call brings.
pub struct Frames {
    plain: Vec<u8>,
    /// Where in `plain` the frames are that have come whole; empty ones are left out.
    whole: Vec<Range<usize>>,
    /// Where the first frame begins that has not.
    next: usize,
    /// The longest frame that is taken now.
    limit: usize,
    /// The same, after the first frame.
    most: usize,
}

impl Frames {
    pub fn new(first: usize, most: usize) -> Self {
        Self { plain: Vec::new(), whole: Vec::new(), next: 0, limit: first, most }
    }

    #[cfg(test)]
    pub fn buffered(&self) -> usize {
        self.plain.len()
    }

    /// Take what has arrived. A length beyond the limit is refused before anything of that frame is kept.
    pub fn extend(&mut self, chunk: &[u8]) -> Result<(), String> {
        self.reserve(chunk.len());
        self.plain.extend_from_slice(chunk);
        while let Some(head) = self.plain.get(self.next..).and_then(|rest| rest.first_chunk::<HEAD_BYTES>()) {
            let size = u32::from_be_bytes(*head) as usize;
            if size > self.limit {
                self.plain.truncate(self.next);
                return Err(format!("frame of {size} bytes, expected at most {}", self.limit));
            }
            let start = self.next + HEAD_BYTES;
            if self.plain.len() - start < size {
                break;
            }
            if size > 0 {
                self.whole.push(start..start + size);
                self.limit = self.most;
            }
            self.next = start + size;
        }
        Ok(())
    }

    /// Double the room where it must grow, but not beyond the end of the frame under way.
    fn reserve(&mut self, more: usize) {
        let needed = self.plain.len() + more;
        if needed > self.plain.capacity() {
            let end = self.next + HEAD_BYTES + self.limit;
            let room = (2 * needed).min(end).max(needed);
            self.plain.reserve_exact(room - self.plain.len());
        }
    }

    pub fn whole(&self) -> impl Iterator<Item = &[u8]> {
        self.whole.iter().filter_map(|range| self.plain.get(range.clone()))
    }

    pub fn forget_whole(&mut self) {
        self.whole.clear();
        self.whole.shrink_to(KEPT_RANGES);
        if self.next == self.plain.len() {
            self.plain.clear();
        } else {
            self.plain.drain(..self.next);
        }
        self.next = 0;
        if self.plain.capacity() > KEPT_BYTES && self.plain.len() < KEPT_BYTES {
            self.plain.shrink_to(KEPT_BYTES);
        }
    }
}

/// Gathers frames into pieces of one record each; what fills records by itself is not copied.
pub struct Packer<W> {
    pending: Vec<u8>,
    write: W,
}

impl<W: FnMut(&[u8]) -> std::io::Result<()>> Packer<W> {
    pub fn new(write: W) -> Self {
        Self { pending: Vec::new(), write }
    }

    pub fn put_frame(&mut self, frame: &[u8]) -> std::io::Result<()> {
        let Ok(size) = u32::try_from(frame.len()) else {
            return Err(std::io::Error::other(format!("frame of {} bytes, expected lengths of 32 bits", frame.len())));
        };
        self.put(&size.to_be_bytes())?;
        self.put(frame)
    }

    fn put(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        while self.pending.len() + bytes.len() >= RECORD_BYTES {
            if self.pending.is_empty() {
                let (record, rest) = bytes.split_at(RECORD_BYTES);
                (self.write)(record)?;
                bytes = rest;
            } else {
                let (filling, rest) = bytes.split_at(RECORD_BYTES - self.pending.len());
                self.pending.extend_from_slice(filling);
                (self.write)(&self.pending)?;
                self.pending.clear();
                bytes = rest;
            }
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    pub fn finish(mut self) -> std::io::Result<()> {
        if self.pending.is_empty() { Ok(()) } else { (self.write)(&self.pending) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let mut packer = Packer::new(|piece: &[u8]| {
            pieces.push(piece.to_vec());
            Ok(())
        });
        for frame in frames {
            packer.put_frame(frame).expect("memory takes it");
        }
        packer.finish().expect("memory takes it");
        pieces
    }

    fn read(frames: &mut Frames) -> Vec<Vec<u8>> {
        let found = frames.whole().map(<[u8]>::to_vec).collect();
        frames.forget_whole();
        found
    }

    #[test]
    fn frames_come_out_as_they_went_in_whatever_the_pieces() {
        let sizes = [1, 0, 3, 16_379, 16_380, 16_381, 16_384, 5, 40_000, 32_768, 0, 7];
        let sent: Vec<Vec<u8>> = sizes.iter().map(|&size| vec![size as u8; size]).collect();
        let pieces = encode(&sent);
        let (last, full) = pieces.split_last().expect("there are some");
        assert!(full.iter().all(|piece| piece.len() == RECORD_BYTES) && last.len() < RECORD_BYTES);
        let wire = pieces.concat();
        let expected: Vec<Vec<u8>> = sent.into_iter().filter(|frame| !frame.is_empty()).collect();
        for step in [1, 2, 3, 4, 5, 7, 1000, 16_384, 100_000] {
            let mut frames = Frames::new(48, 40_000);
            let mut found = Vec::new();
            for piece in wire.chunks(step) {
                frames.extend(piece).expect("all are short enough");
                found.extend(read(&mut frames));
                assert!(frames.buffered() < HEAD_BYTES + 40_000);
            }
            assert_eq!(found, expected);
            assert_eq!(frames.buffered(), 0);
        }
    }

    #[test]
    fn the_first_frame_has_a_limit_of_its_own_and_signs_of_life_do_not_count() {
        let wire = encode(&[vec![], vec![1; 48], vec![2; 100]]).concat();
        let mut frames = Frames::new(48, 100);
        frames.extend(&wire).expect("both are short enough");
        assert_eq!(read(&mut frames), [vec![1; 48], vec![2; 100]]);
        let mut frames = Frames::new(48, 100);
        let trouble = frames.extend(&encode(&[vec![], vec![1; 49]]).concat()).expect_err("too long");
        assert_eq!(trouble, "frame of 49 bytes, expected at most 48");
    }

    #[test]
    fn a_length_beyond_the_limit_keeps_the_frames_before_it_and_nothing_of_its_own() {
        let mut frames = Frames::new(48, 100);
        let mut wire = encode(&[vec![1; 4], vec![2; 100]]).concat();
        wire.extend_from_slice(&101u32.to_be_bytes());
        wire.extend_from_slice(&[9; 50_000]);
        assert!(frames.extend(&wire).is_err());
        assert_eq!(read(&mut frames), [vec![1; 4], vec![2; 100]]);
        assert_eq!(frames.buffered(), 0);
    }

    #[test]
    fn room_grows_with_what_came_and_is_given_back() {
        let most = 16 << 20;
        let mut frames = Frames::new(most, most);
        frames.extend(&(most as u32).to_be_bytes()).expect("the limit itself");
        assert!(frames.plain.capacity() < 1024);
        let piece = vec![7; 16_384];
        for _ in 0..most / piece.len() {
            frames.extend(&piece).expect("within the limit");
            assert!(frames.plain.capacity() <= (2 * frames.buffered()).min(HEAD_BYTES + most));
        }
        assert_eq!(read(&mut frames), [vec![7; most]]);
        assert!(frames.plain.capacity() <= KEPT_BYTES);
        frames.extend(&encode(&vec![vec![1]; 10_000]).concat()).expect("within the limit");
        assert_eq!(read(&mut frames).len(), 10_000);
        assert!(frames.whole.capacity() <= KEPT_RANGES && frames.plain.capacity() <= KEPT_BYTES);
    }
}
