//! A cluster's keys as a stock client learns them: `aws kms decrypt`, then cryptsetup.

use super::scan::Wanted;
use crate::joint::stage::{Cluster, REGION, Stage};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

const CRYPTSETUP: &str = "/usr/sbin/cryptsetup";

/// The stock client that `cargo xtask test` installs.
pub(crate) fn aws() -> String {
    std::env::var("KEYSTEAD_AWS").unwrap_or_else(|_| {
        format!("{}/.cache/keystead-venv/bin/aws", std::env::var("HOME").expect("HOME"))
    })
}

fn run(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {}\n{error}", out.status);
    String::from_utf8(out.stdout).expect("text")
}

/// The image of a volume.
pub(super) fn image(stage: &Stage, volume: &str) -> PathBuf {
    stage.world.data().join("node").join(REGION).join(format!("volumes/{volume}.img"))
}

/// What the stock AWS CLI decrypts of a wrapped key, as the owner of the cluster's first key.
pub(super) fn decrypt(stage: &Stage, cluster: &Cluster, context: &str, wrapped: &[u8]) -> Vec<u8> {
    let mut blob = tempfile::NamedTempFile::new().expect("a file");
    blob.write_all(wrapped).expect("written");
    let plain = run(Command::new(aws())
        .args(["kms", "decrypt", "--output", "text", "--query", "Plaintext"])
        .args(["--key-id", &cluster.key_arn, "--encryption-context", context])
        .args(["--ciphertext-blob", &format!("fileb://{}", blob.path().display())])
        .args(["--endpoint-url", stage.world.env("KEYSTEAD_AWS_ENDPOINT")])
        .env("AWS_ACCESS_KEY_ID", &stage.owner.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &stage.owner.secret)
        .env("AWS_DEFAULT_REGION", REGION));
    from_base64(plain.trim())
}

/// Data key and volume key of each volume of the cluster.
pub(super) fn of_cluster(stage: &Stage, cluster: &Cluster) -> Wanted {
    let folder = tempfile::tempdir().expect("a folder");
    let mut wanted = Wanted::default();
    let view = stage.view(&cluster.name);
    let id = view["id"].as_str().expect("an id");
    for volume in view["volumes"].as_array().expect("volumes") {
        let (name, disk) = (&volume["volume"], &volume["disk"]);
        let name = name.as_str().expect("an id");
        let context =
            format!("keystead:cluster={id},keystead:store={name},keystead:purpose=volume");
        let wrapped = volume["wrapped_key"].as_str().expect("a wrapped key");
        let data_key = decrypt(stage, cluster, &context, &from_base64(wrapped));
        assert_eq!(data_key.len(), 64);
        wanted.secret(&format!("data key of {disk}"), &data_key);
        let (key_file, out) = (folder.path().join("key"), folder.path().join(name));
        std::fs::write(&key_file, &data_key).expect("written");
        run(Command::new(CRYPTSETUP)
            .args(["luksDump", "--batch-mode", "--disable-locks", "--dump-volume-key"])
            .arg("--key-file")
            .arg(&key_file)
            .arg("--volume-key-file")
            .arg(&out)
            .arg(image(stage, name)));
        let volume_key = std::fs::read(&out).expect("the volume key");
        assert_eq!(volume_key.len(), 64);
        wanted.xts_key(&format!("volume key of {disk}"), &volume_key);
    }
    wanted
}

/// Every material of a KMS key, unsealed with the plain root key that `dev` writes.
pub(super) fn materials(stage: &Stage, cluster: &Cluster) -> Vec<Vec<u8>> {
    use keystead_envelope::memory::DataKey;
    use keystead_envelope::root_key::RootKey;
    let input = serde_json::json!({
        "KeyId": cluster.key_arn, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"
    });
    let answer = stage.owner.call("ListKeyRotations", input);
    let store = std::fs::read(stage.world.data().join("kms/store.redb")).expect("the store");
    let root = std::fs::read_to_string(stage.world.data().join("config/root-key"));
    let root = root.expect("the root key");
    let mut root = super::unhex(root.trim());
    let root = DataKey::from_slice_zeroizing(&mut root).expect("key memory");
    let root = RootKey::new(root).expect("32 bytes");
    let listed = answer.body["Rotations"].as_array().expect("a list");
    let ids = listed.iter().map(|one| one["KeyMaterialId"].as_str().expect("an id"));
    ids.map(|id| {
        let mark = format!("\"id\":\"{id}\",\"sealed\":\"");
        let at = store
            .windows(mark.len())
            .rposition(|w| w == mark.as_bytes())
            .expect("the record is in the store")
            + mark.len();
        let sealed: Vec<u8> = store[at..].iter().copied().take_while(|b| *b != b'"').collect();
        let sealed = from_base64(std::str::from_utf8(&sealed).expect("base64"));
        let aad = format!("keystead material 1\n{}\n{id}", cluster.key_arn);
        root.open(aad.as_bytes(), &sealed).expect("it opens").expose().to_vec()
    })
    .collect()
}

fn from_base64(text: &str) -> Vec<u8> {
    let value = |b: u8| match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("not base64: {text}"),
    };
    let mut out = Vec::new();
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = group.iter().fold(0u32, |bits, b| bits << 6 | u32::from(value(*b)));
        let bits = bits << (6 * (4 - group.len()));
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    out
}
