//! `keystead doc`. Control gives links; the bytes go to the node and come from it.

use super::{client, doc_wire, json, or_dash, table};
use crate::cli::{DocArgs, DocCommand};
use crate::failure::Failure;
use crate::out::say;
use anyhow::{Context, Result};
use keystead_control::client::Client;
use keystead_control::wire::{CreateDocument, CreateLink, DocumentView};
use keystead_types::DocumentId;
use keystead_types::documents::{META, NAME, decode, is_file_name};
use reqwest::header::HeaderMap;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::{Value, json as value};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Heads that are asked for at a time.
const HEADS: usize = 8;

/// Runs it.
pub(crate) async fn run(args: DocArgs) -> Result<ExitCode> {
    match args.command {
        DocCommand::Put { cluster, file, name, content_type, meta, expires, api, format } => {
            let (open, size) = open(&file)?;
            let own = || file.file_name().and_then(|n| n.to_str()).map(str::to_owned);
            let file_name = name.or_else(own).ok_or_else(|| {
                Failure::new(format!("{} has no name in UTF-8", file.display()))
                    .fix("say one with --name")
            })?;
            let metadata: BTreeMap<_, _> = meta.into_iter().collect();
            let wanted = CreateDocument {
                file_name: file_name.clone(),
                content_type: Some(content_type),
                size: Some(size),
                metadata,
                expires_in: expires,
            };
            let made = client(&api)?.create_document(&cluster, &wanted).await?;
            let link = made.upload.as_ref().context("control gave no link to put it")?;
            doc_wire::put(&doc_wire::client()?, link, open, size).await?;
            if format.json {
                let (document, expires) = (&made.document, &made.expires);
                json(
                    &value!({ "document": document, "name": file_name, "size": size, "expires": expires }),
                )?;
            } else {
                say!("{}", made.document);
            }
        }
        DocCommand::Get { cluster, document, output, api, format } => {
            let (path, size) = get(&client(&api)?, &cluster, &document, output).await?;
            match path {
                Some(path) if format.json => {
                    json(&value!({ "document": document, "file": path, "size": size }))?;
                }
                Some(path) => say!("{}", path.display()),
                // The document itself is the answer.
                None => {}
            }
        }
        DocCommand::List { cluster, api, format } => {
            let all = list(&client(&api)?, &cluster).await?;
            if format.json {
                json(&all.iter().map(Listed::json).collect::<Vec<_>>())?;
            } else {
                let head = ["DOCUMENT", "SIZE", "CREATED", "EXPIRES", "TYPE", "NAME"];
                table(head, all.iter().map(Listed::row).collect());
            }
        }
        DocCommand::Link { cluster, document, expires, api, format } => {
            let wanted = CreateLink { expires_in: Some(expires) };
            let link = client(&api)?.link_document(&cluster, &document, &wanted).await?;
            if format.json { json(&link)? } else { say!("{}", link.url) }
        }
        DocCommand::Rm { cluster, document, api } => {
            client(&api)?.remove_document(&cluster, &document).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn open(path: &Path) -> Result<(File, u64)> {
    let at = || format!("open {}", path.display());
    let file = File::open(path).with_context(at)?;
    let found = file.metadata().with_context(at)?;
    if !found.is_file() {
        return Err(Failure::new(format!("{} is no file", path.display()))
            .why("a document's length is said before its bytes")
            .fix("write it to a file first")
            .into());
    }
    Ok((file, found.len()))
}

/// A file that is not there yet, and is gone again unless it is finished.
struct Unfinished(Option<PathBuf>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // What cannot be removed is told by its name.
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn get(
    control: &Client,
    cluster: &str,
    document: &DocumentId,
    output: Option<PathBuf>,
) -> Result<(Option<PathBuf>, u64)> {
    let view = control.document(cluster, document).await?;
    let link = view.download.as_ref().context("control gave no link to get it")?;
    let found = doc_wire::get(&doc_wire::client()?, link).await?;
    if output.as_deref() == Some(Path::new("-")) {
        let size = found.write_to(&mut std::io::stdout().lock()).await?;
        return Ok((None, size));
    }
    let target = match output {
        Some(path) => path,
        None => name(found.headers()).map(PathBuf::from).ok_or_else(|| {
            Failure::new("the document has no name that a file may have")
                .fix("say where to put it with --output FILE")
        })?,
    };
    let taken = || {
        Failure::new(format!("{} is there already", target.display()))
            .fix("say another file with --output FILE, or remove it")
    };
    if std::fs::symlink_metadata(&target).is_ok() {
        return Err(taken().into());
    }
    let beside = target.with_file_name(format!(".{document}.{}.part", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).open(&beside);
    let file = made.with_context(|| format!("make {}", beside.display()))?;
    let unfinished = Unfinished(Some(beside.clone()));
    let mut out = BufWriter::with_capacity(256 << 10, file);
    let size = found.write_to(&mut out).await?;
    out.get_ref().sync_all().context("write the document")?;
    match settle(&beside, &target) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Err(taken().into()),
        Err(e) => return Err(e).with_context(|| format!("make {}", target.display())),
    }
    drop(unfinished);
    Ok((Some(target), size))
}

/// Gives a finished file its name and replaces nothing. Not every file system can rename so, and not
/// every one has hard links (FAT has none, NFS renames over what is there): one that can do neither
/// is told apart by a look, which another process may come after.
fn settle(beside: &Path, target: &Path) -> std::io::Result<()> {
    let flags = RenameFlags::NOREPLACE;
    let unknown = match renameat_with(CWD, beside, CWD, target, flags) {
        Err(e @ (Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)) => e,
        done => return Ok(done?),
    };
    match std::fs::hard_link(beside, target) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Err(e),
        Err(error) => {
            tracing::debug!(%unknown, %error, "neither rename nor link without replacing")
        }
    }
    match std::fs::symlink_metadata(target) {
        Ok(_) => Err(ErrorKind::AlreadyExists.into()),
        Err(_) => std::fs::rename(beside, target),
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// The name that the document was given, if a file may have it: who put it chose it.
fn name(headers: &HeaderMap) -> Option<String> {
    let given = text(headers, &format!("{META}{NAME}")).and_then(|name| decode(&name));
    given.filter(|name| is_file_name(name))
}

/// A document with what its head says.
struct Listed {
    view: DocumentView,
    name: Option<String>,
    content_type: Option<String>,
    metadata: BTreeMap<String, String>,
}

impl Listed {
    fn new(view: DocumentView, headers: &HeaderMap) -> Self {
        let metadata = headers.keys().filter_map(|key| {
            let short = key.as_str().strip_prefix(META).filter(|short| *short != NAME)?;
            Some((short.to_owned(), decode(&text(headers, key.as_str())?)?))
        });
        Self {
            name: name(headers),
            content_type: text(headers, "content-type"),
            metadata: metadata.collect(),
            view,
        }
    }

    fn row(&self) -> [String; 6] {
        [
            self.view.document.to_string(),
            or_dash(self.view.size),
            or_dash(self.view.created.as_ref()),
            or_dash(self.view.expires.as_ref()),
            or_dash(self.content_type.as_ref()),
            or_dash(self.name.as_ref()),
        ]
    }

    fn json(&self) -> Value {
        value!({
            "document": self.view.document,
            "name": self.name,
            "content_type": self.content_type,
            "metadata": self.metadata,
            "size": self.view.size,
            "created": self.view.created,
            "expires": self.view.expires,
        })
    }
}

async fn list(control: &Client, cluster: &str) -> Result<Vec<Listed>> {
    let http = doc_wire::client()?;
    let mut all = Vec::new();
    let mut after: Option<DocumentId> = None;
    loop {
        let page = control.documents(cluster, after.as_ref()).await?;
        let mut views = page.documents.into_iter();
        loop {
            let mut heads = Vec::new();
            for view in views.by_ref().take(HEADS) {
                let link = view.head.clone().context("control gave no link to a head")?;
                let http = http.clone();
                let asked = tokio::spawn(async move { doc_wire::head(&http, &link).await });
                heads.push((view, asked));
            }
            if heads.is_empty() {
                break;
            }
            for (view, head) in heads {
                if let Some(headers) = head.await.context("ask for a document's head")?? {
                    all.push(Listed::new(view, &headers));
                }
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_file_gets_its_name_and_replaces_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let (beside, target) = (folder.path().join(".part"), folder.path().join("contract"));
        std::fs::write(&beside, "new").expect("written");
        settle(&beside, &target).expect("the name is free");
        assert_eq!(std::fs::read(&target).expect("there"), b"new");
        assert!(!beside.exists());
        std::fs::write(&beside, "newer").expect("written");
        let taken = settle(&beside, &target).expect_err("the name is taken");
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&target).expect("there"), b"new");
        // A link that leads nowhere is there, too.
        let dangling = folder.path().join("dangling");
        std::os::unix::fs::symlink("nowhere", &dangling).expect("linked");
        let taken = settle(&beside, &dangling).expect_err("the name is taken");
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
        assert!(beside.exists(), "what was not placed is the caller's to remove");
    }
}
