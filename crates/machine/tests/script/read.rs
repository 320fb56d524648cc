//! One line of a story becomes commands.

use std::sync::Arc;
use std::time::Duration;

use machine::{
    BookingSpec, Bootstrap, Command, Edge, Ended, JobChange, News, Op, OpenSession, PeriodicSpec,
    PeriodicTaskSpec, Placement, Plan, Preemption, Promise, Promised, QueueSpec, Report, ReportBatch,
    Reservation, Switch, Target,
};
use model::policy::{Adaptation, QueuePolicy};
use model::resources::parse_amount;
use model::settings::{Failover, Lease, Limits};
use model::time::parse_duration;
use model::{
    Actor, Blob, Dependency, Elapsed, JobId, JobSpec, Kind, Offer, Pace, Reason, Resources, Run, RunSet, Seq,
    SessionId, Settings, TaskId, TaskSpec, Timestamp, Timing, Token, Verdict, Work,
};

use super::spec::{debug, job, list, pair};
use super::tell;
use super::world::{Step, World};

type Read<T> = Result<T, String>;

pub fn line(world: &mut World, line: &str) -> Read<Step> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim();
    let command = match verb {
        "time" => {
            world.elapsed = parse_duration(rest)?;
            return Ok(Step::Nothing);
        }
        "wall" => {
            world.wall_ahead += parse_duration(rest)?;
            return Ok(Step::Nothing);
        }
        "show" => return tell::show(&world.state, rest).map(Step::Show),
        "bootstrap" => bootstrap(rest)?,
        "tick" => Command::Tick,
        "clock" => Command::SetClock,
        "worker" => worker(world, rest)?,
        "end" => Command::EndSession { session: rest.parse().map_err(debug)? },
        "place" => Command::Place(plan(rest)?),
        "reserve" => Command::Place(reservation(rest)?),
        "release" => {
            let [first, count] = rest.split_whitespace().collect::<Vec<_>>()[..] else {
                return Err("release j5 2".to_owned());
            };
            let first: JobId = first.parse().map_err(|_| "release j5 2")?;
            Command::Release { first, count: count.parse().map_err(|_| "release j5 2")? }
        }
        "preempt" => Command::Place(preemption(rest)?),
        "suspend" => Command::Place(switch(rest, Pace::StandsStill)?),
        "go-on" => Command::Place(switch(rest, Pace::Runs)?),
        "promise" => Command::Place(promised(rest)?),
        "started" | "succeeded" | "failed" | "lost" | "stopped" | "recalled" => report(world, verb, rest)?,
        verb => return write(world, verb, rest),
    };
    Ok(Step::Commands(vec![command]))
}

fn bootstrap(rest: &str) -> Read<Command> {
    let (levels, limits): (Vec<&str>, Vec<&str>) =
        rest.split_whitespace().partition(|word| word.starts_with("level="));
    let level = levels.first().map(|word| pair(word).1.parse().map_err(|_| "level=2"));
    let settings = changed_settings(Settings::default(), &limits.join(" "))?;
    Ok(Command::Bootstrap(Bootstrap {
        cluster: "story".to_owned(),
        settings,
        epoch: 0,
        next_node: 4,
        level: level.transpose()?.unwrap_or(machine::LEVEL),
    }))
}

/// `failover=wan`, `lease=1s,10s,2s` (heartbeat, ttl, margin) and limits by name.
fn changed_settings(mut settings: Settings, text: &str) -> Read<Settings> {
    let mut limits = serde_json::to_value(&settings.limits).map_err(debug)?;
    for (name, value) in text.split_whitespace().map(pair) {
        match name {
            "failover" => settings.failover = value.parse::<Failover>()?,
            "lease" => {
                let parts: Vec<Duration> = list(value).map(parse_duration).collect::<Read<_>>()?;
                let [heartbeat, ttl, margin] = parts[..] else { return Err("lease=1s,10s,2s".to_owned()) };
                settings.lease = Lease { heartbeat, ttl, margin };
            }
            limit => limits[limit] = value.parse::<u64>().map_err(debug)?.into(),
        }
    }
    settings.limits = serde_json::from_value::<Limits>(limits).map_err(debug)?;
    Ok(settings)
}

/// `w1 cpu=4 gpu=2units labels=zone:eu functions=f secret=7`
fn worker(world: &World, rest: &str) -> Read<Command> {
    let mut words = rest.split_whitespace();
    let mut open = OpenSession {
        session: SessionId(world.state.last_session().0 + 1),
        worker: words.next().ok_or("name the worker")?.to_owned(),
        secret_hash: 1,
        capacity: Default::default(),
        labels: Default::default(),
        kinds: vec![Kind::Process, Kind::Noop, Kind::Sleep, Kind::Function],
        functions: Vec::new(),
        isolation: String::new(),
    };
    for (name, value) in words.map(pair) {
        match name {
            "session" => open.session = value.parse().map_err(debug)?,
            "labels" => {
                let pairs = list(value).filter_map(|label| label.split_once(':'));
                open.labels = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            }
            "functions" => open.functions = list(value).map(str::to_owned).collect(),
            resource => {
                let offer = match value.strip_suffix("units") {
                    Some(units) => Offer::Indexed(units.parse().map_err(debug)?),
                    None => Offer::Sum(parse_amount(resource, value)?),
                };
                open.capacity.offer(resource, offer);
            }
        }
    }
    Ok(Command::OpenSession(open))
}

/// `j1.0-9 s1 held, j2.0 s1`
fn plan(rest: &str) -> Read<Plan> {
    let placement = |part: &str| {
        let words: Vec<&str> = part.split_whitespace().collect();
        let [tasks, session, held @ ..] = &words[..] else { return Err("place j1.0 s1".to_owned()) };
        let (job, tasks) = task_run(tasks)?;
        Ok(Placement {
            job,
            tasks,
            session: session.parse().map_err(debug)?,
            held: *held == ["held"],
            alternative: 0,
        })
    };
    Ok(Plan { placements: rest.split(',').map(placement).collect::<Read<_>>()?, ..Plan::default() })
}

/// `promise j1.0 s1 10s`: the first group of j1 starts on s1 at that time of the cluster's; `promise j1.0 none`.
fn promised(rest: &str) -> Read<Plan> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (group, promise) = match words[..] {
        [group, "none"] => (group, None),
        [group, session, at] => {
            let at = Elapsed::default().plus(model::time::parse_duration(at)?);
            (group, Some(Promise::new(session.parse().map_err(debug)?, at)))
        }
        _ => return Err("promise j1.0 s1 10s, or promise j1.0 none".to_owned()),
    };
    let group: TaskId = group.parse().map_err(debug)?;
    let promised = Promised { job: group.job, group: group.number, promise };
    Ok(Plan { promises: vec![promised], ..Plan::default() })
}

fn reservation(rest: &str) -> Read<Plan> {
    let (session, task) = rest.split_once(' ').ok_or("reserve s1 j1.0")?;
    let task: TaskId = task.parse().map_err(debug)?;
    let session = session.parse().map_err(debug)?;
    let reservation = Reservation { session, job: task.job, task: task.number };
    Ok(Plan { reservations: vec![reservation], ..Plan::default() })
}

/// `s1#2 for j3.0`
fn preemption(rest: &str) -> Read<Plan> {
    let (victim, task) = rest.split_once(" for ").ok_or("preempt s1#2 for j3.0")?;
    let (session, seq) = victim.split_once('#').ok_or("name the allocation as s1#2")?;
    let task: TaskId = task.parse().map_err(debug)?;
    let (session, seq) = (session.parse().map_err(debug)?, seq.parse().map_err(debug)?);
    let preemption = Preemption { session, seq, job: task.job, task: task.number };
    Ok(Plan { preemptions: vec![preemption], ..Plan::default() })
}

/// `s1#2`
fn switch(rest: &str, to: Pace) -> Read<Plan> {
    let (session, seq) = rest.split_once('#').ok_or("name the allocation as s1#2")?;
    let (session, seq) = (session.parse().map_err(debug)?, seq.parse().map_err(debug)?);
    Ok(Plan { switches: vec![Switch { session, seq, to }], ..Plan::default() })
}

/// `j1.0` or `j1.0-9`
fn task_run(text: &str) -> Read<(model::JobId, Run)> {
    let (job, numbers) = text.split_once('.').ok_or("give tasks as j1.0 or j1.0-9")?;
    Ok((job.parse().map_err(debug)?, run(numbers)?))
}

fn run(text: &str) -> Read<Run> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u32, u32) = (first.parse().map_err(debug)?, last.parse().map_err(debug)?);
    Ok(Run::new(first, last + 1 - first))
}

fn run_set(text: &str) -> Read<RunSet> {
    let mut set = RunSet::new();
    for part in list(text) {
        set.insert(run(part)?);
    }
    Ok(set)
}

/// `s1#2 tasks=0-3 token=9 exit=1 message=why result=BYTES`; several after commas make one batch of one session.
fn report(world: &World, verb: &str, rest: &str) -> Read<Command> {
    let mut batch: Option<ReportBatch> = None;
    for part in rest.split(',') {
        let (session, report) = one_report(world, verb, part.trim())?;
        let batch = batch.get_or_insert(ReportBatch { session, reports: Vec::new() });
        batch.reports.push(report);
    }
    batch.map(Command::Report).ok_or_else(|| "report on s1#1".to_owned())
}

fn one_report(world: &World, verb: &str, text: &str) -> Read<(SessionId, Report)> {
    let mut words = text.split_whitespace();
    let (session, seq) = words.next().and_then(|word| word.split_once('#')).ok_or("name it as s1#1")?;
    let (session, seq): (SessionId, Seq) = (session.parse().map_err(debug)?, seq.parse().map_err(debug)?);
    let known = world.allocations.get(&(session, seq)).copied();
    let (mut token, mut tasks) = known.unwrap_or((Token(0), Run::new(0, 1)));
    let mut ended = ended(world, verb);
    for (name, value) in words.map(pair) {
        match name {
            "tasks" => tasks = run(value)?,
            "token" => token = value.parse().map_err(debug)?,
            "exit" => ended.exit_code = Some(value.parse().map_err(debug)?),
            "message" => ended.message = value.to_owned(),
            "result" => {
                let size = value.parse().map_err(debug)?;
                ended.result = Some(Box::new(Blob::inline(vec![b'x'; size])));
            }
            other => return Err(format!("a report has no `{other}`")),
        }
    }
    let news = match verb {
        "started" => News::Started { at: world.wall() },
        "recalled" => News::Recalled,
        _ => News::Ended(Box::new(ended)),
    };
    Ok((session, Report { seq, token, tasks, news }))
}

fn ended(world: &World, verb: &str) -> Ended {
    let (verdict, reason) = match verb {
        "succeeded" => (Verdict::Succeeded, Reason::Exited),
        "lost" => (Verdict::Lost, Reason::WorkerLost),
        "stopped" => (Verdict::Cancelled, Reason::Cancelled),
        _ => (Verdict::Failed, Reason::Exited),
    };
    Ended {
        verdict,
        reason,
        exit_code: None,
        signal: None,
        message: String::new(),
        result: None,
        started: None,
        ended: world.wall(),
        cpu_time: Duration::ZERO,
        memory_peak: 0,
    }
}

/// A client's write. `id=NAME` uses a request id again, `age=2h` and `ahead=2h` move when it was minted.
fn write(world: &mut World, verb: &str, rest: &str) -> Read<Step> {
    let (mut name, mut ago, mut ahead) = (None, Duration::ZERO, Duration::ZERO);
    let mut actor = Actor::new("ann", "cli");
    let mut words = Vec::new();
    for word in rest.split(' ') {
        match word.split_once('=') {
            Some(("id", value)) => name = Some(value),
            Some(("age", value)) => ago = parse_duration(value)?,
            Some(("ahead", value)) => ahead = parse_duration(value)?,
            Some(("tenant", value)) => actor.tenant = value.to_owned(),
            Some(("user", value)) => actor.user = value.to_owned(),
            Some(_) | None => words.push(word),
        }
    }
    let op = op(world, verb, &words.join(" "))?;
    let request = world.request(name, ago, ahead);
    Ok(Step::Commands(vec![world.write(request, actor, op)]))
}

fn op(world: &World, verb: &str, rest: &str) -> Read<Op> {
    let text = rest.to_owned();
    Ok(match verb {
        "submit" => Op::Submit { job: world.next_job(1), spec: Arc::new(job(rest)?) },
        "book" => Op::PutBooking(booking(rest)?),
        "unbook" => Op::DeleteBooking { name: text },
        "claim" => {
            let (session, rest) = rest.split_once(" : ").ok_or("write claim s1 : j1.0 s1")?;
            Op::Claim { session: session.parse().map_err(debug)?, placements: plan(rest)?.placements }
        }
        "submit-stale" => Op::Submit { job: world.next_job(0), spec: Arc::new(job(rest)?) },
        "cancel" => Op::Cancel { targets: targets(rest)? },
        "retry" => match rest.strip_suffix(" failed") {
            Some(rest) => Op::Retry { targets: targets(rest)?, failed_only: true },
            None => Op::Retry { targets: targets(rest)?, failed_only: false },
        },
        "pause" => Op::Pause { jobs: jobs(rest)? },
        "resume" => Op::Resume { jobs: jobs(rest)? },
        "set" => set_job(rest)?,
        "queue" => Op::PutQueue(queue(rest)?),
        "pause-queue" => Op::PauseQueue { name: text },
        "resume-queue" => Op::ResumeQueue { name: text },
        "delete-queue" => Op::DeleteQueue { name: text },
        "adapt" => adapt(rest)?,
        "periodic" => periodic(rest)?,
        "no-periodic" => Op::DeletePeriodic { name: text },
        "undo" => Op::UndoAdapt { queue: text },
        "upgrade" => Op::Upgrade { level: rest.parse().map_err(|_| "upgrade 3")? },
        "cordon" => Op::Cordon { worker: text },
        "uncordon" => Op::Uncordon { worker: text },
        "drain" => Op::Drain { worker: text },
        "forget" => Op::ForgetWorker { worker: text },
        "setting" => {
            let (path, value) = pair(rest);
            Op::PutSetting { path: path.to_owned(), value: value.to_owned() }
        }
        "settings" => Op::PutSettings(Box::new(changed_settings(world.state.settings().clone(), rest)?)),
        other => return Err(format!("`{other}` is no verb of the stories")),
    })
}

/// `j1` or `j1.0-3,7`; several with blanks.
fn targets(rest: &str) -> Read<Vec<Target>> {
    let target = |word: &str| match word.split_once('.') {
        None => Ok(Target::job(word.parse().map_err(debug)?)),
        Some((job, numbers)) => {
            Ok(Target { job: job.parse().map_err(debug)?, tasks: Some(run_set(numbers)?) })
        }
    };
    rest.split_whitespace().map(target).collect()
}

fn jobs(rest: &str) -> Read<Vec<model::JobId>> {
    rest.split_whitespace().map(|word| word.parse().map_err(debug)).collect()
}

/// `j1 priority=5 queue=q add=b<a remove=*<j2`
fn set_job(rest: &str) -> Read<Op> {
    let mut words = rest.split_whitespace();
    let job = words.next().ok_or("name the job")?.parse().map_err(debug)?;
    let mut change = JobChange::default();
    for (name, value) in words.map(pair) {
        match name {
            "priority" => change.priority = Some(value.parse().map_err(|_| "priority")?),
            "queue" => change.queue = Some(value.to_owned()),
            "add" => change.add_after.push(edge(value)?),
            "remove" => change.remove_after.push(edge(value)?),
            other => return Err(format!("nothing called `{other}` can be set")),
        }
    }
    Ok(Op::SetJob { job, change })
}

fn edge(text: &str) -> Read<Edge> {
    let (task, on) = text.split_once('<').ok_or("write an edge as task<on")?;
    Ok(Edge { task: (task != "*").then(|| task.to_owned()), on: Dependency::from(on) })
}

/// `b queue=q from=10s for=1m count=2 cpu=2`, or `b for=1m worker=w1`. `from` counts from the beginning of the story.
fn booking(rest: &str) -> Read<BookingSpec> {
    let mut words = rest.split_whitespace();
    let name = words.next().ok_or("name the booking")?.to_owned();
    let mut spec = BookingSpec { name, ..BookingSpec::default() };
    for (name, value) in words.map(pair) {
        match name {
            "queue" => spec.queue = Some(value.to_owned()),
            "from" => spec.from = Some(super::world::BEGIN.plus(parse_duration(value)?)),
            "for" => spec.length = parse_duration(value)?,
            "worker" => spec.workers.push(value.to_owned()),
            "count" => spec.count = value.parse().map_err(|_| "count")?,
            "where" => spec.constraints.push(value.parse()?),
            resource => spec.resources.set(resource, model::resources::parse_amount(resource, value)?),
        }
    }
    Ok(spec)
}

/// `periodic s edf slots=2 preemptive : a C=100ms T=1s D=500ms slot=1; b C=1s T=2s`.
fn periodic(rest: &str) -> Read<Op> {
    let (head, tasks) = rest.split_once(" : ").ok_or("periodic s edf : a C=100ms T=1s")?;
    let mut words = head.split_whitespace();
    let name = words.next().ok_or("name the set")?.to_owned();
    let order = words.next().ok_or("name the policy")?.parse()?;
    let (preemptive, more): (Vec<&str>, Vec<&str>) = words.partition(|word| *word == "preemptive");
    let slots = more.first().map(|word| pair(word)).map_or(Ok(1), |(_, count)| count.parse());
    let (slots, preemptive) = (slots.map_err(|_| "slots")?, !preemptive.is_empty());
    // Only a process can stand still.
    let work = if preemptive { Work::Run(vec!["x".to_owned()]) } else { Work::Noop };
    let tasks = tasks.split(';').map(|task| periodic_task(&name, task, &work)).collect::<Read<Vec<_>>>()?;
    let admitted = vec!["as the story says".to_owned()];
    Ok(Op::PutPeriodic(Box::new(PeriodicSpec { name, order, slots, preemptive, admitted, tasks })))
}

fn periodic_task(set: &str, text: &str, work: &Work) -> Read<PeriodicTaskSpec> {
    let mut words = text.split_whitespace();
    let name = words.next().ok_or("name the task")?;
    let (mut run_time, mut period, mut deadline, mut slot) = (Duration::ZERO, Duration::ZERO, None, 0);
    for (name, value) in words.map(pair) {
        match name {
            "C" => run_time = parse_duration(value)?,
            "T" => period = parse_duration(value)?,
            "D" => deadline = Some(parse_duration(value)?),
            "slot" => slot = value.parse().map_err(|_| "slot")?,
            other => return Err(format!("a periodic task has no `{other}`")),
        }
    }
    let deadline = deadline.unwrap_or(period);
    let mut task = TaskSpec::new(name, work.clone());
    let timing = Timing::periodic(run_time, deadline, period);
    (task.resources, task.timing) = (Resources::cores(1), timing.boxed());
    let queue = machine::state::periodic::queue_of(set, slot);
    let job = Arc::new(JobSpec::of(&format!("{set}.{name}"), vec![task]).with(|job| job.queue = queue));
    Ok(PeriodicTaskSpec { name: name.to_owned(), run_time, period, deadline, slot, job })
}

/// `adapt q from priority/first-fit to sjf/easy`.
fn adapt(rest: &str) -> Read<Op> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let [queue, "from", from, "to", to] = words[..] else { return Err("adapt q from A/B to C/D".to_owned()) };
    let policy = |text: &str| {
        let (order, backfill) = text.split_once('/').ok_or("write a policy as ORDER/BACKFILL")?;
        let (order, backfill) = (order.parse()?, backfill.parse()?);
        Read::Ok(QueuePolicy { order, backfill, ..QueuePolicy::default() })
    };
    let (from, to) = (policy(from)?, policy(to)?);
    let (wait_from, wait_to) = (Duration::from_secs(90), Duration::from_secs(30));
    let adaptation = Adaptation { at: Timestamp(0), home: to, from, to, tasks: 24, wait_from, wait_to };
    Ok(Op::Adapt { queue: queue.to_owned(), adaptation: Box::new(adaptation) })
}

fn queue(rest: &str) -> Read<QueueSpec> {
    let mut words = rest.split_whitespace();
    let name = words.next().ok_or("name the queue")?.to_owned();
    let mut spec = QueueSpec { name, ..QueueSpec::default() };
    for (name, value) in words.map(pair) {
        match name {
            "weight" => spec.weight = Some(value.parse().map_err(|_| "weight")?),
            "max" if value == "none" => spec.no_running_max = true,
            "max" => spec.running_max = Some(value.parse().map_err(|_| "max")?),
            "order" => spec.order = Some(value.parse()?),
            "ageing" => spec.ageing = Some(model::time::parse_duration(value)?),
            "share" => {
                let (user, weight) = value.split_once(':').ok_or("write a share as share=USER:WEIGHT")?;
                spec.shares.insert(user.to_owned(), weight.parse().map_err(|_| "share")?);
            }
            "preempt" => spec.preempt = Some(value.parse().map_err(|_| "preempt")?),
            "quantum" => spec.quantum = Some(model::time::parse_duration(value)?),
            "backfill" => spec.backfill = Some(value.parse()?),
            "mode" => spec.mode = Some(value.parse()?),
            "auto" => spec.auto = Some(value.parse().map_err(|_| "auto")?),
            other => return Err(format!("a queue has no `{other}`")),
        }
    }
    Ok(spec)
}
