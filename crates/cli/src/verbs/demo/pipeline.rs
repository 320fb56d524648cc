//! The demo's pipeline: lists files, counts each share of them in an array task with plain shell tools, and adds all
//! up. And the same result computed directly, to compare.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::blob::{hex, sha256};
use model::size::PARTS;
use model::{ArrayRange, Blob, Dependency, JobSpec, Resources, TaskSpec, Work};

use crate::fault::Fault;

/// The files that are counted.
pub struct Files {
    pub root: PathBuf,
    /// Relative to the root, in order.
    pub paths: Vec<String>,
    pub bytes: u64,
}

/// The list of paths travels with the job, so it stays well below what a job may carry in line.
const LIST_BYTES_MAX: usize = 128 << 10;
const FILE_BYTES_MAX: u64 = 8 << 20;
const BYTES_MAX: u64 = 256 << 20;
const DEPTH_MAX: usize = 12;

impl Files {
    pub fn find(path: Option<&Path>) -> Result<Files, Fault> {
        let root = match path {
            Some(path) => path.to_path_buf(),
            None => own_root(),
        };
        let root =
            root.canonicalize().map_err(|error| Fault::of_file("cannot read the files", &root, &error))?;
        let mut files = Files { root: root.clone(), paths: Vec::new(), bytes: 0 };
        let mut list_bytes = 0;
        files.walk(&root, 0, &mut list_bytes)?;
        if files.paths.len() < 8 {
            let text =
                format!("{} has {} files; the demo needs at least 8", root.display(), files.paths.len());
            return Err(Fault::usage(text).fix("name another folder with --path DIR"));
        }
        Ok(files)
    }

    fn walk(&mut self, folder: &Path, depth: usize, list_bytes: &mut usize) -> Result<(), Fault> {
        let fault = |error| Fault::of_file("cannot read the files", folder, &error);
        let mut entries = std::fs::read_dir(folder).map_err(fault)?.flatten().collect::<Vec<_>>();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let is_skipped = name.starts_with('.') || matches!(name, "target" | "node_modules");
            let Ok(kind) = entry.file_type() else { continue };
            if is_skipped {
                continue;
            }
            if kind.is_dir() && depth < DEPTH_MAX {
                self.walk(&entry.path(), depth + 1, list_bytes)?;
            } else if kind.is_file() {
                self.take(&entry.path(), list_bytes);
            }
        }
        Ok(())
    }

    fn take(&mut self, path: &Path, list_bytes: &mut usize) {
        let Ok(size) = std::fs::metadata(path).map(|meta| meta.len()) else { return };
        let Some(relative) = path.strip_prefix(&self.root).ok().and_then(Path::to_str) else { return };
        // One line of a list is one path.
        let is_plain = !relative.chars().any(|c| c.is_control() || c == '\\');
        let has_room = *list_bytes + relative.len() < LIST_BYTES_MAX && self.bytes + size <= BYTES_MAX;
        if is_plain && has_room && size <= FILE_BYTES_MAX && std::fs::File::open(path).is_ok() {
            *list_bytes += relative.len() + 1;
            self.bytes += size;
            self.paths.push(relative.to_owned());
        }
    }

    /// The same files in another folder.
    pub fn copy(&self, to: &Path) -> Result<Files, Fault> {
        for path in &self.paths {
            let (from, to) = (self.root.join(path), to.join(path));
            let folder = to.parent().expect("a file lies in a folder");
            let copied = std::fs::create_dir_all(folder).and_then(|()| std::fs::copy(&from, &to));
            copied.map_err(|error| Fault::of_file("cannot copy the files", &from, &error))?;
        }
        Ok(Files { root: to.to_path_buf(), paths: self.paths.clone(), bytes: self.bytes })
    }

    /// What the pipeline must find: one line per file, then the sums.
    pub fn expected(&self) -> Result<String, Fault> {
        let mut lines = BTreeMap::new();
        let (mut all_lines, mut all_words, mut all_bytes) = (0, 0, 0);
        for path in &self.paths {
            let full = self.root.join(path);
            let bytes = std::fs::read(&full)
                .map_err(|error| Fault::of_file("cannot read the files", &full, &error))?;
            let (count, words) = (bytes.iter().filter(|byte| **byte == b'\n').count(), words(&bytes));
            lines.insert(
                path.as_bytes().to_vec(),
                format!("{path} {} {count} {words} {}", hex(&sha256(&bytes)), bytes.len()),
            );
            all_lines += count;
            all_words += words;
            all_bytes += bytes.len();
        }
        let mut text: Vec<String> = lines.into_values().collect();
        text.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        text.push(format!("total {} {all_lines} {all_words} {all_bytes}", self.paths.len()));
        Ok(text.join("\n") + "\n")
    }
}

/// Runs of ASCII letters, digits and underscores.
fn words(bytes: &[u8]) -> usize {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    bytes.split(|byte| !is_word(byte)).filter(|word| !word.is_empty()).count()
}

/// The folder that this program was built from, if it is still there; else the current one.
fn own_root() -> PathBuf {
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    if built_from.join("Cargo.toml").is_file() { built_from } else { PathBuf::from(".") }
}

/// Where the pipeline works, and how.
pub struct Pipeline<'a> {
    pub files: &'a Files,
    pub folder: &'a Path,
    pub shares: u32,
    pub pace: Duration,
}

pub const ARRAY: &str = "count";

impl Pipeline<'_> {
    pub fn ledger(&self) -> PathBuf {
        self.folder.join("ledger")
    }

    pub fn result(&self) -> PathBuf {
        self.folder.join("result")
    }

    pub fn spec(&self) -> JobSpec {
        let mut list = self.task("list", LIST);
        list.stdin = Some(Box::new(Blob::inline((self.files.paths.join("\n") + "\n").into_bytes())));
        let mut count = self.task(ARRAY, COUNT);
        count.array = Some(ArrayRange { first: 0, last: self.shares - 1, step: 1 });
        count.after = vec![Dependency::Task("list".to_owned())].into();
        let mut sum = self.task("sum", SUM);
        sum.after = vec![Dependency::Task(ARRAY.to_owned())].into();
        JobSpec::of("demo", vec![list, count, sum])
    }

    /// Each task writes a line when it begins and one when it ends, each by a single append.
    fn task(&self, name: &str, body: &str) -> TaskSpec {
        let script = format!("{HEAD}{body}{TAIL}");
        let mut task = TaskSpec::new(name, Work::Script(script));
        // A little less than a core, so that a small task fits beside them on a full worker.
        task.resources = Resources { cpu: PARTS * 95 / 100, ..Resources::default() };
        let plain = |text: String| model::EnvValue::Plain(text);
        let set = [
            ("DEMO_ROOT", self.files.root.display().to_string()),
            ("DEMO_WORK", self.folder.display().to_string()),
            ("DEMO_SHARES", self.shares.to_string()),
            ("DEMO_PACE", format!("{:.3}", self.pace.as_secs_f64())),
        ];
        task.env = set.into_iter().map(|(name, text)| (name.to_owned(), plain(text))).collect();
        task
    }
}

const HEAD: &str = r#"#!/bin/sh
set -eu
LC_ALL=C
export LC_ALL
note() {
    read -r up idle </proc/uptime
    echo "$1 $BATON_JOB $BATON_TASK $BATON_ATTEMPT $BATON_TOKEN $$ $up" >>"$DEMO_WORK/ledger"
}
note start
"#;

const TAIL: &str = "note end\n";

const LIST: &str = r#"
rm -rf "$DEMO_WORK/shares" "$DEMO_WORK/counts"
mkdir -p "$DEMO_WORK/shares" "$DEMO_WORK/counts"
n=0
while IFS= read -r path; do
    echo "$path" >>"$DEMO_WORK/shares/$((n % DEMO_SHARES))"
    n=$((n + 1))
done
echo "$n files in $DEMO_SHARES shares"
"#;

const COUNT: &str = r#"
out="$DEMO_WORK/counts/$BATON_ARRAY_INDEX"
share="$DEMO_WORK/shares/$BATON_ARRAY_INDEX"
: >"$out.new"
if [ -f "$share" ]; then
    while IFS= read -r path; do
        file="$DEMO_ROOT/$path"
        sum=$(sha256sum <"$file" | cut -c 1-64)
        lines=$(wc -l <"$file" | tr -d ' ')
        words=$(tr -cs 'A-Za-z0-9_' '\n' <"$file" | grep -c . || true)
        bytes=$(wc -c <"$file" | tr -d ' ')
        echo "$path $sum $lines $words $bytes" >>"$out.new"
    done <"$share"
fi
sleep "$DEMO_PACE"
mv "$out.new" "$out"
echo "share $BATON_ARRAY_INDEX: $(wc -l <"$out" | tr -d ' ') files"
"#;

const SUM: &str = r#"
cd "$DEMO_WORK/counts"
cat -- * | sort >"$DEMO_WORK/result.new"
awk '{ files += 1; lines += $(NF - 2); words += $(NF - 1); bytes += $NF }
     END { printf "total %d %d %d %d\n", files, lines, words, bytes }' "$DEMO_WORK/result.new" >"$DEMO_WORK/total"
cat "$DEMO_WORK/total" >>"$DEMO_WORK/result.new"
mv "$DEMO_WORK/result.new" "$DEMO_WORK/result"
cat "$DEMO_WORK/total"
"#;

#[cfg(test)]
mod tests {
    use model::settings::Limits;
    use model::validate::validate;

    use super::*;

    fn files() -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..10 {
            let body = format!("line {n}\nsnake_case, h\u{e9} two  words\nno end").repeat(n);
            std::fs::write(folder.path().join(format!("f {n}.txt")), body).unwrap();
        }
        std::fs::create_dir(folder.path().join("target")).unwrap();
        std::fs::write(folder.path().join("target/skipped"), "x").unwrap();
        let files = Files::find(Some(folder.path())).unwrap();
        (folder, files)
    }

    #[test]
    fn words_are_runs_of_letters() {
        assert_eq!(words(b"a snake_case, x2  -- \xff\xfe z"), 4);
        assert_eq!(words(b""), 0);
    }

    #[test]
    fn the_scripts_compute_what_is_computed_directly() {
        let (_folder, files) = files();
        assert_eq!(files.paths.len(), 10, "{:?}", files.paths);
        let work = tempfile::tempdir().unwrap();
        let pipeline = Pipeline { files: &files, folder: work.path(), shares: 12, pace: Duration::ZERO };
        let spec = pipeline.spec();
        assert!(validate(&spec, &Limits::default()).is_empty());
        for task in &spec.tasks {
            for member in 0..task.count() {
                run(task, member);
            }
        }
        assert_eq!(std::fs::read_to_string(pipeline.result()).unwrap(), files.expected().unwrap());
        let ledger = std::fs::read_to_string(pipeline.ledger()).unwrap();
        assert_eq!(ledger.lines().count(), 2 * 14);
    }

    /// As a worker runs it.
    fn run(task: &TaskSpec, member: u32) {
        let Work::Script(body) = &task.work else { panic!("a script") };
        let mut command = std::process::Command::new("/bin/sh");
        command.arg("-c").arg(body).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        for (name, value) in &task.env {
            let model::EnvValue::Plain(value) = value else { panic!("plain") };
            command.env(name, value);
        }
        let mine =
            [("BATON_JOB", "j1"), ("BATON_TASK", "j1.0"), ("BATON_ATTEMPT", "1"), ("BATON_TOKEN", "5")];
        command.envs(mine).env("BATON_ARRAY_INDEX", member.to_string());
        let input = task.stdin.as_ref().and_then(|blob| blob.inline_bytes()).unwrap_or_default();
        let stdin = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(stdin.path(), input).unwrap();
        let done = command.stdin(std::fs::File::open(stdin.path()).unwrap()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}
