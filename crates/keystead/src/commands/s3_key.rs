//! `keystead s3-key`.

use super::{client, json, or_dash, table};
use crate::cli::{S3KeyArgs, S3KeyCommand};
use crate::out::say;
use anyhow::Result;
use keystead_control::wire::{CreateS3Key, RotateS3Key, S3KeyView};
use std::process::ExitCode;

/// Runs it.
pub(crate) async fn run(args: S3KeyArgs) -> Result<ExitCode> {
    match args.command {
        S3KeyCommand::Create { cluster, role, description, api, format } => {
            let wanted = CreateS3Key { role: role.into(), description };
            made(&client(&api)?.create_s3_key(&cluster, &wanted).await?, format.json)?;
        }
        S3KeyCommand::List { cluster, api, format } => {
            let keys = client(&api)?.s3_keys(&cluster).await?;
            if format.json {
                json(&keys)?;
            } else {
                let rows = keys.iter().map(row).collect();
                table(["ACCESS-KEY-ID", "ROLE", "CREATED", "EXPIRES", "DESCRIPTION"], rows);
            }
        }
        S3KeyCommand::Rotate { cluster, access_key_id, overlap, api, format } => {
            let wanted = RotateS3Key { overlap: Some(overlap) };
            let key = client(&api)?.rotate_s3_key(&cluster, &access_key_id, &wanted).await?;
            made(&key, format.json)?;
        }
        S3KeyCommand::Revoke { cluster, access_key_id, api } => {
            client(&api)?.revoke_s3_key(&cluster, &access_key_id).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(k: &S3KeyView) -> [String; 5] {
    [
        k.access_key_id.clone(),
        k.role.to_string(),
        k.created.clone(),
        or_dash(k.expires.as_ref()),
        k.description.clone(),
    ]
}

/// As shell exports, ready for any AWS client.
fn made(key: &S3KeyView, as_json: bool) -> Result<()> {
    if as_json {
        return json(key);
    }
    say!("# {} of {}; the secret is shown once", key.role, key.cluster);
    say!("export AWS_ACCESS_KEY_ID={}", key.access_key_id);
    if let Some(secret) = &key.secret_access_key {
        say!("export AWS_SECRET_ACCESS_KEY={secret}");
    }
    say!("export AWS_REGION={}", key.region);
    match &key.endpoint {
        Some(endpoint) => say!("export AWS_ENDPOINT_URL_S3={endpoint}"),
        None => say!("# the node does not say where it serves S3"),
    }
    Ok(())
}
