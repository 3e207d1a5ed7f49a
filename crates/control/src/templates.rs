//! Workload templates: data in `templates/`, read once at start.

use aws_lc_rs::digest::{SHA256, digest};
use keystead_types::Template;
use std::collections::BTreeMap;

const FILES: [&str; 1] = [include_str!("../templates/postgres.toml")];

/// A template that this program carries and cannot read.
#[derive(Debug, thiserror::Error)]
#[error("a template of this program cannot be read: {0}")]
pub struct TemplateError(#[from] toml::de::Error);

/// The templates by name.
pub(crate) struct Templates {
    by_name: BTreeMap<String, Template>,
    /// Tells one set of templates from another.
    pub(crate) digest: String,
}

impl Templates {
    pub(crate) fn load() -> Result<Self, TemplateError> {
        let mut by_name = BTreeMap::new();
        for text in FILES {
            let template: Template = toml::from_str(text)?;
            by_name.insert(template.name.clone(), template);
        }
        let digest = hex::encode(digest(&SHA256, FILES.concat().as_bytes()));
        Ok(Self { by_name, digest })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Template> {
        self.by_name.get(name)
    }

    /// Their names, for messages.
    pub(crate) fn names(&self) -> String {
        self.by_name.keys().cloned().collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keystead_types::Process;

    fn processes(t: &Template) -> impl Iterator<Item = &Process> {
        t.prepare.iter().chain(&t.processes).chain(&t.ready).chain(&t.after_ready)
    }

    /// The names in braces, by the node's rule: `{name}` of lower-case letters, digits, `.-_`.
    fn placeholders(text: &str) -> Vec<String> {
        text.split('{')
            .skip(1)
            .filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
            .filter(|name| {
                let fits =
                    |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
                !name.is_empty() && name.bytes().all(fits)
            })
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn the_templates_hold_no_placeholder_that_a_node_refuses() {
        let templates = Templates::load().expect("templates");
        for t in templates.by_name.values() {
            let known = |name: &str| {
                matches!(name, "port" | "password" | "cluster")
                    || t.disks.iter().any(|d| name.strip_prefix("disk.") == Some(&d.name))
            };
            let texts = processes(t)
                .flat_map(|p| p.command.iter().chain(p.environment.values()))
                .chain(&t.endpoint);
            for name in texts.flat_map(|text| placeholders(text)) {
                assert!(known(&name), "{}: {{{name}}}", t.name);
            }
            assert!(processes(t).all(|p| p.user != "root" && !p.command.is_empty()));
            // Arguments are seen by every user of the machine.
            let arguments = processes(t).flat_map(|p| &p.command);
            assert!(arguments.into_iter().all(|a| !a.contains("{password}")), "{}", t.name);
        }
    }

    #[test]
    fn postgres_has_its_two_disks() {
        let templates = Templates::load().expect("templates");
        let postgres = templates.get("postgres").expect("postgres");
        let disks: Vec<_> =
            postgres.disks.iter().map(|d| (d.name.as_str(), d.size_bytes)).collect();
        assert_eq!(disks, [("orchestration", 1 << 30), ("search", 512 << 20)]);
    }
}
