//! Pages of objects and of uploads, in the order of the keys' bytes. A common prefix costs one
//! seek, however many keys lie under it.

use super::rows::{ObjectRow, UploadRow};
use super::{OBJECTS, Shared, UPLOADS};
use crate::error::StoreError;
use crate::model::{Entry, ListQuery, Listing, UploadEntry, UploadList, UploadQuery};
use crate::version::Version;
use std::ops::Bound;

/// The least text behind every text that begins with `prefix`; `None` when there is none.
fn behind_all(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        let next = match u32::from(last) + 1 {
            0xD800 => Some('\u{E000}'),
            code => char::from_u32(code),
        };
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

/// The common prefix that a key rolls up into.
fn rolled<'a>(key: &'a str, prefix: &str, delimiter: Option<&str>) -> Option<&'a str> {
    let delimiter = delimiter.filter(|d| !d.is_empty())?;
    let at = key.get(prefix.len()..)?.find(delimiter)?;
    Some(&key[..prefix.len() + at + delimiter.len()])
}

/// Where a page begins: at a key, or behind one.
fn first(prefix: &str, after: Option<&str>, delimiter: Option<&str>) -> Option<(String, bool)> {
    match after {
        Some(after) if after >= prefix => {
            // A page that ended with a common prefix goes on behind all that it stands for.
            if rolled(after, prefix, delimiter) == Some(after) {
                behind_all(after).map(|next| (next, true))
            } else {
                Some((after.to_owned(), false))
            }
        }
        _ => Some((prefix.to_owned(), true)),
    }
}

fn start(from: &str, included: bool) -> Bound<&str> {
    if included { Bound::Included(from) } else { Bound::Excluded(from) }
}

impl Shared {
    /// A page of a bucket's objects.
    pub(crate) fn list(&self, bucket: &str, query: &ListQuery) -> Result<Listing, StoreError> {
        let (prefix, delimiter) = (query.prefix.as_str(), query.delimiter.as_deref());
        let mut page = Listing::default();
        if query.max_keys == 0 {
            return Ok(page);
        }
        let mut at = first(prefix, query.after.as_deref(), delimiter);
        let mut last: Option<String> = None;
        self.read(|txn| {
            let table = txn.open_table(OBJECTS)?;
            'seek: while let Some((from, included)) = at.take() {
                let from = match start(&from, included) {
                    Bound::Included(key) => Bound::Included((bucket, key)),
                    _ => Bound::Excluded((bucket, from.as_str())),
                };
                for item in table.range::<(&str, &str)>((from, Bound::Unbounded))? {
                    let (found, value) = item?;
                    let (of, key) = found.value();
                    if of != bucket || !key.starts_with(prefix) {
                        break;
                    }
                    if page.entries.len() + page.common_prefixes.len() == query.max_keys {
                        page.next = last.take();
                        break;
                    }
                    if let Some(common) = rolled(key, prefix, delimiter) {
                        page.common_prefixes.push(common.to_owned());
                        last = Some(common.to_owned());
                        at = behind_all(common).map(|next| (next, true));
                        continue 'seek;
                    }
                    let row = ObjectRow::decode(value.value())?;
                    last = Some(key.to_owned());
                    page.entries.push(Entry {
                        key: key.to_owned(),
                        size: row.size,
                        modified_ms: row.modified_ms,
                        etag: row.etag,
                        checksum: row.checksum,
                    });
                }
            }
            Ok(page)
        })
    }

    /// A page of a bucket's uploads.
    pub(crate) fn list_uploads(
        &self,
        bucket: &str,
        query: &UploadQuery,
    ) -> Result<UploadList, StoreError> {
        let (prefix, delimiter) = (query.prefix.as_str(), query.delimiter.as_deref());
        let mut page = UploadList::default();
        if query.max_uploads == 0 {
            return Ok(page);
        }
        let after = query.after.as_ref().map(|(key, _)| key.as_str());
        let mut at = first(prefix, after, delimiter);
        // With an upload id: the same key's uploads behind that one, else none of that key.
        let behind = match &query.after {
            Some((key, Some(id))) => Version::parse(id).map(|upload| (key.as_str(), upload)),
            _ => None,
        };
        let mut last: Option<(String, Option<String>)> = None;
        self.read(|txn| {
            let table = txn.open_table(UPLOADS)?;
            'seek: while let Some((from, included)) = at.take() {
                let from = match (included, behind) {
                    (true, _) => Bound::Included((bucket, from.as_str(), &[0; 16])),
                    (false, Some((key, upload))) if key == from => {
                        Bound::Excluded((bucket, key, &upload.0.clone()))
                    }
                    (false, _) => Bound::Excluded((bucket, from.as_str(), &[0xff; 16])),
                };
                for item in table.range::<(&str, &str, &[u8; 16])>((from, Bound::Unbounded))? {
                    let (found, value) = item?;
                    let (of, key, upload) = found.value();
                    if of != bucket || !key.starts_with(prefix) {
                        break;
                    }
                    if page.uploads.len() + page.common_prefixes.len() == query.max_uploads {
                        page.next = last.take();
                        break;
                    }
                    if let Some(common) = rolled(key, prefix, delimiter) {
                        page.common_prefixes.push(common.to_owned());
                        last = Some((common.to_owned(), None));
                        at = behind_all(common).map(|next| (next, true));
                        continue 'seek;
                    }
                    let upload = Version(*upload);
                    last = Some((key.to_owned(), Some(upload.to_string())));
                    let row = UploadRow::decode(value.value())?;
                    page.uploads.push(UploadEntry {
                        key: key.to_owned(),
                        upload_id: upload.to_string(),
                        begun_ms: row.begun_ms,
                        checksum: row.checksum,
                    });
                }
            }
            Ok(page)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_a_prefix() {
        assert_eq!(behind_all("a/").as_deref(), Some("a0"));
        assert_eq!(behind_all("a\u{D7FF}").as_deref(), Some("a\u{E000}"));
        assert_eq!(behind_all("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(behind_all("\u{10FFFF}"), None);
        assert_eq!(behind_all(""), None);
        assert_eq!(rolled("a/b/c", "a/", Some("/")), Some("a/b/"));
        assert_eq!(rolled("a/b", "a/", Some("/")), None);
        assert_eq!(rolled("a/b", "a", Some("")), None);
    }
}
