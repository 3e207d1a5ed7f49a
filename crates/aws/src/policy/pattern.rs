//! Patterns: `*` and `?`, with policy variables filled in as literal text.

use super::context::RequestContext;

/// One element of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Char(char),
    One,
    Many,
}

/// A pattern ready to be matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Piece>);

impl Pattern {
    /// Reads a pattern. With `variables`, `${name}` takes the value of the request's condition
    /// key as literal text, `${*}`, `${?}` and `${$}` are those characters; `None` when a variable
    /// has no value, for then nothing matches.
    pub(super) fn read(text: &str, variables: Option<&RequestContext>) -> Option<Self> {
        let mut pieces = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if let (Some(request), Some(after)) = (variables, rest.strip_prefix("${"))
                && let Some((inside, tail)) = after.split_once('}')
            {
                let value = variable(inside, request)?;
                pieces.extend(value.chars().map(Piece::Char));
                rest = tail;
                continue;
            }
            pieces.push(match c {
                '*' => Piece::Many,
                '?' => Piece::One,
                c => Piece::Char(c),
            });
            rest = &rest[c.len_utf8()..];
        }
        Some(Self(pieces))
    }

    /// True when the whole text fits; linear but for backtracking to the last `*`.
    pub(super) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        matches(&self.0, &text, |a, b| a == b)
    }

    /// The same, letters in any case.
    pub(super) fn matches_ignoring_case(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        matches(&self.0, &text, |a, b| a == b || a.to_lowercase().eq(b.to_lowercase()))
    }

    /// Six colon parts, each matched by itself.
    pub(super) fn matches_arn(&self, arn: &str) -> bool {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let wanted: Vec<&[Piece]> = self.0.splitn(6, |p| *p == Piece::Char(':')).collect();
        parts.len() == 6
            && wanted.len() == 6
            && wanted.iter().zip(parts).all(|(pieces, part)| {
                let part: Vec<char> = part.chars().collect();
                matches(pieces, &part, |a, b| a == b)
            })
    }

    /// The text of a pattern whose wildcards are meant literally (StringEquals).
    pub(super) fn literal(&self) -> String {
        let back = |piece: &Piece| match piece {
            Piece::Char(c) => *c,
            Piece::One => '?',
            Piece::Many => '*',
        };
        self.0.iter().map(back).collect()
    }
}

fn variable(inside: &str, request: &RequestContext) -> Option<String> {
    if matches!(inside, "*" | "?" | "$") {
        return Some(inside.to_owned());
    }
    let (name, default) = match inside.split_once(',') {
        Some((name, default)) => {
            let default = default.trim().strip_prefix('\'')?.strip_suffix('\'')?;
            (name.trim(), Some(default))
        }
        None => (inside.trim(), None),
    };
    match request.values(name).as_deref() {
        Some([one]) => Some((*one).to_owned()),
        Some(_) => None,
        None => default.map(str::to_owned),
    }
}

fn matches(pattern: &[Piece], text: &[char], same: impl Fn(char, char) -> bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(Piece::Many) => {
                back = Some((p, t));
                p += 1;
                continue;
            }
            Some(Piece::One) => {
                p += 1;
                t += 1;
                continue;
            }
            Some(Piece::Char(c)) if same(*c, text[t]) => {
                p += 1;
                t += 1;
                continue;
            }
            _ => {}
        }
        let Some((star, from)) = back else { return false };
        back = Some((star, from + 1));
        p = star + 1;
        t = from + 1;
    }
    pattern[p..].iter().all(|piece| *piece == Piece::Many)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slow(p: &[char], t: &[char]) -> bool {
        match p.split_first() {
            None => t.is_empty(),
            Some(('*', rest)) => (0..=t.len()).any(|i| slow(rest, &t[i..])),
            Some(('?', rest)) => !t.is_empty() && slow(rest, &t[1..]),
            Some((c, rest)) => t.first() == Some(c) && slow(rest, &t[1..]),
        }
    }

    proptest! {
        #[test]
        fn fast_and_slow_matchers_agree(p in "[ab*?]{0,8}", t in "[ab]{0,8}") {
            let pc: Vec<char> = p.chars().collect();
            let tc: Vec<char> = t.chars().collect();
            let pattern = Pattern::read(&p, None).expect("no variables");
            prop_assert_eq!(pattern.matches(&t), slow(&pc, &tc));
        }
    }

    #[test]
    fn variables_are_literal_text() {
        let mut request = RequestContext::new("kms:Decrypt", "r");
        request.key("aws:username", "a*");
        let pattern = |text: &str| Pattern::read(text, Some(&request));
        let one = pattern("x/${aws:UserName}/*").expect("the variable has a value");
        assert!(one.matches("x/a*/y") && !one.matches("x/ab/y"));
        assert_eq!(pattern("${aws:none}"), None);
        assert!(pattern("${aws:none, 'd'}").expect("a default").matches("d"));
        assert!(pattern("${*}${?}${$}").expect("escapes").matches("*?$"));
        assert!(Pattern::read("${*}", None).expect("plain").matches("${anything}"));
    }

    #[test]
    fn arns_match_part_by_part() {
        let pattern = |text: &str| Pattern::read(text, None).expect("plain");
        let arn = "arn:aws:kms:eu-central-1:111122223333:key/1:2";
        assert!(pattern("arn:aws:kms:*:111122223333:key/*").matches_arn(arn));
        assert!(!pattern("arn:aws:*:key/*").matches_arn(arn));
        assert!(!pattern("arn:*").matches_arn(arn));
        assert!(!pattern("*").matches_arn(arn));
    }
}
