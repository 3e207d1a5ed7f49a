//! Conditions on a request, as HTTP and S3 have them.

/// An ETag in a condition, without quotes, or any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tag {
    /// `*`.
    Any,
    /// One of these.
    OneOf(Vec<String>),
}

impl Tag {
    fn fits(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(tags) => tags.iter().any(|tag| tag == etag),
        }
    }
}

/// On a write: decided in the index's one writer, with the write, so nothing comes between.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteCondition {
    /// The object must be there, with this ETag.
    pub if_match: Option<Tag>,
    /// The object must not be there with this ETag (`*`: not be there).
    pub if_none_match: Option<Tag>,
}

/// On a read, in HTTP's order of precedence. Times are in milliseconds of the Unix epoch and are
/// compared in whole seconds, as HTTP carries them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadCondition {
    /// The ETag must be one of these.
    pub if_match: Option<Tag>,
    /// The ETag must be none of these.
    pub if_none_match: Option<Tag>,
    /// It must have changed since.
    pub if_modified_since_ms: Option<i64>,
    /// It must not have changed since.
    pub if_unmodified_since_ms: Option<i64>,
}

/// How a read's condition comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Holds,
    NotModified,
    Failed,
}

impl ReadCondition {
    pub(crate) fn judge(&self, etag: &str, modified_ms: i64) -> Verdict {
        let seconds = modified_ms.div_euclid(1000);
        match (&self.if_match, self.if_unmodified_since_ms) {
            (Some(tag), _) if !tag.fits(etag) => return Verdict::Failed,
            (None, Some(since)) if seconds > since.div_euclid(1000) => return Verdict::Failed,
            _ => {}
        }
        match (&self.if_none_match, self.if_modified_since_ms) {
            (Some(tag), _) if tag.fits(etag) => Verdict::NotModified,
            (None, Some(since)) if seconds <= since.div_euclid(1000) => Verdict::NotModified,
            _ => Verdict::Holds,
        }
    }
}

/// How a write's condition comes out against what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteVerdict {
    Holds,
    /// If-Match on an object that is not there: S3 answers NoSuchKey.
    Absent,
    Failed,
}

impl WriteCondition {
    pub(crate) fn judge(&self, etag: Option<&str>) -> WriteVerdict {
        if let Some(tag) = &self.if_match {
            match etag {
                None => return WriteVerdict::Absent,
                Some(etag) if !tag.fits(etag) => return WriteVerdict::Failed,
                Some(_) => {}
            }
        }
        match (&self.if_none_match, etag) {
            (Some(tag), Some(etag)) if tag.fits(etag) => WriteVerdict::Failed,
            _ => WriteVerdict::Holds,
        }
    }
}
