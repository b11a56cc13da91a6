//! Compiles `proto/` to Rust without a system protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["nri/v1alpha1/service.proto", "ttrpc/ttrpc.proto"], ["proto"])?;
    let mut config = prost_build::Config::new();
    config.btree_map(["."]).bytes([".ttrpc"]);
    config.compile_fds(descriptors)?;
    Ok(())
}
