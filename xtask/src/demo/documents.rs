//! The cluster's bucket of documents: the stock AWS CLI puts one, is refused while the key is
//! disabled, and gets the same bytes back.

use super::stage::Stage;
use super::{CLUSTER, word};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const PLACE: &str = "s3://documents/contract.txt";
/// More than one frame of a message, and no whole number of them.
const BYTES: usize = 200_000;

/// A document, and the access key that opens it.
pub(super) struct Document {
    access_key_id: String,
    secret: String,
    file: PathBuf,
    text: Vec<u8>,
}

impl Document {
    /// Makes an access key, puts the document, gets it back.
    pub(super) fn put(stage: &Stage) -> Result<Self> {
        let key = stage.json(&["s3-key", "create", CLUSTER, "--role", "writer", "--json"])?;
        let document = Self {
            access_key_id: word(&key, "/access_key_id")?,
            secret: word(&key, "/secret_access_key")?,
            file: stage.beside("document"),
            text: (0..BYTES).map(|i| b'a' + (i % 26) as u8).collect(),
        };
        std::fs::write(&document.file, &document.text)
            .with_context(|| format!("write {}", document.file.display()))?;
        let file = document.file.display().to_string();
        let done = document.aws(stage, &["s3", "cp", &file, PLACE, "--no-progress"])?;
        ensure!(done.status.success(), "the put: {}", said(&done));
        document.got(stage)?;
        Ok(document)
    }

    /// Gets it, and holds it against what was put.
    fn got(&self, stage: &Stage) -> Result<()> {
        let done = self.aws(stage, &["s3", "cp", PLACE, "-"])?;
        ensure!(done.status.success(), "the get: {}", said(&done));
        ensure!(done.stdout == self.text, "another document came back");
        Ok(())
    }

    /// It is refused, with AWS's own word for it.
    pub(super) fn refused(&self, stage: &Stage) -> Result<()> {
        // A HEAD, which `s3 cp` begins with, has no body to tell the cause in.
        let get = self.aws(stage, &["s3api", "list-objects-v2", "--bucket", "documents"])?;
        ensure!(!get.status.success(), "it is answered all the same");
        ensure!(said(&get).contains("KMS.DisabledException"), "refused by: {}", said(&get));
        ensure!(self.got(stage).is_err(), "the document is got all the same");
        Ok(())
    }

    /// It comes back, the same.
    pub(super) fn back(&self, stage: &Stage) -> Result<()> {
        let begun = Instant::now();
        while let Err(error) = self.got(stage) {
            ensure!(begun.elapsed() < Duration::from_secs(5), "{error}");
        }
        std::fs::remove_file(&self.file).context("delete the document")
    }

    fn aws(&self, stage: &Stage, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(stage.aws_program());
        command
            .args(args)
            .args(["--endpoint-url", stage.env("KEYSTEAD_S3_ENDPOINT")?])
            .env("AWS_ACCESS_KEY_ID", &self.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", &self.secret)
            .env("AWS_DEFAULT_REGION", super::REGION)
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
