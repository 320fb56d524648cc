//! Jobs that write their own ledger.

use std::path::Path;

use client::Client;
use model::views::JobView;
use model::{ArrayRange, JobId, JobSpec, Resources, TaskSpec, Work};

use crate::cluster::wait_until;

/// Appends a line when it starts and one when it ends, in one write each, so that lines never mix.
pub fn ledger_script(ledger: &Path, seconds: &str) -> String {
    let ledger = ledger.display();
    format!(
        "#!/bin/sh\necho \"start $BATON_TASK $BATON_ATTEMPT $BATON_TOKEN $$\" >> {ledger}\n\
         sleep {seconds}\necho \"end $BATON_TASK $BATON_ATTEMPT $BATON_TOKEN $$\" >> {ledger}\n"
    )
}

/// An array of so many tasks that write to the ledger.
pub fn ledger_job(ledger: &Path, tasks: u32, seconds: &str) -> JobSpec {
    let mut task = TaskSpec::new("work", Work::Script(ledger_script(ledger, seconds)));
    task.array = Some(ArrayRange { first: 0, last: tasks - 1, step: 1 });
    task.resources = Resources::cores(1);
    JobSpec::of("ledger", vec![task])
}

/// Waits until the job is final and returns it.
pub async fn finished(client: &Client, job: JobId) -> JobView {
    let mut last = None;
    wait_until(&format!("{job} is finished"), async || {
        last = client.get_job(job, false).await.ok();
        last.as_ref().is_some_and(|job| job.state.is_final())
    })
    .await;
    last.expect("seen above")
}
