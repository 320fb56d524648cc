//! A cluster under measurement, and what all scenarios do with it.

use std::time::Duration;

use client::{Client, Options};
use model::size::PARTS;
use model::{ArrayRange, JobSpec, TaskSpec, Work};

use super::Args;
use super::figure::Figure;
use super::scrape::{Scrape, scrape};
use super::usage::resident;
use crate::app::App;
use crate::clock::Stopwatch;
use crate::cluster::{Cluster, Plan};
use crate::fault::Fault;
use crate::output::progress::Rounds;

/// For a round; what takes longer has hung.
const ROUND_MAX: Duration = Duration::from_secs(600);

pub struct Bench<'a> {
    /// Absent where the cluster is not ours.
    pub cluster: Option<Cluster>,
    pub app: &'a App,
    pub client: Client,
    pub rounds: u32,
    pub progress: Rounds,
    scale: f64,
}

/// It needs no core to speak of, so that what is measured is the scheduler and not the number of places.
pub fn noop() -> TaskSpec {
    let mut task = TaskSpec::new("noop", Work::Noop);
    task.resources.cpu = PARTS / 100;
    task
}

pub fn array_of(mut task: TaskSpec, count: u64) -> JobSpec {
    let last = u32::try_from(count.max(1) - 1).unwrap_or(u32::MAX - 1);
    task.array = Some(ArrayRange { first: 0, last, step: 1 });
    JobSpec::of("bench", vec![task])
}

pub fn cannot(error: client::Error) -> Fault {
    Fault::reading("cannot measure", error)
}

impl<'a> Bench<'a> {
    /// On a cluster that is started by this plan; without one: on the one that is there.
    pub async fn start(
        plan: Option<Plan>,
        args: &Args,
        app: &'a App,
        progress: Rounds,
    ) -> Result<Bench<'a>, Fault> {
        let cluster = match plan {
            Some(plan) => Some(Cluster::start(plan).await?),
            None => None,
        };
        let addresses = cluster.as_ref().map_or_else(|| app.config.servers.clone(), Cluster::addresses);
        let mut options = Options::new(addresses);
        options.user.clone_from(&app.config.user);
        options.via = "cli".to_owned();
        options.deadline = Duration::from_secs(60);
        let client = Client::with(options);
        Ok(Bench { cluster, app, client, rounds: args.rounds, progress, scale: args.scale })
    }

    pub async fn size(&self) -> Result<(usize, usize), Fault> {
        let status = self.client.cluster_status().await.map_err(cannot)?;
        Ok((status.members.len(), status.workers_live as usize))
    }

    /// What a replica says of itself.
    pub async fn scrape(&self, place: usize) -> Result<Scrape, Fault> {
        scrape(self.own()?.ports[place].http).await
    }

    pub async fn scrape_all(&self) -> Result<Vec<Scrape>, Fault> {
        futures::future::try_join_all((0..self.own()?.replicas.len()).map(|place| self.scrape(place))).await
    }

    /// The place of the leader.
    pub async fn leader(&self) -> Result<usize, Fault> {
        self.own()?.leader().await.ok_or_else(|| Fault::failed("there is no leader"))
    }

    /// Memory of each replica, in bytes.
    pub fn resident(&self) -> Result<Vec<u64>, Fault> {
        self.own()?.replicas.iter().map(resident).collect()
    }

    /// Waits until no job is left that has not ended.
    pub async fn all_done(&self) -> Result<(), Fault> {
        let watch = Stopwatch::start();
        while self.client.cluster_status().await.map_err(cannot)?.unfinished_jobs > 0 {
            if watch.elapsed() > ROUND_MAX {
                return Err(Fault::failed("the jobs do not come to their end"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// The cluster, where it is ours.
    pub fn own(&self) -> Result<&Cluster, Fault> {
        self.cluster.as_ref().ok_or_else(|| Fault::usage("this is measured on a cluster of our own only"))
    }

    pub fn scaled(&self, count: u64) -> u64 {
        ((count as f64 * self.scale) as u64).max(1)
    }

    /// A client that asks the leader first: what is measured is not a hop more.
    pub async fn nearest(&self) -> Result<Client, Fault> {
        let status = self.client.cluster_status().await.map_err(cannot)?;
        let leader = status.members.iter().find(|member| Some(&member.name) == status.leader.as_ref());
        let mut options = self.client.options().clone();
        if let Some(leader) = leader {
            options.addresses.retain(|address| *address != leader.api_address);
            options.addresses.insert(0, leader.api_address.clone());
        }
        Ok(Client::with(options))
    }

    /// Runs one round to warm up and then those that count; each gives how long it took for `count`.
    pub async fn rates(
        &self,
        scenario: &'static str,
        name: &str,
        unit: &'static str,
        count: u64,
        mut round: impl AsyncFnMut(&Client, u64) -> Result<Duration, Fault>,
    ) -> Result<Figure, Fault> {
        let client = self.nearest().await?;
        self.progress.begin(name, self.rounds.into());
        round(&client, (count / 4).max(1)).await?;
        let mut rates = Vec::new();
        for _ in 0..self.rounds {
            self.progress.next();
            let took = tokio::time::timeout(ROUND_MAX, round(&client, count)).await;
            let took = took.map_err(|_| Fault::failed(format!("{name}: a round has hung")))??;
            rates.push(count as f64 / took.as_secs_f64().max(1e-9));
        }
        Ok(Figure::of_rounds(scenario, name, unit, count, rates))
    }

    /// From the submit to the end of the job.
    pub async fn one_job(&self, client: &Client, spec: &JobSpec) -> Result<Duration, Fault> {
        let watch = Stopwatch::start();
        let job = client.submit(spec).await.map_err(cannot)?.job;
        let ended = crate::verbs::wait::wait(&self.quiet(client), &[job]).await?;
        let took = watch.elapsed();
        let succeeded: u64 = ended.iter().map(|job| job.counts.succeeded).sum();
        check_lost(spec.tasks_count(), succeeded)?;
        Ok(took)
    }

    /// The same, without a progress bar and over this client.
    pub fn quiet(&self, client: &Client) -> App {
        let face = crate::output::Face { is_terminal_err: false, ..self.app.face };
        App { face, config: self.app.config.clone(), client: client.clone() }
    }
}

pub fn check_lost(accepted: u64, succeeded: u64) -> Result<(), Fault> {
    if accepted == succeeded {
        return Ok(());
    }
    let text = format!("{accepted} tasks were accepted and {succeeded} succeeded: nothing is reported");
    Err(Fault::new("lost", crate::exit::Exit::FAILED, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_task_is_no_figure() {
        assert!(check_lost(10, 10).is_ok());
        assert_eq!(check_lost(10, 9).unwrap_err().code, "lost");
        assert_eq!(array_of(noop(), 100_000).tasks_count(), 100_000);
    }
}
