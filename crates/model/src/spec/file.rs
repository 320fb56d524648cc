//! Files that a task brings along.

use serde::{Deserialize, Serialize};

use crate::{Blob, blob};

/// A file laid into the working directory before the attempt starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FileForm", into = "FileForm")]
pub struct FileSpec {
    /// Relative, without `..`.
    pub to: String,
    /// Permission bits.
    pub mode: u32,
    pub content: Blob,
}

pub const FILE_MODE_DEFAULT: u32 = 0o644;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    to: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    // The client replaces `from` by the bytes; a server that meets it refuses it with this hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "ref")]
    reference: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

impl TryFrom<FileForm> for FileSpec {
    type Error = String;
    fn try_from(form: FileForm) -> Result<FileSpec, String> {
        if form.from.is_some() {
            return Err("`from` is read by the client: submit the file with `baton submit`".to_owned());
        }
        let mode = match form.mode {
            None => FILE_MODE_DEFAULT,
            Some(text) => u32::from_str_radix(&text, 8)
                .ok()
                .filter(|mode| *mode <= 0o777)
                .ok_or_else(|| format!("mode `{text}` is not three octal digits such as \"755\""))?,
        };
        let content = Blob::try_from(blob::Form {
            text: form.text,
            base64: form.base64,
            url: form.url,
            reference: form.reference,
            sha256: form.sha256,
            size: form.size,
        })?;
        Ok(FileSpec { to: form.to, mode, content })
    }
}

impl From<FileSpec> for FileForm {
    fn from(file: FileSpec) -> FileForm {
        let content = blob::Form::from(file.content);
        FileForm {
            to: file.to,
            mode: (file.mode != FILE_MODE_DEFAULT).then(|| format!("{:o}", file.mode)),
            from: None,
            text: content.text,
            base64: content.base64,
            url: content.url,
            reference: content.reference,
            sha256: content.sha256,
            size: content.size,
        }
    }
}
