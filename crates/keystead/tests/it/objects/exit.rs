//! Taking objects out by stock tools: `aws-encryption-cli` over a bucket's folder, with the owner's
//! own credentials and Keystead's node gone.

use super::{access_key, serving, text};
use crate::joint::stage::{REGION, Stage};
use crate::proofs::keys::aws;
use crate::world::{World, WorldOptions};
use std::process::Command;

#[test]
fn the_stock_encryption_cli_empties_a_bucket_with_the_owners_key() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    let cluster = stage.cluster("exit");
    serving(&stage, &cluster, "documents");
    let s3 = access_key(&stage, &cluster, "writer");
    let objects =
        [("empty", 0), ("one", 1), ("frame", 65_536), ("some", 200_000), ("many", 3 << 20)];
    for (name, size) in objects {
        s3.ok("PUT", &format!("/documents/{name}"), "", &text(size));
    }
    let id = stage.view(&cluster.name)["id"].as_str().expect("an id").to_owned();
    let folder = stage.world.data().join(format!("node/{REGION}/objects/{id}/buckets/documents"));
    let out = tempfile::tempdir().expect("a folder");
    let _down = stage.world.hold_down("node");
    let cli = std::path::PathBuf::from(aws()).with_file_name("aws-encryption-cli");
    let run = Command::new(cli)
        .args(["--decrypt", "--suppress-metadata", "--interactive", "--recursive"])
        .args(["--commitment-policy", "require-encrypt-require-decrypt"])
        .arg("--input")
        .arg(&folder)
        .arg("--output")
        .arg(out.path())
        .args(["--wrapping-keys", &format!("key={}", cluster.key_arn)])
        .env_clear()
        .env("HOME", out.path())
        .env("AWS_ENDPOINT_URL_KMS", stage.world.env("KEYSTEAD_AWS_ENDPOINT"))
        .env("AWS_ACCESS_KEY_ID", &stage.owner.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &stage.owner.secret)
        .env("AWS_DEFAULT_REGION", REGION)
        .output()
        .expect("the encryption CLI runs");
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{said}");
    let mut found = std::collections::BTreeMap::new();
    let mut records = 0;
    let mut folders = vec![out.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let shown = path.strip_prefix(out.path()).expect("below").display().to_string();
            let bytes = std::fs::read(&path).expect("readable");
            if shown.contains("/record") {
                let record: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
                assert_eq!(record["bucket"], "documents", "{record}");
                records += 1;
            } else if shown.contains("part00001") {
                found.insert(shown.split('/').next().unwrap_or_default().to_owned(), bytes);
            }
        }
    }
    for (name, size) in objects {
        assert!(found.get(name) == Some(&text(size)), "{name}: {:?}", found.keys());
    }
    assert_eq!((found.len(), records), (objects.len(), objects.len()));
    eprintln!(
        "FIGURE objects: the stock AWS Encryption CLI emptied a bucket of {} objects",
        found.len()
    );
    drop(_down);
    stage.world.stop();
}
