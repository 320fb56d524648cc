//! Bytes that travel with a spec or a result.

use bytes::Bytes;
use model::blob::sha256;
use model::{Blob, BlobSource};

use super::{Errors, Path};
use crate::v1;

impl From<&Blob> for v1::Blob {
    fn from(blob: &Blob) -> v1::Blob {
        let source = match &blob.source {
            BlobSource::Inline(bytes) => v1::blob::Source::Inline(Bytes::copy_from_slice(bytes)),
            BlobSource::Url(url) => v1::blob::Source::Url(url.clone()),
            BlobSource::Ref(name) => v1::blob::Source::Ref(name.clone()),
        };
        v1::Blob { sha256: Bytes::copy_from_slice(&blob.sha256), size: blob.size, source: Some(source) }
    }
}

impl TryFrom<v1::Blob> for Blob {
    type Error = String;
    fn try_from(blob: v1::Blob) -> Result<Blob, String> {
        let claimed = claimed_hash(&blob.sha256)?;
        let by_address = |source| {
            let sha256 = claimed.ok_or("needs `sha256`, so that every attempt sees the same bytes")?;
            Ok(Blob { sha256, size: blob.size, source })
        };
        match blob.source {
            None => Err("give the bytes, a `url` or a `ref`".to_owned()),
            Some(v1::blob::Source::Url(url)) => by_address(BlobSource::Url(url)),
            Some(v1::blob::Source::Ref(name)) => by_address(BlobSource::Ref(name)),
            Some(v1::blob::Source::Inline(bytes)) => inline(bytes, claimed),
        }
    }
}

fn claimed_hash(bytes: &[u8]) -> Result<Option<[u8; 32]>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let hash = bytes.try_into().map_err(|_| format!("a sha256 has 32 bytes, not {}", bytes.len()))?;
    Ok(Some(hash))
}

fn inline(bytes: Bytes, claimed: Option<[u8; 32]>) -> Result<Blob, String> {
    let sha256 = sha256(&bytes);
    if claimed.is_some_and(|claimed| claimed != sha256) {
        return Err("sha256 does not match the bytes".to_owned());
    }
    Ok(Blob { sha256, size: bytes.len() as u64, source: BlobSource::Inline(bytes.into()) })
}

pub(crate) fn read(errors: &mut Errors, path: Path<'_>, blob: v1::Blob) -> Blob {
    errors.take(path, Blob::try_from(blob), Blob::inline(Vec::new()))
}

pub(crate) fn read_optional(
    errors: &mut Errors,
    path: Path<'_>,
    blob: Option<v1::Blob>,
) -> Option<Box<Blob>> {
    blob.map(|blob| Box::new(read(errors, path, blob)))
}

pub(crate) fn write_optional(blob: &Option<Box<Blob>>) -> Option<v1::Blob> {
    blob.as_deref().map(v1::Blob::from)
}
