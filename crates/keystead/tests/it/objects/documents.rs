//! Documents by the command line and by curl: links that the node signs and control hands out.

use super::{access_key, disable, enable, serving, text};
use crate::joint::stage::{Cluster, Stage};
use crate::world::{World, WorldOptions};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What the command line may have of address space, and a file that is larger.
const ROOM_KIB: u64 = 512 << 10;
const LARGE: u64 = 640 << 20;

/// curl's exit status when the other side has reset the connection, as a freeze does.
const RESET: i32 = 56;

/// The stock client; answers the status, the headers and the body. A status of 0: cut.
fn curl(args: &[&str]) -> (u16, String, Vec<u8>) {
    let out = Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--http1.1", "--max-time", "30"])
        .args(args)
        .env_clear()
        .output()
        .expect("curl runs");
    if out.status.code() == Some(RESET) {
        return (0, String::new(), Vec::new());
    }
    assert!(out.status.success(), "curl: {}", String::from_utf8_lossy(&out.stderr));
    let mut rest = out.stdout.as_slice();
    loop {
        let end = rest.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 4..];
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        if status != 100 {
            return (status, head, rest.to_vec());
        }
    }
}

fn code(body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body);
    let inside = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    inside.map(|(code, _)| code.to_owned()).unwrap_or_default()
}

/// curl's way to put a file by a link; `change` may alter the headers.
fn put_by(
    link: &Value,
    url: &str,
    file: &Path,
    change: impl Fn(&str, &str) -> String,
) -> (u16, String) {
    let headers: Vec<String> = link["headers"]
        .as_object()
        .expect("headers")
        .iter()
        .filter(|(name, _)| *name != "content-length")
        .map(|(name, value)| change(name, value.as_str().expect("text")))
        .collect();
    let mut args = vec!["--upload-file", file.to_str().expect("UTF-8")];
    headers.iter().for_each(|h| args.extend(["--header", h]));
    args.push(url);
    let (status, _, body) = curl(&args);
    (status, code(&body))
}

fn as_is(name: &str, value: &str) -> String {
    format!("{name}: {value}")
}

fn url(link: &Value) -> String {
    link["url"].as_str().unwrap_or_else(|| panic!("no link: {link}")).to_owned()
}

fn said(out: &Output) -> String {
    assert!(!out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// The command line by way of a shell; `$@` is the whole of it.
fn by_shell(stage: &Stage, script: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_keystead")])
        .args(args)
        .env("KEYSTEAD_API", stage.world.env("KEYSTEAD_API"))
        .env("KEYSTEAD_TOKEN", stage.world.env("KEYSTEAD_TOKEN"));
    command
}

/// The command line within a bounded address space.
fn in_little_room(stage: &Stage, args: &[&str]) {
    let script = format!("ulimit -v {ROOM_KIB}; exec \"$@\"");
    let out = by_shell(stage, &script, args).output().expect("the command line runs");
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Waits until a process has read some of a file.
fn reads(pid: u32, file: &Path) {
    let begun = Instant::now();
    let has_read = || {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let fd =
            open.flatten().find(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == file))?;
        let number = fd.file_name();
        let info = format!("/proc/{pid}/fdinfo/{}", number.to_str()?);
        let info = std::fs::read_to_string(info).ok()?;
        (!info.starts_with("pos:\t0\n")).then_some(())
    };
    while has_read().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing is read");
        std::thread::yield_now();
    }
}

/// Waits for a link to say what is expected.
fn until(link: &str, status: u16, within: Duration) -> Vec<u8> {
    let begun = Instant::now();
    loop {
        let (found, _, body) = curl(&[link]);
        if found == status {
            return body;
        }
        assert!(begun.elapsed() < within, "{found} {} and not {status}", code(&body));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn documents_go_by_links_that_the_key_rules() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    let cluster = stage.cluster("contracts");
    serving(&stage, &cluster, "documents");
    let name = cluster.name.as_str();
    let folder = tempfile::tempdir().expect("a folder");
    let at = |file: &str| folder.path().join(file);
    let path = |file: &str| at(file).to_str().expect("UTF-8").to_owned();
    let whole = text((3 << 20) + 7);
    std::fs::write(at("in"), &whole).expect("written");
    let control_log = || stage.world.log("control") + &stage.world.log("node");

    // Put, listed, got: name, type and metadata come back; nothing of them stands in a log or in
    // what the node keeps.
    let begun = Instant::now();
    let put = ["doc", "put", name, &path("in"), "--name", "Vertrag Müller 100%.pdf", "--json"];
    let meta =
        ["--content-type", "application/pdf", "--meta", "customer=Größe, 7", "--meta", "n=1"];
    let made = stage.world.cli_json(&[&put[..], &meta[..]].concat());
    eprintln!(
        "FIGURE documents: put of 3 MiB {} ms, first link of the cluster",
        begun.elapsed().as_millis()
    );
    let id = made["document"].as_str().expect("an id").to_owned();
    assert_eq!(made["size"], whole.len());
    let listed = stage.world.cli_json(&["doc", "list", name, "--json"]);
    assert_eq!(listed[0]["document"], id.as_str(), "{listed}");
    assert_eq!(listed[0]["name"], "Vertrag Müller 100%.pdf");
    assert_eq!(listed[0]["content_type"], "application/pdf");
    assert_eq!(listed[0]["metadata"], json!({ "customer": "Größe, 7", "n": "1" }));
    assert_eq!((&listed[0]["size"], &listed[0]["expires"]), (&json!(whole.len()), &Value::Null));
    let out = path("out");
    stage.world.cli_ok(&["doc", "get", name, &id, "-o", &out]);
    assert!(std::fs::read(&out).expect("there") == whole);
    let again = said(&stage.world.cli(&["doc", "get", name, &id, "-o", &out]));
    assert!(again.contains("is there already"), "{again}");
    let piped = stage.world.cli(&["doc", "get", name, &id, "-o", "-"]);
    assert!(piped.status.success() && piped.stdout == whole);
    let kept = std::fs::read_dir(stage.world.data().join("node")).expect("the node's folder");
    let kept: String = kept
        .filter_map(|region| {
            std::fs::read_to_string(region.ok()?.path().join("assignment.json")).ok()
        })
        .collect();
    assert!(kept.contains(name) && !kept.contains("ller"), "a name is kept in the clear");
    assert!(!control_log().contains("ller"), "a name is in a log");

    // A link works with curl alone, and tells the name.
    let begun = Instant::now();
    let link = stage.world.cli_ok(&["doc", "link", name, &id, "--expires", "5m"]);
    eprintln!("FIGURE documents: doc link {} ms", begun.elapsed().as_millis());
    let link = link.trim().to_owned();
    let (status, head, body) = curl(&[&link]);
    assert_eq!(status, 200, "{head}");
    assert!(body == whole && head.contains("x-amz-checksum-crc64nvme"), "{head}");
    let disposition = head.lines().find(|l| l.to_lowercase().starts_with("content-disposition:"));
    assert_eq!(
        disposition.expect("a name").split_once(": ").expect("a value").1,
        "attachment; filename=\"Vertrag M_ller 100_.pdf\"; filename*=UTF-8''Vertrag%20M%C3%BCller%20100%25.pdf"
    );
    let (part, _, body) = curl(&["--range", "5-9", &link]);
    assert_eq!((part, body.as_slice()), (206, &whole[5..10]));
    // Nothing else: not another method, time, document, Region or parameter, and no header more.
    let other = stage.world.cli_json(&["doc", "put", name, &path("in"), "--json"]);
    let other = other["document"].as_str().expect("an id").to_owned();
    for (tampered, extra, wanted) in [
        (link.clone(), vec!["--request", "DELETE"], "SignatureDoesNotMatch"),
        (link.replace(&id, &other), vec![], "SignatureDoesNotMatch"),
        (link.replace("X-Amz-Expires=300", "X-Amz-Expires=30000"), vec![], "SignatureDoesNotMatch"),
        (format!("{link}&response-content-type=text/html"), vec![], "SignatureDoesNotMatch"),
        (link.clone(), vec!["--header", "x-amz-meta-a: b"], "AccessDenied"),
    ] {
        let mut args = extra.clone();
        args.push(&tampered);
        let (status, _, body) = curl(&args);
        assert_eq!((status, code(&body).as_str()), (403, wanted), "{extra:?} {tampered}");
    }

    // An upload's link puts this one document, once, with these headers.
    let documents = format!("/v1/clusters/{name}/documents");
    let (status, new) = stage.api(
        "POST",
        &documents,
        json!({ "file_name": "a.txt", "content_type": "text/plain" }),
    );
    assert_eq!(status, 201, "{new}");
    let upload = &new["upload"];
    let new_id = new["document"].as_str().expect("an id");
    let changed = |name: &str, value: &str| match name {
        "content-type" => "content-type: text/html".to_owned(),
        _ => as_is(name, value),
    };
    let file = at("in");
    for (link, change) in [
        (url(upload), &changed as &dyn Fn(&str, &str) -> String),
        (url(upload).replace(new_id, &other), &as_is),
    ] {
        assert_eq!(put_by(upload, &link, &file, change), (403, "SignatureDoesNotMatch".to_owned()));
    }
    let more = |name: &str, value: &str| match name {
        "if-none-match" => format!("{name}: {value}\r\ncache-control: public"),
        _ => as_is(name, value),
    };
    let refused = put_by(upload, &url(upload), &file, more);
    assert_eq!(refused, (403, "AccessDenied".to_owned()));
    let absent = said(&stage.world.cli(&["doc", "get", name, new_id, "-o", &path("no")]));
    assert!(absent.contains("no document") && absent.contains("doc list"), "{absent}");
    assert_eq!(put_by(upload, &url(upload), &file, as_is), (200, String::new()));
    assert_eq!(put_by(upload, &url(upload), &file, as_is).0, 412, "put twice");
    let (status, _) = stage.api("GET", &format!("{documents}/{new_id}"), Value::Null);
    assert_eq!(status, 200);

    // What cannot be is refused before anything is signed.
    for bad in [
        json!({ "file_name": "../up" }),
        json!({ "file_name": "a", "metadata": { "keystead-name": "b" } }),
        json!({ "file_name": "a", "metadata": { "a b": "c" } }),
        json!({ "file_name": "a", "metadata": { "a": "x".repeat(2048) } }),
        json!({ "file_name": "a", "content_type": "text/html\r\nx: y" }),
        json!({ "file_name": "a", "size": (5_u64 << 30) + 1 }),
        json!({ "file_name": "a", "expires_in": "0s" }),
        json!({ "file_name": "a", "expires_in": "4000d" }),
    ] {
        assert_eq!(stage.api("POST", &documents, bad.clone()).0, 422, "{bad}");
    }
    let long =
        stage.api("POST", &format!("{documents}/{id}/links"), json!({ "expires_in": "169h" }));
    assert_eq!(long.0, 422);

    strangers(&stage, &cluster, &id, &link);
    frozen(&stage, &cluster, &id, &link, &path("in"));
    large(&stage, &cluster, folder.path());

    // Removed: its links lead nowhere.
    stage.world.cli_ok(&["doc", "rm", name, &id]);
    let (status, _, body) = curl(&[&link]);
    assert_eq!((status, code(&body).as_str()), (404, "NoSuchKey"));
    let twice = said(&stage.world.cli(&["doc", "rm", name, &id]));
    assert!(twice.contains("no document"), "{twice}");

    // Revoked: the key of links ends all that were given out; the next one has a new key.
    let given = stage.world.cli_ok(&["doc", "link", name, &other]);
    until(given.trim(), 200, Duration::from_secs(5));
    let keys = stage.world.cli_json(&["s3-key", "list", name, "--json"]);
    let all = keys.as_array().expect("a list");
    let key = all.iter().find(|k| k["role"] == "links").expect("the key of links");
    let key = key["access_key_id"].as_str().expect("an id");
    assert!(!stage.world.cli(&["s3-key", "rotate", name, key]).status.success());
    stage.world.cli_ok(&["s3-key", "revoke", name, key]);
    until(given.trim(), 403, Duration::from_secs(5));
    let given = stage.world.cli_ok(&["doc", "link", name, &other]);

    // A start over the same folder: what ended meanwhile is not there.
    let brief =
        stage.world.cli_json(&["doc", "put", name, &path("in"), "--expires", "4s", "--json"]);
    let brief = brief["document"].as_str().expect("an id").to_owned();
    let (mut stage, begun) = (stage, Instant::now());
    stage.world.stop_and_start();
    serving(&stage, &cluster, "documents");
    let old = crate::joint::stage::address(stage.world.env("KEYSTEAD_S3_ENDPOINT"));
    if given.contains(&old.to_string()) {
        until(given.trim(), 200, Duration::from_secs(10));
    }
    std::thread::sleep(Duration::from_secs(5).saturating_sub(begun.elapsed()));
    let gone = said(&stage.world.cli(&["doc", "get", &cluster.name, &brief]));
    assert!(gone.contains("no document"), "{gone}");
    stage.world.stop();
}

/// Another organization and another cluster see nothing.
fn strangers(stage: &Stage, cluster: &Cluster, id: &str, link: &str) {
    let made = stage.world.cli_json(&["organization", "create", "strangers", "--json"]);
    let token = made["token"].as_str().expect("a token");
    for args in [
        vec!["doc", "list", &cluster.name],
        vec!["doc", "get", &cluster.name, id],
        vec!["doc", "link", &cluster.name, id],
        vec!["doc", "rm", &cluster.name, id],
    ] {
        let text = said(&stage.world.cli_as(token, &args));
        assert!(text.contains("no cluster"), "{args:?}: {text}");
    }
    // The same tenant's other cluster: the id is unknown there, and its links open its own alone.
    let neighbour = stage.cluster("neighbour");
    serving(stage, &neighbour, "documents");
    let text = said(&stage.world.cli(&["doc", "link", &neighbour.name, id]));
    assert!(text.contains("no document"), "{text}");
    let (_, new) = stage.api(
        "POST",
        &format!("/v1/clusters/{}/documents", neighbour.name),
        json!({ "file_name": "theirs" }),
    );
    let credential = |url: &str| {
        let (_, rest) = url.split_once("X-Amz-Credential=").expect("a credential");
        rest.split('&').next().expect("its value").to_owned()
    };
    let theirs = url(&new["upload"]);
    let forged = link.replace(&credential(link), &credential(&theirs));
    let (status, _, body) = curl(&[&forged]);
    assert_eq!((status, code(&body).as_str()), (403, "SignatureDoesNotMatch"));
}

/// The key owner says no, and yes again; what ends in between is gone afterwards.
fn frozen(stage: &Stage, cluster: &Cluster, id: &str, link: &str, file: &str) {
    let name = cluster.name.as_str();
    let put = ["doc", "put", name, file, "--expires", "6s", "--json"];
    let brief = stage.world.cli_json(&put);
    let brief = brief["document"].as_str().expect("an id").to_owned();
    let brief_link = stage.world.cli_ok(&["doc", "link", name, &brief]);
    let writer = access_key(stage, cluster, "writer");
    let begun = Instant::now();
    assert_eq!(curl(&[brief_link.trim()]).0, 200);

    let at = disable(stage, cluster);
    let body = until(link, 400, Duration::from_secs(1));
    assert_eq!(code(&body), "KMS.DisabledException");
    assert!(at.elapsed() < Duration::from_secs(1));
    stage.wait(name, "Frozen", Some("key-disabled"), Duration::from_secs(5));
    for args in [
        vec!["doc", "put", name, file],
        vec!["doc", "list", name],
        vec!["doc", "get", name, id, "-o", "-"],
        vec!["doc", "link", name, id],
        vec!["doc", "rm", name, id],
    ] {
        let text = said(&stage.world.cli(&args));
        assert!(text.contains("key-disabled") && text.contains("keystead why"), "{args:?}: {text}");
    }
    // Ends are whole seconds, rounded up.
    std::thread::sleep(Duration::from_secs(7).saturating_sub(begun.elapsed()));
    let at = enable(stage, cluster);
    until(link, 200, Duration::from_secs(3));
    eprintln!("FIGURE documents: served again {} ms after EnableKey", at.elapsed().as_millis());
    let (status, _, body) = curl(&[brief_link.trim()]);
    assert!(status == 403 || status == 404, "{status} {}", code(&body));
    let path = format!("/documents/{}", brief_key(&brief));
    let gone = writer.call("GET", &path, "", b"").expect("answered");
    assert_eq!((gone.status, gone.code().as_str()), (404, "NoSuchKey"), "{path}");
    // And its object within a minute.
    let begun = Instant::now();
    while writer
        .ok("GET", "/documents", "list-type=2&prefix=expiring%2F", b"")
        .text()
        .contains(&brief)
    {
        assert!(begun.elapsed() < Duration::from_secs(60), "the ended document stays");
        std::thread::sleep(Duration::from_millis(200));
    }
    eprintln!(
        "FIGURE documents: an ended one removed {} ms after the thaw",
        begun.elapsed().as_millis()
    );
    stage.wait(name, "Ready", None, Duration::from_secs(20));
}

fn brief_key(id: &str) -> String {
    id.parse::<keystead_types::DocumentId>().expect("an id").key()
}

/// More than fits into the address space, both ways; and a file that shrinks under way.
fn large(stage: &Stage, cluster: &Cluster, folder: &Path) {
    let name = cluster.name.as_str();
    let (big, back) = (folder.join("big"), folder.join("back"));
    let file = std::fs::File::create(&big).expect("made");
    file.set_len(LARGE).expect("sparse");
    let begun = Instant::now();
    in_little_room(stage, &["doc", "put", name, big.to_str().expect("UTF-8"), "--meta", "big=1"]);
    let put = begun.elapsed();
    let listed = stage.world.cli_json(&["doc", "list", name, "--json"]);
    let all = listed.as_array().expect("a list");
    let found = all.iter().find(|d| d["metadata"]["big"] == "1").expect("the large one");
    assert_eq!(found["size"], LARGE);
    let id = found["document"].as_str().expect("an id");
    let begun = Instant::now();
    in_little_room(stage, &["doc", "get", name, id, "-o", back.to_str().expect("UTF-8")]);
    eprintln!(
        "FIGURE documents: {} MiB put in {} ms, got in {} ms, within {} MiB of address space",
        LARGE >> 20,
        put.as_millis(),
        begun.elapsed().as_millis(),
        ROOM_KIB >> 10
    );
    assert_eq!(std::fs::metadata(&back).expect("there").len(), LARGE);
    stage.world.cli_ok(&["doc", "rm", name, id]);
    std::fs::remove_file(&back).expect("removed");

    // Nothing is left of a put that broke off, nor of a get that found no room.
    let before = stage.world.cli_json(&["doc", "list", name, "--json"]);
    let put = by_shell(stage, "exec \"$@\"", &["doc", "put", name, big.to_str().expect("UTF-8")])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command line runs");
    reads(put.id(), &big);
    file.set_len(1).expect("cut");
    let put = put.wait_with_output().expect("it ends");
    let text = said(&put);
    assert!(text.contains("shrank") && text.contains("nothing was put"), "{text}");
    assert_eq!(stage.world.cli_json(&["doc", "list", name, "--json"]), before);
    std::fs::remove_file(&big).expect("removed");
    let id = before[0]["document"].as_str().expect("an id");
    let script = "exec \"$@\" > /dev/full";
    let full = by_shell(stage, script, &["doc", "get", name, id, "-o", "-"]).output();
    let text = said(&full.expect("the command line runs"));
    assert!(text.contains("No space left") && text.contains("free some"), "{text}");
}
