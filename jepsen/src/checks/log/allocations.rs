//! What was given to whom: sessions, and their allocations under the numbers that leader and worker know them by.
//!
//! An allocation takes room until its worker has said of each of its tasks that the attempt is over, or its session ends;
//! what becomes of the tasks meanwhile does not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::Value;

use super::read::{number, run, thousandths, variant};

/// Session, and the number of the allocation in it.
pub type Key = (u64, u64);

#[derive(Default)]
pub struct Allocations {
    sessions: BTreeMap<u64, Session>,
    all: BTreeMap<Key, Allocation>,
    /// What plans of this entry say; which of it was taken is told by events.
    planned: Vec<Planned>,
}

#[derive(Default)]
struct Session {
    worker: String,
    cpu: u64,
    has_ended: bool,
    last: u64,
    /// The task that it drains for, as the last plan said that named it.
    reserved: Option<(u64, u64)>,
}

pub struct Allocation {
    pub job: u64,
    pub tasks: Range<u64>,
    /// The entry that placed it, which its token names.
    pub entry: u64,
    cpu: u64,
    /// Sent ahead: it takes nothing until it starts.
    pub held: bool,
    /// A worker has taken it itself.
    pub is_claim: bool,
    /// Tasks whose attempt is over, and those of them that ended well.
    over: BTreeSet<u64>,
    well: BTreeSet<u64>,
}

struct Planned {
    session: u64,
    job: u64,
    tasks: Range<u64>,
    held: bool,
    /// A worker asks for it itself.
    is_claim: bool,
}

impl Allocation {
    fn is_over(&self) -> bool {
        self.tasks.clone().all(|task| self.over.contains(&task))
    }

    fn note(&mut self, tasks: &Range<u64>, news: &Value) {
        let those = self.tasks.clone().filter(|task| tasks.contains(task));
        match variant(news) {
            ("ended", ended) => {
                if ended["verdict"] == "succeeded" {
                    self.well.extend(those.clone());
                }
                self.over.extend(those);
            }
            ("recalled", _) => self.over.extend(those),
            _ => {}
        }
    }
}

fn planned(placement: &Value, is_claim: bool) -> Option<Planned> {
    let (session, job) = (number(&placement["session"])?, number(&placement["job"])?);
    let held = placement["held"].as_bool().unwrap_or(false);
    Some(Planned { session, job, tasks: run(&placement["tasks"])?, held, is_claim })
}

impl Allocations {
    pub fn open(&mut self, session: u64, worker: &str, capacity: &Value) {
        let total = capacity.get("total").unwrap_or(capacity);
        let (worker, cpu) = (worker.to_owned(), thousandths(&total["cpu"]));
        self.sessions.insert(session, Session { worker, cpu, ..Session::default() });
    }

    pub fn end(&mut self, session: u64) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.has_ended = true;
        }
    }

    pub fn plan(&mut self, plan: &Value) {
        let listed = |name: &str| plan[name].as_array().into_iter().flatten();
        self.planned.extend(listed("placements").filter_map(|placement| planned(placement, false)));
        for reservation in listed("reservations") {
            let task = number(&reservation["job"]).zip(reservation["task"].as_u64());
            let session = number(&reservation["session"]).and_then(|id| self.sessions.get_mut(&id));
            session.into_iter().for_each(|session| session.reserved = task);
        }
    }

    pub fn claim(&mut self, claim: &Value) {
        let placements = claim["placements"].as_array().into_iter().flatten();
        let own = placements.filter(|placement| number(&placement["session"]) == number(&claim["session"]));
        self.planned.extend(own.filter_map(|placement| planned(placement, true)));
    }

    /// An event says that these tasks are placed on that worker: the placement that it is about. `None`: no plan says so.
    pub fn give(&mut self, entry: u64, job: u64, tasks: &Range<u64>, worker: &str, cpu: u64) -> Option<Key> {
        let place = self.planned.iter().position(|planned| {
            let session = self.sessions.get(&planned.session);
            let is_on = session.is_some_and(|session| session.worker == worker);
            is_on && planned.job == job && planned.tasks == *tasks
        })?;
        let Planned { session, job, tasks, held, is_claim } = self.planned.remove(place);
        let row = self.sessions.get_mut(&session)?;
        row.last += 1;
        let key = (session, row.last);
        let (over, well) = Default::default();
        self.all.insert(key, Allocation { job, tasks, entry, cpu, held, is_claim, over, well });
        Some(key)
    }

    pub fn get(&self, key: Key) -> Option<&Allocation> {
        self.all.get(&key)
    }

    /// It has started, and takes room from here on.
    pub fn start(&mut self, key: Key) {
        if let Some(allocation) = self.all.get_mut(&key) {
            allocation.held = false;
        }
    }

    /// Takes in what a worker says of its attempts. What counted and should not have, or the other way round, is a problem.
    pub fn report(&mut self, batch: &Value, reply: &Value) -> Vec<String> {
        const INDEX: u64 = (1 << 48) - 1;
        let ("reported", told) = variant(reply) else { return Vec::new() };
        let Some(session) = number(&batch["session"]) else { return Vec::new() };
        let refused: Vec<u64> = told["fenced"].as_array().into_iter().flatten().filter_map(number).collect();
        let reports: Vec<&Value> = batch["reports"].as_array().into_iter().flatten().collect();
        let mut problems = Vec::new();
        for report in &reports {
            let read = || Some((number(&report["seq"])?, number(&report["token"])?, run(&report["tasks"])?));
            let Some((seq, token, tasks)) = read() else { continue };
            let current = self.all.get_mut(&(session, seq));
            let current = current.filter(|of| of.entry == token & INDEX && !of.is_over());
            let is_refused = refused.contains(&seq);
            // Of several in one batch those behind the last one that counts are refused.
            let is_alone = reports.iter().filter(|other| number(&other["seq"]) == Some(seq)).count() == 1;
            match current {
                Some(_) if is_refused && is_alone => {
                    problems.push(format!("s{session} reports on its {seq}. allocation, and is refused"));
                }
                Some(allocation) => allocation.note(&tasks, &report["news"]),
                None if !is_refused => {
                    let what = "which is not its own under that token any more, and it counts";
                    problems.push(format!("s{session} reports on its {seq}. allocation, {what}"));
                }
                None => {}
            }
        }
        problems
    }

    /// Whether the owner has said that the task's attempt ended well.
    pub fn is_well(&self, key: Key, task: u64) -> bool {
        self.all.get(&key).is_some_and(|allocation| allocation.well.contains(&task))
    }

    /// Another allocation of the task whose attempt may still run.
    pub fn other(&self, key: Key, job: u64, task: u64) -> Option<Key> {
        let is_open = |(other, of): &(&Key, &Allocation)| {
            **other != key
                && of.job == job
                && of.tasks.contains(&task)
                && !of.over.contains(&task)
                && self.is_live(other.0)
        };
        self.all.iter().find(is_open).map(|(other, _)| *other)
    }

    fn is_live(&self, session: u64) -> bool {
        self.sessions.get(&session).is_some_and(|session| !session.has_ended)
    }

    /// Whether a worker drains, or has drained, for one of the tasks; with `on` that one alone.
    pub fn is_reserved(&self, job: u64, tasks: &Range<u64>, on: Option<u64>) -> bool {
        let mut sessions = self.sessions.iter().filter(|(id, _)| on.is_none_or(|on| **id == on));
        sessions.any(|(_, row)| row.reserved.is_some_and(|(of, task)| of == job && tasks.contains(&task)))
    }

    /// The end of an entry: what it planned and did not take is forgotten, and what is over and owns nothing any more, too.
    /// Returns sessions that were given more than they have.
    pub fn settle(&mut self, owns: impl Fn(Key, &Allocation) -> bool) -> Vec<String> {
        self.planned.clear();
        let sessions = &self.sessions;
        let ended = |session: u64| sessions.get(&session).is_none_or(|session| session.has_ended);
        self.all.retain(|key, of| owns(*key, of) || !(of.is_over() || ended(key.0)));
        let mut used: BTreeMap<u64, u64> = BTreeMap::new();
        for ((session, _), of) in
            self.all.iter().filter(|(key, of)| !of.held && !of.is_over() && !ended(key.0))
        {
            *used.entry(*session).or_default() += of.cpu;
        }
        let mut problems = Vec::new();
        for (session, cpu) in used {
            let has = &self.sessions[&session];
            if cpu > has.cpu {
                problems.push(format!("{} has {} and is given {cpu}", has.worker, has.cpu));
            }
        }
        problems
    }
}
