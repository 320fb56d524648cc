//! What goes over gRPC: code generated from `proto/`, and the only conversions between it and the model.

pub mod convert;
pub mod error;
mod rejection;

/// The public API, `baton.v1`.
#[allow(clippy::all)]
pub mod v1 {
    tonic::include_proto!("baton.v1");
}

/// What replicas say to each other, `baton.raft.v1`.
#[allow(clippy::all)]
pub mod raft {
    tonic::include_proto!("baton.raft.v1");
}

/// Both packages as a serialized `FileDescriptorSet`, for reflection.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
