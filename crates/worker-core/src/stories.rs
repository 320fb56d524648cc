//! Stories of a worker, told event by event.

mod drains;
mod leaders;
mod orders;
mod slices;

use std::sync::Arc;
use std::time::Duration;

use model::settings::Lease;
use model::{
    JobId, Moment, OnDisconnect, Reason, Resources, Run, Seq, SessionId, TaskSpec, Timestamp, Token, Verdict,
    Work,
};

use crate::*;

/// A worker with four cores; time in milliseconds.
struct World {
    core: Core,
    now: Moment,
    journal: Vec<Record>,
}

fn lease() -> Lease {
    let ms = Duration::from_millis;
    Lease { heartbeat: ms(1_000), ttl: ms(10_000), margin: ms(2_000) }
}

fn config() -> Config {
    Config { capacity: Resources::cores(4), servers: vec!["a".into(), "b".into()], lease: None, seed: 7 }
}

fn order(seq: Seq) -> Order {
    let spec = TaskSpec::new("t", Work::Run(vec!["true".into()]));
    Order {
        seq,
        token: Token(100 + seq),
        job: JobId(1),
        tasks: Run::new(seq as u32, 1),
        attempt: 1,
        held: false,
        job_name: String::new(),
        spec: Arc::new(spec),
        array_index: None,
        array_step: 1,
        lines: Vec::new(),
        units: Vec::new(),
        on_disconnect: OnDisconnect::Stop,
        traceparent: String::new(),
        gang: None,
    }
}

fn big(seq: Seq, cores: u64) -> Order {
    let mut spec = TaskSpec::new("t", Work::Run(vec!["true".into()]));
    spec.resources = Resources::cores(cores);
    Order { spec: Arc::new(spec), ..order(seq) }
}

fn held(seq: Seq, cores: u64) -> Order {
    Order { held: true, ..big(seq, cores) }
}

fn noops(seq: Seq, tasks: Run) -> Order {
    Order { spec: Arc::new(TaskSpec::new("n", Work::Noop)), tasks, ..order(seq) }
}

fn welcome(session: u64) -> Message {
    Message::Welcome(Welcome { session: SessionId(session), lease: lease(), replicas: vec!["c".into()] })
}

impl World {
    fn new() -> World {
        World { core: Core::new(config(), Saved::default()), now: Moment(0), journal: Vec::new() }
    }

    /// Attached under session 1, term 5.
    fn attached() -> World {
        let mut world = World::new();
        world.tick();
        world.event(Event::Up);
        world.say(welcome(1));
        world.tick();
        world
    }

    /// Without the records, which are kept and must say the same as the state.
    fn event(&mut self, event: Event) -> Vec<Action> {
        let actions = self.core.step(event, self.now);
        let (saves, rest): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| matches!(action, Action::Save(_)));
        self.journal.extend(saves.into_iter().map(|save| match save {
            Action::Save(record) => record,
            other => panic!("{other:?}"),
        }));
        let mut replayed = Saved::default();
        self.journal.iter().for_each(|record| replayed.apply(record));
        assert_eq!(&replayed, self.core.saved(), "a restart would go on elsewhere");
        rest
    }

    fn say(&mut self, message: Message) -> Vec<Action> {
        self.event(Event::Said { term: 5, applied: 9, message })
    }

    fn run(&mut self, order: Order) -> Vec<Action> {
        self.say(Message::Run(Arc::new(order)))
    }

    fn tick(&mut self) -> Vec<Action> {
        self.event(Event::Tick)
    }

    fn after(&mut self, ms: u64) -> Vec<Action> {
        self.now = self.now.plus(Duration::from_millis(ms));
        self.tick()
    }

    fn end(&mut self, seq: Seq) -> Vec<Action> {
        let ended = Ended::succeeded(Some(Timestamp(1)), Timestamp(2));
        self.event(Event::Ended { seq, tasks: Run::new(seq as u32, 1), ended: Box::new(ended) })
    }

    /// Answers the last heartbeat for `ms`, so that the stream stays alive.
    fn beat(&mut self, ms: u64) {
        for action in self.after(ms) {
            if let Action::Send(Outgoing::Heartbeat { number }) = action {
                self.say(Message::Renewed { number, heartbeat: None });
            }
        }
    }

    fn reattach(&mut self) -> Hello {
        self.event(Event::Down);
        let actions = self.after(1_000);
        assert!(matches!(actions[..], [Action::Connect { .. }]), "{actions:?}");
        match &self.event(Event::Up)[..] {
            [Action::Send(Outgoing::Hello(hello))] => hello.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// The worker process dies and another one takes over its directory.
    fn restart(&mut self) {
        let config = Config { lease: self.core.lease_until(), ..config() };
        self.core = Core::new(config, self.core.saved().clone());
    }
}

fn starts(actions: &[Action]) -> Vec<Seq> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Start { order, .. } => Some(order.seq),
            _ => None,
        })
        .collect()
}

fn kills(actions: &[Action]) -> Vec<Seq> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Kill { seq } => Some(*seq),
            _ => None,
        })
        .collect()
}

fn batches(actions: &[Action]) -> Vec<Batch> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Send(Outgoing::Reports(batch)) => Some(batch.clone()),
            _ => None,
        })
        .collect()
}

fn ended_as(report: &Report) -> (Seq, Verdict, Reason) {
    match &report.news {
        News::Ended(ended) => (report.seq, ended.verdict, ended.reason),
        other => panic!("{other:?}"),
    }
}

fn connects(actions: &[Action]) -> Option<&str> {
    actions.iter().find_map(|action| match action {
        Action::Connect { address } => Some(address.as_str()),
        _ => None,
    })
}

impl World {
    /// A tick on a stream that has just been heard of.
    fn tick_alive(&mut self) -> Vec<Action> {
        self.say(Message::Acked { number: 0, fenced: vec![] });
        self.tick()
    }
}
