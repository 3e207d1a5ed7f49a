//! The one binary: four roles, `dev` that runs them on one machine, and the operator's commands,
//! which use nothing but control's API.

#![deny(unsafe_code)]
#![allow(clippy::print_stderr)]

mod cli;
mod clock;
mod commands;
mod dev;
mod doctor;
mod failure;
mod out;
mod roles;

use clap::Parser;
use keystead_envelope::alloc::WipingAllocator;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

fn main() -> ExitCode {
    let args = cli::Cli::parse();
    match run(args.command) {
        Ok(code) => code,
        Err(e) => {
            failure::print(&e);
            ExitCode::FAILURE
        }
    }
}

fn run(command: cli::Command) -> anyhow::Result<ExitCode> {
    use cli::Command;
    match command {
        Command::Kms(cli::Role::Serve(args)) => roles::kms(&args),
        Command::Node(cli::Role::Serve(args)) => roles::node(&args),
        Command::Control(cli::Role::Serve(args)) => roles::control(&args),
        Command::Hold(cli::Role::Serve(args)) => roles::hold(&args),
        Command::Dev(args) => dev::run(args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Cluster(args) => commands::block_on(commands::cluster::run(args)),
        Command::Key(args) => commands::block_on(commands::key::run(args)),
        Command::Preflight(args) => commands::block_on(commands::preflight::run(args)),
        Command::Why(args) => commands::block_on(commands::why::run(args)),
        Command::Policy(args) => commands::block_on(commands::policy::run(args)),
        Command::Volume(args) => commands::block_on(commands::volume::run(args)),
        Command::Bucket(args) => commands::block_on(commands::bucket::run(args)),
        Command::Doc(args) => commands::block_on(commands::doc::run(args)),
        Command::S3Key(args) => commands::block_on(commands::s3_key::run(args)),
        Command::Organization(args) => commands::block_on(commands::organization::run(args)),
        Command::Audit(args) => commands::audit::run(args),
    }
}
