//! Compiles `proto/` without protoc.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let files = ["baton/v1/baton.proto", "baton/raft/v1/raft.proto"].map(|file| root.join(file));
    let set = protox::compile(files, [&root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // For gRPC reflection.
    std::fs::write(out.join("descriptor.bin"), prost::Message::encode_to_vec(&set))?;
    tonic_prost_build::configure().btree_map(".").bytes(".").compile_fds(set)?;
    Ok(())
}
