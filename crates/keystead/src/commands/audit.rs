//! `keystead audit`: the last records, by LookupEvents or from a folder; and a trail's chain,
//! verified offline.

use super::aws::Wire;
use super::{json, table};
use crate::cli::{AuditArgs, AuditCommand, TailArgs, Trail};
use crate::failure::Failure;
use crate::out::say;
use anyhow::{Context, Result};
use keystead_aws::trail::{Verifier, parse_heads};
use serde_json::Value;
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Which records are wanted.
pub(crate) struct Filter {
    pub(crate) key: Option<String>,
    pub(crate) name: Option<String>,
}

impl Filter {
    pub(crate) fn fits(&self, record: &Value) -> bool {
        let named = self.name.as_ref().is_none_or(|n| record["eventName"] == n.as_str());
        let touches = |key: &String| {
            let resources = record["resources"].as_array().into_iter().flatten();
            resources.into_iter().any(|r| r["ARN"] == key.as_str())
        };
        named && self.key.as_ref().is_none_or(touches)
    }
}

/// Runs it.
pub(crate) fn run(args: AuditArgs) -> Result<ExitCode> {
    match args.command {
        AuditCommand::Tail(args) => tail(args),
        AuditCommand::Verify { trail, heads, public_key, format } => {
            verify(&folder(&trail)?, &heads, public_key.as_deref(), format.json)
        }
    }
}

fn folder(trail: &Trail) -> Result<PathBuf> {
    let named = trail.dir.clone();
    let folder = named
        .or_else(|| std::env::var_os("KEYSTEAD_DATA").map(|d| PathBuf::from(d).join("kms/trail")))
        .unwrap_or_else(|| crate::dev::default_folder().join("kms/trail"));
    if !folder.is_dir() {
        return Err(Failure::new(format!("no trail at {}", folder.display()))
            .fix("name the folder of its segments by --dir")
            .into());
    }
    Ok(folder)
}

/// Names sort by age.
fn segments(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "jsonl") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn tail(args: TailArgs) -> Result<ExitCode> {
    let TailArgs { dir, key, name, lines, region, format } = args;
    let env = |name: &str| std::env::var(name).ok();
    let region = region
        .or_else(|| key.as_ref().and_then(|k| k.split(':').nth(3).map(str::to_owned)))
        .or_else(|| env("AWS_REGION").or_else(|| env("AWS_DEFAULT_REGION")))
        .filter(|r| !r.is_empty())
        .unwrap_or_else(|| crate::dev::Place::First.region().to_owned());
    let filter = Filter { key, name };
    let wire = if dir.is_none() { Wire::find(env) } else { None };
    let last = match wire {
        Some(wire) => super::on_runtime(super::lookup::newest(&wire, &region, &filter, lines))?,
        None => newest(&folder(&Trail { dir })?, &filter, lines)?,
    };
    if format.json {
        json(&last)?;
        return Ok(ExitCode::SUCCESS);
    }
    let word =
        |r: &Value, at: &str| r.pointer(at).and_then(Value::as_str).unwrap_or("-").to_owned();
    let rows = last.iter().map(|r| {
        [
            word(r, "/eventTime"),
            word(r, "/eventName"),
            who(r),
            word(r, "/errorCode"),
            word(r, "/requestID"),
        ]
    });
    table(["TIME", "EVENT", "WHO", "ERROR", "REQUEST"], rows.collect());
    Ok(ExitCode::SUCCESS)
}

/// The caller. Another account's has no ARN in the owner's trail, only the account.
fn who(record: &Value) -> String {
    let who = &record["userIdentity"];
    let arn = who["arn"].as_str().map(str::to_owned);
    let account = || who["accountId"].as_str().map(|a| format!("account {a}"));
    arn.or_else(account).or_else(|| who["type"].as_str().map(str::to_owned)).unwrap_or("-".into())
}

/// The folder's newest records that fit, oldest first.
fn newest(folder: &Path, filter: &Filter, lines: usize) -> Result<VecDeque<Value>> {
    let mut last: VecDeque<Value> = VecDeque::new();
    for file in segments(folder)?.iter().rev() {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        for line in text.lines().rev() {
            if last.len() >= lines {
                return Ok(last);
            }
            // An unfinished last line is being written: it is not a record yet. A closing line
            // of a segment is none either.
            let Ok(record) = serde_json::from_str::<Value>(line) else { continue };
            if record["eventName"].is_string() && filter.fits(&record) {
                last.push_front(record);
            }
        }
    }
    Ok(last)
}

fn verify(
    folder: &Path,
    heads: &[PathBuf],
    public_key: Option<&str>,
    as_json: bool,
) -> Result<ExitCode> {
    let key = public_key.map(key_bytes).transpose()?;
    let mut kept = Vec::new();
    for file in heads {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let (found, strange) = parse_heads(&pascal(&text));
        if strange > 0 {
            return Err(Failure::new(format!(
                "{strange} lines of {} are no heads",
                file.display()
            ))
            .into());
        }
        kept.extend(found);
    }
    let mut verifier = Verifier::new(key.as_deref(), &kept);
    for file in segments(folder)? {
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        verifier.segment(&name, &text);
    }
    let report = verifier.finish();
    if as_json {
        json(&serde_json::json!({
            "holds": report.holds(),
            "summary": report.summary(),
            "records": report.lines,
            "heads": kept.len(),
            "key_pinned": report.key_pinned,
        }))?;
    } else {
        say!("{}", report.summary());
    }
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn key_bytes(hex: &str) -> Result<Vec<u8>> {
    let refuse = || Failure::new("the public key is not 64 hexadecimal digits");
    if hex.len() != 64 || !hex.is_ascii() {
        return Err(refuse().into());
    }
    (0..32)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).map_err(|_| refuse().into()))
        .collect()
}

/// The node keeps its heads with lower-case names beside a time; the wire has them in Pascal case.
fn pascal(text: &str) -> String {
    let line = |line: &str| {
        let Ok(Value::Object(mut map)) = serde_json::from_str(line) else { return line.to_owned() };
        for (from, to) in [("sequence", "Sequence"), ("chain", "Chain"), ("signature", "Signature")]
        {
            if let Some(value) = map.remove(from) {
                map.insert(to.to_owned(), value);
            }
        }
        Value::Object(map).to_string()
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_spellings_of_a_head_are_read() {
        let node = r#"{"time_ms":1,"epoch":"e","sequence":7,"chain":"00","signature":"AA=="}"#;
        let wire = r#"{"Sequence":8,"Chain":"01","Signature":"AA=="}"#;
        let (heads, strange) = parse_heads(&pascal(&format!("{node}\n{wire}\n")));
        assert_eq!(strange, 0);
        assert_eq!(heads.iter().map(|h| h.sequence).collect::<Vec<_>>(), [7, 8]);
    }

    #[test]
    fn the_folders_last_records_are_found_by_key_and_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let line = |n: usize, name: &str, key: &str| {
            json!({"sequence": n, "eventName": name, "resources": [{"ARN": key}]}).to_string()
        };
        let old = [line(1, "DisableKey", "a"), line(2, "Decrypt", "a")].join("\n");
        let new = [line(3, "Decrypt", "b"), line(4, "EnableKey", "a")].join("\n");
        fs::write(dir.path().join("1.jsonl"), old + "\n").expect("written");
        fs::write(dir.path().join("2.jsonl"), new + "\n{\"half").expect("written");
        let found = |key: Option<&str>, name: Option<&str>, lines| {
            let filter = Filter { key: key.map(str::to_owned), name: name.map(str::to_owned) };
            let last = newest(dir.path(), &filter, lines).expect("read");
            last.iter().filter_map(|r| r["sequence"].as_u64()).collect::<Vec<_>>()
        };
        assert_eq!(found(None, None, 9), [1, 2, 3, 4]);
        assert_eq!(found(None, None, 3), [2, 3, 4]);
        assert_eq!(found(Some("a"), None, 9), [1, 2, 4]);
        assert_eq!(found(Some("a"), Some("Decrypt"), 9), [2]);
        assert_eq!(found(None, None, 0), [0; 0]);
    }

    #[test]
    fn a_key_is_64_digits() {
        assert_eq!(key_bytes(&"0a".repeat(32)).expect("a key"), [10; 32]);
        assert!(key_bytes("0a").is_err());
        assert!(key_bytes(&"zz".repeat(32)).is_err());
    }
}
