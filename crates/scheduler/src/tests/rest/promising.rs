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
