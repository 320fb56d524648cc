//! Properties over random events: jobs, workers, reports, pauses, time, and plans that are late or lost.

use machine::Target;
use model::policy::{Backfill, Mode, Order};
use model::{Offer, Placement};

use super::*;

const GIB: u64 = 1 << 30;

#[derive(Clone, Debug)]
pub(super) enum Event {
    Submit {
        ask: Ask,
        priority: i32,
        queue: usize,
        spread: bool,
        len: u32,
    },
    Open {
        cores: u64,
        memory: u64,
        gpus: u32,
    },
    End {
        worker: usize,
    },
    Cordon {
        worker: usize,
    },
    Uncordon {
        worker: usize,
    },
    Drain {
        worker: usize,
    },
    /// Of what runs, one allocation after so many.
    Finish {
        place: usize,
    },
    Cancel {
        job: usize,
    },
    PauseJob {
        job: usize,
        on: bool,
    },
    PauseQueue {
        queue: usize,
        on: bool,
    },
    RunningMax {
        queue: usize,
        max: Option<u32>,
    },
    /// What a worker is offered as of the newest state is its own.
    Claim {
        worker: usize,
        chance: u64,
    },
    Policy {
        queue: usize,
        order: usize,
        backfill: usize,
    },
    /// So many cores of one worker for the queue, or for nobody, so many seconds from now on.
    Book {
        queue: Option<usize>,
        cores: u64,
        from: u64,
        length: u64,
    },
    /// Whether tasks of the queue give way, whatever its backfill.
    Preempt {
        queue: usize,
        on: bool,
    },
    Wait {
        seconds: u64,
    },
    /// An earlier plan is applied, or never will be.
    Land,
    Lose,
}

/// What a task asks for.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub cores: u64,
    pub memory: u64,
    /// Ten-thousandths of units that can be told apart.
    pub gpus: u64,
    /// On a worker with an even number, or with an odd one.
    pub parity: Option<bool>,
    pub noop: bool,
}

fn ask() -> impl Strategy<Value = Ask> {
    let gpus = prop_oneof![4 => Just(0), 1 => Just(5_000u64), 1 => Just(10_000), 1 => Just(20_000)];
    let noop = prop::bool::weighted(0.1);
    (1u64..5, 0u64..5, gpus, prop::option::weighted(0.2, any::<bool>()), noop).prop_map(
        |(cores, memory, gpus, parity, noop)| Ask { cores, memory: memory * GIB, gpus, parity, noop },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let submit = (ask(), -2i32..3, 0usize..3, any::<bool>(), 1u32..5)
        .prop_map(|(ask, priority, queue, spread, len)| Event::Submit { ask, priority, queue, spread, len });
    let open = (1u64..6, 1u64..6, 0u32..4).prop_map(|(cores, memory, gpus)| Event::Open {
        cores,
        memory: memory * GIB,
        gpus,
    });
    let worker = || 0usize..8;
    prop_oneof![
        8 => submit,
        2 => open,
        1 => worker().prop_map(|worker| Event::End { worker }),
        1 => worker().prop_map(|worker| Event::Cordon { worker }),
        1 => worker().prop_map(|worker| Event::Uncordon { worker }),
        1 => worker().prop_map(|worker| Event::Drain { worker }),
        6 => (0usize..16).prop_map(|place| Event::Finish { place }),
        1 => (0usize..20).prop_map(|job| Event::Cancel { job }),
        2 => (0usize..20, any::<bool>()).prop_map(|(job, on)| Event::PauseJob { job, on }),
        1 => (0usize..3, any::<bool>()).prop_map(|(queue, on)| Event::PauseQueue { queue, on }),
        1 => (0usize..3, prop::option::of(0u32..6)).prop_map(|(queue, max)| Event::RunningMax { queue, max }),
        1 => (0usize..3, 0usize..14, 0usize..4)
            .prop_map(|(queue, order, backfill)| Event::Policy { queue, order, backfill }),
        1 => (0usize..3, any::<bool>()).prop_map(|(queue, on)| Event::Preempt { queue, on }),
        1 => (prop::option::of(0usize..3), 1u64..5, 0u64..100, 1u64..100)
            .prop_map(|(queue, cores, from, length)| Event::Book { queue, cores, from, length }),
        4 => (worker(), any::<u64>()).prop_map(|(worker, chance)| Event::Claim { worker, chance }),
        4 => (1u64..200).prop_map(|seconds| Event::Wait { seconds }),
        4 => Just(Event::Land),
        1 => Just(Event::Lose),
    ]
}

const QUEUES: [&str; 3] = ["default", "one", "two"];

fn world() -> World {
    let mut w = World::new();
    for name in &QUEUES[1..] {
        w.write(Op::PutQueue(QueueSpec { name: (*name).to_owned(), ..QueueSpec::default() }));
    }
    w
}

/// What the cluster refuses, for example to cordon a worker that there is not, changes nothing and is well.
fn happen(w: &mut World, event: &Event) {
    let name = |worker: &usize| format!("w{worker}");
    let job = |w: &World, place: &usize| JobId(*place as u64 % w.jobs.max(1) + 1);
    let queue = |place: &usize| QUEUES[*place].to_owned();
    match event {
        Event::Submit { ask, priority, queue, spread, len } => {
            let spec = spec(ask, *priority, QUEUES[*queue], *spread, *len);
            w.user = ["ann", "bob", "cyn"][w.jobs as usize % 3].to_owned();
            w.submit_if_it_fits(spec);
        }
        Event::Open { cores, memory, gpus } => open(w, *cores, *memory, *gpus),
        Event::End { worker } => {
            let session = w.state.worker(&name(worker)).and_then(|worker| worker.session);
            session.map(|session| w.apply(Command::EndSession { session }));
        }
        Event::Cordon { worker } => drop(w.write(Op::Cordon { worker: name(worker) })),
        Event::Uncordon { worker } => drop(w.write(Op::Uncordon { worker: name(worker) })),
        Event::Drain { worker } => drop(w.write(Op::Drain { worker: name(worker) })),
        Event::Finish { place } => finish(w, *place),
        Event::Cancel { job: place } => {
            let targets = vec![Target::job(job(w, place))];
            drop(w.write(Op::Cancel { targets }));
        }
        Event::PauseJob { job: place, on } => {
            let jobs = vec![job(w, place)];
            drop(w.write(if *on { Op::Pause { jobs } } else { Op::Resume { jobs } }));
        }
        Event::PauseQueue { queue: place, on } => {
            let name = queue(place);
            drop(w.write(if *on { Op::PauseQueue { name } } else { Op::ResumeQueue { name } }));
        }
        Event::RunningMax { queue: place, max } => {
            drop(w.write(Op::PutQueue(QueueSpec {
                name: queue(place),
                running_max: *max,
                no_running_max: max.is_none(),
                ..QueueSpec::default()
            })));
        }
        Event::Policy { queue: place, order, backfill } => {
            let (order, backfill) = (
                Order::ALL.get(*order).copied().unwrap_or_default(),
                Backfill::ALL[backfill % Backfill::ALL.len()],
            );
            let preempt = order == Order::Priority && backfill != Backfill::None && place % 2 == 0;
            let claimed = backfill == Backfill::FirstFit && order != Order::RoundRobin && !preempt;
            let mode =
                if claimed { Mode::ALL[(*place + order as usize) % Mode::ALL.len()] } else { Mode::Push };
            let is_aged = order == Order::Priority && (*place + backfill as usize).is_multiple_of(3);
            drop(w.write(Op::PutQueue(QueueSpec {
                name: queue(place),
                order: Some(order),
                ageing: is_aged.then_some(Duration::from_secs(30)),
                backfill: Some(backfill),
                preempt: Some(preempt),
                mode: Some(mode),
                ..QueueSpec::default()
            })));
        }
        Event::Book { queue: place, cores, from, length } => {
            let spec = machine::BookingSpec {
                name: "b".to_owned(),
                queue: place.as_ref().map(queue),
                from: Some(model::Timestamp(w.now + from * 1_000_000)),
                length: Duration::from_secs(*length),
                count: 1,
                resources: Resources::cores(*cores),
                ..machine::BookingSpec::default()
            };
            drop(w.write(Op::PutBooking(spec)));
        }
        Event::Preempt { queue: place, on } => {
            let spec = QueueSpec { name: queue(place), preempt: Some(*on), ..QueueSpec::default() };
            drop(w.write(Op::PutQueue(spec)));
        }
        Event::Claim { worker, chance } => claim(w, *worker, *chance),
        Event::Wait { seconds } => wait(w, *seconds),
        Event::Land | Event::Lose => {}
    }
}

fn spec(ask: &Ask, priority: i32, queue: &str, spread: bool, len: u32) -> JobSpec {
    let mut task = wants(ask.cores, ask.memory);
    if ask.noop {
        task.work = Work::Noop;
    }
    task.resources.set("gpu", ask.gpus);
    if ask.memory % 4 == 1 && (priority != 1 || len == 1) {
        let mut other = Resources::cores(1);
        other.set("gpu", 5_000);
        task.alternatives.push(other);
    }
    if ask.cores % 3 == 2 {
        task.resources.set_apart(["x".to_owned()]);
    }
    task.array = Some(model::ArrayRange { first: 0, last: len - 1, step: 1 });
    task.gang = priority == 1 && len > 1;
    let parity = |even: bool| model::Constraint::Equals {
        label: "parity".to_owned(),
        value: if even { "even" } else { "odd" }.to_owned(),
    };
    // Exactly what it will take, twice that, or nothing that is known.
    let estimate = [None, Some(5), Some(10)][(ask.cores + ask.memory) as usize % 3].map(Duration::from_secs);
    task.timing = model::Timing { estimate, ..Default::default() }.boxed();
    task.constraints = ask.parity.map(parity).into_iter().collect();
    let placement = if spread { Placement::Spread } else { Placement::Pack };
    JobSpec::of("", vec![task]).with(|job| {
        job.priority = priority;
        job.placement = placement;
        job.queue = queue.to_owned();
    })
}

/// The first worker without a session comes.
fn open(w: &mut World, cores: u64, memory: u64, gpus: u32) {
    let is_gone =
        |number: &usize| w.state.worker(&format!("w{number}")).and_then(|worker| worker.session).is_none();
    let Some(number) = (0..8).find(is_gone) else { return };
    let mut capacity = offers(cores, memory);
    if gpus > 0 {
        capacity.offer("gpu", Offer::Indexed(gpus));
    }
    let parity = if number % 2 == 0 { "even" } else { "odd" };
    w.session_of(&format!("w{number}"), capacity, &[("parity", parity)]);
}

/// The attempt succeeds.
pub(super) fn finish(w: &mut World, place: usize) {
    let running: Vec<_> = w
        .state
        .sessions()
        .filter(|session| !session.ended)
        .flat_map(|session| session.allocations.values().map(|allocation| (session.id, allocation.clone())))
        .collect();
    let Some((session, allocation)) = running.get(place % running.len().max(1)) else { return };
    // Some so short that more of the kind is sent ahead.
    let took_ms = if place % 2 == 1 { 10 } else { 5_000 };
    end(w, *session, allocation.seq, Verdict::Succeeded, took_ms);
}

fn claim(w: &mut World, worker: usize, chance: u64) {
    let live: Vec<SessionId> =
        w.state.sessions().filter(|session| !session.ended).map(|session| session.id).collect();
    let Some(session) = live.get(worker % live.len().max(1)).copied() else { return };
    let offer = crate::claim::offer(&w.state, session);
    assert!(offer.channels() <= offer.stations, "{offer:?}");
    let placements = offer.draw(chance);
    let taken = placements.len() as u32;
    let reply = w.write(Op::Claim { session, placements });
    assert_eq!(reply, machine::Reply::Placed { taken, dropped: 0 });
}

/// One round after each event, and what another one would add after the last.
pub(super) fn again_after(events: &[Event]) -> Plan {
    let mut w = world();
    for event in events {
        happen(&mut w, event);
        w.round();
    }
    w.plan()
}

proptest! {
    #![proptest_config(config(150))]

    /// What is kept between evaluations only saves work: plans in flight, late and lost, included.
    #[test]
    fn a_fresh_scratch_gives_the_same_plan(
        events in prop::collection::vec(event(), 1..80),
        placements_max in prop_oneof![Just(2usize), Just(Budget::default().placements_max)],
    ) {
        let (mut w, mut kept, mut overlay) = (world(), Scratch::default(), Overlay::default());
        let mut in_flight: Vec<(u64, Plan)> = Vec::new();
        let budget = Budget { placements_max, ..Budget::default() };
        for (number, event) in (1u64..).zip(&events) {
            happen(&mut w, event);
            if matches!(event, Event::Land | Event::Lose) && !in_flight.is_empty() {
                let (id, landing) = in_flight.remove(0);
                if matches!(event, Event::Land) {
                    w.apply(Command::Place(landing));
                }
                overlay.remove(id);
            }
            let made = plan(&w.state, &mut kept, &overlay, budget);
            let fresh = plan(&w.state, &mut Scratch::default(), &overlay, budget);
            prop_assert_eq!(&made, &fresh, "after event {}, {:?}", number, event);
            if !made.is_empty() {
                overlay.add(number, &made);
                in_flight.push((number, made));
            }
        }
    }

    /// `World::apply` checks after every entry that nothing is over-committed.
    #[test]
    fn a_plan_is_taken_whole_and_planning_again_adds_nothing(events in prop::collection::vec(event(), 1..80)) {
        let mut w = world();
        for event in &events {
            happen(&mut w, event);
            w.round();
            let again = w.plan();
            prop_assert!(again.is_empty(), "after {:?}: {:?}", event, again);
        }
    }
}
