//! The state as rows, for a snapshot. Indexes are left out and derived again on reading.

use std::collections::{BTreeMap, VecDeque};

use model::{ClassId, JobId};
use serde::{Deserialize, Serialize};

use crate::chores::Chore;
use crate::mutants::Mutant;
use crate::paged::{Inline, Paged};
use crate::shared::SharedSpecs;
use crate::state::bookings::Booking;
use crate::state::jobs::{Job, Tombstone};
use crate::state::periodic::PeriodicSet;
use crate::state::queues::{Queue, QueueId};
use crate::state::rank::Learnt;
use crate::state::requests::{RequestRow, RequestRows, Requests};
use crate::state::sessions::{Class, Session, Worker};
use crate::state::{Meta, State};

/// A view of the state that no later change touches. Cheap to take: tables share their pages.
#[derive(Clone)]
pub struct Frozen {
    meta: Meta,
    jobs: Paged<Job>,
    tombstones: Paged<Tombstone, Inline<Tombstone>>,
    sessions: Paged<Session>,
    requests: RequestRows,
    queues: BTreeMap<QueueId, Queue>,
    classes: BTreeMap<ClassId, Class>,
    workers: BTreeMap<String, Worker>,
    chores: VecDeque<Chore>,
    learnt: BTreeMap<String, Learnt>,
    bookings: BTreeMap<String, Booking>,
    periodic: BTreeMap<String, PeriodicSet>,
}

/// One row of a snapshot. `Meta` comes first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Row {
    Meta(Box<Meta>),
    Queue(Queue),
    Class(ClassId, Class),
    Worker(Worker),
    Session(Box<Session>),
    Job(Box<Job>),
    Tombstone(JobId, Tombstone),
    Request(u64, RequestRow),
    Chore(Chore),
    Learnt(String, Learnt),
    Booking(Box<Booking>),
    Periodic(Box<PeriodicSet>),
}

/// Why rows are not a state.
#[derive(Debug, thiserror::Error)]
pub enum Corrupt {
    #[error("the snapshot does not begin with its meta row")]
    NoMeta,
    #[error("job {job} names queue {queue}, which the snapshot lacks")]
    NoQueue { job: JobId, queue: QueueId },
}

impl State {
    pub fn freeze(&self) -> Frozen {
        let mut meta = self.meta.clone();
        (meta.requests_next, meta.requests_floor_ms) = (self.requests.next, self.requests.floor_ms);
        Frozen {
            meta,
            jobs: self.jobs.clone(),
            tombstones: self.tombstones.clone(),
            sessions: self.sessions.clone(),
            requests: self.kept_requests(),
            queues: self.queues.clone(),
            classes: self.classes.clone(),
            workers: self.workers.clone(),
            chores: self.chores.clone(),
            learnt: self.learnt.clone(),
            bookings: self.bookings.clone(),
            periodic: self.periodic.clone(),
        }
    }

    fn kept_requests(&self) -> RequestRows {
        if self.has_bug(Mutant::RequestsNotInSnapshot) {
            RequestRows::default()
        } else {
            self.requests.rows.clone()
        }
    }

    /// The state that these rows are of, its indexes derived anew.
    pub fn thaw(rows: impl IntoIterator<Item = Row>) -> Result<State, Corrupt> {
        let mut rows = rows.into_iter();
        let Some(Row::Meta(meta)) = rows.next() else { return Err(Corrupt::NoMeta) };
        let (mut state, mut specs) = (State { meta: *meta, ..State::default() }, SharedSpecs::default());
        state.requests = Requests::at(state.meta.requests_next, state.meta.requests_floor_ms);
        for row in rows {
            state.put_row(row, &mut specs)?;
        }
        state.forget_touched();
        Ok(state)
    }

    fn put_row(&mut self, row: Row, specs: &mut SharedSpecs) -> Result<(), Corrupt> {
        match row {
            Row::Meta(_) => return Err(Corrupt::NoMeta),
            Row::Queue(queue) => {
                let promises = queue.promises.iter();
                self.index.starts.extend(promises.map(|((job, group), promise)| (promise.at, *job, *group)));
                self.index.queue_names.insert(queue.name.clone(), queue.id);
                self.queues.insert(queue.id, queue);
            }
            Row::Class(id, class) => {
                self.index.class_keys.insert(class.key.clone(), id);
                self.classes.insert(id, class);
            }
            Row::Worker(worker) => drop(self.workers.insert(worker.name.clone(), worker)),
            Row::Session(session) => {
                if !session.ended {
                    self.total.add(&session.capacity.total);
                }
                self.index.add_session(&session);
                self.sessions.insert(session.id.0, *session);
            }
            Row::Job(mut job) => {
                job.actor = self.shared(&job.actor);
                specs.share(&mut job.spec);
                if !self.queues.contains_key(&job.queue) {
                    return Err(Corrupt::NoQueue { job: job.id, queue: job.queue });
                }
                self.index.add_job(&job);
                self.jobs.insert(job.id.0, *job);
            }
            Row::Tombstone(id, tombstone) => drop(self.tombstones.insert(id.0, tombstone)),
            Row::Request(place, row) => self.requests.restore(place, row),
            Row::Chore(chore) => self.chores.push_back(chore),
            Row::Periodic(set) => drop(self.periodic.insert(set.name.clone(), *set)),
            Row::Booking(booking) => drop(self.bookings.insert(booking.name.clone(), *booking)),
            Row::Learnt(name, learnt) => drop(self.learnt.insert(name, learnt)),
        }
        Ok(())
    }
}

impl Frozen {
    /// The behaviour version of the state.
    pub fn level(&self) -> u32 {
        self.meta.level
    }

    pub fn index(&self) -> model::LogIndex {
        self.meta.index
    }

    pub fn digest(&self) -> u64 {
        self.meta.digest
    }

    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        let small = std::iter::once(Row::Meta(Box::new(self.meta.clone())))
            .chain(self.queues.values().cloned().map(Row::Queue))
            .chain(self.classes.iter().map(|(id, class)| Row::Class(*id, class.clone())))
            .chain(self.workers.values().cloned().map(Row::Worker));
        small
            .chain(self.sessions.iter().map(|(_, session)| Row::Session(Box::new(session.clone()))))
            .chain(self.jobs.iter().map(|(_, job)| Row::Job(Box::new(job.clone()))))
            .chain(self.tombstones.iter().map(|(id, tombstone)| Row::Tombstone(JobId(id), *tombstone)))
            .chain(self.requests.iter().map(|(place, row)| Row::Request(place, row.clone())))
            .chain(self.chores.iter().cloned().map(Row::Chore))
            .chain(self.learnt.iter().map(|(name, learnt)| Row::Learnt(name.clone(), *learnt)))
            .chain(self.bookings.values().cloned().map(Box::new).map(Row::Booking))
            .chain(self.periodic.values().cloned().map(Box::new).map(Row::Periodic))
    }
}
