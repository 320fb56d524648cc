//! What only `baton-chaos` has: the fault hooks of a replica, and one seeded bug of the name in [`MUTANT_VARIABLE`].
//!
//! The hooks are there wherever the feature is; only the `main` of `baton-chaos` arms them.

use std::sync::OnceLock;

use crate::fault::Fault;

const MUTANT_VARIABLE: &str = "BATON_MUTANT";

/// Where the bug is. A process takes those that are in what it runs.
#[derive(Clone, Copy, Debug)]
enum Mutant {
    Replica(replica::chaos::Mutant),
    State(machine::Mutant),
    Leader(server::Mutant),
    Worker(worker::Mutant),
}

struct Armed {
    replica: replica::chaos::Chaos,
    mutant: Option<Mutant>,
}

static ARMED: OnceLock<Armed> = OnceLock::new();

/// Reads what the environment asks for.
pub fn arm() -> Result<(), Fault> {
    let mutant = match std::env::var(MUTANT_VARIABLE) {
        Ok(name) if !name.is_empty() => Some(named(&name)?),
        _ => None,
    };
    let replica = replica::chaos::Chaos::from_env().map_err(|error| {
        Fault::failed(format!("the trace cannot be written: {error}")).fix("correct BATON_TRACE")
    })?;
    // It is called once; and whatever else was armed first would ask for the same.
    let _ = ARMED.set(Armed { replica, mutant });
    Ok(())
}

fn named(name: &str) -> Result<Mutant, Fault> {
    let found = all().find(|(other, _)| *other == name);
    found.map(|(_, mutant)| mutant).ok_or_else(|| {
        let names: Vec<&str> = all().map(|(name, _)| name).collect();
        Fault::usage(format!("{MUTANT_VARIABLE}: there is no bug `{name}`"))
            .fix(format!("name one of {}", names.join(", ")))
    })
}

fn all() -> impl Iterator<Item = (&'static str, Mutant)> {
    let replica = replica::chaos::Mutant::ALL.map(|(name, mutant)| (name, Mutant::Replica(mutant)));
    let state = machine::Mutant::ALL.map(|(name, mutant)| (name, Mutant::State(mutant)));
    let leader = server::Mutant::ALL.map(|(name, mutant)| (name, Mutant::Leader(mutant)));
    let worker = worker::Mutant::ALL.map(|(name, mutant)| (name, Mutant::Worker(mutant)));
    replica.into_iter().chain(state).chain(leader).chain(worker)
}

pub fn arm_server(config: &mut server::Config) {
    let Some(armed) = ARMED.get() else { return };
    let mut replica = armed.replica.clone();
    match armed.mutant {
        Some(Mutant::Replica(mutant)) => replica.mutant = Some(mutant),
        Some(Mutant::State(mutant)) => replica.state = Some(mutant),
        Some(Mutant::Leader(mutant)) => config.chaos.leader = Some(mutant),
        Some(Mutant::Worker(_)) | None => {}
    }
    config.chaos.replica = replica;
}

pub fn arm_worker(config: &mut worker::Config) {
    if let Some(Mutant::Worker(mutant)) = ARMED.get().and_then(|armed| armed.mutant) {
        config.mutant = Some(mutant);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_bug_has_a_name_of_its_own_and_an_unknown_one_is_told_them_all() {
        let names: Vec<&str> = all().map(|(name, _)| name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for name in &names {
            assert!(named(name).is_ok(), "{name}");
        }
        let refused = named("none-such").unwrap_err();
        assert!(names.iter().all(|name| refused.fix.contains(name)), "{refused:?}");
        assert_eq!(refused.exit, crate::exit::Exit::USAGE);
    }

    #[test]
    fn nothing_is_armed_by_itself() {
        let mut config = server::Config::new("c", "n1", "/nowhere".into());
        arm_server(&mut config);
        assert!(config.chaos.leader.is_none() && config.chaos.replica.mutant.is_none());
        assert!(config.chaos.replica.knobs.is_none() && config.chaos.replica.trace.is_none());
    }
}
