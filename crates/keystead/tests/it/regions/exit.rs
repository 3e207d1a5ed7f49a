//! Taking objects out of either Region with either key alone, as docs/exit.md says: its block is run
//! as it stands, Keystead's nodes gone and the other key refused.

use super::{Keys, Pair, SECOND};
use crate::joint::stage::REGION;
use crate::objects::text;
use crate::proofs::exit::{blocks, shell};
use crate::proofs::keys::aws;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

#[test]
fn stock_tools_open_the_objects_of_either_region_with_either_key_alone() {
    let pair = Pair::start("leaving", Keys::Separate, "any");
    let users = pair.users("writer");
    pair.documents(&users);
    let parts = [text(5 << 20), text(70_000)];
    let mut wanted = BTreeMap::from([("parts".to_owned(), parts.concat())]);
    users[0].upload("/documents/parts", &[&parts[0], &parts[1]], Duration::ZERO).expect("uploaded");
    for (name, size) in [("empty", 0), ("frame", 65_536), ("some", 200_000)] {
        users[0].ok("PUT", &format!("/documents/{name}"), "", &text(size));
        wanted.insert(name.to_owned(), text(size));
    }
    for name in wanted.keys() {
        let path = format!("/documents/{name}");
        pair.until(&path, Duration::from_secs(20), || {
            users[1].call("HEAD", &path, "", b"").ok().filter(|r| r.status == 200)
        });
    }
    let folders = [REGION, SECOND].map(|region| pair.folder(region).join("buckets/documents"));
    let gone = ["node", "node-eu-west-1"].map(|role| pair.stage.world.hold_down(role));
    let [_, objects] = blocks();
    let [script] = <[String; 1]>::try_from(objects).expect("one block");
    let tools = Path::new(&aws()).parent().expect("a folder").display().to_string();
    let path = format!("{tools}:/usr/local/bin:/usr/bin:/bin");
    for (at, folder) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (owner, refused) = pair.owner_of(1 - at);
        owner.call("DisableKey", json!({ "KeyId": refused }));
        let (_, key) = pair.owner_of(at);
        let out = tempfile::tempdir().expect("a folder");
        let env = [
            ("PATH", path.as_str()),
            ("HOME", out.path().to_str().expect("text")),
            ("FOLDER", folders[folder].to_str().expect("text")),
            ("KEY_ARN", key),
            ("AWS_ENDPOINT_URL_KMS", pair.stage.world.env("KEYSTEAD_AWS_ENDPOINT")),
            ("AWS_ACCESS_KEY_ID", &pair.stage.owner.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", &pair.stage.owner.secret),
            ("AWS_DEFAULT_REGION", [REGION, SECOND][at]),
        ];
        shell(out.path(), &script, &env);
        let found = contents(&out.path().join("files"));
        assert!(found == wanted, "folder {folder}, key {at}: {:?}", found.keys());
        owner.call("EnableKey", json!({ "KeyId": refused }));
    }
    eprintln!(
        "FIGURE exit: stock aws-encryption-cli opened a bucket's folder of each \
         Region with each key alone, the other refused"
    );
    drop(gone);
    pair.stage.world.stop();
}

/// Objects by their keys: the contents of their parts, one behind the other.
fn contents(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for key in std::fs::read_dir(out).expect("readable").flatten() {
        let versions = std::fs::read_dir(key.path()).expect("versions").flatten();
        let files = versions.flat_map(|v| std::fs::read_dir(v.path()).expect("files").flatten());
        let mut parts: Vec<_> = files.map(|file| file.path()).collect();
        parts.retain(|path| path.display().to_string().contains("/part0"));
        parts.sort();
        let bytes = parts.iter().flat_map(|path| std::fs::read(path).expect("readable")).collect();
        found.insert(key.file_name().to_string_lossy().into_owned(), bytes);
    }
    found
}
