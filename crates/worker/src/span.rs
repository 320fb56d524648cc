//! One span per attempt: whatever is logged inside it says whose it is.

use tracing::Span;
use worker_core::Order;

pub fn span(order: &Order, task: u32) -> Span {
    let id = order.attempt_of(task);
    tracing::info_span!("attempt", task = %id.task, attempt = id.attempt, token = %order.token)
}
