//! What will be free on one session, and from when on, if everything ends as expected.

use std::time::Duration;

use model::{Elapsed, Resources};

/// Free from each time until the next one, from the last one for ever.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    steps: Vec<(Elapsed, Resources)>,
}

impl Profile {
    /// `ends`: what is given back, by time.
    pub fn new<'r>(
        now: Elapsed,
        free: Resources,
        ends: impl IntoIterator<Item = (Elapsed, &'r Resources)>,
    ) -> Profile {
        let mut steps = vec![(now, free)];
        for (at, resources) in ends {
            let last = steps.last_mut().expect("never empty");
            if at > last.0 {
                let free = last.1.clone();
                steps.push((at, free));
            }
            steps.last_mut().expect("never empty").1.add(resources);
        }
        Profile { steps }
    }

    /// The first time, not before `from`, since when there is enough for so long (`None`: for ever).
    pub fn earliest(&self, from: Elapsed, asked: &Resources, length: Option<Duration>) -> Option<Elapsed> {
        let mut place = self.place_of(from);
        while let Some((step, _)) = self.steps.get(place) {
            let start = from.max(*step);
            match self.first_short(place, asked, end(start, length)) {
                None => return Some(start),
                // Nothing that begins before that is over goes through it.
                Some(short) => place = short + 1,
            }
        }
        None
    }

    /// How many could start at each time, not before `from`, and go on for so long, as `count` has it of what is free: each
    /// change, in order.
    pub fn starts(
        &self,
        from: Elapsed,
        length: Option<Duration>,
        count: impl Fn(&Resources) -> u32,
    ) -> Vec<(Elapsed, u32)> {
        let mut counts: Vec<(Elapsed, u32)> = Vec::new();
        for (at, free) in &self.steps[self.place_of(from)..] {
            let count = count(free);
            if counts.last().is_none_or(|(_, last)| *last != count) {
                counts.push(((*at).max(from), count));
            }
        }
        // Where a step begins, and where what starts reaches into one for the first time.
        let reaching = counts.iter().filter_map(|(at, _)| Some(at.minus(length?).plus(TICK)));
        let reaching = reaching.filter(|at| *at > from);
        let mut times: Vec<Elapsed> = counts.iter().map(|(at, _)| *at).chain(reaching).collect();
        times.sort_unstable();
        times.dedup();
        let least = |start: Elapsed| {
            let first = counts.partition_point(|(at, _)| *at <= start) - 1;
            let over = counts.partition_point(|(at, _)| *at < end(start, length)).max(first + 1);
            counts[first..over].iter().map(|(_, count)| *count).min().unwrap_or(0)
        };
        times.into_iter().map(|start| (start, least(start))).collect()
    }

    /// When something else will be free for the first time after that.
    pub fn next_after(&self, at: Elapsed) -> Option<Elapsed> {
        self.steps.get(self.steps.partition_point(|(step, _)| *step <= at)).map(|(step, _)| *step)
    }

    /// What is free then.
    pub fn free_at(&self, at: Elapsed) -> &Resources {
        &self.steps[self.place_of(at)].1
    }

    /// Since when less is free than at `start`, as long as that goes on, and the least of each resource from then on.
    pub fn less_after(&self, start: Elapsed, length: Option<Duration>) -> Option<(Elapsed, Resources)> {
        let from = self.place_of(start);
        let until = self.steps.partition_point(|(at, _)| *at < end(start, length)).max(from + 1);
        let mut less =
            self.steps[from..until].iter().skip_while(|(_, free)| free.covers(&self.steps[from].1));
        let (at, mut least) = less.next().cloned()?;
        less.for_each(|(_, free)| least.lower(free));
        Some((at, least))
    }

    /// Whether there is enough from `start` on for so long.
    pub fn fits(&self, start: Elapsed, asked: &Resources, length: Option<Duration>) -> bool {
        self.first_short(self.place_of(start), asked, end(start, length)).is_none()
    }

    /// The first step from that place on, and before `end`, that has too little.
    fn first_short(&self, from: usize, asked: &Resources, end: Elapsed) -> Option<usize> {
        let until = self.steps.partition_point(|(at, _)| *at < end).max(from + 1);
        (from..until).find(|place| !self.steps[*place].1.covers(asked))
    }

    /// Nothing is free before that time.
    pub fn close_until(&mut self, at: Elapsed) {
        let place = self.split(at);
        self.steps[..place].iter_mut().for_each(|(_, free)| *free = Resources::default());
    }

    /// Takes so much from `start` on for so long; it must fit.
    pub fn block(&mut self, start: Elapsed, asked: &Resources, length: Option<Duration>) {
        self.between(start, end(start, length)).for_each(|free| free.subtract(asked));
    }

    /// Gives back what was taken so.
    pub fn release(&mut self, start: Elapsed, asked: &Resources, length: Option<Duration>) {
        self.between(start, end(start, length)).for_each(|free| free.add(asked));
    }

    fn between(&mut self, start: Elapsed, end: Elapsed) -> impl Iterator<Item = &mut Resources> {
        let from = self.split(start);
        let until = if end == Elapsed::MAX { self.steps.len() } else { self.split(end) };
        self.steps[from..until].iter_mut().map(|(_, free)| free)
    }

    /// The place of the step that begins then, made if there is none. Before the first step nothing is known.
    fn split(&mut self, at: Elapsed) -> usize {
        match self.steps.binary_search_by_key(&at, |(at, _)| *at) {
            Ok(place) => place,
            Err(0) => 0,
            Err(place) => {
                let free = self.steps[place - 1].1.clone();
                self.steps.insert(place, (at, free));
                place
            }
        }
    }

    fn place_of(&self, at: Elapsed) -> usize {
        self.steps.partition_point(|(step, _)| *step <= at).saturating_sub(1)
    }
}

/// The least that times differ by.
const TICK: Duration = Duration::from_micros(1);

fn end(start: Elapsed, length: Option<Duration>) -> Elapsed {
    length.map_or(Elapsed::MAX, |length| start.plus(length.max(TICK)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Elapsed {
        Elapsed(seconds * 1_000_000)
    }

    fn long(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn the_first_gap_that_is_long_and_wide_enough_is_found() {
        let cores = Resources::cores;
        let mut profile = Profile::new(at(0), cores(4), [(at(10), &cores(6)), (at(10), &cores(2))]);
        assert_eq!(profile.earliest(at(0), &cores(4), None), Some(at(0)));
        assert_eq!(profile.earliest(at(0), &cores(8), long(5)), Some(at(10)));
        assert_eq!(profile.earliest(at(0), &cores(13), long(5)), None);
        profile.block(at(10), &cores(10), long(10));
        assert_eq!(profile.earliest(at(0), &cores(4), long(10)), Some(at(0)));
        assert_eq!(profile.earliest(at(0), &cores(4), long(11)), Some(at(20)));
        assert_eq!(profile.earliest(at(0), &cores(2), None), Some(at(0)));
        assert_eq!(profile.earliest(at(12), &cores(2), None), Some(at(12)));
        assert!(profile.fits(at(5), &cores(2), long(100)) && !profile.fits(at(5), &cores(3), long(100)));
        profile.release(at(10), &cores(10), long(10));
        assert_eq!(profile.earliest(at(0), &cores(4), long(11)), Some(at(0)));
    }
}
