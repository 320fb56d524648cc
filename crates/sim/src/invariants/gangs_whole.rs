//! A gang runs whole and in one attempt: in the state always, among the processes unless an older one's host stood still, or
//! runs on without a lease by its own wish.

use std::collections::BTreeMap;

use model::{JobId, OnDisconnect, Seq, Token};

use super::{Found, Invariant, Step};
use crate::worker::Execution;

#[derive(Default)]
pub struct GangsWhole {
    /// By gang, of which the number of the first task is told: processes of its members.
    running: BTreeMap<(JobId, u32), Vec<Process>>,
    looked: u64,
}

struct Process {
    worker: usize,
    seq: Seq,
    token: Token,
    is_excused: bool,
}

/// The gang that the execution is of.
fn gang(execution: &Execution) -> Option<(JobId, u32)> {
    let gang = execution.order.gang.as_ref()?;
    Some((execution.order.job, execution.tasks.first.checked_sub(gang.rank)?))
}

impl Invariant for GangsWhole {
    fn name(&self) -> &'static str {
        "gangs are whole"
    }

    fn applied(&mut self, step: &Step, found: &mut Found) {
        for job in step.jobs().into_iter().filter_map(|id| step.state.job(id)) {
            for group in job.groups.iter().filter(|group| group.gang) {
                let begun = group.live_len + group.arrived.len();
                let is_half = begun > 0 && begun < group.len;
                let is_half_done = !group.succeeded.is_empty() && !group.all_succeeded();
                if is_half || is_half_done {
                    let (id, first, all) = (job.id, group.first, group.len);
                    found.push(format!("of gang {id}.{first} {begun} of {all} run: {:?}", group.counts()));
                }
            }
        }
    }

    fn started(&mut self, worker: usize, execution: &Execution, found: &mut Found) {
        let Some(gang) = gang(execution) else { return };
        self.looked += 1;
        let members = self.running.entry(gang).or_default();
        let stranger = |other: &&Process| other.token != execution.token && !other.is_excused;
        if let Some(other) = members.iter().find(stranger) {
            found.push(format!(
                "of gang {}.{} a member starts on w{worker} ({}) and one of before still runs on w{} ({})",
                gang.0, gang.1, execution.token, other.worker, other.token
            ));
        }
        let is_excused = execution.order.on_disconnect == OnDisconnect::Keep;
        members.push(Process { worker, seq: execution.seq, token: execution.token, is_excused });
    }

    fn ended(&mut self, worker: usize, execution: &Execution) {
        let Some(members) = gang(execution).and_then(|gang| self.running.get_mut(&gang)) else { return };
        let is_it = |other: &Process| {
            (other.worker, other.seq, other.token) == (worker, execution.seq, execution.token)
        };
        members.retain(|other| !is_it(other));
    }

    fn frozen(&mut self, worker: usize) {
        let here = self.running.values_mut().flatten().filter(|process| process.worker == worker);
        here.for_each(|process| process.is_excused = true);
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
