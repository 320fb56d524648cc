//! Fetches a blob over plain HTTP into a file and checks its hash. Blocking: called where files are laid out.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

const CONNECT_MAX: Duration = Duration::from_secs(10);
const SILENCE_MAX: Duration = Duration::from_secs(30);
const FETCH_BYTES_MAX: u64 = 4 << 30;
const HEAD_BYTES_MAX: u64 = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("only http:// is fetched, not `{url}`")]
    Scheme { url: String },
    #[error("fetching `{url}`: {source}")]
    Io { url: String, source: io::Error },
    #[error("fetching `{url}`: the server answered `{status}`")]
    Status { url: String, status: String },
    #[error("fetching `{url}`: more than {FETCH_BYTES_MAX} bytes")]
    TooLarge { url: String },
    #[error("what lies at `{url}` has another hash: {found}")]
    Hash { url: String, found: String },
}

pub fn fetch(url: &str, sha256: &[u8; 32], to: &Path) -> Result<(), FetchError> {
    let failed = |source| FetchError::Io { url: url.to_owned(), source };
    let (host, path) = split(url).ok_or_else(|| FetchError::Scheme { url: url.to_owned() })?;
    let mut body = request(host, path).map_err(failed)?;
    let status = read_head(&mut body).map_err(failed)?;
    if status.split_whitespace().nth(1) != Some("200") {
        return Err(FetchError::Status { url: url.to_owned(), status });
    }
    let mut file = File::create(to).map_err(failed)?;
    let mut body = body.take(FETCH_BYTES_MAX + 1);
    let found = copy(&mut body, &mut file).map_err(failed)?;
    if body.limit() == 0 {
        return Err(FetchError::TooLarge { url: url.to_owned() });
    }
    if found != *sha256 {
        return Err(FetchError::Hash { url: url.to_owned(), found: model::blob::hex(&found) });
    }
    Ok(())
}

/// Host with port, and path.
fn split(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let cut = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(cut);
    let is_clean = !url.contains([' ', '\r', '\n', '@']) && !host.is_empty();
    is_clean.then_some((host, if path.is_empty() { "/" } else { path }))
}

/// HTTP/1.0, so that the body is simply what comes until the end.
fn request(host: &str, path: &str) -> io::Result<BufReader<TcpStream>> {
    let address = if host.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(SILENCE_MAX))?;
                stream.set_write_timeout(Some(SILENCE_MAX))?;
                write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
                return Ok(BufReader::new(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The status line.
fn read_head(stream: &mut impl BufRead) -> io::Result<String> {
    let mut head = stream.take(HEAD_BYTES_MAX);
    let mut status = String::new();
    head.read_line(&mut status)?;
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer ended in its head"));
        }
        if line.trim_end().is_empty() {
            return Ok(status.trim_end().to_owned());
        }
    }
}

fn copy(from: &mut impl Read, to: &mut File) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut chunk)?;
        if count == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(&chunk[..count]);
        to.write_all(&chunk[..count])?;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn serve(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while reader.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            stream.write_all(answer.as_bytes()).unwrap();
        });
        format!("http://{address}/file")
    }

    #[test]
    fn what_is_fetched_must_have_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("out");
        let answer = "HTTP/1.0 200 OK\r\nX: y\r\n\r\nbody";
        fetch(&serve(answer), &model::blob::sha256(b"body"), &to).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), b"body");
        let error = fetch(&serve(answer), &[0; 32], &to).unwrap_err();
        assert!(matches!(error, FetchError::Hash { .. }), "{error}");
        let error = fetch(&serve("HTTP/1.0 404 Gone\r\n\r\n"), &[0; 32], &to).unwrap_err();
        assert!(error.to_string().contains("404 Gone"), "{error}");
        assert!(matches!(fetch("https://x/y", &[0; 32], &to), Err(FetchError::Scheme { .. })));
    }
}
