//! Fetches a blob over plain HTTP into a file and checks its hash. Blocking: called where files are laid out.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::Moment;
use sha2::{Digest, Sha256};

use crate::clock;

const CONNECT_MAX: Duration = Duration::from_secs(10);
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// From the first byte asked for to the last one here.
const FETCH_MAX: Duration = Duration::from_secs(30 * 60);
/// How long a cancel may go unseen.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const FETCH_BYTES_MAX: u64 = 4 << 30;
const HEAD_BYTES_MAX: u64 = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("only http:// is fetched, not `{url}`")]
    Scheme { url: String },
    #[error("fetching `{url}`: {source}")]
    Io { url: String, source: io::Error },
    #[error("keeping what was fetched from `{url}`: {source}")]
    Keep { url: String, source: io::Error },
    #[error("fetching `{url}`: the server answered `{status}`")]
    Status { url: String, status: String },
    #[error("fetching `{url}`: more than {max} bytes")]
    TooLarge { url: String, max: u64 },
    #[error("what lies at `{url}` has {found} bytes, not {size}")]
    Size { url: String, size: u64, found: u64 },
    #[error("what lies at `{url}` has another hash: {found}")]
    Hash { url: String, found: String },
}

/// What is to be at an address.
pub struct Wanted<'a> {
    pub url: &'a str,
    pub sha256: &'a [u8; 32],
    /// 0 where it is not known.
    pub size: u64,
}

/// Gives up soon after `is_unwanted` has become true.
pub fn fetch(wanted: &Wanted<'_>, to: &Path, is_unwanted: &AtomicBool) -> Result<(), FetchError> {
    let url = || wanted.url.to_owned();
    let failed = |source| FetchError::Io { url: url(), source };
    let (host, path) = split(wanted.url).ok_or_else(|| FetchError::Scheme { url: url() })?;
    let stream = request(host, path).map_err(failed)?;
    let now = clock::moment();
    let patient = Patient { stream, is_unwanted, until: now.plus(FETCH_MAX), heard: now };
    let mut body = BufReader::new(patient);
    let status = read_head(&mut body).map_err(failed)?;
    if status.split_whitespace().nth(1) != Some("200") {
        return Err(FetchError::Status { url: url(), status });
    }
    let max = if wanted.size == 0 { FETCH_BYTES_MAX } else { wanted.size.min(FETCH_BYTES_MAX) };
    let (found, hash) = copy(&mut body.take(max + 1), to, wanted.url)?;
    if found > max {
        return Err(FetchError::TooLarge { url: url(), max });
    }
    if wanted.size != 0 && found != wanted.size {
        return Err(FetchError::Size { url: url(), size: wanted.size, found });
    }
    if hash != *wanted.sha256 {
        return Err(FetchError::Hash { url: url(), found: model::blob::hex(&hash) });
    }
    Ok(())
}

/// Reads with an eye on the clock and on whether it is still wanted.
struct Patient<'a> {
    stream: TcpStream,
    is_unwanted: &'a AtomicBool,
    until: Moment,
    heard: Moment,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let timed_out = |what: &str| Err(io::Error::new(io::ErrorKind::TimedOut, what.to_owned()));
        loop {
            let now = clock::moment();
            if self.is_unwanted.load(Ordering::Relaxed) {
                // Not `Interrupted`, after which readers try again.
                return Err(io::Error::other("stopped before it began"));
            }
            if now >= self.until {
                return timed_out("it takes too long");
            }
            match self.stream.read(buffer) {
                Err(error) if is_pause(&error) && now.since(self.heard) >= SILENCE_MAX => {
                    return timed_out("the server fell silent");
                }
                Err(error) if is_pause(&error) => {}
                done => {
                    self.heard = clock::moment();
                    return done;
                }
            }
        }
    }
}

/// Of a socket with a timeout.
fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
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
fn request(host: &str, path: &str) -> io::Result<TcpStream> {
    let address = if host.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(LOOK_EVERY))?;
                stream.set_write_timeout(Some(SILENCE_MAX))?;
                write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
                return Ok(stream);
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

/// Bytes and hash of what came.
fn copy(from: &mut impl Read, to: &Path, url: &str) -> Result<(u64, [u8; 32]), FetchError> {
    let failed = |source| FetchError::Io { url: url.to_owned(), source };
    let unkept = |source| FetchError::Keep { url: url.to_owned(), source };
    let mut file = File::create(to).map_err(unkept)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut chunk = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut chunk).map_err(failed)?;
        if count == 0 {
            return Ok((bytes, hash.finalize().into()));
        }
        hash.update(&chunk[..count]);
        file.write_all(&chunk[..count]).map_err(unkept)?;
        bytes += count as u64;
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

    fn fetch_of(url: &str, sha256: [u8; 32], size: u64, to: &Path) -> Result<(), FetchError> {
        fetch(&Wanted { url, sha256: &sha256, size }, to, &AtomicBool::new(false))
    }

    #[test]
    fn what_is_fetched_must_have_its_hash_and_size() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("out");
        let answer = "HTTP/1.0 200 OK\r\nX: y\r\n\r\nbody";
        let hash = model::blob::sha256(b"body");
        for size in [0, 4] {
            fetch_of(&serve(answer), hash, size, &to).unwrap();
            assert_eq!(std::fs::read(&to).unwrap(), b"body");
        }
        let error = fetch_of(&serve(answer), [0; 32], 0, &to).unwrap_err();
        assert!(matches!(error, FetchError::Hash { .. }), "{error}");
        let error = fetch_of(&serve(answer), hash, 3, &to).unwrap_err();
        assert!(matches!(error, FetchError::TooLarge { max: 3, .. }), "{error}");
        let error = fetch_of(&serve(answer), hash, 5, &to).unwrap_err();
        assert!(matches!(error, FetchError::Size { found: 4, .. }), "{error}");
        let error = fetch_of(&serve("HTTP/1.0 404 Gone\r\n\r\n"), [0; 32], 0, &to).unwrap_err();
        assert!(error.to_string().contains("404 Gone"), "{error}");
        assert!(matches!(fetch_of("https://x/y", [0; 32], 0, &to), Err(FetchError::Scheme { .. })));
    }

    #[test]
    fn what_is_no_longer_wanted_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        // It takes the connection and never says a word.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let is_unwanted = AtomicBool::new(false);
        std::thread::scope(|threads| {
            // What the thread returns stays open until the end.
            let _silent = threads.spawn(|| {
                let (stream, _) = listener.accept().unwrap();
                is_unwanted.store(true, Ordering::Relaxed);
                stream
            });
            let wanted = Wanted { url: &url, sha256: &[0; 32], size: 0 };
            let error = fetch(&wanted, &dir.path().join("out"), &is_unwanted).unwrap_err();
            assert!(error.to_string().contains("stopped before it began"), "{error}");
        });
    }
}
