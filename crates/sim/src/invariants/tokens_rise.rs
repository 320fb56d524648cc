//! Each placement of a task has a higher token than every one before, and an attempt's end counts only under the token
//! that is the task's own.

use std::collections::BTreeMap;

use machine::Event;
use model::views::TaskState;
use model::{JobId, Token};

use super::{Found, Invariant, Step};

#[derive(Default)]
pub struct TokensRise {
    tokens: BTreeMap<(JobId, u32), Token>,
    looked: u64,
}

impl Invariant for TokensRise {
    fn name(&self) -> &'static str {
        "tokens rise"
    }

    fn applied(&mut self, step: &Step, found: &mut Found) {
        for event in &step.applied.events {
            let Event::Tasks { job, tasks, state, worker, .. } = event else { continue };
            for number in tasks.first..tasks.end() {
                match (state, worker) {
                    (TaskState::Placed, _) => self.placed(step, *job, number, found),
                    (TaskState::Running, _) | (_, None) => {}
                    (_, Some(_)) => self.ended(step, *job, number, found),
                }
            }
        }
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}

impl TokensRise {
    fn placed(&mut self, step: &Step, id: JobId, number: u32, found: &mut Found) {
        self.looked += 1;
        let group = step.state.job(id).and_then(|job| job.group_of(number));
        let live = group.and_then(|(_, group)| group.live_at(number - group.first));
        // As the state has it; what the same entry has taken away again is not to be seen there.
        let token = live.map_or(Token::new(step.state.epoch(), step.index), |(_, live)| live.token);
        let before = self.tokens.insert((id, number), token);
        if before.is_some_and(|before| before >= token) {
            found.push(format!("{id}.{number} is placed with {token} after {before:?}"));
        }
    }

    /// The last outcome carries the token of the last placement, unless the job has left since.
    fn ended(&mut self, step: &Step, id: JobId, number: u32, found: &mut Found) {
        let Some((_, group)) = step.state.job(id).and_then(|job| job.group_of(number)) else { return };
        let Some(outcome) = group.outcome_at(number - group.first) else { return };
        let own = self.tokens.get(&(id, number)).copied();
        if own != Some(outcome.token) {
            found.push(format!("{id}.{number} ended under {}, but its own token is {own:?}", outcome.token));
        }
    }
}
