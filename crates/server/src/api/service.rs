//! The gRPC services, one line per call: each goes where its subject is.

use futures::FutureExt;
use machine::Op;
use model::JobId;
use tonic::{Request, Response, Status, Streaming};
use wire::convert;
use wire::v1;
use wire::v1::baton_server::Baton;
use wire::v1::workers_server::Workers;

use crate::api::write::SendOn;
use crate::api::{Api, Replies};

/// The call of that name, sent on.
macro_rules! send {
    ($name:ident) => {
        (|mut leader, request| async move { leader.$name(request).await }.boxed()) as SendOn<_, _>
    };
}

fn ids(request: &v1::JobsRequest) -> Result<Vec<JobId>, convert::Malformed> {
    if request.jobs.is_empty() {
        return Err(vec![model::SpecError { path: "jobs".to_owned(), message: "names no job".to_owned() }]);
    }
    Ok(request.jobs.iter().copied().map(JobId).collect())
}

fn settings(json: &str) -> Result<Op, convert::Malformed> {
    let wrong = |error: serde_json::Error| {
        vec![model::SpecError { path: "settings".to_owned(), message: error.to_string() }]
    };
    let read: Box<model::Settings> = serde_json::from_str(json).map_err(wrong)?;
    let errors = read.validate();
    if errors.is_empty() { Ok(Op::PutSettings(read)) } else { Err(errors) }
}

/// Checked here too, so that what can never be set is not logged.
fn setting(asked: v1::PutSettingRequest) -> Result<Op, convert::Malformed> {
    model::Settings::default().set(&asked.path, &asked.value).map_err(|error| vec![error])?;
    Ok(Op::PutSetting { path: asked.path, value: asked.value })
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Baton for Api {
    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Reply<v1::SubmitReply> {
        Api::submit(self, request).await
    }

    type SubmitStreamStream = Replies<v1::SubmitResult>;

    async fn submit_stream(
        &self,
        request: Request<Streaming<v1::SubmitRequest>>,
    ) -> Reply<Self::SubmitStreamStream> {
        self.answer(Ok(Api::submit_stream(self, request)))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Reply<v1::GetJobReply> {
        Api::get_job(self, request).await
    }

    async fn list_jobs(&self, request: Request<v1::ListJobsRequest>) -> Reply<v1::ListJobsReply> {
        Api::list_jobs(self, request).await
    }

    async fn list_tasks(&self, request: Request<v1::ListTasksRequest>) -> Reply<v1::ListTasksReply> {
        Api::list_tasks(self, request).await
    }

    async fn cancel(&self, request: Request<v1::CancelRequest>) -> Reply<v1::ChangeReply> {
        let read = |asked: v1::CancelRequest| Ok(Op::Cancel { targets: convert::targets(asked.targets)? });
        self.change(request, read, send!(cancel)).await
    }

    async fn pause(&self, request: Request<v1::JobsRequest>) -> Reply<v1::ChangeReply> {
        self.change(request, |asked| Ok(Op::Pause { jobs: ids(&asked)? }), send!(pause)).await
    }

    async fn resume(&self, request: Request<v1::JobsRequest>) -> Reply<v1::ChangeReply> {
        self.change(request, |asked| Ok(Op::Resume { jobs: ids(&asked)? }), send!(resume)).await
    }

    async fn retry(&self, request: Request<v1::RetryRequest>) -> Reply<v1::ChangeReply> {
        let read = |asked: v1::RetryRequest| {
            Ok(Op::Retry { targets: convert::targets(asked.targets)?, failed_only: asked.failed_only })
        };
        self.change(request, read, send!(retry)).await
    }

    async fn set_job(&self, request: Request<v1::SetJobRequest>) -> Reply<v1::ChangeReply> {
        let read = |asked| convert::job_change(asked).map(|(job, change)| Op::SetJob { job, change });
        self.change(request, read, send!(set_job)).await
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Reply<v1::ExplainReply> {
        Api::explain(self, request).await
    }

    type WatchStream = Replies<v1::WatchReply>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Reply<Self::WatchStream> {
        Api::watch(self, request).await
    }

    type LogsStream = Replies<v1::LogsReply>;

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Reply<Self::LogsStream> {
        Api::logs(self, request).await
    }

    async fn put_queue(&self, request: Request<v1::PutQueueRequest>) -> Reply<v1::ChangeReply> {
        let read = |asked: v1::PutQueueRequest| convert::queue_spec(asked).map(Op::PutQueue);
        self.change(request, read, send!(put_queue)).await
    }

    async fn pause_queue(&self, request: Request<v1::QueueRequest>) -> Reply<v1::ChangeReply> {
        let read = |asked: v1::QueueRequest| convert::name(asked.name).map(|name| Op::PauseQueue { name });
        self.change(request, read, send!(pause_queue)).await
    }

    async fn resume_queue(&self, request: Request<v1::QueueRequest>) -> Reply<v1::ChangeReply> {
        let read = |asked: v1::QueueRequest| convert::name(asked.name).map(|name| Op::ResumeQueue { name });
        self.change(request, read, send!(resume_queue)).await
    }

    async fn delete_queue(&self, request: Request<v1::QueueRequest>) -> Reply<v1::ChangeReply> {
        let read = |asked: v1::QueueRequest| convert::name(asked.name).map(|name| Op::DeleteQueue { name });
        self.change(request, read, send!(delete_queue)).await
    }

    async fn undo_queue(&self, request: Request<v1::QueueRequest>) -> Reply<v1::ChangeReply> {
        let read = |asked: v1::QueueRequest| convert::name(asked.name).map(|queue| Op::UndoAdapt { queue });
        self.change(request, read, send!(undo_queue)).await
    }

    async fn list_queues(&self, request: Request<v1::ReadRequest>) -> Reply<v1::ListQueuesReply> {
        Api::list_queues(self, request).await
    }

    async fn put_booking(&self, request: Request<v1::PutBookingRequest>) -> Reply<v1::ChangeReply> {
        self.change(request, |asked| convert::booking_spec(asked).map(Op::PutBooking), send!(put_booking))
            .await
    }

    async fn delete_booking(&self, request: Request<v1::BookingRequest>) -> Reply<v1::ChangeReply> {
        let read =
            |asked: v1::BookingRequest| convert::name(asked.name).map(|name| Op::DeleteBooking { name });
        self.change(request, read, send!(delete_booking)).await
    }

    async fn put_periodic(&self, request: Request<v1::PutPeriodicRequest>) -> Reply<v1::ChangeReply> {
        Api::put_periodic(self, request, send!(put_periodic)).await
    }

    async fn delete_periodic(&self, request: Request<v1::PeriodicRequest>) -> Reply<v1::ChangeReply> {
        let read =
            |asked: v1::PeriodicRequest| convert::name(asked.name).map(|name| Op::DeletePeriodic { name });
        self.change(request, read, send!(delete_periodic)).await
    }

    async fn list_periodic(&self, request: Request<v1::ReadRequest>) -> Reply<v1::ListPeriodicReply> {
        Api::list_periodic(self, request).await
    }

    async fn list_bookings(&self, request: Request<v1::ReadRequest>) -> Reply<v1::ListBookingsReply> {
        Api::list_bookings(self, request).await
    }

    async fn cordon(&self, request: Request<v1::WorkerRequest>) -> Reply<v1::ChangeReply> {
        let read = |asked: v1::WorkerRequest| convert::name(asked.name).map(|worker| Op::Cordon { worker });
        self.change(request, read, send!(cordon)).await
    }

    async fn uncordon(&self, request: Request<v1::WorkerRequest>) -> Reply<v1::ChangeReply> {
        let read = |asked: v1::WorkerRequest| convert::name(asked.name).map(|worker| Op::Uncordon { worker });
        self.change(request, read, send!(uncordon)).await
    }

    async fn drain(&self, request: Request<v1::WorkerRequest>) -> Reply<v1::ChangeReply> {
        let read = |asked: v1::WorkerRequest| convert::name(asked.name).map(|worker| Op::Drain { worker });
        self.change(request, read, send!(drain)).await
    }

    async fn forget_worker(&self, request: Request<v1::WorkerRequest>) -> Reply<v1::ChangeReply> {
        let read =
            |asked: v1::WorkerRequest| convert::name(asked.name).map(|worker| Op::ForgetWorker { worker });
        self.change(request, read, send!(forget_worker)).await
    }

    async fn list_workers(&self, request: Request<v1::ReadRequest>) -> Reply<v1::ListWorkersReply> {
        Api::list_workers(self, request).await
    }

    async fn offer(&self, request: Request<v1::OfferRequest>) -> Reply<v1::OfferReply> {
        Api::offer(self, request).await
    }

    async fn claim(&self, request: Request<v1::ClaimRequest>) -> Reply<v1::ChangeReply> {
        match self.choose_claim(request).await {
            Ok(request) => self.change(request, convert::claim, send!(claim)).await,
            Err(lost) => self.answer(lost),
        }
    }

    async fn cluster_status(&self, request: Request<v1::ReadRequest>) -> Reply<v1::ClusterStatusReply> {
        Api::cluster_status(self, request).await
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Reply<v1::TransferLeaderReply> {
        Api::transfer_leader(self, request).await
    }

    async fn upgrade(&self, request: Request<v1::UpgradeRequest>) -> Reply<v1::ChangeReply> {
        Api::upgrade(self, request, send!(upgrade)).await
    }

    async fn get_settings(&self, request: Request<v1::ReadRequest>) -> Reply<v1::SettingsReply> {
        Api::get_settings(self, request).await
    }

    async fn put_settings(&self, request: Request<v1::PutSettingsRequest>) -> Reply<v1::ChangeReply> {
        self.change(request, |asked| settings(&asked.settings_json), send!(put_settings)).await
    }

    async fn put_setting(&self, request: Request<v1::PutSettingRequest>) -> Reply<v1::ChangeReply> {
        self.change(request, setting, send!(put_setting)).await
    }
}

#[tonic::async_trait]
impl Workers for Api {
    type AttachStream = Replies<v1::LeaderMessage>;

    async fn attach(&self, request: Request<Streaming<v1::WorkerMessage>>) -> Reply<Self::AttachStream> {
        Api::attach(self, request)
    }
}
