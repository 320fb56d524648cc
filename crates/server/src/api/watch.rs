//! Watches: events after a position, from the ring of whichever replica is asked.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{StreamExt, stream};
use machine::Event;
use model::{JobId, Moment};
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Code, Request, Response, Status};
use wire::error::{Failure, code};
use wire::v1;
use wire::v1::watch_reply::Event as WireEvent;

use crate::api::call::Call;
use crate::api::{Api, Replies};
use crate::ring::{Page, Position, Ring};

/// Events taken from the ring at a time.
const PAGE: usize = 256;

/// How often a watcher without events looks whether its replica can serve.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// For how long it may not: longer than any election.
const UNREADY_MAX: Duration = Duration::from_secs(5);

/// One watcher. It holds a page at most: what it is too slow for stays in the ring, and once it is gone from there
/// the watcher is told so and ends.
struct Watcher {
    api: Api,
    ring: Ring,
    job: Option<JobId>,
    /// Everything up to here has been handed over.
    after: Position,
    page: VecDeque<(Position, Event)>,
    begun: bool,
    over: bool,
    /// Since when this replica cannot serve, as far as has been noticed.
    unready_since: Option<Moment>,
    _place: OwnedSemaphorePermit,
}

impl Api {
    pub async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Replies<v1::WatchReply>>, Status> {
        let call = Call::of(self, request.metadata());
        let watcher = self.watcher(&call, request.into_inner()).await;
        self.answer(watcher.map(|watcher| {
            stream::unfold(watcher, |mut watcher| async move {
                watcher.next().await.map(|reply| (reply.map_err(Status::from), watcher))
            })
            .take_until(self.stopped())
            .boxed()
        }))
    }

    async fn watcher(&self, call: &Call, asked: v1::WatchRequest) -> Result<Watcher, Failure> {
        let running = self.running_by(&call.deadline).await?;
        let place = self.shared.watches.clone().try_acquire_owned().map_err(|_| {
            let limit = self.shared.config.limits.watches_max;
            Failure::new(
                code::LIMIT,
                Code::ResourceExhausted,
                format!("this replica has watches_max = {limit} watches open"),
            )
            .fix("watch through another replica, or close some")
        })?;
        let after = asked.after.map(|at| Position { index: at.index, place: at.place });
        Ok(Watcher {
            after: after.unwrap_or_else(|| running.ring.newest()),
            api: self.clone(),
            ring: running.ring.clone(),
            job: (asked.job > 0).then_some(JobId(asked.job)),
            page: VecDeque::new(),
            begun: false,
            over: false,
            unready_since: None,
            _place: place,
        })
    }
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<v1::WatchReply, Failure>> {
        if self.over {
            return None;
        }
        if !std::mem::replace(&mut self.begun, true) {
            return Some(Ok(reply(self.after, WireEvent::Begin(v1::Begin {}))));
        }
        loop {
            if let Some((at, event)) = self.page.pop_front() {
                return Some(Ok(reply(at, WireEvent::from(&event))));
            }
            match self.ring.page(self.after, self.job, PAGE) {
                Page::Compacted { oldest } => {
                    self.over = true;
                    let oldest = Some(wire_position(oldest));
                    return Some(Ok(reply(self.after, WireEvent::Compacted(v1::Compacted { oldest }))));
                }
                Page::Events { events, through } if events.is_empty() && through == self.after => {
                    if let Err(failure) = self.wait().await {
                        self.over = true;
                        return Some(Err(failure));
                    }
                }
                Page::Events { events, through } => {
                    self.page = events.into();
                    self.after = through;
                }
            }
        }
    }
}

impl Watcher {
    /// Returns when there is something new, or after a while. At a replica that has lost its cluster there never would
    /// be: that is said, so that the watcher goes on elsewhere.
    async fn wait(&mut self) -> Result<(), Failure> {
        let news = self.ring.wait_beyond(self.after);
        let has_come = tokio::time::timeout(LOOK_EVERY, news).await.is_ok();
        let why = match self.api.readiness() {
            Err(why) if !has_come => why,
            _ => {
                self.unready_since = None;
                return Ok(());
            }
        };
        let now = self.api.shared().clock.moment();
        let since = *self.unready_since.get_or_insert(now);
        if now.since(since) < UNREADY_MAX {
            return Ok(());
        }
        Err(Failure::no_leader(format!("this replica has had no events for lack of a cluster: {why}")))
    }
}

fn wire_position(position: Position) -> v1::Position {
    v1::Position { index: position.index, place: position.place }
}

fn reply(at: Position, event: WireEvent) -> v1::WatchReply {
    v1::WatchReply { at: Some(wire_position(at)), event: Some(event) }
}
