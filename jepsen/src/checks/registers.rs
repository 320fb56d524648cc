//! W1 by a search: each register's history has an order that real time allows and that a register can have.

use std::collections::BTreeMap;

use crate::checks::{Evidence, Finding, not_asked};
use crate::history::{Answer, Call, Kind, Operation};
use crate::linear::{Outcome, Register, RegisterOp, check as search};
use crate::workload::Op;

/// Steps of one register's search before it is given up.
const STEPS_MAX: u64 = 2_000_000;

pub fn check(evidence: &Evidence) -> Finding {
    if !evidence.asked.workload.has(|op| op == Op::Get) {
        return not_asked("W1.register");
    }
    let mut registers: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
    for operation in &evidence.operations {
        if let Call::Set { register, .. } | Call::Get { register } = operation.call {
            registers.entry(register).or_default().push(operation);
        }
    }
    let (mut problems, mut doubts, mut count) = (Vec::new(), Vec::new(), 0);
    for (register, operations) in &registers {
        let (kept, calls): (Vec<&Operation>, Vec<_>) =
            operations.iter().filter_map(|operation| Some((*operation, call(operation)?))).unzip();
        count += calls.len();
        match search(&Register { initial: None }, &calls, STEPS_MAX) {
            Outcome::Linearizable => {}
            Outcome::Not { call, .. } => {
                problems.push(format!("register {register} has no order: {:?} cannot be placed", kept[call]));
            }
            Outcome::Unknown { tried } => {
                doubts.push(format!("register {register} was given up after {tried} steps"))
            }
        }
    }
    if count == 0 {
        doubts.push("no register was used".to_owned());
    }
    let looked_at = format!("{count} operations on {} registers", registers.len());
    Finding::new("W1.register", "registers are linearizable through all replicas", looked_at, problems)
        .unless(doubts)
}

/// Reads that were not answered, and writes that certainly were not done, say nothing.
fn call(operation: &Operation) -> Option<crate::linear::Call<RegisterOp>> {
    let op = match (&operation.call, operation.kind, &operation.answer) {
        (Call::Set { value, .. }, Kind::Ok | Kind::Info, _) => RegisterOp::Write((*value).into()),
        (Call::Get { .. }, Kind::Ok, Some(Answer::Got { value, .. })) => {
            RegisterOp::Read(value.map(i64::from))
        }
        _ => return None,
    };
    let completed = (operation.kind == Kind::Ok).then_some(operation.completed);
    Some(crate::linear::Call { op, invoked: operation.invoked, completed })
}
