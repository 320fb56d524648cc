//! Jobs that write their own ledger, and what is asked about them.

use std::path::Path;

use client::{Client, Submitted, TaskFilter};
use model::views::{JobState, JobView, TaskState, TaskView};
use model::{ArrayRange, JobId, JobSpec, TaskSpec, Work};

use crate::cluster::wait_until;
use crate::ledger::Ledger;

/// Appends a line when it starts and one when it ends, in one write each, so that lines never mix.
pub fn ledger_script(ledger: &Path, seconds: &str) -> String {
    let ledger = ledger.display();
    format!(
        "#!/bin/sh\necho \"start $BATON_TASK $BATON_ATTEMPT $BATON_TOKEN $$\" >> {ledger}\n\
         sleep {seconds}\necho \"end $BATON_TASK $BATON_ATTEMPT $BATON_TOKEN $$\" >> {ledger}\n"
    )
}

/// A function of the shell that writes one line, and the first line of the script.
fn sayer(ledger: &Path) -> String {
    let ledger = ledger.display();
    format!("#!/bin/sh\nsay() {{ echo \"$1 $BATON_TASK $BATON_ATTEMPT $BATON_TOKEN $$\" >> {ledger}; }}\n")
}

/// Ends when there is a file `gate`, and from then on cannot be told to stop. Told before, it says so, and is not gone before
/// there is a file `leave`.
pub fn slow_to_leave_script(ledger: &Path, gate: &Path, leave: &Path) -> String {
    let (gate, leave) = (gate.display(), leave.display());
    let say = sayer(ledger);
    format!(
        "{say}trap 'say asked; while ! [ -e {leave} ]; do sleep 0.1; done; say stopped; exit 143' TERM\n\
         say start\nwhile ! [ -e {gate} ]; do sleep 0.1; done\n\
         trap '' TERM\nsay end\n"
    )
}

/// One of a gang: ends once so many of its gang have begun, so that a part of a gang never does.
pub fn member_script(ledger: &Path, members: u32) -> String {
    let (say, ledger) = (sayer(ledger), ledger.display());
    format!(
        "{say}say start\n\
         while [ $(grep -c \"^start ${{BATON_TASK%.*}}[.]\" {ledger}) -lt {members} ]; do sleep 0.1; done\nsay end\n"
    )
}

/// An array of so many tasks that write to the ledger.
pub fn ledger_job(ledger: &Path, tasks: u32, seconds: &str) -> JobSpec {
    let mut task = TaskSpec::new("work", Work::Script(ledger_script(ledger, seconds)));
    task.array = Some(ArrayRange { first: 0, last: tasks - 1, step: 1 });
    JobSpec::of("ledger", vec![task])
}

/// One task that waits for a file to appear, so that a test decides when it ends. It writes to the ledger too.
pub fn gated_job(ledger: &Path, gate: &Path, tasks: u32) -> JobSpec {
    let (log, gate) = (ledger.display(), gate.display());
    let script = format!(
        "#!/bin/sh\necho \"start $BATON_TASK $BATON_ATTEMPT $BATON_TOKEN $$\" >> {log}\n\
         while ! [ -e {gate} ]; do sleep 0.1; done\n\
         echo \"end $BATON_TASK $BATON_ATTEMPT $BATON_TOKEN $$\" >> {log}\n"
    );
    let mut task = TaskSpec::new("work", Work::Script(script));
    task.array = Some(ArrayRange { first: 0, last: tasks - 1, step: 1 });
    JobSpec::of("gated", vec![task])
}

/// A job of one task that runs a command.
pub fn command_job(name: &str, argv: &[&str]) -> JobSpec {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    JobSpec::of(name, vec![TaskSpec::new("task", Work::Run(argv))])
}

/// Waits until the job is final and returns it.
pub async fn finished(client: &Client, job: JobId) -> JobView {
    let mut last = None;
    wait_until(&format!("{job} is finished"), async || {
        last = client.get_job(job).await.ok().map(|read| read.value);
        last.as_ref().is_some_and(|job| job.state.is_final())
    })
    .await;
    last.expect("seen above")
}

/// Waits until the job is final and sees that all of it succeeded.
pub async fn succeeded(client: &Client, job: JobId) -> JobView {
    let view = finished(client, job).await;
    if view.state != JobState::Succeeded {
        let tasks = client.all_tasks(job, &TaskFilter::default()).await;
        panic!("{job} is {}: {tasks:#?}", view.state);
    }
    view
}

/// Each acknowledged job is there, succeeded, and its task ran to its end.
pub async fn assert_kept(client: &Client, acknowledged: &[Submitted], path: &Path) {
    for submitted in acknowledged {
        succeeded(client, submitted.job).await;
    }
    let ledger = Ledger::read(path);
    let ended = ledger.tasks_ended();
    for submitted in acknowledged {
        assert!(ended.contains(format!("{}.0", submitted.job).as_str()), "{} never ran", submitted.job);
    }
    assert!(ledger.started_twice().is_empty(), "{:?}", ledger.started_twice());
}

/// All tasks of a job, in order.
pub async fn tasks(client: &Client, job: JobId) -> Vec<TaskView> {
    let mut all = Vec::new();
    wait_until(&format!("the tasks of {job} can be read"), async || {
        match client.all_tasks(job, &TaskFilter::default()).await {
            Ok(tasks) => all = tasks,
            Err(_) => return false,
        }
        true
    })
    .await;
    all
}

/// Waits until a task is in this state and returns it.
pub async fn task_in(client: &Client, job: JobId, number: usize, state: TaskState) -> TaskView {
    let mut found = None;
    wait_until(&format!("{job}.{number} is {state}"), async || {
        let tasks = client.all_tasks(job, &TaskFilter::default()).await;
        found = tasks.ok().and_then(|tasks| tasks.get(number).cloned());
        found.as_ref().is_some_and(|task| task.state == state)
    })
    .await;
    found.expect("seen above")
}

/// Waits until so many attempts run, as their ledger says.
pub async fn running(ledger: &Path, count: usize) -> Ledger {
    let mut last = Ledger::default();
    wait_until(&format!("{count} attempts run"), async || {
        last = Ledger::read(ledger);
        last.running().len() >= count
    })
    .await;
    last
}
