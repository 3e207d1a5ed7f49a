//! Links against the verifier of the gateway, and what is asked of documents.

use super::*;
use keystead_aws::sigv4::{HttpRequest, S3Endpoint, SigningKey, parse_s3, verify_s3};
use keystead_types::{
    Clock, DocumentAsk, DocumentAsks, DocumentId, DocumentSaid, DocumentWish, Link, documents,
};

const KEY: &str = "KSIALINKS";

/// A World whose key of links is on record, and its secret.
fn world() -> (World, String) {
    let mut w = World::new();
    w.board.s3_endpoint("http://127.0.0.1:7490".to_owned());
    w.wanted.s3_keys.push(S3KeyAssignment {
        access_key_id: KEY.to_owned(),
        role: S3Role::Links,
        sealed: None,
        expires_ms: None,
    });
    w.assign();
    w.live();
    until("a secret", || w.board.has_s3_key(KEY));
    let made = w.board.made_s3_key(KEY).expect("made");
    assert_eq!(made.secret, "", "control is not told");
    w.wanted.s3_keys[0].sealed = Some(made.sealed);
    w.assign();
    let secret = secret(&w, KEY).expect("open here");
    w.becomes(BucketWord::Serving);
    (w, secret)
}

fn ask(w: &World, wish: DocumentWish) -> DocumentSaid {
    let id = uuid::Uuid::now_v7().to_string();
    let ask = DocumentAsk { ask: id.clone(), cluster: w.wanted.cluster.clone(), wish };
    let assignment = Assignment {
        generation: 1,
        region: "eu-central-1".parse().expect("a Region"),
        clusters: vec![w.wanted.clone()],
        preflights: vec![],
        documents: DocumentAsks { serial: 1, asks: vec![ask] },
    };
    w.buckets.assign(&assignment).expect("a thread");
    until("an answer", || w.board.has_document(&id));
    let said = w.board.document_said(&id).expect("it").said;
    w.board.keep_only(&Assignment { documents: DocumentAsks::default(), ..assignment });
    assert!(!w.board.has_document(&id), "an answer is not kept");
    said
}

fn put(w: &World, key: &str) {
    let store = w.store();
    w.runtime.block_on(async {
        let put = store.put(documents::BUCKET, key, PutOptions::default()).await;
        let mut handle = put.expect("begun");
        handle.write(Bytes::from_static(b"text")).await.expect("written");
        handle.commit(None).await.expect("stored");
    });
}

/// What the gateway's verifier says of a request by a link.
fn verdict(
    link: &Link,
    secret: &str,
    method: &str,
    url: &str,
    headers: &[(String, String)],
) -> bool {
    let (_, rest) = url.split_once("://").expect("a scheme");
    let (host, rest) = rest.split_once('/').expect("a path");
    let (path, query) = rest.split_once('?').expect("a query");
    let path = format!("/{path}");
    let mut all = vec![("host".to_owned(), host.to_owned())];
    all.extend_from_slice(headers);
    let request = HttpRequest { method, path: &path, query, headers: &all, body: &[] };
    let claim = parse_s3(&request).expect("well-formed");
    let p = &claim.presented;
    assert_eq!(p.access_key_id, KEY, "{link:?}");
    let key = SigningKey::derive(secret, &p.scope_date, &p.region, &p.service);
    let (hosts, regions) = (vec![host.to_owned()], vec!["eu-central-1".to_owned()]);
    let endpoint = S3Endpoint { hosts: &hosts, bucket_domains: &[], regions: &regions };
    let now = SystemClock.wall_ms();
    verify_s3(&claim, &request, &Arc::new(key), now, &endpoint).is_ok()
}

#[test]
fn a_link_is_good_for_one_thing_by_the_gateways_own_verifier() {
    let (w, secret) = world();
    let now = SystemClock.wall_ms();
    let document = DocumentId::new(now, None, [5; 16]);
    let headers = vec![
        ("content-type".to_owned(), "text/plain".to_owned()),
        ("content-disposition".to_owned(), documents::disposition("a b.txt")),
        ("x-amz-meta-keystead-name".to_owned(), documents::encode("ä.txt")),
    ];
    let wish = DocumentWish::Upload { document, headers: headers.clone(), expires_s: 60 };
    let DocumentSaid::Upload(link) = ask(&w, wish) else { panic!("no link") };
    assert!((now + 59_000..now + 62_000).contains(&link.expires_ms));
    assert!(!link.url.contains("txt"), "a name in a URL");
    assert!(verdict(&link, &secret, "PUT", &link.url, &headers));
    let mut renamed = headers.clone();
    renamed[2].1 = documents::encode("b.txt");
    let mut more = headers.clone();
    more.push(("x-amz-meta-x".to_owned(), "y".to_owned()));
    let other = link.url.replace("doc-", "doc-0");
    for (method, url, headers) in [
        ("GET", &link.url, &headers),
        ("PUT", &other, &headers),
        ("PUT", &link.url.replace("Expires=60", "Expires=61"), &headers),
        ("PUT", &link.url, &renamed),
        ("PUT", &link.url, &more),
        ("PUT", &link.url, &headers[..2].to_vec()),
    ] {
        assert!(!verdict(&link, &secret, method, url, headers), "{method} {url} {headers:?}");
    }
    w.buckets.end();
}

#[test]
fn documents_are_shown_listed_removed_and_end() {
    let (w, secret) = world();
    let now = SystemClock.wall_ms();
    let lasting = DocumentId::new(now, None, [1; 16]);
    let later = DocumentId::new(now, Some(now + 3_600_000), [2; 16]);
    let over = DocumentId::new(now, Some(now - 1000), [3; 16]);
    let show =
        |document: &DocumentId| DocumentWish::Show { document: document.clone(), expires_s: 9 };
    assert_eq!(ask(&w, show(&lasting)), DocumentSaid::NoDocument);
    for key in [&lasting.key(), &later.key(), "zz/contract.pdf", "expiring/contract.pdf"] {
        put(&w, key);
    }
    let DocumentSaid::Shown { entry, download } = ask(&w, show(&later)) else { panic!("absent") };
    assert_eq!((entry.size, &entry.document), (4, &later));
    assert!(verdict(&download, &secret, "GET", &download.url, &[]));
    assert!(verdict(&entry.head, &secret, "HEAD", &entry.head.url, &[]));
    let page = |after| DocumentWish::Page { after, expires_s: 9 };
    let listed = |said| match said {
        DocumentSaid::Page { entries, next: None } => {
            entries.into_iter().map(|e| e.document).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(listed(ask(&w, page(None))), [lasting.clone(), later.clone()]);
    assert_eq!(listed(ask(&w, page(Some(lasting.clone())))), std::slice::from_ref(&later));
    assert!(listed(ask(&w, page(Some(later.clone())))).is_empty());

    // What is over is none from its moment on, also while its object is there.
    put(&w, &over.key());
    assert_eq!(ask(&w, show(&over)), DocumentSaid::NoDocument);
    assert_eq!(listed(ask(&w, page(None))), [lasting.clone(), later.clone()]);
    w.shelf().with(|s| s.documents.look_now());
    let keys = || {
        let query = keystead_objects::ListQuery { max_keys: 9, ..Default::default() };
        let found = w.runtime.block_on(w.store().list(documents::BUCKET, query));
        found.expect("a list").entries.into_iter().map(|e| e.key).collect::<Vec<_>>()
    };
    until("removed", || !keys().contains(&over.key()));
    assert_eq!(keys().len(), 4, "nothing else goes");

    let remove = |document: &DocumentId| DocumentWish::Remove { document: document.clone() };
    assert_eq!(ask(&w, remove(&later)), DocumentSaid::Removed);
    assert_eq!(ask(&w, remove(&later)), DocumentSaid::NoDocument);
    // More than a page.
    for n in 0..51 {
        put(&w, &DocumentId::new(now + n, None, [9; 16]).key());
    }
    let DocumentSaid::Page { entries, next } = ask(&w, page(None)) else { panic!("no page") };
    assert_eq!((entries.len(), next.as_ref()), (50, entries.last().map(|e| &e.document)));
    assert_eq!(listed(ask(&w, page(next))).len(), 2);

    // Refused: nothing is signed and nothing removed, not even what ends meanwhile.
    w.refused(Cause::KeyDisabled);
    assert_eq!(ask(&w, show(&lasting)), DocumentSaid::Refused(Cause::KeyDisabled));
    assert_eq!(ask(&w, remove(&lasting)), DocumentSaid::Refused(Cause::KeyDisabled));
    w.live();
    // The refusal may still be acted on when the lease lives again.
    until("shown again", || matches!(ask(&w, show(&lasting)), DocumentSaid::Shown { .. }));
    w.buckets.end();
}

#[test]
fn what_users_put_among_documents_costs_a_bounded_look() {
    let (w, _) = world();
    let now = SystemClock.wall_ms();
    let page = |after| DocumentWish::Page { after, expires_s: 9 };
    let first = DocumentId::new(now, None, [1; 16]);
    let over = DocumentId::new(now, Some(now - 1000), [2; 16]);
    put(&w, &first.key());
    put(&w, &over.key());
    // Behind the first document, and before the one that is over: as many as a look reads at most,
    // four times twenty keys for a page, four times four for what has ended.
    for n in 0..80 {
        put(&w, &format!("doc-x{n:03}"));
    }
    for n in 0..20 {
        put(&w, &format!("expiring/0000000000/{n:03}"));
    }
    let DocumentSaid::Page { entries, next } = ask(&w, page(None)) else { panic!("no page") };
    assert_eq!(entries.iter().map(|e| &e.document).collect::<Vec<_>>(), [&first]);
    assert_eq!(next.as_ref(), Some(&first), "there may be more behind what is no document");
    let DocumentSaid::Failed(why) = ask(&w, page(next)) else { panic!("read on and on") };
    assert!(why.contains("80 keys in a row"), "{why}");

    // The next look goes on where the last broke off.
    let there = || {
        let query =
            keystead_objects::ListQuery { prefix: over.key(), max_keys: 1, ..Default::default() };
        let found = w.runtime.block_on(w.store().list(documents::BUCKET, query));
        !found.expect("a list").entries.is_empty()
    };
    assert!(there());
    until("removed", || {
        w.shelf().with(|s| s.documents.look_now());
        !there()
    });
    w.buckets.end();
}
