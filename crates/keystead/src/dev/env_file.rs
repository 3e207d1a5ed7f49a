//! The file of shell exports, in place only once every port answers.

use super::configs::holder_socket;
use super::folder::{Folder, write_private};
use super::ports::Ports;
use super::secrets::Secrets;
use super::{CUSTOMER, PROVIDER, Place};
use anyhow::{Context, Result};
use keystead_control::client::{Client, ClientError};
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(50);
const ORGANIZATION: &str = "dev";

/// Waits for the roles, makes the first organization, writes the file.
pub(crate) async fn publish(
    folder: &Folder,
    secrets: &Secrets,
    ports: &Ports,
    places: &[Place],
    file: Option<&Path>,
) -> Result<()> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(2))
        .build()
        .context("make an HTTP client")?;
    for address in [ports.kms, ports.control] {
        let url = format!("http://{address}/healthz");
        while !http.get(&url).send().await.is_ok_and(|a| a.status().is_success()) {
            tokio::time::sleep(EVERY).await;
        }
    }
    // Who has no access key is refused, by a gateway that answers.
    for s3 in [Some(ports.s3), ports.second_s3].into_iter().flatten() {
        while http.get(format!("http://{s3}")).send().await.is_err() {
            tokio::time::sleep(EVERY).await;
        }
    }
    for place in places {
        while UnixStream::connect(holder_socket(folder, *place)).is_err() {
            tokio::time::sleep(EVERY).await;
        }
    }
    let token = owner_token(folder, secrets, ports).await?;
    let text = exports(folder, secrets, ports, &token);
    // A copy stays in the folder: `dev` may have been started without --env.
    write_private(&folder.run("env"), &text)?;
    match file {
        Some(file) => write_private(file, &text),
        None => Ok(()),
    }
}

/// Made once. A crash between control's answer and the file loses a token; then the next
/// organization is the one that the file speaks for.
async fn owner_token(folder: &Folder, secrets: &Secrets, ports: &Ports) -> Result<String> {
    let path = folder.config("owner-token");
    let api = format!("http://{}", ports.control);
    if let Ok(token) = fs::read_to_string(&path) {
        let token = token.trim().to_owned();
        // Control's folder may have been put back to before the token was made.
        let known = Client::new(&api, &token)?.whoami().await;
        let unknown = |e: &ClientError| e.problem().is_some_and(|p| p.status == 401);
        if !known.as_ref().is_err_and(unknown) {
            return Ok(token);
        }
    }
    let client = Client::new(&api, &secrets.platform_token)?;
    for attempt in 1..100 {
        let name = if attempt == 1 {
            ORGANIZATION.to_owned()
        } else {
            format!("{ORGANIZATION}-{attempt}")
        };
        match client.create_organization(&name).await {
            Ok(made) => {
                let token = made.token.context("control gave no token")?;
                write_private(&path, &format!("{token}\n"))?;
                return Ok(token);
            }
            Err(ClientError::Problem(problem)) if problem.status == 409 => {}
            Err(e) => return Err(e).context("make the first organization"),
        }
    }
    anyhow::bail!("no name is free for the first organization")
}

fn exports(folder: &Folder, secrets: &Secrets, ports: &Ports, token: &str) -> String {
    let second = ports.second_s3.map(|s3| ("KEYSTEAD_SECOND_S3_ENDPOINT", format!("http://{s3}")));
    let values = [
        ("KEYSTEAD_API", format!("http://{}", ports.control)),
        ("KEYSTEAD_TOKEN", token.to_owned()),
        ("KEYSTEAD_PLATFORM_TOKEN", secrets.platform_token.clone()),
        ("KEYSTEAD_AWS_ENDPOINT", format!("http://{}", ports.kms)),
        ("KEYSTEAD_S3_ENDPOINT", format!("http://{}", ports.s3)),
        ("KEYSTEAD_PROVIDER_ACCOUNT", PROVIDER.to_owned()),
        ("KEYSTEAD_PROVIDER_AWS_ACCESS_KEY_ID", secrets.provider.access_key_id.clone()),
        ("KEYSTEAD_PROVIDER_AWS_SECRET_ACCESS_KEY", secrets.provider.secret_access_key.clone()),
        ("KEYSTEAD_CUSTOMER_ACCOUNT", CUSTOMER.to_owned()),
        ("KEYSTEAD_CUSTOMER_AWS_ACCESS_KEY_ID", secrets.customer.access_key_id.clone()),
        ("KEYSTEAD_CUSTOMER_AWS_SECRET_ACCESS_KEY", secrets.customer.secret_access_key.clone()),
        ("KEYSTEAD_DATA", folder.root.display().to_string()),
    ];
    let line = |(name, value): (&str, String)| {
        format!("export {name}='{}'\n", value.replace('\'', r"'\''"))
    };
    values.into_iter().chain(second).map(line).collect()
}
