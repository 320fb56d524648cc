//! W12: what watchers were told against each other and against the log.

use std::collections::BTreeMap;

use crate::checks::log::words;
use crate::checks::{Evidence, Finding};
use crate::watcher::{Stream, Told};

const TOLD_MAX: usize = 20;

pub fn check(evidence: &Evidence) -> Finding {
    let mut problems = Vec::new();
    let mut known: BTreeMap<(u64, u32), String> = BTreeMap::new();
    for entry in evidence.trace.iter().flat_map(|trace| trace.entries.values()) {
        let of_entry =
            entry.events.iter().zip(0..).map(|(event, place)| ((entry.index, place), words(event)));
        known.extend(of_entry);
    }
    // Where no replica wrote its log down, what any watcher was told is what there was.
    if known.is_empty() {
        known.extend(evidence.streams.iter().flat_map(events).map(|(at, words)| (at, words.to_owned())));
    }
    let (mut count, mut gaps) = (0, 0);
    for (number, stream) in evidence.streams.iter().enumerate() {
        let found = against(stream, &known);
        count += stream.told.len();
        gaps += stream.told.iter().filter(|told| matches!(told, Told::Compacted(..))).count();
        problems.extend(found.into_iter().map(|what| format!("watcher {}: {what}", number + 1)));
    }
    problems.truncate(TOLD_MAX);
    let doubts = (count == 0).then(|| "nobody was told of an event".to_owned());
    let looked_at =
        format!("{count} events told to {} watchers, {gaps} gaps told as such", evidence.streams.len());
    Finding::new("W12", "watchers see every event once, in order", looked_at, problems)
        .unless(doubts.into_iter().collect())
}

fn events(stream: &Stream) -> impl Iterator<Item = ((u64, u32), &str)> {
    stream.told.iter().filter_map(|told| match told {
        Told::Event(index, place, words) => Some(((*index, *place), words.as_str())),
        Told::Compacted(..) => None,
    })
}

fn against(stream: &Stream, known: &BTreeMap<(u64, u32), String>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut last = stream.begin;
    for told in &stream.told {
        let (at, said) = match told {
            Told::Event(index, place, words) => ((*index, *place), words),
            Told::Compacted(index, place) => {
                // What is gone was named as gone; before the oldest that is left nothing follows.
                last = last
                    .max(index.checked_sub(1).map(|before| (before, u32::MAX)))
                    .max(Some((*index, *place)));
                continue;
            }
        };
        if last.is_some_and(|last| at <= last) {
            problems.push(format!("{at:?} came after {last:?}"));
            continue;
        }
        match known.get(&at) {
            Some(true_words) if true_words != said => {
                problems.push(format!("{at:?} was told as `{said}`, it is `{true_words}`"));
            }
            None => problems.push(format!("{at:?} was told, `{said}`, and there is no such event")),
            Some(_) => {}
        }
        if let Some(last) = last {
            let between = (std::ops::Bound::Excluded(last), std::ops::Bound::Excluded(at));
            if let Some((missed, words)) = known.range(between).next() {
                problems.push(format!("{missed:?} was never told: `{words}`"));
            }
        }
        last = Some(at);
    }
    problems
}
