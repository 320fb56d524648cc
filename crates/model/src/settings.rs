//! Replicated settings: every figure that apply may read. Flags only seed them at bootstrap.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::SpecError;
use crate::resources::WORKERS_MAX;
use crate::time::parse_duration;
use crate::validate::nearest;

/// A preset of leases, to go with the election settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failover {
    Fast,
    #[default]
    Default,
    Wan,
}

impl std::fmt::Display for Failover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Failover::Fast => "fast",
            Failover::Default => "default",
            Failover::Wan => "wan",
        })
    }
}

impl std::str::FromStr for Failover {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fast" => Ok(Failover::Fast),
            "default" => Ok(Failover::Default),
            "wan" => Ok(Failover::Wan),
            other => Err(format!("`{other}` is not one of fast, default, wan")),
        }
    }
}

/// Election timing of the Raft group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Election {
    pub heartbeat: Duration,
    pub timeout_min: Duration,
    pub timeout_max: Duration,
}

impl Failover {
    pub fn election(self) -> Election {
        let (heartbeat, min, max) = match self {
            Failover::Fast => (50, 150, 300),
            Failover::Default => (150, 500, 900),
            Failover::Wan => (250, 1000, 2000),
        };
        let ms = Duration::from_millis;
        Election { heartbeat: ms(heartbeat), timeout_min: ms(min), timeout_max: ms(max) }
    }

    pub fn lease(self) -> Lease {
        let (heartbeat, lease, margin) = match self {
            Failover::Fast => (500, 4_000, 1_000),
            Failover::Default => (1_000, 10_000, 2_000),
            Failover::Wan => (2_000, 30_000, 5_000),
        };
        let ms = Duration::from_millis;
        Lease { heartbeat: ms(heartbeat), ttl: ms(lease), margin: ms(margin) }
    }
}

/// A session's lease, copied into it when it registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    #[serde(with = "crate::time::duration")]
    pub heartbeat: Duration,
    /// From the sending of the renewal that was answered.
    #[serde(with = "crate::time::duration")]
    pub ttl: Duration,
    /// What the leader waits beyond the worker's own deadline.
    #[serde(with = "crate::time::duration")]
    pub margin: Duration,
}

impl Lease {
    fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        let field = match name {
            "heartbeat" => &mut self.heartbeat,
            "ttl" => &mut self.ttl,
            "margin" => &mut self.margin,
            _ => return Err(unknown(name, &["heartbeat", "ttl", "margin"])),
        };
        *field = parse_duration(text)?;
        Ok(())
    }

    /// Whether a failover leaves the worker time to renew twice: ttl - margin - heartbeat >= 2 x failover,
    /// a failover taking at most the leader's lease (timeout_max) and two election timeouts.
    pub fn outlasts(&self, election: Election) -> bool {
        self.heartbeat_max(election.timeout_max).is_some_and(|max| self.heartbeat <= max)
    }

    /// The longest that heartbeats may be apart for that, if there is such a time.
    pub fn heartbeat_max(&self, election_timeout_max: Duration) -> Option<Duration> {
        let failover = election_timeout_max * 3;
        self.ttl.checked_sub(self.margin)?.checked_sub(failover * 2)
    }
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr,)*) => {
        /// Named limits, windows and retention figures. A refusal by a limit names it.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Limits {
            $($(#[$doc])* pub $name: $type,)*
        }

        impl Default for Limits {
            fn default() -> Limits {
                Limits { $($name: $default,)* }
            }
        }

        impl Limits {
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// Sets the limit of that name; an error says why it cannot be.
            fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
                match name {
                    $(stringify!($name) => self.$name = number(text)?,)*
                    _ => return Err(unknown(name, Limits::NAMES)),
                }
                Ok(())
            }
        }
    };
}

settings! {
    /// Entries of `tasks` in one job.
    groups_per_job_max: u32 = 10_000,
    /// Tasks of one job, arrays counted through.
    tasks_per_job_max: u32 = 10_000_000,
    /// Bytes of one job's spec in its logged form.
    spec_bytes_max: u64 = 1_048_576,
    /// Bytes of all in-line files and inputs of one job.
    inline_bytes_per_job_max: u64 = 262_144,
    /// Dependencies of one task.
    dependencies_per_task_max: u32 = 10_000,
    /// Jobs that are not finished.
    unfinished_jobs_max: u64 = 2_000_000,
    /// Queues.
    queues_max: u32 = 1_000,
    /// Workers known, live or not.
    workers_max: u32 = 10_000,
    /// Bytes of one attempt's result.
    result_bytes_max: u64 = 65_536,
    /// Bytes of all results of one job kept in the state; later ones are cut off and say so.
    results_bytes_per_job_max: u64 = 1_048_576,
    /// Bytes of all results in the state.
    results_bytes_max: u64 = 268_435_456,
    /// Bytes of a failed attempt's tail.
    tail_bytes_max: u64 = 2_048,
    /// Outcomes kept per group; beyond it only counts and states are.
    outcomes_per_group_max: u32 = 10_000,
    /// Earlier outcomes kept per task.
    earlier_outcomes_max: u32 = 8,
    /// Finished jobs kept in the hot state.
    finished_jobs_max: u64 = 10_000,
    /// Seconds that a finished job stays in the hot state.
    finished_age_max_s: u64 = 604_800,
    /// Tombstones of jobs that have left the hot state.
    tombstones_max: u64 = 1_000_000,
    /// Seconds within which a repeated request id is answered alike.
    request_window_s: u64 = 3_600,
    /// Request ids remembered.
    requests_max: u64 = 1_000_000,
    /// Seconds that a request id may be ahead of the log's wall clock.
    request_ahead_max_s: u64 = 300,
    /// Seconds that a ready task may be passed over before a worker drains for it.
    starve_after_s: u64 = 60,
    /// Seconds between two looks at the history of a queue that is `auto`.
    adapt_every_s: u64 = 600,
    /// Seconds after which a queue's past use counts half.
    usage_half_life_s: u64 = 300,
    /// Tasks, by job and name, of which it is remembered how long they take; the one that ran longest ago goes first.
    estimates_max: u32 = 4_096,
    /// Seconds of wall-clock difference that is tolerated between replicas.
    clock_skew_max_s: u64 = 2,
    /// Placements that a session may be sent ahead, beyond its capacity; 0 turns it off.
    credit_per_session_max: u32 = 2,
    /// Retries a job may ask for.
    retries_max: u32 = 1_000,
    /// Rows that may change because of one entry, beyond what its own commands name; the rest is left to later entries. A
    /// row is whatever is kept of its own: a job, a group, a run of an array's tasks, a task's history, a timer.
    rows_per_apply_max: u32 = ROWS_PER_APPLY,
}

/// Rows that may change because of one entry, unless the setting says otherwise.
pub const ROWS_PER_APPLY: u32 = 4_096;

/// All settings of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub failover: Failover,
    pub lease: Lease,
    #[serde(default)]
    pub limits: Limits,
}

/// Highest of the limits on what one job may cost every replica.
const TASKS_PER_JOB_MAX: u64 = 1_000_000_000;
const GROUPS_PER_JOB_MAX: u64 = 100_000;
const SPEC_BYTES_MAX: u64 = 64 << 20;

/// More would let one entry stall every replica.
const ROWS_PER_APPLY_HIGHEST: u64 = 65_536;

/// All of them are looked through for each new one beyond the limit.
const ESTIMATES_MAX: u64 = 65_536;

/// Longest of all windows: ten years.
const WINDOW_MAX_S: u64 = 10 * 366 * 24 * 3600;

impl Settings {
    /// Every figure with which the cluster could not work.
    pub fn validate(&self) -> Vec<SpecError> {
        let mut errors = Vec::new();
        let mut within = |path: &str, holds: bool, message: String| {
            if !holds {
                errors.push(SpecError { path: path.to_owned(), message });
            }
        };
        let (lease, ms) = (&self.lease, Duration::from_millis);
        let window = Duration::from_secs(WINDOW_MAX_S);
        within("lease.heartbeat", lease.heartbeat >= ms(100), "a heartbeat is at least 100ms".to_owned());
        within("lease.margin", lease.margin >= ms(500), "a margin is at least 500ms".to_owned());
        within("lease.ttl", lease.ttl <= window, "a lease is at most ten years".to_owned());
        within(
            "lease",
            lease.outlasts(self.failover.election()),
            "ttl - margin - heartbeat must be at least twice the failover time of the election settings"
                .to_owned(),
        );
        let limits = &self.limits;
        for (name, value, max) in [
            ("finished_age_max_s", limits.finished_age_max_s, WINDOW_MAX_S),
            ("request_window_s", limits.request_window_s, WINDOW_MAX_S),
            ("request_ahead_max_s", limits.request_ahead_max_s, WINDOW_MAX_S),
            ("starve_after_s", limits.starve_after_s, WINDOW_MAX_S),
            ("adapt_every_s", limits.adapt_every_s, WINDOW_MAX_S),
            ("usage_half_life_s", limits.usage_half_life_s, WINDOW_MAX_S),
            ("clock_skew_max_s", limits.clock_skew_max_s, WINDOW_MAX_S),
            ("workers_max", limits.workers_max.into(), WORKERS_MAX.into()),
            ("estimates_max", limits.estimates_max.into(), ESTIMATES_MAX),
            ("rows_per_apply_max", limits.rows_per_apply_max.into(), ROWS_PER_APPLY_HIGHEST),
            ("tasks_per_job_max", limits.tasks_per_job_max.into(), TASKS_PER_JOB_MAX),
            ("groups_per_job_max", limits.groups_per_job_max.into(), GROUPS_PER_JOB_MAX),
            ("spec_bytes_max", limits.spec_bytes_max, SPEC_BYTES_MAX),
        ] {
            within(&format!("limits.{name}"), value <= max, format!("{value} is above {max}"));
        }
        let rows = limits.rows_per_apply_max;
        within(
            "limits.rows_per_apply_max",
            rows >= 2,
            format!("{rows} is below 2: nothing would ever be done"),
        );
        within("limits.adapt_every_s", limits.adapt_every_s > 0, "it is at least 1".to_owned());
        errors
    }

    pub fn preset(failover: Failover) -> Settings {
        Settings { failover, lease: failover.lease(), limits: Limits::default() }
    }
}

impl Settings {
    /// Sets one of them, by its path and as people write it: `limits.queues_max` and `10`, `lease.ttl` and `30s`.
    pub fn set(&mut self, path: &str, text: &str) -> Result<(), SpecError> {
        let result = match path.split_once('.') {
            None if path == "failover" => text.parse().map(|failover| self.failover = failover),
            Some(("lease", name)) => self.lease.set(name, text),
            Some(("limits", name)) => self.limits.set(name, text),
            None | Some(_) => Err(unknown(path, &["failover", "lease.ttl", "limits.queues_max"])),
        };
        result.map_err(|message| SpecError { path: path.to_owned(), message })
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not a whole number that fits"))
}

fn unknown(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("there is no setting `{name}`; did you mean `{near}`?"),
        None => format!("there is no setting `{name}`"),
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::preset(Failover::Default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_outlasts_its_failover() {
        for failover in [Failover::Fast, Failover::Default, Failover::Wan] {
            assert!(failover.lease().outlasts(failover.election()), "{failover:?}");
        }
        assert!(!Failover::Fast.lease().outlasts(Failover::Wan.election()));
    }

    #[test]
    fn figures_with_which_nothing_works_are_refused() {
        assert_eq!(Settings::default().validate(), []);
        let paths = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.validate().into_iter().map(|error| error.path).collect::<Vec<_>>()
        };
        assert_eq!(paths(|s| s.lease.heartbeat = Duration::ZERO), ["lease.heartbeat"]);
        assert_eq!(paths(|s| s.lease.margin = Duration::ZERO), ["lease.margin"]);
        assert_eq!(paths(|s| s.lease.ttl = Duration::from_secs(4)), ["lease"]);
        assert_eq!(paths(|s| s.limits.usage_half_life_s = u64::MAX), ["limits.usage_half_life_s"]);
        assert_eq!(paths(|s| s.limits.workers_max = u32::MAX), ["limits.workers_max"]);
    }

    #[test]
    fn one_setting_is_set_by_its_path_and_the_others_stay() {
        let mut settings = Settings::default();
        settings.set("limits.queues_max", "7").unwrap();
        settings.set("lease.ttl", "30s").unwrap();
        settings.set("failover", "fast").unwrap();
        let limits = Limits { queues_max: 7, ..Limits::default() };
        let lease = Lease { ttl: Duration::from_secs(30), ..Failover::Default.lease() };
        assert_eq!(settings, Settings { failover: Failover::Fast, lease, limits });
        let mut refused = |path, text| settings.set(path, text).unwrap_err().to_string();
        assert_eq!(
            refused("limits.queue_max", "7"),
            "limits.queue_max: there is no setting `queue_max`; did you mean `queues_max`?"
        );
        assert!(refused("limits.queues_max", "-1").contains("not a whole number"));
        assert!(refused("lease.ttl", "soon").contains("not a duration"));
        assert!(refused("failover", "slow").contains("fast, default, wan"));
        assert!(refused("", "1").contains("no setting"));
        assert_eq!(settings.limits.queues_max, 7);
    }

    #[test]
    fn settings_read_back_and_refuse_what_they_do_not_know() {
        let settings = Settings::default();
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), settings);
        assert!(serde_json::from_str::<Limits>(r#"{"querys_max":1}"#).is_err());
    }
}
