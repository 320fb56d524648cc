//! HTTP: a status page for people, metrics for Prometheus, probes for whoever supervises the process. Read only.

mod exposition;
mod page;
mod scrape;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use tokio::sync::watch;

pub use scrape::Demand;

use crate::api::Api;
use crate::config::Error;

pub async fn serve(
    api: Api,
    listener: std::net::TcpListener,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), Error> {
    let failed = |source: std::io::Error| Error::Serve { what: "HTTP", source: source.into() };
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    let router = Router::new()
        .route("/", get(status_page))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .with_state(api);
    let stopped = async move { drop(stopping.wait_for(|stopping| *stopping).await) };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await.map_err(failed)
}

async fn ready(State(api): State<Api>) -> impl IntoResponse {
    match api.readiness() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], scrape::page(&api))
}

/// Nothing from elsewhere is loaded, and nothing that a user named can run.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-SCRIPT'; connect-src 'self'";

async fn status_page(State(api): State<Api>) -> impl IntoResponse {
    let policy = POLICY.replace("SCRIPT", &page::script_hash());
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(page::render(&api).await))
}
