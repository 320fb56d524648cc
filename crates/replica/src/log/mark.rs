//! How the named values beside the chunks lie on the disk: the vote, the owner, the marks of what is committed and
//! purged. A store does not notice a bit that flips in a number, and a vote that is another one is given twice.
//!
//! `[version u8][crc32c u32 of the name and what follows][content]`, little endian.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::backend::Loaded;
use super::store::LogError;
use crate::codec;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;

#[derive(Debug, thiserror::Error)]
pub enum CorruptMark {
    #[error("`{name}` has layout {version}; this binary reads layout {VERSION} only")]
    Version { name: &'static str, version: u8 },
    #[error("`{name}` is shorter than its header")]
    Short { name: &'static str },
    #[error("`{name}` fails its checksum")]
    Checksum { name: &'static str },
}

pub fn seal<T: Serialize>(name: &'static str, value: &T) -> Vec<u8> {
    let content = codec::encode(value);
    let mut sealed = Vec::with_capacity(HEADER_BYTES + content.len());
    sealed.push(VERSION);
    sealed.extend(checksum(name, &content).to_le_bytes());
    sealed.extend(content);
    sealed
}

/// `None`: it was never written.
pub fn open<T: DeserializeOwned>(loaded: &Loaded, name: &'static str) -> Result<Option<T>, LogError> {
    loaded.meta.get(name).map(|sealed| read(name, sealed)).transpose()
}

/// What [`seal`] has sealed.
pub fn read<T: DeserializeOwned>(name: &'static str, sealed: &[u8]) -> Result<T, LogError> {
    Ok(codec::decode(name, check(name, sealed)?)?)
}

fn check<'a>(name: &'static str, sealed: &'a [u8]) -> Result<&'a [u8], CorruptMark> {
    let Some((header, content)) = sealed.split_first_chunk::<HEADER_BYTES>() else {
        return Err(CorruptMark::Short { name });
    };
    let [version, crc @ ..] = *header;
    if version != VERSION {
        return Err(CorruptMark::Version { name, version });
    }
    if u32::from_le_bytes(crc) != checksum(name, content) {
        return Err(CorruptMark::Checksum { name });
    }
    Ok(content)
}

fn checksum(name: &str, content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(name.as_bytes()), content)
}
