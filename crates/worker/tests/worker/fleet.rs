//! A fleet of one, against the leader that the test plays.

use std::time::Duration;

use model::{Capacity, Resources, TaskSpec, Work};
use wire::v1;
use wire::v1::leader_message::Message as Say;
use worker::fleet::{Config, Fleet};

use crate::leader::{Leader, order};

async fn until(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it comes to pass");
}

#[tokio::test]
async fn it_attaches_runs_noops_and_comes_back_under_its_session() {
    let mut leader = Leader::start().await;
    let servers = vec![leader.address.clone()];
    let capacity = Capacity::of(Resources::cores(4));
    let fleet = Fleet::start(&Config { workers: 1, servers, capacity }).unwrap();
    leader.until(|leader| !leader.hellos.is_empty()).await;
    assert_eq!(
        (leader.hellos[0].worker.as_str(), &leader.hellos[0].kinds[..]),
        ("fleet-00001", &["noop".to_owned()][..])
    );
    until(|| fleet.attached(1) == 1 && fleet.renewals() > 0).await;

    let mut many = order(1, TaskSpec::new("n", Work::Noop));
    many.tasks = Some(v1::Run { first: 0, len: 1_000 });
    leader.say(Say::Run(many));
    leader.say(Say::Run(order(2, TaskSpec::new("s", Work::Sleep(Duration::from_secs(60))))));
    leader.until(|leader| leader.ends.len() == 2).await;
    let verdicts: Vec<String> = leader.ends.values().map(verdict).collect();
    assert_eq!(verdicts, ["succeeded", "failed"]);

    leader.hang_up();
    leader.until(|leader| leader.hellos.len() == 2).await;
    assert_eq!((leader.hellos[1].session, leader.hellos[1].watermark), (Some(1), 2));
    until(|| fleet.attached(1) == 1).await;
    assert_eq!((fleet.sessions_lost(), fleet.refused(), fleet.connects()), (0, 0, 2));

    leader.say(Say::SessionEnded(v1::SessionEnded {}));
    leader.until(|leader| leader.hellos.len() == 3).await;
    assert_eq!((leader.hellos[2].session, fleet.sessions_lost()), (None, 1));
}

fn verdict(report: &v1::Report) -> String {
    match &report.news {
        Some(v1::report::News::Ended(ended)) => ended.verdict.clone(),
        other => panic!("{other:?}"),
    }
}
