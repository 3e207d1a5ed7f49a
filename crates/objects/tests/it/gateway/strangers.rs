//! What no stock client sends: chunks that were changed on the wire, half requests, garbage, a
//! thousand connections that say nothing. The client here is a socket and a signer.

use super::rig::{REGION, WRITER, World};
use keystead_aws::sigv4::{Payload, Signer};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A client of one access key; each call has a connection of its own.
pub(crate) struct Client {
    at: SocketAddr,
    key: (&'static str, &'static str),
    region: &'static str,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    }
}

#[allow(clippy::disallowed_methods)]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("a time")
}

impl Client {
    pub(crate) fn new(at: SocketAddr, key: (&'static str, &'static str)) -> Self {
        Self { at, key, region: REGION }
    }

    pub(crate) fn in_region(mut self, region: &'static str) -> Self {
        self.region = region;
        self
    }

    fn signer(&self) -> Signer<'static> {
        Signer {
            access_key_id: self.key.0,
            secret: self.key.1,
            session_token: None,
            region: self.region,
            service: "s3",
        }
    }

    /// A signed head with more headers, and its Authorization.
    fn head(
        &self,
        method: &str,
        target: &str,
        payload: Payload,
        more: &[(&str, String)],
    ) -> (String, String, i64) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = vec![("host".to_owned(), self.at.to_string())];
        headers.extend(more.iter().map(|(n, v)| ((*n).to_owned(), v.clone())));
        let now = now_ms();
        let added = self.signer().sign_s3(method, path, query, &headers, payload, now);
        let authorization =
            added.iter().find(|(n, _)| n == "authorization").map(|(_, v)| v.clone());
        headers.extend(added);
        let mut head = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        (head, authorization.expect("signed"), now)
    }

    /// Sends the head of a request whose body of `length` bytes the caller sends.
    pub(crate) async fn begin(&self, method: &str, target: &str, length: usize) -> TcpStream {
        let more = [("content-length", length.to_string())];
        let (head, ..) = self.head(method, target, Payload::Unsigned, &more);
        let mut stream = TcpStream::connect(self.at).await.expect("a connection");
        stream.write_all(head.as_bytes()).await.expect("sent");
        stream
    }

    /// Sends a whole request.
    pub(crate) async fn send(&self, method: &str, target: &str, body: &[u8]) -> TcpStream {
        let mut stream = self.begin(method, target, body.len()).await;
        // A refusal may come before all is sent.
        let _ = stream.write_all(body).await;
        stream
    }

    pub(crate) async fn call(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        answer_of(self.send(method, target, body).await).await
    }

    /// Sends bytes as they are.
    async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.at).await.expect("a connection");
        let _ = stream.write_all(bytes).await;
        answer_of(stream).await
    }

    /// A chunked upload, signed throughout; `spoil` changes the body on the wire.
    pub(crate) async fn chunked(
        &self,
        target: &str,
        data: &[u8],
        trailer: Option<(&str, &str)>,
        spoil: impl FnOnce(&mut Vec<u8>),
    ) -> Answer {
        let payload =
            if trailer.is_some() { Payload::SignedChunksTrailer } else { Payload::SignedChunks };
        // The body's length does not depend on the signatures: made once to measure, once to send.
        let body = |authorization: &str, now: i64| {
            let mut chunks = self.signer().chunks(authorization, now).expect("a seed");
            let mut body = Vec::new();
            for chunk in data.chunks(64 << 10) {
                body.extend(chunks.head(chunk).into_bytes());
                body.extend(chunk);
                body.extend(b"\r\n");
            }
            body.extend(chunks.head(b"").into_bytes());
            match trailer {
                Some(trailer) => body.extend(chunks.trailers(&[trailer]).into_bytes()),
                None => body.extend(b"\r\n"),
            }
            body
        };
        let seed = format!("Signature={}", "0".repeat(64));
        let mut more = vec![
            ("content-encoding", "aws-chunked".to_owned()),
            ("x-amz-decoded-content-length", data.len().to_string()),
            ("content-length", body(&seed, now_ms()).len().to_string()),
        ];
        if let Some((name, _)) = trailer {
            more.push(("x-amz-trailer", name.to_owned()));
        }
        let (head, authorization, now) = self.head("PUT", target, payload, &more);
        let mut whole = body(&authorization, now);
        spoil(&mut whole);
        let mut sent = head.into_bytes();
        sent.extend(whole);
        self.raw(&sent).await
    }
}

/// The head of an answer, with its empty line.
pub(crate) async fn head_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

async fn answer_of(mut stream: TcpStream) -> Answer {
    let all = async {
        let head = head_of(&mut stream).await;
        let mut body = Vec::new();
        let _ = stream.read_to_end(&mut body).await;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Answer { status, head, body }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("an answer in time")
}

async fn open() -> (tempfile::TempDir, World, Client) {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::open(folder.path(), 0).await;
    let client = Client::new(world.at, WRITER);
    assert_eq!(client.call("PUT", "/bkt", b"").await.status, 200);
    (folder, world, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_chunks_are_taken_and_a_changed_byte_stores_nothing() {
    let (_folder, _world, client) = open().await;
    let data: Vec<u8> = (0..200_000u32).map(|n| n.to_le_bytes()[0]).collect();
    // CRC32C of the data, from the server's own answer.
    let put = client.chunked("/bkt/plain", &data, None, |_| {}).await;
    assert_eq!(put.status, 200, "{}", put.text());
    let got = client.call("GET", "/bkt/plain", b"").await;
    assert_eq!(got.body, data);
    assert_eq!(got.header("content-encoding"), None);
    let crc = put.header("x-amz-checksum-crc64nvme").expect("a checksum");

    let trailer = ("x-amz-checksum-crc64nvme", crc.as_str());
    let put = client.chunked("/bkt/trailer", &data, Some(trailer), |_| {}).await;
    assert_eq!((put.status, put.header("x-amz-checksum-crc64nvme")), (200, Some(crc.clone())));
    assert_eq!(client.call("GET", "/bkt/trailer", b"").await.body, data);

    for (what, at, code) in [
        ("data of the first chunk", 1000, "SignatureDoesNotMatch"),
        ("data of a later chunk", 150_000, "SignatureDoesNotMatch"),
        ("a chunk's signature", 30, "SignatureDoesNotMatch"),
    ] {
        let put = client.chunked("/bkt/spoilt", &data, None, |body| body[at] ^= 1).await;
        assert!(put.status == 403 || put.status == 400, "{what}: {}", put.status);
        assert!(put.text().contains(code) || put.status == 400, "{what}: {}", put.text());
    }
    let put = client
        .chunked("/bkt/spoilt", &data, Some(trailer), |body| {
            let at = body.len() - 120;
            body[at] ^= 1;
        })
        .await;
    assert!([400, 403].contains(&put.status), "{}", put.text());
    let wrong = ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=");
    let put = client.chunked("/bkt/spoilt", &data, Some(wrong), |_| {}).await;
    assert!(put.text().contains("<Code>BadDigest</Code>"), "{}", put.text());
    let unknown = ("x-amz-checksum-xxhash64", "AAAAAAAAAAA=");
    let put = client.chunked("/bkt/spoilt", &data, Some(unknown), |_| {}).await;
    assert!(put.text().contains("<Code>InvalidRequest</Code>"), "{}", put.text());
    assert_eq!(client.call("GET", "/bkt/spoilt", b"").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_comes_before_the_body_is_asked_for() {
    let (_folder, world, client) = open().await;
    let more = [("content-length", "1000000".to_owned()), ("expect", "100-continue".to_owned())];
    for (key, first) in [(("KSNOBODY", "x"), "HTTP/1.1 403 "), (WRITER, "HTTP/1.1 100 ")] {
        let (head, ..) = Client::new(world.at, key).head("PUT", "/bkt/k", Payload::Unsigned, &more);
        let mut stream = TcpStream::connect(client.at).await.expect("a connection");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let head = head_of(&mut stream).await;
        assert!(head.starts_with(first), "{head}");
        // botocore breaks on a connection that goes on after such a refusal.
        assert_eq!(head.contains("connection: close"), key != WRITER, "{head}");
    }
    let more = [("content-length", "0".to_owned()), ("expect", "100-continue".to_owned())];
    let (head, ..) = client.head("PUT", "/bkt/empty", Payload::Unsigned, &more);
    let answer = client.raw(head.as_bytes()).await;
    assert_eq!((answer.status, answer.header("connection").as_deref()), (200, Some("close")));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_half_requests_harm_nobody() {
    let (_folder, world, client) = open().await;
    let (signed, ..) = client.head("GET", "/bkt", Payload::Unsigned, &[]);
    let many = (0..200).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "y".repeat(200_000));
    let mut cases: Vec<Vec<u8>> = vec![
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"\0\0\0\0\r\n\r\n".to_vec(),
        b"GET /%zz/%ff HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".to_vec(),
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\n".to_vec(),
        format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n").into_bytes(),
        long.into_bytes(),
        signed.replace("host: 127.0.0.1", "host: evil.example").into_bytes(),
        signed.replace("GET /bkt ", "GET /c ").into_bytes(),
        signed.replace("\r\n\r\n", "\r\nx-amz-meta-a: b\r\n\r\n").into_bytes(),
        signed.replace("\r\n\r\n", "\r\ncontent-type: \u{ff}\r\n\r\n").into_bytes(),
    ];
    cases.push(signed.replace("Signature=", "Signature=0").into_bytes());
    for bytes in &cases {
        let answer = client.raw(bytes).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        // Nothing at all, or a refusal; only the unsigned content-type is nobody's business.
        let fine = [0, 400, 403, 404, 405, 431, 505].contains(&answer.status)
            || bytes.windows(12).any(|w| w == b"content-type");
        assert!(fine, "{shown}: {} {}", answer.status, answer.text());
    }
    let mut half = Vec::new();
    for n in [0, 1, 20, signed.len() - 3] {
        let mut stream = TcpStream::connect(world.at).await.expect("a connection");
        stream.write_all(&signed.as_bytes()[..n]).await.expect("sent");
        half.push(stream);
    }
    let mut body = client.begin("PUT", "/bkt/half", 1000).await;
    body.write_all(&[1; 500]).await.expect("sent");
    body.shutdown().await.expect("shut");
    let answer = answer_of(body).await;
    assert!(answer.status == 0 || answer.text().contains("IncompleteBody"), "{}", answer.text());
    assert_eq!(client.call("GET", "/bkt/half", b"").await.status, 404);
    assert_eq!(client.call("GET", "/bkt", b"").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_connections_keep_nobody_waiting() {
    let (_folder, world, client) = open().await;
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(TcpStream::connect(world.at).await.expect("a connection"));
    }
    assert_eq!(client.call("PUT", "/bkt/k", b"served").await.status, 200);
    assert_eq!(client.call("GET", "/bkt/k", b"").await.body, b"served");
    drop(idle);
    world.gateway.stop();
    tokio::time::timeout(Duration::from_secs(20), world.served)
        .await
        .expect("in time")
        .expect("ends");
}
