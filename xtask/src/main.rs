//! Plain cargo tasks: what CI, a newcomer and a soak run. `cargo xtask` alone lists them.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod check;
mod demo;
mod proc;
mod setup;
mod soak;
mod tests;
mod walls;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  demo [--once]   the twelve steps, for real, on this machine; stays up unless --once
  test            setup, every test, check, walls; last line: N passed, M failed
  check           formatting, lints, licences and banned crates
  walls           which crate may import which
  soak ROOM       the full counts of joint, objects or proofs; writes docs/soak.md
  bench kms       CPU time of KMS calls beside the bare listener
  bench objects   CPU time of the S3 gateway beside nginx and s3s-fs
  setup           what demo and test need of this machine";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let Err(e) = run(&args) {
        eprintln!("xtask: {e:#}");
        std::process::exit(1);
    }
}

fn run(args: &[&str]) -> Result<()> {
    match args {
        ["demo"] => demo::run(false),
        ["demo", "--once"] => demo::run(true),
        ["test"] => tests::run(),
        ["check"] => check::run(),
        ["walls"] => walls::run(),
        ["soak", room @ ("joint" | "objects" | "proofs")] => soak::run(room),
        ["bench", "kms"] => bench::kms(),
        ["bench", "objects"] => bench::objects(),
        ["setup"] => setup::run().map(|_| ()),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        other => bail!("unknown command `{}`\n{USAGE}", other.join(" ")),
    }
}
