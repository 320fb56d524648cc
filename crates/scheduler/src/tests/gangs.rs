//! Gangs: whole or not at all, and never two that wait for each other.

use model::policy::{Backfill, Order};

use super::*;

fn gang(members: u32, cores: u64) -> JobSpec {
    let mut task = task(cores);
    task.set_gang(members);
    JobSpec::of("", vec![task])
}

fn end_job(w: &mut World, job: JobId) {
    let all =
        w.state.sessions().flat_map(|session| session.allocations.values().map(|row| (session.id, row)));
    let of_job: Vec<_> = all.filter(|(_, row)| row.job == job).map(|(id, row)| (id, row.seq)).collect();
    of_job.into_iter().for_each(|(session, seq)| end(w, session, seq, Verdict::Succeeded, 5_000));
}

pub(super) fn counts(w: &World, job: JobId) -> (u64, u64) {
    let counts = w.state.job(job).unwrap().counts();
    (counts.ready, counts.running)
}

#[test]
fn all_members_are_placed_or_none() {
    let mut w = World::new();
    let id = w.submit(gang(4, 1));
    w.session("a", 2);
    w.session("b", 1);
    assert_eq!(w.round(), Vec::<String>::new());
    w.session("c", 1);
    let placed = w.round();
    assert_eq!(placed.len(), 4, "{placed:?}");
    assert_eq!(counts(&w, id), (0, 4));
}

#[test]
fn two_gangs_that_fit_alone_run_one_after_the_other() {
    let mut w = World::new();
    (0..6).for_each(|n| _ = w.session(&format!("w{n}"), 1));
    let (one, two) = (w.submit(gang(4, 1)), w.submit(gang(4, 1)));
    assert_eq!(w.round().len(), 4);
    assert_eq!((counts(&w, one), counts(&w, two)), ((0, 4), (4, 0)));
    assert!(w.plan().is_empty(), "the two workers that are left are held for nobody");
    end_job(&mut w, one);
    assert_eq!(w.round().len(), 4);
    assert_eq!(counts(&w, two), (0, 4));
}

#[test]
fn a_gang_that_starves_has_as_many_workers_drain_as_it_needs() {
    let mut w = World::new();
    let sessions: Vec<SessionId> = (0..4).map(|n| w.session(&format!("w{n}"), 1)).collect();
    (0..4).for_each(|_| _ = w.submit(job(1)));
    let id = w.submit(gang(4, 1));
    let small: Vec<JobId> = (0..4).map(|_| w.submit(job(1))).collect();
    assert_eq!(w.round().len(), 4);
    w.now += 61_000_000;
    w.apply(Command::Tick);
    w.round();
    let drained = sessions.iter().filter(|id| w.state.session(**id).unwrap().reserved.is_some()).count();
    assert_eq!(drained, 4);
    for (nth, session) in sessions.iter().enumerate() {
        assert_eq!(counts(&w, id), (4, 0));
        end(&mut w, *session, 1, Verdict::Succeeded, 1_000);
        let placed = w.round();
        assert_eq!(placed.len(), if nth == 3 { 4 } else { 0 }, "{placed:?}");
    }
    assert_eq!(counts(&w, id), (0, 4));
    let for_it = |session: &&machine::Session| session.reserved.is_some_and(|(job, _)| job == id);
    assert_eq!(w.state.sessions().filter(for_it).count(), 0);
    assert_eq!(counts(&w, small[3]), (1, 0));
}

#[test]
fn a_gang_that_no_cluster_of_this_size_could_run_holds_nobody_up() {
    let mut w = World::new();
    let id = w.submit(gang(3, 1));
    w.session("a", 2);
    w.now += 100_000_000;
    assert!(w.plan().is_empty(), "nothing drains for it");
    let other = w.submit(job(1));
    assert_eq!(w.round(), [format!("{other}.0@a")]);
    let told = explain(&w.state, TaskId { job: id, number: 1 }).unwrap();
    assert!(told.hopeless);
    assert_eq!(told.reasons[0].code, "gang_too_large");
    assert_eq!(
        told.reasons[0].message,
        "the gang has 3 members, and all workers together have room for 2, however idle"
    );
    w.session("b", 1);
    w.session("c", 1);
    let waits = explain(&w.state, TaskId { job: id, number: 1 }).unwrap();
    assert!(!waits.hopeless && waits.reasons.is_empty(), "{:?}", waits.reasons);
    end_job(&mut w, other);
    assert_eq!(w.round().len(), 3);
    let late = w.submit(gang(2, 1));
    let told = explain(&w.state, TaskId { job: late, number: 0 }).unwrap();
    assert_eq!(told.reasons[0].message, "its 2 members start together, and there is room for 1 now");
}

#[test]
fn a_gang_that_does_not_fit_into_the_rest_of_a_plan_is_the_first_of_the_next() {
    let mut w = World::new();
    w.session("a", 8);
    let first = w.submit(job(1));
    let id = w.submit(gang(4, 1));
    let (mut scratch, budget) = (Scratch::default(), Budget { placements_max: 4, ..Budget::default() });
    let made = plan(&w.state, &mut scratch, &Overlay::default(), budget);
    assert_eq!(made.placements.iter().map(|placement| placement.job).collect::<Vec<_>>(), [first]);
    assert!(scratch.has_more());
    w.apply(Command::Place(made));
    let made = plan(&w.state, &mut scratch, &Overlay::default(), budget);
    assert_eq!(made.placements.len(), 4);
    assert!(made.placements.iter().all(|placement| placement.job == id));
    // Larger than any plan it goes alone.
    w.apply(Command::Place(made));
    end_job(&mut w, id);
    w.submit(gang(6, 1));
    assert_eq!(plan(&w.state, &mut scratch, &Overlay::default(), budget).placements.len(), 6);
}

#[test]
fn all_members_count_for_their_user_in_a_shared_queue() {
    let mut w = World::new();
    w.session("a", 8);
    w.policy(Order::Fair, Backfill::FirstFit);
    for user in ["ann", "bob"] {
        w.user = user.to_owned();
        (0..3).for_each(|_| _ = w.submit(if user == "ann" { gang(4, 1) } else { job(1) }));
    }
    let placed = w.round();
    let of_bob = |task: &&String| ["j4.", "j5.", "j6."].iter().any(|job| task.starts_with(job));
    assert_eq!((placed.len(), placed.iter().filter(of_bob).count()), (7, 3), "{placed:?}");
    assert_eq!(placed.iter().position(|task| task.starts_with("j4.")), Some(4), "{placed:?}");
}

#[test]
fn a_queue_that_may_run_fewer_than_its_members_runs_none() {
    let mut w = World::new();
    w.session("a", 8);
    w.write(Op::PutQueue(QueueSpec {
        name: "default".to_owned(),
        running_max: Some(3),
        ..QueueSpec::default()
    }));
    w.submit(gang(4, 1));
    let small = w.submit(gang(2, 1));
    assert_eq!(w.round().len(), 2);
    assert_eq!(counts(&w, small), (0, 2));
}

#[test]
fn a_strict_queue_lets_nothing_overtake_a_gang() {
    let mut w = World::new();
    w.policy(Order::Fifo, Backfill::None);
    w.submit(gang(3, 1));
    w.session("a", 2);
    w.submit(job(1));
    assert!(w.round().is_empty());
}

/// A promise to a task of another queue is kept to by every member together.
#[test]
fn a_gang_does_not_delay_who_was_promised_a_start() {
    let mut w = World::new();
    let session = w.session("a", 4);
    w.policy(Order::Fifo, Backfill::Easy);
    let timed = |spec: JobSpec, seconds| {
        let mut spec = spec;
        let estimate = Some(Duration::from_secs(seconds));
        spec.tasks[0].timing = model::Timing { estimate, ..Default::default() }.boxed();
        spec
    };
    w.submit(timed(job(2), 10));
    assert_eq!(w.round().len(), 1);
    w.submit(timed(job(4), 10));
    w.round();
    // Two members would fit now, and go on beyond what the wide one was promised.
    let long = w.submit(timed(gang(2, 1), 100));
    w.round();
    assert_eq!(counts(&w, long), (2, 0));
    let short = w.submit(timed(gang(2, 1), 5));
    w.round();
    assert_eq!(counts(&w, short), (0, 2));
    assert!(w.state.session(session).is_some());
}

/// As long as no worker is known, any may come.
#[test]
fn a_gang_that_is_larger_than_all_known_workers_is_refused_by_how_many_there_is_room_for() {
    let mut w = World::new();
    w.submit(gang(9, 1));
    let session = w.session("a", 3);
    w.session("b", 2);
    w.apply(Command::EndSession { session });
    let refused = |w: &mut World, spec: JobSpec| {
        let job = JobId(w.jobs + 1);
        let reply = w.write(Op::Submit { job, spec: Arc::new(spec) });
        let machine::Reply::Rejected(why) = reply else { panic!("{reply:?}") };
        let machine::Rejection::Invalid { errors } = *why else { panic!("{why:?}") };
        errors
    };
    let errors = refused(&mut w, gang(6, 1));
    assert_eq!(errors[0].path, "tasks[0].gang");
    assert!(
        errors[0].message.contains("has 6 members") && errors[0].message.contains("give it 5"),
        "{errors:?}"
    );
    let errors = refused(&mut w, gang(2, 4));
    assert!(errors[0].message.contains("could take any"), "{errors:?}");
    assert!(w.state.job(JobId(w.jobs + 1)).is_none(), "nothing of it is there");
    w.submit(gang(5, 1));
}
