//! Conditions: all operators, `…IfExists`, `ForAnyValue:` and `ForAllValues:`, and what an absent
//! key means: false for positive operators, true for negated ones.

use super::context::RequestContext;
use super::pattern::Pattern;
use serde_json::{Map, Value};
use std::{cmp::Ordering, net::IpAddr};

/// What two values are compared as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Text,
    TextIgnoringCase,
    TextLike,
    Number,
    Date,
    Bool,
    Binary,
    Ip,
    Arn,
    Null,
}

/// What is asked of an ordered pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How several values of one key count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    One,
    Any,
    All,
}

/// One operator with one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    family: Family,
    test: Test,
    negated: bool,
    if_exists: bool,
    set: Set,
    key: String,
    values: Vec<String>,
    /// The key counts as absent here: kms:ResourceAliases outside identity and session policies.
    void: bool,
}

impl Condition {
    /// Reads a `Condition` element; `None` when it is ill-formed. `identity`: it stands in an
    /// identity or session policy.
    pub(super) fn parse_all(
        map: &Map<String, Value>,
        variables: bool,
        identity: bool,
    ) -> Option<Vec<Self>> {
        let mut all = Vec::new();
        for (operator, keys) in map {
            let shape = read_operator(operator)?;
            for (key, values) in keys.as_object()? {
                let void = !identity && key.eq_ignore_ascii_case("kms:ResourceAliases");
                let condition =
                    Self { key: key.clone(), values: scalars(values)?, void, ..shape.clone() };
                let named =
                    key.split_once(':').is_some_and(|(v, k)| !v.is_empty() && !k.is_empty());
                if !named || !condition.values.iter().all(|v| condition.well_formed(v, variables)) {
                    return None;
                }
                all.push(condition);
            }
        }
        Some(all)
    }

    /// A value that could never be compared is refused when the policy is saved: a mistyped CIDR
    /// in NotIpAddress would otherwise let everybody in.
    fn well_formed(&self, value: &str, variables: bool) -> bool {
        if variables
            && value.contains("${")
            && !matches!(self.family, Family::Number | Family::Date)
        {
            return true;
        }
        match self.family {
            Family::Number => number(value).is_some(),
            Family::Date => date(value).is_some(),
            Family::Bool | Family::Null => boolean(value).is_some(),
            Family::Ip => cidr(value).is_some(),
            _ => true,
        }
    }

    /// True when the condition holds for the request.
    pub(super) fn holds(
        &self,
        request: &RequestContext,
        variables: Option<&RequestContext>,
    ) -> bool {
        let present = if self.void { None } else { request.values(&self.key) };
        if self.family == Family::Null {
            return self.values.iter().any(|v| boolean(v) == Some(present.is_none()));
        }
        let given = present.unwrap_or_default();
        if given.is_empty() {
            return match self.set {
                Set::All => true,
                _ if self.if_exists => true,
                Set::Any => false,
                Set::One => self.negated,
            };
        }
        // Within one key values are ORed, negated NORed.
        let fits = |one: &&str| {
            self.values.iter().any(|wanted| self.compare(one, wanted, variables)) != self.negated
        };
        match self.set {
            Set::Any => given.iter().any(fits),
            Set::All => given.iter().all(fits),
            // Several values without a set operator: a negated operator must hold for each.
            Set::One if self.negated => given.iter().all(fits),
            Set::One => given.iter().any(fits),
        }
    }

    fn compare(&self, given: &str, wanted: &str, variables: Option<&RequestContext>) -> bool {
        let pattern = || Pattern::read(wanted, variables);
        let literal = || pattern().map(|p| p.literal());
        match self.family {
            Family::Text => literal().is_some_and(|w| w == given),
            Family::TextIgnoringCase => {
                literal().is_some_and(|w| w.to_lowercase() == given.to_lowercase())
            }
            Family::TextLike => pattern().is_some_and(|p| p.matches(given)),
            Family::Arn => pattern().is_some_and(|p| p.matches_arn(given)),
            Family::Number => self.order(number(given), number(wanted)),
            Family::Date => self.order(date(given), date(wanted)),
            Family::Bool => {
                let wanted = literal().and_then(|w| boolean(&w));
                wanted.is_some() && boolean(given) == wanted
            }
            Family::Binary => literal().is_some_and(|w| same_bytes(given, &w)),
            Family::Ip => literal().is_some_and(|w| in_cidr(given, &w)),
            Family::Null => false,
        }
    }

    fn order<T: PartialOrd>(&self, given: Option<T>, wanted: Option<T>) -> bool {
        let (Some(given), Some(wanted)) = (given, wanted) else { return false };
        let Some(order) = given.partial_cmp(&wanted) else { return false };
        match self.test {
            Test::Equal => order == Ordering::Equal,
            Test::Less => order == Ordering::Less,
            Test::LessOrEqual => order != Ordering::Greater,
            Test::Greater => order == Ordering::Greater,
            Test::GreaterOrEqual => order != Ordering::Less,
        }
    }
}

fn read_operator(given: &str) -> Option<Condition> {
    let lower = given.to_ascii_lowercase();
    let (set, name) = if let Some(rest) = lower.strip_prefix("foranyvalue:") {
        (Set::Any, rest)
    } else if let Some(rest) = lower.strip_prefix("forallvalues:") {
        (Set::All, rest)
    } else {
        (Set::One, lower.as_str())
    };
    let (if_exists, name) = match name.strip_suffix("ifexists") {
        Some(rest) => (true, rest),
        None => (false, name),
    };
    use Family as F;
    use Test as T;
    let (family, test, negated) = match name {
        "stringequals" => (F::Text, T::Equal, false),
        "stringnotequals" => (F::Text, T::Equal, true),
        "stringequalsignorecase" => (F::TextIgnoringCase, T::Equal, false),
        "stringnotequalsignorecase" => (F::TextIgnoringCase, T::Equal, true),
        "stringlike" => (F::TextLike, T::Equal, false),
        "stringnotlike" => (F::TextLike, T::Equal, true),
        "numericequals" => (F::Number, T::Equal, false),
        "numericnotequals" => (F::Number, T::Equal, true),
        "numericlessthan" => (F::Number, T::Less, false),
        "numericlessthanequals" => (F::Number, T::LessOrEqual, false),
        "numericgreaterthan" => (F::Number, T::Greater, false),
        "numericgreaterthanequals" => (F::Number, T::GreaterOrEqual, false),
        "dateequals" => (F::Date, T::Equal, false),
        "datenotequals" => (F::Date, T::Equal, true),
        "datelessthan" => (F::Date, T::Less, false),
        "datelessthanequals" => (F::Date, T::LessOrEqual, false),
        "dategreaterthan" => (F::Date, T::Greater, false),
        "dategreaterthanequals" => (F::Date, T::GreaterOrEqual, false),
        "bool" => (F::Bool, T::Equal, false),
        "binaryequals" => (F::Binary, T::Equal, false),
        "ipaddress" => (F::Ip, T::Equal, false),
        "notipaddress" => (F::Ip, T::Equal, true),
        "arnequals" | "arnlike" => (F::Arn, T::Equal, false),
        "arnnotequals" | "arnnotlike" => (F::Arn, T::Equal, true),
        "null" if !if_exists && set == Set::One => (F::Null, T::Equal, false),
        _ => return None,
    };
    Some(Condition {
        family,
        test,
        negated,
        if_exists,
        set,
        key: String::new(),
        values: Vec::new(),
        void: false,
    })
}

/// A value or a list of values; numbers and booleans count as their text.
fn scalars(value: &Value) -> Option<Vec<String>> {
    let one = |v: &Value| match v {
        Value::String(s) => Some(s.clone()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    };
    match value {
        Value::Array(list) if !list.is_empty() => list.iter().map(one).collect(),
        Value::Array(_) => None,
        single => Some(vec![one(single)?]),
    }
}

fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    text.parse::<f64>().ok().filter(|n| plain && n.is_finite())
}

/// ISO 8601 or epoch seconds, as milliseconds.
fn date(text: &str) -> Option<i64> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse::<i64>().ok()?.checked_mul(1000);
    }
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Some(moment.as_millisecond());
    }
    let day: jiff::civil::Date = text.parse().ok()?;
    let midnight = day.to_datetime(jiff::civil::Time::midnight());
    Some(jiff::tz::TimeZone::UTC.to_timestamp(midnight).ok()?.as_millisecond())
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn same_bytes(given: &str, wanted: &str) -> bool {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    match (STANDARD.decode(given), STANDARD.decode(wanted)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// The address as 128 bits, and how many of them the family's prefix adds.
fn bits(ip: IpAddr) -> (u128, u32) {
    match ip.to_canonical() {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    }
}

/// Network, prefix length, width of the family.
fn cidr(text: &str) -> Option<(u128, u32, u32)> {
    let (address, prefix) = match text.split_once('/') {
        Some((a, p)) if !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()) => (a, Some(p)),
        Some(_) => return None,
        None => (text, None),
    };
    let (network, width) = bits(address.parse().ok()?);
    let length = match prefix {
        Some(p) => p.parse().ok().filter(|l| *l <= width)?,
        None => width,
    };
    Some((network, length, width))
}

fn in_cidr(given: &str, wanted: &str) -> bool {
    let Ok(ip) = given.parse::<IpAddr>() else { return false };
    let Some((network, length, width)) = cidr(wanted) else { return false };
    let (address, given_width) = bits(ip);
    let shift = width - length;
    given_width == width
        && (shift == 128 || address.checked_shr(shift) == network.checked_shr(shift))
}
