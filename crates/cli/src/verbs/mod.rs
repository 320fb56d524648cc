//! One file per verb, or per noun with its verbs.

pub mod advise;
pub mod bench;
pub mod booking;
pub mod change;
mod compare;
pub mod context;
#[cfg(feature = "chaos")]
pub mod damage;
pub mod demo;
pub mod dev;
pub mod example;
pub mod explain;
pub mod failover;
pub mod follow;
pub mod health;
pub mod history;
pub mod job;
pub mod jobargs;
pub mod keeper;
pub mod live;
pub mod logs;
pub mod nouns;
pub mod periodic;
pub mod plan;
pub mod ps;
pub mod run;
pub mod server;
pub mod simulate;
pub mod submit;
mod upgrade;
pub mod wait;
pub mod watch;
pub mod worker;
