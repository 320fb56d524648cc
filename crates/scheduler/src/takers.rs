//! Who takes which work, in the order in which sessions are chosen for it: the fullest first, or the emptiest. A round asks
//! for each class and each placement, so that neither may cost a walk through all sessions.

use std::collections::{BTreeMap, BTreeSet};

use machine::State;
use machine::eligible::accepts;
use machine::state::sessions::{ClassKey, Room};
use model::{Placement, Resources, SessionId};

/// Which of the orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrderId(usize);

#[derive(Default)]
pub(crate) struct Takers {
    /// By what decides who takes a class at all: everything but its amounts.
    ids: BTreeMap<ClassKey, OrderId>,
    orders: Vec<Order>,
    /// Dominant share of what is free on each session that is in any order.
    free: BTreeMap<SessionId, u64>,
}

struct Order {
    placement: Placement,
    ranks: BTreeSet<(u64, SessionId)>,
}

impl Order {
    fn rank(&self, free: u64) -> u64 {
        match self.placement {
            Placement::Pack => free,
            Placement::Spread => u64::MAX - free,
        }
    }
}

impl Takers {
    /// The order for this class, of the sessions that have a room.
    pub fn order_for(
        &mut self,
        state: &State,
        rooms: &BTreeMap<SessionId, Room>,
        class: &ClassKey,
    ) -> OrderId {
        let asks =
            ClassKey { resources: Resources::default(), alternatives: Vec::new(), gang: 0, ..class.clone() };
        if let Some(id) = self.ids.get(&asks) {
            return *id;
        }
        let mut order = Order { placement: asks.placement, ranks: BTreeSet::new() };
        for (id, room) in rooms {
            let takes = state.session(*id).is_some_and(|session| accepts(state, session, &asks).is_ok());
            if takes {
                let share = || room.free.dominant_share(state.total());
                let free = *self.free.entry(*id).or_insert_with(share);
                order.ranks.insert((order.rank(free), *id));
            }
        }
        let id = OrderId(self.orders.len());
        self.orders.push(order);
        self.ids.insert(asks, id);
        id
    }

    /// The first that is open, among those with at least this share free: whoever has less has no room.
    pub fn first_open(
        &self,
        order: OrderId,
        least: u64,
        is_open: impl Fn(SessionId) -> bool,
    ) -> Option<SessionId> {
        let order = &self.orders[order.0];
        let open = |(_, id): &&(u64, SessionId)| is_open(*id);
        let found = match order.placement {
            Placement::Pack => order.ranks.range((least, SessionId(0))..).find(open),
            Placement::Spread => order.ranks.range(..=(u64::MAX - least, SessionId(u64::MAX))).find(open),
        };
        found.map(|(_, id)| *id)
    }

    pub fn of(&self, order: OrderId) -> impl Iterator<Item = SessionId> + '_ {
        self.orders[order.0].ranks.iter().map(|(_, id)| *id)
    }

    /// What is free on the session has changed.
    pub fn changed(&mut self, state: &State, session: SessionId, room: &Room) {
        let Some(free) = self.free.get_mut(&session) else { return };
        let now = room.free.dominant_share(state.total());
        let before = std::mem::replace(free, now);
        if before == now {
            return;
        }
        for order in &mut self.orders {
            if order.ranks.remove(&(order.rank(before), session)) {
                let rank = order.rank(now);
                order.ranks.insert((rank, session));
            }
        }
    }
}
