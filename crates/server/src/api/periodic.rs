//! Periodic sets: admitted here, before they are written. The tests take too long for apply, and say why.

use std::sync::Arc;

use machine::state::periodic::queue_of;
use machine::{Op, PERIODIC_TASKS_MAX, PeriodicSpec, State};
use model::SpecError;
use model::policy::Order;
use model::time::micros;
use scheduler::realtime::{Admission, How, NO_SLOT, Periodic, Priority, Test, Unanswered, admit};
use tonic::{Request, Response, Status};
use wire::convert;
use wire::error::Failure;
use wire::v1;

use crate::api::Api;
use crate::api::call::Call;
use crate::api::write::SendOn;

impl Api {
    /// Every replica that the call comes by tests it: none believes another, or a client.
    pub async fn put_periodic(
        &self,
        request: Request<v1::PutPeriodicRequest>,
        send: SendOn<v1::PutPeriodicRequest, v1::ChangeReply>,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        let asked = request.get_ref().clone();
        let test = move || convert::periodic_spec(asked).and_then(admitted);
        let tested = tokio::task::spawn_blocking(test).await;
        match tested {
            Ok(Ok(spec)) => self.change(request, |_| Ok(Op::PutPeriodic(Box::new(spec))), send).await,
            Ok(Err(errors)) => self.answer(Err(Failure::invalid(&errors))),
            Err(error) => self.answer(Err(Failure::new(
                wire::error::code::INTERNAL,
                tonic::Code::Internal,
                format!("the tests have failed: {error}"),
            ))),
        }
    }

    pub async fn list_periodic(
        &self,
        request: Request<v1::ReadRequest>,
    ) -> Result<Response<v1::ListPeriodicReply>, Status> {
        let call = Call::of(self, request.metadata());
        let views = |state: &State| Ok(state.periodic_views());
        let result = self.look(&call, request.into_inner().stale, views).await;
        self.answer(result.map(|(index, sets)| v1::ListPeriodicReply {
            index,
            sets: sets.iter().map(v1::PeriodicSet::from).collect(),
        }))
    }
}

fn refuse(path: impl Into<String>, message: impl Into<String>) -> Vec<SpecError> {
    vec![SpecError { path: path.into(), message: message.into() }]
}

/// The set with the slot of each task and the tests that it has passed; else the test, its figures, and who misses first.
fn admitted(mut spec: PeriodicSpec) -> Result<PeriodicSpec, Vec<SpecError>> {
    let priority = match spec.order {
        Order::Rms => Priority::Rms,
        Order::Dms => Priority::Dms,
        Order::Edf => Priority::Edf,
        other => {
            return Err(refuse(
                "policy",
                format!("is rms, dms or edf, for which there are tests, not {other}"),
            ));
        }
    };
    if spec.tasks.is_empty() || spec.tasks.len() > PERIODIC_TASKS_MAX {
        return Err(refuse(
            "tasks",
            format!("{} are given; a set has 1 to {PERIODIC_TASKS_MAX}", spec.tasks.len()),
        ));
    }
    if spec.slots == 0 {
        return Err(refuse("slots", "is at least 1"));
    }
    let of = |task: &machine::PeriodicTaskSpec| Periodic {
        name: task.name.clone(),
        cost: micros(task.run_time),
        period: micros(task.period),
        deadline: micros(task.deadline),
    };
    let set: Vec<Periodic> = spec.tasks.iter().map(of).collect();
    let how = How { priority, preemptive: spec.preemptive, slots: spec.slots, global: false };
    let found = admit(&set, how).map_err(|why| unanswered(&set, &why))?;
    if !found.accepted {
        return Err(refused(&set, &found));
    }
    spec.admitted = found.tests.iter().filter(|test| test.holds).map(Test::to_string).collect();
    for (place, task) in spec.tasks.iter_mut().enumerate() {
        task.slot = found.slots.get(place).copied().flatten().unwrap_or(0);
        let mut job = (*task.job).clone();
        job.queue = queue_of(&spec.name, task.slot);
        task.job = Arc::new(job);
    }
    Ok(spec)
}

fn unanswered(set: &[Periodic], why: &Unanswered) -> Vec<SpecError> {
    match why {
        Unanswered::Figures { task } => refuse(
            format!("tasks[{task}]"),
            format!("`{}` needs 0 < run_time <= deadline <= period", set[*task].name),
        ),
        Unanswered::NoTest(why) => refuse("policy", *why),
        Unanswered::TooLong => refuse(
            "tasks",
            "the periods have so little in common that no test ends soon; round them to multiples of each other",
        ),
    }
}

fn refused(set: &[Periodic], found: &Admission) -> Vec<SpecError> {
    let tests: Vec<String> = found.tests.iter().map(Test::to_string).collect();
    let tests = tests.join("; ");
    let Some(miss) = &found.miss else {
        return refuse("tasks", format!("the set cannot meet its deadlines: {tests}"));
    };
    let (name, how) = (&set[miss.task].name, miss.by_how_much());
    let how = how.as_deref().unwrap_or(NO_SLOT);
    refuse(
        format!("tasks[{}]", miss.task),
        format!("`{name}` misses its deadline first: {how}. Tests: {tests}"),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn set(tasks: &[(u64, u64)], slots: u32) -> Result<PeriodicSpec, Vec<SpecError>> {
        let task = |(place, (cost, period)): (usize, &(u64, u64))| v1::PeriodicTask {
            name: format!("t{place}"),
            run_time_us: cost * 1_000,
            period_us: period * 1_000,
            deadline_us: period * 1_000,
            task: Some(v1::TaskSpec::from(&model::TaskSpec::new("x", model::Work::Noop))),
        };
        let request = v1::PutPeriodicRequest {
            header: None,
            name: "s".to_owned(),
            policy: "edf".to_owned(),
            slots,
            preemptive: false,
            tasks: tasks.iter().enumerate().map(task).collect(),
        };
        convert::periodic_spec(request).and_then(admitted)
    }

    #[test]
    fn what_meets_its_deadlines_gets_slots_and_queues_and_what_does_not_is_told_why() {
        let one = set(&[(200, 1_000), (300, 1_500)], 1).unwrap();
        assert!(one.tasks.iter().all(|task| task.job.queue == "s.1" && task.slot == 0));
        assert!(!one.admitted.is_empty());
        let timing = one.tasks[1].job.tasks[0].timing();
        assert_eq!(timing.estimate, Some(Duration::from_millis(300)));
        assert_eq!((timing.deadline, timing.period), (Some(one.tasks[1].period), Some(one.tasks[1].period)));

        let two = [(600, 1_000), (600, 1_000)];
        let errors = set(&two, 1).unwrap_err();
        assert!(errors[0].path.starts_with("tasks"), "{errors:?}");
        assert!(errors[0].message.contains("<="), "{errors:?}");
        let apart: Vec<String> =
            set(&two, 2).unwrap().tasks.iter().map(|task| task.job.queue.clone()).collect();
        assert_eq!(apart, ["s.1", "s.2"]);
        assert!(set(&[], 1).is_err() && set(&two, 0).is_err());
    }
}
