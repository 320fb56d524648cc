//! Snapshots: each a file of its own, complete and on the disk before it has its name.
//!
//! Layout: the magic, then frames `[kind u8][len u32][crc32c u32 of kind and content][content]`, little endian:
//! one header (what it covers), pages of rows, one footer (how many rows, and a hash over all pages).

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::codec;
use crate::disk;
use crate::types::SnapshotMeta;

const MAGIC: &[u8; 8] = b"BATONSN1";
/// Of a state above level 2, so that versions from before there were levels in snapshots pass none of it over.
const MAGIC_LEVELS: &[u8; 8] = b"BATONSN2";
const LEVEL_UNSAID: u32 = 2;
const HEADER: u8 = 1;
const PAGE: u8 = 2;
const FOOTER: u8 = 3;
const PAGE_BYTES: usize = 64 << 10;
const FRAME_BYTES_MAX: u32 = 1 << 30;
/// Pages that may be decoded before they are built in.
const PAGES_AHEAD: usize = 16;
const SUFFIX_WRITING: &str = ".tmp";

#[derive(Serialize, Deserialize)]
struct Header {
    meta: SnapshotMeta,
    /// Of the chain over everything applied.
    digest: u64,
    /// Of the state's behaviour; up to 2 it is only in the state.
    #[serde(default, skip_serializing_if = "is_unsaid")]
    level: u32,
}

fn is_unsaid(level: &u32) -> bool {
    *level <= LEVEL_UNSAID
}

#[derive(Serialize, Deserialize)]
struct Footer {
    rows: u64,
    hash: u64,
}

/// A snapshot on the disk. The file stays readable through this even when a newer one has replaced it.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    file: Arc<File>,
    path: PathBuf,
    bytes: u64,
    /// Of one that a leader has sent.
    _received: Option<Arc<Received>>,
}

/// A received file, under the name that it is written under. Removed with the last that holds it: Raft may decline
/// what was received, and drops it then. One that was installed has another name by that time.
#[derive(Debug)]
struct Received(PathBuf);

impl Drop for Received {
    fn drop(&mut self) {
        // Installed already; and left behind it would be removed at the next start.
        drop(std::fs::remove_file(&self.0));
    }
}

impl SnapshotFile {
    fn open(path: PathBuf) -> io::Result<SnapshotFile> {
        let file = File::open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(SnapshotFile { file: Arc::new(file), path, bytes, _received: None })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Up to `len` bytes from `offset` on; less only at the end.
    pub fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len.min(self.bytes.saturating_sub(offset) as usize)];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

/// The directory of snapshots. It keeps one, the newest.
#[derive(Debug)]
pub struct SnapshotStore {
    dir: PathBuf,
    current: Mutex<Option<(SnapshotMeta, SnapshotFile)>>,
    received: AtomicU64,
}

impl SnapshotStore {
    /// Removes what was never finished and takes the newest of what was.
    pub fn open(dir: PathBuf) -> io::Result<SnapshotStore> {
        disk::create_dir(&dir)?;
        let (mut finished, unfinished) = files(&dir)?;
        unfinished.into_iter().try_for_each(std::fs::remove_file)?;
        let current = match finished.pop() {
            None => None,
            Some(path) => {
                let file = SnapshotFile::open(path)?;
                Some((Reader::new(&file)?.header.meta, file))
            }
        };
        finished.into_iter().try_for_each(std::fs::remove_file)?;
        Ok(SnapshotStore { dir, current: Mutex::new(current), received: AtomicU64::new(0) })
    }

    pub fn current(&self) -> Option<(SnapshotMeta, SnapshotFile)> {
        self.current.lock().clone()
    }

    /// Writes a snapshot and makes it the current one. Blocks.
    pub fn write(
        &self,
        meta: &SnapshotMeta,
        digest: u64,
        frozen: &machine::Frozen,
    ) -> io::Result<SnapshotFile> {
        let path = self.path(meta);
        let writing = with_suffix(&path, SUFFIX_WRITING);
        let mut writer = Writer { out: BufWriter::new(File::create(&writing)?), hash: Xxh3::new(), rows: 0 };
        let level = frozen.level();
        writer.out.write_all(if is_unsaid(&level) { MAGIC } else { MAGIC_LEVELS })?;
        writer.frame(HEADER, &codec::encode(&Header { meta: meta.clone(), digest, level }))?;
        let mut page = Vec::new();
        for row in frozen.rows() {
            row.serialize(&mut rmp_serde::Serializer::new(&mut page).with_struct_map())
                .map_err(io::Error::other)?;
            writer.rows += 1;
            if page.len() >= PAGE_BYTES {
                writer.page(&mut page)?;
            }
        }
        writer.page(&mut page)?;
        let footer = Footer { rows: writer.rows, hash: writer.hash.digest() };
        writer.frame(FOOTER, &codec::encode(&footer))?;
        writer.out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        self.publish(meta.clone(), &writing)
    }

    /// A file for a snapshot that a leader sends.
    pub fn receive(&self) -> io::Result<Incoming> {
        let number = self.received.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("incoming-{number}{SUFFIX_WRITING}"));
        Ok(Incoming { file: File::create(&path)?, received: Received(path) })
    }

    /// Makes a received snapshot, or the current one again, the current one. Blocks.
    pub fn install(&self, meta: &SnapshotMeta, file: &SnapshotFile) -> io::Result<()> {
        if file.path != self.path(meta) {
            self.publish(meta.clone(), &file.path)?;
        }
        Ok(())
    }

    fn publish(&self, meta: SnapshotMeta, finished: &Path) -> io::Result<SnapshotFile> {
        let path = self.path(&meta);
        let mut current = self.current.lock();
        // One that was begun before a newer one was installed: the log behind the newer one may be purged, so the
        // older must not take its place. Whoever built it can still read it.
        if current.as_ref().is_some_and(|(newest, _)| newest.last_log_id > meta.last_log_id) {
            let file = SnapshotFile::open(finished.to_owned())?;
            std::fs::remove_file(finished)?;
            return Ok(file);
        }
        std::fs::rename(finished, &path)?;
        disk::sync_dir(&self.dir)?;
        let file = SnapshotFile::open(path)?;
        let replaced = current.replace((meta, file.clone()));
        if let Some((_, old)) = replaced
            && old.path != file.path
        {
            std::fs::remove_file(&old.path)?;
        }
        Ok(file)
    }

    // Newer ones sort later.
    fn path(&self, meta: &SnapshotMeta) -> PathBuf {
        let (term, index) = meta.last_log_id.map_or((0, 0), |id| (*id.leader_id, id.index + 1));
        self.dir.join(format!("snapshot-{index:020}-{term:020}"))
    }
}

/// Those that are complete, the newest last, and those that were never finished.
fn files(dir: &Path) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let paths = std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path()));
    let is_finished = |path: &PathBuf| !path.to_string_lossy().ends_with(SUFFIX_WRITING);
    let mut paths = paths.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths.into_iter().partition(is_finished))
}

/// The file of the newest snapshot, where nobody has opened the directory.
#[cfg(feature = "chaos")]
pub fn newest(dir: &Path) -> io::Result<Option<PathBuf>> {
    if !dir.is_dir() {
        return Ok(None);
    }
    Ok(files(dir)?.0.pop())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A snapshot that is being received; removed unless it is finished and installed.
pub struct Incoming {
    file: File,
    received: Received,
}

impl Incoming {
    /// Blocks.
    pub fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.file.write_all(chunk)
    }

    /// Checks every byte of it and puts it on the disk. Blocks.
    pub fn finish(self) -> io::Result<(SnapshotMeta, SnapshotFile)> {
        self.file.sync_all()?;
        let mut file = SnapshotFile::open(self.received.0.clone())?;
        let mut reader = Reader::new(&file)?;
        while reader.next_page()?.is_some() {}
        file._received = Some(Arc::new(self.received));
        Ok((reader.header.meta, file))
    }
}

struct Writer {
    out: BufWriter<File>,
    hash: Xxh3,
    rows: u64,
}

impl Writer {
    fn page(&mut self, page: &mut Vec<u8>) -> io::Result<()> {
        if page.is_empty() {
            return Ok(());
        }
        self.hash.update(page);
        self.frame(PAGE, page)?;
        page.clear();
        Ok(())
    }

    fn frame(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        let len = u32::try_from(content.len()).ok().filter(|len| *len <= FRAME_BYTES_MAX);
        let len = len.ok_or_else(|| io::Error::other("a row of the state is larger than a frame may be"))?;
        self.out.write_all(&[kind])?;
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(&crc32c::crc32c_append(crc32c::crc32c(&[kind]), content).to_le_bytes())?;
        self.out.write_all(content)
    }
}

/// Reads and checks a snapshot from its beginning.
struct Reader {
    input: BufReader<Offset>,
    header: Header,
    hash: Xxh3,
}

impl Reader {
    fn new(file: &SnapshotFile) -> io::Result<Reader> {
        let mut input = BufReader::with_capacity(1 << 20, Offset { file: file.file.clone(), offset: 0 });
        let mut magic = [0; 8];
        input.read_exact(&mut magic)?;
        if &magic != MAGIC && &magic != MAGIC_LEVELS {
            return Err(corrupt(format!("{} is not a snapshot of this version", file.path.display())));
        }
        let (kind, content) = read_frame(&mut input)?;
        if kind != HEADER {
            return Err(corrupt("it has no header".into()));
        }
        Ok(Reader { input, header: codec::decode("snapshot header", &content)?, hash: Xxh3::new() })
    }

    /// None once the footer agrees with all that came before it.
    fn next_page(&mut self) -> io::Result<Option<Vec<u8>>> {
        let (kind, content) = read_frame(&mut self.input)?;
        match kind {
            PAGE => {
                self.hash.update(&content);
                Ok(Some(content))
            }
            FOOTER => {
                let footer: Footer = codec::decode("snapshot footer", &content)?;
                if footer.hash != self.hash.digest() {
                    return Err(corrupt("its pages are not those it was written with".into()));
                }
                Ok(None)
            }
            kind => Err(corrupt(format!("frame kind {kind} is unknown"))),
        }
    }
}

fn read_frame(input: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    input.read_exact(&mut head)?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (kind, len, crc) = (head[0], word(1), word(5));
    if len > FRAME_BYTES_MAX {
        return Err(corrupt(format!("a frame claims {len} bytes")));
    }
    let mut content = Vec::new();
    input.take(len.into()).read_to_end(&mut content)?;
    if content.len() != len as usize || crc32c::crc32c_append(crc32c::crc32c(&[kind]), &content) != crc {
        return Err(corrupt("a frame fails its checksum".into()));
    }
    Ok((kind, content))
}

struct Offset {
    file: Arc<File>,
    offset: u64,
}

impl Read for Offset {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

fn corrupt(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the snapshot is corrupt: {what}"))
}

/// The level of the state in it, before any of that is read; 0: it is not said, and at most 2.
pub fn level(file: &SnapshotFile) -> io::Result<u32> {
    Ok(Reader::new(file)?.header.level)
}

/// Rebuilds the state that a snapshot holds. Blocks. Rows are decoded on a thread beside: a start waits for this, and the
/// half of it is decoding.
pub fn thaw(file: &SnapshotFile) -> io::Result<machine::State> {
    let reader = Reader::new(file)?;
    let digest = reader.header.digest;
    std::thread::scope(|scope| {
        let (pages, decoded) = mpsc::sync_channel(PAGES_AHEAD);
        std::thread::Builder::new().name("thaw".into()).spawn_scoped(scope, || decode(reader, pages))?;
        build(decoded, digest)
    })
}

/// The rows of a page, nothing for the end of the snapshot, or what is wrong with it, which is the last word.
type Page = io::Result<Option<Vec<machine::Row>>>;

fn decode(mut reader: Reader, pages: mpsc::SyncSender<Page>) {
    loop {
        let page = reader.next_page().and_then(|page| page.map(decode_page).transpose());
        let is_last = !matches!(page, Ok(Some(_)));
        // Whoever builds the state may have given up.
        if pages.send(page).is_err() || is_last {
            return;
        }
    }
}

fn decode_page(page: Vec<u8>) -> io::Result<Vec<machine::Row>> {
    let mut rest = &page[..];
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
        let row = Deserialize::deserialize(&mut deserializer).map_err(|error| corrupt(error.to_string()))?;
        rows.push(row);
    }
    Ok(rows)
}

fn build(pages: mpsc::Receiver<Page>, digest: u64) -> io::Result<machine::State> {
    let mut rows = Rows { pages, page: Vec::new().into_iter(), failed: None, ended: false };
    let state = machine::State::thaw(&mut rows);
    if let Some(error) = rows.failed {
        return Err(error);
    }
    if !rows.ended {
        return Err(corrupt("it holds more rows than the state takes".into()));
    }
    let state = state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    if state.digest() != digest {
        return Err(corrupt("the state has another digest than when it was written".into()));
    }
    Ok(state)
}

struct Rows {
    pages: mpsc::Receiver<Page>,
    page: std::vec::IntoIter<machine::Row>,
    failed: Option<io::Error>,
    ended: bool,
}

impl Iterator for Rows {
    type Item = machine::Row;

    fn next(&mut self) -> Option<machine::Row> {
        loop {
            if let Some(row) = self.page.next() {
                return Some(row);
            }
            if self.ended || self.failed.is_some() {
                return None;
            }
            match self.pages.recv().unwrap_or_else(|_| Err(corrupt("nobody decodes it".into()))) {
                Ok(Some(page)) => self.page = page.into_iter(),
                Ok(None) => self.ended = true,
                Err(error) => self.failed = Some(error),
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::types;

    fn state(entries: u64) -> machine::State {
        let mut state = machine::State::default();
        for index in 1..=entries {
            state.apply(index, &machine::Entry { stamp: Default::default(), commands: vec![] });
        }
        state
    }

    pub fn founded(level: u32) -> machine::State {
        let settings = model::Settings::default();
        let bootstrap =
            machine::Bootstrap { cluster: "c".to_owned(), settings, epoch: 0, next_node: 2, level };
        let commands = vec![machine::Command::Bootstrap(bootstrap)];
        let mut state = machine::State::default();
        state.apply(1, &machine::Entry { stamp: Default::default(), commands });
        state
    }

    pub fn meta(index: u64) -> SnapshotMeta {
        SnapshotMeta { last_log_id: Some(types::log_id(1, index)), ..Default::default() }
    }

    #[test]
    fn a_snapshot_gives_back_the_state_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotStore::open(dir.path().into()).unwrap();
        for index in [7, 9] {
            let state = state(index);
            store.write(&meta(index), state.digest(), &state.freeze()).unwrap();
        }
        std::fs::write(dir.path().join("snapshot-torn.tmp"), b"BATON").unwrap();
        let store = SnapshotStore::open(dir.path().into()).unwrap();
        let (found, file) = store.current().unwrap();
        assert_eq!(found, meta(9));
        assert_eq!(thaw(&file).unwrap().digest(), state(9).digest());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "only the newest is kept");
    }

    #[test]
    fn a_snapshot_says_its_level_first_and_below_3_is_as_it_was() {
        for (level, magic, said) in [(2, MAGIC, 0), (3, MAGIC_LEVELS, 3)] {
            let dir = tempfile::tempdir().unwrap();
            let store = SnapshotStore::open(dir.path().into()).unwrap();
            let state = founded(level);
            let file = store.write(&meta(1), state.digest(), &state.freeze()).unwrap();
            assert_eq!(file.read_at(0, 8).unwrap()[..], magic[..]);
            assert_eq!((super::level(&file).unwrap(), thaw(&file).unwrap().level()), (said, level));
        }
    }

    #[test]
    fn a_snapshot_that_is_finished_late_does_not_replace_a_newer_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotStore::open(dir.path().into()).unwrap();
        for index in [9, 7] {
            let state = state(index);
            let written = store.write(&meta(index), state.digest(), &state.freeze()).unwrap();
            assert_eq!(thaw(&written).unwrap().digest(), state.digest(), "it is readable all the same");
        }
        assert_eq!(store.current().unwrap().0, meta(9));
        let store = SnapshotStore::open(dir.path().into()).unwrap();
        let (found, file) = store.current().unwrap();
        assert_eq!(found, meta(9));
        assert_eq!(thaw(&file).unwrap().digest(), state(9).digest());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_received_snapshot_is_checked_before_it_is_used() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, to) = (
            SnapshotStore::open(from.path().into()).unwrap(),
            SnapshotStore::open(to.path().into()).unwrap(),
        );
        let state = state(5);
        let sent = from.write(&meta(5), state.digest(), &state.freeze()).unwrap();
        let bytes = sent.read_at(0, usize::MAX).unwrap();
        for at in [0, 12, bytes.len() - 1] {
            let mut incoming = to.receive().unwrap();
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            incoming.write(&broken).unwrap();
            assert!(incoming.finish().is_err(), "byte {at}");
        }
        let mut incoming = to.receive().unwrap();
        incoming.write(&bytes[..bytes.len() - 1]).unwrap();
        assert!(incoming.finish().is_err(), "the end is missing");

        let mut incoming = to.receive().unwrap();
        bytes.chunks(7).for_each(|chunk| incoming.write(chunk).unwrap());
        let (found, file) = incoming.finish().unwrap();
        to.install(&found, &file).unwrap();
        drop(file);
        assert_eq!(thaw(&to.current().unwrap().1).unwrap().digest(), state.digest());
    }

    #[test]
    fn a_received_snapshot_that_is_declined_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotStore::open(dir.path().into()).unwrap();
        let state = state(5);
        let written = store.write(&meta(5), state.digest(), &state.freeze()).unwrap();
        let mut incoming = store.receive().unwrap();
        incoming.write(&written.read_at(0, usize::MAX).unwrap()).unwrap();
        let (_, file) = incoming.finish().unwrap();
        let files = || std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files(), 2);
        drop(file.clone());
        assert_eq!(files(), 2, "somebody still holds it");
        drop(file);
        assert_eq!(files(), 1);
    }
}
