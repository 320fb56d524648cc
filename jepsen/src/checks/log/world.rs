//! The model's state, and what each entry does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::Value;

use super::Found;
use super::allocations::{Allocations, Key};
use super::gangs;
use super::job::Job;
use super::order::Waiting;
use super::preempt::{self, GaveWay, Preemption, Queues};
use super::read::{number, run, variant};
use super::task::State;
use crate::trace::Applied;

#[derive(Default)]
pub struct World {
    pub jobs: BTreeMap<u64, Job>,
    /// By the id's text.
    pub requests: BTreeMap<String, Request>,
    allocations: Allocations,
    queues: Queues,
    waiting: Waiting,
    last_job: u64,
    /// What the plans of this entry would stop.
    preemptions: Vec<Preemption>,
    /// Gangs of which this entry has told something, by job and first task.
    touched: BTreeSet<(u64, u64)>,
    /// What was preempted.
    pub gave_way: GaveWay,
    pub seen: Seen,
    pub found: Found,
}

/// How much there was to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub placements: u64,
    pub ends: u64,
    /// Times that a gang was placed, and of these such as were not the first of that gang.
    pub gangs: u64,
    pub gangs_anew: u64,
    /// Placements that workers have taken themselves.
    pub claims: u64,
}

/// The first use of a request id.
pub struct Request {
    pub index: u64,
    body: Value,
    reply: Value,
    pub job: Option<u64>,
}

impl World {
    pub fn apply(&mut self, entry: &Applied) {
        let mut taken = 0;
        for (command, reply) in entry.commands.iter().zip(&entry.replies) {
            match variant(command) {
                ("write", write) if variant(&write["op"]).0 == "claim" => {
                    self.allocations.claim(variant(&write["op"]).1);
                    taken += variant(reply).1["taken"].as_u64().unwrap_or(0);
                }
                ("write", write) => self.write(entry, write, reply),
                ("place", plan) => {
                    self.allocations.plan(plan);
                    self.preemptions.extend(Preemption::all_of(plan));
                    taken += variant(reply).1["taken"].as_u64().unwrap_or(0);
                }
                ("open_session", open) => self.open_session(open, reply),
                ("end_session", end) => self.end_session(end, reply),
                ("report", batch) => self.report(entry.index, batch, reply),
                _ => {}
            }
        }
        let before = self.seen.placements;
        for event in &entry.events {
            match variant(event) {
                ("Job" | "job", event) => self.job_event(event),
                ("Tasks" | "tasks", event) => self.tasks_event(entry, event),
                _ => {}
            }
        }
        let told = self.seen.placements - before;
        if taken != told {
            let what = format!("entry {}: {taken} placements were taken, {told} are told of", entry.index);
            Found::note(&mut self.found.replies, what);
        }
        self.settle(entry.index);
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
        let job =
            if kind == "submit" && name == "submitted" { self.submit(index, write, reply) } else { None };
        if name == "changed" || name == "done" {
            self.changed(index, kind, op);
        }
        let request = Request { index, body: body.clone(), reply: reply.clone(), job };
        self.requests.insert(id.to_owned(), request);
    }

    fn submit(&mut self, index: u64, write: &Value, reply: &Value) -> Option<u64> {
        let (_, op) = variant(&write["op"]);
        let (asked, told) = (number(&op["job"])?, number(&variant(reply).1["job"])?);
        if asked != told || told <= self.last_job {
            let what = format!(
                "entry {index}: j{asked} was submitted, answered j{told}, the last was j{}",
                self.last_job
            );
            Found::note(&mut self.found.replies, what);
        }
        self.last_job = self.last_job.max(told);
        let mut job = Job::of(&op["spec"]);
        // The suite makes its queues before any job comes, and leaves them as they are.
        if self.queues.is_fair(&job.queue) {
            job.user = write["actor"]["user"].as_str().unwrap_or_default().to_owned();
        }
        self.jobs.insert(told, job);
        Some(told)
    }

    fn changed(&mut self, index: u64, kind: &str, op: &Value) {
        if kind == "put_queue" {
            return self.queues.put(op);
        }
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

    fn open_session(&mut self, open: &Value, reply: &Value) {
        let ("session_opened", told) = variant(reply) else { return };
        let Some(session) = number(&told["session"]) else { return };
        self.allocations.open(session, open["worker"].as_str().unwrap_or_default(), &open["capacity"]);
    }

    fn end_session(&mut self, end: &Value, reply: &Value) {
        if variant(reply).0 == "done"
            && let Some(session) = number(&end["session"])
        {
            self.allocations.end(session);
        }
    }

    fn report(&mut self, index: u64, batch: &Value, reply: &Value) {
        for problem in self.allocations.report(batch, reply) {
            Found::note(&mut self.found.owners, format!("entry {index}: {problem}"));
        }
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
        let placed = (state == State::Placed).then(|| self.placed(entry, id, &tasks, event)).flatten();
        for task in tasks {
            self.step(entry, id, task, state, attempt);
            if let Some(key) = placed {
                self.owns(entry, key, id, task);
            }
        }
    }

    fn step(&mut self, entry: &Applied, id: u64, number: u64, to: State, attempt: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let rounds = job.rounds;
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
        let owner = task.owner;
        (task.state, task.attempt) = (to, task.attempt.max(attempt));
        (task.since, task.since_entry) = (entry.elapsed, entry.index);
        if to.is_final() {
            task.ended_in_round = if task.reopened_in == entry.index { rounds } else { before };
            self.seen.ends += 1;
        }
        self.waiting.note(&self.jobs[&id], (id, number), to == State::Ready);
        if let Some(owner) = owner.filter(|_| from.is_owned()) {
            self.moves_on(entry.index, (id, number), owner, to);
        }
        if let Some(gang) = self.jobs[&id].gang_of(number) {
            self.touched.insert((id, gang.first));
        }
        let begins = from.waits() && matches!(to, State::Ready | State::Placed);
        if begins || (reopens && to != State::Blocked) {
            self.check_dependencies(entry.index, id, number);
        }
    }

    /// What was owned starts, ends, or is taken away.
    fn moves_on(&mut self, index: u64, (id, number): (u64, u64), owner: Key, to: State) {
        if to == State::Running {
            return self.allocations.start(owner);
        }
        let job = &self.jobs[&id];
        let is_good = match job.gang_of(number) {
            // Its end was reported when it came; this is that of the last of them.
            Some(gang) => gang.numbers().zip(job.tasks_of(gang)).all(|(member, task)| {
                task.state == to || task.owner.is_some_and(|owner| self.allocations.is_well(owner, member))
            }),
            None => self.allocations.is_well(owner, number),
        };
        if to == State::Succeeded && !is_good {
            let what = format!("j{id}.{number} became {to:?}, which its owner s{} did not report", owner.0);
            Found::note(&mut self.found.owners, format!("entry {index}: {what}"));
        }
        if to == State::Blocked {
            self.gives_way(index, (id, number), owner);
        }
        if to != State::Placed
            && let Some(task) = self.jobs.get_mut(&id).and_then(|job| job.tasks.get_mut(number as usize))
        {
            task.owner = None;
        }
    }

    /// What goes from its owner back to where it waits, without having ended, was preempted; or it is of a gang that begins
    /// anew.
    fn gives_way(&mut self, index: u64, (id, number): (u64, u64), owner: Key) {
        let job = &self.jobs[&id];
        let mut named = self.preemptions.iter().filter(|preemption| preemption.victim == owner).peekable();
        let is_named = named.peek().is_some();
        if !is_named && job.gang_of(number).is_some() {
            return;
        }
        let objections: Vec<Option<String>> =
            named.map(|to| preempt::objection(&self.jobs, &self.queues, (job, number), to)).collect();
        if objections.iter().all(Option::is_some) {
            let why = objections.into_iter().flatten().next();
            let why = why.unwrap_or_else(|| "gives way, and no plan says to whom".to_owned());
            Found::note(&mut self.found.preemptions, format!("entry {index}: j{id}.{number} {why}"));
        }
        if is_named {
            let attempt = job.tasks[number as usize].attempt;
            self.gave_way.entry((id, number)).or_default().insert(attempt);
        }
    }

    /// The allocation that an event tells of.
    fn placed(&mut self, entry: &Applied, id: u64, tasks: &Range<u64>, event: &Value) -> Option<Key> {
        self.seen.placements += 1;
        let worker = event["worker"].as_str().unwrap_or_default();
        let cpu = self.jobs.get(&id).map_or(0, |job| job.cpu_of(tasks.start));
        let key = self.allocations.give(entry.index, id, tasks, worker, cpu);
        if key.is_none() {
            let first = tasks.start;
            let what = format!(
                "entry {}: j{id}.{first} is placed on {worker}, which no placement says",
                entry.index
            );
            Found::note(&mut self.found.owners, what);
        }
        key
    }

    fn owns(&mut self, entry: &Applied, key: Key, id: u64, number: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(task) = job.tasks.get_mut(number as usize) else { return };
        task.owner = Some(key);
        let (job, index) = (&self.jobs[&id], entry.index);
        if let Some(other) = self.allocations.other(key, id, number) {
            let what = format!("entry {index}: j{id}.{number} is placed, and may still run at s{}", other.0);
            let is_gang = job.gang_of(number).is_some();
            Found::note(if is_gang { &mut self.found.gangs } else { &mut self.found.owners }, what);
        }
        let Some(allocation) = self.allocations.get(key) else { return };
        let is_claimed = self.queues.is_claimed(&job.queue);
        self.seen.claims += u64::from(allocation.is_claim);
        if allocation.is_claim && (!is_claimed || allocation.held || job.gang_of(number).is_some()) {
            let what = format!("entry {index}: j{id}.{number} is claimed, of queue {}", job.queue);
            Found::note(&mut self.found.claims, what);
        }
        // Who claims takes any of the first ones, as chance will have it.
        if is_claimed || allocation.held || job.is_held_back || self.has_drained(job, id, number, key) {
            return;
        }
        if let Some(better) = self.waiting.passed_over(&self.jobs, (id, number), entry) {
            let what = format!("entry {index}: j{id}.{number} is placed while {better} waits");
            Found::note(&mut self.found.order, what);
        }
    }

    /// Whether it takes what was kept free for it. Nobody else may have that, whoever comes meanwhile.
    fn has_drained(&self, job: &Job, id: u64, number: u64, key: Key) -> bool {
        match job.gang_of(number) {
            Some(gang) => self.allocations.is_reserved(id, &gang.numbers(), None),
            None => self.allocations.is_reserved(id, &(number..number + 1), Some(key.0)),
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

    /// What is to hold when all of an entry is done.
    fn settle(&mut self, index: u64) {
        let jobs = &self.jobs;
        let owns = |key: Key, tasks: Range<u64>, id: u64| {
            let job = jobs.get(&id);
            let is = |task: &u64| job.and_then(|job| job.tasks.get(*task as usize)?.owner) == Some(key);
            tasks.into_iter().any(|task| is(&task))
        };
        for problem in self.allocations.settle(|key, of| owns(key, of.tasks.clone(), of.job)) {
            Found::note(&mut self.found.capacity, format!("entry {index}: {problem}"));
        }
        for (id, first) in std::mem::take(&mut self.touched) {
            let job = &self.jobs[&id];
            let Some(gang) = job.gang_of(first) else { continue };
            if let Some(problem) = gangs::objection(job, gang, &self.allocations) {
                Found::note(&mut self.found.gangs, format!("entry {index}: gang j{id}.{first}: {problem}"));
            }
            let task = &job.tasks[first as usize];
            let owner = task.owner.and_then(|owner| self.allocations.get(owner));
            let is_placed = owner.is_some_and(|allocation| allocation.entry == index);
            self.seen.gangs += u64::from(is_placed);
            self.seen.gangs_anew += u64::from(is_placed && task.attempt > 1);
        }
        self.preemptions.clear();
    }
}
