//! Behaviour versions. Apply goes by the level that is in the state, never by what this code could do, so that replicas of
//! several versions make the same of an entry; only `Op::Upgrade` raises it, for good.

use model::JobId;

use crate::chores::Chore;
use crate::state::State;
use crate::state::deficit::Deficit;
use crate::{Command, Entry, Op, Rejection, Reply, Write};

/// The highest that this code implements. It implements all from 1 on.
pub const LEVEL: u32 = 3;

/// From this level on queues take turns by what is due to them, and a gang that is larger than the cluster is refused.
pub const LEVEL_TURNS: u32 = 2;

/// From this level on no learnt estimate is above the timeout, and promises remember what was promised first.
pub const LEVEL_CUT: u32 = 3;

/// What begins with a level, for people. `None`: this code does not know it.
pub fn begins_with(level: u32) -> Option<&'static str> {
    Some(match level {
        1 => "what the first version did",
        LEVEL_TURNS => {
            "queues take turns by weighted deficit round robin, all starting even, and a gang that is larger than all workers is refused"
        }
        LEVEL_CUT => {
            "a learnt estimate is at most the task's timeout, and what waits in queues that go by estimates is put in that order; whoever is promised a start may have a worker drain for it once the first time that it was promised has passed"
        }
        _ => return None,
    })
}

/// The level that the entry asks of whoever applies it, if it asks for any. A replica that does not implement it must
/// stop: it would make something else of what follows.
pub fn asked_by(entry: &Entry) -> Option<u32> {
    let asked = |command: &Command| match command {
        Command::Bootstrap(bootstrap) => Some(bootstrap.level),
        Command::Write(Write { op: Op::Upgrade { level }, .. }) => Some(*level),
        _ => None,
    };
    entry.commands.iter().filter_map(asked).max()
}

/// Raises the level. That it is there already is no error: whoever asked did not know.
pub(crate) fn upgrade(state: &mut State, level: u32) -> Result<Reply, Rejection> {
    let before = state.meta.level;
    if level < before {
        return Err(Rejection::LevelBack { level, now: before });
    }
    if level > LEVEL {
        return Err(Rejection::LevelUnknown { level, max: LEVEL });
    }
    state.meta.level = level;
    let begins = |since: u32| before < since && since <= level;
    if begins(LEVEL_TURNS) {
        let turn = state.turn();
        state.queues.values_mut().for_each(|queue| queue.deficit = Deficit::new(turn));
    }
    if begins(LEVEL_CUT) {
        let ranked = state.queues.values().filter(|queue| queue.policy.ranks_by_estimates());
        let chores: Vec<Chore> =
            ranked.map(|queue| Chore::Rank { queue: queue.id, below: JobId(u64::MAX) }).collect();
        state.chores.extend(chores);
    }
    state.wake();
    Ok(Reply::Done)
}

#[cfg(test)]
mod tests {
    use model::{Actor, RequestId, Settings};

    use super::*;
    use crate::Bootstrap;
    use crate::command::WEIGHT_DEFAULT;
    use crate::state::deficit::Turn;

    fn entry(commands: Vec<Command>) -> Entry {
        Entry { commands, ..Entry::default() }
    }

    fn founded(level: u32) -> State {
        let settings = Settings::default();
        let bootstrap = Bootstrap { cluster: "c".to_owned(), settings, epoch: 0, next_node: 4, level };
        let mut state = State::default();
        state.apply(1, &entry(vec![Command::Bootstrap(bootstrap)]));
        state
    }

    fn upgraded(state: &mut State, level: u32) -> Reply {
        let (request, actor) = (RequestId(u128::from(state.index()) << 80), Actor::new("u", "test"));
        let write = Write { request, body_hash: level.into(), actor, op: Op::Upgrade { level } };
        let entry = entry(vec![Command::Write(write)]);
        assert_eq!(asked_by(&entry), Some(level));
        state.apply(state.index() + 1, &entry).replies.remove(0)
    }

    #[test]
    fn what_queues_owed_before_they_took_turns_by_it_is_forgotten_once() {
        for (level, is_forgotten) in [(1, true), (LEVEL_TURNS, false)] {
            let mut state = founded(level);
            let turn = state.turn();
            let owed = Deficit::new(Turn { round: 7, ..turn });
            state.queues.get_mut(&0).unwrap().deficit = owed;
            assert_eq!(upgraded(&mut state, LEVEL), Reply::Done);
            let found = state.queue(0).unwrap().deficit;
            assert_eq!(found == Deficit::new(turn), is_forgotten, "{found:?} since level {level}");
            assert_eq!((state.level(), state.queue(0).unwrap().weight), (LEVEL, WEIGHT_DEFAULT));
        }
    }

    #[test]
    fn every_level_is_described_and_none_beyond() {
        assert!((1..=LEVEL).all(|level| begins_with(level).is_some()));
        assert_eq!(begins_with(LEVEL + 1), None);
    }

    #[test]
    fn an_entry_asks_for_the_highest_level_that_it_names() {
        assert_eq!(asked_by(&entry(vec![Command::Tick])), None);
        let mut state = founded(2);
        let digest = state.digest();
        assert!(matches!(upgraded(&mut state, LEVEL + 1), Reply::Rejected(_)), "the replica stops before it");
        assert_eq!(state.level(), 2);
        assert_ne!(state.digest(), digest, "the refusal is remembered");
    }
}
