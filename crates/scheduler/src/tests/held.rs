//! Work sent ahead, and asked back.

use super::*;

fn array(len: u32) -> JobSpec {
    array_of(len, 1)
}

fn array_of(len: u32, cores: u64) -> JobSpec {
    let mut task = task(cores);
    task.array = Some(model::ArrayRange { first: 0, last: len - 1, step: 1 });
    JobSpec::of("", vec![task])
}

fn held(plan: &Plan) -> Vec<bool> {
    plan.placements.iter().map(|placement| placement.held).collect()
}

#[test]
fn a_busy_worker_is_sent_ahead_what_has_shown_to_be_short() {
    let mut w = World::new();
    let a = w.session("a", 1);
    w.submit(array(9));
    assert_eq!(held(&w.plan()), [false], "nobody knows yet how long it takes");
    w.round();
    end(&mut w, a, 1, Verdict::Succeeded, 5_000);
    assert_eq!(held(&w.plan()), [false]);
    w.round();
    end(&mut w, a, 2, Verdict::Succeeded, 10);
    assert_eq!(held(&w.plan()), [false, true, true], "credit_per_session_max is 2");
    w.round();
    assert!(w.plan().is_empty());
    // What is in flight counts too.
    end(&mut w, a, 3, Verdict::Succeeded, 10);
    let plan = w.plan();
    let mut overlay = Overlay::default();
    overlay.add(1, &plan);
    assert!(super::plan(&w.state, &mut Scratch::default(), &overlay, Budget::default()).is_empty());
}

#[test]
fn nothing_is_sent_ahead_of_what_has_found_no_room() {
    let mut w = World::new();
    let a = w.session("a", 2);
    w.submit(array(8));
    w.round();
    // Of another class, longer or not known, and more urgent.
    w.submit(job(2).with(|job| job.priority = 5));
    end(&mut w, a, 1, Verdict::Succeeded, 10);
    let plan = w.plan();
    assert!(plan.placements.iter().all(|placement| !placement.held), "{plan:?}");
}

#[test]
fn nothing_is_sent_ahead_behind_long_work() {
    let mut w = World::new();
    let a = w.session("a", 2);
    w.submit(job(1));
    w.submit(array(8));
    assert_eq!(w.round().len(), 2);
    end(&mut w, a, 2, Verdict::Succeeded, 10);
    let plan = w.plan();
    assert_eq!(held(&plan), [false], "the other one may take hours");
}

#[test]
fn nothing_is_sent_ahead_while_a_worker_drains() {
    let mut w = World::new();
    let a = w.session("a", 2);
    w.submit(array(6));
    w.round();
    w.submit(job(2).with(|job| job.priority = 1));
    w.now += 61_000_000;
    w.apply(Command::Tick);
    w.round();
    assert!(w.state.session(a).unwrap().reserved.is_some());
    end(&mut w, a, 1, Verdict::Succeeded, 10);
    assert!(w.plan().is_empty(), "{:?}", w.plan());
}

/// Found by chance: only the next plan kept a worker free for it.
#[test]
fn who_waits_first_after_the_rest_was_sent_ahead_starves_in_the_same_plan() {
    let mut w = World::new();
    let a = w.session("a", 2);
    let large = w.submit(array_of(2, 2));
    w.round();
    w.write(Op::Pause { jobs: vec![large] });
    end(&mut w, a, 1, Verdict::Succeeded, 10);
    let small = w.submit(array(6).with(|job| job.priority = 1));
    w.round();
    end(&mut w, a, 2, Verdict::Succeeded, 10);
    assert_eq!(held(&w.plan()), [false, true, true]);
    w.round();
    w.write(Op::Resume { jobs: vec![large] });
    w.write(Op::Pause { jobs: vec![small] });
    w.now += 61_000_000;
    w.apply(Command::Tick);
    w.write(Op::Resume { jobs: vec![small] });
    end(&mut w, a, 5, Verdict::Succeeded, 10);
    let plan = w.plan();
    assert_eq!(held(&plan), [true], "the last of the small ones");
    let reserved: Vec<_> = plan.reservations.iter().map(|row| (row.session, row.job)).collect();
    assert_eq!(reserved, [(a, large)]);
    w.round();
    assert!(w.plan().is_empty());
}

#[test]
fn what_was_sent_ahead_is_asked_back_when_another_worker_has_room() {
    let mut w = World::new();
    let a = w.session("a", 1);
    w.submit(array(4));
    w.round();
    end(&mut w, a, 1, Verdict::Succeeded, 10);
    w.round();
    assert!(w.state.ready().is_empty());
    assert_eq!(recalls(&w.state, &Overlay::default()), []);
    w.session("b", 1);
    // The last of the two: it would wait longest.
    assert_eq!(recalls(&w.state, &Overlay::default()), [(a, 4)]);
    w.submit(job(1));
    assert_eq!(w.round(), ["j2.0@b"]);
    assert_eq!(recalls(&w.state, &Overlay::default()), []);
}

#[test]
fn a_quick_failure_does_not_show_that_work_is_short() {
    let mut w = World::new();
    let a = w.session("a", 1);
    w.submit(array(8));
    w.round();
    end(&mut w, a, 1, Verdict::Failed, 10);
    assert_eq!(held(&w.plan()), [false]);
}
