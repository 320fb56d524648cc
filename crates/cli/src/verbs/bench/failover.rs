//! The leader is killed, or hands over, while tasks run.

use std::time::Duration;

use client::TaskFilter;
use model::size::PARTS;
use model::{TaskSpec, Work};

use super::figure::{Figure, Times};
use super::harness::{Bench, array_of, cannot, check_lost};
use crate::clock::Stopwatch;
use crate::cluster::{failover, probe, send_probe};
use crate::fault::Fault;

/// Tasks of one failover round: some seconds of work.
const UNDER_FAILOVER: u64 = 400;
/// Hand-overs for each kill.
const TRANSFERS: u32 = 2;

impl Bench<'_> {
    /// Each round has a load of its own; the leader is killed in the middle of it.
    pub async fn failovers(&mut self, kills: u32) -> Result<Vec<Figure>, Fault> {
        let mut transfers = Times::default();
        self.progress.begin("planned transfers", (kills * TRANSFERS).into());
        for _ in 0..kills * TRANSFERS {
            self.progress.next();
            transfers.record(self.one_transfer().await?);
        }
        let mut times = Times::default();
        self.progress.begin("SIGKILLs of the leader", kills.into());
        for _ in 0..kills {
            self.progress.next();
            times.record(self.one_failover().await?);
        }
        Ok(vec![
            Figure::of_times(
                "failover",
                "planned transfer: call to the next acknowledged submit",
                &transfers,
            ),
            Figure::of_times("failover", "SIGKILL of the leader to the first start by the next", &times),
        ])
    }

    /// From the call to the acknowledgement of a submit by the new leader.
    async fn one_transfer(&mut self) -> Result<Duration, Fault> {
        let watch = Stopwatch::start();
        self.client.transfer_leader(None).await.map_err(cannot)?;
        self.nearest().await?.submit(&probe()).await.map_err(cannot)?;
        let took = watch.elapsed();
        if let Some(cluster) = &mut self.cluster {
            cluster.wait_ready().await?;
            cluster.wait_whole().await?;
        }
        Ok(took)
    }

    async fn one_failover(&mut self) -> Result<Duration, Fault> {
        let mut task = TaskSpec::new("sleep", Work::Sleep(Duration::from_millis(50)));
        task.resources.cpu = PARTS * 95 / 100;
        let spec = array_of(task, UNDER_FAILOVER);
        let job = self.client.submit(&spec).await.map_err(cannot)?.job;
        while self.client.get_job(job).await.map_err(cannot)?.value.counts.succeeded < UNDER_FAILOVER / 8 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let client = self.client.clone();
        let app = self.quiet(&client);
        let cluster =
            self.cluster.as_mut().ok_or_else(|| Fault::usage("failover needs a cluster of our own"))?;
        let kill = cluster.kill_leader().await?;
        let (takeover, mut tasks) = futures::try_join!(cluster.takeover(&kill), send_probe(&client))?;
        let ended = crate::verbs::wait::wait(&app, &[job]).await?;
        check_lost(UNDER_FAILOVER, ended.iter().map(|job| job.counts.succeeded).sum())?;
        tasks.extend(client.all_tasks(job, &TaskFilter::default()).await.map_err(cannot)?);
        cluster.revive()?;
        cluster.wait_ready().await?;
        cluster.wait_whole().await?;
        let none = || Fault::failed(format!("{} started nothing of {job}", takeover.leader));
        failover(&kill, &takeover, &tasks).ok_or_else(none)
    }
}
