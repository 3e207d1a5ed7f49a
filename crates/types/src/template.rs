//! A workload template: which disks a cluster has and which processes run on them. Templates are
//! data (TOML files of control); the node runs what the assignment carries.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Its name.
    pub name: String,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Names of the buckets that a cluster begins with.
    #[serde(default)]
    pub buckets: Vec<String>,
    /// Run once to the end, in order, before the first start; each must be safe to repeat.
    #[serde(default)]
    pub prepare: Vec<Process>,
    /// Run for as long as the cluster does.
    #[serde(default)]
    pub processes: Vec<Process>,
    /// Run to the end to find out whether the workload is ready (exit status 0).
    pub ready: Option<Process>,
    /// Run to the end after `ready` first holds; each must be safe to repeat.
    #[serde(default)]
    pub after_ready: Vec<Process>,
    /// The libpq URI that users connect with, with the placeholders below.
    pub endpoint: Option<String>,
}

/// One disk of a template: one volume, one grant, one encryption context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its name; placeholders use it.
    pub name: String,
    /// Size of the plaintext device.
    pub size_bytes: u64,
}

/// One process. Strings may hold placeholders: `{disk.NAME}` (where the disk is mounted),
/// `{port}` (a TCP port of the cluster's own on 127.0.0.1), `{password}` (made once, kept on the
/// encrypted disk), `{cluster}` (the cluster id).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its name in messages.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The system user it runs as.
    pub user: String,
    /// Its environment, nothing is inherited but PATH.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Signal that asks it to stop.
    #[serde(default)]
    pub stop_signal: Option<String>,
}
