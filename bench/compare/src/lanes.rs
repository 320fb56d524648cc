//! Keeps so many calls in flight: as many lanes, each of which makes one call after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;

use crate::fault::Fault;

/// Makes the calls number 0 to `count` - 1, `in_flight` at a time. A call is given its number and its lane. Lanes are
/// tasks of their own, so that the client has both cores.
pub async fn run<C, F>(count: u64, in_flight: usize, call: C) -> Result<(), Fault>
where
    C: Fn(u64, usize) -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), Fault>> + Send,
{
    let next = Arc::new(AtomicU64::new(0));
    let mut lanes = JoinSet::new();
    for lane in 0..in_flight {
        let (next, call) = (Arc::clone(&next), call.clone());
        lanes.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                call(number, lane).await?;
            }
        });
    }
    while let Some(ended) = lanes.join_next().await {
        ended.map_err(Fault::of("a lane of the generator has died"))??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn every_number_is_called_once() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        let call = move |number, lane| {
            let into = Arc::clone(&into);
            async move {
                into.lock().unwrap().push((number, lane));
                tokio::task::yield_now().await;
                Ok(())
            }
        };
        run(100, 8, call).await.unwrap();
        let seen = seen.lock().unwrap();
        let numbers: BTreeSet<u64> = seen.iter().map(|(number, _)| *number).collect();
        assert_eq!((seen.len(), numbers.len()), (100, 100));
        assert!(seen.iter().all(|(_, lane)| *lane < 8));
    }

    #[tokio::test]
    async fn the_first_fault_ends_it() {
        let call = |number, _| async move { if number == 3 { Err(Fault::new("no")) } else { Ok(()) } };
        assert_eq!(run(10, 2, call).await, Err(Fault::new("no")));
    }
}
