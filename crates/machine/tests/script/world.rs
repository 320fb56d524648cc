//! The state that a story is about, and its clock.

use std::collections::BTreeMap;
use std::time::Duration;

use machine::state::State;
use machine::{Command, Entry, Op, Row, Stamp, Write, check};
use model::{Actor, Elapsed, JobId, RequestId, Run, Seq, SessionId, Timestamp, Token};

use super::{read, tell};

/// 2026-01-01T00:00:00Z, when every story begins.
pub const BEGIN: Timestamp = Timestamp(1_767_225_600_000_000);

pub struct World {
    pub state: State,
    index: u64,
    pub elapsed: Duration,
    /// How far the wall clock has been moved beyond the elapsed time.
    pub wall_ahead: Duration,
    named_requests: BTreeMap<String, RequestId>,
    requests: u128,
    /// Every allocation ever seen, so that a report can come late.
    pub allocations: BTreeMap<(SessionId, Seq), (Token, Run)>,
    told: BTreeMap<String, String>,
}

/// What a line says.
pub enum Step {
    /// One entry.
    Commands(Vec<Command>),
    /// Only the story's clock moves.
    Nothing,
    Show(String),
}

impl World {
    pub fn new() -> World {
        World {
            state: State::default(),
            index: 0,
            elapsed: Duration::ZERO,
            wall_ahead: Duration::ZERO,
            named_requests: BTreeMap::new(),
            requests: 0,
            allocations: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Runs each line of a block and says what came of it. Lines that begin with `&` join the entry before them.
    pub fn run(&mut self, block: &str) -> String {
        let lines: Vec<&str> =
            block.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        let mut out = String::new();
        let mut at = 0;
        while at < lines.len() {
            let joined = lines[at + 1..].iter().take_while(|line| line.starts_with('&')).count();
            out.push_str(&self.run_entry(&lines[at..=at + joined]));
            at += joined + 1;
        }
        out
    }

    fn run_entry(&mut self, lines: &[&str]) -> String {
        let mut commands = Vec::new();
        for line in lines {
            let line = line.trim_start_matches('&').trim();
            match read::line(self, line).unwrap_or_else(|error| panic!("`{line}`: {error}")) {
                Step::Nothing => {}
                Step::Show(text) => return text,
                Step::Commands(more) => commands.extend(more),
            }
        }
        if commands.is_empty() { String::new() } else { self.apply(commands) }
    }

    fn apply(&mut self, commands: Vec<Command>) -> String {
        self.index += 1;
        let stamp = Stamp { elapsed: Elapsed::default().plus(self.elapsed), wall: self.wall() };
        let entry = Entry { stamp, commands };
        // As every replica has it: read from its encoded form.
        let bytes = rmp_serde::to_vec_named(&entry).unwrap();
        let entry: Entry = rmp_serde::from_slice(&bytes).unwrap();
        let applied = self.state.apply(self.index, &entry);
        self.remember_allocations();
        self.check();
        let mut out = tell::applied(&applied);
        let now = tell::rows(&self.state);
        out.push_str(&tell::changed(&self.told, &now));
        self.told = now;
        out
    }

    fn check(&self) {
        let broken = check::broken(&self.state);
        assert!(broken.is_empty(), "after entry {}: {broken:#?}", self.index);
        let rows: Vec<Row> = self.state.freeze().rows().collect();
        let bytes = rmp_serde::to_vec_named(&rows).unwrap();
        let read: Vec<Row> = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(read, rows, "rows change on their way through a snapshot");
        let thawed = State::thaw(read).unwrap();
        assert_eq!(check::broken(&thawed), Vec::<String>::new(), "thawed after entry {}", self.index);
        assert_eq!(thawed.freeze().rows().collect::<Vec<_>>(), rows);
    }

    fn remember_allocations(&mut self) {
        for session in self.state.sessions() {
            for (seq, allocation) in &session.allocations {
                self.allocations.insert((session.id, *seq), (allocation.token, allocation.tasks));
            }
        }
    }

    pub fn wall(&self) -> Timestamp {
        BEGIN.plus(self.elapsed).plus(self.wall_ahead)
    }

    pub fn next_job(&self, given: u64) -> JobId {
        JobId(self.state.last_job().0 + given)
    }

    /// The request id called `name`, or a new one. `ago`: how long before now it was minted.
    pub fn request(&mut self, name: Option<&str>, ago: Duration, ahead: Duration) -> RequestId {
        self.requests += 1;
        let minted = self.wall().plus(ahead).minus(ago);
        let fresh = RequestId(u128::from(minted.0 / 1000) << 80 | self.requests);
        match name {
            None => fresh,
            Some(name) => *self.named_requests.entry(name.to_owned()).or_insert(fresh),
        }
    }

    pub fn write(&self, request: RequestId, actor: Actor, op: Op) -> Command {
        // The job's number is the proposer's, not the client's.
        let body = match &op {
            Op::Submit { spec, .. } => format!("{spec:?}"),
            other => format!("{other:?}"),
        };
        let body_hash = xxhash_rust::xxh3::xxh3_64(body.as_bytes());
        Command::Write(Write { request, body_hash, actor, op })
    }
}
