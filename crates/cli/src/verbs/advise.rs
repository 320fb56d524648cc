//! `baton advise`: how the recent history of a queue would have fared under other policies, and the command that sets the best.

use std::time::Duration;

use model::QueuePolicy;
use model::time::format_duration;
use model::views::QueueView;
use serde::Serialize;
use serde_json::{Value, json};
use whatif::{Advice, Figures, GAIN_MIN, History, PastJob, Policy, Replay, TASKS_MIN};

use super::compare;
use super::live::{self, Machines};
use crate::app::App;
use crate::config::duration;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::counted;
use crate::output::paint::Tone;
use crate::output::rows::{Row, View};
use crate::output::table::Cell;
use crate::output::times::short;

/// Replay the recent history of a queue under other policies and say which would have served it best
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(default_value = model::spec::QUEUE_DEFAULT)]
    queue: String,
    /// Only jobs submitted within this time, as in 2h; absent: all that are kept
    #[arg(long, value_name = "SPAN", value_parser = duration)]
    last: Option<Duration>,
}

const DOING: &str = "cannot advise";
/// The part that other queues took of all work from which on it is told.
const OTHERS_TOLD: f64 = 0.01;

/// What a replay supposes, whatever the policy.
const ASSUMED: &str = "replayed waits assume the estimates as they were known at each submit, and no constraint on placement but cores";

pub async fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    let queues = app.client.queues().await.map_err(|error| Fault::reading(DOING, error))?.value;
    let Some(queue) = queues.into_iter().find(|queue| queue.name == args.queue) else {
        return Err(Fault::not_found(format!("{DOING}: there is no queue `{}`", args.queue))
            .fix("`baton queue list` shows what there is"));
    };
    let machines = Machines::read(app, DOING, 0).await?;
    let all = live::recent(app, DOING, None, args.last).await?;
    let (own, others): (Vec<PastJob>, Vec<PastJob>) =
        all.jobs.into_iter().partition(|job| job.queue == queue.name);
    let (history, others) = (History { jobs: own }, live::work(&others));
    let replay = whatif::replay(&history, Some(machines.parts));
    if replay.facts.tasks == 0 {
        let why = format!(
            "the cluster keeps {} of it, none with a task that ended",
            counted(history.jobs.len() as u64, "job")
        );
        return Err(Fault::failed(format!("{DOING}: there is no history of queue `{}`", queue.name))
            .why(why)
            .fix("let jobs of it run, or look further back with a longer `--last`"));
    }
    let own = live::work(&history.jobs);
    let found = Found::of(app, queue, machines, replay, others / (own + others).max(f64::MIN_POSITIVE))?;
    app.face.one(&found.json(), &found.name(), || found.text(app))?;
    Ok(Exit::DONE)
}

/// All that is told.
struct Found {
    queue: QueueView,
    machines: Machines,
    replay: Replay,
    /// In the order of `figures`; the first is the present one.
    policies: Vec<Policy>,
    figures: Vec<Figures>,
    advice: Advice,
    /// What other queues took of all work that ended, 0 to 1.
    others: f64,
}

/// A policy as a line of the table.
#[derive(Serialize)]
struct Tried {
    order: String,
    backfill: String,
    present: bool,
    recommended: bool,
    #[serde(flatten)]
    figures: Figures,
}

impl Found {
    fn of(
        app: &App,
        queue: QueueView,
        machines: Machines,
        replay: Replay,
        others: f64,
    ) -> Result<Found, Fault> {
        let policies = whatif::candidates(&queue.policy, &replay.workload);
        let cores = replay.cores(machines.parts);
        let runs = compare::all(app, DOING, (&replay.workload, cores), &policies, false)?;
        let figures: Vec<Figures> = runs.into_iter().map(|(_, figures)| figures).collect();
        let advice = whatif::advise(&figures);
        Ok(Found { queue, machines, replay, policies, figures, advice, others })
    }

    fn to(&self) -> Option<usize> {
        match self.advice {
            Advice::Change { to, .. } | Advice::Shorten { to, .. } => Some(to),
            Advice::Keep { .. } | Advice::TooFew => None,
        }
    }

    /// The shortest mean wait first.
    fn table(&self) -> Vec<Tried> {
        let mut tried: Vec<Tried> = (0..self.figures.len())
            .map(|place| Tried {
                order: order_of(&self.policies[place].queue),
                backfill: self.policies[place].queue.backfill.to_string(),
                present: place == 0,
                recommended: self.to() == Some(place),
                figures: self.figures[place].clone(),
            })
            .collect();
        let waits = |tried: &Tried| (tried.figures.mean_wait_s, tried.figures.max_wait_s);
        tried.sort_by(|one, other| {
            let ((mean, max), (other_mean, other_max)) = (waits(one), waits(other));
            mean.total_cmp(&other_mean).then(max.total_cmp(&other_max))
        });
        tried
    }

    /// Sets the policy, and nothing else of the queue.
    fn command(&self, policy: &QueuePolicy) -> String {
        let ageing = match policy.ageing {
            ageing if ageing.is_zero() => String::new(),
            ageing => format!(" --ageing {}", format_duration(ageing)),
        };
        let preempt = if policy.preempt { " --preempt" } else { "" };
        let quantum = match policy.quantum {
            quantum if quantum.is_zero() => String::new(),
            quantum => format!(" --quantum {}", format_duration(quantum)),
        };
        let QueuePolicy { order, backfill, .. } = policy;
        format!(
            "baton queue put {} --order {order} --backfill {backfill}{ageing}{preempt}{quantum}",
            self.queue.name
        )
    }

    /// The verdict, as a sentence.
    fn verdict(&self) -> String {
        let present = &self.figures[0];
        match self.advice {
            Advice::TooFew => format!(
                "no recommendation: {} ended, and fewer than {TASKS_MIN} say too little",
                counted(present.tasks, "task")
            ),
            Advice::Keep { best: Some((best, gain)) } if gain > 0.0 => format!(
                "the present policy is fine: the best of the others ({}) has a mean wait of {} instead of {}, less than {:.0} % better",
                self.policies[best].name,
                span(self.figures[best].mean_wait_s),
                span(present.mean_wait_s),
                GAIN_MIN * 100.0
            ),
            Advice::Keep { .. } => "the present policy is fine: no other has a shorter mean wait".to_owned(),
            Advice::Shorten { to, gain } => self.shorter(to, gain),
            Advice::Change { to, gain } => {
                let (policy, best) = (&self.policies[to].queue, &self.figures[to]);
                format!(
                    "recommended: order {}, backfill {}: mean wait {} instead of {} ({:.0} % less), longest {} instead of {}",
                    policy.order,
                    policy.backfill,
                    span(best.mean_wait_s),
                    span(present.mean_wait_s),
                    gain * 100.0,
                    span(best.max_wait_s),
                    span(present.max_wait_s)
                )
            }
        }
    }

    /// Where it is about the longest wait.
    fn shorter(&self, to: usize, gain: f64) -> String {
        let (present, best) = (&self.figures[0], &self.figures[to]);
        format!(
            "recommended: {}: longest wait {} instead of {} ({:.0} % less), mean {} instead of {}",
            self.policies[to].name,
            span(best.max_wait_s),
            span(present.max_wait_s),
            gain * 100.0,
            span(best.mean_wait_s),
            span(present.mean_wait_s)
        )
    }

    /// What the replay does not have that the cluster had.
    fn notes(&self) -> Vec<String> {
        let facts = &self.replay.facts;
        let mut notes = Vec::new();
        if self.others > OTHERS_TOLD {
            let share = self.others * 100.0;
            notes.push(format!(
                "other queues took {share:.0} % of the work; the replay has all cores for this one"
            ));
        }
        if facts.without_estimate > 0 {
            let (count, all) = (facts.without_estimate, facts.tasks);
            notes.push(format!(
                "of {count} of {all} tasks no estimate was known: with `--estimate`, or a name under which they ran before, more can be told"
            ));
        }
        if facts.retried > 0 {
            notes.push(format!("of {} only the last attempt is replayed", counted(facts.retried, "task")));
        }
        if let Some(max) = self.queue.running_max {
            notes.push(format!("the queue's limit of {max} running tasks is not replayed"));
        }
        if self.queue.policy.may_be_claimed() {
            notes.push("it is replayed as if the leader placed all tasks".to_owned());
        }
        if self.queue.auto {
            notes.push("the queue is auto: the cluster does this by itself, as far as it overrules nothing that was asked for (`baton queue undo` takes it back)".to_owned());
        }
        if let Some(last) = &self.queue.adapted {
            notes.push(format!(
                "the cluster has set order {}, backfill {} by itself at {}; by hand it was order {}, backfill {}",
                last.to.order, last.to.backfill, last.at, last.home.order, last.home.backfill
            ));
        }
        if self.queue.users.iter().any(|user| user.weight != 100) {
            notes.push("all users count alike in the replay, whatever their shares".to_owned());
        }
        notes.push(ASSUMED.to_owned());
        notes
    }

    fn measured(&self) -> String {
        let replayed = span(self.figures[0].mean_wait_s);
        match self.replay.facts.measured_mean_wait_s {
            Some(wait) => format!(
                "measured: a mean wait of {} (of tasks that waited for no others); replayed under the present policy: {replayed}",
                span(wait)
            ),
            None => format!(
                "measured: nothing (all tasks waited for others); replayed under the present policy: {replayed}"
            ),
        }
    }

    fn name(&self) -> String {
        self.policies[self.to().unwrap_or(0)].name.clone()
    }

    fn text(&self, app: &App) -> String {
        let facts = &self.replay.facts;
        let QueuePolicy { order, backfill, .. } = self.queue.policy;
        let mut text = format!("queue {}: order {order}, backfill {backfill}\n", self.queue.name);
        text += &format!(
            "replayed: {} of {}, over {}, on {} cores ({})\n",
            counted(facts.tasks, "task"),
            counted(facts.jobs, "job"),
            span(facts.span_s),
            self.machines.cores(),
            self.machines.told()
        );
        let left_out = [
            (facts.not_ended, "did not end"),
            (facts.too_wide, "ask for more cores than there are"),
            (facts.too_entwined, "are too many of one job that wait for each other"),
        ];
        for (count, why) in left_out.iter().filter(|(count, _)| *count > 0) {
            text += &format!("left out: {}, for they {why}\n", counted(*count, "task"));
        }
        text += &format!("{}\n\n{}\n", self.measured(), app.face.table(&self.table()));
        let verdict = self.verdict();
        text += &match self.to() {
            Some(to) => {
                let (apply, undo) =
                    (self.command(&self.policies[to].queue), self.command(&self.queue.policy));
                format!(
                    "{}\n  apply:  {apply}\n  undo:   {undo}\n",
                    app.face.paint.tone(Tone::Good, &verdict)
                )
            }
            None => format!("{verdict}\n"),
        };
        self.notes().iter().fold(text, |text, note| text + "note: " + note + "\n")
    }

    fn json(&self) -> Value {
        let recommendation = match self.advice {
            Advice::Change { to, gain } | Advice::Shorten { to, gain } => {
                let policy = &self.policies[to].queue;
                let of = if matches!(self.advice, Advice::Shorten { .. }) { "max_wait" } else { "mean_wait" };
                json!({"order": policy.order, "backfill": policy.backfill, "ageing": policy.ageing.as_secs_f64(),
                       "gain": gain, "of": of,
                       "command": self.command(policy), "undo": self.command(&self.queue.policy)})
            }
            Advice::Keep { .. } | Advice::TooFew => Value::Null,
        };
        json!({"queue": self.queue.name, "present": self.queue.policy, "cores": live::number(self.machines.parts),
               "workers": self.machines.json(), "history": self.replay.facts, "others": self.others,
               "enough": self.advice != Advice::TooFew, "policies": self.table(),
               "recommendation": recommendation, "verdict": self.verdict(), "notes": self.notes()})
    }
}

/// The order, and how priorities rise in it.
fn order_of(policy: &QueuePolicy) -> String {
    match policy.ageing {
        ageing if ageing.is_zero() => policy.order.to_string(),
        ageing => format!("{}, +1 each {}", policy.order, format_duration(ageing)),
    }
}

fn span(seconds: f64) -> String {
    short(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

impl Row for Tried {
    fn name(&self) -> String {
        self.figures.name.clone()
    }

    fn columns(_: bool) -> Vec<&'static str> {
        vec!["order", "backfill", "mean wait", "median", "p95", "longest", "slowdown", "used", ""]
    }

    fn cells(&self, _: View) -> Vec<Cell> {
        let mark = match (self.present, self.recommended) {
            (true, _) => Cell::toned("present", Tone::Busy),
            (false, true) => Cell::toned("recommended", Tone::Good),
            (false, false) => Cell::from(""),
        };
        let figures = &self.figures;
        let cells = [
            self.order.clone(),
            self.backfill.clone(),
            span(figures.mean_wait_s),
            span(figures.median_wait_s),
            span(figures.p95_wait_s),
            span(figures.max_wait_s),
            format!("{:.2}", figures.mean_bounded_slowdown),
            format!("{:.1} %", figures.utilisation * 100.0),
        ];
        cells.into_iter().map(Cell::from).chain([mark]).collect()
    }
}
