//! A replica that has been elected leads once it has applied the first entry of its term.

use std::time::Duration;

use futures::FutureExt;
use replica::{Leadership, Status};
use tokio::sync::watch;

use crate::api::Running;

/// That entry takes one commit; where it takes longer, whoever asks is told to come again.
const LEADS_WITHIN: Duration = Duration::from_millis(100);

impl Running {
    /// If this replica has been elected, until it leads or another has been, and not for long: to be refused and to come again
    /// would take longer.
    pub async fn until_leads(&self, limit: Duration) {
        let leadership = self.replica.leadership();
        if leadership.borrow().term().is_none() {
            // Rarely needed: every write would carry its place about.
            let limit = limit.min(LEADS_WITHIN);
            until_leads(leadership, self.replica.changes(), is_elected, limit).boxed().await;
        }
    }
}

async fn until_leads<S>(
    mut leadership: watch::Receiver<Leadership>,
    mut changes: watch::Receiver<S>,
    is_elected: fn(&S) -> bool,
    limit: Duration,
) {
    if !is_elected(&changes.borrow()) {
        return;
    }
    tokio::select! {
        _ = leadership.wait_for(|leadership| leadership.term().is_some()) => {}
        _ = changes.wait_for(|status| !is_elected(status)) => {}
        () = tokio::time::sleep(limit) => {}
    }
}

pub fn is_elected(status: &Status) -> bool {
    status.leader.as_ref().is_some_and(|leader| leader.id == status.id)
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;

    use model::Moment;

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    struct World {
        leadership: watch::Sender<Leadership>,
        elected: watch::Sender<bool>,
    }

    fn world(elected: bool) -> (World, impl Future<Output = ()>) {
        let (leadership, leads) = watch::channel(Leadership::NotLeading);
        let (elected, changes) = watch::channel(elected);
        (World { leadership, elected }, until_leads(leads, changes, |elected| *elected, LONG))
    }

    #[tokio::test]
    async fn who_was_elected_is_waited_for_until_it_leads() {
        let (world, waited) = world(true);
        let mut waited = pin!(waited);
        assert!((&mut waited).now_or_never().is_none());
        world.leadership.send_replace(Leadership::Leading { term: 3, since: Moment(0) });
        assert!(waited.now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_leads_by_the_time_it_is_looked_at_is_not_waited_for() {
        let (world, waited) = world(true);
        world.leadership.send_replace(Leadership::Leading { term: 3, since: Moment(0) });
        assert!(waited.now_or_never().is_some());
    }

    #[tokio::test]
    async fn nobody_waits_for_who_is_not_elected_or_not_any_more() {
        assert!(world(false).1.now_or_never().is_some());
        let (world, waited) = world(true);
        let mut waited = pin!(waited);
        assert!((&mut waited).now_or_never().is_none());
        world.elected.send_replace(false);
        assert!(waited.now_or_never().is_some());
    }

    #[tokio::test]
    async fn nor_for_longer_than_the_limit() {
        let (_leadership, leads) = watch::channel(Leadership::NotLeading);
        let (_elected, changes) = watch::channel(true);
        until_leads(leads, changes, |elected| *elected, Duration::from_millis(1)).await;
    }
}
