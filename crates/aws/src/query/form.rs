//! `application/x-www-form-urlencoded` bodies.

use crate::ops::is_reserved;
use crate::{AwsError, error};
use std::collections::HashSet;

/// The parameters of a query request, each name once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a body; a repeated name or text that is not UTF-8 is refused.
    pub fn parse(body: &[u8]) -> Result<Self, AwsError> {
        let malformed = |text: &str| AwsError::client("MalformedInput", text);
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(body) {
            if name.contains('\u{fffd}') || value.contains('\u{fffd}') {
                return Err(malformed("the request is not UTF-8"));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        let names: HashSet<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        if names.len() < pairs.len() {
            return Err(malformed("a parameter occurs more than once"));
        }
        Ok(Self(pairs))
    }

    /// Makes a form for our own clients.
    pub fn new(action: &str, version: &str) -> Self {
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        Self(vec![pair("Action", action), pair("Version", version)])
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The body.
    pub fn encode(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }

    /// A parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// True when a parameter of this name, or a member of this list, was sent.
    pub fn has(&self, name: &str) -> bool {
        self.0
            .iter()
            .any(|(n, _)| n.strip_prefix(name).is_some_and(|r| r.is_empty() || r.starts_with('.')))
    }

    /// The members of `Name.member.1.…` as (key, value) pairs (tags), each key once whatever its
    /// case; at most fifty.
    pub(super) fn tags(&self, name: &str, faults: &mut Vec<String>) -> Vec<(String, String)> {
        let tags: Vec<(String, String)> = (1..=51)
            .map_while(|i| {
                let key = self.get(&format!("{name}.member.{i}.Key"))?;
                let value = self.get(&format!("{name}.member.{i}.Value")).unwrap_or_default();
                Some((key.to_owned(), value.to_owned()))
            })
            .collect();
        for (i, (key, value)) in tags.iter().enumerate() {
            if !(1..=128).contains(&key.chars().count()) || value.chars().count() > 256 {
                faults.push("Tag keys have 1 to 128 characters, tag values at most 256".to_owned());
            }
            if is_reserved(key) {
                faults
                    .push("'aws:' prefixed tag key names are not allowed for external use".into());
            }
            if tags[..i].iter().any(|(k, _)| k.to_lowercase() == key.to_lowercase()) {
                let text =
                    "Duplicate tag keys found. Please note that Tag keys are case insensitive";
                faults.push(text.to_owned());
            }
        }
        if tags.len() > 50 {
            faults.push("A role has at most 50 tags".to_owned());
        }
        tags
    }

    pub(super) fn required(
        &self,
        name: &str,
        min: usize,
        max: usize,
        faults: &mut Vec<String>,
    ) -> String {
        let given = self.optional(name, min, max, faults);
        if given.is_none() {
            faults.push(format!(
                "Value null at '{}' failed to satisfy constraint: Member must not be null",
                lower_first(name)
            ));
        }
        given.unwrap_or_default()
    }

    pub(super) fn optional(
        &self,
        name: &str,
        min: usize,
        max: usize,
        faults: &mut Vec<String>,
    ) -> Option<String> {
        let given = self.get(name)?;
        let count = given.chars().count();
        let what = if count < min {
            Some(format!("Member must have length greater than or equal to {min}"))
        } else if count > max {
            Some(format!("Member must have length less than or equal to {max}"))
        } else {
            None
        };
        if let Some(what) = what {
            faults.push(crate::json::fault(given, &lower_first(name), &what));
        }
        Some(given.to_owned())
    }
}

pub(super) fn lower_first(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|c| c.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// All faults together, or none.
pub(super) fn finish(faults: &[String]) -> Result<(), AwsError> {
    match faults.len() {
        0 => Ok(()),
        1 => Err(error::query_validation(format!("1 validation error detected: {}", faults[0]))),
        n => Err(error::query_validation(format!(
            "{n} validation errors detected: {}",
            faults.join("; ")
        ))),
    }
}
