//! The only form in which entries, memberships, votes and rows of a snapshot are written, on disk and on the
//! wire: one byte of format version, then named MessagePack, which evolves by field name. Entries travel and
//! are stored as the bytes that their proposer encoded; nothing encodes them again.
//!
//! A version that is not known stops the replica: what it cannot read it must not skip.

use bytes::Bytes;
use openraft::EntryPayload;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::types::{self, Entry, Membership, Payload, Proposal};

/// The version this binary writes. It reads this one only.
pub const FORMAT: u8 = 5;

/// Of a command, with some to spare, so that an entry does not grow while it is written.
const COMMAND_BYTES: usize = 512;

#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    #[error(
        "written in format {found}; this binary reads format {FORMAT} only: use the binary that wrote it"
    )]
    Format { found: u8 },
    #[error("no bytes")]
    Empty,
    #[error("not a {what}")]
    Content {
        what: &'static str,
        #[source]
        source: rmp_serde::decode::Error,
    },
    #[error("entry kind {kind} is unknown: use a newer binary")]
    Kind { kind: u8 },
}

impl From<Undecodable> for std::io::Error {
    fn from(error: Undecodable) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}

pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    encode_within(value, 64)
}

/// `capacity`: about as many bytes as it will take.
fn encode_within<T: Serialize>(value: &T, capacity: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity);
    bytes.push(FORMAT);
    let mut serializer = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
    value.serialize(&mut serializer).expect("our own types have no map with a length that is not known");
    bytes
}

pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Undecodable> {
    let (format, content) = bytes.split_first().ok_or(Undecodable::Empty)?;
    if *format != FORMAT {
        return Err(Undecodable::Format { found: *format });
    }
    rmp_serde::from_slice(content).map_err(|source| Undecodable::Content { what, source })
}

pub fn encode_entry(entry: &machine::Entry) -> Bytes {
    // A copy of just its size: it stays in memory for a while, and room to spare with it would be much.
    Bytes::copy_from_slice(&encode_within(entry, 256 + entry.commands.len() * COMMAND_BYTES))
}

pub fn decode_entry(bytes: &[u8]) -> Result<machine::Entry, Undecodable> {
    decode("log entry", bytes)
}

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// An entry as it is stored and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub term: u64,
    pub index: u64,
    pub kind: u8,
    pub payload: Bytes,
}

impl Record {
    pub fn new(entry: &Entry) -> Record {
        let (kind, payload) = match &entry.payload {
            EntryPayload::Blank => (BLANK, Bytes::new()),
            EntryPayload::Normal(proposal) => (COMMAND, proposal.bytes().clone()),
            EntryPayload::Membership(membership) => (MEMBERSHIP, encode(membership).into()),
        };
        Record { term: *entry.log_id.leader_id, index: entry.log_id.index, kind, payload }
    }

    /// Memberships are decoded here, commands when they are applied.
    pub fn into_entry(self) -> Result<Entry, Undecodable> {
        let payload: Payload = match self.kind {
            BLANK => EntryPayload::Blank,
            COMMAND => EntryPayload::Normal(Proposal::from_bytes(self.payload)),
            MEMBERSHIP => EntryPayload::Membership(decode::<Membership>("membership", &self.payload)?),
            kind => return Err(Undecodable::Kind { kind }),
        };
        Ok(Entry { log_id: types::log_id(self.term, self.index), payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_and_keeps_its_bytes() {
        let proposal = Proposal::new(machine::Entry { stamp: machine::Stamp::default(), commands: vec![] });
        let entry = Entry { log_id: types::log_id(3, 7), payload: EntryPayload::Normal(proposal.clone()) };
        let record = Record::new(&entry);
        assert_eq!(record.payload.as_ptr(), proposal.bytes().as_ptr(), "the bytes are shared, not copied");
        let EntryPayload::Normal(read) = record.into_entry().unwrap().payload else {
            panic!("a command stays a command")
        };
        assert_eq!(read, proposal);
        assert!(read.entry().is_ok());
    }

    #[test]
    fn another_format_is_refused() {
        let mut bytes = encode(&machine::Stamp::default());
        let other = FORMAT + 1;
        bytes[0] = other;
        let decoded = decode::<machine::Stamp>("stamp", &bytes);
        assert!(matches!(decoded, Err(Undecodable::Format { found }) if found == other));
        assert!(matches!(decode::<machine::Stamp>("stamp", &[]), Err(Undecodable::Empty)));
        let unknown = Record { term: 1, index: 1, kind: 9, payload: Bytes::new() };
        assert!(matches!(unknown.into_entry(), Err(Undecodable::Kind { kind: 9 })));
    }
}
