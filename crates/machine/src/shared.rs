//! Specs that are alike in memory once. Whoever decodes entries or rows goes through one of these; that it was there
//! cannot be seen but in what a waiting job costs.

use std::sync::Arc;

use model::JobSpec;

use crate::{Command, Entry, Op, Write};

/// The last spec that came by: the next is mostly much like it.
#[derive(Clone, Debug, Default)]
pub struct SharedSpecs(Option<Arc<JobSpec>>);

impl SharedSpecs {
    /// Has the entry's specs keep what they have in common with each other and with those before.
    pub fn share_entry(&mut self, entry: &mut Entry) {
        for command in &mut entry.commands {
            if let Command::Write(Write { op: Op::Submit { spec, .. }, .. }) = command {
                self.share(spec);
            }
        }
    }

    /// Left as it is if somebody else holds it.
    pub fn share(&mut self, spec: &mut Arc<JobSpec>) {
        if let (Some(spec), Some(last)) = (Arc::get_mut(spec), &self.0) {
            spec.share(last);
        }
        self.0 = Some(spec.clone());
    }
}

#[cfg(test)]
mod tests {
    use model::{TaskSpec, Work};

    use super::*;

    fn spec(name: &str, priority: i32, memory: u64) -> Arc<JobSpec> {
        let task = TaskSpec::new(name, Work::Noop).with(|task| task.resources.memory = memory);
        Arc::new(JobSpec::of(name, vec![task]).with(|job| job.priority = priority))
    }

    #[test]
    fn what_is_alike_is_one_and_what_differs_stays_as_it_was() {
        let mut specs = SharedSpecs::default();
        let (mut first, mut alike, mut other) = (spec("a", 1, 5), spec("b", 1, 5), spec("c", 1, 6));
        [&mut first, &mut alike, &mut other].into_iter().for_each(|spec| specs.share(spec));
        assert_eq!((&alike, &other), (&spec("b", 1, 5), &spec("c", 1, 6)));
        let parts = |spec: &JobSpec| -> [*const (); 2] {
            [std::ptr::from_ref(&**spec).cast(), std::ptr::from_ref(&*spec.tasks[0]).cast()]
        };
        assert_eq!(parts(&first), parts(&alike));
        assert_eq!(parts(&first)[0], parts(&other)[0]);
        assert_ne!(parts(&first)[1], parts(&other)[1]);

        // A change of one is none of the other.
        drop(specs);
        Arc::make_mut(&mut alike).tasks[0].resources.memory = 7;
        assert_eq!((first, alike), (spec("a", 1, 5), spec("b", 1, 7)));
    }
}
