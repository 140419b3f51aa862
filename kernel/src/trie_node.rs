//! Trie nodes as they are stored, and where.
//!
//! A node never changes: a block writes the nodes that it replaced anew, under its own version (its height), so that every
//! stored height stays readable. The nodes of one version lie one after the other in chunks; a node's name is the version
//! and its offset, and the parent's record holds it beside the reference that standard Ethereum roots hash. So a commit
//! appends a few large values, and a read follows names without searching by path.
//!
//! Records, integers big-endian, `id` = version (5 bytes), offset (4), `path` = count of nibbles (1), nibbles packed:
//!
//! ```text
//! branch      0 or 0x10, bitmap of children (2), then per child reference and id;
//!             with 0x10 every reference is a hash (32), otherwise length (1) and bytes
//! changed     0x20, bitmap of children (2), bitmap of those that are here (2), id of an earlier branch that has the others, then
//!             per child that is here reference (32) and id
//! extension   1, path, length of the reference (1), reference, id
//! leaf        2, path, value (see `Leaf::write_record`)
//! ```
//!
//! A block mostly changes one child of a branch of sixteen: of such a branch only that is written, and from whom the others
//! are. At most `MAX_CHANGES` such records follow each other. The nodes that they name are part of them, so that only tries that
//! are not pruned have any.
//!
//! A reference is the node's RLP if that is shorter than 32 bytes, otherwise its keccak256 (Yellow Paper, appendix D).

use crate::errors::{Error, Result};
use crate::keccak_lanes::hash_many;
use alloy_primitives::{B256, Bytes, keccak256};
use alloy_trie::Nibbles;

const BRANCH: u8 = 0;
const BRANCH_OF_HASHES: u8 = 0x10;
const BRANCH_CHANGED: u8 = 0x20;
const EXTENSION: u8 = 1;
const LEAF: u8 = 2;

const ID_BYTES: usize = 9;
const HASH_BYTES: usize = 32;
const MAX_VERSION: u64 = (1 << 40) - 1;

/// Records of changes that may follow each other before a branch is written as a whole again.
pub const MAX_CHANGES: u8 = 7;
/// A branch is written as a whole if less children than these would be left out.
const WORTHWHILE: u32 = 4;

/// A chunk takes no further node once it has this many bytes; a node starts below 2^16 in its chunk.
const CHUNK_BYTES: usize = 1 << 16;
const CHUNK_BITS: u32 = 16;

/// Where a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId {
    pub version: u64,
    pub offset: u32,
}

impl NodeId {
    pub fn chunk(self) -> u32 {
        self.offset >> CHUNK_BITS
    }

    /// The node's place in its chunk.
    pub fn start(self) -> usize {
        (self.offset & ((1 << CHUNK_BITS) - 1)) as usize
    }

    fn encode(self) -> [u8; ID_BYTES] {
        let mut bytes = [0; ID_BYTES];
        bytes[..5].copy_from_slice(&self.version.to_be_bytes()[3..]);
        bytes[5..].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.encode());
    }

    fn read(bytes: &[u8; ID_BYTES]) -> NodeId {
        let mut version = [0u8; 8];
        version[3..].copy_from_slice(&bytes[..5]);
        let mut offset = [0u8; 4];
        offset.copy_from_slice(&bytes[5..]);
        NodeId { version: u64::from_be_bytes(version), offset: u32::from_be_bytes(offset) }
    }
}

/// How a parent's hash covers a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// 32 for a hash, less for RLP.
    len: u8,
    bytes: [u8; HASH_BYTES],
}

impl Reference {
    fn inline(rlp: &[u8]) -> Reference {
        let mut bytes = [0; HASH_BYTES];
        bytes[..rlp.len()].copy_from_slice(rlp);
        Reference { len: rlp.len() as u8, bytes }
    }

    fn hashed(hash: B256) -> Reference {
        Reference { len: HASH_BYTES as u8, bytes: hash.0 }
    }

    pub fn is_hash(&self) -> bool {
        self.len as usize == HASH_BYTES
    }

    /// Bytes of an extension's record.
    pub fn extension_bytes(&self, path: &Nibbles) -> usize {
        3 + path.len().div_ceil(2) + self.len as usize + ID_BYTES
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    /// The root that a trie has whose top node is this one.
    pub fn root(&self) -> B256 {
        if self.is_hash() { B256::new(self.bytes) } else { keccak256(self.as_slice()) }
    }

    fn rlp_length(&self) -> usize {
        if self.is_hash() { HASH_BYTES + 1 } else { self.len as usize }
    }

    fn write_rlp(&self, out: &mut Vec<u8>) {
        if self.is_hash() {
            out.push(alloy_rlp::EMPTY_STRING_CODE + HASH_BYTES as u8);
        }
        out.extend_from_slice(self.as_slice());
    }
}

/// What a parent holds of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub reference: Reference,
    pub id: NodeId,
}

/// Of a branch with sixteen children that are named by their hashes.
const MAX_HASHES_RLP: usize = 3 + 17 + 16 * HASH_BYTES;

/// Hash and name of a child, as a record holds them.
pub type HashedLink = [u8; HASH_BYTES + ID_BYTES];

impl Link {
    /// None where the reference is no hash.
    pub fn to_hashed(self) -> Option<HashedLink> {
        self.reference.is_hash().then(|| hashed_link(&self.reference.bytes, self.id))
    }

    pub fn of_hashed(link: &HashedLink) -> Link {
        let (mut bytes, mut id) = ([0; HASH_BYTES], [0; ID_BYTES]);
        bytes.copy_from_slice(&link[..HASH_BYTES]);
        id.copy_from_slice(&link[HASH_BYTES..]);
        Link { reference: Reference { len: HASH_BYTES as u8, bytes }, id: NodeId::read(&id) }
    }
}

pub fn hashed_link(hash: &[u8; HASH_BYTES], id: NodeId) -> HashedLink {
    let mut link = [0; HASH_BYTES + ID_BYTES];
    link[..HASH_BYTES].copy_from_slice(hash);
    link[HASH_BYTES..].copy_from_slice(&id.encode());
    link
}

/// The children of a branch by nibble.
pub type Children = [Option<Link>; 16];

/// What the leaves of a trie hold.
pub trait Leaf: Clone + PartialEq + Send + Sync {
    /// Append a form that says where it ends.
    fn write_record(&self, out: &mut Vec<u8>);
    fn read_record(record: &mut Reader<'_>) -> Result<Self>;
    /// Append the value whose RLP string the leaf node holds.
    fn write_value(&self, out: &mut Vec<u8>);
}

/// Reads a record from its beginning; all that is missing is Corrupt.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.too_short(count))?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<&'a [u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| self.too_short(N))?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub fn id(&mut self) -> Result<NodeId> {
        Ok(NodeId::read(self.array()?))
    }

    pub fn hash(&mut self) -> Result<B256> {
        Ok(B256::from(self.array::<HASH_BYTES>()?))
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    fn path(&mut self) -> Result<Nibbles> {
        let count = self.byte()? as usize;
        if count > 64 {
            return Err(Error::corrupt(format!("trie node: path of {count} nibbles, expected at most 64")));
        }
        let mut path = Nibbles::unpack(self.take(count.div_ceil(2))?);
        path.truncate(count);
        Ok(path)
    }

    fn reference(&mut self) -> Result<Reference> {
        let len = self.byte()?;
        if len as usize > HASH_BYTES {
            return Err(Error::corrupt(format!("trie node: reference of {len} bytes, expected at most {HASH_BYTES}")));
        }
        let mut bytes = [0; HASH_BYTES];
        bytes[..len as usize].copy_from_slice(self.take(len as usize)?);
        Ok(Reference { len, bytes })
    }

    fn link(&mut self) -> Result<Link> {
        Ok(Link { reference: self.reference()?, id: self.id()? })
    }

    #[cold]
    fn too_short(&self, expected: usize) -> Error {
        Error::corrupt(format!("record: {} bytes left, expected at least {expected}", self.rest.len()))
    }
}

/// A stored node, decoded as far as a walk needs it.
pub enum Node<'a> {
    Branch(Branch<'a>),
    Extension(Nibbles, Link),
    /// The path that is left, and the leaf's record.
    Leaf(Nibbles, Reader<'a>),
}

impl<'a> Node<'a> {
    pub fn read(record: &'a [u8]) -> Result<Node<'a>> {
        let mut reader = Reader::new(record);
        match reader.byte()? {
            kind @ (BRANCH | BRANCH_OF_HASHES) => {
                let bitmap = u16::from_be_bytes(*reader.array()?);
                if bitmap.count_ones() < 2 {
                    return Err(Error::corrupt(format!(
                        "trie node: branch with children {bitmap:#x}, expected two or more"
                    )));
                }
                let of_hashes = kind == BRANCH_OF_HASHES;
                Ok(Node::Branch(Branch { bitmap, here: bitmap, earlier: None, of_hashes, children: reader.rest }))
            }
            BRANCH_CHANGED => {
                let (bitmap, here) = (u16::from_be_bytes(*reader.array()?), u16::from_be_bytes(*reader.array()?));
                if bitmap.count_ones() < 2 || here == 0 || here & !bitmap != 0 {
                    return Err(Error::corrupt(format!("trie node: branch {bitmap:#x} with children {here:#x}")));
                }
                let earlier = Some(reader.id()?);
                Ok(Node::Branch(Branch { bitmap, here, earlier, of_hashes: true, children: reader.rest }))
            }
            EXTENSION => Ok(Node::Extension(reader.path()?, reader.link()?)),
            LEAF => Ok(Node::Leaf(reader.path()?, reader)),
            kind => Err(Error::corrupt(format!("trie node: kind {kind}, expected 0, 1, 2, 16 or 32"))),
        }
    }
}

pub struct Branch<'a> {
    bitmap: u16,
    /// Those whose links are in this record; the others are as in an earlier branch.
    here: u16,
    earlier: Option<NodeId>,
    of_hashes: bool,
    children: &'a [u8],
}

/// What a branch's record says of one child.
pub enum Child {
    Nothing,
    Here(NodeId),
    /// What this branch says of it.
    AsIn(NodeId),
}

impl Branch<'_> {
    pub fn earlier(&self) -> Option<NodeId> {
        self.earlier
    }

    /// Which children are not in this record.
    pub fn missing(&self) -> u16 {
        self.bitmap & !self.here
    }

    /// The name of one child, without decoding the others.
    pub fn child(&self, nibble: u8) -> Result<Child> {
        let bit = 1 << nibble;
        if self.bitmap & bit == 0 {
            return Ok(Child::Nothing);
        }
        if self.here & bit == 0 {
            return Ok(self.earlier.map_or(Child::Nothing, Child::AsIn));
        }
        let before = (self.here & (bit - 1)).count_ones() as usize;
        let mut reader = Reader::new(self.children);
        if self.of_hashes {
            reader.take(before * (HASH_BYTES + ID_BYTES) + HASH_BYTES)?;
            return reader.id().map(Child::Here);
        }
        for _ in 0..before {
            reader.link()?;
        }
        Ok(Child::Here(reader.link()?.id))
    }

    /// Take over those of `wanted` that are in this record; which ones that were.
    pub fn take_children(&self, wanted: u16, children: &mut Children) -> Result<u16> {
        let mut reader = Reader::new(self.children);
        self.read_children(&mut reader, wanted, children)?;
        Ok(self.here & wanted)
    }

    fn read_children(&self, reader: &mut Reader<'_>, wanted: u16, children: &mut Children) -> Result<()> {
        for (nibble, child) in children.iter_mut().enumerate() {
            if self.here & (1 << nibble) == 0 {
                continue;
            }
            let link = if self.of_hashes {
                let reference = Reference { len: HASH_BYTES as u8, bytes: *reader.array()? };
                Link { reference, id: reader.id()? }
            } else {
                reader.link()?
            };
            if wanted & (1 << nibble) != 0 {
                *child = Some(link);
            }
        }
        Ok(())
    }

    /// The children of a branch that was written as a whole, and how many bytes follow the node.
    pub fn children_and_rest(&self) -> Result<(Children, usize)> {
        if let Some(NodeId { version, offset }) = self.earlier {
            return Err(Error::corrupt(format!(
                "trie node: a branch with children of node {offset} of height {version}, expected all of them here"
            )));
        }
        let mut children = [None; 16];
        let mut reader = Reader::new(self.children);
        self.read_children(&mut reader, u16::MAX, &mut children)?;
        Ok((children, reader.left()))
    }
}

// ---- RLP, as roots hash it and proofs show it

pub fn write_branch_rlp(children: &Children, out: &mut Vec<u8>) {
    let payload_length =
        1 + children.iter().map(|child| child.as_ref().map_or(1, |c| c.reference.rlp_length())).sum::<usize>();
    alloy_rlp::Header { list: true, payload_length }.encode(out);
    for child in children {
        match child {
            Some(child) => child.reference.write_rlp(out),
            None => out.push(alloy_rlp::EMPTY_STRING_CODE),
        }
    }
    // Keys all have one length, so that no branch has a value.
    out.push(alloy_rlp::EMPTY_STRING_CODE);
}

pub fn write_extension_rlp(path: &Nibbles, child: &Reference, out: &mut Vec<u8>) {
    let path = alloy_trie::nodes::encode_path_leaf(path, false);
    write_list(&path, child.rlp_length(), out);
    child.write_rlp(out);
}

/// `value` is what `Leaf::write_value` gave.
pub fn write_leaf_rlp(path: &Nibbles, value: &[u8], out: &mut Vec<u8>) {
    use alloy_rlp::Encodable;
    let path = alloy_trie::nodes::encode_path_leaf(path, true);
    write_list(&path, value.length(), out);
    value.encode(out);
}

fn write_list(path: &[u8], rest: usize, out: &mut Vec<u8>) {
    use alloy_rlp::Encodable;
    alloy_rlp::Header { list: true, payload_length: path.length() + rest }.encode(out);
    path.encode(out);
}

// ---- writing

/// Chunks of new nodes, by number, ascending.
pub type Chunks = Vec<(u32, Bytes)>;

/// Writes nodes of one version. Several can write the same version side by side, each with a lane of its own: lane `i` of
/// `n` fills the chunks i, i + n, i + 2n and so on, so that names do not depend on who was faster.
///
/// Nodes are added, then linked together: their hashes are computed at once.
pub struct NodeWriter {
    version: u64,
    chunk: u64,
    lanes: u64,
    buffer: Vec<u8>,
    full: Chunks,
    /// The nodes that are not linked yet: their RLP one after the other, and for each name and end of its RLP.
    rlp: Vec<u8>,
    added: Vec<(NodeId, usize)>,
    hashes: Vec<B256>,
    value: Vec<u8>,
}

impl NodeWriter {
    pub fn new(version: u64, lane: usize, lanes: usize) -> NodeWriter {
        debug_assert!(lane < lanes);
        NodeWriter::resume(version, lane, lanes)
    }

    /// A writer whose first chunk is `lane`.
    pub fn resume(version: u64, lane: usize, lanes: usize) -> NodeWriter {
        let (buffer, full, rlp, added, hashes, value) = Default::default();
        NodeWriter { version, chunk: lane as u64, lanes: lanes as u64, buffer, full, rlp, added, hashes, value }
    }

    pub fn finish(mut self) -> Chunks {
        if !self.buffer.is_empty() {
            self.full.push((self.chunk as u32, self.buffer.into()));
        }
        self.full
    }

    pub fn add_branch(&mut self, children: &Children) -> Result<()> {
        let id = self.start_node()?;
        write_branch_rlp(children, &mut self.rlp);
        let of_hashes = children.iter().flatten().all(|child| child.reference.is_hash());
        let bitmap = (0..16).filter(|&i| children[i].is_some()).fold(0u16, |bits, i| bits | 1 << i);
        self.buffer.push(if of_hashes { BRANCH_OF_HASHES } else { BRANCH });
        self.buffer.extend_from_slice(&bitmap.to_be_bytes());
        for child in children.iter().flatten() {
            if !of_hashes {
                self.buffer.push(child.reference.len);
            }
            self.buffer.extend_from_slice(child.reference.as_slice());
            child.id.write(&mut self.buffer);
        }
        self.added.push((id, self.rlp.len()));
        Ok(())
    }

    /// The same for a branch whose children all have a hash: a bitmap of them, then each, ascending. `earlier` is the branch that
    /// this one takes the place of, and which children it has otherwise. Whether only those were written.
    pub fn add_branch_of_hashes<'a>(
        &mut self,
        bitmap: u16,
        children: impl ExactSizeIterator<Item = &'a HashedLink>,
        earlier: Option<(NodeId, u16)>,
    ) -> Result<bool> {
        let id = self.start_node()?;
        let earlier = earlier.filter(|(_, here)| *here != 0 && (bitmap & !here).count_ones() >= WORTHWHILE);
        let here = match earlier {
            Some((earlier, here)) => {
                self.buffer.push(BRANCH_CHANGED);
                self.buffer.extend_from_slice(&bitmap.to_be_bytes());
                self.buffer.extend_from_slice(&here.to_be_bytes());
                earlier.write(&mut self.buffer);
                here
            }
            None => {
                self.buffer.push(BRANCH_OF_HASHES);
                self.buffer.extend_from_slice(&bitmap.to_be_bytes());
                bitmap
            }
        };
        // Composed in place, where every missing child, and the value that no branch has, is an empty string already.
        let payload_length = 17 + children.len() * HASH_BYTES;
        let mut rlp = [alloy_rlp::EMPTY_STRING_CODE; MAX_HASHES_RLP];
        let header = alloy_rlp::Header { list: true, payload_length };
        header.encode(&mut &mut rlp[..]);
        let mut end = header.length();
        let (mut left, mut written) = (bitmap, 0);
        for link in children {
            let nibble = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            end += (nibble - written) as usize;
            written = nibble + 1;
            rlp[end] = alloy_rlp::EMPTY_STRING_CODE + HASH_BYTES as u8;
            rlp[end + 1..end + 1 + HASH_BYTES].copy_from_slice(&link[..HASH_BYTES]);
            end += 1 + HASH_BYTES;
            if here & (1 << nibble) != 0 {
                self.buffer.extend_from_slice(link);
            }
        }
        self.rlp.extend_from_slice(&rlp[..end + 17 - written as usize]);
        self.added.push((id, self.rlp.len()));
        Ok(earlier.is_some())
    }

    pub fn add_extension(&mut self, path: &Nibbles, child: &Link) -> Result<()> {
        let id = self.start_node()?;
        write_extension_rlp(path, &child.reference, &mut self.rlp);
        self.buffer.push(EXTENSION);
        self.write_path(path);
        self.buffer.push(child.reference.len);
        self.buffer.extend_from_slice(child.reference.as_slice());
        child.id.write(&mut self.buffer);
        self.added.push((id, self.rlp.len()));
        Ok(())
    }

    pub fn add_leaf(&mut self, path: &Nibbles, leaf: &impl Leaf) -> Result<()> {
        let id = self.start_node()?;
        self.value.clear();
        leaf.write_value(&mut self.value);
        write_leaf_rlp(path, &self.value, &mut self.rlp);
        self.buffer.push(LEAF);
        self.write_path(path);
        leaf.write_record(&mut self.buffer);
        self.added.push((id, self.rlp.len()));
        Ok(())
    }

    /// Show `link` what a parent holds of each node since the last call, in order.
    pub fn link_all(&mut self, mut link: impl FnMut(Link)) {
        let mut start = 0;
        let mut rlps = Vec::with_capacity(self.added.len());
        for (id, end) in &self.added {
            rlps.push((*id, &self.rlp[start..*end]));
            start = *end;
        }
        let long = rlps.iter().map(|(_, rlp)| *rlp).filter(|rlp| rlp.len() >= HASH_BYTES).collect::<Vec<_>>();
        self.hashes.clear();
        hash_many(long.into_iter(), &mut self.hashes);
        let mut hashes = self.hashes.iter();
        for (id, rlp) in rlps {
            let hash = if rlp.len() < HASH_BYTES { None } else { hashes.next() };
            let reference = hash.map_or_else(|| Reference::inline(rlp), |hash| Reference::hashed(*hash));
            link(Link { reference, id });
        }
        self.rlp.clear();
        self.added.clear();
    }

    fn write_path(&mut self, path: &Nibbles) {
        self.buffer.push(path.len() as u8);
        self.buffer.extend_from_slice(&path.pack());
    }

    fn start_node(&mut self) -> Result<NodeId> {
        if self.buffer.len() >= CHUNK_BYTES {
            let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES + 1024));
            self.full.push((self.chunk as u32, full.into()));
            self.chunk += self.lanes;
        }
        if self.chunk >= 1 << (32 - CHUNK_BITS) || self.version > MAX_VERSION {
            return Err(Error::invalid(format!(
                "height {}: chunk {} of trie nodes, expected below height 2^40 and chunk 2^16",
                self.version, self.chunk
            )));
        }
        Ok(NodeId { version: self.version, offset: ((self.chunk as u32) << CHUNK_BITS) | self.buffer.len() as u32 })
    }
}
