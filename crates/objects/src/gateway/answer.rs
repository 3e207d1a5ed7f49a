//! What every answer carries: two request ids and Server; and in the body of an error the resource
//! and the ids again, so that a line of a client's log is enough to find the request in ours.

use super::Answer;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, SERVER};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use keystead_aws::AwsError;
use keystead_aws::error::escape;
use s3s::{Body, S3Error, S3ErrorCode};
use std::fmt::Write as _;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
const HOST_ID: HeaderName = HeaderName::from_static("x-amz-id-2");
/// Longer ones are not ours.
const MOST_ERROR_BODY: usize = 64 * 1024;

/// The two ids of a request, as S3 writes them.
#[derive(Debug, Clone)]
pub(super) struct Ids {
    pub(super) request: String,
    host: String,
}

impl Ids {
    pub(super) fn new() -> Self {
        // Without randomness the ids are dull; the request fails where it matters.
        let bytes: [u8; 32] = keystead_envelope::random::array().unwrap_or_default();
        let (request, host) = bytes.split_at(8);
        Self { request: hex::encode_upper(request), host: hex::encode(host) }
    }
}

/// An error of ours in S3's words.
pub(super) fn error(code: &'static str, status: StatusCode, text: impl Into<String>) -> S3Error {
    let code = S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::InternalError);
    let mut error = S3Error::with_message(code, text.into());
    error.set_status_code(status);
    error
}

/// An error of the signature's room.
pub(super) fn from_aws(fault: &AwsError) -> S3Error {
    let code = S3ErrorCode::from_bytes(fault.code.as_bytes());
    let mut error = S3Error::new(code.unwrap_or(S3ErrorCode::InternalError));
    error.set_status_code(StatusCode::from_u16(fault.status).unwrap_or(StatusCode::BAD_REQUEST));
    if let Some(text) = fault.message.clone() {
        error.set_message(text);
    }
    error
}

/// The answer of an error. `detail` is one element more in its body.
pub(super) fn of_error(error: S3Error, detail: Option<(&str, &str)>) -> Answer {
    let mut answer = error.to_http_response().unwrap_or_else(|_| internal());
    if let Some((name, value)) = detail {
        answer.extensions_mut().insert(Detail(format!("<{name}>{}</{name}>", escape(value))));
    }
    answer
}

/// What no one foresaw; the cause stands in our log alone.
pub(super) fn internal() -> Answer {
    let mut answer = Response::new(Body::from(Bytes::from_static(
        b"<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>InternalError</Code><Message>We encountered an internal error. Please try again.</Message></Error>",
    )));
    *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

#[derive(Debug, Clone)]
struct Detail(String);

/// Adds what every answer carries.
pub(super) async fn complete(mut answer: Answer, ids: &Ids, path: &str) -> Answer {
    if answer.status() == StatusCode::NOT_MODIFIED {
        answer.headers_mut().remove(CONTENT_TYPE);
        answer.headers_mut().remove(CONTENT_LENGTH);
        *answer.body_mut() = Body::empty();
    } else if answer.status().is_client_error() || answer.status().is_server_error() {
        answer = with_resource(answer, ids, path).await;
    }
    for (name, value) in [(REQUEST_ID, ids.request.as_str()), (HOST_ID, ids.host.as_str())] {
        if let Ok(value) = HeaderValue::from_str(value) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer.headers_mut().insert(SERVER, HeaderValue::from_static("Keystead"));
    answer
}

/// Puts the resource and the ids into the body of an error.
async fn with_resource(answer: Answer, ids: &Ids, path: &str) -> Answer {
    const END: &str = "</Error>";
    let (mut head, body) = answer.into_parts();
    let Ok(body) = Limited::new(body, MOST_ERROR_BODY).collect().await else { return internal() };
    let body = body.to_bytes();
    let text = std::str::from_utf8(&body).ok().and_then(|text| text.strip_suffix(END));
    let Some(text) = text else { return Response::from_parts(head, Body::from(body)) };
    let mut whole = text.to_owned();
    if let Some(Detail(detail)) = head.extensions.remove() {
        whole.push_str(&detail);
    }
    let _ = write!(
        whole,
        "<Resource>{}</Resource><RequestId>{}</RequestId><HostId>{}</HostId>{END}",
        escape(path),
        ids.request,
        ids.host
    );
    head.headers.remove(CONTENT_LENGTH);
    Response::from_parts(head, Body::from(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_names_resource_and_request() {
        let ids = Ids::new();
        let error = error("KMS.DisabledException", StatusCode::BAD_REQUEST, "the key is off");
        let answer = of_error(error, Some(("Region", "eu<1")));
        let answer = complete(answer, &ids, "/b/a&b").await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert_eq!(answer.headers()["x-amz-request-id"], ids.request.as_str());
        assert_eq!(answer.headers()["server"], "Keystead");
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        let text = String::from_utf8(body.to_vec()).expect("text");
        for part in [
            "<Code>KMS.DisabledException</Code>",
            "<Message>the key is off</Message>",
            "<Region>eu&lt;1</Region>",
            "<Resource>/b/a&amp;b</Resource>",
            &format!("<RequestId>{}</RequestId>", ids.request),
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[tokio::test]
    async fn a_304_has_no_body() {
        let answer = of_error(S3ErrorCode::NotModified.into(), None);
        let answer = complete(answer, &Ids::new(), "/b/k").await;
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
        assert!(answer.into_body().collect().await.expect("a body").to_bytes().is_empty());
    }
}
