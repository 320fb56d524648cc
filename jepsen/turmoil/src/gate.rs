//! Where clients come in to a host that runs the bare replica: what a server does, as little of it as can be. Writes
//! are proposed if this replica leads; reads ask for a read index first.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use machine::{Bootstrap, Command, Entry, Op, Rejection, Stamp, Write};
use model::{Elapsed, JobId, Settings};
use replica::{Happened, Leadership, ProposeError, Replica};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time;

use crate::door::{ReadAnswer, WriteAnswer};
use crate::history::Acknowledged;
use crate::world::{Host, World};

/// How often a host looks whether its clock is to leap.
const LEAP_LOOK: Duration = Duration::from_millis(5);

pub enum Call {
    Write {
        write: Box<Write>,
        answer: oneshot::Sender<WriteAnswer>,
    },
    Read {
        job: Option<JobId>,
        answer: oneshot::Sender<Option<ReadAnswer>>,
    },
    /// Hands leadership on, if this replica has it.
    Transfer {
        to: u64,
    },
}

/// One life of the gate: serves until the host goes down. Beside a real server it passes on transfers only.
pub async fn serve(world: Arc<World>, host: usize, replica: Arc<Replica>) {
    let (sender, mut calls) = mpsc::unbounded_channel();
    world.hosts[host].open(replica.clone(), sender);
    let gate = Rc::new(Gate { replica, last_job: Cell::default() });
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            call = calls.recv() => match call {
                Some(call) => drop(under_way.spawn_local(gate.clone().take(call))),
                None => return,
            },
            Some(_) = under_way.join_next() => {}
            () = time::sleep(LEAP_LOOK) => leap(&world.hosts[host]).await,
        }
    }
}

async fn leap(host: &Host) {
    let ms = host.leap_ms.swap(0, Ordering::Relaxed);
    if ms > 0 {
        time::advance(Duration::from_millis(ms)).await;
    }
}

struct Gate {
    replica: Arc<Replica>,
    /// The last id of a job that was given out here.
    last_job: Cell<u64>,
}

impl Gate {
    async fn take(self: Rc<Self>, call: Call) {
        match call {
            Call::Write { write, answer } => drop(answer.send(self.write(*write).await)),
            Call::Read { job, answer } => drop(answer.send(self.read(job).await)),
            // It says by itself whether it came to anything.
            Call::Transfer { to } => drop(self.replica.transfer_leader(to).await),
        }
    }

    async fn write(&self, mut write: Write) -> WriteAnswer {
        let Leadership::Leading { term, .. } = *self.replica.leadership().borrow() else {
            return WriteAnswer::NotHere(self.replica.status().leader.map(|leader| leader.id));
        };
        if let Op::Submit { job, .. } = &mut write.op {
            *job = self.next_job();
        }
        let request = write.request;
        let mut commands = vec![Command::Write(write)];
        if !self.replica.read(machine::State::is_bootstrapped) {
            commands.insert(0, Command::Bootstrap(self.bootstrap()));
        }
        let entry = Entry { stamp: self.stamp(), commands };
        match self.replica.propose(term, entry).await {
            Ok(mut proposed) => match proposed.replies.pop() {
                // Somebody else gave out that number meanwhile; nothing was done.
                Some(reply) if reply.rejection() == Some(&Rejection::StaleId) => WriteAnswer::NotHere(None),
                Some(reply) => WriteAnswer::Done(Acknowledged { request, index: proposed.index, reply }),
                None => panic!("an entry of a write was applied without a reply"),
            },
            Err(ProposeError::Stopped) => WriteAnswer::Unknown,
            Err(error) if error.happened() == Happened::Maybe => WriteAnswer::Unknown,
            Err(ProposeError::NotLeader { leader }) => WriteAnswer::NotHere(leader.map(|leader| leader.id)),
            Err(_) => WriteAnswer::NotHere(None),
        }
    }

    async fn read(&self, job: Option<JobId>) -> Option<ReadAnswer> {
        self.replica.read_index().await.ok()?;
        let found = |state: &machine::State, job| state.job(job).is_some() || state.tombstone(job).is_some();
        let found = job.is_none_or(|job| self.replica.read(|state| found(state, job)));
        Some(ReadAnswer { index: self.replica.applied_index(), found })
    }

    fn next_job(&self) -> JobId {
        let next = self.last_job.get().max(self.replica.read(|state| state.last_job().0)) + 1;
        self.last_job.set(next);
        JobId(next)
    }

    fn stamp(&self) -> Stamp {
        let env = self.replica.env();
        Stamp { elapsed: Elapsed(env.now().0), wall: env.wall() }
    }

    fn bootstrap(&self) -> Bootstrap {
        let identity = self.replica.identity();
        let settings = Settings::preset(identity.failover);
        Bootstrap {
            cluster: identity.cluster.clone(),
            settings,
            epoch: 0,
            next_node: 10,
            level: machine::LEVEL,
        }
    }
}
