//! A panic anywhere in a run is a finding: a runtime swallows those of its tasks, so they are taken down here.

use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};
use std::sync::Once;

/// What openraft asserts in debug builds only, and its release builds handle. A leader that is none any more may see the
/// log of the next one, shorter than its own, before it is told: it has nothing to send then.
const HARMLESS: [&str; 1] = ["read_log_entries received reversed range"];

/// With these the process is about to be aborted.
const LAST: [&str; 2] = ["panic in a destructor during cleanup", "panic in a function that cannot unwind"];

#[derive(Debug, Default)]
pub struct Heard {
    pub panics: Vec<String>,
    /// Whether one was harmless. What came after it may have come of it.
    pub harmless: bool,
}

type LastWords = Box<dyn Fn(Heard)>;

#[derive(Default)]
struct Ear {
    heard: Heard,
    last_words: Option<LastWords>,
}

thread_local! {
    // A simulation is one thread; the panics of other threads are none of its own.
    static EAR: RefCell<Option<Ear>> = const { RefCell::new(None) };
}

static LISTENING: Once = Once::new();

/// From now on the panics of this thread are kept, until `end`. `last_words` is what remains to be said when the process
/// is about to be aborted: it must not return.
pub fn begin(last_words: impl Fn(Heard) + 'static) {
    LISTENING.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !keep(panic) {
                usual(panic);
            }
        }));
    });
    EAR.set(Some(Ear { heard: Heard::default(), last_words: Some(Box::new(last_words)) }));
}

fn keep(panic: &PanicHookInfo) -> bool {
    let what = panic.payload_as_str().unwrap_or("no message");
    let is_kept = EAR.with_borrow_mut(|ear| {
        let Some(Ear { heard, .. }) = ear else { return false };
        let place = panic.location().map(|at| format!("{}:{}", short(at.file()), at.line()));
        let told = format!("panic at {}: {what}", place.unwrap_or_default());
        if std::env::var_os("BATON_BACKTRACE").is_some() {
            eprintln!("{told}\n{}", std::backtrace::Backtrace::force_capture());
        }
        match HARMLESS.iter().any(|harmless| what.contains(harmless)) {
            true => heard.harmless = true,
            false => heard.panics.push(told),
        }
        true
    });
    if LAST.iter().any(|last| what.contains(last)) {
        let words = EAR.with_borrow_mut(|ear| ear.as_mut().and_then(|ear| ear.last_words.take()));
        words.into_iter().for_each(|say| say(take()));
    }
    is_kept
}

/// Without what is in front of the crate's own folder.
fn short(file: &str) -> &str {
    let crate_at = file.rfind("/src/").and_then(|at| file[..at].rfind('/'));
    crate_at.map_or(file, |at| &file[at + 1..])
}

/// Those since the last call.
pub fn take() -> Heard {
    EAR.with_borrow_mut(|ear| ear.as_mut().map(|ear| std::mem::take(&mut ear.heard)).unwrap_or_default())
}

pub fn end() -> Heard {
    EAR.take().map(|ear| ear.heard).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard_of(panicking: impl Fn() + Send + 'static) -> Heard {
        begin(|_| {});
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let swallowed = runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            tasks.spawn(async move { panicking() });
            tasks.join_next().await
        });
        assert!(swallowed.unwrap().is_err());
        end()
    }

    #[test]
    fn a_panic_that_a_task_swallows_is_heard() {
        let Heard { panics, harmless } = heard_of(|| panic!("a bug"));
        assert!(panics.len() == 1 && panics[0].ends_with("a bug") && !harmless, "{panics:?}");
        assert!(panics[0].contains("src/panics.rs:"), "{panics:?}");
    }

    #[test]
    fn what_is_harmless_is_no_finding() {
        let Heard { panics, harmless } = heard_of(|| panic!("{}: start(2) > end(1)", HARMLESS[0]));
        assert!(panics.is_empty() && harmless, "{panics:?}");
    }
}
