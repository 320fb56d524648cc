//! `baton demo`: a real pipeline over real files on a real cluster whose leader is killed in the middle. It tells
//! what happened, draws it, and ends with 0 only if everything that Baton promises held.

mod ledger;
mod pipeline;
mod story;

use std::path::PathBuf;

use serde::Serialize;

use crate::app::App;
use crate::clock::Stopwatch;
use crate::cluster::{Cluster, Plan};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::paint::Tone;
use crate::output::{Face, svg};
use crate::signals;

/// Run a pipeline over files while the leader is killed, and check everything
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder whose files are counted; absent: this project's own, else the current one
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Where to draw what happened
    #[arg(long, value_name = "FILE", default_value = "baton-demo.svg")]
    svg: PathBuf,
    /// Members of the array
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(8..=999))]
    tasks: u32,
    /// How long each member takes at least, so that some run while the leader is gone
    #[arg(long, default_value = "2s", value_parser = crate::config::duration)]
    pace: std::time::Duration,
}

/// What was seen; every figure is measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub tasks: u64,
    pub succeeded: u64,
    /// Accepted tasks without an end in the ledger.
    pub lost: u64,
    /// Tasks with more than one start in the ledger.
    pub started_twice: u64,
    /// From SIGKILL of the leader to the first task start by the new one.
    pub failover_ms: Option<u64>,
    pub killed_pid: u32,
    /// Attempts that ran before the kill and after the takeover: same process, same number.
    pub running_across_failover: u64,
    pub refused_without_quorum: bool,
    pub correct: bool,
}

/// Fewer attempts than this running at the kill prove little.
pub const RUNNING_MIN: usize = 4;

impl Verdict {
    fn holds(&self) -> bool {
        self.tasks > 0
            && self.succeeded == self.tasks
            && self.lost == 0
            && self.started_twice == 0
            && self.failover_ms.is_some()
            && self.running_across_failover >= RUNNING_MIN as u64
            && self.refused_without_quorum
            && self.correct
    }
}

pub async fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    let face = &app.face;
    let watch = Stopwatch::start();
    let files = pipeline::Files::find(args.path.as_deref())?;
    face.note(&format!("{} files, {} bytes, under {}", files.paths.len(), files.bytes, files.root.display()));
    let cluster = Cluster::start(Plan::new("demo")).await?;
    let ready = watch.elapsed().as_secs_f64();
    face.note(&format!("3 replicas and 2 workers, each a process of its own, ready in {ready:.1} s"));
    let mut story = story::Story::new(cluster, face, files, args.tasks, args.pace);
    let told = tokio::select! {
        told = story.tell() => told?,
        () = signals::asked_to_end() => return Ok(Exit::INTERRUPTED),
    };
    let picture = svg::draw(&told.picture);
    std::fs::write(&args.svg, picture).map_err(|error| Fault::of_file("cannot draw", &args.svg, &error))?;
    drop(story);
    let verdict = told.verdict;
    let seconds = watch.elapsed().as_secs_f64();
    face.one(&verdict, if verdict.holds() { "ok" } else { "failed" }, || {
        summary(face, &verdict, args, seconds)
    })?;
    Ok(if verdict.holds() { Exit::DONE } else { Exit::FAILED })
}

fn summary(face: &Face, verdict: &Verdict, args: &Args, seconds: f64) -> String {
    let line = |holds: bool, text: String| {
        let (glyph, tone) = if holds { ("✓", Tone::Good) } else { ("✗", Tone::Bad) };
        format!("{} {text}\n", face.paint.tone(tone, glyph))
    };
    let Verdict { tasks, succeeded, lost, started_twice, killed_pid, .. } = verdict;
    let across = verdict.running_across_failover;
    let failover = match verdict.failover_ms {
        Some(ms) => format!("{ms} ms from the kill to the first task started by the new leader"),
        None => "no task was started by the new leader".to_owned(),
    };
    let mut text = line(succeeded == tasks, format!("{succeeded} of {tasks} tasks succeeded"));
    text += &line(*lost == 0, format!("{lost} lost, by the ledger that the tasks wrote"));
    text += &line(*started_twice == 0, format!("{started_twice} started twice, by the same ledger"));
    text += &line(
        across >= RUNNING_MIN as u64,
        format!(
            "{across} attempts ran on while the leader (pid {killed_pid}) was killed: same pid, same number"
        ),
    );
    text += &line(verdict.failover_ms.is_some(), failover);
    text += &line(
        verdict.refused_without_quorum,
        "without a majority a submit was refused as NOT accepted; healed, the same request id gave one job"
            .to_owned(),
    );
    text += &line(verdict.correct, "the result equals a direct computation".to_owned());
    text + &format!("{}   {seconds:.1} s in all\n", args.svg.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Verdict {
        Verdict {
            tasks: 50,
            succeeded: 50,
            lost: 0,
            started_twice: 0,
            failover_ms: Some(412),
            killed_pid: 4127,
            running_across_failover: 8,
            refused_without_quorum: true,
            correct: true,
        }
    }

    #[test]
    fn each_broken_promise_fails_the_demo() {
        assert!(good().holds());
        let broken = [
            Verdict { succeeded: 49, ..good() },
            Verdict { lost: 1, ..good() },
            Verdict { started_twice: 1, ..good() },
            Verdict { failover_ms: None, ..good() },
            Verdict { running_across_failover: 3, ..good() },
            Verdict { refused_without_quorum: false, ..good() },
            Verdict { correct: false, ..good() },
            Verdict::default(),
        ];
        for verdict in broken {
            assert!(!verdict.holds(), "{verdict:?}");
        }
    }

    #[test]
    fn the_object_has_the_agreed_fields() {
        let json = serde_json::to_value(good()).unwrap();
        let names: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let agreed = [
            "tasks",
            "succeeded",
            "lost",
            "started_twice",
            "failover_ms",
            "killed_pid",
            "running_across_failover",
            "refused_without_quorum",
            "correct",
        ];
        assert_eq!(names.len(), agreed.len());
        assert!(agreed.iter().all(|name| names.contains(name)), "{names:?}");
    }
}
