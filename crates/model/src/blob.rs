//! Bytes that travel with a spec or a result: in line when small, else by address.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Some bytes, named by their hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Blob {
    pub sha256: [u8; 32],
    /// Bytes; 0 where a `url` was given without its size.
    pub size: u64,
    pub source: BlobSource,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BlobSource {
    Inline(Vec<u8>),
    /// Fetched by the worker, which checks the hash.
    Url(String),
    /// A name that the worker resolves, for example an output kept on it.
    Ref(String),
}

impl Blob {
    pub fn inline(bytes: Vec<u8>) -> Blob {
        Blob { sha256: sha256(&bytes), size: bytes.len() as u64, source: BlobSource::Inline(bytes) }
    }

    pub fn inline_bytes(&self) -> Option<&[u8]> {
        match &self.source {
            BlobSource::Inline(bytes) => Some(bytes),
            BlobSource::Url(_) | BlobSource::Ref(_) => None,
        }
    }
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_sha256(text: &str) -> Result<[u8; 32], String> {
    let error = || format!("`{text}` is not a sha256: 64 hexadecimal digits");
    if text.len() != 64 || !text.is_ascii() {
        return Err(error());
    }
    let mut hash = [0; 32];
    for (place, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).map_err(|_| error())?;
    }
    Ok(hash)
}

/// The written form: exactly one of `text`, `base64`, `url` (which needs `sha256`) and `ref`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Form {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "ref")]
    pub reference: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl TryFrom<Form> for Blob {
    type Error = String;
    fn try_from(form: Form) -> Result<Blob, String> {
        let claimed = form.sha256.as_deref().map(parse_sha256).transpose()?;
        let blob = match (form.text, form.base64, form.url, form.reference) {
            (Some(text), None, None, None) => Blob::inline(text.into_bytes()),
            (None, Some(text), None, None) => {
                Blob::inline(STANDARD.decode(text).map_err(|error| format!("base64: {error}"))?)
            }
            (None, None, Some(url), None) => {
                let sha256 =
                    claimed.ok_or("`url` needs `sha256`, so that every attempt sees the same bytes")?;
                return Ok(Blob { sha256, size: form.size.unwrap_or(0), source: BlobSource::Url(url) });
            }
            (None, None, None, Some(name)) => {
                let sha256 = claimed.ok_or("`ref` needs `sha256`")?;
                return Ok(Blob { sha256, size: form.size.unwrap_or(0), source: BlobSource::Ref(name) });
            }
            _ => return Err("give exactly one of `text`, `base64`, `url` and `ref`".to_owned()),
        };
        if claimed.is_some_and(|claimed| claimed != blob.sha256) {
            return Err(format!("sha256 does not match the bytes, which have {}", hex(&blob.sha256)));
        }
        Ok(blob)
    }
}

impl From<Blob> for Form {
    fn from(blob: Blob) -> Form {
        // The hash of what is in line is computed on reading: writing it would only repeat it.
        match blob.source {
            BlobSource::Inline(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Form { text: Some(text), ..Form::default() },
                Err(error) => Form { base64: Some(STANDARD.encode(error.as_bytes())), ..Form::default() },
            },
            BlobSource::Url(url) => Form {
                url: Some(url),
                sha256: Some(hex(&blob.sha256)),
                size: Some(blob.size),
                ..Form::default()
            },
            BlobSource::Ref(name) => Form {
                reference: Some(name),
                sha256: Some(hex(&blob.sha256)),
                size: Some(blob.size),
                ..Form::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_written_and_read_alike() {
        for bytes in [b"plain".to_vec(), vec![0xff, 0x00, 0x80]] {
            let blob = Blob::inline(bytes);
            let json = serde_json::to_string(&blob).unwrap();
            assert_eq!(serde_json::from_str::<Blob>(&json).unwrap(), blob);
        }
        assert!(
            serde_json::from_str::<Blob>(r#"{"url":"http://x/y"}"#)
                .unwrap_err()
                .to_string()
                .contains("sha256")
        );
        assert!(serde_json::from_str::<Blob>(r#"{"text":"a","url":"b"}"#).is_err());
    }
}
