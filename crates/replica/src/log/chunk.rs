//! How entries lie on the disk.
//!
//! A chunk holds consecutive entries, at most [`CHUNK_BYTES_MAX`] of them together, under the index of its first; an
//! entry that is larger is spread over parts. Small values keep the store's pages, with ten of them at the most, in its log
//! (pages of 128 KiB would go to files that it never syncs). Layout, little endian:
//!
//! `[version u8][crc32c u32 of the key and what follows][shape u8]` and then
//! shape 0: `([len u32][index u64][term u64][kind u8][payload])*`
//! shape 1: `[index u64][term u64][kind u8][parts u16][total u32][piece of the payload]`

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::backend::ChunkKey;
use super::slots::CHUNKS_TOGETHER_MAX;
use crate::codec::Record;

pub const CHUNK_BYTES_MAX: usize = 12 * 1024;
const _: () =
    assert!(CHUNKS_TOGETHER_MAX * (CHUNK_BYTES_MAX + 64) < 127 << 10, "a page of sled's must fit in its log");

const VERSION: u8 = 1;
const WHOLE: u8 = 0;
const PART: u8 = 1;
const HEADER_BYTES: usize = 6;
const RECORD_HEADER_BYTES: usize = 21;
const PART_HEADER_BYTES: usize = 23;
const PIECE_BYTES_MAX: usize = CHUNK_BYTES_MAX - HEADER_BYTES - PART_HEADER_BYTES;
const WHOLE_PAYLOAD_BYTES_MAX: usize = CHUNK_BYTES_MAX - HEADER_BYTES - RECORD_HEADER_BYTES;

/// The largest entry that can be stored.
pub const PAYLOAD_BYTES_MAX: usize = PIECE_BYTES_MAX * u16::MAX as usize;

#[derive(Debug, thiserror::Error)]
pub enum CorruptChunk {
    #[error("the chunk at {index}.{part} is shorter than its header")]
    Short { index: u64, part: u16 },
    #[error("the chunk at {index}.{part} has layout {version}; this binary reads layout {VERSION} only")]
    Version { index: u64, part: u16, version: u8 },
    #[error("the chunk at {index}.{part} fails its checksum")]
    Checksum { index: u64, part: u16 },
    #[error("the chunk at {index}.{part} ends within a record")]
    Torn { index: u64, part: u16 },
    #[error("the log jumps to entry {found} where entry {expected} should be")]
    Gap { expected: u64, found: u64 },
    #[error("entry {index} lacks a part in the middle of the log")]
    MissingPart { index: u64 },
    #[error("the term falls at entry {index}")]
    Term { index: u64 },
}

/// A chunk, or all parts of one large entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub first: u64,
    pub last: u64,
    pub parts: u16,
}

impl Extent {
    pub fn keys(self) -> impl Iterator<Item = ChunkKey> {
        (0..self.parts).map(move |part| ChunkKey { first: self.first, part })
    }
}

/// An extent and the values of its keys.
pub struct Packed {
    pub extent: Extent,
    pub values: Vec<Vec<u8>>,
}

pub fn pack(records: &[Record]) -> Vec<Packed> {
    let mut packed = Vec::new();
    let mut rest = records;
    while let Some(first) = rest.first() {
        if first.payload.len() > WHOLE_PAYLOAD_BYTES_MAX {
            packed.push(spread(first));
            rest = &rest[1..];
            continue;
        }
        let (chunk, remaining) = rest.split_at(fitting(rest));
        packed.push(gather(chunk));
        rest = remaining;
    }
    packed
}

/// How many records from the front share a chunk; at least one.
fn fitting(records: &[Record]) -> usize {
    let mut bytes = HEADER_BYTES;
    let fits = records.iter().take_while(|record| {
        bytes += RECORD_HEADER_BYTES + record.payload.len();
        bytes <= CHUNK_BYTES_MAX
    });
    fits.count().max(1)
}

fn gather(records: &[Record]) -> Packed {
    let bytes: usize = records.iter().map(|record| RECORD_HEADER_BYTES + record.payload.len()).sum();
    let mut value = unsealed(WHOLE, bytes);
    for record in records {
        value.put_u32_le(record.payload.len() as u32);
        put_record_head(&mut value, record);
        value.put_slice(&record.payload);
    }
    let (first, last) = (records[0].index, records[records.len() - 1].index);
    let extent = Extent { first, last, parts: 1 };
    Packed { extent, values: vec![seal(ChunkKey { first, part: 0 }, value)] }
}

fn spread(record: &Record) -> Packed {
    let pieces = record.payload.chunks(PIECE_BYTES_MAX);
    let parts = u16::try_from(pieces.len()).expect("the proposer refuses larger entries");
    let values = pieces.zip(0..).map(|(piece, part)| {
        let mut value = unsealed(PART, PART_HEADER_BYTES + piece.len());
        put_record_head(&mut value, record);
        value.put_u16_le(parts);
        value.put_u32_le(record.payload.len() as u32);
        value.put_slice(piece);
        seal(ChunkKey { first: record.index, part }, value)
    });
    Packed { extent: Extent { first: record.index, last: record.index, parts }, values: values.collect() }
}

fn put_record_head(value: &mut Vec<u8>, record: &Record) {
    value.put_u64_le(record.index);
    value.put_u64_le(record.term);
    value.put_u8(record.kind);
}

/// The header, without the checksum, and room for so many bytes behind it.
fn unsealed(shape: u8, bytes: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER_BYTES + bytes);
    value.put_slice(&[VERSION, 0, 0, 0, 0, shape]);
    value
}

fn seal(key: ChunkKey, mut value: Vec<u8>) -> Vec<u8> {
    let checksum = checksum(key, &value[5..]);
    value[1..5].copy_from_slice(&checksum.to_le_bytes());
    value
}

fn checksum(key: ChunkKey, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&key.to_bytes()), body)
}

/// What lies in the chunks of a store.
#[derive(Debug, Default)]
pub struct Scanned {
    pub extents: Vec<Extent>,
    /// Parts of an entry at the very end whose last part was never written: it was not acknowledged.
    pub torn: Vec<ChunkKey>,
}

struct Scan<F> {
    found: Scanned,
    live: u64,
    /// Index and term of the last record.
    last: Option<(u64, u64)>,
    each: F,
}

/// Reads chunks in the order of their keys and checks every byte, that no index is missing, and that terms do not
/// fall. Entries below `live` are purged and may have holes: they are being deleted. The others are given to `each`, one
/// by one: a log may be larger than what is to stay in memory. What is given is a part of its chunk, not a copy, unless it is of several.
pub fn scan<E: From<CorruptChunk>>(
    chunks: &[(ChunkKey, Bytes)],
    live: u64,
    each: impl FnMut(Record) -> Result<(), E>,
) -> Result<Scanned, E> {
    let mut scan = Scan { found: Scanned::default(), live, last: None, each };
    let mut at = 0;
    while at < chunks.len() {
        let (key, value) = &chunks[at];
        let mut body = open(*key, value)?;
        at += if body.get_u8() == WHOLE {
            scan.whole(*key, body)?;
            1
        } else {
            scan.parts(&chunks[at..])?
        };
    }
    Ok(scan.found)
}

/// All records at once.
pub fn unpack(chunks: &[(ChunkKey, Bytes)], live: u64) -> Result<(Vec<Record>, Scanned), CorruptChunk> {
    let mut records = Vec::new();
    let found = scan(chunks, live, |record| {
        records.push(record);
        Ok::<_, CorruptChunk>(())
    })?;
    Ok((records, found))
}

fn open(key: ChunkKey, value: &Bytes) -> Result<Bytes, CorruptChunk> {
    let ChunkKey { first: index, part } = key;
    if value.len() < HEADER_BYTES {
        return Err(CorruptChunk::Short { index, part });
    }
    if value[0] != VERSION {
        return Err(CorruptChunk::Version { index, part, version: value[0] });
    }
    let (mut crc, body) = (&value[1..5], value.slice(5..));
    if crc.get_u32_le() != checksum(key, &body) {
        return Err(CorruptChunk::Checksum { index, part });
    }
    Ok(body)
}

impl<F> Scan<F> {
    fn whole<E: From<CorruptChunk>>(&mut self, key: ChunkKey, mut body: Bytes) -> Result<(), E>
    where
        F: FnMut(Record) -> Result<(), E>,
    {
        let torn = || CorruptChunk::Torn { index: key.first, part: key.part };
        let (mut last, mut expected) = (key.first, key.first);
        while body.has_remaining() {
            if body.remaining() < RECORD_HEADER_BYTES {
                return Err(torn().into());
            }
            let len = body.get_u32_le() as usize;
            let (index, term, kind) = (body.get_u64_le(), body.get_u64_le(), body.get_u8());
            if body.remaining() < len {
                return Err(torn().into());
            }
            if index != expected {
                return Err(CorruptChunk::Gap { expected, found: index }.into());
            }
            self.give(Record { term, index, kind, payload: body.split_to(len) })?;
            (last, expected) = (index, index + 1);
        }
        self.found.extents.push(Extent { first: key.first, last, parts: 1 });
        Ok(())
    }

    /// Returns how many chunks it has read.
    fn parts<E: From<CorruptChunk>>(&mut self, chunks: &[(ChunkKey, Bytes)]) -> Result<usize, E>
    where
        F: FnMut(Record) -> Result<(), E>,
    {
        let first = chunks[0].0.first;
        let own = &chunks[..chunks.partition_point(|(key, _)| key.first == first)];
        let is_tail = own.len() == chunks.len();
        let mut payload = BytesMut::with_capacity(own.iter().map(|(_, value)| value.len()).sum());
        let mut whole = None;
        for (position, (key, value)) in own.iter().enumerate() {
            let mut body = open(*key, value)?;
            if body.remaining() < 1 + PART_HEADER_BYTES || body.get_u8() != PART {
                return Err(CorruptChunk::Torn { index: first, part: key.part }.into());
            }
            let (index, term, kind) = (body.get_u64_le(), body.get_u64_le(), body.get_u8());
            let (parts, total) = (body.get_u16_le(), body.get_u32_le());
            if usize::from(key.part) != position || index != first {
                return Err(CorruptChunk::MissingPart { index: first }.into());
            }
            payload.put(body);
            whole = Some((term, kind, parts, total as usize));
        }
        let (term, kind, parts, total) = whole.expect("called with at least one part");
        if own.len() < usize::from(parts) && is_tail {
            self.found.torn.extend(own.iter().map(|(key, _)| *key));
            return Ok(own.len());
        }
        if own.len() != usize::from(parts) || payload.len() != total {
            return Err(CorruptChunk::MissingPart { index: first }.into());
        }
        self.give(Record { term, index: first, kind, payload: payload.freeze() })?;
        self.found.extents.push(Extent { first, last: first, parts });
        Ok(own.len())
    }

    fn give<E: From<CorruptChunk>>(&mut self, record: Record) -> Result<(), E>
    where
        F: FnMut(Record) -> Result<(), E>,
    {
        if record.index < self.live {
            return Ok(());
        }
        if let Some((index, term)) = self.last {
            if record.index != index + 1 {
                return Err(CorruptChunk::Gap { expected: index + 1, found: record.index }.into());
            }
            if record.term < term {
                return Err(CorruptChunk::Term { index: record.index }.into());
            }
        }
        self.last = Some((record.index, record.term));
        (self.each)(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(index: u64, bytes: usize) -> Record {
        Record { term: 1, index, kind: 1, payload: vec![index as u8; bytes].into() }
    }

    fn unpack(chunks: &[(ChunkKey, Vec<u8>)], live: u64) -> Result<(Vec<Record>, Scanned), CorruptChunk> {
        let chunks: Vec<_> = chunks.iter().map(|(key, value)| (*key, value.clone().into())).collect();
        super::unpack(&chunks, live)
    }

    fn flatten(packed: &[Packed]) -> Vec<(ChunkKey, Vec<u8>)> {
        packed.iter().flat_map(|packed| packed.extent.keys().zip(packed.values.iter().cloned())).collect()
    }

    #[test]
    fn what_is_packed_reads_back_and_no_chunk_is_too_large() {
        let sizes = [0, 10, 12_000, 12_288, 40, 300_000, 1, CHUNK_BYTES_MAX - 27, CHUNK_BYTES_MAX - 26];
        let records: Vec<_> = sizes.iter().zip(5..).map(|(bytes, index)| record(index, *bytes)).collect();
        let packed = pack(&records);
        let chunks = flatten(&packed);
        assert!(chunks.iter().all(|(_, value)| value.len() <= CHUNK_BYTES_MAX));
        let (read, found) = unpack(&chunks, 0).unwrap();
        assert_eq!(read, records);
        assert_eq!(found.extents, packed.iter().map(|packed| packed.extent).collect::<Vec<_>>());
        assert!(found.torn.is_empty());
    }

    #[test]
    fn a_flipped_bit_is_seen_wherever_it_is() {
        let chunks = flatten(&pack(&[record(1, 100), record(2, 15_000)]));
        for at in 0..chunks.len() {
            for byte in [0, 3, 5, 20, chunks[at].1.len() - 1] {
                let mut broken = chunks.clone();
                broken[at].1[byte] ^= 4;
                assert!(unpack(&broken, 0).is_err(), "chunk {at} byte {byte}");
            }
        }
        let mut moved = chunks.clone();
        moved[0].0.first = 0;
        assert!(matches!(unpack(&moved, 0), Err(CorruptChunk::Checksum { .. })), "a chunk knows its place");
    }

    #[test]
    fn an_unfinished_large_entry_is_dropped_at_the_end_only() {
        let mut chunks = flatten(&pack(&[record(1, 10), record(2, 30_000)]));
        chunks.pop();
        let (read, found) = unpack(&chunks, 0).unwrap();
        assert_eq!((read.len(), found.torn.len()), (1, 2));
        chunks.extend(flatten(&pack(&[record(3, 10)])));
        assert!(matches!(unpack(&chunks, 0), Err(CorruptChunk::MissingPart { index: 2 })));
    }

    #[test]
    fn a_missing_chunk_is_a_gap() {
        let chunks = [flatten(&pack(&[record(1, 10)])), flatten(&pack(&[record(3, 10)]))].concat();
        assert!(matches!(unpack(&chunks, 0), Err(CorruptChunk::Gap { expected: 2, found: 3 })));
        assert_eq!(unpack(&chunks, 3).unwrap().0.len(), 1, "what is purged may have holes");
    }
}
