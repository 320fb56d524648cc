//! What each replica says that it applied, with its digests (H3): one JSON map per line, written by the binary with hooks.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// One entry of the log as some replica applied it.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    pub index: u64,
    pub term: u64,
    pub digest: String,
    /// Microseconds of the cluster's own clock.
    pub elapsed: u64,
    pub commands: Vec<Value>,
    pub replies: Vec<Value>,
    pub events: Vec<Value>,
}

/// The log, put together from all replicas, and where they contradict each other.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// By index; blank entries and those that no replica has told of are absent.
    pub entries: BTreeMap<u64, Applied>,
    /// How many lines of each replica were read.
    pub lines: Vec<u64>,
    /// The highest index that anybody told of.
    pub last: u64,
    pub snapshots_built: u64,
    pub snapshots_installed: u64,
    pub contradictions: Vec<String>,
    /// Why an index up to the last is known from nobody.
    pub missing: u64,
}

impl Trace {
    /// Of the files of all replicas that exist. `None`: nobody wrote any.
    pub fn read(files: &[(String, std::path::PathBuf)]) -> Result<Option<Trace>, String> {
        let there: Vec<_> = files.iter().filter(|(_, path)| path.exists()).collect();
        if there.is_empty() {
            return Ok(None);
        }
        let mut reader = Reader::default();
        for (node, path) in there {
            reader.file(node, path)?;
        }
        Ok(Some(reader.finish()))
    }
}

#[derive(Default)]
struct Reader {
    trace: Trace,
    hasher: std::hash::RandomState,
    /// A hash of the line of each index as it was first told, and by whom.
    raw: BTreeMap<u64, (String, u64)>,
}

impl Reader {
    fn file(&mut self, node: &str, path: &Path) -> Result<(), String> {
        let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let text = String::from_utf8_lossy(&text);
        // A line without its end was being written when the process was killed.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut count = 0;
        let mut lines = whole.lines().map(since_boot).peekable();
        while let Some(line) = lines.next() {
            // So it was when its process was killed; what it tells of was applied once more afterwards.
            if lines.peek().is_some_and(|next| next.starts_with(BOOT)) && !is_whole(line) {
                continue;
            }
            self.line(node, line).map_err(|why| format!("{}: {why}: {line:.200}", path.display()))?;
            count += 1;
        }
        self.trace.lines.push(count);
        Ok(())
    }

    fn line(&mut self, node: &str, line: &str) -> Result<(), String> {
        // Cheaper than to read all of it once per replica.
        let index = line.strip_prefix("{\"index\":").and_then(|rest| {
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse::<u64>().ok()
        });
        let Some(index) = index else { return self.note(line) };
        self.trace.last = self.trace.last.max(index);
        let hash = std::hash::BuildHasher::hash_one(&self.hasher, line);
        match self.raw.get(&index) {
            Some((_, first)) if *first == hash => {}
            Some((other, _)) => {
                let what = format!("{node} and {other} tell entry {index} differently: {line:.300}");
                self.trace.contradictions.push(what);
            }
            None => {
                if let Some(applied) = applied(index, line)? {
                    self.trace.entries.insert(index, applied);
                }
                self.raw.insert(index, (node.to_owned(), hash));
            }
        }
        Ok(())
    }

    fn note(&mut self, line: &str) -> Result<(), String> {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        self.trace.snapshots_built += u64::from(value.get("built").is_some());
        self.trace.snapshots_installed += u64::from(value.get("installed").is_some());
        Ok(())
    }

    fn finish(mut self) -> Trace {
        let first = self.raw.keys().next().copied().unwrap_or(0);
        let known = self.raw.len() as u64;
        if known > 0 {
            self.trace.missing = self.trace.last - first + 1 - known;
        }
        self.trace
    }
}

/// What the next life of a replica says first.
const BOOT: &str = "{\"boot\":";

/// Where a life began behind a line that was torn, that life's.
fn since_boot(line: &str) -> &str {
    line.rfind(BOOT).map_or(line, |at| &line[at..])
}

fn is_whole(line: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(line).is_ok()
}

fn applied(index: u64, line: &str) -> Result<Option<Applied>, String> {
    let mut value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if value.get("commands").is_none() {
        return Ok(None);
    }
    let mut list = |name: &str| match value.get_mut(name).map(Value::take) {
        Some(Value::Array(items)) => Ok(items),
        _ => Err(format!("it has no {name}")),
    };
    let (commands, replies, events) = (list("commands")?, list("replies")?, list("events")?);
    Ok(Some(Applied {
        index,
        term: value["term"].as_u64().unwrap_or(0),
        digest: value["digest"].as_str().unwrap_or_default().to_owned(),
        elapsed: value["stamp"]["elapsed"].as_u64().unwrap_or(0),
        commands,
        replies,
        events,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[&str]) -> Trace {
        let folder = tempfile::tempdir().unwrap();
        let place = |(number, text): (usize, &&str)| {
            let path = folder.path().join(number.to_string());
            std::fs::write(&path, text).unwrap();
            (format!("n{}", number + 1), path)
        };
        let files: Vec<_> = files.iter().enumerate().map(place).collect();
        Trace::read(&files).unwrap().unwrap()
    }

    fn entry(index: u64, digest: &str) -> String {
        format!(
            "{{\"index\":{index},\"term\":1,\"digest\":\"{digest}\",\"stamp\":{{\"elapsed\":5,\"wall\":6}},\
             \"commands\":[\"tick\"],\"replies\":[\"done\"],\"events\":[]}}\n"
        )
    }

    #[test]
    fn replicas_are_put_together_and_a_torn_line_is_left_out() {
        let one = entry(2, "a") + "{\"index\":3,\"term\":1,\"blank\":true}\n" + "{\"index\":4,\"te";
        let two = entry(2, "a") + &entry(4, "b") + "{\"installed\":{\"index\":4}}\n";
        let trace = read(&[&one, &two]);
        assert_eq!(trace.contradictions, Vec::<String>::new());
        assert_eq!((trace.entries.len(), trace.last, trace.missing), (2, 4, 0));
        assert_eq!(trace.snapshots_installed, 1);
        assert_eq!(trace.entries[&4].elapsed, 5);
    }

    #[test]
    fn a_line_that_was_torn_between_two_lives_tells_nothing() {
        let boot = "{\"boot\":{\"index\":1,\"digest\":\"a\"}}\n";
        let torn = entry(3, "b").trim_end().trim_end_matches(']').trim_end_matches("events\":[").to_owned();
        for between in ["", "\n"] {
            let one = entry(2, "a") + &torn + between + boot + &entry(3, "b");
            let trace = read(&[&one, &(entry(2, "a") + &entry(3, "b"))]);
            assert_eq!(trace.contradictions, Vec::<String>::new());
            assert_eq!((trace.entries.len(), trace.missing), (2, 0));
        }
    }

    #[test]
    fn another_digest_is_a_contradiction_and_a_hole_is_counted() {
        let trace = read(&[&(entry(2, "a") + &entry(5, "c")), &entry(2, "b")]);
        assert_eq!(trace.contradictions.len(), 1);
        assert_eq!(trace.missing, 2);
    }

    #[test]
    fn nobody_wrote_any() {
        let none = Trace::read(&[("n1".to_owned(), "/nowhere/at/all".into())]).unwrap();
        assert!(none.is_none());
    }
}
