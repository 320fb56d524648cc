//! Priorities that rise with the wait: nobody who comes late enough goes before who waits.

use super::*;

/// A task: how long after the one before it comes, its priority, and how long it takes, in seconds.
type Coming = (u64, i32, u64);

/// When each of them comes and starts, on one core.
fn starts(ageing: u64, coming: &[Coming]) -> Vec<(u64, u64)> {
    let mut settings = Settings::default();
    settings.limits.credit_per_session_max = 0;
    // Whoever starves goes before anybody.
    settings.limits.starve_after_s = 100_000;
    let mut w = World::with(settings);
    let session = w.session("a", 1);
    let ageing = Some(Duration::from_secs(ageing));
    w.write(Op::PutQueue(QueueSpec { name: "default".to_owned(), ageing, ..QueueSpec::default() }));
    let mut comes: Vec<u64> = Vec::new();
    coming.iter().for_each(|(gap, ..)| comes.push(comes.last().unwrap_or(&0) + gap));
    let mut starts = vec![None; coming.len()];
    let (mut submitted, mut running) = (0, None);
    while starts.contains(&None) {
        // What comes before the one that runs ends, or before anything waits.
        let ends = running.map(|(_, _, ends)| ends);
        let waits = starts[..submitted].contains(&None);
        let next = comes.get(submitted).copied();
        let next = next.filter(|at| ends.map_or(!waits || *at <= w.now / 1_000_000, |ends| *at <= ends));
        if let Some(at) = next {
            let idle = at.saturating_sub(w.now / 1_000_000);
            wait(&mut w, idle);
            w.submit(job(1).with(|job| job.priority = coming[submitted].1));
            submitted += 1;
            continue;
        }
        if let Some((seq, took, ends)) = running.take() {
            let left = ends - w.now / 1_000_000;
            wait(&mut w, left);
            end(&mut w, session, seq, Verdict::Succeeded, took * 1_000);
        }
        if !starts[..submitted].contains(&None) {
            continue;
        }
        w.round();
        let row = w.state.session(session).unwrap();
        let (seq, of) = row.allocations.values().map(|row| (row.seq, row.job)).next().expect("one waits");
        let nth = of.0 as usize - 1;
        let now = w.now / 1_000_000;
        starts[nth] = Some(now);
        running = Some((seq, coming[nth].2, now + coming[nth].2));
    }
    comes.into_iter().zip(starts.into_iter().flatten()).collect()
}

#[test]
fn a_steady_stream_of_higher_ones_does_not_starve_a_lower_one() {
    // Each second one that takes a second, five priorities above.
    let mut coming = vec![(0, 0, 1), (0, 5, 1)];
    coming.extend([(1, 5, 1); 60]);
    let low = |ageing| starts(ageing, &coming)[0].1;
    assert_eq!(low(4), 20, "five times four seconds, and of equals the one that came first");
    assert_eq!(low(1_000), 61, "after all of them");
}

proptest! {
    #![proptest_config(config(60))]

    /// The bound of every wait: while a task waits, only those start before it that came within its wait of a priority, times
    /// ageing, so that what may go before it is limited by what comes within (highest - its own) x ageing.
    #[test]
    fn every_wait_is_bounded_by_the_ageing_and_what_comes_within_it(
        ageing in 1u64..20,
        coming in prop::collection::vec((0u64..6, 0i32..5, 1u64..8), 1..40),
    ) {
        let times = starts(ageing, &coming);
        let highest = coming.iter().map(|(_, priority, _)| *priority).max().unwrap_or(0);
        for (nth, (came, started)) in times.iter().enumerate() {
            let reach = u64::from((highest - coming[nth].1).unsigned_abs()) * ageing;
            // What takes the core meanwhile: what had begun, and what may go before it.
            let before = times.iter().zip(&coming).filter(|((came_too, _), _)| *came_too <= came + reach);
            let work: u64 = before.map(|(_, (_, _, takes))| *takes).sum();
            prop_assert!(*started <= came + work, "{nth}: {times:?}");
            for (other, (came_too, started_too)) in times.iter().enumerate() {
                if started_too > came && started_too < started && other != nth {
                    let lead = i128::from(coming[other].1 - coming[nth].1) * i128::from(ageing);
                    prop_assert!(i128::from(*came_too) <= i128::from(*came) + lead, "{other} before {nth}: {times:?}");
                }
            }
        }
    }
}
