//! Records, chains, and every way in which a trail can fail to fit.

use super::*;
use crate::policy::Caller;
use crate::watch::Head;
use proptest::prelude::*;

const NOW: i64 = 1_795_507_262_000;

fn key() -> TrailKey {
    TrailKey::from_seed(&[7; 32]).expect("a seed")
}

fn record(n: u64) -> Map<String, Value> {
    object(json!({"eventName": "Decrypt", "n": n, "text": "\"chain\":\"x\"}, é"}))
}

/// Two segments, the second one open, and the heads after each line.
fn trail(records: u64) -> (Vec<(String, String)>, Vec<Head>) {
    let mut state = ChainState::START;
    let mut segments = Vec::new();
    let mut heads = Vec::new();
    for part in 0..2 {
        let name = segment_name(state.sequence + 1);
        let mut text = state.open_segment(&name, NOW) + "\n";
        for n in 0..records {
            text.push_str(&state.append(&record(n)));
            text.push('\n');
            heads.push(state.head(&key()));
        }
        if part == 0 {
            text.push_str(&state.close_segment(&name, NOW, &key()));
            text.push('\n');
        }
        segments.push((name, text));
    }
    (segments, heads)
}

fn verify(segments: &[(String, String)], heads: &[Head]) -> VerifyReport {
    let parts = segments.iter().map(|(n, t)| (n.as_str(), t.as_str()));
    verify_segments(parts, Some(key().public_key()), heads)
}

fn misfit(report: &VerifyReport) -> (usize, Option<u64>, Misfit) {
    match &report.finding {
        Finding::Misfit { line, sequence, what, .. } => (*line, *sequence, what.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_trail_is_consistent_and_heads_anchor_it() {
    let (segments, heads) = trail(3);
    let report = verify(&segments, &[]);
    assert_eq!((report.finding.clone(), report.lines), (Finding::Consistent, 9));
    assert_eq!((report.first_sequence, report.end.sequence), (Some(1), 9));
    assert_eq!(report.closed_segments, 1);
    assert_eq!(report.summary(), "consistent, not anchored: 9 records (1 to 9)");
    let report = verify(&segments, &heads);
    assert_eq!(report.finding, Finding::Anchored { heads: 6 });
    let last = segments[1].1.lines().last().expect("a line");
    assert_eq!(ChainState::of_line(last), Some(report.end));
    let empty = verify_segments([], None, &[]);
    assert_eq!((empty.finding.clone(), empty.lines), (Finding::Consistent, 0));
}

#[test]
fn older_segments_may_be_gone_but_their_heads_are_counted() {
    let (segments, heads) = trail(3);
    let report = verify(&segments[1..], &heads);
    assert_eq!(report.finding, Finding::Anchored { heads: 3 });
    assert_eq!((report.first_sequence, report.heads_too_old), (Some(6), 3));
}

#[test]
fn the_first_line_that_does_not_fit_is_named() {
    let (good, _) = trail(3);
    let changed = |part: usize, change: &dyn Fn(&str) -> String| {
        let mut segments = good.clone();
        segments[part].1 = change(&segments[part].1);
        assert_ne!(segments, good);
        misfit(&verify(&segments, &[]))
    };
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let whole = |lines: Vec<String>| lines.join("\n") + "\n";
    assert_eq!(changed(0, &|t| t.replacen("\"n\":1", "\"n\":9", 1)), (3, Some(3), Misfit::Chain));
    let without = |i: usize| {
        move |t: &str| {
            let mut l = lines(t);
            l.remove(i);
            whole(l)
        }
    };
    assert_eq!(changed(0, &without(2)), (3, Some(4), Misfit::Sequence { expected: 3, found: 4 }));
    assert_eq!(changed(0, &without(0)), (1, Some(2), Misfit::Opening));
    assert_eq!(changed(0, &without(4)), (0, None, Misfit::Closing));
    let swapped = changed(0, &|t| {
        let mut l = lines(t);
        l.swap(1, 2);
        whole(l)
    });
    assert_eq!(swapped, (2, Some(3), Misfit::Sequence { expected: 2, found: 3 }));
    assert_eq!(changed(0, &|t| format!("{t}{{}}\n")), (6, None, Misfit::NotARecord));
    let copied = changed(0, &|t| format!("{t}{}\n", lines(t)[1]));
    assert_eq!(copied, (6, Some(2), Misfit::Closing));
    assert_eq!(changed(1, &|t| t.replacen('{', "{ ", 1)).2, Misfit::Chain);
    assert_eq!(
        changed(1, &|t| t.replace("\"previousSequence\":5", "\"previousSequence\":4")).2,
        Misfit::Chain
    );
    let upper = changed(0, &|t| {
        let at = t.find("\"chain\":\"").expect("a chain") + 9;
        let chain = t[at..at + 64].to_uppercase();
        t.replacen(&t[at..at + 64], &chain, 1)
    });
    assert_eq!(upper.2, Misfit::NotARecord);
    let mut renamed = good.clone();
    renamed[1].0 = segment_name(7);
    assert_eq!(misfit(&verify(&renamed, &[])).2, Misfit::Opening);
    let mut open = good.clone();
    open.swap(0, 1);
    assert!(!verify(&open, &[]).holds());
}

#[test]
fn closing_lines_need_the_trails_own_key() {
    let (segments, _) = trail(2);
    let parts = || segments.iter().map(|(n, t)| (n.as_str(), t.as_str()));
    let other = TrailKey::from_seed(&[8; 32]).expect("a seed");
    let report = verify_segments(parts(), Some(other.public_key()), &[]);
    assert_eq!(misfit(&report).2, Misfit::Signature);
    let report = verify_segments(parts(), None, &[]);
    assert!(report.holds() && !report.key_pinned);
    let mut forged = segments.clone();
    let end = forged[0].1.rfind("\"signature\":\"").expect("a signature") + 13;
    let old = forged[0].1.as_bytes()[end];
    let new = if old == b'A' { "B" } else { "A" };
    forged[0].1.replace_range(end..=end, new);
    assert_eq!(misfit(&verify(&forged, &[])).2, Misfit::Signature);
}

#[test]
fn a_rewritten_or_cut_trail_betrays_itself_by_a_kept_head() {
    let (_, heads) = trail(3);
    // The same shape written anew by somebody who holds the key.
    let mut state = ChainState::START;
    let name = segment_name(1);
    let mut text = state.open_segment(&name, NOW) + "\n";
    for n in [0, 7, 2] {
        text.push_str(&state.append(&record(n)));
        text.push('\n');
    }
    let report = verify(&[(name, text)], &heads[..3]);
    assert_eq!(misfit(&report), (3, Some(3), Misfit::Head));
    let (mut segments, heads) = trail(3);
    let cut = segments[1].1.trim_end().rfind('\n').expect("two lines") + 1;
    segments[1].1.truncate(cut);
    assert!(verify(&segments, &[]).holds());
    assert_eq!(misfit(&verify(&segments, &heads)).2, Misfit::Cut { last: 8, head: 9 });
    let (segments, mut heads) = trail(3);
    heads[0].signature = heads[1].signature.clone();
    assert_eq!(misfit(&verify(&segments, &heads)).2, Misfit::HeadSignature(2));
}

#[test]
fn an_unfinished_last_line_is_left_out_and_a_cut_is_recorded() {
    let (mut segments, _) = trail(2);
    segments[1].1.push_str("{\"eventName\":\"De");
    let report = verify(&segments, &[]);
    assert!(report.holds());
    assert_eq!(report.unfinished_bytes, 16);
    let mut state = report.end;
    let cut = segments[1].1.rfind('\n').expect("lines") + 1;
    let torn = segments[1].1.split_off(cut);
    let line = state.record_cut(torn.as_bytes(), NOW);
    segments[1].1.push_str(&(line + "\n"));
    let report = verify(&segments, &[]);
    assert!(report.holds() && report.unfinished_bytes == 0);
}

#[test]
fn heads_are_read_from_json_lines() {
    let (_, heads) = trail(1);
    let plain = serde_json::to_string(&heads[0]).expect("a head");
    let text = format!("{plain}\n{{\"AtMs\":5,\"Head\":{plain}}}\n\nnonsense\n");
    let (read, strange) = parse_heads(&text);
    assert_eq!((read, strange), (vec![heads[0].clone(), heads[0].clone()], 1));
}

fn call(error: Option<crate::AwsError>) -> CallRecord {
    let arn = "arn:aws:iam::444455556666:role/team/keystead-cl-1";
    CallRecord {
        time_ms: NOW,
        event_source: "kms.amazonaws.com",
        event_name: "Decrypt".into(),
        region: "eu-central-1".into(),
        source_ip: "127.0.0.1".into(),
        user_agent: "x".repeat(2000),
        host: "127.0.0.1:7480".into(),
        identity: Identity::Known {
            caller: Caller::role_session("444455556666", arn, "AROAX", "node"),
            access_key_id: "ASIAX".into(),
            session_created_ms: Some(NOW),
        },
        request_parameters: Value::Null,
        response_elements: Value::Null,
        additional: None,
        error,
        request_id: "r".into(),
        event_id: "e".into(),
        shared_event_id: Some("s".into()),
        read_only: true,
        resources: vec![Resource::key("111122223333", "arn:key")],
        recipient_account: "444455556666".into(),
        dry_run: false,
        invoked_by: None,
        service_details: None,
    }
}

#[test]
fn records_have_cloudtrails_shape() {
    let denied = call(Some(crate::error::kms_access_denied("é".repeat(1000)))).to_json();
    assert_eq!(denied["errorCode"], "AccessDenied");
    assert!(denied["errorMessage"].as_str().expect("text").len() <= 1024);
    assert_eq!(denied["userAgent"].as_str().map(str::len), Some(1024));
    let who = &denied["userIdentity"];
    assert_eq!(who["arn"], "arn:aws:sts::444455556666:assumed-role/keystead-cl-1/node");
    assert_eq!(who["principalId"], "AROAX:node");
    assert_eq!(who["sessionContext"]["sessionIssuer"]["userName"], "keystead-cl-1");
    assert_eq!(denied["requestParameters"], Value::Null);
    let silent = call(Some(crate::error::invalid_ciphertext())).to_json();
    assert!(silent.contains_key("errorCode") && !silent.contains_key("errorMessage"));
    let copy = call(None).for_account("111122223333", "e-2").to_json();
    assert_eq!(
        copy["userIdentity"],
        json!({"type": "AWSAccount", "principalId": "AROAX:node", "accountId": "444455556666"})
    );
    assert_eq!(
        (copy["eventID"].as_str(), copy["sharedEventID"].as_str()),
        (Some("e-2"), Some("s"))
    );
    assert_eq!(copy["recipientAccountId"], "111122223333");
    assert!(!copy.contains_key("errorCode"));
    let dry = CallRecord { dry_run: true, ..call(None) }.to_json();
    assert_eq!(dry["additionalEventData"]["dryRun"], true);
    let own = CallRecord { identity: Identity::Service { account: "1".into() }, ..call(None) };
    assert_eq!(own.to_json()["eventType"], "AwsServiceEvent");
    let shown =
        CallRecord { event_name: "SynchronizeMultiRegionKey".into(), ..own.clone() }.to_json();
    assert_eq!(shown["eventType"], "AwsApiCall");
    assert_eq!(shown["userIdentity"]["invokedBy"], "AWS Internal");
    let elsewhere = CallRecord { invoked_by: Some("kms.amazonaws.com"), ..call(None) }.to_json();
    assert_eq!(elsewhere["userIdentity"]["invokedBy"], "kms.amazonaws.com");
    assert_eq!(elsewhere["userIdentity"]["principalId"], "AROAX:node");
    let details = json!({"rotationType": "ON_DEMAND"});
    let rotated = CallRecord { service_details: Some(details.clone()), ..own };
    assert_eq!(rotated.to_json()["serviceEventDetails"], details);
}

#[test]
fn parameters_never_show_secrets() {
    use crate::ops::{KmsRequest, Operation};
    let shown = |op, body: &str| {
        kms_parameters(&KmsRequest::decode(op, body.as_bytes()).expect("a request"))
    };
    let body = r#"{"KeyId":"k","Plaintext":"c2VjcmV0","CiphertextBlob":"c2VjcmV0","GrantTokens":["c2VjcmV0"],"EncryptionContext":{"a":"b"},"DryRun":true}"#;
    for op in [Operation::Encrypt, Operation::Decrypt] {
        assert_eq!(
            shown(op, body),
            json!({"keyId": "k", "encryptionContext": {"a": "b"}, "encryptionAlgorithm": "SYMMETRIC_DEFAULT", "dryRun": true})
        );
    }
    assert_eq!(
        shown(Operation::GenerateDataKey, r#"{"KeyId":"k","NumberOfBytes":64}"#),
        json!({"keyId": "k", "numberOfBytes": 64})
    );
    assert_eq!(shown(Operation::RetireGrant, r#"{"GrantToken":"t"}"#), Value::Null);
}

#[test]
fn lookups_filter_and_show_records() {
    use crate::cloudtrail::{LookupEvents, event};
    let mut state = ChainState::START;
    let line = state.append(&call(None).to_json());
    let record = object(serde_json::from_str(&line).expect("JSON"));
    let lookup =
        |body: Value| LookupEvents::decode(body.to_string().as_bytes()).map(|l| l.fits(&record));
    let by = |k: &str, v: &str| {
        lookup(json!({"LookupAttributes": [{"AttributeKey": k, "AttributeValue": v}]}))
    };
    for (k, v) in [
        ("EventName", "Decrypt"),
        ("ReadOnly", "true"),
        ("Username", "node"),
        ("EventId", "e"),
        ("ResourceName", "arn:key"),
        ("ResourceType", "AWS::KMS::Key"),
        ("AccessKeyId", "ASIAX"),
        ("EventSource", "kms.amazonaws.com"),
    ] {
        assert_eq!(by(k, v), Ok(true), "{k}");
        assert_eq!(by(k, "other"), Ok(false), "{k}");
    }
    assert_eq!(by("Nothing", "x").expect_err("refused").code, "ValidationException");
    let seconds = NOW as f64 / 1000.0;
    assert_eq!(lookup(json!({"StartTime": seconds, "EndTime": seconds})), Ok(true));
    assert_eq!(lookup(json!({"StartTime": seconds + 1.0})), Ok(false));
    assert_eq!(lookup(json!({"EndTime": seconds - 1.0})), Ok(false));
    let code = |body| lookup(body).expect_err("refused").code;
    assert_eq!(code(json!({"StartTime": 5, "EndTime": 4})), "InvalidTimeRangeException");
    assert_eq!(code(json!({"MaxResults": 51})), "InvalidMaxResultsException");
    assert_eq!(code(json!({"EventCategory": "insight"})), "InvalidEventCategoryException");
    let shown = event(&record);
    assert_eq!(
        (shown["ReadOnly"].as_str(), shown["EventTime"].as_i64()),
        (Some("true"), Some(NOW / 1000))
    );
    let inner: Value =
        serde_json::from_str(shown["CloudTrailEvent"].as_str().expect("text")).expect("JSON");
    assert!(inner.get("chain").is_none() && inner["eventName"] == "Decrypt");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_changed_byte_is_noticed(at in 0.0..1.0_f64, to in 0x20_u8..0x7f) {
        let (segments, _) = trail(2);
        let mut text = segments[0].1.clone().into_bytes();
        let i = (text.len() as f64 * at) as usize;
        prop_assume!(text[i] != to && text[i].is_ascii() && text[i] != b'\n');
        text[i] = to;
        let changed = String::from_utf8(text).expect("still UTF-8");
        let parts = [(segments[0].0.clone(), changed), segments[1].clone()];
        prop_assert!(!verify(&parts, &[]).holds());
    }

    #[test]
    fn verification_never_panics(text in "\\PC{0,80}\n?\\PC{0,20}") {
        let _ = verify(&[("a".to_owned(), text.clone()), ("b".to_owned(), text)], &[]);
    }
}
