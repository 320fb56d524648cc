//! What apply refused, as clients see it: code, status and what would mend it.

use machine::Rejection;
use model::settings::Limits;
use tonic::Code;

use crate::error::{Failure, code};

impl From<&Rejection> for Failure {
    fn from(rejection: &Rejection) -> Failure {
        if let Rejection::Invalid { errors } = rejection {
            return Failure::invalid(errors);
        }
        let (code, status) = kind(rejection);
        Failure::new(code, status, rejection.to_string()).fix(fix(rejection))
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Failure {
        Failure::from(&rejection)
    }
}

fn kind(rejection: &Rejection) -> (&'static str, Code) {
    match rejection {
        Rejection::Bootstrapped => (code::CONFLICT, Code::AlreadyExists),
        Rejection::NotBootstrapped => (code::NO_LEADER, Code::Unavailable),
        Rejection::UnknownJob { .. } | Rejection::JobTooOld { .. } => (code::UNKNOWN_JOB, Code::NotFound),
        Rejection::UnknownTask { .. } => (code::UNKNOWN_TASK, Code::NotFound),
        Rejection::UnknownQueue { .. } => (code::UNKNOWN_QUEUE, Code::NotFound),
        Rejection::UnknownWorker { .. } => (code::UNKNOWN_WORKER, Code::NotFound),
        Rejection::UnknownPeriodic { .. } => (code::UNKNOWN_PERIODIC, Code::NotFound),
        Rejection::UnknownBooking { .. } => (code::UNKNOWN_BOOKING, Code::NotFound),
        Rejection::SessionEnded { .. }
        | Rejection::WorkerLive { .. }
        | Rejection::QueueInUse { .. }
        | Rejection::NothingToUndo { .. }
        | Rejection::QueueOwned { .. }
        | Rejection::QueueChanged { .. }
        | Rejection::LevelBack { .. }
        | Rejection::LevelUnknown { .. }
        | Rejection::TaskBegun { .. } => (code::CONFLICT, Code::FailedPrecondition),
        Rejection::QueueDefault | Rejection::Tenant { .. } => (code::NOT_ALLOWED, Code::PermissionDenied),
        Rejection::Limit { .. } => (code::LIMIT, Code::ResourceExhausted),
        Rejection::JobFinished { .. } | Rejection::NothingToRetry { .. } => {
            (code::JOB_FINISHED, Code::FailedPrecondition)
        }
        Rejection::Cycle { .. } | Rejection::Invalid { .. } => (code::INVALID_SPEC, Code::InvalidArgument),
        Rejection::RequestConflict { .. } => (code::CONFLICT, Code::AlreadyExists),
        Rejection::RequestExpired { .. } | Rejection::RequestAhead { .. } => {
            (code::REQUEST_EXPIRED, Code::FailedPrecondition)
        }
        Rejection::StaleId => (code::INTERNAL, Code::Internal),
    }
}

fn fix(rejection: &Rejection) -> String {
    match rejection {
        Rejection::UnknownJob { .. } => "see `baton ps` for the jobs there are".to_owned(),
        Rejection::UnknownTask { job, .. } => format!("see `baton job get {job}` for its tasks"),
        Rejection::UnknownQueue { queue } => {
            format!("create it with `baton queue put {queue}`, or see `baton queue list`")
        }
        Rejection::UnknownWorker { .. } => "see `baton worker list` for the workers there are".to_owned(),
        Rejection::UnknownBooking { .. } => "see `baton booking list` for the bookings there are".to_owned(),
        Rejection::UnknownPeriodic { .. } => "see `baton periodic list` for the sets there are".to_owned(),
        Rejection::QueueOwned { set, .. } => {
            format!("use another queue, or put the set anew with `baton periodic put {set} FILE`")
        }
        Rejection::JobTooOld { .. } => "depend on a job that is still remembered, or leave it out".to_owned(),
        Rejection::WorkerLive { worker } => format!("stop the worker {worker}, or wait until its lease ends"),
        Rejection::QueueInUse { queue, .. } => format!("see `baton ps --queue {queue}`"),
        Rejection::NothingToUndo { queue } => {
            format!("set what you want with `baton queue put {queue}`; `--no-auto` stops further changes")
        }
        Rejection::LevelBack { .. } => "`baton cluster status` says the level".to_owned(),
        Rejection::LevelUnknown { .. } => {
            "start all replicas with a version that knows it, or name a lower level".to_owned()
        }
        Rejection::QueueChanged { queue } => format!("look at it again: `baton advise {queue}`"),
        // What is fixed cannot be raised.
        Rejection::Limit { limit, .. } if !Limits::NAMES.contains(&limit.as_str()) => {
            "ask for less, or wait until there is room".to_owned()
        }
        Rejection::Limit { limit, .. } => {
            format!("wait until there is room, or raise {limit} in the cluster's settings")
        }
        Rejection::JobFinished { job, .. } => format!("to run it again: `baton retry {job}`"),
        Rejection::RequestConflict { .. } => "use a new request id for another request".to_owned(),
        Rejection::RequestExpired { .. } => {
            "see whether the job is there already, else send it under a new request id".to_owned()
        }
        Rejection::RequestAhead { .. } => "set the clock of the machine that made the request id".to_owned(),
        Rejection::Tenant { .. } => "leave the tenant out".to_owned(),
        Rejection::NotBootstrapped => "try again in a moment".to_owned(),
        Rejection::Bootstrapped
        | Rejection::SessionEnded { .. }
        | Rejection::QueueDefault
        | Rejection::NothingToRetry { .. }
        | Rejection::TaskBegun { .. }
        | Rejection::Cycle { .. }
        | Rejection::Invalid { .. }
        | Rejection::StaleId => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_limit_that_is_a_setting_is_to_be_raised() {
        let of =
            |limit: &str| fix(&Rejection::Limit { limit: limit.to_owned(), max: 1, what: "x".to_owned() });
        assert!(of("queues_max").contains("raise queues_max"));
        assert_eq!(of("periodic_sets_max"), "ask for less, or wait until there is room");
    }
}
