//! Histories whose verdict a person can see, and thousands that a slower checker judges too.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use std::collections::BTreeMap;

use OnceOp::{Add, Contains};

use super::RegisterOp::{Read, Write};
use super::*;

const STEPS_MAX: u64 = 1_000_000;

fn call<O>(invoked: u64, completed: u64, op: O) -> Call<O> {
    Call { op, invoked, completed: Some(completed) }
}

fn unknown<O>(invoked: u64, op: O) -> Call<O> {
    Call { op, invoked, completed: None }
}

fn register(calls: &[Call<RegisterOp>]) -> Outcome {
    check(&Register::default(), calls, STEPS_MAX)
}

/// The call that cannot be placed.
fn stuck(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Not { call, .. } => call,
        Outcome::Linearizable | Outcome::Unknown { .. } => panic!("{outcome:?}"),
    }
}

#[test]
fn nothing_is_linearizable() {
    assert_eq!(register(&[]), Outcome::Linearizable);
    assert_eq!(register(&[unknown(1, Write(1))]), Outcome::Linearizable);
    assert_eq!(register(&[unknown(1, Read(Some(7)))]), Outcome::Linearizable);
}

#[test]
fn concurrent_calls_may_come_in_any_order() {
    let calls =
        [call(0, 10, Write(1)), call(2, 8, Write(2)), call(3, 4, Read(Some(2))), call(5, 6, Read(Some(1)))];
    assert_eq!(register(&calls), Outcome::Linearizable);
    assert_eq!(register(&[call(0, 5, Write(1)), call(1, 2, Read(None))]), Outcome::Linearizable);
}

#[test]
fn a_stale_read_is_found() {
    let calls = [call(0, 1, Write(1)), call(2, 3, Write(2)), call(4, 5, Read(Some(1)))];
    assert_eq!(register(&calls), Outcome::Not { call: 2, order: vec![0, 1] });
}

#[test]
fn a_lost_write_is_found() {
    assert_eq!(stuck(register(&[call(0, 1, Write(1)), call(2, 3, Read(None))])), 1);
}

#[test]
fn reads_that_go_back_are_found() {
    let write = || call(0, 100, Write(1));
    let there_and_gone = [write(), call(1, 2, Read(Some(1))), call(3, 4, Read(None))];
    assert_eq!(stuck(register(&there_and_gone)), 2);
    let both_at_once = [write(), call(1, 3, Read(Some(1))), call(2, 4, Read(None))];
    assert_eq!(register(&both_at_once), Outcome::Linearizable);
}

#[test]
fn what_was_never_written_is_found() {
    assert_eq!(stuck(register(&[call(0, 1, Write(1)), call(0, 1, Read(Some(9)))])), 1);
}

#[test]
fn an_unknown_write_may_take_effect_late() {
    let calls =
        [unknown(0, Write(1)), call(1, 2, Write(2)), call(3, 4, Read(Some(2))), call(9, 10, Read(Some(1)))];
    assert_eq!(register(&calls), Outcome::Linearizable);
}

#[test]
fn an_unknown_write_may_never_take_effect() {
    let calls =
        [call(0, 1, Write(2)), unknown(2, Write(1)), call(3, 4, Read(Some(2))), call(9, 10, Read(Some(2)))];
    assert_eq!(register(&calls), Outcome::Linearizable);
}

#[test]
fn an_unknown_write_takes_effect_once_and_not_before_it_began() {
    let twice =
        [unknown(0, Write(1)), call(1, 2, Read(Some(1))), call(3, 4, Write(2)), call(5, 6, Read(Some(1)))];
    assert_eq!(register(&twice), Outcome::Not { call: 3, order: vec![0, 1, 2] });
    let early = [call(0, 1, Read(Some(1))), unknown(2, Write(1))];
    assert_eq!(register(&early), Outcome::Not { call: 0, order: vec![] });
}

#[test]
fn a_call_that_begins_as_another_ends_is_concurrent_with_it() {
    assert_eq!(register(&[call(0, 5, Write(1)), call(5, 6, Read(None))]), Outcome::Linearizable);
    assert_eq!(stuck(register(&[call(0, 5, Write(1)), call(6, 7, Read(None))])), 1);
    assert_eq!(register(&[call(5, 5, Read(Some(1))), call(5, 5, Write(1))]), Outcome::Linearizable);
}

#[test]
#[should_panic = "call 0 ended at 1, before it began at 2"]
fn time_does_not_run_backwards() {
    register(&[call(2, 1, Write(1))]);
}

#[test]
fn a_search_that_was_too_short_says_so() {
    let calls: Vec<_> =
        (0..20).map(|value| call(0, 9, Write(value))).chain([call(10, 11, Read(None))]).collect();
    let outcome = check(&Register::default(), &calls, 1_000);
    assert!(matches!(outcome, Outcome::Unknown { tried: 1_000.. }), "{outcome:?}");
}

#[test]
fn a_key_is_added_once() {
    let check = |calls: &[Call<OnceOp>]| check(&Once, calls, STEPS_MAX);
    let add = |at, key, id| call(at, at + 1, Add { key, id: Some(id) });
    let contains = |at, key, id| call(at, at + 1, Contains { key, id });
    let good = [contains(0, 1, None), add(2, 1, 70), add(4, 1, 70), add(6, 2, 71), contains(8, 1, Some(70))];
    assert_eq!(check(&good), Outcome::Linearizable);
    assert_eq!(stuck(check(&[add(0, 1, 70), add(2, 1, 71)])), 1, "twice");
    assert_eq!(stuck(check(&[add(0, 1, 70), add(2, 2, 70)])), 1, "another's id");
    assert_eq!(stuck(check(&[add(0, 1, 70), contains(2, 1, None)])), 1, "lost");
    assert_eq!(stuck(check(&[contains(0, 1, Some(70)), add(2, 1, 70)])), 0, "there before it was added");
}

#[test]
fn the_id_of_an_unheard_add_is_known_once_it_is_seen() {
    let check = |calls: &[Call<OnceOp>]| check(&Once, calls, STEPS_MAX);
    let unheard = || unknown(0, Add { key: 1, id: None });
    let contains = |at, id| call(at, at + 1, Contains { key: 1, id });
    assert_eq!(check(&[unheard(), contains(1, None), contains(3, Some(70))]), Outcome::Linearizable);
    assert_eq!(check(&[unheard(), contains(1, None), contains(3, None)]), Outcome::Linearizable);
    assert_eq!(stuck(check(&[unheard(), contains(1, Some(70)), contains(3, Some(71))])), 2);
    assert_eq!(stuck(check(&[unheard(), contains(1, Some(70)), contains(3, None)])), 2);
    let other = call(3, 4, Add { key: 2, id: Some(70) });
    assert_eq!(stuck(check(&[unheard(), contains(1, Some(70)), other])), 2);
}

#[test]
fn thousands_of_calls_are_no_burden() {
    let mut chance = SmallRng::seed_from_u64(1);
    let mut calls = correct(&mut chance, 2_000, 10, 1_000, register_answer);
    assert_eq!(register(&calls), Outcome::Linearizable);
    let (place, _) = calls.iter().enumerate().filter(|(_, call)| reads(call)).nth(900).expect("a read");
    calls[place].op = Read(Some(-1));
    assert_eq!(stuck(register(&calls)), place);
}

#[test]
fn where_nobody_knows_of_one_in_ten_is_no_burden_either() {
    for seed in 0..5 {
        let mut chance = SmallRng::seed_from_u64(seed);
        let mut calls = correct(&mut chance, 500, 5, 10, register_answer);
        let heard = |call: &Call<RegisterOp>| reads(call) || !call.invoked.is_multiple_of(4);
        calls.iter_mut().filter(|call| !heard(call)).for_each(|call| call.completed = None);
        assert_eq!(register(&calls), Outcome::Linearizable, "seed {seed}");
    }
}

#[test]
fn two_checkers_agree_on_registers() {
    agree(&Register::default(), register_answer, |chance, op| match op {
        Write(value) | Read(Some(value)) => *value = (*value + chance.random_range(1..3)) % 3,
        Read(found @ None) => *found = Some(chance.random_range(0..3)),
    });
}

#[test]
fn two_checkers_agree_on_keys() {
    agree(&Once, once_answer, |chance, op| match op {
        Add { id, .. } | Contains { id, .. } => *id = Some(chance.random_range(0..3)),
    });
}

/// Both give the same verdict on small histories: half of them as they should be, half with an answer that is another.
fn agree<M: Model>(
    model: &M,
    answer: impl Fn(&mut Vec<(u64, u64)>, &mut SmallRng, u64) -> M::Op,
    spoil: impl Fn(&mut SmallRng, &mut M::Op),
) where
    M::Op: Clone + std::fmt::Debug,
{
    let (mut good, mut bad) = (0, 0);
    for seed in 0..6_000 {
        let chance = &mut SmallRng::seed_from_u64(seed);
        let count = chance.random_range(1..=7);
        let mut calls = correct(chance, count, 3, 3, &answer);
        let is_spoilt = seed % 2 == 1;
        if is_spoilt {
            let place = chance.random_range(0..count);
            spoil(chance, &mut calls[place].op);
        }
        let outcome = check(model, &calls, STEPS_MAX);
        let expected = by_force(model, &calls);
        assert_eq!(outcome == Outcome::Linearizable, expected, "seed {seed}: {outcome:?} of {calls:#?}");
        assert!(expected || is_spoilt, "seed {seed} is a history of the model: {calls:#?}");
        if let Outcome::Not { call, order } = outcome {
            assert_blames(model, &calls, call, &order);
            bad += 1;
        } else {
            good += 1;
        }
    }
    assert!(good > 2_000 && bad > 1_000, "{good} good, {bad} bad");
}

/// The history as far as the moment before the end of the call that is blamed is good, and no longer with its end.
fn assert_blames<M: Model>(model: &M, calls: &[Call<M::Op>], call: usize, order: &[usize])
where
    M::Op: Clone + std::fmt::Debug,
{
    let key = |place: usize| calls[place].completed.map(|completed| (completed, place));
    let until = |last: Option<(u64, usize)>| -> Vec<Call<M::Op>> {
        let mut cut = calls.to_vec();
        for (place, call) in cut.iter_mut().enumerate() {
            call.completed = call.completed.filter(|_| key(place) <= last);
        }
        // What begins after the end cannot have an effect before it.
        cut.retain(|call| last.is_none_or(|(time, _)| call.invoked <= time));
        cut
    };
    let before = (0..calls.len()).filter_map(key).filter(|other| Some(*other) < key(call)).max();
    assert!(before.is_none() || by_force(model, &until(before)), "{call} is blamed too late in {calls:#?}");
    assert!(!by_force(model, &until(key(call))), "{call} is blamed too early in {calls:#?}");
    assert!(!order.contains(&call), "{call} has its place in {order:?}");
    let mut state = model.init();
    for place in order {
        state = model.step(&state, &calls[*place].op).expect("the order that is told is possible");
    }
}

/// All orders that respect time, with every choice of the calls of which nobody knows.
fn by_force<M: Model>(model: &M, calls: &[Call<M::Op>]) -> bool {
    fn extends<M: Model>(model: &M, state: &M::State, left: &[&Call<M::Op>]) -> bool {
        if left.iter().all(|call| call.completed.is_none()) {
            return true;
        }
        (0..left.len()).any(|place| {
            let next = left[place];
            let is_late =
                left.iter().any(|other| other.completed.is_some_and(|completed| completed < next.invoked));
            let mut rest = left.to_vec();
            rest.remove(place);
            !is_late && model.step(state, &next.op).is_some_and(|state| extends(model, &state, &rest))
        })
    }
    extends(model, &model.init(), &calls.iter().collect::<Vec<_>>())
}

/// A history of an object that does what it should: each process calls again and again, each call takes effect at some moment
/// between its begin and its end, and some processes never hear of it and start anew. `answer` does what it takes to
/// what is there, a list of pairs, for one of so many values or keys.
fn correct<O>(
    chance: &mut SmallRng,
    count: usize,
    processes: usize,
    values: u64,
    answer: impl Fn(&mut Vec<(u64, u64)>, &mut SmallRng, u64) -> O,
) -> Vec<Call<O>> {
    let mut free = vec![0; processes];
    let mut moments = Vec::new();
    for _ in 0..count {
        let process = chance.random_range(0..processes);
        // Small numbers, so that begins and ends often meet.
        let invoked = free[process] + chance.random_range(0..4);
        let completed = invoked + chance.random_range(0..6);
        free[process] = completed + 1;
        let is_known = values > 3 || chance.random_bool(0.8);
        let late = if is_known { 0 } else { chance.random_range(0..30) };
        // In sixteenths, so that those in one instant come in any order.
        let moment = chance.random_range(invoked * 16..=(completed + late) * 16);
        moments.push((moment, invoked, is_known.then_some(completed)));
    }
    moments.sort_unstable();
    let mut there = Vec::new();
    let mut calls = Vec::new();
    for (_, invoked, completed) in moments {
        let value = chance.random_range(0..values);
        // One in eight of which nobody knows never happened.
        let is_never = completed.is_none() && chance.random_bool(0.125);
        let op = if is_never {
            answer(&mut there.clone(), chance, value)
        } else {
            answer(&mut there, chance, value)
        };
        calls.push(Call { op, invoked, completed });
    }
    calls.sort_by_key(|call| call.invoked);
    calls
}

fn register_answer(there: &mut Vec<(u64, u64)>, chance: &mut SmallRng, value: u64) -> RegisterOp {
    if chance.random_bool(0.5) {
        return Read(there.first().map(|(_, value)| *value as i64));
    }
    *there = vec![(0, value)];
    Write(value as i64)
}

fn once_answer(there: &mut Vec<(u64, u64)>, chance: &mut SmallRng, key: u64) -> OnceOp {
    let found = there.iter().find(|(other, _)| *other == key).map(|(_, id)| *id);
    if chance.random_bool(0.4) {
        return Contains { key, id: found };
    }
    let id = found.unwrap_or(there.len() as u64);
    if found.is_none() {
        there.push((key, id));
    }
    Add { key, id: chance.random_bool(0.8).then_some(id) }
}

fn reads(call: &Call<RegisterOp>) -> bool {
    matches!(call.op, Read(_))
}

/// Another object than a register, whose operations all depend on what is there: a set of keys. The first `Add` of a key gives it an id that no other key has, every later one tells the same id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Once;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnceOp {
    Add {
        key: u64,
        /// None: it was not heard, which is so of every call without an end.
        id: Option<u64>,
    },
    /// With the id that it told.
    Contains { key: u64, id: Option<u64> },
}

/// The keys that are there, each with its id once somebody has heard it.
type Ids = BTreeMap<u64, Option<u64>>;

impl Model for Once {
    type State = Ids;
    type Op = OnceOp;

    fn init(&self) -> Ids {
        Ids::new()
    }

    fn step(&self, state: &Ids, op: &OnceOp) -> Option<Ids> {
        match *op {
            OnceOp::Add { key, id } => known_as(state, key, id),
            OnceOp::Contains { key, id: Some(_) } if !state.contains_key(&key) => None,
            OnceOp::Contains { key, id: id @ Some(_) } => known_as(state, key, id),
            OnceOp::Contains { key, id: None } => (!state.contains_key(&key)).then(|| state.clone()),
        }
    }

    /// A key never goes and never changes its id, so what changes nothing now changes nothing later.
    fn is_look(&self, _op: &OnceOp) -> bool {
        true
    }
}

/// The key is there; an id that is heard is its own, and no other's.
fn known_as(ids: &Ids, key: u64, heard: Option<u64>) -> Option<Ids> {
    let known = ids.get(&key).copied().flatten();
    let fits = match (known, heard) {
        (_, None) => true,
        (Some(known), Some(heard)) => known == heard,
        (None, Some(heard)) => !ids.values().any(|other| *other == Some(heard)),
    };
    fits.then(|| {
        let mut ids = ids.clone();
        ids.insert(key, known.or(heard));
        ids
    })
}
