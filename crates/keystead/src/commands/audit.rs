//! `keystead audit`: reads a trail's folder, offline; asks nobody.

use super::{json, table};
use crate::cli::{AuditArgs, AuditCommand, Trail};
use crate::failure::Failure;
use crate::out::say;
use anyhow::{Context, Result};
use keystead_aws::trail::{Verifier, parse_heads};
use serde_json::Value;
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs it.
pub(crate) fn run(args: AuditArgs) -> Result<ExitCode> {
    match args.command {
        AuditCommand::Tail { trail, lines, format } => tail(&folder(&trail)?, lines, format.json),
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

fn tail(folder: &Path, lines: usize, as_json: bool) -> Result<ExitCode> {
    let mut last: VecDeque<Value> = VecDeque::with_capacity(lines.min(10_000) + 1);
    for file in segments(folder)?.iter().rev() {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        for line in text.lines().rev() {
            // An unfinished last line is being written: it is not a record yet.
            let Ok(record) = serde_json::from_str(line) else { continue };
            if last.len() < lines {
                last.push_front(record);
            }
        }
        if last.len() >= lines {
            break;
        }
    }
    if as_json {
        json(&last)?;
        return Ok(ExitCode::SUCCESS);
    }
    let word =
        |r: &Value, at: &str| r.pointer(at).and_then(Value::as_str).unwrap_or("-").to_owned();
    let rows = last.iter().map(|r| {
        [
            r["sequence"].to_string(),
            word(r, "/eventTime"),
            word(r, "/eventName"),
            word(r, "/userIdentity/arn"),
            word(r, "/errorCode"),
            word(r, "/requestID"),
        ]
    });
    table(["SEQUENCE", "TIME", "EVENT", "WHO", "ERROR", "REQUEST"], rows.collect());
    Ok(ExitCode::SUCCESS)
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

    #[test]
    fn both_spellings_of_a_head_are_read() {
        let node = r#"{"time_ms":1,"epoch":"e","sequence":7,"chain":"00","signature":"AA=="}"#;
        let wire = r#"{"Sequence":8,"Chain":"01","Signature":"AA=="}"#;
        let (heads, strange) = parse_heads(&pascal(&format!("{node}\n{wire}\n")));
        assert_eq!(strange, 0);
        assert_eq!(heads.iter().map(|h| h.sequence).collect::<Vec<_>>(), [7, 8]);
    }

    #[test]
    fn a_key_is_64_digits() {
        assert_eq!(key_bytes(&"0a".repeat(32)).expect("a key"), [10; 32]);
        assert!(key_bytes("0a").is_err());
        assert!(key_bytes(&"zz".repeat(32)).is_err());
    }
}
