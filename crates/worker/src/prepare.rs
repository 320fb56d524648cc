//! Lays an attempt of kind process out on disk and says how it is to be spawned. Blocking.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use model::{Blob, BlobSource, OnDisconnect, Reason, Work};
use worker_core::Order;

use crate::cgroup;
use crate::clock;
use crate::environment::{SecretError, environment, marks};
use crate::fetch::{FetchError, Wanted, fetch};
use crate::home::AttemptDir;
use crate::keeper::protocol::{Key, Spawn};
use crate::spares::Spares;
use crate::sys;

/// What is the same for all attempts of a worker.
#[derive(Clone, Debug)]
pub struct Site {
    pub spares: Arc<Spares>,
    pub secrets_dir: Option<PathBuf>,
    pub cgroup: Option<cgroup::Parent>,
    pub stream_bytes_max: u64,
    pub grace: Duration,
}

/// Why an attempt could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    #[error("this worker has no room for its files: {what}: {source}")]
    Host { what: String, source: io::Error },
    #[error("cannot lay out its files: {what}: {source}")]
    Files { what: String, source: io::Error },
    #[error("its working directory {} does not exist", path.display())]
    NoDirectory { path: PathBuf },
    #[error("no program `{name}` in PATH {path}")]
    NotInPath { name: String, path: String },
    #[error("no program {}", path.display())]
    NoProgram { path: PathBuf },
    #[error("{} may not be executed", path.display())]
    NotExecutable { path: PathBuf },
    #[error("an empty argument list")]
    NoArguments,
    #[error("`{to}` would lie outside of its working directory")]
    Outside { to: String },
    #[error("this worker cannot resolve `ref: {name}`")]
    Ref { name: String },
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl NotStarted {
    pub fn reason(&self) -> Reason {
        match self {
            NotStarted::Secret(_) | NotStarted::Ref { .. } => Reason::Unsupported,
            _ => Reason::NotStarted,
        }
    }

    /// Whether the task is not to blame: another worker may well start it.
    pub fn is_hosts_fault(&self) -> bool {
        match self {
            NotStarted::Host { .. } => true,
            NotStarted::Files { source, .. } | NotStarted::Fetch(FetchError::Keep { source, .. }) => {
                sys::is_hosts_fault(source)
            }
            NotStarted::NoDirectory { .. }
            | NotStarted::NotInPath { .. }
            | NotStarted::NoProgram { .. }
            | NotStarted::NotExecutable { .. }
            | NotStarted::NoArguments
            | NotStarted::Outside { .. }
            | NotStarted::Ref { .. }
            | NotStarted::Fetch(_)
            | NotStarted::Secret(_) => false,
        }
    }
}

/// `is_unwanted`: set when it need not go on.
pub fn prepare(
    order: &Order,
    key: Key,
    dir: &AttemptDir,
    site: &Site,
    is_unwanted: &AtomicBool,
) -> Result<Spawn, NotStarted> {
    make_directories(dir, &site.spares)?;
    let spec = &order.spec;
    let workdir = if spec.workdir.is_empty() { dir.work() } else { PathBuf::from(&*spec.workdir) };
    if !workdir.is_dir() {
        return Err(NotStarted::NoDirectory { path: workdir });
    }
    for file in &spec.files {
        lay_file(&workdir, file, is_unwanted)?;
    }
    if let Some(stdin) = &spec.stdin {
        write_blob(stdin, &dir.stdin(), is_unwanted)?;
    }
    let env = environment(order, key.task, dir, site.secrets_dir.as_deref())?;
    let path = env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, path)| path);
    let (program, argv) = command(order, dir, &workdir, path)?;
    Ok(Spawn {
        key,
        program,
        argv,
        workdir,
        stdin: spec.stdin.is_some().then(|| dir.stdin()),
        stdout: dir.stdout(),
        stderr: dir.stderr(),
        output_bytes_max: site.stream_bytes_max,
        keep: order.on_disconnect == OnDisconnect::Keep,
        timeout: spec.timeout,
        grace: site.grace,
        marks: marks(dir),
        memory_max: (spec.resources.memory > 0).then_some(spec.resources.memory),
        cgroup: site.cgroup.clone(),
        env,
    })
}

fn files_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> NotStarted {
    move |source| NotStarted::Files { what: what.into(), source }
}

/// Of what lies in the worker's own directory.
fn host_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> NotStarted {
    move |source| NotStarted::Host { what: what.into(), source }
}

fn make_directories(dir: &AttemptDir, spares: &Spares) -> Result<(), NotStarted> {
    // What an earlier attempt of that name left, for example of a cluster that was set up anew.
    match fs::remove_dir_all(&dir.0) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(host_error("an old directory")(error));
        }
        _ => {}
    }
    fs::create_dir_all(&dir.0).map_err(host_error("its directory"))?;
    let now = clock::moment();
    for path in [dir.work(), dir.temporary()] {
        if !spares.take(&path, now) {
            fs::create_dir(path).map_err(host_error("its directory"))?;
        }
    }
    Ok(())
}

fn lay_file(workdir: &Path, file: &model::FileSpec, is_unwanted: &AtomicBool) -> Result<(), NotStarted> {
    let is_inside = !file.to.starts_with('/') && file.to.split('/').all(|part| !matches!(part, ".." | ""));
    if !is_inside {
        return Err(NotStarted::Outside { to: file.to.clone() });
    }
    let to = workdir.join(&file.to);
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(files_error(&file.to))?;
    }
    write_blob(&file.content, &to, is_unwanted)?;
    let mode = fs::Permissions::from_mode(file.mode & 0o777);
    fs::set_permissions(&to, mode).map_err(files_error(&file.to))
}

fn write_blob(blob: &Blob, to: &Path, is_unwanted: &AtomicBool) -> Result<(), NotStarted> {
    match &blob.source {
        BlobSource::Inline(bytes) => fs::write(to, bytes).map_err(files_error(to.display().to_string())),
        BlobSource::Url(url) => {
            let wanted = Wanted { url, sha256: &blob.sha256, size: blob.size };
            Ok(fetch(&wanted, to, is_unwanted)?)
        }
        BlobSource::Ref(name) => Err(NotStarted::Ref { name: name.clone() }),
    }
}

/// The program as an absolute path, and its arguments from the name on.
fn command(
    order: &Order,
    dir: &AttemptDir,
    workdir: &Path,
    path: &str,
) -> Result<(PathBuf, Vec<String>), NotStarted> {
    match &order.spec.work {
        Work::Run(argv) => {
            let name = argv.first().ok_or(NotStarted::NoArguments)?;
            Ok((find(name, workdir, path)?, argv.clone()))
        }
        Work::Script(body) => script(body, dir),
        other => unreachable!("{} is not a process", other.kind()),
    }
}

fn script(body: &str, dir: &AttemptDir) -> Result<(PathBuf, Vec<String>), NotStarted> {
    let file = dir.script();
    fs::write(&file, body).map_err(host_error("its script"))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).map_err(host_error("its script"))?;
    let name = file.display().to_string();
    if body.starts_with("#!") {
        return Ok((file, vec![name]));
    }
    Ok((PathBuf::from("/bin/sh"), vec!["/bin/sh".to_owned(), name]))
}

fn find(name: &str, workdir: &Path, path: &str) -> Result<PathBuf, NotStarted> {
    if name.contains('/') {
        let program = workdir.join(name);
        return check(&program).map(|()| program);
    }
    let candidates = path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| Path::new(dir).join(name));
    let mut not_executable = None;
    for program in candidates {
        match check(&program) {
            Ok(()) => return Ok(program),
            Err(error @ NotStarted::NotExecutable { .. }) => not_executable = Some(error),
            Err(_) => {}
        }
    }
    let absent = || NotStarted::NotInPath { name: name.to_owned(), path: path.to_owned() };
    Err(not_executable.unwrap_or_else(absent))
}

fn check(program: &Path) -> Result<(), NotStarted> {
    let path = || program.to_owned();
    let Ok(meta) = fs::metadata(program) else { return Err(NotStarted::NoProgram { path: path() }) };
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return Err(NotStarted::NotExecutable { path: path() });
    }
    Ok(())
}
