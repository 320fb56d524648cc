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
                (JobId(w.jobs), JobSpec { priority, placement, ..JobSpec::of("", vec![task]) })
            })
            .collect();
        let new: Vec<(JobId, &JobSpec)> = specs.iter().map(|(id, spec)| (*id, spec)).collect();
        let ahead = plan_new(&w.state, &Overlay::default(), &new, 1_000);
        // Until it is applied, a plan beside it takes nothing of the same room.
        let mut overlay = Overlay::default();
        overlay.add_new(1, &ahead.plan, ahead.asked.clone());
        prop_assert!(plan_new(&w.state, &overlay, &[], 1_000).plan.is_empty());
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
