//! Conditions a second time: operators by their names, values by plain text work.

use super::random::DATES;
use super::rules::Case;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A letter of a pattern, and whether it stands for itself even when it is `*` or `?`.
pub(super) type Letter = (char, bool);

/// A pattern's letters; `None` when a variable has no value.
pub(super) fn letters(text: &str, case: &Case, variables: bool) -> Option<Vec<Letter>> {
    let mut out = Vec::new();
    let mut rest = text.to_owned();
    while variables && rest.contains("${") {
        let (before, after) = rest.split_once("${")?;
        let (name, tail) = after.split_once('}')?;
        out.extend(before.chars().map(|c| (c, false)));
        let (name, default) = match name.split_once(", ") {
            Some((name, default)) => (name, Some(default.trim_matches('\'').to_owned())),
            None => (name, None),
        };
        let value = match name {
            "*" | "?" | "$" => name.to_owned(),
            _ => match values(name, case) {
                Some(values) if values.len() == 1 => values[0].clone(),
                Some(_) => return None,
                None => default?,
            },
        };
        out.extend(value.chars().map(|c| (c, true)));
        rest = tail.to_owned();
    }
    out.extend(rest.chars().map(|c| (c, false)));
    Some(out)
}

/// Wildcards by trying everything.
pub(super) fn like(pattern: &[Letter], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [('*', false), rest @ ..] => (0..=text.len()).any(|n| like(rest, &text[n..])),
        [('?', false), rest @ ..] => !text.is_empty() && like(rest, &text[1..]),
        [(letter, _), rest @ ..] => text.first() == Some(letter) && like(rest, &text[1..]),
    }
}

/// The values of a condition key, whose name knows no case.
fn values(name: &str, case: &Case) -> Option<Vec<String>> {
    let name_low = name.to_lowercase();
    let empty = BTreeMap::new();
    let context = case.context.as_ref().unwrap_or(&empty);
    if name_low == "kms:encryptioncontextkeys" {
        return (!context.is_empty()).then(|| context.keys().cloned().collect());
    }
    if name_low.starts_with("kms:encryptioncontext:") {
        let pair = name.splitn(3, ':').nth(2)?;
        let pairs = || context.iter().filter(|(k, _)| k.to_lowercase() == pair.to_lowercase());
        // Of two pairs that differ by case only, the one spelt like the policy.
        let exact = pairs().find(|(k, _)| *k == pair);
        return exact.or_else(|| pairs().next()).map(|(_, value)| vec![value.clone()]);
    }
    case.keys.iter().find(|(k, _)| k.to_lowercase() == name_low).map(|(_, v)| v.clone())
}

pub(super) fn all_hold(condition: &Value, case: &Case, variables: bool) -> bool {
    condition.as_object().into_iter().flatten().all(|(operator, keys)| {
        keys.as_object()
            .into_iter()
            .flatten()
            .all(|(key, wanted)| holds(operator, key, &texts(wanted), case, variables))
    })
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(many) => many.iter().flat_map(texts).collect(),
        other => vec![other.to_string()],
    }
}

fn holds(operator: &str, key: &str, wanted: &[String], case: &Case, variables: bool) -> bool {
    let given = values(key, case);
    if operator == "Null" {
        return wanted.iter().any(|w| (w == "true") == given.is_none());
    }
    let (set, name) = match operator.split_once(':') {
        Some((set, name)) => (Some(set), name),
        None => (None, operator),
    };
    let (name, if_exists) = match name.strip_suffix("IfExists") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let positive = name.replacen("Not", "", 1);
    let negated = positive != name;
    let Some(given) = given else {
        return if_exists || set == Some("ForAllValues") || (negated && set.is_none());
    };
    let hits =
        |value: &String| wanted.iter().any(|w| compare(&positive, value, w, case, variables));
    match (set, negated) {
        (Some("ForAllValues"), false) => given.iter().all(hits),
        (Some("ForAllValues"), true) | (None, true) => !given.iter().any(hits),
        (Some(_), true) => !given.iter().all(hits),
        (Some(_) | None, false) => given.iter().any(hits),
    }
}

fn compare(name: &str, given: &str, wanted: &str, case: &Case, variables: bool) -> bool {
    if let Some(test) = name.strip_prefix("Numeric") {
        return ordered(test, thousandths(given), thousandths(wanted));
    }
    if let Some(test) = name.strip_prefix("Date") {
        return ordered(test, moment(given), moment(wanted));
    }
    let Some(wanted) = letters(wanted, case, variables) else { return false };
    let plain: String = wanted.iter().map(|(c, _)| *c).collect();
    let text: Vec<char> = given.chars().collect();
    match name {
        "StringEquals" | "BinaryEquals" => plain == given,
        "StringEqualsIgnoreCase" => plain.to_uppercase() == given.to_uppercase(),
        "StringLike" => like(&wanted, &text),
        "Bool" => plain.eq_ignore_ascii_case(given),
        "IpAddress" => within(given, &plain),
        "ArnEquals" | "ArnLike" => {
            let patterns: Vec<&[Letter]> = wanted.splitn(6, |(c, _)| *c == ':').collect();
            let parts: Vec<&[char]> = text.splitn(6, |c| *c == ':').collect();
            patterns.len() == 6
                && parts.len() == 6
                && patterns.iter().zip(&parts).all(|(pattern, part)| like(pattern, part))
        }
        other => panic!("no operator {other}"),
    }
}

fn ordered(test: &str, given: Option<i64>, wanted: Option<i64>) -> bool {
    let (Some(given), Some(wanted)) = (given, wanted) else { return false };
    match test {
        "Equals" => given == wanted,
        "LessThan" => given < wanted,
        "LessThanEquals" => given <= wanted,
        "GreaterThan" => given > wanted,
        "GreaterThanEquals" => given >= wanted,
        other => panic!("no test {other}"),
    }
}

fn thousandths(text: &str) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let sign = if whole.starts_with('-') { -1 } else { 1 };
    let part: i64 = format!("{part:0<3}").parse().ok()?;
    Some(whole.parse::<i64>().ok()? * 1000 + sign * part)
}

fn moment(text: &str) -> Option<i64> {
    DATES.iter().find(|(shown, _)| *shown == text).map(|(_, seconds)| *seconds)
}

fn within(given: &str, network: &str) -> bool {
    let bits = |text: &str| match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => Some(ip.octets().map(|o| format!("{o:08b}")).concat()),
        Ok(IpAddr::V6(ip)) => Some(ip.octets().map(|o| format!("{o:08b}")).concat()),
        Err(_) => None,
    };
    let (address, length) = match network.split_once('/') {
        Some((address, length)) => (address, length.parse().expect("a length")),
        None => (network, usize::MAX),
    };
    match (bits(given), bits(address)) {
        (Some(a), Some(b)) if a.len() == b.len() => {
            let length = length.min(a.len());
            a[..length] == b[..length]
        }
        _ => false,
    }
}
