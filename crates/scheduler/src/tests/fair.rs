//! Users who share a queue: dominant resource fairness, with what was used before.

use model::policy::{Backfill, Order};

use super::*;

fn asks(cpu: u64, gib: u64) -> JobSpec {
    let mut task = TaskSpec::new("t", Work::Run(vec!["true".to_owned()]));
    task.resources = Resources::cores(cpu);
    task.resources.set("memory", gib << 30);
    JobSpec::of("", vec![task])
}

fn offers(cpu: u64, gib: u64) -> Capacity {
    let mut total = Resources::cores(cpu);
    total.set("memory", gib << 30);
    Capacity::of(total)
}

impl World {
    fn submit_as(&mut self, user: &str, spec: JobSpec) -> JobId {
        self.user = user.to_owned();
        self.submit(spec)
    }

    fn fair(&mut self, shares: &[(&str, u32)]) {
        let shares = shares.iter().map(|(user, weight)| ((*user).to_owned(), *weight)).collect();
        let order = Some(Order::Fair);
        let spec = QueueSpec { name: "default".to_owned(), order, shares, ..QueueSpec::default() };
        assert_eq!(self.write(Op::PutQueue(spec)), machine::Reply::Done);
    }

    /// How many tasks each user has running.
    fn running(&self) -> Vec<(String, usize)> {
        let mut by_user = std::collections::BTreeMap::new();
        for allocation in self.state.sessions().flat_map(|session| session.allocations.values()) {
            let user = self.state.job(allocation.job).unwrap().actor.user.clone();
            *by_user.entry(user).or_insert(0) += 1;
        }
        by_user.into_iter().collect()
    }
}

fn counted(list: &[(&str, usize)]) -> Vec<(String, usize)> {
    list.iter().map(|(user, count)| ((*user).to_owned(), *count)).collect()
}

/// The example of Ghodsi et al. (2011), section 4.1.
#[test]
fn dominant_shares_are_made_equal() {
    let mut w = World::new();
    w.session_with("w", offers(9, 18));
    w.fair(&[]);
    for _ in 0..10 {
        w.submit_as("a", asks(1, 4));
        w.submit_as("b", asks(3, 1));
    }
    w.round();
    assert_eq!(w.running(), counted(&[("a", 3), ("b", 2)]));
    let at = w.state.moment();
    let users = &w.state.queue_named("default").unwrap().users;
    let shares: Vec<u64> = users.iter().map(|(_, user)| user.share(None, at)).collect();
    assert_eq!(shares, [666_666, 666_666]);
}

#[test]
fn a_user_of_three_times_the_weight_gets_three_times_as_much() {
    let mut w = World::new();
    w.session("w", 8);
    w.fair(&[("b", 300)]);
    for user in ["a", "b"] {
        (0..10).for_each(|_| _ = w.submit_as(user, job(1)));
    }
    w.round();
    assert_eq!(w.running(), counted(&[("a", 2), ("b", 6)]));
}

#[test]
fn what_was_used_before_counts_and_fades() {
    let mut w = World::new();
    let session = w.session("w", 1);
    w.fair(&[]);
    let first = w.submit_as("a", job(1));
    assert_eq!(w.round(), [format!("{first}.0@w")]);
    let late = w.submit_as("a", job(1));
    w.now += 100_000_000;
    let other = w.submit_as("b", job(1));
    end(&mut w, session, 1, Verdict::Succeeded, 100_000);
    assert_eq!(w.round(), [format!("{other}.0@w")], "a has had the worker for long");
    // b has had it for longer by now.
    w.now += 1_000_000_000;
    end(&mut w, session, 2, Verdict::Succeeded, 1_000_000);
    let again = w.submit_as("b", job(1));
    assert_eq!(w.round(), [format!("{late}.0@w")]);
    assert!(w.state.job(again).is_some());
}

#[test]
fn of_one_user_the_higher_priority_goes_first_and_of_two_it_does_not() {
    let mut w = World::new();
    w.session("w", 1);
    w.fair(&[]);
    w.submit_as("a", job(1));
    w.round();
    w.submit_as("a", job(1).with(|job| job.priority = 5));
    w.submit_as("b", job(1));
    let high = w.submit_as("b", job(1).with(|job| job.priority = 9));
    let session = w.state.worker("w").unwrap().session.unwrap();
    end(&mut w, session, 1, Verdict::Succeeded, 1_000);
    assert_eq!(w.round(), [format!("{high}.0@w")]);
}

#[test]
fn a_queue_that_becomes_fair_is_shared_by_what_waits_already() {
    let mut w = World::new();
    w.session("w", 4);
    (0..10).for_each(|_| _ = w.submit_as("a", job(1)));
    (0..10).for_each(|_| _ = w.submit_as("b", job(1)));
    w.fair(&[]);
    w.apply(Command::Tick);
    w.round();
    assert_eq!(w.running(), counted(&[("a", 2), ("b", 2)]));
    // And no longer.
    w.policy(Order::Fifo, Backfill::FirstFit);
    w.apply(Command::Tick);
    w.session("v", 4);
    w.round();
    assert_eq!(w.running(), counted(&[("a", 6), ("b", 2)]));
}

#[test]
fn what_is_in_flight_counts_for_its_user() {
    let mut w = World::new();
    w.session("w", 2);
    w.fair(&[]);
    (0..3).for_each(|_| _ = w.submit_as("a", job(1)));
    let plan_of_two = w.plan();
    assert_eq!(plan_of_two.placements.len(), 2);
    let mut overlay = Overlay::default();
    overlay.add(1, &plan_of_two);
    w.session("v", 1);
    let other = w.submit_as("b", job(1));
    let next = plan(&w.state, &mut Scratch::default(), &overlay, Budget::default());
    assert_eq!(next.placements.iter().map(|placement| placement.job).collect::<Vec<_>>(), [other]);
}

#[test]
fn it_is_said_who_comes_before() {
    let mut w = World::new();
    w.session_of("w", Capacity::of(Resources::cores(1)), &[("name", "w")]);
    w.fair(&[]);
    w.submit_as("a", job(1));
    w.round();
    let mine = w.submit_as("a", job(1));
    w.submit_as("b", job(1));
    let policy = Some(Backfill::None);
    w.write(Op::PutQueue(QueueSpec { name: "default".to_owned(), backfill: policy, ..QueueSpec::default() }));
    let reasons = explain(&w.state, TaskId { job: mine, number: 0 }).unwrap().reasons;
    let behind = reasons.iter().find(|reason| reason.code == "behind_others").expect("b comes first");
    assert_eq!(
        behind.message,
        "1 entry of the queue comes before it, with those of 1 user who has had less of it relative to their share, and it lets nothing overtake them"
    );
    assert_eq!(behind.fix, "wait, or give its user more: `baton queue put default --share a=200`");
}

proptest! {
    #![proptest_config(config(200))]

    /// Nobody would rather have what another has, less one task of the other's: with that one could run no more than one
    /// does. Until the first finds no room; who asks for less may be given what is left over then.
    #[test]
    fn nobody_envies_another_by_more_than_a_task(
        asks_of in prop::collection::vec((1u64..6, 1u64..6), 2..5),
        cpu in 40u64..80,
        gib in 40u64..80,
    ) {
        let mut w = World::new();
        w.session_with("w", offers(cpu, gib));
        w.fair(&[]);
        w.policy(Order::Fair, Backfill::None);
        let names = ["a", "b", "c", "d"];
        for (user, (cores, memory)) in names.iter().zip(&asks_of) {
            // More than could ever run.
            for _ in 0..80 {
                w.submit_as(user, asks(*cores, *memory));
            }
        }
        w.round();
        let running: std::collections::BTreeMap<String, usize> = w.running().into_iter().collect();
        let of = |user: &str| running.get(user).copied().unwrap_or(0) as u64;
        let users: Vec<_> = names.iter().zip(&asks_of).collect();
        for (one, mine) in &users {
            for (other, theirs) in &users {
                let tasks = of(other).saturating_sub(1);
                let with_it = (theirs.0 * tasks / mine.0).min(theirs.1 * tasks / mine.1);
                prop_assert!(with_it <= of(one), "{one} runs {}, with the part of {other} {with_it}", of(one));
            }
        }
    }
}

/// What was placed first, on a worker that drained for it, counts for its user when it is looked who comes next.
#[test]
fn a_worker_drains_for_the_user_whose_turn_it_is_after_what_was_just_placed() {
    let mut w = World::new();
    w.fair(&[]);
    w.policy(Order::Fair, Backfill::None);
    let session = w.session_with("a", offers(2, 1));
    let ann = w.submit_as("ann", asks(1, 0));
    let cyn = [w.submit_as("cyn", asks(1, 0)), w.submit_as("cyn", asks(1, 0))];
    let bob = [w.submit_as("bob", asks(1, 0)), w.submit_as("bob", asks(1, 0))];
    w.round();
    wait(&mut w, 61);
    w.round();
    assert_eq!(w.reserved("a"), Some((bob[0], 0)), "{ann} and one of {cyn:?} run");
    end(&mut w, session, 2, Verdict::Succeeded, 1_000);
    let plan = w.plan();
    assert_eq!(plan.placements[0].job, bob[0]);
    assert_eq!(plan.reservations[0].job, cyn[1]);
    w.round();
    assert!(w.plan().is_empty());
}
