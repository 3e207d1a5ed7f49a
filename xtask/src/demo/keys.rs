//! The key owner's part: a key in each Region, what is seen of its use, and taking it away.

use super::documents::Document;
use super::stage::{Reader, Stage};
use super::{BACKUP_REGION, CLUSTER, word};
use anyhow::{Result, bail, ensure};
use std::time::{Duration, Instant};

/// The ARNs of a multi-Region key and its replica.
pub(super) struct Keys {
    pub(super) primary: String,
    pub(super) replica: String,
}

/// Makes both by the stock AWS CLI; the replica is enabled once its material is there.
pub(super) fn make(stage: &Stage, policy: &str) -> Result<Keys> {
    let made = stage.aws(&[
        "kms",
        "create-key",
        "--multi-region",
        "--description",
        "demo",
        "--policy",
        policy,
    ])?;
    let primary = word(&made, "/KeyMetadata/Arn")?;
    let to = ["--replica-region", BACKUP_REGION, "--policy", policy];
    let copied =
        stage.aws(&[&["kms", "replicate-key", "--key-id", primary.as_str()][..], &to].concat())?;
    let replica = word(&copied, "/ReplicaKeyMetadata/Arn")?;
    let begun = Instant::now();
    loop {
        let seen = stage.aws_in(BACKUP_REGION, &["kms", "describe-key", "--key-id", &replica])?;
        if seen["KeyMetadata"]["KeyState"] == "Enabled" {
            return Ok(Keys { primary, replica });
        }
        ensure!(begun.elapsed() < Duration::from_secs(10), "the replica is not enabled: {seen}");
    }
}

pub(super) fn seen_in_trail(stage: &Stage, key: &str) -> Result<((), String)> {
    let attribute = format!("AttributeKey=ResourceName,AttributeValue={key}");
    let begun = Instant::now();
    loop {
        let events = stage.aws(&[
            "cloudtrail",
            "lookup-events",
            "--max-results",
            "50",
            "--lookup-attributes",
            &attribute,
        ])?;
        let events = events["Events"].as_array().cloned().unwrap_or_default();
        let has = |name: &str| events.iter().any(|e| e["EventName"] == name);
        let wanted = ["Decrypt", "GenerateDataKeyWithoutPlaintext", "CreateGrant"];
        let missing: Vec<&str> = wanted.into_iter().filter(|n| !has(n)).collect();
        if missing.is_empty() {
            return Ok((
                (),
                format!(
                    "key owner sees the use of the key by LookupEvents: {} events, with {}",
                    events.len(),
                    wanted.join(", ")
                ),
            ));
        }
        if begun.elapsed() > Duration::from_secs(10) {
            bail!("the trail does not show {}", missing.join(", "));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The word of one key, that of the backup Region, is enough for both.
pub(super) fn disable_one(
    stage: &Stage,
    keys: &Keys,
    reader: &Reader,
    document: &Document,
) -> Result<((), String)> {
    stage.aws_in(BACKUP_REGION, &["kms", "disable-key", "--key-id", &keys.replica])?;
    let after = frozen(stage, reader, Instant::now(), "second-key-unusable")?;
    document.refused(stage, "KMS.KMSInvalidStateException", "KMS.DisabledException")?;
    Ok((
        (),
        format!(
            "key owner disables the backup Region's key alone: the last row came {}, cause second-key-unusable; the document is refused in both Regions",
            told(after)
        ),
    ))
}

pub(super) fn enable_one(
    stage: &Stage,
    keys: &Keys,
    reader: &Reader,
    document: &Document,
) -> Result<((), String)> {
    let before = reader.count();
    stage.aws_in(BACKUP_REGION, &["kms", "enable-key", "--key-id", &keys.replica])?;
    let took = thawed(stage, reader, Instant::now(), before)?;
    document.back()?;
    Ok((
        (),
        format!("key owner enables it: the first row came {}; the document is back", told(took)),
    ))
}

/// One command for both keys, so that each Region hears it from its own KMS.
pub(super) fn disable_both(
    stage: &Stage,
    reader: &Reader,
    document: &Document,
) -> Result<((), String)> {
    stage.cli_as_owner(&["key", "disable", "--cluster", CLUSTER])?;
    let after = frozen(stage, reader, Instant::now(), "key-disabled")?;
    document.refused(stage, "KMS.DisabledException", "KMS.DisabledException")?;
    Ok((
        (),
        format!(
            "`keystead key disable --cluster {CLUSTER}`, run by the key owner, disables both: the last row came {}, cause key-disabled; the document is refused in both by KMS.DisabledException",
            told(after)
        ),
    ))
}

pub(super) fn enable_both(
    stage: &Stage,
    reader: &mut Reader,
    document: &Document,
) -> Result<((), String)> {
    let before = reader.count();
    stage.cli_as_owner(&["key", "enable", "--cluster", CLUSTER])?;
    let took = thawed(stage, reader, Instant::now(), before)?;
    let (acknowledged, present) = reader.finish()?;
    let lost = acknowledged.iter().filter(|row| !present.contains(row)).count();
    ensure!(lost == 0, "{lost} acknowledged rows are lost");
    document.back()?;
    document.forget()?;
    Ok((
        (),
        format!(
            "`keystead key enable --cluster {CLUSTER}`: the first row came {}; {} rows acknowledged, none lost; the document is back by the same link",
            told(took),
            acknowledged.len()
        ),
    ))
}

/// Waits for the freeze; answers how long after the owner's command the last row came. A command
/// ends some 50 ms after KMS's answer, while Python leaves: by so much the figure flatters. The
/// joint tests measure from the answer itself.
fn frozen(stage: &Stage, reader: &Reader, answered: Instant, cause: &str) -> Result<Duration> {
    stage.watch(CLUSTER, "Frozen", "10s")?;
    std::thread::sleep(Duration::from_millis(1500).saturating_sub(answered.elapsed()));
    let after = reader.last().saturating_duration_since(answered);
    ensure!(after <= Duration::from_secs(1), "the last row came {after:?} after KMS's answer");
    let why = stage.json(&["why", CLUSTER, "--json"])?;
    ensure!(why["cause"] == cause, "the cause is {}", why["cause"]);
    Ok(after)
}

/// Waits for row `before` + 1 and Ready; answers how long after the owner's command that row came.
fn thawed(stage: &Stage, reader: &Reader, answered: Instant, before: usize) -> Result<Duration> {
    reader.wait_for(before + 1, Duration::from_secs(20))?;
    let took = reader.first_after(before).saturating_duration_since(answered);
    ensure!(took <= Duration::from_secs(2), "the first row came {took:?} after KMS's answer");
    stage.watch(CLUSTER, "Ready", "10s")?;
    Ok(took)
}

/// When a row came, counted from the end of the owner's command.
fn told(after: Duration) -> String {
    match after.as_millis() {
        0 => "before the command had ended".to_owned(),
        ms => format!("{ms} ms after"),
    }
}
