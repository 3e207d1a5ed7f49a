//! A trail that was tampered with betrays itself, or is said to rest on nothing but itself.

use crate::joint::stage::Stage;
use crate::world::{World, WorldOptions};
use keystead_aws::trail::ChainState;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A copy of the trail, one line each.
fn lines(trail: &Path) -> (String, Vec<String>) {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(trail).expect("the trail").flatten().map(|e| e.path()).collect();
    files.sort();
    assert_eq!(files.len(), 1, "the test knows one open segment");
    let name = files[0].file_name().expect("a name").to_string_lossy().into_owned();
    let text = std::fs::read_to_string(&files[0]).expect("text");
    (name, text.lines().map(str::to_owned).collect())
}

/// `keystead audit verify`: whether it holds, and what it says.
fn verify(name: &str, lines: &[String], heads: Option<&Path>) -> (bool, String) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(name), lines.join("\n") + "\n").expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_keystead"));
    command.args(["audit", "verify", "--dir"]).arg(folder.path());
    if let Some(heads) = heads {
        command.arg("--heads").arg(heads);
    }
    let out = command.output().expect("it runs");
    (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
}

/// What somebody with the server's own code does: the chain written anew over changed records.
fn rewritten(lines: &[String], change: usize) -> Vec<String> {
    let mut state = ChainState::START;
    let rewrite = |(number, line): (usize, &String)| {
        let mut record: Map<String, Value> = serde_json::from_str(line).expect("a record");
        for member in ["sequence", "chain", "signature"] {
            record.remove(member);
        }
        if number == change {
            record.insert("eventName".to_owned(), "Harmless".into());
        }
        state.append(&record)
    };
    lines.iter().enumerate().map(rewrite).collect()
}

#[test]
fn each_tampering_names_the_first_record_that_does_not_fit() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    let cluster = stage.cluster("audited");
    let key = json!({"KeyId": cluster.key_arn});
    stage.owner.call("DisableKey", key.clone());
    stage.owner.call("EnableKey", key);
    // The node keeps a head a minute, and one at its start; take a head of now as the owner would.
    let heads = stage.world.data().join("node/eu-central-1/heads.jsonl");
    let begun = std::time::Instant::now();
    let kept = || std::fs::read_to_string(&heads).unwrap_or_default();
    let last = || {
        let head: Value = serde_json::from_str(kept().lines().last()?).ok()?;
        head["sequence"].as_u64().filter(|n| *n > 10)
    };
    let sequence = loop {
        if let Some(sequence) = last() {
            break sequence;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "no head is kept");
        std::thread::sleep(Duration::from_millis(500));
    };
    let (name, good) = lines(&stage.world.data().join("kms/trail"));
    let with = Some(heads.as_path());
    let (holds, text) = verify(&name, &good, with);
    assert!(holds && text.contains("anchored by"), "{text}");
    let (holds, text) = verify(&name, &good, None);
    assert!(holds && text.contains("consistent, not anchored"), "{text}");

    let at = 6; // sequences count from 1
    let flip = |line: &str| line.replacen("\"awsRegion\"", "\"awsregion\"", 1);
    let mut flipped = good.clone();
    flipped[at] = flip(&flipped[at]);
    assert_ne!(flipped, good);
    let mut removed = good.clone();
    removed.remove(at);
    let mut swapped = good.clone();
    swapped.swap(at, at + 1);
    for (what, bad) in [("flipped", &flipped), ("removed", &removed), ("swapped", &swapped)] {
        let (holds, text) = verify(&name, bad, None);
        assert!(!holds && text.contains(&format!("line {}", at + 1)), "{what}: {text}");
    }
    // Cut, or written anew: whole by itself, but not what the head says.
    let short = good[..usize::try_from(sequence).expect("fits") - 1].to_vec();
    let anew = rewritten(&good, at);
    for (what, bad) in [("cut", &short), ("rewritten", &anew)] {
        let (holds, text) = verify(&name, bad, None);
        assert!(holds && text.contains("consistent, not anchored"), "{what}: {text}");
        let (holds, text) = verify(&name, bad, with);
        assert!(!holds, "{what} goes unnoticed: {text}");
    }
    stage.world.stop();
}
