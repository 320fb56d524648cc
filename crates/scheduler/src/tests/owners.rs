//! Owners of bookings beside what is promised to others, and to themselves.

use machine::BookingSpec;
use model::policy::Backfill;

use super::several_queues::{ask, asked, promised, rest};
use super::*;

fn queues(backfills: &[(&str, Backfill)]) -> World {
    let mut w = World::new();
    for (name, backfill) in backfills {
        let spec = QueueSpec { name: (*name).to_owned(), backfill: Some(*backfill), ..QueueSpec::default() };
        assert_eq!(w.write(Op::PutQueue(spec)), machine::Reply::Done);
    }
    w
}

/// From now on, for the queue `own`.
fn book(w: &mut World, cores: u64, seconds: u64) {
    let spec = BookingSpec {
        name: "b".to_owned(),
        queue: Some("own".to_owned()),
        length: Duration::from_secs(seconds),
        count: 1,
        resources: Resources::cores(cores),
        ..BookingSpec::default()
    };
    assert_eq!(w.write(Op::PutBooking(spec)), machine::Reply::Done);
}

fn runs(w: &World, job: JobId) -> bool {
    w.state.job(job).unwrap().groups[0].ready.is_empty()
}

#[test]
fn a_gang_that_finds_no_room_leaves_places_in_time_as_they_were() {
    let mut w = queues(&[
        ("default", Backfill::FirstFit),
        ("c", Backfill::Conservative),
        ("own", Backfill::FirstFit),
    ]);
    w.session("a", 8);
    book(&mut w, 2, 1_000);
    ask(&mut w, "default", 1, 4, 10);
    let place = ask(&mut w, "c", 1, 6, 100);
    assert_eq!(promised(&w, place), Some(10));
    w.submit(asked("own", 5, 1, 100));
    let long = w.submit(job(2));
    rest(&mut w);
    assert_eq!((promised(&w, place), runs(&w, long)), (Some(10), false));
}
