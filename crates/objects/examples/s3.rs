//! A gateway over a folder, under keys that are nobody's secret: for the loader and for stock
//! clients in a terminal. `cargo run --profile ci -p keystead-objects --example s3 -- FOLDER [PORT]`

#[allow(dead_code)] // The tests use all of it.
#[path = "../tests/it/gateway/rig.rs"]
mod rig;

use std::path::PathBuf;

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(
            std::env::var("RUST_LOG").unwrap_or_else(|_| "warn,s3s=off".to_owned()),
        ))
        .with_writer(std::io::stderr)
        .init();
    let mut args = std::env::args_os().skip(1);
    let folder = PathBuf::from(args.next().expect("usage: s3 FOLDER [PORT]"));
    let port = args.next().and_then(|port| port.to_str()?.parse().ok()).unwrap_or(0);
    let world = rig::World::open(&folder, port).await;
    tracing::warn!("serving http://{} ({}, {})", world.at, rig::WRITER.0, rig::WRITER.1);
    tracing::warn!("reader {:?}, other cluster {:?}", rig::READER, rig::OTHER);
    let _ = tokio::signal::ctrl_c().await;
    world.gateway.stop();
    let _ = world.served.await;
}
