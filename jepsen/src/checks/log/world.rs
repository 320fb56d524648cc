//! The model's state, and what each entry does to it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Found;
use super::order::Waiting;
use super::read::{members, number, run, texts, thousandths, variant};
use super::task::{State, Task};
use crate::trace::Applied;

#[derive(Default)]
pub struct World {
    pub jobs: BTreeMap<u64, Job>,
    /// By the id's text.
    pub requests: BTreeMap<String, Request>,
    sessions: BTreeMap<u64, Session>,
    /// What is taken of sessions, by (session, index of the entry, job, first task).
    taken: BTreeMap<Allocation, Taken>,
    waiting: Waiting,
    last_job: u64,
    pub placements: u64,
    pub ends: u64,
    pub found: Found,
}

type Allocation = (u64, u64, u64, u64);

/// The first use of a request id.
pub struct Request {
    pub index: u64,
    body: Value,
    reply: Value,
    pub job: Option<u64>,
}

#[derive(Default)]
struct Session {
    worker: String,
    cpu: u64,
}

struct Taken {
    cpu: u64,
    tasks: std::ops::Range<u64>,
    /// Sent ahead: it takes nothing until it starts.
    held: bool,
}

#[derive(Default)]
pub struct Job {
    pub state: String,
    pub queue: String,
    pub priority: i64,
    groups: Vec<Group>,
    pub tasks: Vec<Task>,
    after: Vec<u64>,
    /// Retries that were accepted.
    rounds: u64,
    /// The last entry with some, and how many there were before it.
    retried_in: (u64, u64),
    pub is_held_back: bool,
}

struct Group {
    name: String,
    first: u64,
    len: u64,
    cpu: u64,
    /// Groups of the job, and other jobs.
    after: Vec<String>,
    after_each: Vec<String>,
}

impl Job {
    fn group_of(&self, task: u64) -> Option<&Group> {
        self.groups.iter().find(|group| (group.first..group.first + group.len).contains(&task))
    }

    fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    pub fn cpu_of(&self, task: u64) -> u64 {
        self.group_of(task).map_or(0, |group| group.cpu)
    }

    fn state_of(&self, task: u64) -> State {
        self.tasks.get(task as usize).map_or(State::New, |task| task.state)
    }
}

impl World {
    pub fn apply(&mut self, entry: &Applied) {
        for (command, reply) in entry.commands.iter().zip(&entry.replies) {
            match variant(command) {
                ("write", write) => self.write(entry, write, reply),
                ("place", plan) => self.place(entry, plan),
                ("open_session", open) => self.open_session(open, reply),
                _ => {}
            }
        }
        for event in &entry.events {
            match variant(event) {
                ("Job" | "job", event) => self.job_event(event),
                ("Tasks" | "tasks", event) => self.tasks_event(entry, event),
                _ => {}
            }
        }
        self.check_capacity(entry.index);
    }

    fn write(&mut self, entry: &Applied, write: &Value, reply: &Value) {
        let id = write["request"].as_str().unwrap_or_default();
        let (index, body) = (entry.index, &write["body_hash"]);
        let (name, _) = variant(reply);
        let (kind, op) = variant(&write["op"]);
        if let Some(first) = self.requests.get(id) {
            let same = first.body == *body;
            let conflict = name == "rejected" && reply.to_string().contains("request_conflict");
            let expired = name == "rejected" && reply.to_string().contains("request_expired");
            if !expired && (if same { first.reply != *reply } else { !conflict }) {
                let (before, now) = (&first.reply, reply);
                Found::note(
                    &mut self.found.replies,
                    format!("entry {index}: {id} was answered {before}, now {now}"),
                );
            }
            return;
        }
        // What is refused for its id leaves no trace of it.
        if name == "rejected" && reply.to_string().contains("request_") {
            return;
        }
        let job = if kind == "submit" && name == "submitted" { self.submit(index, op, reply) } else { None };
        if name == "changed" || name == "done" {
            self.changed(index, kind, op);
        }
        let request = Request { index, body: body.clone(), reply: reply.clone(), job };
        self.requests.insert(id.to_owned(), request);
    }

    fn submit(&mut self, index: u64, op: &Value, reply: &Value) -> Option<u64> {
        let (asked, told) = (number(&op["job"])?, number(&variant(reply).1["job"])?);
        if asked != told || told <= self.last_job {
            let what = format!(
                "entry {index}: j{asked} was submitted, answered j{told}, the last was j{}",
                self.last_job
            );
            Found::note(&mut self.found.replies, what);
        }
        self.last_job = self.last_job.max(told);
        self.jobs.insert(told, job(&op["spec"]));
        Some(told)
    }

    fn changed(&mut self, index: u64, kind: &str, op: &Value) {
        let targets =
            op["targets"].as_array().into_iter().flatten().filter_map(|target| number(&target["job"]));
        let jobs = op["jobs"].as_array().into_iter().flatten().filter_map(number);
        let named: Vec<u64> = targets.chain(jobs).chain(number(&op["job"])).collect();
        for id in named {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            match kind {
                "retry" => {
                    if job.retried_in.0 != index {
                        job.retried_in = (index, job.rounds);
                    }
                    job.rounds += 1;
                    job.is_held_back = false;
                }
                "cancel" | "pause" => job.is_held_back = true,
                "resume" => job.is_held_back = false,
                "set_job" => {
                    // Another priority or queue: what waits of it is judged by neither.
                    job.is_held_back = true;
                }
                _ => {}
            }
        }
    }

    fn place(&mut self, entry: &Applied, plan: &Value) {
        for placement in plan["placements"].as_array().into_iter().flatten() {
            let read = || {
                Some((number(&placement["session"])?, number(&placement["job"])?, run(&placement["tasks"])?))
            };
            let Some((session, id, tasks)) = read() else { continue };
            let cpu = self.jobs.get(&id).map_or(0, |job| job.cpu_of(tasks.start));
            let held = placement["held"].as_bool().unwrap_or(false);
            let key = (session, entry.index, id, tasks.start);
            self.taken.insert(key, Taken { cpu, tasks, held });
        }
    }

    fn open_session(&mut self, open: &Value, reply: &Value) {
        let ("session_opened", told) = variant(reply) else { return };
        let Some(session) = number(&told["session"]) else { return };
        let total = open["capacity"].get("total").unwrap_or(&open["capacity"]);
        let worker = open["worker"].as_str().unwrap_or_default().to_owned();
        self.sessions.insert(session, Session { worker, cpu: thousandths(&total["cpu"]) });
    }

    fn job_event(&mut self, event: &Value) {
        if let Some(job) = number(&event["job"]).and_then(|id| self.jobs.get_mut(&id)) {
            job.state = event["state"].as_str().unwrap_or_default().to_owned();
        }
    }

    fn tasks_event(&mut self, entry: &Applied, event: &Value) {
        let read = || {
            let state = State::named(event["state"].as_str()?)?;
            Some((number(&event["job"])?, run(&event["tasks"])?, state))
        };
        let Some((id, tasks, state)) = read() else { return };
        let attempt = event["attempt"].as_u64().unwrap_or(0);
        let worker = event["worker"].as_str().unwrap_or_default();
        for task in tasks {
            self.step(entry, id, task, state, attempt, worker);
        }
    }

    fn step(&mut self, entry: &Applied, id: u64, number: u64, to: State, attempt: u64, worker: &str) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (rounds, held_back) = (job.rounds, job.is_held_back);
        // What ends in the entry of a retry did so before it, unless it was reopened in it.
        let before = if job.retried_in.0 == entry.index { job.retried_in.1 } else { rounds };
        let Some(task) = job.tasks.get_mut(number as usize) else { return };
        let from = task.state;
        let name = || format!("entry {}: j{id}.{number}", entry.index);
        let reopens = from.is_final() && !to.is_final() && to != State::Running;
        if reopens {
            task.reopened_in = entry.index;
        }
        if reopens && rounds <= task.ended_in_round {
            let what = format!("{} was {from:?} and is {to:?} without a retry", name());
            Found::note(&mut self.found.rounds, what);
        } else if !reopens && !from.may_become(to) {
            let list = if from.is_owned() && to == State::Placed {
                &mut self.found.owners
            } else {
                &mut self.found.rounds
            };
            Found::note(list, format!("{} goes from {from:?} to {to:?}", name()));
        }
        if to == State::Placed && attempt < task.attempt {
            Found::note(
                &mut self.found.owners,
                format!("{} has attempt {attempt} after {}", name(), task.attempt),
            );
        }
        if from.is_owned()
            && matches!(to, State::Succeeded | State::Failed)
            && let Some(owner) = task.owner
            && !(is_reported(entry, owner, number) || to == State::Failed)
        {
            let what = format!("{} became {to:?}, which its owner s{} did not report", name(), owner.0);
            Found::note(&mut self.found.owners, what);
        }
        (task.state, task.attempt) = (to, task.attempt.max(attempt));
        (task.since, task.since_entry) = (entry.elapsed, entry.index);
        if to.is_final() {
            task.ended_in_round = if task.reopened_in == entry.index { rounds } else { before };
            self.ends += 1;
        }
        self.waiting.note(&self.jobs[&id], (id, number), to == State::Ready);
        if to == State::Placed {
            self.placed(entry, id, number, worker, held_back);
        } else if !to.is_owned() {
            self.let_go(id, number);
        }
        if to == State::Running {
            self.starts(id, number);
        }
        let begins = from.waits() && matches!(to, State::Ready | State::Placed);
        if begins || (reopens && to != State::Blocked) {
            self.check_dependencies(entry.index, id, number);
        }
    }

    fn placed(&mut self, entry: &Applied, id: u64, number: u64, worker: &str, held_back: bool) {
        self.placements += 1;
        let by_this_entry = |key: &&Allocation| key.1 == entry.index && key.2 == id;
        let mine =
            self.taken.iter().filter(|(key, taken)| by_this_entry(key) && taken.tasks.contains(&number));
        let mine: Vec<Allocation> = mine.map(|(key, _)| *key).collect();
        let Some(key) =
            mine.iter().find(|key| self.sessions.get(&key.0).is_some_and(|session| session.worker == worker))
        else {
            let what = format!(
                "entry {}: j{id}.{number} is placed on {worker}, which no placement says",
                entry.index
            );
            return Found::note(&mut self.found.owners, what);
        };
        let held = self.taken[key].held;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.tasks[number as usize].owner = Some((key.0, entry.index));
        if !held && !held_back {
            let better = self.waiting.passed_over(&self.jobs, (id, number), entry);
            if let Some(better) = better {
                let what = format!("entry {}: j{id}.{number} is placed while {better} waits", entry.index);
                Found::note(&mut self.found.order, what);
            }
        }
    }

    fn allocation(&self, id: u64, number: u64) -> Option<Allocation> {
        let (session, index) = self.jobs.get(&id)?.tasks.get(number as usize)?.owner?;
        let of_entry = self.taken.range((session, index, id, 0)..=(session, index, id, u64::MAX));
        of_entry.filter(|(_, taken)| taken.tasks.contains(&number)).map(|(key, _)| *key).next()
    }

    fn starts(&mut self, id: u64, number: u64) {
        if let Some(taken) = self.allocation(id, number).and_then(|key| self.taken.get_mut(&key)) {
            taken.held = false;
        }
    }

    /// The last of an allocation's tasks gives back what it has taken.
    fn let_go(&mut self, id: u64, number: u64) {
        if let Some(key) = self.allocation(id, number) {
            let job = &self.jobs[&id];
            let (session, index) = (key.0, key.1);
            let still = |task: u64| {
                job.tasks
                    .get(task as usize)
                    .is_some_and(|task| task.owner == Some((session, index)) && task.state.is_owned())
            };
            if !self.taken[&key].tasks.clone().any(still) {
                self.taken.remove(&key);
            }
        }
        if let Some(task) = self.jobs.get_mut(&id).and_then(|job| job.tasks.get_mut(number as usize)) {
            task.owner = None;
        }
    }

    fn check_dependencies(&mut self, index: u64, id: u64, number: u64) {
        let job = &self.jobs[&id];
        let Some(group) = job.group_of(number) else { return };
        let mut open = Vec::new();
        for on in &group.after {
            match job.group(on) {
                Some(other) => {
                    let all = other.first..other.first + other.len;
                    open.extend(
                        all.filter(|task| job.state_of(*task) != State::Succeeded)
                            .map(|task| format!("j{id}.{task}")),
                    );
                }
                None => open.extend(self.unfinished(on.trim_start_matches('j').parse().unwrap_or(0))),
            }
        }
        for on in &group.after_each {
            let Some(other) = job.group(on) else { continue };
            let task = other.first + (number - group.first);
            if job.state_of(task) != State::Succeeded {
                open.push(format!("j{id}.{task}"));
            }
        }
        open.extend(job.after.iter().filter_map(|other| self.unfinished(*other)));
        if let Some(first) = open.first() {
            let what = format!("entry {index}: j{id}.{number} may begin, and {first} has not succeeded");
            Found::note(&mut self.found.dependencies, what);
        }
    }

    fn unfinished(&self, job: u64) -> Option<String> {
        let state = self.jobs.get(&job).map(|job| job.state.as_str());
        (state != Some("succeeded")).then(|| format!("j{job}"))
    }

    fn check_capacity(&mut self, index: u64) {
        let mut used: BTreeMap<u64, u64> = BTreeMap::new();
        let owned = |(key, taken): &(&Allocation, &Taken)| {
            let job = self.jobs.get(&key.2);
            let is = |task: u64| {
                job.and_then(|job| job.tasks.get(task as usize))
                    .is_some_and(|task| task.owner == Some((key.0, key.1)) && task.state.is_owned())
            };
            !taken.held && taken.tasks.clone().any(is)
        };
        for (key, taken) in self.taken.iter().filter(owned) {
            *used.entry(key.0).or_default() += taken.cpu;
        }
        for (session, cpu) in used {
            let Some(has) = self.sessions.get(&session) else { continue };
            if cpu > has.cpu {
                let what = format!("entry {index}: {} has {} and is given {cpu}", has.worker, has.cpu);
                Found::note(&mut self.found.capacity, what);
            }
        }
        // Placements that were dropped when they were applied.
        self.taken.retain(|key, taken| {
            let job = self.jobs.get(&key.2);
            let is = |task: u64| {
                job.and_then(|job| job.tasks.get(task as usize))
                    .is_some_and(|task| task.owner == Some((key.0, key.1)))
            };
            taken.tasks.clone().any(is)
        });
    }
}

/// Whether the entry has a report of the owner, under the token of its placement.
fn is_reported(entry: &Applied, (session, index): (u64, u64), task: u64) -> bool {
    const INDEX: u64 = (1 << 48) - 1;
    entry.commands.iter().any(|command| {
        let ("report", batch) = variant(command) else { return false };
        number(&batch["session"]) == Some(session)
            && batch["reports"].as_array().into_iter().flatten().any(|report| {
                let token = number(&report["token"]).map(|token| token & INDEX);
                token == Some(index) && run(&report["tasks"]).is_some_and(|tasks| tasks.contains(&task))
            })
    })
}

fn job(spec: &Value) -> Job {
    let mut job = Job {
        state: "waiting".to_owned(),
        queue: spec["queue"].as_str().unwrap_or("default").to_owned(),
        priority: spec["priority"].as_i64().unwrap_or(0),
        after: spec["after"].as_array().into_iter().flatten().filter_map(number).collect(),
        ..Job::default()
    };
    let mut first = 0;
    for task in spec["tasks"].as_array().into_iter().flatten() {
        let len = task["array"].as_str().and_then(members).unwrap_or(1);
        let cpu = task["resources"].get("cpu").map_or(1_000, thousandths);
        job.groups.push(Group {
            name: task["name"].as_str().unwrap_or_default().to_owned(),
            first,
            len,
            cpu,
            after: texts(task.get("after")),
            after_each: texts(task.get("after_each")),
        });
        first += len;
    }
    job.tasks = vec![Task::default(); first as usize];
    job
}
