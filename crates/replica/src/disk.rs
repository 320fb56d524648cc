//! Directories that outlast a power failure: the name of a new one is durable only when its parent is synced.

use std::fs::File;
use std::io;
use std::path::Path;

/// Creates a directory, and those above it that are missing.
pub fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = parent(dir).ok_or(io::ErrorKind::NotFound)?;
    create_dir(parent)?;
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !dir.is_dir() => return Err(error),
        _ => {}
    }
    sync_dir(parent)
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn parent(dir: &Path) -> Option<&Path> {
    let parent = dir.parent()?;
    Some(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_created_with_those_above_it_and_may_be_there_already() {
        let dir = tempfile::tempdir().unwrap();
        let nested = dir.path().join("a/b/c");
        create_dir(&nested).unwrap();
        create_dir(&nested).unwrap();
        assert!(nested.is_dir());
        std::fs::write(nested.join("file"), b"").unwrap();
        assert!(create_dir(&nested.join("file")).is_err(), "a file is in the way");
        assert!(create_dir(&nested.join("file/d")).is_err());
        assert!(create_dir(Path::new("")).is_err());
        assert_eq!(parent(Path::new("data")), Some(Path::new(".")));
    }
}
