//! One TOML file a role, and the files with its credentials, all of mode 0600.

use super::folder::{Folder, write_private};
use super::ports::Ports;
use super::secrets::{AccessKey, Secrets};
use super::{CUSTOMER, PROVIDER, REGION};
use crate::cli::DevRun;
use anyhow::Result;
use serde_json::json;

/// Writes all of them anew: they follow from the folder's secrets and this start's options.
pub(crate) fn write(
    folder: &Folder,
    secrets: &Secrets,
    ports: &Ports,
    args: &DevRun,
) -> Result<()> {
    let put = |name: &str, text: &str| write_private(&folder.config(name), text);
    put("root-key", &format!("{}\n", secrets.root_key))?;
    put("platform-token", &format!("{}\n", secrets.platform_token))?;
    put("node-token", &format!("{}\n", secrets.node_token))?;
    put("node-credentials.toml", &toml::to_string(&secrets.node)?)?;
    put("control-credentials.toml", &toml::to_string(&secrets.control)?)?;
    put("principals.toml", &toml::to_string(&principals(secrets))?)?;
    put("kms.toml", &toml::to_string(&kms(folder, ports, args))?)?;
    put("control.toml", &toml::to_string(&control(folder, ports, args))?)?;
    put("node.toml", &toml::to_string(&node(folder, ports, args))?)?;
    put("hold.toml", &toml::to_string(&hold(folder, secrets))?)
}

fn kms(folder: &Folder, ports: &Ports, args: &DevRun) -> serde_json::Value {
    json!({
        "listen": ports.kms,
        "data": folder.root.join("kms"),
        "principals": folder.config("principals.toml"),
        "insecure_plain_root_key": folder.config("root-key"),
        "arena": args.arena,
        "insecure_swap": args.insecure_swap,
        "hosts": args.kms_host,
        "insecure_scheduler_ahead": super::kms_clock::file(&folder.root),
    })
}

fn control(folder: &Folder, ports: &Ports, args: &DevRun) -> serde_json::Value {
    json!({
        "listen": ports.control,
        "data": folder.root.join("control"),
        "provider_account": PROVIDER,
        "aws_endpoint": format!("http://{}", ports.kms),
        "credentials": folder.config("control-credentials.toml"),
        "platform_token": folder.config("platform-token"),
        "evict_after": args.evict_after,
        "node": [{
            "region": REGION,
            "name": format!("node-{REGION}"),
            "user_arn": node_user(),
            "token_file": folder.config("node-token"),
        }],
    })
}

/// An orderly stop detaches the volumes; a crash leaves them with the holder.
fn node(folder: &Folder, ports: &Ports, args: &DevRun) -> serde_json::Value {
    json!({
        "region": REGION,
        "name": format!("node-{REGION}"),
        "data": folder.root.join("node").join(REGION),
        "control_url": format!("http://{}", ports.control),
        "control_token": folder.config("node-token"),
        "hold_socket": folder.run("hold.sock"),
        "credentials": folder.config("node-credentials.toml"),
        "user_arn": node_user(),
        "arena": args.arena,
        "insecure_swap": args.insecure_swap,
        "detach_on_stop": true,
        "s3": { "listen": ports.s3 },
        "kms": { REGION: format!("http://{}", ports.kms) },
    })
}

fn hold(folder: &Folder, secrets: &Secrets) -> serde_json::Value {
    json!({
        "socket": folder.run("hold.sock"),
        "data": folder.root.join("hold"),
        "cgroup_prefix": cgroup_prefix(secrets),
    })
}

/// Tells the cgroups of this folder from another's.
pub(crate) fn cgroup_prefix(secrets: &Secrets) -> String {
    format!("keystead-{}", secrets.instance)
}

fn node_user() -> String {
    format!("arn:aws:iam::{PROVIDER}:user/keystead-node-{REGION}")
}

/// Accounts and users that KMS starts with.
fn principals(secrets: &Secrets) -> serde_json::Value {
    let administrator = json!([{ "Effect": "Allow", "Action": "*", "Resource": "*" }]);
    let roles = format!("arn:aws:iam::{PROVIDER}:role/keystead-*");
    let node = json!([
        { "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": roles },
        { "Effect": "Allow", "Action": "keystead:Watch", "Resource": "*" },
    ]);
    let control = json!([{
        "Effect": "Allow",
        "Action": ["iam:CreateRole", "iam:GetRole", "iam:PutRolePolicy"],
        "Resource": roles,
    }]);
    json!({ "account": [
        { "id": PROVIDER, "name": "provider", "user": [
            user("administrator", &secrets.provider, &administrator),
            user(&format!("keystead-node-{REGION}"), &secrets.node, &node),
            user("keystead-control", &secrets.control, &control),
        ]},
        { "id": CUSTOMER, "name": "customer", "user": [
            user("administrator", &secrets.customer, &administrator),
        ]},
    ]})
}

fn user(name: &str, key: &AccessKey, statements: &serde_json::Value) -> serde_json::Value {
    json!({
        "name": name,
        "access_key_id": key.access_key_id,
        "secret_access_key": key.secret_access_key,
        "policy": json!({ "Version": "2012-10-17", "Statement": statements }).to_string(),
    })
}
