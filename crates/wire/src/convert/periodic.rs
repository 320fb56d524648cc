//! Periodic sets: what is asked for, and what there is.

use std::sync::Arc;
use std::time::Duration;

use machine::{PeriodicSpec, PeriodicTaskSpec};
use model::policy::Order;
use model::time::micros;
use model::views::{PeriodicTaskView, PeriodicView};
use model::{JobId, JobSpec, Timestamp, Timing};

use super::spec::read_task;
use super::writes::refuse_unless_name;
use super::{Errors, Malformed};
use crate::v1;

/// As it is asked for: nothing is said yet of who is on which slot, and of the queues of the jobs.
pub fn periodic_spec(request: v1::PutPeriodicRequest) -> Result<PeriodicSpec, Malformed> {
    let mut errors = Errors::default();
    refuse_unless_name(&mut errors, "name", &request.name);
    let order = errors.take("policy", request.policy.parse(), Order::default());
    let tasks = (0..).zip(request.tasks).map(|(place, task)| read(&mut errors, &request.name, place, task));
    let tasks = tasks.collect();
    errors.finish(PeriodicSpec {
        name: request.name.clone(),
        order,
        slots: request.slots,
        preemptive: request.preemptive,
        admitted: Vec::new(),
        tasks,
    })
}

fn read(errors: &mut Errors, set: &str, place: usize, task: v1::PeriodicTask) -> PeriodicTaskSpec {
    let path = format!("tasks[{place}]");
    if task.task.is_none() {
        errors.refuse(format!("{path}.task"), "says what is done at each release; without it nothing is");
    }
    let mut one = read_task(errors, &path, task.task.unwrap_or_default());
    one.name.clone_from(&task.name);
    let [run_time, period, deadline] =
        [task.run_time_us, task.period_us, task.deadline_us].map(Duration::from_micros);
    let start_within = one.timing().start_within;
    one.timing = Timing { start_within, ..Timing::periodic(run_time, deadline, period) }.boxed();
    let job = JobSpec::of(&format!("{set}.{}", task.name), vec![one]);
    PeriodicTaskSpec { name: task.name, run_time, period, deadline, slot: 0, job: Arc::new(job) }
}

impl From<&PeriodicView> for v1::PeriodicSet {
    fn from(set: &PeriodicView) -> v1::PeriodicSet {
        let task = |task: &PeriodicTaskView| v1::PeriodicTaskState {
            name: task.name.clone(),
            run_time_us: micros(task.run_time),
            period_us: micros(task.period),
            deadline_us: micros(task.deadline),
            queue: task.queue.clone(),
            released: task.released,
            skipped: task.skipped,
            met: task.met,
            missed: task.missed,
            last_job: task.last.map_or(0, |job| job.0),
            next_unix_us: task.next.0,
        };
        v1::PeriodicSet {
            name: set.name.clone(),
            policy: set.order.to_string(),
            slots: set.slots,
            preemptive: set.preemptive,
            admitted: set.admitted.clone(),
            since_unix_us: set.since.0,
            tasks: set.tasks.iter().map(task).collect(),
        }
    }
}

impl From<v1::PeriodicSet> for PeriodicView {
    fn from(set: v1::PeriodicSet) -> PeriodicView {
        let task = |task: v1::PeriodicTaskState| PeriodicTaskView {
            name: task.name,
            run_time: Duration::from_micros(task.run_time_us),
            period: Duration::from_micros(task.period_us),
            deadline: Duration::from_micros(task.deadline_us),
            queue: task.queue,
            released: task.released,
            skipped: task.skipped,
            met: task.met,
            missed: task.missed,
            last: Some(JobId(task.last_job)).filter(|job| job.0 > 0),
            next: Timestamp(task.next_unix_us),
        };
        PeriodicView {
            name: set.name,
            order: set.policy.parse().unwrap_or_default(),
            slots: set.slots,
            preemptive: set.preemptive,
            admitted: set.admitted,
            since: Timestamp(set.since_unix_us),
            tasks: set.tasks.into_iter().map(task).collect(),
        }
    }
}
