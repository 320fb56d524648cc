//! Who asked for a write.

use serde::{Deserialize, Serialize};

/// Carried by every write. Until there is authentication only tenant `default` is accepted, and `user` is what
/// the client says of itself, unverified.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Actor {
    pub tenant: String,
    pub user: String,
    /// The program the write came through: `cli`, `api`, `worker`, `leader`.
    pub via: String,
}

pub const TENANT_DEFAULT: &str = "default";

impl Actor {
    pub fn new(user: &str, via: &str) -> Actor {
        Actor { tenant: TENANT_DEFAULT.to_owned(), user: user.to_owned(), via: via.to_owned() }
    }
}
