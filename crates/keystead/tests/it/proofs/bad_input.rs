//! Wrong keys, wrong policies, wrong requests: a clear error that names the fix; nothing changes.

use crate::joint::stage::{REGION, Stage};
use crate::world::{World, WorldOptions};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// `cluster associate` must fail and say all of this.
fn refused(stage: &Stage, cluster: &str, arn: &str, says: &[&str]) {
    let out = stage.world.cli(&["cluster", "associate", cluster, "--key-arn", arn]);
    let text =
        format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(!out.status.success(), "{arn} was accepted: {text}");
    for word in says {
        assert!(text.contains(word), "{arn}: `{word}` is not said in:\n{text}");
    }
    assert_eq!(stage.view(cluster)["key_arns"], json!([]), "{arn}");
}

#[test]
fn wrong_keys_and_policies_are_refused_by_name_and_nothing_changes() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    let create = |name: &str| {
        stage.world.cli_ok(&[
            "cluster",
            "create",
            name,
            "--region",
            REGION,
            "--encryption",
            "external",
        ]);
        stage.wait(name, "AwaitingKey", None, Duration::from_secs(5));
        stage.view(name)["tenant_role_arn"].as_str().expect("a role").to_owned()
    };
    let role = create("bad");
    let arn = stage.owner.make_key(&role);
    let id = arn.rsplit('/').next().expect("an id").to_owned();

    refused(&stage, "bad", &id, &["key ARN"]);
    refused(&stage, "bad", "alias/mine", &["alias"]);
    refused(&stage, "bad", &arn.replace(&format!("key/{id}"), "alias/mine"), &["alias"]);
    refused(&stage, "bad", &format!(" {arn}"), &["blanks"]);
    refused(&stage, "bad", &arn.to_uppercase(), &["ARN"]);
    refused(&stage, "bad", "arn:aws:iam::111122223333:role/x", &["KMS key"]);
    refused(&stage, "bad", &arn.replace(REGION, "eu-west-1"), &[REGION]);
    refused(&stage, "bad", &arn.replace("111122223333", "444455556666"), &["account"]);
    let absent = format!("{}0000", &arn[..arn.len() - 4]);
    refused(&stage, "bad", &absent, &["does not exist"]);
    // A key that cannot encrypt is told by its own cause, whatever its policy allows.
    let hmac = json!({
        "KeySpec": "HMAC_256",
        "KeyUsage": "GENERATE_VERIFY_MAC",
        "Policy": stage.owner.policy(Some(&role)),
    });
    let hmac = stage.owner.call("CreateKey", hmac).body["KeyMetadata"]["Arn"].clone();
    let hmac = hmac.as_str().expect("an ARN");
    let fix = "--key-spec SYMMETRIC_DEFAULT --key-usage ENCRYPT_DECRYPT";
    refused(&stage, "bad", hmac, &["FAIL", "key-spec", "wrong-spec-or-usage", fix]);
    let told = stage.world.cli(&["preflight", "bad", "--key-arn", hmac, "--json"]);
    let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let checks = told["checks"].as_array().expect("checks");
    let failed: Vec<&Value> = checks.iter().filter(|check| check["ok"] == false).collect();
    assert!(failed.len() > 5, "{told}");
    for check in failed {
        assert_eq!(check["cause"], "wrong-spec-or-usage", "{check}");
    }
    let (status, problem) =
        stage.api("PUT", "/v1/clusters/bad/binding", json!({"key_arns": [hmac]}));
    assert!((400..500).contains(&status), "{status} {problem}");
    assert_eq!(stage.view("bad")["key_arns"], json!([]));
    let grants = stage.owner.call("ListGrants", json!({"KeyId": hmac}));
    assert_eq!(grants.body["Grants"], json!([]));

    // Each statement of the policy missing is told by its name, with the statement to add.
    let whole: Value = serde_json::from_str(&stage.owner.policy(Some(&role))).expect("JSON");
    for missing in [1, 2] {
        let mut policy = whole.clone();
        let gone = policy["Statement"].as_array_mut().expect("statements").remove(missing);
        stage.owner.call("PutKeyPolicy", json!({"KeyId": arn, "Policy": policy.to_string()}));
        let sid = gone["Sid"].as_str().expect("a Sid");
        refused(&stage, "bad", &arn, &["FAIL", sid, role.as_str()]);
    }
    // So is each operation.
    for (statement, at) in [1usize, 2].into_iter().flat_map(|s| {
        let count = whole["Statement"][s]["Action"].as_array().expect("actions").len();
        (0..count).map(move |at| (s, at))
    }) {
        let mut policy = whole.clone();
        let actions = policy["Statement"][statement]["Action"].as_array_mut().expect("actions");
        let gone = actions.remove(at);
        let gone = gone.as_str().expect("an action").trim_end_matches('*').to_owned();
        stage.owner.call("PutKeyPolicy", json!({"KeyId": arn, "Policy": policy.to_string()}));
        refused(&stage, "bad", &arn, &["FAIL", &gone]);
    }
    stage.owner.call("PutKeyPolicy", json!({"KeyId": arn, "Policy": whole.to_string()}));
    stage.owner.call("DisableKey", json!({"KeyId": arn}));
    refused(&stage, "bad", &arn, &["disabled", "enable-key"]);
    stage.owner.call("ScheduleKeyDeletion", json!({"KeyId": arn, "PendingWindowInDays": 7}));
    refused(&stage, "bad", &arn, &["pending deletion", "cancel-key-deletion"]);
    stage.owner.call("CancelKeyDeletion", json!({"KeyId": arn}));
    stage.owner.call("EnableKey", json!({"KeyId": arn}));
    // Placeholders left in the policy, in any of the brief's spellings, never reach a key: neither
    // a new one nor one that is there.
    let account = stage.world.env("KEYSTEAD_CUSTOMER_ACCOUNT").to_owned();
    let filled = stage.owner.policy(Some(&role));
    for (value, placeholder) in [
        (role.as_str(), "<TENANT_ROLE_ARN>"),
        (role.as_str(), "<tenant-role-arn>"),
        (role.as_str(), "<TENANT-ROLE-ARN>"),
        (account.as_str(), "<YOUR_AWS_ACCOUNT_ID>"),
        (account.as_str(), "<customer-aws-account>"),
    ] {
        let policy = filled.replace(value, placeholder);
        assert_ne!(policy, filled);
        for (operation, body) in [
            ("CreateKey", json!({"Policy": policy})),
            ("PutKeyPolicy", json!({"KeyId": arn, "Policy": policy})),
        ] {
            let answer = stage.owner.try_call(operation, &body).expect("it answers");
            let said = &answer.body["__type"];
            assert_eq!(said, "MalformedPolicyDocumentException", "{placeholder}: {}", answer.body);
        }
    }
    let kept = stage.owner.call("GetKeyPolicy", json!({"KeyId": arn})).body;
    let kept: Value = serde_json::from_str(kept["Policy"].as_str().expect("text")).expect("JSON");
    assert_eq!(kept, whole);

    // After all that the right key is accepted, once.
    stage.world.cli_ok(&["cluster", "associate", "bad", "--key-arn", &arn]);
    let again = stage.world.cli(&["cluster", "associate", "bad", "--key-arn", &arn]);
    assert!(!again.status.success());
    let body = json!({"key_arns": [arn]});
    let (status, problem) = stage.api("PUT", "/v1/clusters/bad/binding", body);
    assert_eq!(status, 409, "{problem}");
    stage.wait("bad", "Ready", None, Duration::from_secs(60));
    a_foreign_organization_is_refused(&stage, &role, &arn);
    stage.wait("bad", "Ready", None, Duration::from_secs(5));
    stage.world.stop();
}

/// Even where the owner's policy lets its tenant role in: a key serves one organization, and who
/// that is, is not told.
fn a_foreign_organization_is_refused(stage: &Stage, role: &str, arn: &str) {
    let made = stage.world.cli_json(&["organization", "create", "rival", "--json"]);
    let token = made["token"].as_str().expect("a token");
    let rival = |args: &[&str]| stage.world.cli_as(token, args);
    let create = ["cluster", "create", "theirs", "--region", REGION, "--encryption", "external"];
    let out = rival(&create);
    assert!(out.status.success(), "{out:?}");
    let begun = Instant::now();
    let theirs = loop {
        let view = rival(&["cluster", "get", "theirs", "--json"]);
        let view: Value = serde_json::from_slice(&view.stdout).expect("JSON");
        if let Some(theirs) = view["tenant_role_arn"].as_str() {
            break theirs.to_owned();
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{view}");
    };
    let mut policy: Value = serde_json::from_str(&stage.owner.policy(Some(role))).expect("JSON");
    for statement in [1, 2] {
        policy["Statement"][statement]["Principal"] = json!({"AWS": [role, theirs]});
    }
    stage.owner.call("PutKeyPolicy", json!({"KeyId": arn, "Policy": policy.to_string()}));
    let out = rival(&["cluster", "associate", "theirs", "--key-arn", arn]);
    let text =
        format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(!out.status.success() && text.contains("cannot be shared"), "{text}");
    assert!(!text.contains("dev"), "it tells whose it is: {text}");
    let view = rival(&["cluster", "get", "theirs", "--json"]);
    let view: Value = serde_json::from_slice(&view.stdout).expect("JSON");
    assert_eq!(view["key_arns"], json!([]));
}

#[test]
fn wrong_requests_are_refused_and_slow_nobody_down() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    for (body, wanted) in [
        (json!({"name": "x", "region": REGION, "encryption": "external", "unknown": 1}), 422),
        (json!({"name": "UPPER", "region": REGION, "encryption": "external"}), 422),
        (json!({"name": "x", "region": "eu-nowhere-9", "encryption": "external"}), 422),
        (json!({"name": "x", "region": REGION, "encryption": "none"}), 422),
        (json!({"name": "x".repeat(1 << 20), "region": REGION, "encryption": "external"}), 413),
        (json!([1, 2, 3]), 422),
    ] {
        let (status, problem) = stage.api("POST", "/v1/clusters", body);
        assert!(status == wanted || (status == 400 && wanted == 422), "{status} {problem}");
        assert!(problem["detail"].is_string(), "{problem}");
    }
    let api = stage.world.env("KEYSTEAD_API").trim_start_matches("http://").to_owned();
    let kms = stage.world.env("KEYSTEAD_AWS_ENDPOINT").trim_start_matches("http://").to_owned();
    let mut held = Vec::new();
    for port in [&api, &kms] {
        for garbage in
            [&b"\x16\x03\x01\x02\x00"[..], b"GET", b"POST / HTTP/1.1\r\nhost:", b"\0\0\0\0"]
        {
            use std::io::Write as _;
            let mut stream = std::net::TcpStream::connect(port.as_str()).expect("connects");
            let _ = stream.write_all(garbage);
            held.push(stream);
        }
        for _ in 0..1000 {
            held.push(std::net::TcpStream::connect(port.as_str()).expect("connects"));
        }
    }
    let begun = Instant::now();
    let (status, _) = stage.api("GET", "/v1/clusters", Value::Null);
    assert_eq!(status, 200);
    stage.owner.call("ListKeys", json!({}));
    assert!(begun.elapsed() < Duration::from_secs(2), "idle connections slow others down");
    drop(held);
    assert_eq!(stage.api("GET", "/v1/clusters", Value::Null).1, json!([]));
    stage.world.stop();
}
