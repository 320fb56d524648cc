//! Amounts: asked, offered and taken.

use model::{Capacity, Resources, UnitShare};

use crate::v1;

impl From<&Resources> for v1::Resources {
    fn from(resources: &Resources) -> v1::Resources {
        v1::Resources {
            cpu: resources.cpu,
            memory: resources.memory,
            disk: resources.disk,
            network: resources.network,
            custom: resources.named.custom.clone(),
        }
    }
}

impl From<v1::Resources> for Resources {
    fn from(resources: v1::Resources) -> Resources {
        let mut read = Resources {
            cpu: resources.cpu,
            memory: resources.memory,
            disk: resources.disk,
            network: resources.network,
            ..Resources::default()
        };
        // `set` keeps zeros out and sends a custom entry called `cpu` where it belongs.
        for (name, amount) in resources.custom {
            read.set(&name, amount);
        }
        read
    }
}

impl From<&Capacity> for v1::Capacity {
    fn from(capacity: &Capacity) -> v1::Capacity {
        v1::Capacity { total: Some((&capacity.total).into()), indexed: capacity.indexed.clone() }
    }
}

impl From<v1::Capacity> for Capacity {
    fn from(capacity: v1::Capacity) -> Capacity {
        Capacity { total: capacity.total.unwrap_or_default().into(), indexed: capacity.indexed }
    }
}

impl From<&UnitShare> for v1::UnitShare {
    fn from(share: &UnitShare) -> v1::UnitShare {
        v1::UnitShare { resource: share.resource.clone(), unit: share.unit, parts: share.parts }
    }
}

impl From<v1::UnitShare> for UnitShare {
    fn from(share: v1::UnitShare) -> UnitShare {
        UnitShare { resource: share.resource, unit: share.unit, parts: share.parts }
    }
}
