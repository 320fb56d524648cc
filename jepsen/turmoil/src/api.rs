//! A client of real servers: the public API over connections of the simulated network.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use machine::{Op, Reply, Write};
use model::JobId;
use tokio::time;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use wire::error::{Failure, Happened, code};
use wire::v1;
use wire::v1::baton_client::BatonClient;

use crate::door::{ReadAnswer, WriteAnswer};
use crate::history::Acknowledged;
use crate::world::{API_PORT, NAMES};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const KEEPALIVE: Duration = Duration::from_secs(1);

/// One connection per replica, made when it is first needed.
pub struct Channels {
    channels: BTreeMap<usize, Channel>,
    hosts: usize,
}

/// A connection to the API of a host, made when it is first used and again whenever it must.
pub fn channel(host: usize) -> Channel {
    let connector = tower::service_fn(move |_| async move {
        let connecting = turmoil::net::TcpStream::connect((NAMES[host], API_PORT));
        match time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.map(TokioIo::new),
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        }
    });
    Endpoint::from_static("http://replica")
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .connect_with_connector_lazy(connector)
}

impl Channels {
    pub fn new(hosts: usize) -> Channels {
        Channels { channels: BTreeMap::new(), hosts }
    }

    fn stub(&mut self, host: usize) -> BatonClient<Channel> {
        debug_assert!(host < self.hosts);
        BatonClient::new(self.channels.entry(host).or_insert_with(|| channel(host)).clone())
    }

    pub async fn write(&mut self, host: usize, write: &Write, patience: Duration) -> WriteAnswer {
        let stub = self.stub(host);
        let sent = time::timeout(patience + Duration::from_secs(1), send(stub, write, patience)).await;
        match sent {
            Ok(Ok((index, reply))) => {
                WriteAnswer::Done(Acknowledged { request: write.request, index, reply })
            }
            Ok(Err(status)) => refused(&Failure::from(&status)),
            Err(_) => WriteAnswer::Unknown,
        }
    }

    pub async fn read(&mut self, host: usize, patience: Duration) -> Option<ReadAnswer> {
        let mut stub = self.stub(host);
        let mut request = Request::new(v1::ReadRequest { stale: false });
        request.set_timeout(patience);
        let read = time::timeout(patience + Duration::from_secs(1), stub.list_queues(request)).await;
        let reply = read.ok()?.ok()?.into_inner();
        Some(ReadAnswer { index: reply.index, found: true })
    }
}

fn refused(failure: &Failure) -> WriteAnswer {
    let passing = [code::NO_LEADER, code::NOT_LEADER, code::UNAVAILABLE, code::OVERLOADED];
    match failure.happened {
        Happened::Maybe => WriteAnswer::Unknown,
        Happened::No if passing.contains(&failure.code.as_str()) => WriteAnswer::NotHere(None),
        Happened::No => WriteAnswer::Refused,
    }
}

fn header(write: &Write) -> Option<v1::WriteHeader> {
    Some(v1::WriteHeader {
        request_id: write.request.to_string(),
        user: write.actor.user.clone(),
        via: write.actor.via.clone(),
        ..v1::WriteHeader::default()
    })
}

fn timed<T>(message: T, patience: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(patience);
    request
}

async fn send(
    mut stub: BatonClient<Channel>,
    write: &Write,
    patience: Duration,
) -> Result<(u64, Reply), Status> {
    let header = header(write);
    let jobs = |jobs: &[JobId]| jobs.iter().map(|job| job.0).collect::<Vec<_>>();
    let changed = match &write.op {
        Op::Submit { spec, .. } => {
            let message = v1::SubmitRequest { header, spec: Some((&**spec).into()) };
            let reply = stub.submit(timed(message, patience)).await?.into_inner();
            return Ok((reply.index, Reply::Submitted { job: JobId(reply.job) }));
        }
        Op::Cancel { targets } => {
            let targets = targets.iter().map(v1::Target::from).collect();
            stub.cancel(timed(v1::CancelRequest { header, targets }, patience)).await
        }
        Op::Retry { targets, failed_only } => {
            let targets = targets.iter().map(v1::Target::from).collect();
            let message = v1::RetryRequest { header, targets, failed_only: *failed_only };
            stub.retry(timed(message, patience)).await
        }
        Op::Pause { jobs: paused } => {
            stub.pause(timed(v1::JobsRequest { header, jobs: jobs(paused) }, patience)).await
        }
        Op::Resume { jobs: resumed } => {
            stub.resume(timed(v1::JobsRequest { header, jobs: jobs(resumed) }, patience)).await
        }
        Op::SetJob { job, change } => {
            let message = v1::SetJobRequest {
                header,
                job: job.0,
                priority: change.priority,
                ..v1::SetJobRequest::default()
            };
            stub.set_job(timed(message, patience)).await
        }
        Op::PutQueue(queue) => {
            let message = v1::PutQueueRequest {
                header,
                name: queue.name.clone(),
                weight: queue.weight,
                ..v1::PutQueueRequest::default()
            };
            stub.put_queue(timed(message, patience)).await
        }
        Op::PutSetting { path, value } => {
            let message = v1::PutSettingRequest { header, path: path.clone(), value: value.clone() };
            stub.put_setting(timed(message, patience)).await
        }
        other => unreachable!("the workload has no {other:?}"),
    };
    changed.map(Response::into_inner).map(|reply| (reply.index, Reply::Changed { tasks: reply.changed }))
}
