//! Stories of a leader: virtual time, a real state, every proposal applied by hand.

mod attach;
mod lanes;
mod leases;
mod periodic;
mod slices;
mod world;
