//! The cluster's documents: put, listed and linked by `keystead doc`, fetched by curl, read in the
//! backup Region by the stock AWS CLI, refused while a key is disabled, and the same afterwards.

use super::stage::Stage;
use super::{BACKUP_REGION, CLUSTER, word};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const PLACE: &str = "s3://documents/contract.txt";
/// More than one frame of a message, and no whole number of them.
const BYTES: usize = 200_000;

/// A document, a link to it, and an access key for the bucket that it lies in.
pub(super) struct Document {
    access_key_id: String,
    secret: String,
    file: PathBuf,
    text: Vec<u8>,
    id: String,
    link: String,
}

impl Document {
    /// Puts it, finds it listed, fetches it by its link and by `doc get`.
    pub(super) fn put(stage: &Stage) -> Result<Self> {
        let key = stage.json(&["s3-key", "create", CLUSTER, "--role", "writer", "--json"])?;
        let mut document = Self {
            access_key_id: word(&key, "/access_key_id")?,
            secret: word(&key, "/secret_access_key")?,
            file: stage.beside("document"),
            text: (0..BYTES).map(|i| b'a' + (i % 26) as u8).collect(),
            id: String::new(),
            link: String::new(),
        };
        let file = document.file.display().to_string();
        std::fs::write(&document.file, &document.text).with_context(|| format!("write {file}"))?;
        let put = ["doc", "put", CLUSTER, &file, "--name", "contract.txt"];
        document.id = stage.cli(&put)?.trim().to_owned();
        let listed = stage.json(&["doc", "list", CLUSTER, "--json"])?;
        let named = listed.as_array().is_some_and(|all| {
            all.iter().any(|d| d["document"] == *document.id && d["name"] == "contract.txt")
        });
        ensure!(named, "the list does not show it: {listed}");
        document.link = stage.cli(&["doc", "link", CLUSTER, &document.id])?.trim().to_owned();
        document.fetched()?;
        std::fs::remove_file(&document.file).with_context(|| format!("delete {file}"))?;
        stage.cli(&["doc", "get", CLUSTER, &document.id, "--output", &file])?;
        let got = std::fs::read(&document.file).with_context(|| format!("read {file}"))?;
        ensure!(got == document.text, "`doc get` wrote another document");
        // Users of S3 put what they like beside it.
        let done =
            document.aws(stage, super::REGION, &["s3", "cp", &file, PLACE, "--no-progress"])?;
        ensure!(done.status.success(), "the put: {}", said(&done));
        Ok(document)
    }

    /// Whoever has the link has the document: curl, without a credential.
    fn fetched(&self) -> Result<()> {
        let done = self.curl()?;
        ensure!(done.stdout == self.text, "the link answers {}", head(&done.stdout));
        Ok(())
    }

    fn curl(&self) -> Result<Output> {
        let mut command = Command::new("/usr/bin/curl");
        command.args(["--silent", "--show-error", "--max-time", "5", &self.link]);
        command.output().context("start curl")
    }

    /// Both objects are in the backup Region, which takes no writes; answers how long after they
    /// were asked for.
    pub(super) fn replicated(&self, stage: &Stage) -> Result<Duration> {
        let begun = Instant::now();
        for place in [format!("s3://documents/{}", self.id), PLACE.to_owned()] {
            loop {
                let done = self.aws(stage, BACKUP_REGION, &["s3", "cp", &place, "-"])?;
                if done.status.success() {
                    ensure!(done.stdout == self.text, "the backup Region has another {place}");
                    break;
                }
                ensure!(begun.elapsed() < Duration::from_secs(15), "{place}: {}", said(&done));
            }
        }
        let took = begun.elapsed();
        let write = ["s3api", "delete-object", "--bucket", "documents", "--key", "contract.txt"];
        let done = self.aws(stage, BACKUP_REGION, &write)?;
        let text = said(&done);
        ensure!(text.contains("AccessDenied"), "a write in the backup Region: {text}");
        ensure!(text.contains(super::REGION), "the refusal does not say where to write: {text}");
        Ok(took)
    }

    /// It is refused in both Regions, by these words of AWS's.
    pub(super) fn refused(&self, stage: &Stage, here: &str, there: &str) -> Result<()> {
        let text = self.curl()?.stdout;
        let text = String::from_utf8_lossy(&text);
        ensure!(text.contains(here), "the link answers {}", head(text.as_bytes()));
        // A HEAD, which `s3 cp` begins with, has no body to tell the cause in.
        let list = ["s3api", "list-objects-v2", "--bucket", "documents"];
        let done = self.aws(stage, BACKUP_REGION, &list)?;
        ensure!(!done.status.success(), "the backup Region answers all the same");
        ensure!(said(&done).contains(there), "the backup Region refuses by: {}", said(&done));
        Ok(())
    }

    /// It comes back, the same, by the link that was given out before.
    pub(super) fn back(&self) -> Result<()> {
        let begun = Instant::now();
        while let Err(error) = self.fetched() {
            ensure!(begun.elapsed() < Duration::from_secs(5), "{error}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// What the demo made on the host's own disk.
    pub(super) fn forget(&self) -> Result<()> {
        std::fs::remove_file(&self.file).context("delete the document's copy")
    }

    fn aws(&self, stage: &Stage, region: &str, args: &[&str]) -> Result<Output> {
        let endpoint = match region {
            BACKUP_REGION => "KEYSTEAD_SECOND_S3_ENDPOINT",
            _ => "KEYSTEAD_S3_ENDPOINT",
        };
        let mut command = Command::new(stage.aws_program());
        command
            .args(args)
            .args(["--endpoint-url", stage.env(endpoint)?])
            .env("AWS_ACCESS_KEY_ID", &self.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", &self.secret)
            .env("AWS_DEFAULT_REGION", region)
            .env("AWS_MAX_ATTEMPTS", "1")
            .env("AWS_PAGER", "")
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_PROFILE");
        command.output().context("start the AWS CLI")
    }
}

fn said(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).trim().to_owned()
}

/// Enough of an answer to know it by.
fn head(answer: &[u8]) -> String {
    String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned()
}
