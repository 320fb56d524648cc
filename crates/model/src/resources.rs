//! Resources: what a task asks for, what a worker offers, what an attempt has taken.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::lean::{Collection, Lean};
use crate::size::{PARTS, format_bytes, format_parts, parse_bytes, parse_parts};
use crate::validate::{SpecError, is_name};

/// An amount of each resource. Readable form: `{cpu: 1.5, memory: 512MiB, gpu: 0.5}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Resources {
    /// Ten-thousandths of a core.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes.
    pub disk: u64,
    /// Bytes per second.
    pub network: u64,
    pub named: Lean<Named>,
}

/// What most tasks do not ask for, by name. No zeros.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Named {
    /// Ten-thousandths of a unit.
    pub custom: BTreeMap<String, u64>,
    /// Tasks of each anti-affinity. A worker may have one of each name, and offers that without saying so: what is free on
    /// it is so many below zero.
    pub apart: BTreeMap<String, i64>,
}

impl Collection for Named {
    const EMPTY: &'static Named = &Named { custom: BTreeMap::new(), apart: BTreeMap::new() };

    fn is_empty(&self) -> bool {
        self.custom.is_empty() && self.apart.is_empty()
    }
}

/// How a named resource is written and compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    Parts,
    Bytes,
}

fn scale(name: &str) -> Scale {
    if matches!(name, "memory" | "disk" | "network") { Scale::Bytes } else { Scale::Parts }
}

/// Writes an amount of the named resource as people read it: `1.5`, `512MiB`.
pub fn format_amount(name: &str, amount: u64) -> String {
    match scale(name) {
        Scale::Parts => format_parts(amount),
        Scale::Bytes => format_bytes(amount),
    }
}

/// Reads an amount of the named resource.
pub fn parse_amount(name: &str, text: &str) -> Result<u64, String> {
    match scale(name) {
        Scale::Parts => parse_parts(text),
        Scale::Bytes => parse_bytes(text),
    }
}

impl Resources {
    /// `cores` whole cores and nothing else.
    pub fn cores(cores: u64) -> Resources {
        Resources { cpu: cores * PARTS, ..Resources::default() }
    }

    pub fn get(&self, name: &str) -> u64 {
        match name {
            "cpu" => self.cpu,
            "memory" => self.memory,
            "disk" => self.disk,
            "network" => self.network,
            custom => self.named.custom.get(custom).copied().unwrap_or(0),
        }
    }

    pub fn set(&mut self, name: &str, amount: u64) {
        match name {
            "cpu" => self.cpu = amount,
            "memory" => self.memory = amount,
            "disk" => self.disk = amount,
            "network" => self.network = amount,
            custom if amount == 0 => drop(self.named.custom.remove(custom)),
            custom => drop(self.named.custom.insert(custom.to_owned(), amount)),
        }
    }

    /// Every resource that is not zero, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        let fixed =
            [("cpu", self.cpu), ("memory", self.memory), ("disk", self.disk), ("network", self.network)];
        let custom = self.named.custom.iter().map(|(name, amount)| (name.as_str(), *amount));
        fixed.into_iter().chain(custom).filter(|(_, amount)| *amount > 0)
    }

    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none() && self.named.apart.is_empty()
    }

    /// The anti-affinities of what is asked for.
    pub fn set_apart(&mut self, names: impl IntoIterator<Item = String>) {
        let apart: BTreeMap<_, _> = names.into_iter().map(|name| (name, 1)).collect();
        if apart != self.named.apart {
            self.named.apart = apart;
        }
    }

    /// Of the anti-affinities in `asked` those that `self`, which is free, has no room for.
    pub fn apart_from<'a>(&'a self, asked: &'a Resources) -> impl Iterator<Item = &'a str> {
        let is_there = |(name, count): &(&String, &i64)| {
            self.named.apart.get(*name).copied().unwrap_or(0) - **count < -1
        };
        asked.named.apart.iter().filter(is_there).map(|(name, _)| name.as_str())
    }

    /// At least as much as the other of everything that can be counted; anti-affinities stay.
    pub fn raise(&mut self, other: &Resources) {
        for (name, amount) in
            other.iter().filter(|(name, amount)| self.get(name) < *amount).collect::<Vec<_>>()
        {
            self.set(name, amount);
        }
    }

    /// At most as much as the other of everything; of what keeps apart there is as much as on the fuller of the two.
    pub fn lower(&mut self, other: &Resources) {
        let had: Vec<(String, u64)> = self.iter().map(|(name, amount)| (name.to_owned(), amount)).collect();
        had.into_iter().for_each(|(name, amount)| self.set(&name, amount.min(other.get(&name))));
        if !other.named.is_untouched() {
            for (name, count) in &other.named.apart {
                let least = self.named.apart.get(name).copied().unwrap_or(0).min(*count);
                self.named.apart.insert(name.clone(), least);
            }
        }
    }

    /// Whether `self` is at least `asked` in everything.
    pub fn covers(&self, asked: &Resources) -> bool {
        asked.cpu <= self.cpu
            && asked.memory <= self.memory
            && asked.disk <= self.disk
            && asked.network <= self.network
            && (asked.named.is_untouched() || self.covers_named(asked))
    }

    fn covers_named(&self, asked: &Resources) -> bool {
        asked.named.custom.iter().all(|(name, amount)| *amount <= self.get(name))
            && self.apart_from(asked).next().is_none()
    }

    pub fn add(&mut self, other: &Resources) {
        self.combine(other, u64::saturating_add, 1);
    }

    /// Less `other`, not below zero.
    pub fn subtract(&mut self, other: &Resources) {
        self.combine(other, u64::saturating_sub, -1);
    }

    fn combine(&mut self, other: &Resources, with: impl Fn(u64, u64) -> u64, sign: i64) {
        self.cpu = with(self.cpu, other.cpu);
        self.memory = with(self.memory, other.memory);
        self.disk = with(self.disk, other.disk);
        self.network = with(self.network, other.network);
        if other.named.is_untouched() {
            return;
        }
        for (name, amount) in &other.named.custom {
            self.set(name, with(self.get(name), *amount));
        }
        for (name, count) in &other.named.apart {
            let now = self.named.apart.get(name).copied().unwrap_or(0).saturating_add(sign * count);
            match now {
                0 => drop(self.named.apart.remove(name)),
                now => drop(self.named.apart.insert(name.clone(), now)),
            }
        }
    }

    /// The largest share of `total` that `self` takes in any one resource, in millionths, at most 1,000,000.
    /// Dominant share as in Ghodsi et al. (2011), Dominant Resource Fairness.
    pub fn dominant_share(&self, total: &Resources) -> u64 {
        let share = |(name, amount): (&str, u64)| match total.get(name) {
            0 => 0,
            all => millionths(amount, all).min(1_000_000),
        };
        self.iter().map(share).max().unwrap_or(0)
    }
}

/// Rounded down. The wide division costs some hundred instructions, and few amounts need it.
fn millionths(amount: u64, all: u64) -> u64 {
    match amount.checked_mul(1_000_000) {
        Some(scaled) => scaled / all,
        None => u64::try_from(u128::from(amount) * 1_000_000 / u128::from(all)).unwrap_or(u64::MAX),
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<String> =
            self.iter().map(|(name, amount)| format!("{name} {}", format_amount(name, amount))).collect();
        f.write_str(&list.join(", "))
    }
}

/// Before the name of an anti-affinity, where it stands among resources: none of those begins with it.
const APART: char = '!';

struct Amount<'a>(&'a str, u64);

impl Serialize for Amount<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if !s.is_human_readable() {
            return s.serialize_u64(self.1);
        }
        match scale(self.0) {
            Scale::Parts if self.1.is_multiple_of(PARTS) => s.serialize_u64(self.1 / PARTS),
            Scale::Parts => s.serialize_f64(self.1 as f64 / PARTS as f64),
            Scale::Bytes => s.serialize_str(&format_bytes(self.1)),
        }
    }
}

impl Serialize for Resources {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        // People are told of anti-affinities elsewhere.
        let apart = self.named.apart.iter().filter(|_| !s.is_human_readable());
        let apart = apart.map(|(name, count)| (format!("{APART}{name}"), *count)).collect::<Vec<_>>();
        let mut map = s.serialize_map(Some(self.iter().count() + apart.len()))?;
        for (name, amount) in self.iter() {
            map.serialize_entry(name, &Amount(name, amount))?;
        }
        for (name, count) in apart {
            map.serialize_entry(&name, &count)?;
        }
        map.end()
    }
}

/// A number or a text, as a person may write an amount.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Written {
    Whole(u64),
    Decimal(f64),
    Text(String),
}

impl Written {
    pub(crate) fn amount(self, name: &str) -> Result<u64, String> {
        let text = match self {
            Written::Whole(number) => number.to_string(),
            Written::Decimal(number) => number.to_string(),
            Written::Text(text) => text,
        };
        parse_amount(name, &text).map_err(|error| format!("{name}: {error}"))
    }
}

struct ResourcesVisitor {
    readable: bool,
}

impl<'de> Visitor<'de> for ResourcesVisitor {
    type Value = Resources;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("resources such as {cpu: 1, memory: 512MiB}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Resources, A::Error> {
        let mut resources = Resources::default();
        while let Some(name) = map.next_key::<String>()? {
            if self.readable {
                let amount = map.next_value::<Written>()?.amount(&name).map_err(serde::de::Error::custom)?;
                resources.set(&name, amount);
            } else if let Some(name) = name.strip_prefix(APART) {
                resources.named.apart.insert(name.to_owned(), map.next_value()?);
            } else {
                resources.set(&name, map.next_value()?);
            }
        }
        Ok(resources)
    }
}

impl<'de> Deserialize<'de> for Resources {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let readable = d.is_human_readable();
        d.deserialize_map(ResourcesVisitor { readable })
    }
}

/// How a worker offers a custom resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offer {
    /// So many ten-thousandths, all alike.
    Sum(u64),
    /// Units 0, 1, .. each of which can be told apart, for example GPUs. An allocation names its units.
    Indexed(u32),
}

impl Offer {
    /// Ten-thousandths in all.
    pub fn total(self) -> u64 {
        match self {
            Offer::Sum(parts) => parts,
            Offer::Indexed(units) => u64::from(units) * PARTS,
        }
    }
}

/// Most of one resource that a worker may offer, in its own unit (256 TiB): what all workers offer is still counted
/// exactly, see `WORKERS_MAX`.
pub const OFFER_MAX: u64 = 1 << 48;
/// Indexed units of one resource on one worker. Each is a number in the state.
pub const UNITS_MAX: u32 = 4_096;
/// Resources that one worker may offer.
pub const OFFERED_MAX: usize = 64;
/// Workers that a cluster may know: so many times `OFFER_MAX` fits a u64.
pub const WORKERS_MAX: u32 = 1 << 15;

/// What a worker offers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Capacity {
    /// Every resource, custom ones included.
    pub total: Resources,
    /// Of the custom ones, those with indexed units: how many units.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub indexed: BTreeMap<String, u32>,
}

impl Capacity {
    pub fn of(total: Resources) -> Capacity {
        Capacity { total, indexed: BTreeMap::new() }
    }

    /// Every error of what a worker says it offers; none means that it can be counted with.
    pub fn validate(&self) -> Vec<SpecError> {
        let mut errors = Vec::new();
        let mut refuse = |path: String, message: String| errors.push(SpecError { path, message });
        let count = self.total.iter().count();
        if count > OFFERED_MAX || self.indexed.len() > OFFERED_MAX {
            let message = format!("{count} resources are offered, at most {OFFERED_MAX} may be");
            refuse("capacity".to_owned(), message);
            return errors;
        }
        for (name, amount) in self.total.iter() {
            let path = || format!("capacity.{name}");
            if !is_name(name) {
                refuse(path(), "a resource name has letters, digits, -, _ and . only".to_owned());
            }
            if amount > OFFER_MAX {
                refuse(path(), format!("{amount} is above the {OFFER_MAX} that a worker may offer"));
            }
        }
        for (name, units) in &self.indexed {
            let path = || format!("capacity.indexed.{name}");
            if *units > UNITS_MAX {
                refuse(path(), format!("{units} units are above the {UNITS_MAX} that a worker may offer"));
            } else if !self.total.named.custom.contains_key(name) && *units > 0 {
                refuse(path(), "only a resource that is offered, and is not built in, has units".to_owned());
            } else if self.total.get(name) != u64::from(*units) * PARTS {
                refuse(path(), format!("{units} units do not make up the total that is offered"));
            }
        }
        errors
    }

    pub fn offer(&mut self, name: &str, offer: Offer) {
        self.total.set(name, offer.total());
        match offer {
            Offer::Sum(_) => drop(self.indexed.remove(name)),
            Offer::Indexed(units) => drop(self.indexed.insert(name.to_owned(), units)),
        }
    }
}

/// Part of one unit of an indexed resource, held by an allocation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnitShare {
    pub resource: String,
    pub unit: u32,
    /// Ten-thousandths of the unit.
    pub parts: u32,
}

/// Chooses units for `parts` of a resource, given what is free of each unit: whole units first from the lowest
/// index, then a rest from the unit with the least free that still holds it, so that whole units stay whole.
/// `None` if they do not suffice.
pub fn choose_units(resource: &str, free: &[u32], parts: u64) -> Option<Vec<UnitShare>> {
    let share = |unit: usize, parts: u64| UnitShare {
        resource: resource.to_owned(),
        unit: unit as u32,
        parts: parts as u32,
    };
    let (whole, rest) = ((parts / PARTS) as usize, parts % PARTS);
    let is_whole = |unit: &usize| u64::from(free[*unit]) == PARTS;
    let mut chosen: Vec<UnitShare> =
        (0..free.len()).filter(is_whole).take(whole).map(|unit| share(unit, PARTS)).collect();
    if chosen.len() < whole {
        return None;
    }
    if rest > 0 {
        let taken = |unit: usize| chosen.iter().any(|share| share.unit as usize == unit);
        let fits = (0..free.len()).filter(|unit| !taken(*unit) && u64::from(free[*unit]) >= rest);
        let unit = fits.min_by_key(|unit| (free[*unit], *unit))?;
        chosen.push(share(unit, rest));
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_written_and_read_alike() {
        let json = r#"{"cpu":1.5,"memory":"512MiB","gpu":0.5}"#;
        let resources: Resources = serde_json::from_str(json).unwrap();
        assert_eq!((resources.cpu, resources.memory, resources.get("gpu")), (15_000, 512 << 20, 5_000));
        assert_eq!(serde_json::to_string(&resources).unwrap(), json);
        let binary = rmp_serde::to_vec_named(&resources).unwrap();
        assert_eq!(rmp_serde::from_slice::<Resources>(&binary).unwrap(), resources);
        assert!(serde_json::from_str::<Resources>(r#"{"cpu":-1}"#).is_err());
        assert!(serde_json::from_str::<Resources>(r#"{"cpu":0.00001}"#).is_err());
    }

    #[test]
    fn the_lower_of_two_has_no_more_of_anything_than_either() {
        let of = |cpu, gpu, apart: &[&str]| {
            let mut free = Resources::cores(cpu);
            free.set("gpu", gpu);
            let mut used = Resources::default();
            used.set_apart(apart.iter().map(|name| (*name).to_owned()));
            free.subtract(&used);
            free
        };
        let lower = |mut one: Resources, other: &Resources| {
            one.lower(other);
            one
        };
        assert_eq!(lower(of(4, 1, &["web"]), &of(2, 3, &["db"])), of(2, 1, &["web", "db"]));
        assert_eq!(lower(of(2, 0, &[]), &of(4, 3, &["db"])), of(2, 0, &["db"]));
        assert_eq!(lower(of(2, 3, &["db"]), &of(4, 0, &[])), of(2, 0, &["db"]));
    }

    #[test]
    fn a_worker_has_room_for_one_of_each_anti_affinity() {
        let asks = |names: &[&str]| {
            let mut asked = Resources::cores(1);
            asked.set_apart(names.iter().map(|name| (*name).to_owned()));
            asked
        };
        let mut free = Resources::cores(4);
        free.subtract(&asks(&["web", "db"]));
        assert!(free.covers(&Resources::cores(3)) && free.covers(&asks(&["mail"])));
        assert!(!free.covers(&asks(&["web"])));
        assert_eq!(free.apart_from(&asks(&["db", "mail", "web"])).collect::<Vec<_>>(), ["db", "web"]);
        let mut used = asks(&["web", "db"]);
        assert!(Resources::cores(4).covers(&used));
        used.add(&asks(&["web"]));
        assert!(!Resources::cores(4).covers(&used), "two of a name are too many");
        let binary = rmp_serde::to_vec_named(&used).unwrap();
        assert_eq!(rmp_serde::from_slice::<Resources>(&binary).unwrap(), used);
        used.subtract(&asks(&["web"]));
        assert_eq!(used, asks(&["db", "web"]));
        free.add(&asks(&["web", "db"]));
        assert_eq!(free, Resources::cores(4), "nothing is left of them");
    }

    #[test]
    fn dominant_share_is_the_largest() {
        // Both divisions give the same.
        assert_eq!((millionths(1, 3), millionths(u64::MAX / 3, u64::MAX)), (333_333, 333_333));
        let total: Resources = serde_json::from_str(r#"{"cpu":9,"memory":"18GB"}"#).unwrap();
        let a: Resources = serde_json::from_str(r#"{"cpu":1,"memory":"4GB"}"#).unwrap();
        assert_eq!(a.dominant_share(&total), 222_222);
    }

    #[test]
    fn an_offer_that_cannot_be_counted_with_is_refused() {
        let mut capacity = Capacity::of(Resources::cores(4));
        capacity.offer("gpu", Offer::Indexed(2));
        assert_eq!(capacity.validate(), []);
        let refused = |change: fn(&mut Capacity)| {
            let mut changed = capacity.clone();
            change(&mut changed);
            changed.validate().len()
        };
        assert_eq!(
            refused(|c| {
                c.indexed.insert("gpu".to_owned(), u32::MAX);
            }),
            1
        );
        assert_eq!(refused(|c| c.offer("gpu", Offer::Indexed(UNITS_MAX + 1))), 1);
        assert_eq!(
            refused(|c| {
                c.indexed.insert("gpu".to_owned(), 1);
            }),
            1
        );
        assert_eq!(
            refused(|c| {
                c.indexed.insert("cpu".to_owned(), 4);
            }),
            1
        );
        assert_eq!(
            refused(|c| {
                c.indexed.insert("tpu".to_owned(), 1);
            }),
            1
        );
        assert_eq!(refused(|c| c.total.memory = u64::MAX), 1);
        assert_eq!(refused(|c| c.total.set("a b", 1)), 1);
        assert_eq!(refused(|c| (0..70).for_each(|n| c.total.set(&format!("r{n}"), 1))), 1);
        assert!(OFFER_MAX.checked_mul(WORKERS_MAX.into()).is_some());
    }

    #[test]
    fn whole_units_stay_whole() {
        let free = [10_000, 5_000, 10_000];
        assert_eq!(choose_units("gpu", &free, 5_000).unwrap()[0].unit, 1);
        let units: Vec<u32> = choose_units("gpu", &free, 15_000).unwrap().iter().map(|s| s.unit).collect();
        assert_eq!(units, [0, 1]);
        assert_eq!(choose_units("gpu", &free, 30_000), None);
    }
}
