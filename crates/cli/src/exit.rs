//! Exit statuses, each with one meaning.

use std::process::ExitCode;

use client::code;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    pub const DONE: Exit = Exit(0);
    pub const FAILED: Exit = Exit(1);
    pub const USAGE: Exit = Exit(2);
    pub const NOT_FOUND: Exit = Exit(3);
    pub const CONFLICT: Exit = Exit(4);
    pub const NOT_ALLOWED: Exit = Exit(5);
    pub const UNREACHABLE: Exit = Exit(6);
    /// A job that was waited for has failed.
    pub const JOB_FAILED: Exit = Exit(10);
    pub const CANCELLED: Exit = Exit(11);
    pub const UNSCHEDULABLE: Exit = Exit(12);
    pub const TIMED_OUT: Exit = Exit(124);
    /// `baton run`: Baton itself failed, not the task.
    pub const RUN_FAILED: Exit = Exit(125);
    pub const INTERRUPTED: Exit = Exit(130);

    /// For an error's code.
    pub fn of_code(code: &str) -> Exit {
        match code {
            code::UNKNOWN_JOB
            | code::UNKNOWN_TASK
            | code::UNKNOWN_QUEUE
            | code::UNKNOWN_PERIODIC
            | code::UNKNOWN_BOOKING
            | code::UNKNOWN_WORKER
            | code::NOT_FOUND => Exit::NOT_FOUND,
            code::CONFLICT | code::REPLICAS | code::JOB_FINISHED | code::REQUEST_EXPIRED => Exit::CONFLICT,
            code::NOT_ALLOWED => Exit::NOT_ALLOWED,
            code::NO_LEADER | code::NOT_LEADER | code::UNAVAILABLE | code::OVERLOADED => Exit::UNREACHABLE,
            code::INVALID_SPEC => Exit::USAGE,
            _ => Exit::FAILED,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_of_error_has_its_status() {
        let cases = [("unknown-job", 3), ("conflict", 4), ("not-allowed", 5), ("no-leader", 6), ("limit", 1)];
        for (code, status) in cases {
            assert_eq!(Exit::of_code(code), Exit(status), "{code}");
        }
        assert_eq!(Exit::of_code("a-code-of-the-future"), Exit::FAILED);
    }
}
