//! The demo's story, act by act, on a cluster of child processes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use client::{Client, Happened, JobFilter, TaskFilter};
use model::views::{TaskState, TaskView};
use model::{JobId, JobSpec, TaskId, TaskSpec, Work};

use super::ledger::{Ledger, Started, uptime};
use super::pipeline::{Files, Pipeline};
use super::{RUNNING_MIN, Verdict};
use crate::clock::Stopwatch;
use crate::cluster::{Cluster, Kill, Takeover, failover, send_probe};
use crate::fault::Fault;
use crate::output::Face;
use crate::output::svg::{Band, Bar, Lane, Picture};

/// For each act; an idle machine needs a tenth of it.
const ACT_MAX: Duration = Duration::from_secs(60);
const CALL: Duration = Duration::from_secs(10);
/// A submit without a majority is given up after this.
const REFUSED_WITHIN: Duration = Duration::from_millis(1_500);
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub struct Story<'a> {
    cluster: Cluster,
    client: Client,
    face: &'a Face,
    files: Files,
    shares: u32,
    pace: Duration,
    folder: PathBuf,
}

pub struct Told {
    pub verdict: Verdict,
    pub picture: Picture,
}

/// The leader's end, and what was so just before and after.
struct Act {
    kill: Kill,
    takeover: Takeover,
    at_uptime: f64,
    took_over_uptime: f64,
    running: BTreeMap<TaskId, Started>,
    /// Submitted while nobody led.
    probes: Vec<TaskView>,
}

impl<'a> Story<'a> {
    pub fn new(cluster: Cluster, face: &'a Face, files: Files, shares: u32, pace: Duration) -> Story<'a> {
        let client = cluster.client(CALL);
        let folder = cluster.folder().join("pipeline");
        Story { cluster, client, face, files, shares, pace, folder }
    }

    pub async fn tell(&mut self) -> Result<Told, Fault> {
        let fault = |error| Fault::of_file("cannot work", &self.folder, &error);
        std::fs::create_dir_all(&self.folder).map_err(fault)?;
        // A copy, so that nobody edits a file between the tasks' reading and our own.
        self.files = self.files.copy(&self.folder.join("files"))?;
        let spec = self.pipeline().spec();
        let submitted = self.client.submit(&spec).await;
        let submitted = submitted.map_err(|error| Fault::reading("cannot submit the pipeline", error))?;
        let job = submitted.job;
        self.face.note(&format!(
            "{job}: list -> {} tasks -> sum; {} tasks accepted",
            self.shares,
            spec.tasks_count()
        ));
        self.reach(job, self.shares * 3 / 10).await?;
        let act = self.kill_leader(job).await?;
        self.finish(job).await?;
        let refused_without_quorum = self.lose_majority().await?;
        let tasks = self.client.all_tasks(job, &TaskFilter::default()).await;
        let tasks = tasks.map_err(|error| Fault::reading("cannot list the tasks", error))?;
        let ledger = Ledger::read(&self.pipeline().ledger(), job);
        let across = self.across(&act, &ledger, &tasks);
        let all: Vec<TaskView> = tasks.iter().chain(&act.probes).cloned().collect();
        let verdict = Verdict {
            tasks: spec.tasks_count(),
            succeeded: tasks.iter().filter(|task| task.state == TaskState::Succeeded).count() as u64,
            lost: spec.tasks_count() - ledger.ended().len() as u64,
            started_twice: ledger.started_twice() as u64,
            failover_ms: failover(&act.kill, &act.takeover, &all).map(|took| took.as_millis() as u64),
            killed_pid: act.kill.pid,
            running_across_failover: across.len() as u64,
            refused_without_quorum,
            correct: self.is_correct()?,
        };
        Ok(Told { verdict, picture: picture(&act, &ledger, &tasks, &across) })
    }

    fn pipeline(&self) -> Pipeline<'_> {
        Pipeline { files: &self.files, folder: &self.folder, shares: self.shares, pace: self.pace }
    }

    /// Waits until so many members have ended and enough others run.
    async fn reach(&self, job: JobId, ended: u32) -> Result<(), Fault> {
        let watch = Stopwatch::start();
        while watch.elapsed() < ACT_MAX {
            let ledger = Ledger::read(&self.pipeline().ledger(), job);
            // Those about to end would prove nothing, whatever the leader does.
            let now = uptime();
            let is_fresh = |started: &&Started| now - started.from < self.pace.as_secs_f64() / 3.0;
            let fresh = ledger.running().values().filter(is_fresh).count();
            // The task `list` has ended before any member.
            if ledger.ended().len() > ended as usize && fresh >= RUNNING_MIN {
                // The others of the same wave begin a moment later.
                tokio::time::sleep(self.pace / 8).await;
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(Fault::failed(format!("the array did not get to {ended} within {} s", ACT_MAX.as_secs())))
    }

    async fn kill_leader(&mut self, job: JobId) -> Result<Act, Fault> {
        let running = Ledger::read(&self.pipeline().ledger(), job).running();
        let at_uptime = uptime();
        let watch = Stopwatch::start();
        let kill = self.cluster.kill_leader().await?;
        self.face.note(&format!(
            "kill -9 {}: leader {}, while {} attempts run",
            kill.pid,
            kill.name,
            running.len()
        ));
        let patient = self.cluster.client(ACT_MAX);
        let watched = async {
            let takeover = self.cluster.takeover(&kill).await?;
            Ok((takeover, uptime(), watch.elapsed().as_millis()))
        };
        let ((takeover, took_over_uptime, ms), probes) = futures::try_join!(watched, send_probe(&patient))?;
        let alive = running.values().filter(|started| is_alive(started.pid)).count();
        self.face.note(&format!(
            "{} leads after {ms} ms; {alive} of those processes are still at it",
            takeover.leader
        ));
        Ok(Act { kill, takeover, at_uptime, took_over_uptime, running, probes })
    }

    async fn finish(&self, job: JobId) -> Result<(), Fault> {
        let watch = Stopwatch::start();
        while watch.elapsed() < ACT_MAX {
            if let Ok(view) = self.client.get_job(job).await
                && view.value.state.is_final()
            {
                let text = crate::verbs::wait::verdict(&view.value);
                self.face.note(&text);
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(Fault::failed(format!("{job} has not finished within {} s", ACT_MAX.as_secs())))
    }

    /// Kills until a majority is gone: a submit must be refused as not accepted. Then all come back, the same request
    /// id is sent again, twice, and there must be one job.
    async fn lose_majority(&mut self) -> Result<bool, Fault> {
        let spec = JobSpec::of("demo-refused", vec![TaskSpec::new("noop", Work::Noop)]);
        let id = self.client.mint();
        let kill = self.cluster.kill_leader().await?;
        self.face.note(&format!("kill -9 {}: {}, so that 1 of 3 replicas is left", kill.pid, kill.name));
        self.until_noticed(&kill).await;
        let refused = self.cluster.client(REFUSED_WITHIN).with_request_id(id).submit(&spec).await;
        let was_refused = match &refused {
            Ok(submitted) => {
                self.face.note(&format!("{} was accepted without a majority", submitted.job));
                false
            }
            Err(error) => {
                let not_done = error.happened() == Happened::No;
                let outcome = if not_done { "NOT accepted" } else { "UNKNOWN whether it was accepted" };
                self.face.note(&format!("submit: error[{}]: {error}: {outcome}", error.code()));
                not_done
            }
        };
        let revived = self.cluster.revive()?;
        self.face.note(&format!("revived {}", revived.join(" and ")));
        let cannot = |error| Fault::reading("cannot submit again", error);
        let patient = self.cluster.client(ACT_MAX).with_request_id(id);
        let first = patient.submit(&spec).await.map_err(cannot)?;
        let second = patient.submit(&spec).await.map_err(cannot)?;
        let filter = JobFilter { name: Some(spec.name.clone()), ..JobFilter::default() };
        let known = self.client.list_jobs(&filter, 10, None).await.map_err(cannot)?.value.items.len();
        self.face
            .note(&format!("the same request id sent twice: {} and {}, {known} job", first.job, second.job));
        self.finish(first.job).await?;
        Ok(was_refused && first.job == second.job && known == 1)
    }

    /// A follower that still believes in the dead leader could only say that it does not know.
    async fn until_noticed(&self, kill: &Kill) {
        let watch = Stopwatch::start();
        while watch.elapsed() < CALL {
            let leader = self.cluster.status().await.and_then(|status| status.leader);
            if leader.as_ref() != Some(&kill.name) {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Attempts that ran before the kill and ended after the takeover: same process by the ledger, same number by the
    /// cluster.
    fn across(&self, act: &Act, ledger: &Ledger, tasks: &[TaskView]) -> Vec<TaskId> {
        let numbers: BTreeMap<TaskId, u32> = tasks.iter().map(|task| (task.id, task.attempt)).collect();
        let ended_after = |task: &TaskId| {
            let starts = ledger.tasks.get(task).into_iter().flatten();
            starts.filter_map(|start| start.to).any(|to| to >= act.took_over_uptime)
        };
        let is_same = |(task, was): (&TaskId, &Started)| {
            let same_number = numbers.get(task) == Some(&was.attempt);
            (same_number && ledger.ran_through(*task, was) && ended_after(task)).then_some(*task)
        };
        act.running.iter().filter_map(is_same).collect()
    }

    fn is_correct(&self) -> Result<bool, Fault> {
        let found = std::fs::read_to_string(self.pipeline().result()).unwrap_or_default();
        Ok(found == self.files.expected()?)
    }
}

fn is_alive(pid: u32) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), None).is_ok()
}

fn picture(act: &Act, ledger: &Ledger, tasks: &[TaskView], across: &[TaskId]) -> Picture {
    let workers: BTreeMap<TaskId, String> =
        tasks.iter().filter_map(|task| Some((task.id, task.worker.clone()?))).collect();
    let mut lanes: BTreeMap<String, Lane> = BTreeMap::new();
    for (task, starts) in &ledger.tasks {
        let name = workers.get(task).cloned().unwrap_or_default();
        let lane = lanes.entry(name.clone()).or_insert_with(|| Lane { name, bars: Vec::new() });
        for start in starts {
            let (from, to) = (start.from, start.to.unwrap_or(start.from));
            let label = format!("{task}#{} pid {}", start.attempt, start.pid);
            lane.bars.push(Bar { from, to, label, is_marked: across.contains(task) });
        }
    }
    let gap = Band {
        from: act.at_uptime,
        to: act.took_over_uptime,
        label: format!("{} killed, {} leads", act.kill.name, act.takeover.leader),
    };
    let title = format!(
        "{} tasks over a killed leader; marked: the {} attempts that ran across",
        tasks.len(),
        across.len()
    );
    Picture { title, lanes: lanes.into_values().collect(), bands: vec![gap] }
}
