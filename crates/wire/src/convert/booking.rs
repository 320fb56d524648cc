//! Bookings: what is asked for, and what there is.

use std::time::Duration;

use machine::BookingSpec;
use model::Timestamp;
use model::views::{BookingPartView, BookingView};

use super::spec::read_constraints;
use super::writes::refuse_unless_name;
use super::{Errors, Malformed};
use crate::v1;

pub fn booking_spec(request: v1::PutBookingRequest) -> Result<BookingSpec, Malformed> {
    let mut errors = Errors::default();
    refuse_unless_name(&mut errors, "name", &request.name);
    let constraints = read_constraints(&mut errors, &"", &request.constraints);
    errors.finish(BookingSpec {
        name: request.name,
        queue: Some(request.queue).filter(|queue| !queue.is_empty()),
        from: request.from_unix_us.map(Timestamp),
        length: Duration::from_micros(request.length_us),
        workers: request.workers,
        count: request.count,
        resources: request.resources.unwrap_or_default().into(),
        constraints,
    })
}

impl From<&BookingView> for v1::Booking {
    fn from(booking: &BookingView) -> v1::Booking {
        let part = |part: &BookingPartView| v1::BookingPart {
            worker: part.worker.clone(),
            resources: Some((&part.resources).into()),
            used: Some((&part.used).into()),
            is_free: part.is_free,
        };
        v1::Booking {
            name: booking.name.clone(),
            queue: booking.queue.clone().unwrap_or_default(),
            from_unix_us: booking.from.0,
            to_unix_us: booking.to.0,
            has_begun: booking.has_begun,
            parts: booking.parts.iter().map(part).collect(),
        }
    }
}

impl From<v1::Booking> for BookingView {
    fn from(booking: v1::Booking) -> BookingView {
        let part = |part: v1::BookingPart| BookingPartView {
            worker: part.worker,
            resources: part.resources.unwrap_or_default().into(),
            used: part.used.unwrap_or_default().into(),
            is_free: part.is_free,
        };
        BookingView {
            name: booking.name,
            queue: Some(booking.queue).filter(|queue| !queue.is_empty()),
            from: Timestamp(booking.from_unix_us),
            to: Timestamp(booking.to_unix_us),
            has_begun: booking.has_begun,
            parts: booking.parts.into_iter().map(part).collect(),
        }
    }
}
