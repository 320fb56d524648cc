//! Histories after which a second plan once added something: what the first one did not know when it decided. Found by the
//! random plans.

use super::random::{Ask, Event, again_after};

mod giving_way;
mod promising;

const GIB: u64 = 1 << 30;

const fn open(cores: u64, gib: u64, gpus: u32) -> Event {
    Event::Open { cores, memory: gib * GIB, gpus }
}

fn ask(cores: u64, gib: u64) -> Ask {
    Ask { cores, memory: gib * GIB, gpus: 0, parity: None, noop: false }
}

fn with_gpus(cores: u64, gib: u64, gpus: u64) -> Ask {
    Ask { gpus, ..ask(cores, gib) }
}

fn submit(ask: Ask, priority: i32, queue: usize, len: u32) -> Event {
    Event::Submit { ask, priority, queue, spread: false, len }
}

/// In the first queue, over all workers.
fn spread(ask: Ask, len: u32) -> Event {
    Event::Submit { ask, priority: 0, queue: 0, spread: true, len }
}

/// By their places among all orders and backfills.
const fn policy(queue: usize, order: usize, backfill: usize) -> Event {
    Event::Policy { queue, order, backfill }
}

const fn finish(place: usize) -> Event {
    Event::Finish { place }
}

const fn wait(seconds: u64) -> Event {
    Event::Wait { seconds }
}

#[track_caller]
fn is_at_rest(events: &[Event]) {
    let again = again_after(events);
    assert!(again.is_empty(), "{again:?}");
}

#[test]
fn nobody_makes_room_where_there_is_some_that_is_promised_to_another() {
    is_at_rest(&[
        policy(1, 0, 2),
        open(3, 3, 1),
        policy(0, 0, 0),
        submit(ask(1, 3), 0, 0, 2),
        submit(ask(3, 0), 2, 1, 1),
        finish(0),
    ]);
}

#[test]
fn no_start_is_promised_after_one_of_whom_nobody_knows_when_it_is_over() {
    is_at_rest(&[
        open(4, 3, 2),
        policy(0, 0, 2),
        policy(1, 3, 3),
        submit(ask(3, 3), 0, 0, 1),
        submit(ask(2, 0), 1, 0, 1),
        submit(ask(1, 2), 0, 1, 1),
        finish(0),
        finish(0),
    ]);
}

#[test]
fn who_was_counted_with_by_a_later_promise_takes_its_place() {
    is_at_rest(&[
        policy(1, 0, 2),
        submit(ask(1, 0), 1, 2, 2),
        submit(ask(3, 0), 0, 2, 1),
        submit(ask(1, 0), 0, 0, 3),
        open(2, 1, 0),
        finish(0),
        submit(ask(2, 1), 0, 1, 1),
        policy(2, 3, 2),
        submit(ask(1, 0), 0, 0, 1),
        open(5, 1, 0),
    ]);
}

#[test]
fn the_promise_of_a_shared_queue_goes_to_whose_turn_it_is_by_then() {
    is_at_rest(&[
        open(5, 3, 0),
        submit(with_gpus(3, 2, 5_000), 0, 2, 1),
        submit(ask(1, 2), 0, 0, 1),
        open(5, 1, 1),
        submit(ask(1, 0), 0, 0, 1),
        Event::End { worker: 1 },
        submit(ask(3, 0), 0, 0, 1),
        submit(ask(1, 0), 0, 0, 1),
        finish(0),
        submit(ask(3, 0), 0, 0, 1),
        submit(ask(2, 0), 0, 0, 1),
        submit(ask(3, 0), 0, 0, 1),
        submit(ask(3, 0), 0, 2, 1),
        open(5, 2, 1),
        Event::Uncordon { worker: 0 },
        finish(12),
        policy(2, 8, 2),
        submit(with_gpus(1, 0, 5_000), 0, 2, 1),
        submit(ask(2, 0), 0, 0, 1),
        submit(ask(1, 0), 0, 2, 1),
    ]);
}

#[test]
fn a_place_in_time_that_is_left_is_offered_to_those_who_came_before() {
    is_at_rest(&[
        open(5, 2, 3),
        policy(2, 0, 3),
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(1, 3), 0, 0, 2),
        Event::End { worker: 1 },
        submit(ask(2, 0), 0, 0, 1),
        submit(ask(2, 0), 0, 0, 3),
        open(2, 3, 1),
        finish(0),
        submit(ask(1, 2), -1, 2, 2),
        finish(0),
        submit(ask(2, 0), 0, 0, 1),
        submit(ask(1, 3), 0, 2, 1),
        submit(ask(2, 0), 0, 0, 1),
        finish(3),
        finish(0),
    ]);
}

#[test]
fn more_is_sent_ahead_once_nobody_waits_for_a_promise() {
    is_at_rest(&[
        open(3, 4, 1),
        submit(ask(3, 0), 0, 2, 3),
        submit(ask(1, 0), 1, 0, 1),
        wait(60),
        submit(ask(3, 0), 0, 1, 2),
        finish(0),
        finish(0),
        finish(1),
        policy(1, 0, 3),
        finish(1),
    ]);
}

#[test]
fn who_starves_has_room_at_once_that_was_promised_to_another() {
    is_at_rest(&[
        submit(ask(1, 2), 2, 2, 3),
        submit(ask(1, 0), 0, 0, 1),
        open(2, 2, 0),
        submit(Ask { noop: true, ..ask(3, 1) }, 0, 1, 1),
        Event::Cordon { worker: 0 },
        wait(60),
        submit(ask(4, 0), 0, 1, 1),
        policy(1, 3, 2),
        open(4, 3, 0),
    ]);
}

#[test]
fn what_was_promised_where_somebody_who_starves_is_placed_is_promised_anew() {
    is_at_rest(&[
        open(4, 1, 0),
        submit(with_gpus(1, 3, 5_000), 0, 0, 1),
        policy(1, 3, 3),
        submit(ask(1, 1), 0, 0, 1),
        submit(ask(2, 0), 0, 0, 1),
        open(1, 1, 0),
        finish(0),
        submit(ask(1, 0), 0, 0, 1),
        submit(with_gpus(1, 0, 20_000), 0, 0, 1),
        submit(ask(1, 4), 2, 1, 1),
        submit(with_gpus(1, 1, 5_000), 2, 2, 1),
        submit(ask(2, 0), 0, 0, 1),
        finish(0),
        finish(0),
        Event::End { worker: 0 },
        Event::End { worker: 0 },
        wait(60),
        open(4, 4, 1),
    ]);
}

#[test]
fn units_that_are_not_whole_now_are_promised_for_when_something_ends() {
    is_at_rest(&[
        submit(ask(3, 1), 0, 0, 1),
        submit(with_gpus(1, 0, 5_000), 0, 1, 4),
        open(4, 2, 2),
        finish(12),
        finish(4),
        Event::Cancel { job: 0 },
        policy(0, 0, 3),
        submit(with_gpus(1, 0, 10_000), 0, 0, 1),
        submit(ask(2, 0), 0, 0, 1),
    ]);
}

#[test]
fn a_promise_stands_though_a_gang_comes_before_it() {
    is_at_rest(&[
        policy(2, 5, 2),
        submit(ask(1, 1), 0, 0, 2),
        submit(ask(3, 1), 2, 2, 2),
        submit(ask(1, 0), 1, 2, 2),
        open(4, 2, 2),
        submit(ask(1, 2), 0, 2, 1),
        submit(ask(1, 2), 0, 0, 1),
        finish(1),
        finish(8),
        policy(0, 0, 3),
        finish(7),
    ]);
}

#[test]
fn what_others_go_before_takes_what_they_left_though_it_was_promised() {
    is_at_rest(&[
        open(5, 4, 3),
        submit(ask(1, 3), 0, 0, 1),
        submit(ask(4, 0), 0, 0, 1),
        policy(2, 0, 0),
        submit(ask(2, 0), -2, 2, 1),
        Event::Cancel { job: 0 },
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(1, 0), -2, 0, 1),
        finish(6),
        submit(ask(2, 0), -2, 1, 1),
        wait(60),
        Event::Cancel { job: 0 },
        submit(ask(1, 0), 0, 0, 1),
        Event::Uncordon { worker: 0 },
        submit(ask(1, 0), 0, 2, 1),
        policy(1, 0, 2),
        finish(0),
    ]);
}

#[test]
fn all_are_looked_at_with_the_promises_that_there_are_in_the_end() {
    is_at_rest(&[
        policy(1, 0, 3),
        submit(with_gpus(2, 0, 5_000), 0, 0, 1),
        open(1, 1, 0),
        submit(ask(2, 0), 0, 1, 1),
        submit(ask(3, 1), 0, 1, 2),
        open(1, 4, 0),
        open(2, 1, 1),
        Event::RunningMax { queue: 1, max: Some(2) },
        submit(ask(1, 0), 0, 2, 1),
        submit(ask(2, 1), 2, 2, 2),
        policy(2, 3, 2),
        Event::Claim { worker: 0, chance: 0 },
        submit(with_gpus(1, 0, 5_000), 0, 0, 1),
        open(1, 1, 0),
        open(5, 2, 0),
    ]);
}

#[test]
fn nobody_is_stopped_for_one_who_would_delay_another_anyway() {
    is_at_rest(&[
        submit(Ask { parity: Some(false), ..ask(1, 3) }, 0, 0, 1),
        submit(with_gpus(1, 0, 20_000), 0, 1, 1),
        submit(with_gpus(1, 1, 20_000), 0, 0, 1),
        open(3, 1, 0),
        submit(ask(1, 1), 0, 0, 1),
        submit(ask(1, 1), 0, 0, 1),
        submit(ask(2, 3), 1, 0, 1),
        submit(ask(1, 4), 2, 0, 1),
        policy(2, 10, 2),
        submit(ask(2, 1), -1, 0, 1),
        wait(2),
        submit(ask(1, 1), 0, 0, 1),
        submit(with_gpus(3, 0, 20_000), 0, 2, 3),
        Event::Cordon { worker: 0 },
        finish(0),
        open(1, 1, 0),
        open(3, 1, 0),
        Event::End { worker: 0 },
        Event::PauseQueue { queue: 1, on: true },
        open(1, 1, 0),
        Event::End { worker: 1 },
        open(4, 5, 2),
        submit(with_gpus(1, 0, 5_000), -1, 1, 1),
        submit(with_gpus(1, 2, 5_000), 2, 2, 1),
        submit(ask(1, 1), -1, 2, 1),
        finish(1),
    ]);
}

#[test]
fn a_gang_that_starves_has_room_at_once_that_was_promised_to_another() {
    is_at_rest(&[
        submit(ask(2, 2), 0, 0, 2),
        submit(ask(1, 3), 0, 0, 1),
        submit(ask(2, 0), 1, 1, 2),
        wait(60),
        open(3, 4, 1),
        finish(0),
        policy(0, 0, 2),
        submit(ask(2, 2), 0, 0, 1),
        finish(0),
        open(2, 1, 0),
    ]);
}

#[test]
fn who_would_have_delayed_another_and_finds_no_room_by_then_may_starve() {
    is_at_rest(&[
        policy(1, 3, 3),
        open(3, 4, 1),
        submit(ask(1, 0), 0, 0, 3),
        finish(0),
        finish(0),
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(1, 0), 0, 0, 3),
        submit(ask(1, 0), 0, 0, 1),
        open(3, 1, 1),
        finish(6),
        Event::Cordon { worker: 1 },
        submit(ask(2, 0), 1, 0, 2),
        open(2, 4, 0),
        submit(ask(2, 4), 1, 1, 2),
        submit(ask(3, 1), 2, 1, 1),
        finish(5),
        wait(60),
    ]);
}

#[test]
fn who_is_first_once_somebody_who_starved_is_placed_may_starve_too() {
    is_at_rest(&[
        policy(2, 0, 3),
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(1, 2), -1, 1, 2),
        Event::Cancel { job: 14 },
        submit(ask(1, 2), 1, 2, 3),
        submit(ask(1, 0), -1, 1, 1),
        submit(ask(1, 2), -1, 1, 1),
        policy(1, 8, 1),
        submit(with_gpus(1, 2, 20_000), 0, 1, 1),
        submit(ask(2, 2), 0, 2, 1),
        submit(ask(1, 4), 0, 2, 1),
        wait(60),
        submit(ask(2, 0), 0, 0, 1),
        open(3, 2, 0),
        open(1, 2, 2),
    ]);
}

#[test]
fn what_goes_on_counts_against_the_ceiling_where_nothing_else_is_ready() {
    is_at_rest(&[
        open(4, 1, 0),
        open(3, 4, 1),
        open(2, 1, 0),
        policy(0, 2, 1),
        open(2, 2, 0),
        submit(ask(3, 0), 0, 0, 2),
        spread(ask(1, 0), 2),
        Event::RunningMax { queue: 0, max: Some(3) },
        finish(0),
        Event::Cordon { worker: 3 },
        finish(0),
        submit(ask(2, 0), 0, 1, 1),
        finish(0),
        finish(0),
        finish(0),
        spread(ask(1, 0), 1),
        submit(ask(3, 0), 0, 0, 2),
        submit(ask(1, 0), 2, 0, 1),
        submit(ask(1, 0), 0, 0, 1),
        wait(1),
    ]);
}

#[test]
fn who_would_have_delayed_another_keeps_nothing_back_once_its_queue_is_at_its_ceiling() {
    is_at_rest(&[
        submit(ask(2, 0), 0, 2, 1),
        open(2, 1, 0),
        submit(ask(3, 0), 0, 0, 4),
        submit(ask(1, 0), 0, 0, 1),
        open(1, 1, 0),
        Event::End { worker: 1 },
        Event::RunningMax { queue: 0, max: None },
        finish(0),
        submit(ask(1, 2), 0, 2, 1),
        submit(ask(3, 1), 2, 2, 1),
        open(4, 1, 0),
        Event::PauseJob { job: 2, on: false },
        finish(14),
        policy(2, 3, 3),
        Event::RunningMax { queue: 2, max: Some(1) },
        finish(7),
        open(4, 2, 0),
    ]);
}

#[test]
fn nothing_is_held_for_a_gang_that_could_start_but_for_a_worker_that_drains_for_another() {
    is_at_rest(&[
        submit(Ask { gpus: 5000, ..ask(1, 0) }, 0, 0, 1),
        submit(Ask { gpus: 20000, parity: Some(false), ..ask(1, 0) }, 0, 2, 1),
        submit(ask(1, 2), 1, 2, 4),
        submit(Ask { gpus: 20000, ..ask(3, 0) }, 1, 0, 1),
        wait(60),
        submit(ask(3, 1), 2, 0, 2),
        submit(Ask { parity: Some(true), ..ask(3, 3) }, 0, 2, 1),
        open(4, 2, 2),
        open(3, 3, 1),
        finish(3),
        submit(ask(1, 3), 0, 0, 1),
        policy(1, 0, 2),
        open(3, 3, 0),
        submit(ask(1, 2), 1, 1, 2),
        finish(1),
    ]);
}

#[test]
fn what_goes_on_gives_back_what_it_had_kept_too_and_is_promised_to_others() {
    is_at_rest(&[
        submit(ask(1, 0), 0, 0, 1),
        open(3, 1, 0),
        open(3, 4, 0),
        submit(ask(1, 0), 0, 0, 4),
        submit(ask(3, 1), 0, 2, 3),
        finish(0),
        submit(Ask { gpus: 5000, ..ask(1, 0) }, 0, 0, 1),
        policy(2, 2, 0),
        finish(0),
        finish(1),
        finish(1),
        wait(1),
        submit(ask(1, 4), 0, 2, 1),
        finish(2),
        policy(2, 1, 2),
        submit(ask(1, 1), 0, 0, 1),
        finish(3),
        submit(ask(1, 0), 0, 0, 1),
    ]);
}

#[test]
fn a_gang_that_has_drained_heeds_what_is_promised_on_other_workers() {
    is_at_rest(&[
        submit(Ask { gpus: 20000, ..ask(1, 3) }, 0, 0, 2),
        policy(0, 3, 2),
        submit(Ask { gpus: 20000, ..ask(1, 3) }, 0, 0, 1),
        Event::Claim { worker: 0, chance: 0 },
        open(1, 2, 0),
        Event::PauseQueue { queue: 2, on: false },
        open(3, 5, 2),
        open(2, 2, 0),
        submit(ask(4, 0), 0, 1, 1),
        spread(ask(1, 1), 3),
        submit(Ask { parity: Some(false), ..ask(1, 4) }, 0, 0, 1),
        finish(4),
        finish(3),
        finish(3),
        finish(6),
        open(1, 1, 0),
        open(4, 4, 0),
        submit(ask(1, 2), 1, 1, 2),
        wait(60),
    ]);
}

#[test]
fn who_takes_no_more_of_what_it_has_most_of_keeps_its_turn() {
    is_at_rest(&[
        open(1, 2, 0),
        open(3, 2, 1),
        submit(ask(1, 1), 0, 0, 3),
        submit(ask(1, 0), 0, 0, 2),
        finish(0),
        submit(ask(1, 2), 0, 2, 4),
        Event::End { worker: 0 },
        finish(0),
        policy(2, 8, 1),
        Event::Claim { worker: 0, chance: 0 },
        Event::End { worker: 2 },
        open(3, 2, 0),
        finish(4),
        submit(Ask { gpus: 10000, ..ask(1, 0) }, 0, 2, 2),
        submit(Ask { noop: true, ..ask(1, 0) }, 0, 2, 1),
        finish(4),
        submit(ask(1, 0), 0, 2, 1),
        submit(Ask { gpus: 5000, ..ask(1, 0) }, 0, 0, 1),
        submit(ask(1, 1), 0, 0, 1),
        finish(14),
        submit(ask(1, 0), 2, 2, 2),
    ]);
}
