//! What the tasks wrote themselves, outside the system: when which attempt ran, in which process (H2), and what a small
//! resource that checks fencing tokens accepted and refused (H5).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::TaskId;

/// One attempt, as its token names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub task: TaskId,
    pub token: u64,
    pub attempt: u32,
}

/// One process that ran as an attempt. Times are nanoseconds of the machine's wall clock, which no fault here touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stay {
    pub pid: i32,
    pub worker: String,
    /// Thousandths of a core that it has asked for.
    pub cpu: u64,
    pub start: u64,
    /// Absent: it was killed, or still runs.
    pub end: Option<u64>,
    /// What a member of a gang was told of its place among the others.
    pub place: Option<Place>,
}

/// The place of a process in its gang.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub rank: u32,
    /// How many members there are.
    pub size: u32,
    /// Address and port of the first of them.
    pub meets_at: String,
}

pub type Ledger = BTreeMap<Key, Vec<Stay>>;

/// What the fenced resource did with a token, in the order in which it did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fencing {
    pub task: TaskId,
    pub token: u64,
    pub accepted: bool,
}

/// Where tasks write, and how they know on which worker they are. Paths as the tasks see them.
#[derive(Clone, Debug)]
pub struct Desk {
    pub folder: PathBuf,
    /// Shell words that print the worker's name.
    pub worker: String,
    /// Shell words that print nanoseconds.
    pub clock: String,
    /// Whether there is a `flock`, without which there is no fenced resource.
    pub has_flock: bool,
}

pub const LEDGER: &str = "ledger";
pub const FENCE: &str = "fence";

impl Desk {
    /// A task that writes a line when it starts and another when it ends, each in one piece, and does `work` between.
    pub fn script(&self, cpu: u64, work: &str) -> String {
        self.lines(cpu, work, "")
    }

    /// The same for a member of a gang: its lines say its place too.
    pub fn member_script(&self, cpu: u64, work: &str) -> String {
        self.lines(cpu, work, " $BATON_GANG_RANK $BATON_GANG_SIZE $MASTER_ADDR:$MASTER_PORT")
    }

    fn lines(&self, cpu: u64, work: &str, place: &str) -> String {
        let ledger = self.folder.join(LEDGER);
        let (ledger, worker, clock) = (ledger.display(), &self.worker, &self.clock);
        let line = |what: &str| {
            format!(
                "echo \"{what} $BATON_TASK $BATON_ATTEMPT $BATON_TOKEN $$ $w {cpu} $({clock}){place}\" >> {ledger}\n"
            )
        };
        format!("#!/bin/sh\nw=$({worker})\n{}{work}\n{}", line("start"), line("end"))
    }

    /// Work that writes to the fenced resource: it takes a token that is at least as new as every one before.
    pub fn fenced(&self) -> String {
        if !self.has_flock {
            return ":".to_owned();
        }
        let fence = self.folder.join(FENCE);
        let (log, state) = (fence.display(), self.folder.join("fences"));
        let state = state.display();
        format!(
            "mkdir -p {state}; f={state}/$BATON_TASK; (flock 9; read last < $f; if [ \"$BATON_TOKEN\" -ge \
             \"${{last:-0}}\" ]; then echo $BATON_TOKEN > $f; echo \"accepted $BATON_TASK $BATON_TOKEN\" >> {log}; \
             else echo \"refused $BATON_TASK $BATON_TOKEN\" >> {log}; fi) 9>> $f.lock 2>/dev/null"
        )
    }
}

fn text(path: &Path) -> Result<String, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

pub fn read(path: &Path) -> Result<Ledger, String> {
    parse(&text(path)?)
}

pub fn read_fence(path: &Path) -> Result<Vec<Fencing>, String> {
    let line = |line: &str| -> Option<Fencing> {
        let words: Vec<&str> = line.split(' ').collect();
        let [what, task, token] = words[..] else { return None };
        let accepted = match what {
            "accepted" => true,
            "refused" => false,
            _ => return None,
        };
        Some(Fencing { task: task.parse().ok()?, token: token.parse().ok()?, accepted })
    };
    whole(&text(path)?)
        .map(|text| line(text).ok_or_else(|| format!("a torn line in the fence: {text:?}")))
        .collect()
}

/// A line without its end is being written at this moment.
fn whole(text: &str) -> std::str::Lines<'_> {
    text.rfind('\n').map_or("", |end| &text[..end]).lines()
}

fn parse(text: &str) -> Result<Ledger, String> {
    let mut ledger = Ledger::new();
    for line in whole(text) {
        let (what, key, stay) = stay(line).ok_or_else(|| format!("a torn line in the ledger: {line:?}"))?;
        let stays = ledger.entry(key).or_default();
        match what {
            What::Start => stays.push(stay),
            What::End => {
                let open = stays.iter_mut().rfind(|open| open.pid == stay.pid && open.end.is_none());
                open.ok_or_else(|| format!("an end without a start: {line:?}"))?.end = Some(stay.start);
            }
        }
    }
    Ok(ledger)
}

enum What {
    Start,
    End,
}

fn stay(line: &str) -> Option<(What, Key, Stay)> {
    let words: Vec<&str> = line.split(' ').collect();
    let (words, place) = words.split_at_checked(8)?;
    let [what, task, attempt, token, pid, worker, cpu, time] = words[..] else { return None };
    let place = match place {
        [] => None,
        [rank, size, meets_at] => {
            let (rank, size) = (rank.parse().ok()?, size.parse().ok()?);
            Some(Place { rank, size, meets_at: (*meets_at).to_owned() })
        }
        _ => return None,
    };
    let what = match what {
        "start" => What::Start,
        "end" => What::End,
        _ => return None,
    };
    let key = Key { task: task.parse().ok()?, attempt: attempt.parse().ok()?, token: token.parse().ok()? };
    let (pid, cpu, start) = (pid.parse().ok()?, cpu.parse().ok()?, time.parse().ok()?);
    Some((what, key, Stay { pid, worker: worker.to_owned(), cpu, start, end: None, place }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_stays() {
        let text = "start j1.0 1 9 77 w1 500 100\nstart j1.1 1 9 78 w2 500 101\nend j1.0 1 9 77 w1 500 200\nstart j1.";
        let ledger = parse(text).unwrap();
        let key = Key { task: "j1.0".parse().unwrap(), token: 9, attempt: 1 };
        let stay =
            Stay { pid: 77, worker: "w1".to_owned(), cpu: 500, start: 100, end: Some(200), place: None };
        assert_eq!(ledger[&key], [stay]);
        assert_eq!(ledger.len(), 2);
        assert!(parse("start j1.0 1\n").is_err() && parse("end j1.0 1 9 77 w1 500 1\n").is_err());
    }

    #[test]
    fn a_member_of_a_gang_says_its_place() {
        let ledger = parse("start j1.2 1 9 77 w1 500 100 2 3 10.0.0.4:20009\n").unwrap();
        let place = Place { rank: 2, size: 3, meets_at: "10.0.0.4:20009".to_owned() };
        assert_eq!(ledger.values().flatten().next().unwrap().place, Some(place));
        assert!(parse("start j1.2 1 9 77 w1 500 100 2 3\n").is_err());
    }

    #[test]
    fn the_fence_takes_tokens_that_rise_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let desk = Desk {
            folder: folder.path().to_owned(),
            worker: "echo w1".to_owned(),
            clock: "date +%s%N".to_owned(),
            has_flock: true,
        };
        let run = |token: u64| {
            let script = desk.script(500, &desk.fenced());
            let path = folder.path().join("script");
            std::fs::write(&path, script).unwrap();
            let mut shell = std::process::Command::new("/bin/sh");
            shell.arg(path).env("BATON_TASK", "j1.0").env("BATON_ATTEMPT", "1");
            assert!(shell.env("BATON_TOKEN", token.to_string()).status().unwrap().success());
        };
        [5, 7, 6, 7].into_iter().for_each(run);
        let fence = read_fence(&folder.path().join(FENCE)).unwrap();
        let told: Vec<(u64, bool)> = fence.iter().map(|fencing| (fencing.token, fencing.accepted)).collect();
        assert_eq!(told, [(5, true), (7, true), (6, false), (7, true)]);
        let ledger = read(&folder.path().join(LEDGER)).unwrap();
        assert_eq!(ledger.values().flatten().filter(|stay| stay.end.is_some()).count(), 4);
    }
}
