//! `cargo xtask test`: every test with its output passed through, then check and walls. The last
//! line sums cargo's own result lines; a binary over its budget is red.

use crate::{check, proc, setup, walls};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    binary: String,
    seconds: Vec<(String, f64)>,
}

impl Tally {
    fn line(&mut self, line: &str) {
        if let Some(rest) = line.trim_start().strip_prefix("Running ") {
            self.binary = name_of(rest);
        } else if let Some(rest) = line.trim_start().strip_prefix("Doc-tests ") {
            self.binary = format!("doc {rest}");
        } else if let Some(rest) = line.strip_prefix("test result: ") {
            // A test that runs itself again in a namespace prints a result of its own, of one test
            // out of many; the outer one counts.
            if !rest.contains("; 0 filtered out;") {
                return;
            }
            self.passed += count(rest, " passed");
            self.failed += count(rest, " failed");
            let took = rest.rsplit("finished in ").next().and_then(|t| t.trim().strip_suffix('s'));
            if let Some(seconds) = took.and_then(|t| t.parse().ok()) {
                self.seconds.push((self.binary.clone(), seconds));
            }
        }
    }
}

/// `unittests src/lib.rs (target/…/keystead_aws-0123)` is `keystead_aws`; an integration binary
/// `it` is told apart by nothing in cargo's line, so all of them share one budget.
fn name_of(rest: &str) -> String {
    let file = rest.rsplit('/').next().unwrap_or(rest).trim_end_matches(')');
    file.rsplit_once('-').map_or(file, |(name, _)| name).to_owned()
}

fn count(result: &str, word: &str) -> u64 {
    let head = result.split(word).next().unwrap_or_default();
    head.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Runs all of it.
pub(crate) fn run() -> Result<()> {
    let tools = setup::run()?;
    let mut tally = Tally::default();
    let mut faults = Vec::new();
    if let Err(e) = tests(&tools, &mut tally) {
        faults.push(format!("{e:#}"));
    }
    if let Err(e) = check::run() {
        faults.push(format!("check: {e:#}"));
    }
    if let Err(e) = walls::run() {
        faults.push(format!("walls: {e:#}"));
    }
    faults.extend(over_budget(&tally)?);
    for fault in &faults {
        eprintln!("FAILED {fault}");
    }
    // What is no test but failed counts as a failure, so that the last line tells the truth.
    let other = if tally.failed == 0 { faults.len() as u64 } else { 0 };
    println!("{} passed, {} failed", tally.passed, tally.failed + other);
    if tally.failed + other > 0 {
        std::process::exit(1)
    }
    Ok(())
}

fn tests(tools: &setup::Tools, tally: &mut Tally) -> Result<()> {
    // stderr into stdout: cargo names the binary there and the harness its results here.
    let mut command = proc::cargo(&["test", "--profile", "ci", "--workspace", "--no-fail-fast"]);
    tools.export(&mut command);
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().context("start cargo test")?;
    drop(command);
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        tally.line(&line);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("cargo test ended with {status}");
    }
    Ok(())
}

fn over_budget(tally: &Tally) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(proc::root().join("xtask/budgets.toml"))?;
    let budgets: toml::Table = text.parse().context("read xtask/budgets.toml")?;
    let seconds = |v: &toml::Value| v.as_integer().map(|n| n as f64);
    let default =
        budgets.get("default").and_then(seconds).context("budgets.toml has no default")?;
    let mut spent: BTreeMap<&str, f64> = BTreeMap::new();
    for (binary, took) in &tally.seconds {
        *spent.entry(binary).or_default() += took;
    }
    let mut over = Vec::new();
    for (binary, took) in spent {
        let own = budgets.get("binaries").and_then(|b| b.get(binary)).and_then(seconds);
        let budget = own.unwrap_or(default);
        if took > budget {
            over.push(format!("{binary} took {took:.0} s, its budget is {budget:.0} s"));
        }
    }
    Ok(over)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn sums_cargos_result_lines() {
        let mut tally = Tally::default();
        for line in [
            "     Running unittests src/lib.rs (/t/ci/deps/keystead_aws-0a1b2c)",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.31s",
            "     Running tests/it/main.rs (/t/ci/deps/it-77)",
            "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 6 filtered out; finished in 9.00s",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 61.00s",
        ] {
            tally.line(line);
        }
        assert_eq!((tally.passed, tally.failed), (15, 2));
        assert_eq!(tally.seconds, [("keystead_aws".to_owned(), 0.31), ("it".to_owned(), 61.0)]);
    }
}
