//! The shapes of documents.

use keystead_types::DocumentId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use utoipa::ToSchema;

/// `POST /v1/clusters/{cluster}/documents`.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDocument {
    /// What the file is called: one part of a path, at most 255 bytes.
    pub file_name: String,
    /// Its media type; `application/octet-stream` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Its bytes; when said, the link takes no other number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The caller's own pairs; names of lower-case letters, digits and hyphens.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The document ends after this, as `24h` or `30d`; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
}

/// What a document is called goes into no log.
impl fmt::Debug for CreateDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CreateDocument")
    }
}

/// `POST /v1/clusters/{cluster}/documents/{document}/links`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateLink {
    /// How long it is good, as `15m`; at most `168h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
}

/// A presigned URL of the node's S3: whoever has it may do this one thing until it ends.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct LinkView {
    /// Method of the request.
    pub method: String,
    /// Where to.
    pub url: String,
    /// Headers that the request must have, as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Ends at, RFC 3339.
    pub expires: String,
}

impl fmt::Debug for LinkView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkView({}, until {})", self.method, self.expires)
    }
}

/// A document, as far as control is told of it: name, type and metadata lie sealed in the node, and
/// `head` leads to them.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DocumentView {
    /// The document.
    #[schema(value_type = String)]
    pub document: DocumentId,
    /// Put at, RFC 3339; absent before it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Ends at, RFC 3339; never when absent.
    pub expires: Option<String>,
    /// Bytes, once it is put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// To put it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<LinkView>,
    /// To get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download: Option<LinkView>,
    /// To learn its name, its type and its metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<LinkView>,
}

/// Some of a cluster's documents.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DocumentPage {
    /// At most 50: first those that do not end, by age, then those that do, the next first.
    pub documents: Vec<DocumentView>,
    /// There are more: give this as `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub next: Option<DocumentId>,
}
