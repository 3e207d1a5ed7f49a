//! Reading JSON 1.1 request bodies with AWS's own complaints.
//!
//! A body of another type is SerializationException; values out of their bounds are collected and
//! told together, as `1 validation error detected: …`. Unknown members are ignored, as AWS does.

use crate::{AwsError, error};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The members of a request, and what is wrong with those read so far.
#[derive(Debug)]
pub struct Fields {
    members: Map<String, Value>,
    faults: Vec<String>,
}

/// `KeyId` is `keyId` in messages.
fn path(name: &str) -> String {
    let mut chars = name.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

fn wrong_type(value: &Value, wanted: &str) -> AwsError {
    let kind = match value {
        Value::Null => "NULL_VALUE",
        Value::Bool(true) => "TRUE_VALUE",
        Value::Bool(false) => "FALSE_VALUE",
        Value::Number(_) => "NUMBER_VALUE",
        Value::String(_) => "STRING_VALUE",
        Value::Array(_) => "START_ARRAY",
        Value::Object(_) => "START_OBJECT",
    };
    error::serialization(Some(format!("{kind} can not be converted to {wanted}")))
}

/// The faults of one request, told as AWS tells them.
pub fn validation_error(faults: &[String]) -> AwsError {
    let noun = if faults.len() == 1 { "error" } else { "errors" };
    error::validation(format!("{} validation {noun} detected: {}", faults.len(), faults.join("; ")))
}

/// One fault with its value.
pub fn fault(value: &str, path: &str, constraint: &str) -> String {
    format!("Value '{value}' at '{path}' failed to satisfy constraint: {constraint}")
}

impl Fields {
    /// Reads a body; an empty one counts as `{}`.
    pub fn read(body: &[u8]) -> Result<Self, AwsError> {
        if body.is_empty() {
            return Ok(Self { members: Map::new(), faults: Vec::new() });
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(Self { members, faults: Vec::new() }),
            Ok(_) | Err(_) => Err(error::serialization(None)),
        }
    }

    fn member(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|v| !v.is_null())
    }

    /// A member that the server cannot honour: ignored, it would give more than was asked for.
    pub fn unserved(&mut self, name: &str) -> Result<(), AwsError> {
        match self.member(name) {
            None => Ok(()),
            Some(_) => Err(error::not_served(name)),
        }
    }

    /// A list or structure that must be there.
    pub fn present(&mut self, name: &str) {
        if self.members.get(name).is_none_or(Value::is_null) {
            self.missing(name);
        }
    }

    /// Notes one fault.
    pub fn note(&mut self, text: String) {
        self.faults.push(text);
    }

    /// What is wrong so far.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    fn missing(&mut self, name: &str) {
        self.note(format!(
            "Value null at '{}' failed to satisfy constraint: Member must not be null",
            path(name)
        ));
    }

    fn bounds(&mut self, shown: Option<&str>, len: usize, name: &str, min: usize, max: usize) {
        let what = if len < min {
            format!("Member must have length greater than or equal to {min}")
        } else if len > max {
            format!("Member must have length less than or equal to {max}")
        } else {
            return;
        };
        let path = path(name);
        self.note(match shown {
            Some(value) => fault(value, &path, &what),
            None => format!("Value at '{path}' failed to satisfy constraint: {what}"),
        });
    }

    /// A string of `min` to `max` characters.
    pub fn text(&mut self, name: &str, min: usize, max: usize) -> Result<Option<String>, AwsError> {
        match self.member(name) {
            None => Ok(None),
            Some(Value::String(text)) => {
                self.bounds(Some(&text), text.chars().count(), name, min, max);
                Ok(Some(text))
            }
            Some(other) => Err(wrong_type(&other, "a String")),
        }
    }

    /// A string that must be there.
    pub fn required(&mut self, name: &str, min: usize, max: usize) -> Result<String, AwsError> {
        let text = self.text(name, min, max)?;
        if text.is_none() {
            self.missing(name);
        }
        Ok(text.unwrap_or_default())
    }

    /// One word of a closed list.
    pub fn word(&mut self, name: &str, words: &[&str]) -> Result<Option<String>, AwsError> {
        let given = self.text(name, 0, usize::MAX)?;
        if let Some(text) = given.as_deref().filter(|t| !words.contains(t)) {
            self.note(fault(
                text,
                &path(name),
                &format!("Member must satisfy enum value set: [{}]", words.join(", ")),
            ));
        }
        Ok(given)
    }

    /// Bytes, base64; the value is never repeated in a message.
    pub fn blob(&mut self, name: &str, min: usize, max: usize) -> Result<Vec<u8>, AwsError> {
        match self.member(name) {
            None => {
                self.missing(name);
                Ok(Vec::new())
            }
            Some(Value::String(text)) => {
                let bytes =
                    STANDARD.decode(text.as_bytes()).map_err(|_| error::serialization(None))?;
                self.bounds(None, bytes.len(), name, min, max);
                Ok(bytes)
            }
            Some(other) => Err(wrong_type(&other, "a Blob")),
        }
    }

    /// A whole number between `min` and `max`.
    pub fn number(&mut self, name: &str, min: i64, max: i64) -> Result<Option<i64>, AwsError> {
        let Some(value) = self.member(name) else { return Ok(None) };
        let Some(n) = value.as_i64() else {
            return Err(wrong_type(&value, "an Integer"));
        };
        let what = if n < min {
            format!("Member must have value greater than or equal to {min}")
        } else if n > max {
            format!("Member must have value less than or equal to {max}")
        } else {
            return Ok(Some(n));
        };
        self.note(fault(&n.to_string(), &path(name), &what));
        Ok(Some(n))
    }

    /// A moment: JSON number, epoch seconds; answered in milliseconds.
    pub fn moment(&mut self, name: &str) -> Result<Option<i64>, AwsError> {
        let Some(value) = self.member(name) else { return Ok(None) };
        match value.as_f64() {
            Some(seconds) if seconds.abs() < 1e11 => Ok(Some((seconds * 1000.0) as i64)),
            _ => Err(wrong_type(&value, "a Timestamp")),
        }
    }

    /// True or false; false when it is not there.
    pub fn flag(&mut self, name: &str) -> Result<bool, AwsError> {
        match self.member(name) {
            None => Ok(false),
            Some(Value::Bool(b)) => Ok(b),
            Some(other) => Err(wrong_type(&other, "a Boolean")),
        }
    }

    /// A list of strings with at most `max` members.
    pub fn texts(&mut self, name: &str, max: usize) -> Result<Option<Vec<String>>, AwsError> {
        let list = match self.member(name) {
            None => return Ok(None),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(wrong_type(&other, "a List")),
        };
        let texts = list
            .into_iter()
            .map(|v| match v {
                Value::String(text) => Ok(text),
                other => Err(wrong_type(&other, "a String")),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if texts.len() > max {
            self.note(fault(
                &format!("[{}]", texts.join(", ")),
                &path(name),
                &format!("Member must have length less than or equal to {max}"),
            ));
        }
        Ok(Some(texts))
    }

    /// String pairs, together at most `max` bytes; absent counts as none.
    pub fn pairs(&mut self, name: &str, max: usize) -> Result<BTreeMap<String, String>, AwsError> {
        let pairs = self.maybe_pairs(name)?.unwrap_or_default();
        if pairs.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() > max {
            self.note(format!(
                "Value at '{}' failed to satisfy constraint: Member must have length less than or equal to {max}",
                path(name)
            ));
        }
        Ok(pairs)
    }

    /// String pairs, or `None` when the member is absent.
    pub fn maybe_pairs(
        &mut self,
        name: &str,
    ) -> Result<Option<BTreeMap<String, String>>, AwsError> {
        let map = match self.member(name) {
            None => return Ok(None),
            Some(Value::Object(map)) => map,
            Some(other) => return Err(wrong_type(&other, "a Map")),
        };
        map.into_iter()
            .map(|(k, v)| match v {
                Value::String(text) => Ok((k, text)),
                other => Err(wrong_type(&other, "a String")),
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// An inner structure, read with the same rules.
    pub fn inner(&mut self, name: &str) -> Result<Option<Self>, AwsError> {
        match self.member(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Self { members, faults: Vec::new() })),
            Some(other) => Err(wrong_type(&other, "a Structure")),
        }
    }

    /// A list of inner structures.
    pub fn inners(&mut self, name: &str) -> Result<Vec<Self>, AwsError> {
        let list = match self.member(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(wrong_type(&other, "a List")),
        };
        list.into_iter()
            .map(|v| match v {
                Value::Object(members) => Ok(Self { members, faults: Vec::new() }),
                other => Err(wrong_type(&other, "a Structure")),
            })
            .collect()
    }

    /// Takes over the faults of an inner structure.
    pub fn absorb(&mut self, inner: Self) {
        self.faults.extend(inner.faults);
    }

    /// Ends the reading: all faults together, or none.
    pub fn finish(self) -> Result<(), AwsError> {
        if self.faults.is_empty() { Ok(()) } else { Err(validation_error(&self.faults)) }
    }
}
