//! Documents: objects of a cluster's bucket [`BUCKET`] that control hands out by link.
//!
//! What a document is called and what it is said to be lies sealed in its object's record. When it
//! ends stands in its id, and so in its object's key: what has ended is told without a key, and is
//! found without looking at what has not.
//!
//! | bytes of the UUID (version 8) | |
//! |---|---|
//! | 0 to 5 | when the id was made, milliseconds since the epoch |
//! | 6 to 8 | version, variant and 18 random bits |
//! | 9 to 13 | when the document ends, seconds since the epoch; 0 is never |
//! | 14, 15 | random |
//!
//! The key is the id; that of a document that ends is `expiring/<seconds, 10 hexadecimal digits>/<id>`,
//! so that those keys stand in the order in which they end.

use crate::{Cause, ClusterId, DocumentId};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write as _};

/// The bucket that holds a cluster's documents.
pub const BUCKET: &str = "documents";
/// Keys of documents that end begin so.
pub const EXPIRING: &str = "expiring/";
/// Keys of those that do not.
pub const LASTING: &str = DocumentId::PREFIX;
/// Names of user metadata begin so.
pub const META: &str = "x-amz-meta-";
/// The file's name as the client said it, in user metadata, encoded by [`encode`].
pub const NAME: &str = "keystead-name";

/// Seconds that five bytes hold, less than the year 9999 needs.
const MOST_S: i64 = 253_402_300_799;

impl DocumentId {
    /// A new id. The moment of the end is rounded up to whole seconds.
    pub fn new(created_ms: i64, expires_ms: Option<i64>, random: [u8; 16]) -> Self {
        let mut bytes = random;
        bytes[..6].copy_from_slice(&created_ms.to_be_bytes()[2..]);
        bytes[6] = 0x80 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        let end = expires_ms.map_or(0, |ms| (ms.saturating_add(999) / 1000).clamp(1, MOST_S));
        bytes[9..14].copy_from_slice(&end.to_be_bytes()[3..]);
        Self::from_uuid(uuid::Uuid::from_bytes(bytes))
    }

    fn bytes(&self) -> [u8; 16] {
        let rest = &self.as_str()[Self::PREFIX.len()..];
        // Checked when the id was made.
        uuid::Uuid::try_parse(rest).unwrap_or_default().into_bytes()
    }

    fn end_s(&self) -> u64 {
        self.bytes()[9..14].iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
    }

    /// When it ends, milliseconds since the epoch.
    pub fn expires_ms(&self) -> Option<i64> {
        let end = i64::try_from(self.end_s()).ok().filter(|end| *end > 0);
        end.map(|end| end.saturating_mul(1000))
    }

    /// True from the moment on at which it ends.
    pub fn is_over(&self, now_ms: i64) -> bool {
        self.expires_ms().is_some_and(|at| now_ms >= at)
    }

    /// The key of its object.
    pub fn key(&self) -> String {
        match self.end_s() {
            0 => self.to_string(),
            end => format!("{EXPIRING}{end:010x}/{self}"),
        }
    }

    /// The document whose object has this key.
    pub fn of_key(key: &str) -> Option<Self> {
        let id: Self = key.rsplit('/').next()?.parse().ok()?;
        (id.key() == key).then_some(id)
    }
}

/// What waits for a node's answer. The serial changes whenever the list does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentAsks {
    /// Tells this list from the one before.
    pub serial: u64,
    /// The list.
    pub asks: Vec<DocumentAsk>,
}

/// One thing that somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentAsk {
    /// One of a kind.
    pub ask: String,
    /// Whose documents.
    pub cluster: ClusterId,
    /// What is asked.
    pub wish: DocumentWish,
}

/// What is asked of a cluster's documents.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DocumentWish {
    /// A link to put a new one.
    Upload {
        /// Its id.
        document: DocumentId,
        /// The headers that the request must have, names in lower case.
        headers: Vec<(String, String)>,
        /// How long the link is good.
        expires_s: u32,
    },
    /// What is known of it without a key, and links to get it.
    Show {
        /// The document.
        document: DocumentId,
        /// How long the links are good.
        expires_s: u32,
    },
    /// A page of them, each with a link to its metadata.
    Page {
        /// Those behind this one.
        after: Option<DocumentId>,
        /// How long the links are good.
        expires_s: u32,
    },
    /// It is to go.
    Remove {
        /// The document.
        document: DocumentId,
    },
}

/// A wish may hold a file's name, which no log is to have.
impl fmt::Debug for DocumentWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upload { document, .. } => write!(f, "Upload({document})"),
            Self::Show { document, .. } => write!(f, "Show({document})"),
            Self::Page { .. } => f.write_str("Page"),
            Self::Remove { document } => write!(f, "Remove({document})"),
        }
    }
}

/// A node's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentAnswer {
    /// To which ask.
    pub ask: String,
    /// Of which cluster.
    pub cluster: ClusterId,
    /// The answer.
    pub said: DocumentSaid,
}

/// What a node answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DocumentSaid {
    /// Put it here.
    Upload(Link),
    /// It is there.
    Shown {
        /// What the index has of it.
        entry: DocumentEntry,
        /// To get it.
        download: Link,
    },
    /// A page.
    Page {
        /// In the order of their keys.
        entries: Vec<DocumentEntry>,
        /// There are more behind this one.
        next: Option<DocumentId>,
    },
    /// It is gone.
    Removed,
    /// There is none of this id.
    NoDocument,
    /// The cluster has no bucket for documents.
    NoBucket,
    /// The lease does not live, or the bucket's own proof is refused.
    Refused(Cause),
    /// The node's store failed; its log says how.
    Failed(String),
}

/// What the index has of a document, none of it secret, and a link to the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentEntry {
    /// The document.
    pub document: DocumentId,
    /// Bytes of plaintext.
    pub size: u64,
    /// When it was put.
    pub modified_ms: i64,
    /// A HEAD of this tells its name, its type and its metadata.
    pub head: Link,
}

/// A presigned URL: whoever has it may do this one thing until it ends.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Method of the request.
    pub method: String,
    /// Where to.
    pub url: String,
    /// Headers that it must have.
    pub headers: Vec<(String, String)>,
    /// When it ends, milliseconds since the epoch.
    pub expires_ms: i64,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({}, until {})", self.method, self.expires_ms)
    }
}

/// Text as a header carries it: what is not visible ASCII, and `%`, in percent form.
pub fn encode(text: &str) -> String {
    percent(text, |b| b.is_ascii_graphic() && b != b'%')
}

fn percent(text: &str, stays: impl Fn(u8) -> bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if stays(byte) {
            out.push(char::from(byte));
        } else {
            // A String takes whatever is written to it.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The text that [`encode`] was given; `None` when it is no such form.
pub fn decode(header: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut rest = header.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        out.push(u8::from_str_radix(digits, 16).ok().filter(|_| hex)?);
        rest = tail;
    }
    String::from_utf8(out).ok()
}

/// A name that may be a file's: one part of a path, and nothing that a terminal or a header would
/// take for an order.
pub fn is_file_name(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.chars().any(|c| c.is_control() || matches!(c, '/' | '\\'))
}

/// `Content-Disposition` of RFC 6266: a plain name for old clients, the true one for others.
pub fn disposition(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| match c {
            '"' | '\\' | '%' => '_',
            ' '..='~' => c,
            _ => '_',
        })
        .collect();
    let full = percent(name, |b| b.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&b));
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{full}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_stands_in_the_id_and_in_the_key() {
        let id = DocumentId::new(1_800_000_000_123, Some(1_800_000_060_001), [0xff; 16]);
        assert_eq!(id.expires_ms(), Some(1_800_000_061_000));
        assert!(!id.is_over(1_800_000_060_999) && id.is_over(1_800_000_061_000));
        assert_eq!(DocumentId::of_key(&id.key()), Some(id.clone()));
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        let later = DocumentId::new(1, Some(1_800_000_062_000), [0; 16]);
        assert!(id.key() < later.key() && id.key().starts_with(EXPIRING));
        let lasting = DocumentId::new(1_800_000_000_123, None, [7; 16]);
        assert_eq!((lasting.expires_ms(), lasting.key()), (None, lasting.to_string()));
        assert!(!lasting.is_over(i64::MAX));
        // A key that says another end than its id, and what is no document's key at all.
        for bad in [id.to_string(), format!("{EXPIRING}0000000000/{id}"), format!("x/{lasting}")] {
            assert_eq!(DocumentId::of_key(&bad), None, "{bad}");
        }
        assert_eq!(DocumentId::of_key("contract.pdf"), None);
    }

    #[test]
    fn names_come_back_and_bring_no_header_with_them() {
        for name in ["a.pdf", "Größe 100%.txt", "日本.txt", "a\"; x=\"b", " two  blanks "] {
            let text = encode(name);
            assert!(text.bytes().all(|b| b.is_ascii_graphic()), "{text}");
            assert_eq!(decode(&text).as_deref(), Some(name));
            let line = disposition(name);
            assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "{line}");
            assert_eq!(line.matches('"').count(), 2, "{line}");
        }
        for bad in ["%", "%4", "%zz", "%+1", "%FF"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        assert_eq!(
            disposition("ä\r\nSet-Cookie: a=b"),
            "attachment; filename=\"___Set-Cookie: a=b\"; filename*=UTF-8''%C3%A4%0D%0ASet-Cookie%3A%20a%3Db"
        );
        for bad in ["", ".", "..", "a/b", "a\\b", "a\nb", "a\u{9b}b", &"x".repeat(256)] {
            assert!(!is_file_name(bad), "{bad:?}");
        }
    }
}
