//! Plans that share the entry of their submits.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(config(60))]
    #[test]
    fn what_is_placed_with_its_submit_is_taken_whole(
        workers in prop::collection::vec(1u64..6, 1..6),
        running in 0usize..4,
        jobs in prop::collection::vec((1u64..5, -2i32..3, 1u32..6, any::<bool>()), 1..20),
    ) {
        let mut w = World::new();
        for (place, cores) in workers.iter().enumerate() {
            w.session(&format!("w{place}"), *cores);
        }
        for _ in 0..running {
            w.submit(job(1));
            w.round();
        }
        prop_assume!(w.state.ready().is_empty());
        let specs: Vec<(JobId, JobSpec)> = jobs
            .into_iter()
            .map(|(cores, priority, len, spread)| {
                let mut task = task(cores);
                task.array = Some(model::ArrayRange { first: 0, last: len - 1, step: 1 });
                let placement = if spread { model::Placement::Spread } else { model::Placement::Pack };
                w.jobs += 1;
                (JobId(w.jobs), JobSpec::of("", vec![task]).with(|job| { job.priority = priority; job.placement = placement; }))
            })
            .collect();
        let new: Vec<(JobId, &JobSpec)> = specs.iter().map(|(id, spec)| (*id, spec)).collect();
        let ahead = plan_new(&w.state, &Overlay::default(), &[], &new, 1_000);
        // Until it is applied, a plan beside it takes nothing of the same room.
        let mut overlay = Overlay::default();
        overlay.add_new(1, &ahead.plan, ahead.asked.clone());
        prop_assert!(plan_new(&w.state, &overlay, &[], &[], 1_000).plan.is_empty());
        for (id, spec) in &specs {
            let reply = w.write(Op::Submit { job: *id, spec: Arc::new(spec.clone()) });
            prop_assert_eq!(reply, machine::Reply::Submitted { job: *id });
        }
        // `apply` asserts that nothing is over-committed.
        let reply = w.apply(Command::Place(ahead.plan.clone()));
        prop_assert_eq!(reply, machine::Reply::Placed { taken: ahead.plan.placements.len() as u32, dropped: 0 });
        // What is said to be whole leaves nothing ready, and what is left finds no room.
        prop_assert_eq!(ahead.is_whole, w.state.ready().is_empty());
        prop_assert!(w.plan().placements.is_empty(), "{:?}", w.plan());
    }
}

/// A job of two layers: each of `later` waits for those of the first layer that its bits name.
fn layers(first: &[u64], later: &[(u64, u32)]) -> JobSpec {
    let named = |name: String, cores| task(cores).with(|task| task.name = name);
    let mut tasks: Vec<TaskSpec> =
        first.iter().enumerate().map(|(n, cores)| named(format!("a{n}"), *cores)).collect();
    for (n, (cores, bits)) in later.iter().enumerate() {
        let on = (0..first.len()).filter(|place| bits >> place & 1 == 1);
        let after = on.map(|place| model::Dependency::Task(format!("a{place}"))).collect();
        tasks.push(named(format!("b{n}"), *cores).with(|task| task.after = after));
    }
    JobSpec::of("layers", tasks)
}

proptest! {
    #![proptest_config(config(60))]
    #[test]
    fn what_follows_on_what_is_over_is_placed_on_the_room_of_that_too(
        workers in prop::collection::vec(2u64..8, 1..5),
        first in prop::collection::vec(1u64..4, 1..6),
        later in prop::collection::vec((1u64..4, 1u32..63), 0..8),
        over in any::<u32>(),
    ) {
        let mut w = World::new();
        for (place, cores) in workers.iter().enumerate() {
            w.session(&format!("w{place}"), *cores);
        }
        w.submit(layers(&first, &later));
        w.round();
        // Elsewhere nothing is placed ahead.
        if !w.state.ready().is_empty() {
            return Ok(());
        }
        let running: Vec<(SessionId, u64, model::Run)> = w
            .state
            .sessions()
            .flat_map(|session| session.allocations.iter().map(|(seq, row)| (session.id, *seq, row.tasks)))
            .enumerate()
            .filter(|(place, _)| over >> place & 1 == 1)
            .map(|(_, one)| one)
            .collect();
        let named: Vec<Over> =
            running.iter().map(|(session, seq, tasks)| Over { session: *session, seq: *seq, tasks: *tasks }).collect();
        let ahead = plan_new(&w.state, &Overlay::default(), &named, &[], 1_000);
        for (session, seq, _) in &running {
            end(&mut w, *session, *seq, Verdict::Succeeded, 1);
        }
        // `apply` asserts that nothing is over-committed.
        let reply = w.apply(Command::Place(ahead.plan.clone()));
        prop_assert_eq!(reply, machine::Reply::Placed { taken: ahead.plan.placements.len() as u32, dropped: 0 });
        // What is said to be whole leaves nothing ready, and what is left finds no room.
        prop_assert_eq!(ahead.is_whole, w.state.ready().is_empty());
        prop_assert!(w.plan().placements.is_empty(), "{:?}", w.plan());
    }
}
