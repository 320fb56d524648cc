//! What every verb is given: how to talk to the user and how to talk to the cluster.

use client::{Changed, Client, Options};
use model::RequestId;
use model::settings::Limits;
use serde::Serialize;

use crate::config::{Config, Global};
use crate::fault::Fault;
use crate::output::Face;
use crate::select::Resolver;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);
/// The cluster checks every job again: its limits are not worth a long wait.
const LIMITS_WITHIN: std::time::Duration = std::time::Duration::from_millis(500);

pub struct App {
    pub face: Face,
    pub config: Config,
    pub client: Client,
}

/// Flags of every write.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct WriteArgs {
    /// A ULID that names this write: repeated with it, the write is done once
    #[arg(long, value_name = "ULID")]
    pub request_id: Option<RequestId>,
}

impl App {
    pub fn load(global: &Global) -> Result<App, Fault> {
        let config = Config::load(global)?;
        let face = Face::of(&config);
        let mut options = Options::new(config.servers.clone());
        options.user.clone_from(&config.user);
        options.via = "cli".to_owned();
        options.traceparent = std::env::var("TRACEPARENT").unwrap_or_default();
        // Somebody waits at a terminal: that nothing is there is said soon.
        options.patience = PATIENCE;
        if let Some(timeout) = config.call_timeout {
            options.deadline = timeout;
            options.patience = timeout;
        }
        Ok(App { face, config, client: Client::with(options) })
    }

    pub fn resolver(&self) -> Resolver<'_> {
        Resolver { client: &self.client, user: &self.config.user }
    }

    pub fn writer(&self, write: &WriteArgs) -> Client {
        match write.request_id {
            Some(id) => self.client.with_request_id(id),
            None => self.client.clone(),
        }
    }

    /// The limits that the cluster has set, as any replica knows them; the defaults where none answers.
    pub async fn limits(&self) -> Limits {
        let stale = self.client.stale();
        match tokio::time::timeout(LIMITS_WITHIN, stale.settings()).await {
            Ok(Ok(read)) => read.value.limits,
            Ok(Err(_)) | Err(_) => Limits::default(),
        }
    }

    /// Says that a write was done.
    pub fn changed(&self, changed: Changed, names: &[String], text: &str) -> Result<(), Fault> {
        let told = Told {
            request_id: changed.request_id.to_string(),
            index: changed.index,
            changed: changed.changed,
            names: names.to_vec(),
        };
        self.face.one(&told, &names.join("\n"), || format!("{text}\n"))
    }
}

/// A write that was done, for machines.
#[derive(Serialize)]
struct Told {
    request_id: String,
    index: u64,
    changed: u64,
    names: Vec<String>,
}
