//! The environment of an attempt: exactly this, nothing of the worker's own but PATH, HOME and LANG.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use model::EnvValue;
use worker_core::{Gang, Order};

use crate::home::AttemptDir;

const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Environments are small; a larger secret is no secret but data.
const SECRET_BYTES_MAX: u64 = 128 << 10;

/// Why there is none: the name of the secret, never its value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("this worker has no secrets directory, so it lacks the secret `{name}`")]
    NoDirectory { name: String },
    #[error("`{name}` is not a name of a secret")]
    Name { name: String },
    #[error("this worker lacks the secret `{name}`")]
    Absent { name: String },
    #[error("the secret `{name}` cannot be put into an environment")]
    Unfit { name: String },
}

/// As pairs, sorted by name. What Baton sets cannot be overridden.
pub fn environment(
    order: &Order,
    task: u32,
    dir: &AttemptDir,
    secrets: Option<&Path>,
) -> Result<Vec<(String, String)>, SecretError> {
    let mut env = base(dir);
    for (name, value) in &order.spec.env {
        let value = match value {
            EnvValue::Plain(text) => text.clone(),
            EnvValue::Secret { secret } => read_secret(secret, secrets)?,
        };
        env.insert(name.clone(), value);
    }
    env.extend(identity(order, task, dir));
    env.extend(units(order));
    env.extend(order.gang.iter().flat_map(|gang| members(order, gang)));
    Ok(env.into_iter().collect())
}

fn base(dir: &AttemptDir) -> BTreeMap<String, String> {
    let own = |name: &str, otherwise: &str| std::env::var(name).unwrap_or_else(|_| otherwise.to_owned());
    BTreeMap::from([
        ("PATH".to_owned(), own("PATH", PATH_DEFAULT)),
        ("HOME".to_owned(), own("HOME", "/")),
        ("LANG".to_owned(), own("LANG", "C.UTF-8")),
        ("TMPDIR".to_owned(), dir.temporary().display().to_string()),
    ])
}

/// What tells the processes of an attempt from those of any other, another cluster's on the same host included.
pub fn marks(dir: &AttemptDir) -> Vec<String> {
    vec![format!("BATON_RESULT={}", dir.result().display())]
}

fn identity(order: &Order, task: u32, dir: &AttemptDir) -> Vec<(String, String)> {
    let id = order.attempt_of(task);
    let mut env = vec![
        ("BATON_JOB".to_owned(), order.job.to_string()),
        ("BATON_TASK".to_owned(), id.task.to_string()),
        ("BATON_ATTEMPT".to_owned(), id.attempt.to_string()),
        ("BATON_TOKEN".to_owned(), order.token.to_string()),
        ("BATON_RESULT".to_owned(), dir.result().display().to_string()),
    ];
    if let Some(index) = order.array_index_of(task) {
        env.push(("BATON_ARRAY_INDEX".to_owned(), index.to_string()));
    }
    if let Some(line) = order.line_of(task) {
        env.push(("BATON_LINE".to_owned(), line.to_owned()));
    }
    if !order.traceparent.is_empty() {
        env.push(("TRACEPARENT".to_owned(), order.traceparent.clone()));
    }
    env
}

/// Who the others of its gang are; also by the names that torchrun gives its processes.
fn members(order: &Order, gang: &Gang) -> Vec<(String, String)> {
    let master = gang.addresses.first().map_or("", String::as_str);
    let (rank, size, port) = (gang.rank.to_string(), gang.addresses.len().to_string(), gang.port.to_string());
    let pairs = [
        ("BATON_GANG_RANK", rank.clone()),
        ("BATON_GANG_SIZE", size.clone()),
        ("BATON_GANG_EPOCH", order.attempt.to_string()),
        ("BATON_GANG_ADDRESSES", gang.addresses.join(",")),
        ("BATON_GANG_PORT", port.clone()),
        ("RANK", rank),
        ("WORLD_SIZE", size),
        ("LOCAL_RANK", gang.local_rank.to_string()),
        ("LOCAL_WORLD_SIZE", gang.local_size.to_string()),
        ("MASTER_ADDR", master.to_owned()),
        ("MASTER_PORT", port),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The units of indexed resources: `BATON_RESOURCE_GPU=0,2`.
fn units(order: &Order) -> Vec<(String, String)> {
    let mut units: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for share in &order.units {
        units.entry(&share.resource).or_default().push(share.unit.to_string());
    }
    let mut env = Vec::new();
    for (resource, units) in units {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let name: String = resource.chars().map(letter).collect();
        if name == "GPU" {
            env.push(("CUDA_VISIBLE_DEVICES".to_owned(), units.join(",")));
        }
        env.push((format!("BATON_RESOURCE_{name}"), units.join(",")));
    }
    env
}

/// One final line end is not part of the secret.
fn read_secret(name: &str, directory: Option<&Path>) -> Result<String, SecretError> {
    let Some(directory) = directory else {
        return Err(SecretError::NoDirectory { name: name.to_owned() });
    };
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(SecretError::Name { name: name.to_owned() });
    }
    let absent = || SecretError::Absent { name: name.to_owned() };
    let unfit = || SecretError::Unfit { name: name.to_owned() };
    // Links are followed (that is how volumes of secrets are laid out), but not out of the directory.
    let directory = directory.canonicalize().map_err(|_| absent())?;
    let path = directory.join(name).canonicalize().map_err(|_| absent())?;
    let meta = fs::metadata(&path).map_err(|_| absent())?;
    if !path.starts_with(&directory) || !meta.is_file() {
        return Err(absent());
    }
    if meta.len() > SECRET_BYTES_MAX {
        return Err(unfit());
    }
    let text = fs::read_to_string(&path).map_err(|_| unfit())?;
    if text.contains('\0') {
        return Err(unfit());
    }
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_cannot_lead_out_of_its_directory() {
        let root = tempfile::tempdir().unwrap();
        let secrets = root.path().join("secrets");
        fs::create_dir(&secrets).unwrap();
        fs::write(root.path().join("outside"), "no").unwrap();
        fs::write(secrets.join("key"), "value\n").unwrap();
        std::os::unix::fs::symlink("../outside", secrets.join("link")).unwrap();
        std::os::unix::fs::symlink("key", secrets.join("inner")).unwrap();
        let read = |name: &str| read_secret(name, Some(&secrets));
        assert_eq!(read("key").as_deref(), Ok("value"));
        assert_eq!(read("inner").as_deref(), Ok("value"));
        for name in ["../outside", "..", ".hidden", "", "a/b"] {
            assert!(matches!(read(name), Err(SecretError::Name { .. })), "{name}");
        }
        assert!(matches!(read("link"), Err(SecretError::Absent { .. })));
        assert!(matches!(read("none"), Err(SecretError::Absent { .. })));
    }
}
