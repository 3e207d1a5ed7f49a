//! From the cluster's record to an object and back, with the stock AWS CLI.

use super::{access_key, back, disable, enable, serving, text};
use crate::joint::stage::{REGION, Stage};
use crate::proofs::keys::aws;
use crate::world::{World, WorldOptions};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The stock AWS CLI with an access key of a cluster.
fn cli(stage: &Stage, s3: &super::S3, folder: &Path, args: &[&str]) -> Output {
    Command::new(aws())
        .args(args)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("AWS_ACCESS_KEY_ID", &s3.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &s3.secret)
        .env("AWS_DEFAULT_REGION", REGION)
        .env("AWS_ENDPOINT_URL", stage.world.env("KEYSTEAD_S3_ENDPOINT"))
        .env("AWS_MAX_ATTEMPTS", "1")
        .output()
        .expect("the AWS CLI runs")
}

#[test]
fn documents_live_under_the_key_from_the_first_bucket_to_the_last() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    let cluster = stage.cluster("documents");
    let other = stage.cluster("neighbour");
    let bucket = serving(&stage, &cluster, "documents");
    assert_eq!(bucket["keys"][0], cluster.key_arn.as_str());
    serving(&stage, &cluster, "backups");

    let writer = access_key(&stage, &cluster, "writer");
    let reader = access_key(&stage, &cluster, "reader");
    let folder = tempfile::tempdir().expect("a folder");
    let run = |args: &[&str]| {
        let out = cli(&stage, &writer, folder.path(), args);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "aws {args:?}: {said}\n{}", stage.world.log_tails());
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    // 20 MiB and a little: the CLI makes a multipart upload of it.
    let whole = text((20 << 20) + 5);
    std::fs::write(folder.path().join("in"), &whole).expect("written");
    run(&["s3", "cp", "in", "s3://documents/contract.pdf", "--no-progress"]);
    run(&["s3", "cp", "s3://documents/contract.pdf", "out", "--no-progress"]);
    assert!(std::fs::read(folder.path().join("out")).expect("there") == whole);
    let head = run(&["s3api", "head-object", "--bucket", "documents", "--key", "contract.pdf"]);
    assert!(head.contains("aws:kms") && head.contains(&cluster.key_arn), "{head}");

    // Buckets made and removed by S3 itself are control's records.
    run(&["s3", "mb", "s3://more"]);
    serving(&stage, &cluster, "more");
    run(&["s3", "cp", "in", "s3://more/x", "--no-progress"]);
    let full = cli(&stage, &writer, folder.path(), &["s3api", "delete-bucket", "--bucket", "more"]);
    assert!(String::from_utf8_lossy(&full.stderr).contains("BucketNotEmpty"));
    run(&["s3", "rb", "s3://more", "--force"]);
    let left = stage.world.cli_json(&["bucket", "list", &cluster.name, "--json"]);
    assert_eq!(left.as_array().expect("a list").len(), 2, "{left}");

    // A reader reads. Another cluster's key sees nothing of this one.
    assert_eq!(
        reader.call("GET", "/documents/contract.pdf", "", b"").expect("answered").body,
        whole
    );
    let refused = reader.call("PUT", "/documents/y", "", b"no").expect("answered");
    assert_eq!((refused.status, refused.code().as_str()), (403, "AccessDenied"));
    let theirs = access_key(&stage, &other, "writer");
    serving(&stage, &other, "documents");
    let absent = theirs.call("GET", "/documents/contract.pdf", "", b"").expect("answered");
    assert_eq!((absent.status, absent.code().as_str()), (404, "NoSuchKey"));
    let mut wrong = writer.clone();
    wrong.secret = theirs.secret.clone();
    let forged = wrong.call("GET", "/documents/contract.pdf", "", b"").expect("answered");
    assert_eq!((forged.status, forged.code().as_str()), (403, "SignatureDoesNotMatch"));

    // Rotated and revoked.
    let id = &reader.access_key_id;
    let rotated = ["s3-key", "rotate", &cluster.name, id, "--overlap", "0s", "--json"];
    let next = stage.world.cli_json(&rotated);
    assert_ne!(next["access_key_id"], id.as_str());
    gone(&reader);
    stage.world.cli_ok(&["s3-key", "revoke", &cluster.name, &theirs_of(&next)]);
    let listed = stage.world.cli_ok(&["s3-key", "list", &cluster.name]);
    assert!(!listed.contains(&theirs_of(&next)) && listed.contains(&writer.access_key_id));

    // The key owner says no: the cause, and nothing else; the neighbour goes on.
    let at = disable(&stage, &cluster);
    let refused = loop {
        let answer = writer.call("GET", "/documents/contract.pdf", "", b"");
        if let Some(reply) = answer.ok().filter(|r| r.code() == "KMS.DisabledException") {
            break reply;
        }
        assert!(at.elapsed() < Duration::from_secs(1), "not refused within a second");
    };
    assert_eq!(refused.status, 400);
    theirs.ok("PUT", "/documents/z", "", b"their own");
    let said =
        cli(&stage, &writer, folder.path(), &["s3", "cp", "s3://documents/contract.pdf", "no"]);
    assert!(!said.status.success() && !folder.path().join("no").exists());
    let shown = stage.world.cli_ok(&["bucket", "list", &cluster.name]);
    assert!(shown.contains("frozen") && shown.contains("key-disabled"), "{shown}");
    let early = stage.world.cli(&["s3-key", "create", &cluster.name, "--role", "reader"]);
    assert!(!early.status.success());
    assert!(String::from_utf8_lossy(&early.stderr).contains("disabled"));
    let at = enable(&stage, &cluster);
    let thaw = back(&writer, "/documents/contract.pdf", at);
    assert!(thaw < Duration::from_secs(2), "back after {thaw:?}");
    eprintln!("FIGURE objects: served again {} ms after EnableKey", thaw.as_millis());

    // A start over the same folder has all of it.
    let mut stage = stage;
    stage.world.stop_and_start();
    let at = Instant::now();
    let s3 = super::S3 {
        to: crate::joint::stage::address(stage.world.env("KEYSTEAD_S3_ENDPOINT")),
        ..writer
    };
    back(&s3, "/documents/contract.pdf", at);
    assert!(s3.ok("GET", "/documents/contract.pdf", "", b"").body == whole);
    stage.world.stop();
}

fn theirs_of(view: &serde_json::Value) -> String {
    view["access_key_id"].as_str().expect("an id").to_owned()
}

/// Refused as unknown, within a second.
fn gone(s3: &super::S3) {
    let begun = Instant::now();
    loop {
        let answer = s3.call("GET", "/documents/contract.pdf", "", b"").expect("answered");
        if answer.code() == "InvalidAccessKeyId" {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "the old key still opens");
    }
}
