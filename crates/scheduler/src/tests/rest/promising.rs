//! The same where workers drain beside what is promised.

use super::*;

#[test]
fn what_is_promised_moves_off_a_worker_that_is_to_drain_for_another() {
    is_at_rest(&[
        submit(ask(1, 3), 0, 1, 2),
        open(3, 3, 0),
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(1, 0), 0, 0, 2),
        policy(0, 1, 2),
        wait(60),
    ]);
}

#[test]
fn what_is_promised_stands_where_nobody_it_drains_for_takes_it() {
    is_at_rest(&[
        policy(2, 0, 2),
        submit(ask(1, 3), -1, 0, 1),
        Event::Preempt { queue: 0, on: true },
        submit(ask(1, 1), 0, 2, 1),
        open(3, 3, 2),
        Event::Drain { worker: 0 },
        submit(ask(1, 0), 0, 0, 3),
        submit(ask(2, 3), 1, 0, 1),
        Event::Uncordon { worker: 0 },
    ]);
}

#[test]
fn who_goes_before_has_room_that_a_promise_leaves_once_a_worker_drains() {
    is_at_rest(&[
        policy(2, 3, 2),
        submit(Ask { gpus: 5000, ..ask(1, 1) }, -1, 0, 1),
        Event::Preempt { queue: 0, on: true },
        wait(60),
        submit(ask(1, 0), -1, 0, 1),
        submit(Ask { gpus: 20000, ..ask(1, 3) }, 0, 2, 1),
        submit(ask(4, 3), 0, 1, 1),
        submit(Ask { gpus: 5000, ..ask(1, 1) }, 0, 0, 2),
        open(1, 1, 1),
        open(5, 4, 2),
    ]);
}

#[test]
fn whose_turn_to_drain_comes_once_another_has_begun_there_does_so_before_others_are_placed() {
    is_at_rest(&[
        submit(ask(1, 3), -2, 0, 1),
        submit(Ask { gpus: 20000, ..ask(2, 3) }, 0, 1, 1),
        open(1, 1, 0),
        submit(ask(1, 0), 0, 1, 1),
        submit(ask(1, 3), 0, 1, 1),
        submit(ask(1, 3), -1, 2, 1),
        submit(ask(1, 3), -1, 1, 1),
        wait(60),
        submit(ask(4, 0), 0, 0, 1),
        submit(Ask { parity: Some(true), ..ask(2, 0) }, 0, 0, 1),
        submit(ask(3, 1), -1, 2, 1),
        policy(0, 8, 2),
        Event::PauseJob { job: 0, on: false },
        submit(Ask { gpus: 5000, parity: Some(true), ..ask(1, 1) }, 0, 2, 1),
        submit(ask(3, 2), 0, 0, 1),
        policy(2, 10, 0),
        open(1, 1, 0),
        open(4, 4, 2),
        finish(1),
    ]);
}

#[test]
fn what_the_owner_of_a_booking_takes_is_kept_for_it_no_more() {
    is_at_rest(&[
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(3, 1), 0, 1, 1),
        open(5, 2, 1),
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(1, 0), 0, 0, 1),
        Event::Book { queue: None, cores: 1, from: 0, length: 1 },
        submit(ask(4, 0), -1, 1, 1),
        Event::Cordon { worker: 1 },
        submit(ask(2, 0), 0, 0, 2),
        finish(0),
        finish(0),
        finish(0),
        Event::Book { queue: Some(0), cores: 3, from: 63, length: 85 },
        wait(60),
        finish(1),
    ]);
}

#[test]
fn nobody_is_stopped_for_one_that_a_booking_keeps_from_starting_all_the_same() {
    is_at_rest(&[
        submit(ask(2, 2), 0, 0, 3),
        submit(ask(1, 0), 0, 0, 1),
        open(5, 4, 1),
        submit(Ask { gpus: 20000, ..ask(1, 0) }, 0, 0, 1),
        Event::PauseQueue { queue: 2, on: true },
        submit(ask(1, 0), 0, 2, 1),
        submit(ask(1, 3), 0, 1, 2),
        finish(14),
        submit(ask(2, 4), 2, 0, 2),
        finish(6),
        wait(60),
        finish(0),
        submit(ask(1, 0), 0, 2, 1),
        Event::Preempt { queue: 0, on: true },
        Event::Book { queue: None, cores: 1, from: 5, length: 1 },
        finish(0),
        finish(0),
        submit(ask(3, 0), 2, 0, 1),
        finish(8),
    ]);
}

#[test]
fn a_place_in_time_does_not_keep_the_owner_of_a_booking_from_it() {
    is_at_rest(&[
        submit(ask(2, 1), 0, 1, 1),
        policy(1, 3, 3),
        Event::PauseJob { job: 0, on: true },
        open(4, 3, 1),
        Event::Book { queue: Some(0), cores: 3, from: 0, length: 37 },
        Event::PauseJob { job: 0, on: false },
        Event::PauseQueue { queue: 0, on: false },
        submit(ask(2, 2), 2, 0, 2),
        open(2, 1, 0),
    ]);
}

#[test]
fn who_could_start_but_for_a_booking_is_promised_when_something_ends() {
    is_at_rest(&[
        policy(2, 8, 2),
        open(1, 1, 0),
        Event::End { worker: 1 },
        open(1, 1, 1),
        submit(ask(2, 2), 0, 2, 2),
        submit(ask(2, 0), -1, 2, 1),
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(2, 0), -1, 0, 1),
        open(4, 2, 1),
        submit(ask(1, 0), 0, 0, 1),
        submit(ask(2, 0), 0, 0, 1),
        Event::End { worker: 3 },
        wait(60),
        finish(0),
        finish(1),
        submit(ask(1, 2), 0, 0, 1),
        submit(ask(1, 2), 0, 0, 1),
        Event::Book { queue: None, cores: 2, from: 10, length: 1 },
        finish(13),
        submit(ask(1, 2), 0, 2, 1),
    ]);
}
