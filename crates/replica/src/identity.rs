//! Who this replica is, kept in its data directory: cluster, node id, name and incarnation.
//!
//! A node id never comes back with an empty disk: that would revert its log and could split the cluster. So each
//! directory mints an incarnation once, the membership names it, and the log carries it too.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use model::settings::Failover;
use serde::{Deserialize, Serialize};

use crate::config::StartError;
use crate::disk;
use crate::env::Env;
use crate::log::Owner;
use crate::types::{Member, NodeId};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub cluster: String,
    pub cluster_id: String,
    pub id: NodeId,
    pub name: String,
    pub incarnation: u64,
    /// Election timing, for as long as the cluster lives: how long a leader keeps its lease must be the same for all
    /// who vote, and for the leases of workers.
    pub failover: Failover,
    /// Those the cluster was founded with.
    pub founders: BTreeMap<NodeId, Member>,
}

impl Identity {
    pub fn owner(&self) -> Owner {
        Owner { cluster_id: self.cluster_id.clone(), id: self.id, incarnation: self.incarnation }
    }
}

/// A data directory, locked for as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    pub fn open(path: &Path) -> Result<DataDir, StartError> {
        let failed = |what| {
            let dir = path.to_owned();
            move |source| StartError::DataDir { dir, what, source }
        };
        disk::create_dir(path).map_err(failed("it cannot be created"))?;
        let lock = File::create(path.join("lock")).map_err(failed("its lock cannot be written"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StartError::InUse { dir: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed("it cannot be locked")(source)),
        }
        match std::fs::read_to_string(path.join("diverged")) {
            Ok(why) => return Err(StartError::Diverged { why }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed("it cannot be read")(source)),
        }
        Ok(DataDir { path: path.to_owned(), _lock: lock })
    }

    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    pub fn identity(&self) -> io::Result<Option<Identity>> {
        match std::fs::read(self.path.join("identity.json")) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn set_identity(&self, identity: &Identity) -> io::Result<()> {
        self.put("identity.json", &serde_json::to_vec_pretty(identity)?)
    }

    /// Minted when it is first asked for, and the same ever after.
    pub fn incarnation(&self, env: &dyn Env) -> io::Result<u64> {
        let path = self.path.join("incarnation");
        if let Ok(text) = std::fs::read_to_string(&path)
            && let Ok(incarnation) = text.trim().parse()
        {
            return Ok(incarnation);
        }
        // Zero means none on the wire.
        let incarnation = env.random().max(1);
        self.put("incarnation", incarnation.to_string().as_bytes())?;
        Ok(incarnation)
    }

    /// From now on every start is refused with `why`.
    pub fn mark_diverged(&self, why: &str) -> io::Result<()> {
        self.put("diverged", why.as_bytes())
    }

    /// All of it or nothing, on the disk when it returns.
    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let writing = self.path.join(format!("{name}.tmp"));
        let mut file = File::create(&writing)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(writing, self.path.join(name))?;
        disk::sync_dir(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Real;

    /// Another test of this process may fork meanwhile, and its child has a copy of the lock until it runs its program.
    fn reopen(path: &Path) -> Result<DataDir, StartError> {
        for _ in 0..10_000 {
            match DataDir::open(path) {
                Err(StartError::InUse { .. }) => std::thread::sleep(std::time::Duration::from_millis(1)),
                other => return other,
            }
        }
        panic!("it stays locked");
    }

    #[test]
    fn a_directory_is_held_by_one_process_and_keeps_its_incarnation() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(StartError::InUse { .. })));
        let incarnation = first.incarnation(&Real::new()).unwrap();
        drop(first);
        let second = reopen(dir.path()).unwrap();
        assert_eq!(second.incarnation(&Real::new()).unwrap(), incarnation);
        assert_eq!(second.identity().unwrap(), None);
    }

    #[test]
    fn a_diverged_directory_refuses_to_start() {
        let dir = tempfile::tempdir().unwrap();
        DataDir::open(dir.path()).unwrap().mark_diverged("digest at 32").unwrap();
        assert!(matches!(reopen(dir.path()), Err(StartError::Diverged { why }) if why == "digest at 32"));
    }
}
