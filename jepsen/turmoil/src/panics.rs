//! A panic anywhere in a run is a finding: a runtime swallows those of its tasks, so they are taken down here.

use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};
use std::sync::Once;

thread_local! {
    // A simulation is one thread; those of other threads are none of its own.
    static HEARD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

static LISTENING: Once = Once::new();

/// From now on the panics of this thread are kept, until `end`.
pub fn begin() {
    LISTENING.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !keep(panic) {
                usual(panic);
            }
        }));
    });
    HEARD.set(Some(Vec::new()));
}

fn keep(panic: &PanicHookInfo) -> bool {
    HEARD.with_borrow_mut(|heard| {
        let Some(heard) = heard else { return false };
        let place = panic.location().map(|at| format!("{}:{}", short(at.file()), at.line()));
        let what = panic.payload_as_str().unwrap_or("no message");
        heard.push(format!("panic at {}: {what}", place.unwrap_or_default()));
        if std::env::var_os("BATON_BACKTRACE").is_some() {
            eprintln!("{}\n{}", heard[heard.len() - 1], std::backtrace::Backtrace::capture());
        }
        true
    })
}

/// Without what is in front of the crate's own folder.
fn short(file: &str) -> &str {
    let crate_at = file.rfind("/src/").and_then(|at| file[..at].rfind('/'));
    crate_at.map_or(file, |at| &file[at + 1..])
}

/// Those since the last call.
pub fn take() -> Vec<String> {
    HEARD.with_borrow_mut(|heard| heard.as_mut().map(std::mem::take).unwrap_or_default())
}

pub fn end() -> Vec<String> {
    HEARD.take().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_that_a_task_swallows_is_heard() {
        begin();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let swallowed = runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            tasks.spawn(async { panic!("a bug") });
            tasks.join_next().await
        });
        assert!(swallowed.unwrap().is_err());
        let heard = end();
        assert!(heard.len() == 1 && heard[0].ends_with("a bug"), "{heard:?}");
        assert!(heard[0].contains("src/panics.rs:"), "{heard:?}");
    }
}
