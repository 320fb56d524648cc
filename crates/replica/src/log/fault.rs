//! A backend around another that fails, waits and counts on demand. For tests.

use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::backend::{ChunkKey, Loaded, LogBackend};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    PutChunk(ChunkKey),
    RemoveChunk(ChunkKey),
    ReplaceChunks,
    PutMeta(String),
    Sync,
}

#[derive(Default)]
struct Control {
    trace: Vec<Operation>,
    /// From now on every write and sync fails with this.
    error: Option<io::ErrorKind>,
    /// Fails only the sync.
    sync_error: Option<io::ErrorKind>,
    held: bool,
    syncs_waiting: usize,
}

/// The other end of a [`FaultBackend`].
#[derive(Clone, Default)]
pub struct Faults(Arc<(Mutex<Control>, Condvar)>);

impl Faults {
    pub fn wrap<B: LogBackend>(&self, inner: B) -> FaultBackend<B> {
        FaultBackend { inner, faults: self.clone() }
    }

    /// All operations so far, a sync being recorded once it is done.
    pub fn trace(&self) -> Vec<Operation> {
        self.0.0.lock().trace.clone()
    }

    pub fn fail_writes(&self, kind: io::ErrorKind) {
        self.0.0.lock().error = Some(kind);
    }

    pub fn fail_syncs(&self, kind: io::ErrorKind) {
        self.0.0.lock().sync_error = Some(kind);
    }

    /// Holds every sync until `release`.
    pub fn hold_syncs(&self) {
        self.0.0.lock().held = true;
    }

    pub fn release_syncs(&self) {
        self.0.0.lock().held = false;
        self.0.1.notify_all();
    }

    /// Blocks until a sync is being held.
    pub fn wait_for_held_sync(&self) {
        let mut control = self.0.0.lock();
        while control.syncs_waiting == 0 {
            self.0.1.wait(&mut control);
        }
    }

    fn record(&self, operation: Operation) -> io::Result<()> {
        let mut control = self.0.0.lock();
        if let Some(kind) = control.error {
            return Err(kind.into());
        }
        control.trace.push(operation);
        Ok(())
    }

    fn before_sync(&self) -> io::Result<()> {
        let mut control = self.0.0.lock();
        while control.held {
            control.syncs_waiting += 1;
            self.0.1.notify_all();
            self.0.1.wait(&mut control);
            control.syncs_waiting -= 1;
        }
        control.sync_error.or(control.error).map_or(Ok(()), |kind| Err(kind.into()))
    }
}

pub struct FaultBackend<B> {
    inner: B,
    faults: Faults,
}

impl<B: LogBackend> LogBackend for FaultBackend<B> {
    fn load(&mut self) -> io::Result<Loaded> {
        self.inner.load()
    }

    fn chunk(&mut self, key: ChunkKey) -> io::Result<Option<Vec<u8>>> {
        self.inner.chunk(key)
    }

    fn put_chunk(&mut self, key: ChunkKey, value: &[u8]) -> io::Result<()> {
        self.faults.record(Operation::PutChunk(key))?;
        self.inner.put_chunk(key, value)
    }

    fn remove_chunk(&mut self, key: ChunkKey) -> io::Result<()> {
        self.faults.record(Operation::RemoveChunk(key))?;
        self.inner.remove_chunk(key)
    }

    fn replace_chunks(&mut self, remove: &[ChunkKey], put: &[(ChunkKey, Vec<u8>)]) -> io::Result<()> {
        self.faults.record(Operation::ReplaceChunks)?;
        self.inner.replace_chunks(remove, put)
    }

    fn put_meta(&mut self, name: &str, value: &[u8]) -> io::Result<()> {
        self.faults.record(Operation::PutMeta(name.to_owned()))?;
        self.inner.put_meta(name, value)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.faults.before_sync()?;
        self.inner.sync()?;
        self.faults.record(Operation::Sync)
    }
}
