//! The same where tasks give way, stand still, go on or drain beside what is promised.

use super::*;

#[test]
fn a_gang_that_begins_elsewhere_leaves_its_place_in_time() {
    is_at_rest(&[
        open(1, 1, 0),
        open(4, 4, 2),
        open(1, 1, 0),
        submit(ask(4, 2), 0, 0, 1),
        Event::RunningMax { queue: 0, max: Some(0) },
        open(1, 1, 1),
        submit(Ask { gpus: 10000, ..ask(2, 3) }, 2, 1, 2),
        open(3, 3, 1),
        open(3, 5, 1),
        Event::RunningMax { queue: 2, max: Some(1) },
        Event::Submit { ask: ask(1, 0), priority: 0, queue: 1, spread: true, len: 2 },
        submit(ask(1, 2), 1, 1, 2),
        submit(Ask { gpus: 5000, ..ask(1, 0) }, 0, 2, 1),
        submit(ask(1, 2), 0, 2, 1),
        finish(1),
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(1, 0), 0, 0, 1),
        policy(1, 3, 3),
        submit(ask(1, 0), 0, 2, 1),
        submit(ask(3, 3), 0, 1, 1),
        Event::Cancel { job: 0 },
        Event::Cordon { worker: 2 },
        wait(60),
        finish(5),
    ]);
}

#[test]
fn what_goes_on_overdue_is_expected_to_take_twice_as_long() {
    is_at_rest(&[
        policy(0, 2, 0),
        submit(ask(1, 0), 0, 0, 1),
        Event::Cancel { job: 0 },
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(1, 0), 0, 0, 3),
        Event::End { worker: 0 },
        submit(ask(2, 0), 0, 1, 1),
        submit(Ask { parity: Some(false), ..ask(1, 0) }, 0, 0, 1),
        Event::End { worker: 0 },
        submit(ask(2, 2), 0, 0, 1),
        open(3, 1, 1),
        wait(1),
        wait(5),
        policy(0, 3, 3),
        open(3, 1, 0),
        finish(7),
        submit(ask(1, 0), 0, 0, 1),
        finish(14),
    ]);
}

#[test]
fn a_slice_ends_whether_or_not_another_queue_looks_for_a_place_in_time_there() {
    is_at_rest(&[
        open(4, 1, 1),
        submit(ask(1, 2), 0, 0, 1),
        policy(1, 0, 3),
        submit(ask(3, 1), 0, 1, 1),
        policy(2, 2, 0),
        submit(ask(1, 1), -1, 0, 1),
        open(4, 1, 1),
        submit(ask(3, 0), 0, 2, 2),
        submit(ask(1, 0), 0, 1, 2),
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(1, 0), 0, 0, 1),
        wait(5),
    ]);
}

#[test]
fn what_lacks_whole_units_waits_for_what_ends_whoever_comes_first() {
    is_at_rest(&[
        submit(ask(2, 1), 2, 0, 2),
        submit(ask(2, 0), 0, 2, 1),
        submit(Ask { gpus: 10000, ..ask(3, 2) }, -1, 0, 2),
        submit(Ask { gpus: 10000, ..ask(4, 1) }, 0, 2, 1),
        Event::PauseQueue { queue: 0, on: false },
        submit(ask(2, 0), 0, 1, 2),
        submit(Ask { gpus: 5000, ..ask(1, 0) }, -1, 0, 3),
        wait(90),
        policy(0, 10, 0),
        open(5, 2, 2),
        open(5, 1, 0),
        policy(1, 0, 0),
        submit(ask(3, 0), 2, 0, 1),
        open(2, 1, 0),
        open(5, 2, 1),
        finish(0),
        wait(60),
        submit(Ask { gpus: 20000, ..ask(1, 0) }, 0, 0, 1),
        finish(8),
        submit(ask(2, 0), 0, 2, 1),
        finish(9),
        policy(0, 4, 2),
        finish(5),
    ]);
}

#[test]
fn nobody_gives_way_to_one_that_would_delay_who_has_a_place_in_time() {
    is_at_rest(&[
        submit(Ask { gpus: 5000, ..ask(1, 0) }, 1, 0, 1),
        submit(Ask { gpus: 5000, parity: Some(false), ..ask(1, 0) }, 0, 2, 1),
        submit(Ask { gpus: 5000, ..ask(1, 0) }, 1, 1, 2),
        policy(2, 10, 2),
        policy(1, 0, 3),
        submit(ask(3, 1), -2, 2, 1),
        open(1, 1, 1),
        submit(ask(2, 0), -1, 1, 2),
        submit(ask(1, 1), 0, 1, 1),
        submit(ask(2, 0), 0, 0, 1),
        open(3, 1, 0),
        finish(3),
        finish(6),
        submit(ask(2, 1), 0, 2, 1),
        wait(10),
        finish(0),
    ]);
}

#[test]
fn what_gives_way_leaves_its_place_under_the_ceiling_to_who_drains_for_it() {
    is_at_rest(&[
        Event::RunningMax { queue: 2, max: Some(2) },
        open(4, 2, 1),
        submit(Ask { gpus: 20000, ..ask(1, 0) }, 0, 0, 1),
        submit(ask(2, 0), -1, 2, 1),
        open(1, 1, 0),
        Event::Cordon { worker: 1 },
        submit(ask(2, 0), 0, 0, 1),
        Event::End { worker: 1 },
        open(1, 2, 0),
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(2, 0), 0, 2, 1),
        Event::Uncordon { worker: 0 },
        submit(ask(1, 0), 1, 2, 2),
        open(3, 1, 0),
        submit(ask(2, 0), 0, 0, 1),
        policy(2, 10, 0),
    ]);
}

#[test]
fn who_is_refused_by_a_worker_that_drains_from_now_on_has_others_give_way_elsewhere() {
    is_at_rest(&[
        open(4, 4, 1),
        submit(ask(1, 0), 0, 0, 1),
        Event::Uncordon { worker: 0 },
        submit(ask(1, 0), 0, 0, 1),
        Event::End { worker: 1 },
        submit(ask(4, 0), 0, 0, 1),
        Event::Uncordon { worker: 0 },
        submit(Ask { gpus: 5000, ..ask(1, 0) }, 1, 0, 3),
        policy(2, 10, 2),
        open(1, 1, 0),
        submit(ask(4, 0), 0, 2, 1),
        open(1, 2, 1),
        submit(Ask { gpus: 10000, ..ask(1, 0) }, -1, 2, 1),
        submit(ask(1, 2), 0, 2, 1),
        wait(60),
    ]);
}

#[test]
fn a_worker_drains_on_though_what_gives_way_there_fills_the_queue() {
    is_at_rest(&[
        policy(0, 10, 2),
        open(1, 1, 0),
        open(3, 3, 3),
        submit(ask(4, 0), 0, 0, 1),
        submit(ask(2, 0), 0, 0, 3),
        open(2, 1, 1),
        Event::End { worker: 3 },
        submit(Ask { parity: Some(false), ..ask(1, 0) }, 0, 0, 1),
        Event::End { worker: 0 },
        open(2, 1, 0),
        submit(ask(1, 0), 0, 1, 1),
        submit(ask(1, 0), 1, 0, 1),
        Event::RunningMax { queue: 0, max: Some(4) },
        wait(60),
    ]);
}

#[test]
fn who_would_have_to_stop_at_once_for_another_that_waits_does_not_begin() {
    is_at_rest(&[
        submit(ask(2, 0), 0, 0, 2),
        open(5, 5, 1),
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(2, 0), -1, 1, 1),
        submit(Ask { parity: Some(false), ..ask(1, 0) }, 2, 0, 1),
        Event::Uncordon { worker: 0 },
        submit(ask(2, 3), 2, 0, 2),
        Event::Cancel { job: 0 },
        submit(ask(2, 0), -2, 0, 1),
        submit(ask(4, 1), 0, 0, 1),
        submit(ask(2, 4), 0, 1, 1),
        wait(60),
        policy(0, 10, 2),
        policy(1, 3, 2),
        submit(ask(1, 1), 0, 0, 2),
        finish(0),
        Event::End { worker: 1 },
        finish(0),
        finish(7),
        finish(0),
        Event::End { worker: 1 },
        finish(8),
    ]);
}

#[test]
fn what_leaves_already_counts_beside_places_in_time() {
    is_at_rest(&[
        policy(0, 0, 2),
        open(1, 1, 0),
        Event::End { worker: 0 },
        submit(ask(3, 1), 0, 0, 1),
        policy(2, 3, 3),
        submit(ask(3, 1), 0, 1, 1),
        submit(ask(1, 0), 0, 0, 1),
        open(3, 3, 0),
        open(3, 3, 0),
        finish(0),
        submit(ask(3, 0), 2, 0, 2),
        submit(ask(1, 0), 0, 2, 1),
        open(3, 1, 0),
    ]);
}

#[test]
fn nothing_is_held_for_one_that_could_start_but_for_a_worker_that_drains() {
    is_at_rest(&[
        policy(1, 3, 2),
        open(4, 4, 1),
        submit(ask(1, 3), 2, 0, 2),
        submit(Ask { gpus: 10000, ..ask(2, 0) }, 0, 2, 3),
        finish(8),
        submit(Ask { parity: Some(false), ..ask(4, 2) }, 2, 0, 1),
        open(5, 3, 1),
        open(4, 2, 2),
        submit(ask(4, 2), 1, 1, 2),
        submit(Ask { gpus: 5000, parity: Some(false), ..ask(1, 0) }, 0, 1, 1),
        submit(ask(2, 0), 1, 1, 2),
        wait(60),
        submit(ask(2, 1), 0, 1, 1),
        finish(14),
        open(1, 4, 0),
        spread(ask(1, 0), 1),
        submit(ask(1, 4), 0, 0, 1),
        submit(ask(2, 0), 0, 0, 1),
        open(4, 2, 1),
        finish(11),
        finish(14),
    ]);
}

#[test]
fn who_found_no_place_in_time_is_looked_at_again_once_something_goes_on() {
    is_at_rest(&[
        submit(Ask { gpus: 20000, ..ask(1, 0) }, 1, 0, 3),
        submit(ask(1, 0), 0, 2, 1),
        submit(ask(3, 4), 0, 0, 1),
        Event::RunningMax { queue: 0, max: None },
        submit(Ask { parity: Some(true), ..ask(2, 2) }, 0, 0, 1),
        policy(0, 2, 0),
        open(1, 1, 0),
        submit(ask(2, 2), 0, 0, 1),
        submit(ask(2, 0), 0, 0, 1),
        submit(ask(1, 2), 0, 1, 1),
        submit(ask(1, 2), 0, 1, 1),
        open(1, 2, 1),
        finish(14),
        submit(ask(4, 0), 0, 0, 1),
        open(4, 2, 1),
        wait(1),
        submit(Ask { gpus: 5000, ..ask(1, 1) }, 0, 2, 1),
        wait(1),
        wait(2),
        policy(2, 0, 3),
        finish(8),
    ]);
}

#[test]
fn a_gang_that_has_drained_begins_once_nothing_is_held_for_others_elsewhere() {
    is_at_rest(&[
        policy(2, 3, 2),
        submit(ask(1, 0), 0, 0, 1),
        Event::Cancel { job: 0 },
        open(1, 1, 0),
        policy(0, 2, 0),
        open(2, 4, 1),
        submit(ask(3, 0), 0, 0, 1),
        open(4, 4, 1),
        submit(Ask { gpus: 10000, parity: Some(false), ..ask(1, 2) }, 0, 1, 1),
        wait(1),
        submit(ask(3, 1), 0, 0, 1),
        open(2, 4, 0),
        submit(ask(1, 4), 1, 0, 2),
        Event::Cancel { job: 0 },
        submit(ask(4, 1), 0, 0, 1),
        submit(Ask { gpus: 5000, parity: Some(false), ..ask(1, 0) }, 0, 0, 1),
        policy(0, 0, 3),
        submit(ask(2, 0), 0, 0, 1),
        wait(60),
        submit(Ask { gpus: 5000, ..ask(1, 1) }, 0, 0, 1),
        open(1, 1, 1),
        finish(13),
        Event::RunningMax { queue: 1, max: None },
        submit(ask(2, 2), 1, 2, 2),
        finish(4),
    ]);
}

#[test]
fn what_gave_way_to_one_that_begins_leaves_its_place_under_the_ceiling() {
    is_at_rest(&[
        submit(ask(3, 1), 0, 1, 3),
        policy(0, 10, 2),
        open(2, 3, 1),
        submit(ask(2, 0), -2, 0, 2),
        submit(ask(2, 0), 0, 0, 1),
        finish(0),
        open(5, 1, 2),
        finish(7),
        submit(ask(2, 0), 0, 0, 2),
        Event::End { worker: 0 },
        finish(0),
        open(5, 1, 0),
        submit(Ask { gpus: 20000, ..ask(1, 0) }, 2, 0, 2),
        submit(Ask { gpus: 20000, ..ask(1, 0) }, 0, 0, 1),
        open(2, 1, 0),
        open(5, 1, 0),
        Event::End { worker: 0 },
        open(3, 1, 2),
        Event::RunningMax { queue: 0, max: Some(4) },
        submit(ask(1, 0), 0, 0, 1),
        policy(1, 0, 1),
        finish(6),
    ]);
}

#[test]
fn what_gave_way_counts_as_long_as_a_worker_drains_for_another() {
    is_at_rest(&[
        policy(0, 10, 2),
        open(5, 4, 1),
        submit(Ask { gpus: 20000, ..ask(3, 0) }, 0, 0, 1),
        submit(ask(1, 1), 0, 1, 4),
        submit(Ask { gpus: 20000, ..ask(1, 0) }, 0, 2, 1),
        Event::PauseJob { job: 0, on: false },
        Event::End { worker: 1 },
        open(1, 1, 0),
        open(2, 1, 3),
        submit(ask(1, 2), 0, 0, 1),
        submit(Ask { parity: Some(true), ..ask(1, 0) }, 0, 0, 3),
        submit(Ask { gpus: 5000, ..ask(1, 1) }, 0, 0, 1),
        submit(ask(1, 2), 0, 0, 1),
        finish(0),
        Event::Drain { worker: 0 },
        finish(7),
        submit(Ask { gpus: 5000, ..ask(1, 0) }, 2, 0, 2),
        finish(10),
        finish(6),
        Event::RunningMax { queue: 0, max: Some(4) },
        finish(14),
    ]);
}

#[test]
fn what_gives_way_counts_until_it_has_ended_whoever_drains() {
    is_at_rest(&[
        policy(0, 10, 2),
        submit(Ask { parity: Some(false), ..ask(1, 0) }, 1, 0, 1),
        open(4, 2, 0),
        submit(Ask { noop: true, ..ask(3, 0) }, 0, 0, 2),
        submit(ask(1, 3), 0, 0, 1),
        Event::RunningMax { queue: 0, max: Some(3) },
        submit(ask(2, 0), 2, 0, 1),
        Event::Cancel { job: 0 },
        open(2, 3, 0),
    ]);
}

#[test]
fn no_other_of_the_array_takes_the_place_of_what_gives_way() {
    is_at_rest(&[
        submit(ask(4, 0), 0, 0, 2),
        submit(Ask { gpus: 10000, ..ask(1, 0) }, 0, 2, 1),
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(3, 1), 2, 0, 1),
        open(1, 1, 0),
        Event::RunningMax { queue: 2, max: Some(2) },
        submit(ask(1, 0), 0, 0, 1),
        open(1, 1, 1),
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(1, 0), 0, 0, 1),
        policy(2, 10, 0),
        submit(ask(1, 2), 1, 0, 1),
        wait(1),
        submit(ask(1, 0), 2, 2, 2),
        submit(ask(1, 0), 0, 0, 1),
        open(4, 1, 0),
    ]);
}

#[test]
fn nobody_is_placed_beside_a_promise_that_has_moved_by_then() {
    is_at_rest(&[
        submit(ask(1, 0), 0, 0, 1),
        Event::Cancel { job: 0 },
        policy(0, 5, 1),
        submit(with_gpus(1, 2, 20_000), -1, 0, 2),
        submit(with_gpus(3, 1, 20_000), 0, 2, 2),
        submit(ask(2, 2), 0, 0, 1),
        submit(ask(2, 0), 0, 0, 1),
        policy(1, 3, 2),
        open(5, 3, 3),
        open(3, 1, 2),
        submit(ask(1, 2), 0, 0, 1),
        submit(ask(1, 0), 0, 0, 1),
        wait(2),
        finish(0),
        submit(ask(2, 0), 2, 0, 2),
        submit(ask(4, 0), 0, 1, 1),
        finish(1),
        policy(0, 10, 2),
    ]);
}

#[test]
fn who_finds_no_room_any_more_has_others_give_way() {
    is_at_rest(&[
        submit(Ask { gpus: 20000, ..ask(1, 0) }, 0, 0, 1),
        submit(ask(3, 0), 0, 0, 1),
        submit(Ask { gpus: 20000, ..ask(1, 0) }, 0, 0, 1),
        submit(ask(1, 0), -1, 2, 2),
        policy(2, 10, 2),
        open(2, 3, 0),
        finish(0),
        open(3, 1, 0),
        submit(Ask { parity: Some(false), ..ask(1, 0) }, -1, 2, 1),
        submit(ask(2, 0), 0, 0, 1),
        Event::Cancel { job: 0 },
        submit(Ask { parity: Some(false), ..ask(1, 0) }, 0, 0, 1),
        wait(166),
        open(5, 4, 0),
        submit(ask(1, 1), 0, 0, 3),
        wait(162),
        Event::RunningMax { queue: 0, max: None },
        Event::RunningMax { queue: 0, max: None },
        submit(Ask { gpus: 5000, ..ask(1, 0) }, 0, 0, 1),
        submit(ask(2, 3), 0, 2, 1),
        Event::RunningMax { queue: 0, max: None },
        submit(ask(1, 2), 0, 2, 1),
        open(1, 1, 0),
        Event::Cordon { worker: 1 },
        finish(4),
        submit(ask(1, 0), 0, 1, 2),
    ]);
}

#[test]
fn a_gang_stands_where_it_was_promised_a_start() {
    is_at_rest(&[
        policy(2, 0, 2),
        open(1, 1, 0),
        open(1, 1, 2),
        open(1, 2, 2),
        open(4, 5, 1),
        open(4, 4, 2),
        open(4, 1, 1),
        open(1, 1, 0),
        Event::Submit { ask: Ask { gpus: 10000, ..ask(1, 0) }, priority: 0, queue: 0, spread: true, len: 3 },
        submit(ask(1, 0), 0, 0, 1),
        Event::Submit { ask: ask(1, 2), priority: 0, queue: 0, spread: true, len: 1 },
        policy(0, 3, 2),
        finish(2),
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(4, 0), 1, 2, 2),
        submit(ask(1, 1), 0, 0, 4),
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(1, 0), 0, 0, 1),
    ]);
}

#[test]
fn slices_end_for_all_of_a_kind_that_have_room_by_that() {
    is_at_rest(&[
        open(4, 3, 1),
        open(5, 1, 1),
        submit(Ask { parity: Some(false), ..ask(3, 0) }, 2, 2, 2),
        wait(60),
        submit(Ask { gpus: 20000, ..ask(1, 0) }, 0, 0, 1),
        submit(ask(2, 0), 0, 0, 1),
        finish(2),
        submit(Ask { parity: Some(false), ..ask(1, 0) }, 0, 0, 1),
        Event::RunningMax { queue: 0, max: None },
        submit(ask(2, 2), 2, 2, 3),
        wait(21),
        Event::Submit { ask: Ask { gpus: 5000, ..ask(3, 0) }, priority: 0, queue: 2, spread: true, len: 1 },
        submit(ask(2, 0), 0, 0, 1),
        wait(39),
        policy(2, 2, 1),
        finish(1),
        Event::Submit { ask: Ask { gpus: 5000, ..ask(3, 0) }, priority: 0, queue: 2, spread: true, len: 1 },
        finish(3),
        wait(1),
    ]);
}

#[test]
fn nothing_is_held_on_a_worker_that_drains_for_another() {
    is_at_rest(&[
        submit(Ask { gpus: 5000, ..ask(3, 0) }, 2, 2, 3),
        submit(Ask { gpus: 5000, ..ask(1, 0) }, 0, 2, 1),
        open(4, 4, 0),
        open(4, 2, 2),
        policy(2, 10, 2),
        policy(0, 0, 2),
        submit(ask(1, 0), 0, 0, 1),
        submit(Ask { parity: Some(false), ..ask(1, 0) }, 0, 0, 1),
        finish(15),
        submit(ask(1, 0), 0, 0, 1),
        finish(10),
        submit(Ask { parity: Some(false), ..ask(1, 0) }, 0, 2, 1),
        submit(Ask { parity: Some(false), ..ask(1, 0) }, 0, 0, 1),
        finish(2),
        finish(8),
    ]);
}

#[test]
fn nothing_is_held_for_who_waits_for_its_queue_while_something_gives_way() {
    is_at_rest(&[
        submit(ask(1, 0), 0, 0, 2),
        open(4, 1, 2),
        submit(ask(2, 2), 0, 0, 1),
        submit(Ask { gpus: 5000, ..ask(3, 0) }, 0, 0, 1),
        submit(Ask { gpus: 20000, ..ask(1, 0) }, 0, 0, 4),
        Event::End { worker: 1 },
        submit(Ask { parity: Some(true), ..ask(4, 0) }, 0, 2, 3),
        submit(ask(3, 0), 0, 0, 1),
        finish(2),
        Event::Uncordon { worker: 0 },
        finish(0),
        wait(60),
        submit(Ask { gpus: 5000, ..ask(2, 1) }, 2, 0, 1),
        submit(Ask { parity: Some(false), ..ask(1, 3) }, 2, 0, 1),
        submit(Ask { gpus: 5000, ..ask(1, 2) }, 0, 0, 1),
        finish(0),
        Event::RunningMax { queue: 2, max: Some(2) },
        submit(ask(3, 1), 2, 0, 3),
        policy(2, 0, 2),
        finish(0),
        wait(76),
        finish(0),
        open(4, 2, 2),
        finish(10),
        submit(Ask { gpus: 5000, ..ask(1, 2) }, 0, 0, 1),
        open(4, 2, 0),
        finish(13),
        finish(3),
        open(3, 1, 0),
        policy(0, 3, 2),
        wait(55),
        wait(118),
        wait(131),
        submit(ask(1, 2), 2, 2, 1),
        wait(176),
        finish(12),
        finish(4),
    ]);
}
