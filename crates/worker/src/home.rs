//! The data directory: who owns it, the secret that proves it, where things lie in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::AttemptId;

use crate::spares::Spares;
use crate::sys;

const SECRET_BYTES: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    #[error("{} is in use by another worker (pid {pid}); stop it, or give this one a data directory of its own", path.display())]
    InUse { path: PathBuf, pid: String },
    #[error("the data directory {} cannot be used", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Held while the worker lives.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    secret: [u8; SECRET_BYTES],
    spares: Arc<Spares>,
    _lock: File,
}

impl Home {
    pub fn open(path: &Path) -> Result<Home, HomeError> {
        let failed = |source| HomeError::Io { path: path.to_owned(), source };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let lock = lock(&path)?;
        let secret = read_secret(&path).map_err(failed)?;
        fs::create_dir_all(path.join("attempts")).map_err(failed)?;
        let spares = Arc::new(Spares::open(path.join("spares")).map_err(failed)?);
        Ok(Home { path, secret, spares, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    pub fn attempts(&self) -> PathBuf {
        self.path.join("attempts")
    }

    pub fn spares(&self) -> &Arc<Spares> {
        &self.spares
    }

    pub fn attempt(&self, id: AttemptId) -> AttemptDir {
        AttemptDir(self.attempts().join(id.to_string()))
    }
}

fn lock(path: &Path) -> Result<File, HomeError> {
    let failed = |source| HomeError::Io { path: path.to_owned(), source };
    let file = path.join("lock");
    let mut file =
        OpenOptions::new().create(true).read(true).write(true).truncate(false).open(file).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            return Err(HomeError::InUse { path: path.to_owned(), pid: pid.trim().to_owned() });
        }
        Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(failed)?;
    Ok(file)
}

/// Made once: it proves that a process which takes the name over is this worker come back.
fn read_secret(path: &Path) -> io::Result<[u8; SECRET_BYTES]> {
    let file = path.join("secret");
    if let Ok(bytes) = fs::read(&file)
        && let Ok(secret) = <[u8; SECRET_BYTES]>::try_from(bytes)
    {
        return Ok(secret);
    }
    let secret = sys::random()?;
    let fresh = path.join("secret.new");
    let mut out = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&fresh)?;
    out.write_all(&secret)?;
    out.sync_all()?;
    fs::rename(fresh, file)?;
    File::open(path)?.sync_all()?;
    Ok(secret)
}

/// Where an attempt's files lie.
#[derive(Clone, Debug)]
pub struct AttemptDir(pub PathBuf);

impl AttemptDir {
    /// Its working directory, unless its spec names one.
    pub fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// Its TMPDIR.
    pub fn temporary(&self) -> PathBuf {
        self.0.join("tmp")
    }

    pub fn stdout(&self) -> PathBuf {
        self.0.join("stdout")
    }

    pub fn stderr(&self) -> PathBuf {
        self.0.join("stderr")
    }

    pub fn stdin(&self) -> PathBuf {
        self.0.join("stdin")
    }

    pub fn script(&self) -> PathBuf {
        self.0.join("script")
    }

    pub fn result(&self) -> PathBuf {
        self.0.join("result")
    }

    /// There once the attempt has ended; its age is the attempt's.
    pub fn ended(&self) -> PathBuf {
        self.0.join("ended")
    }
}
