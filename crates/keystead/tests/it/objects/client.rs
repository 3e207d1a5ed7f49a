//! A user of S3 who knows when each byte came: a connection a request, nothing is tried again. The
//! stock clients have tests of their own.

use keystead_aws::sigv4::{Payload, Signer};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PATIENCE: Duration = Duration::from_secs(20);
const RECEIVE: usize = 128 << 10;

/// An access key at an endpoint.
#[derive(Clone)]
pub(crate) struct S3 {
    pub(crate) to: SocketAddr,
    pub(crate) access_key_id: String,
    pub(crate) secret: String,
    pub(crate) region: &'static str,
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let mut fields = self.head.lines().filter_map(|l| l.split_once(':'));
        fields.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The text of an XML element.
    pub(crate) fn element(&self, name: &str) -> Option<String> {
        let text = self.text();
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(inside, _)| inside.to_owned())
    }

    /// S3's error code; empty when it is none.
    pub(crate) fn code(&self) -> String {
        self.element("Code").unwrap_or_default()
    }
}

impl S3 {
    /// Opens a connection and sends a request's head.
    fn begin(&self, method: &str, path: &str, query: &str, length: usize) -> io::Result<TcpStream> {
        #[allow(clippy::disallowed_methods)] // the client's clock
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let mut headers = vec![("host".to_owned(), self.to.to_string())];
        let signer = Signer {
            access_key_id: &self.access_key_id,
            secret: &self.secret,
            session_token: None,
            region: self.region,
            service: "s3",
        };
        let signed = signer.sign_s3(method, path, query, &headers, Payload::Unsigned, now as i64);
        headers.extend(signed);
        let mut stream = TcpStream::connect_timeout(&self.to, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // What this machine has received is received: a slow reader must not count it later.
        rustix::net::sockopt::set_socket_recv_buffer_size(&stream, RECEIVE)?;
        let mark = if query.is_empty() { "" } else { "?" };
        let mut head = format!("{method} {path}{mark}{query} HTTP/1.1\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {length}\r\nconnection: close\r\n\r\n"));
        stream.write_all(head.as_bytes())?;
        Ok(stream)
    }

    /// One request, whole.
    pub(crate) fn call(
        &self,
        method: &str,
        path: &str,
        query: &str,
        body: &[u8],
    ) -> io::Result<Reply> {
        let mut stream = self.begin(method, path, query, body.len())?;
        // Refused before it was read: the answer is there all the same.
        let sent = stream.write_all(body);
        match read_reply(&mut stream, method != "HEAD", &mut |_| {}) {
            Ok(reply) => Ok(reply),
            Err(error) => Err(sent.err().unwrap_or(error)),
        }
    }

    /// The same, and it must succeed.
    pub(crate) fn ok(&self, method: &str, path: &str, query: &str, body: &[u8]) -> Reply {
        let reply = self.call(method, path, query, body);
        let reply = reply.unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        assert!(reply.status < 300, "{method} {path}: {} {}", reply.status, reply.text());
        reply
    }

    /// Reads an object a little at a time; `seen` is told of each piece.
    pub(crate) fn read_slowly(
        &self,
        path: &str,
        pause: Duration,
        seen: &mut dyn FnMut(usize),
    ) -> io::Result<Reply> {
        let mut stream = self.begin("GET", path, "", 0)?;
        read_reply(&mut stream, true, &mut |n| {
            seen(n);
            std::thread::sleep(pause);
        })
    }

    /// Writes an object a piece at a time; answers what came of it.
    pub(crate) fn write_slowly(
        &self,
        path: &str,
        query: &str,
        body: &[u8],
        pause: Duration,
    ) -> io::Result<Reply> {
        let mut stream = self.begin("PUT", path, query, body.len())?;
        let mut sent = Ok(());
        for piece in body.chunks(64 << 10) {
            sent = stream.write_all(piece);
            if sent.is_err() {
                break;
            }
            std::thread::sleep(pause);
        }
        match read_reply(&mut stream, true, &mut |_| {}) {
            Ok(reply) => Ok(reply),
            Err(error) => Err(sent.err().unwrap_or(error)),
        }
    }

    /// A multipart upload, each part a piece at a time; `None` when it was not acknowledged.
    pub(crate) fn upload(&self, path: &str, parts: &[&[u8]], pause: Duration) -> Option<()> {
        let begun = self.call("POST", path, "uploads=", b"").ok().filter(|r| r.status == 200)?;
        let id = begun.element("UploadId")?;
        let mut list = String::new();
        for (i, part) in parts.iter().enumerate() {
            let query = format!("partNumber={}&uploadId={id}", i + 1);
            let done = self.write_slowly(path, &query, part, pause).ok();
            let etag = done.filter(|r| r.status == 200)?.header("etag")?;
            list.push_str(&format!(
                "<Part><PartNumber>{}</PartNumber><ETag>{etag}</ETag></Part>",
                i + 1
            ));
        }
        let whole = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        let query = format!("uploadId={id}");
        let done = self.call("POST", path, &query, whole.as_bytes()).ok()?;
        (done.status == 200 && done.code().is_empty()).then_some(())
    }
}

/// Reads an answer to its end; a body that is cut is an error.
fn read_reply(
    stream: &mut TcpStream,
    with_body: bool,
    seen: &mut dyn FnMut(usize),
) -> io::Result<Reply> {
    let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "the answer was cut");
    let (mut reply, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    let end = loop {
        let n = stream.read(&mut piece)?;
        if n == 0 {
            return Err(cut());
        }
        reply.extend_from_slice(&piece[..n]);
        if let Some(end) = reply.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
    };
    let head = String::from_utf8_lossy(&reply[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(cut)?;
    let mut body = reply.split_off(end + 4);
    let mut answer = Reply { status, head, body: Vec::new() };
    let length = answer.header("content-length").and_then(|l| l.parse::<usize>().ok());
    let length = if with_body { length } else { Some(0) };
    if !body.is_empty() {
        seen(body.len());
    }
    loop {
        if length.is_some_and(|length| body.len() >= length) {
            break;
        }
        let n = stream.read(&mut piece)?;
        if n == 0 {
            break;
        }
        body.extend_from_slice(&piece[..n]);
        seen(n);
    }
    if length.is_some_and(|length| body.len() < length) {
        return Err(cut());
    }
    answer.body = body;
    Ok(answer)
}
