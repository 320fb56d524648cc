//! Workers' streams: in order both ways, like a TCP connection. What meets a cut waits until it is mended or one end gives
//! the stream up; then it is gone.

use std::collections::VecDeque;

use leader_core::{FromWorker, StreamId};
use model::{LogIndex, Term};
use worker_core::Message;

use crate::queue::{End, Happening, Micros, Process};
use crate::world::World;

/// How often what waits at a cut looks again.
const LOOK_EVERY: Micros = 20_000;
/// After this long at a cut an end is told that the other is gone (keep-alive).
const KEEPALIVE: Micros = 15_000_000;

pub struct Stream {
    pub worker: usize,
    pub replica: usize,
    to_worker: VecDeque<(Term, LogIndex, Message)>,
    to_replica: VecDeque<FromWorker>,
    open_at_worker: bool,
    open_at_replica: bool,
    /// The replica has closed it: the worker gets what is under way, then the end.
    ending: bool,
    last: [Micros; 2],
}

impl Stream {
    fn new(worker: usize, replica: usize) -> Stream {
        Stream {
            worker,
            replica,
            to_worker: VecDeque::new(),
            to_replica: VecDeque::new(),
            open_at_worker: true,
            open_at_replica: false,
            ending: false,
            last: [0; 2],
        }
    }

    /// From whom to whom messages go that are heard at `end`.
    fn way(&self, end: End) -> (Process, Process) {
        let (worker, replica) = (Process::Worker(self.worker), Process::Replica(self.replica));
        match end {
            End::Worker => (replica, worker),
            End::Replica => (worker, replica),
        }
    }
}

impl World {
    /// The worker opens a stream.
    pub fn dial(&mut self, worker: usize, replica: usize) -> u64 {
        self.streams_opened += 1;
        let id = self.streams_opened;
        self.streams.insert(id, Stream::new(worker, replica));
        let delay = self.network.delay(&mut self.chance);
        self.queue.push(self.now + delay, Happening::Connect { stream: id });
        id
    }

    /// It arrives at the replica. A cut swallows it: the worker waits until its own patience ends.
    pub fn arrive(&mut self, id: u64) {
        let Some(stream) = self.streams.get(&id).filter(|stream| stream.open_at_worker) else { return };
        let (worker, replica) = stream.way(End::Replica);
        if !self.network.reaches(worker, replica) || !self.network.reaches(replica, worker) {
            return;
        }
        if !self.replicas[stream.replica].up {
            return self.plan_close(id, End::Worker);
        }
        let replica = stream.replica;
        self.stream_mut(id).open_at_replica = true;
        self.worker_linked(id);
        self.accept(replica, StreamId(id));
    }

    fn stream_mut(&mut self, id: u64) -> &mut Stream {
        self.streams.get_mut(&id).expect("looked up by the caller")
    }

    pub fn tell_worker(&mut self, id: StreamId, term: Term, applied: LogIndex, message: Message) {
        let Some(stream) =
            self.streams.get_mut(&id.0).filter(|stream| stream.open_at_replica && !stream.ending)
        else {
            return;
        };
        stream.to_worker.push_back((term, applied, message));
        self.plan_delivery(id.0, End::Worker);
    }

    pub fn tell_replica(&mut self, id: u64, message: FromWorker) {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.open_at_worker) else { return };
        stream.to_replica.push_back(message);
        self.plan_delivery(id, End::Replica);
    }

    fn plan_delivery(&mut self, id: u64, end: End) {
        let delay = self.network.delay(&mut self.chance);
        let at = self.now + delay;
        let stream = self.stream_mut(id);
        let last = &mut stream.last[end as usize];
        *last = at.max(*last + 1);
        let at = *last;
        self.queue.push(at, Happening::Deliver { stream: id, end });
    }

    pub fn deliver(&mut self, id: u64, end: End) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (from, to) = stream.way(end);
        if !self.network.reaches(from, to) {
            self.queue.push(self.now + LOOK_EVERY, Happening::Deliver { stream: id, end });
            return;
        }
        match end {
            End::Worker => {
                let Some((term, applied, message)) = self.stream_mut(id).to_worker.pop_front() else {
                    return;
                };
                if self.stream_mut(id).open_at_worker {
                    self.worker_hears(id, term, applied, message);
                }
            }
            End::Replica => {
                let Some(message) = self.stream_mut(id).to_replica.pop_front() else { return };
                let stream = self.stream_mut(id);
                if stream.open_at_replica && !stream.ending {
                    let replica = stream.replica;
                    self.replica_hears(replica, StreamId(id), message);
                }
            }
        }
    }

    /// The worker ends it, or its process is gone.
    pub fn hang_up(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.open_at_worker = false;
        stream.to_worker.clear();
        if stream.open_at_replica {
            self.plan_close(id, End::Replica);
        } else {
            self.streams.remove(&id);
        }
    }

    /// The replica ends it. `abruptly`: its process is gone, and with it what was under way.
    pub fn close_stream(&mut self, id: StreamId, abruptly: bool) {
        let Some(stream) = self.streams.get_mut(&id.0).filter(|stream| stream.open_at_replica) else {
            return;
        };
        if abruptly {
            stream.to_worker.clear();
        }
        stream.ending = true;
        self.plan_close(id.0, End::Worker);
    }

    fn plan_close(&mut self, id: u64, end: End) {
        let delay = self.network.delay(&mut self.chance);
        let last = self.stream_mut(id).last[end as usize];
        self.queue.push((self.now + delay).max(last + 1), Happening::Closed { stream: id, end });
    }

    pub fn closed(&mut self, id: u64, end: End) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (from, to) = stream.way(end);
        let waits = match end {
            End::Worker => !stream.to_worker.is_empty() && stream.open_at_worker,
            End::Replica => false,
        };
        let is_patient = self.now < stream.last[end as usize] + KEEPALIVE;
        if waits || (!self.network.reaches(from, to) && is_patient) {
            self.queue.push(self.now + LOOK_EVERY, Happening::Closed { stream: id, end });
            return;
        }
        let stream = self.streams.remove(&id).expect("looked up above");
        match end {
            End::Worker if stream.open_at_worker => self.worker_unlinked(id, stream.worker),
            End::Replica if stream.open_at_replica => self.stream_gone(stream.replica, StreamId(id)),
            End::Worker | End::Replica => {}
        }
    }

    /// Streams that the process of a replica holds.
    pub fn streams_at(&self, replica: usize) -> Vec<StreamId> {
        let held = |(id, stream): (&u64, &Stream)| {
            (stream.replica == replica && stream.open_at_replica && !stream.ending).then_some(StreamId(*id))
        };
        self.streams.iter().filter_map(held).collect()
    }
}
