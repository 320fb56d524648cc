//! Logs of the process verbs: to stderr, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::fault::Fault;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Debug, Default, clap::Args)]
pub struct LogArgs {
    /// What to log, as in info or info,server=debug
    #[arg(long, env = "BATON_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// text or json
    #[arg(long, env = "BATON_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

impl LogArgs {
    pub fn start(&self) -> Result<(), Fault> {
        let filter = self.log.as_deref().unwrap_or("info");
        let filter =
            EnvFilter::try_new(filter).map_err(|error| Fault::usage(format!("--log {filter}: {error}")))?;
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        let started = match self.log_format.unwrap_or_default() {
            LogFormat::Text => subscriber.try_init(),
            LogFormat::Json => subscriber.json().try_init(),
        };
        started.map_err(|error| Fault::failed(format!("cannot start logging: {error}")))
    }
}
