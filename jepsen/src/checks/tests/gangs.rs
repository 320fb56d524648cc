//! W16, and the order of what waits for a gang.

use super::*;
use crate::ledger::Place;

/// A member's process.
fn member(rank: u32, start: u64, end: Option<u64>) -> Vec<Stay> {
    let place = Place { rank, size: 3, meets_at: "10.0.0.1:20007".to_owned() };
    vec![Stay { place: Some(place), ..stay(start, end) }]
}

/// A gang of which one member failed in its first attempt, and which succeeded in its second.
fn with_gang(run: &mut Evidence) {
    let job = FinalJob {
        shape: Some("gang-failing".to_owned()),
        succeeded: 3,
        finished: 3,
        ..view(5, JobState::Succeeded)
    };
    run.kept.jobs.iter_mut().for_each(|jobs| jobs.push(job.clone()));
    run.operations.push(submit(27, 5, 0, Some(5)));
    run.ledger.insert(key(5, 0, 1, 70), member(0, 4 * S, Some(5 * S)));
    run.ledger.insert(key(5, 1, 1, 70), member(1, 4 * S, None));
    for rank in 0..3 {
        run.ledger.insert(key(5, rank, 2, 80), member(rank, 6 * S, Some(7 * S)));
    }
}

fn of_gang(change: impl FnOnce(&mut Evidence)) -> Verdict {
    verdict("W16", |run| {
        with_gang(run);
        change(run);
    })
}

/// The process of a member's second attempt.
fn second(run: &mut Evidence, rank: u32) -> &mut Stay {
    &mut run.ledger.get_mut(&key(5, rank, 2, 80)).expect("there")[0]
}

#[test]
fn a_gang_that_begins_anew_is_right() {
    let mut run = right();
    with_gang(&mut run);
    let wrong: Vec<Finding> =
        all(&run).into_iter().filter(|finding| finding.verdict == Verdict::False).collect();
    assert_eq!(wrong, []);
    assert_eq!(
        crate::checks::gangs::check(&run).looked_at,
        "1 gangs, 2 attempts, 5 starts, 0 beside those of a host that was away"
    );
}

#[test]
fn members_that_are_told_otherwise_are_found() {
    let place =
        |change: fn(&mut Place)| of_gang(|run| change(second(run, 2).place.as_mut().expect("a member's")));
    assert_eq!(place(|place| place.size = 4), Verdict::False);
    assert_eq!(place(|place| place.rank = 1), Verdict::False);
    assert_eq!(place(|place| place.meets_at = "10.0.0.1:20008".to_owned()), Verdict::False);
    assert_eq!(of_gang(|run| second(run, 2).place = None), Verdict::False);
    let other_token = |run: &mut Evidence| {
        let stays = run.ledger.remove(&key(5, 2, 2, 80)).expect("there");
        run.ledger.insert(key(5, 2, 2, 81), stays);
    };
    assert_eq!(of_gang(other_token), Verdict::False, "one attempt under two tokens");
}

#[test]
fn two_attempts_side_by_side_are_found_unless_a_host_was_away() {
    let lingers = |run: &mut Evidence| {
        // Of another member than the one that began again: no checker of single tasks sees it.
        run.ledger.insert(key(5, 0, 1, 70), member(0, 4 * S, Some(13 * S / 2)));
        second(run, 0).start = 27 * S / 4;
    };
    assert_eq!(of_gang(lingers), Verdict::False);
    assert_eq!(
        verdict("W6", |run| {
            with_gang(run);
            lingers(run);
        }),
        Verdict::True
    );
    let begins_late =
        |run: &mut Evidence| drop(run.ledger.insert(key(5, 2, 1, 70), member(2, 13 * S / 2, None)));
    assert_eq!(of_gang(begins_late), Verdict::False);
    let away = |from, to, worker: &str| Outage { worker: worker.to_owned(), from, to };
    let excused = |outage: Outage| {
        of_gang(|run| {
            begins_late(run);
            run.kept.deeds.outages.push(outage);
        })
    };
    assert_eq!(excused(away(3 * S, 13 * S / 2, "w1")), Verdict::True, "it stood still, and went on late");
    assert_eq!(excused(away(3 * S, 5 * S, "w1")), Verdict::False, "it was back before the newer began");
    assert_eq!(excused(away(3 * S, 13 * S / 2, "w2")), Verdict::False, "another host");
}

#[test]
fn a_gang_that_succeeded_in_parts_is_found() {
    assert_eq!(of_gang(|run| second(run, 1).end = None), Verdict::False);
    let failed = |run: &mut Evidence| {
        second(run, 1).end = None;
        run.kept
            .jobs
            .iter_mut()
            .flatten()
            .filter(|job| job.id == JobId(5))
            .for_each(|job| job.state = JobState::Failed);
    };
    assert_eq!(of_gang(failed), Verdict::True, "it has not succeeded");
}

#[test]
fn what_begins_before_a_gang_has_ended_is_found() {
    let staged = |merge: u64| {
        verdict("W7", |run| {
            let staged = FinalJob { shape: Some("gang-staged".to_owned()), ..view(6, JobState::Succeeded) };
            run.kept.jobs.iter_mut().for_each(|jobs| jobs.push(staged.clone()));
            for (number, start) in [(0, S), (1, 2 * S), (2, 2 * S), (3, 2 * S), (4, merge)] {
                run.ledger.insert(key(6, number, 1, 90), vec![stay(start, Some(start + S))]);
            }
        })
    };
    assert_eq!((staged(3 * S), staged(5 * S / 2)), (Verdict::True, Verdict::False));
}
