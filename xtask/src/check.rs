//! Formatting, lints, and what the build may contain: licences from `cargo metadata`, banned
//! crates from `cargo tree`, so that no tool needs `cargo install`.

use crate::proc;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;

/// One of these must remain when the alternatives of an expression are taken apart.
const LICENCES: [&str; 13] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "0BSD",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
];

/// A second TLS or crypto stack.
const BANNED: [&str; 4] = ["ring", "openssl-sys", "native-tls", "openssl"];

/// Runs the three.
pub(crate) fn run() -> Result<()> {
    proc::status(&mut proc::cargo(&["fmt", "--all", "--check"]))
        .context("run `cargo fmt --all`")?;
    proc::status(&mut proc::cargo(&[
        "clippy",
        "--quiet",
        "--profile",
        "ci",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    let compiled = compiled()?;
    let banned: Vec<&str> =
        BANNED.into_iter().filter(|ban| compiled.iter().any(|(n, _)| n == ban)).collect();
    if !banned.is_empty() {
        bail!("compiled, but banned: {}", banned.join(", "));
    }
    licences(&compiled)
}

/// Name and version of every crate that is compiled for this target.
fn compiled() -> Result<BTreeSet<(String, String)>> {
    let tree = proc::output(&mut proc::cargo(&[
        "tree",
        "--workspace",
        "--edges",
        "normal,build,dev",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]))?;
    let pair = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.trim_start_matches('v').to_owned()))
    };
    Ok(tree.lines().filter_map(pair).collect())
}

fn licences(compiled: &BTreeSet<(String, String)>) -> Result<()> {
    // Of this platform only: else cargo fetches what only other systems would compile.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let text = proc::output(&mut proc::cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        &platform,
    ]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let mut refused = Vec::new();
    for package in packages {
        let word = |field: &str| package[field].as_str().unwrap_or_default();
        if compiled.contains(&(word("name").to_owned(), word("version").to_owned()))
            && !allowed(word("license"))
        {
            refused.push(format!("{} {}: `{}`", word("name"), word("version"), word("license")));
        }
    }
    if !refused.is_empty() {
        bail!("licences outside the list:\n  {}", refused.join("\n  "));
    }
    Ok(())
}

/// `(A OR B) AND C`: every conjunct needs one allowed alternative.
fn allowed(expression: &str) -> bool {
    let flat = expression.replace('/', " OR ");
    if let Some((left, right)) = split_outside(&flat, " AND ") {
        return allowed(left) && allowed(right);
    }
    if let Some((left, right)) = split_outside(&flat, " OR ") {
        return allowed(left) || allowed(right);
    }
    let word = flat.trim();
    match word.strip_prefix('(').and_then(|w| w.strip_suffix(')')) {
        Some(inner) => allowed(inner),
        None => LICENCES.contains(&word),
    }
}

fn split_outside<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let mut depth = 0_i32;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ if depth == 0 && text[at..].starts_with(word) => {
                return Some((&text[..at], &text[at + word.len()..]));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod unit {
    use super::allowed;

    #[test]
    fn expressions_are_taken_apart() {
        assert!(allowed("MIT OR GPL-3.0"));
        assert!(allowed("MIT/Apache-2.0"));
        assert!(allowed("(MIT OR GPL-3.0) AND ISC"));
        assert!(!allowed("MIT AND GPL-3.0"));
        assert!(!allowed("GPL-3.0"));
        assert!(!allowed(""));
    }
}
