//! The operator's commands, a file a noun. They hold no state and decide nothing.

pub(crate) mod audit;
mod aws;
pub(crate) mod bucket;
pub(crate) mod cluster;
pub(crate) mod doc;
mod doc_wire;
pub(crate) mod key;
mod lookup;
pub(crate) mod organization;
pub(crate) mod policy;
pub(crate) mod preflight;
mod progress;
pub(crate) mod s3_key;
pub(crate) mod volume;
pub(crate) mod why;

use crate::cli::Api;
use crate::failure::Failure;
use crate::out::say;
use anyhow::{Context, Result};
use keystead_control::client::Client;
use serde::Serialize;
use std::process::ExitCode;

/// Runs a command on a small runtime.
pub(crate) fn block_on(command: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    on_runtime(command)
}

fn on_runtime<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(work)
}

/// What lies at the bottom of an error: the system's word, not the library's.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

/// The client with the organization's token.
pub(crate) fn client(api: &Api) -> Result<Client> {
    with_token(api, "KEYSTEAD_TOKEN")
}

/// The client with the platform's token.
pub(crate) fn platform_client(api: &Api) -> Result<Client> {
    with_token(api, "KEYSTEAD_PLATFORM_TOKEN")
}

fn with_token(api: &Api, variable: &str) -> Result<Client> {
    let token = std::env::var(variable).map_err(|_| {
        Failure::new(format!("{variable} is not set"))
            .why("the API answers nobody without a token")
            .fix("source the file that `keystead dev --env FILE` wrote")
    })?;
    Ok(Client::new(&api.api, &token)?)
}

/// One JSON document on stdout.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    say!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A plain table: no lines, so that `awk` reads it too.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) {
    let head = head.map(str::to_owned);
    let all = || std::iter::once(&head).chain(&rows);
    let widths: [usize; N] =
        std::array::from_fn(|i| all().map(|row| row[i].chars().count()).max().unwrap_or(0));
    for row in all() {
        let line: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        say!("{}", line.join("  ").trim_end());
    }
}

/// The word as it stands in JSON.
pub(crate) fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// `-` for what is absent.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}
