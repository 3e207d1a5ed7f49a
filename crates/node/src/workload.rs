//! The template made concrete for one cluster: placeholders filled, a port of its own, and the
//! command that makes and reads the password, which exists on the encrypted disk alone.

use crate::disk;
use keystead_types::{ClusterId, Process, Template};
use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// What the placeholders stand for.
pub(crate) struct Values<'a> {
    pub(crate) cluster: &'a ClusterId,
    pub(crate) disks: BTreeMap<String, PathBuf>,
    pub(crate) port: u16,
    pub(crate) password: &'a str,
}

/// A placeholder that the template has and the cluster has not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the template's placeholder `{{{0}}}` means nothing here")]
pub(crate) struct UnknownPlaceholder(String);

impl Values<'_> {
    /// Fills one string. Braces that hold no name of ours (shell, SQL) stay as they are only when
    /// they are not of the form `{name}` with lower-case letters, digits, `.`, `-` and `_`.
    pub(crate) fn fill(&self, text: &str) -> Result<String, UnknownPlaceholder> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, after) = rest.split_at(at);
            out.push_str(before);
            let name = after.get(1..).and_then(|t| t.split_once('}')).map(|(n, _)| n);
            match name.filter(|n| is_name(n)) {
                Some(name) => {
                    out.push_str(&self.value(name)?);
                    rest = after.get(name.len() + 2..).unwrap_or_default();
                }
                None => {
                    out.push('{');
                    rest = after.get(1..).unwrap_or_default();
                }
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn value(&self, name: &str) -> Result<String, UnknownPlaceholder> {
        let unknown = || UnknownPlaceholder(name.to_owned());
        match name {
            "port" => Ok(self.port.to_string()),
            "password" => Ok(self.password.to_owned()),
            "cluster" => Ok(self.cluster.to_string()),
            _ => {
                let disk = name.strip_prefix("disk.").ok_or_else(unknown)?;
                self.disks.get(disk).map(|p| p.display().to_string()).ok_or_else(unknown)
            }
        }
    }

    /// Fills a whole process.
    pub(crate) fn process(&self, process: &Process) -> Result<Process, UnknownPlaceholder> {
        Ok(Process {
            name: process.name.clone(),
            command: process.command.iter().map(|c| self.fill(c)).collect::<Result<_, _>>()?,
            user: process.user.clone(),
            environment: process
                .environment
                .iter()
                .map(|(k, v)| Ok((k.clone(), self.fill(v)?)))
                .collect::<Result<_, _>>()?,
            stop_signal: process.stop_signal.clone(),
        })
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_')
        })
}

/// Run to its end as the workload's user: makes the password once (temporary name, fsync, rename)
/// and prints it. The file never leaves the encrypted disk.
pub(crate) fn password_process(template: &Template, first_disk: &Path) -> Option<Process> {
    let user = template.prepare.iter().chain(&template.processes).next()?.user.clone();
    let script = r#"umask 077; f="$1/.password"
if [ ! -s "$f" ]; then od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "$f.new" && sync "$f.new" && mv "$f.new" "$f" && sync "$1"; fi
cat "$f""#;
    let command = ["sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    Some(Process {
        name: "password".to_owned(),
        command: command.into_iter().chain([first_disk.display().to_string()]).collect(),
        user,
        environment: BTreeMap::new(),
        stop_signal: None,
    })
}

/// The TCP port of a cluster: chosen once, kept in `DATA/ports.json`.
pub(crate) fn port(data: &Path, cluster: &ClusterId) -> io::Result<u16> {
    let path = data.join("ports.json");
    let mut ports: BTreeMap<ClusterId, u16> = disk::load(&path)?.unwrap_or_default();
    if let Some(kept) = ports.get(cluster) {
        return Ok(*kept);
    }
    let chosen = loop {
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if !ports.values().any(|p| *p == free) {
            break free;
        }
    };
    ports.insert(cluster.clone(), chosen);
    disk::replace(&path, &ports)?;
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_and_foreign_braces_left_alone() {
        let cluster = ClusterId::from_uuid(uuid::Uuid::now_v7());
        let values = Values {
            cluster: &cluster,
            disks: BTreeMap::from([("data".to_owned(), PathBuf::from("/m/d"))]),
            port: 5433,
            password: "p{port}w",
        };
        let fill = |text| values.fill(text);
        assert_eq!(fill("-D {disk.data}/pg -p {port}").as_deref(), Ok("-D /m/d/pg -p 5433"));
        // A value is never filled again.
        assert_eq!(fill("{password}@{cluster}"), Ok(format!("p{{port}}w@{cluster}")));
        assert_eq!(fill("{ print $1 } {} {A}").as_deref(), Ok("{ print $1 } {} {A}"));
        assert_eq!(fill("{disk.other}"), Err(UnknownPlaceholder("disk.other".into())));
    }

    #[test]
    fn a_cluster_keeps_its_port() {
        let folder = tempfile::tempdir().expect("a folder");
        let (a, b) = (uuid::Uuid::now_v7(), uuid::Uuid::now_v7());
        let (a, b) = (ClusterId::from_uuid(a), ClusterId::from_uuid(b));
        let first = port(folder.path(), &a).expect("a port");
        assert_ne!(first, port(folder.path(), &b).expect("a port"));
        assert_eq!(first, port(folder.path(), &a).expect("a port"));
    }
}
