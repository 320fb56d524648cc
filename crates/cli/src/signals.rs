//! The signals that a process obeys.

use server::Cut;
use tokio::signal::unix::{SignalKind, signal};

/// Resolves at the first SIGTERM or SIGINT.
pub async fn asked_to_end() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the default action ends the process at once, which is an end too.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// SIGUSR1 cuts a replica off from its peers, SIGUSR2 heals that. Never ends.
pub async fn obey_cuts(cut: &Cut) {
    let (Ok(mut sever), Ok(mut heal)) =
        (signal(SignalKind::user_defined1()), signal(SignalKind::user_defined2()))
    else {
        return std::future::pending().await;
    };
    loop {
        tokio::select! {
            _ = sever.recv() => cut.cut(),
            _ = heal.recv() => cut.heal(),
        }
    }
}
