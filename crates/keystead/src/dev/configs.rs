//! One TOML file a role, and the files with its credentials, all of mode 0600.

use super::folder::{Folder, write_private};
use super::ports::Ports;
use super::role::Role;
use super::secrets::{AccessKey, Secrets};
use super::{CUSTOMER, PROVIDER, Place};
use crate::cli::DevRun;
use anyhow::Result;
use serde_json::json;
use std::path::PathBuf;

/// Writes all of them anew: they follow from the folder's secrets and this start's options.
pub(crate) fn write(
    folder: &Folder,
    secrets: &Secrets,
    ports: &Ports,
    places: &[Place],
    args: &DevRun,
) -> Result<()> {
    let put = |name: &str, text: &str| write_private(&folder.config(name), text);
    put("root-key", &format!("{}\n", secrets.root_key))?;
    put("platform-token", &format!("{}\n", secrets.platform_token))?;
    put("control-credentials.toml", &toml::to_string(&secrets.control)?)?;
    put("principals.toml", &toml::to_string(&principals(secrets, places)?)?)?;
    put("kms.toml", &toml::to_string(&kms(folder, ports, places, args))?)?;
    put("control.toml", &toml::to_string(&control(folder, ports, places, args))?)?;
    for place in places {
        let (token, key) = secrets.node(*place)?;
        let (node_name, hold_name) = (Role::Node(*place).name(), Role::Hold(*place).name());
        put(&format!("{node_name}-token"), &format!("{token}\n"))?;
        put(&format!("{node_name}-credentials.toml"), &toml::to_string(key)?)?;
        let node = node(folder, ports, *place, places, args);
        put(&format!("{node_name}.toml"), &toml::to_string(&node)?)?;
        put(&format!("{hold_name}.toml"), &toml::to_string(&hold(folder, secrets, *place))?)?;
    }
    Ok(())
}

fn kms(folder: &Folder, ports: &Ports, places: &[Place], args: &DevRun) -> serde_json::Value {
    json!({
        "listen": ports.kms,
        "data": folder.root.join("kms"),
        "regions": places.iter().map(|p| p.region()).collect::<Vec<_>>(),
        "principals": folder.config("principals.toml"),
        "insecure_plain_root_key": folder.config("root-key"),
        "arena": args.arena,
        "insecure_swap": args.insecure_swap,
        "hosts": args.kms_host,
        "insecure_scheduler_ahead": super::kms_clock::file(&folder.root),
    })
}

fn control(folder: &Folder, ports: &Ports, places: &[Place], args: &DevRun) -> serde_json::Value {
    let node = |place: &Place| {
        json!({
            "region": place.region(),
            "name": format!("node-{}", place.region()),
            "user_arn": node_user(*place),
            "token_file": folder.config(&format!("{}-token", Role::Node(*place).name())),
        })
    };
    json!({
        "listen": ports.control,
        "data": folder.root.join("control"),
        "provider_account": PROVIDER,
        "aws_endpoint": format!("http://{}", ports.kms),
        "credentials": folder.config("control-credentials.toml"),
        "platform_token": folder.config("platform-token"),
        "evict_after": args.evict_after,
        "node": places.iter().map(node).collect::<Vec<_>>(),
    })
}

/// An orderly stop detaches the volumes; a crash leaves them with the holder. One KMS serves every
/// Region here, which it tells by the signature; elsewhere each has its own address.
fn node(
    folder: &Folder,
    ports: &Ports,
    place: Place,
    places: &[Place],
    args: &DevRun,
) -> serde_json::Value {
    let name = Role::Node(place).name();
    let s3 = match place {
        Place::First => Some(ports.s3),
        Place::Second => ports.second_s3,
    };
    let kms = |p: &Place| (p.region().to_owned(), json!(format!("http://{}", ports.kms)));
    json!({
        "region": place.region(),
        "name": format!("node-{}", place.region()),
        "data": folder.root.join("node").join(place.region()),
        "control_url": format!("http://{}", ports.control),
        "control_token": folder.config(&format!("{name}-token")),
        "hold_socket": holder_socket(folder, place),
        "credentials": folder.config(&format!("{name}-credentials.toml")),
        "user_arn": node_user(place),
        "arena": args.arena,
        "insecure_swap": args.insecure_swap,
        "detach_on_stop": true,
        "s3": { "listen": s3 },
        "kms": places.iter().map(kms).collect::<serde_json::Map<_, _>>(),
    })
}

fn hold(folder: &Folder, secrets: &Secrets, place: Place) -> serde_json::Value {
    json!({
        "socket": holder_socket(folder, place),
        "data": folder.root.join(Role::Hold(place).name()),
        "cgroup_prefix": format!("{}{}", cgroup_prefix(secrets), place.suffix()),
    })
}

/// Where a Region's holder listens.
pub(super) fn holder_socket(folder: &Folder, place: Place) -> PathBuf {
    folder.run(&format!("{}.sock", Role::Hold(place).name()))
}

/// Tells the cgroups of this folder from another's.
pub(crate) fn cgroup_prefix(secrets: &Secrets) -> String {
    format!("keystead-{}", secrets.instance)
}

fn node_user(place: Place) -> String {
    format!("arn:aws:iam::{PROVIDER}:user/keystead-node-{}", place.region())
}

/// Accounts and users that KMS starts with.
fn principals(secrets: &Secrets, places: &[Place]) -> Result<serde_json::Value> {
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
    let mut provider = vec![
        user("administrator", &secrets.provider, &administrator),
        user("keystead-control", &secrets.control, &control),
    ];
    for place in places {
        let (_, key) = secrets.node(*place)?;
        provider.push(user(&format!("keystead-node-{}", place.region()), key, &node));
    }
    Ok(json!({ "account": [
        { "id": PROVIDER, "name": "provider", "user": provider },
        { "id": CUSTOMER, "name": "customer", "user": [
            user("administrator", &secrets.customer, &administrator),
        ]},
    ]}))
}

fn user(name: &str, key: &AccessKey, statements: &serde_json::Value) -> serde_json::Value {
    json!({
        "name": name,
        "access_key_id": key.access_key_id,
        "secret_access_key": key.secret_access_key,
        "policy": json!({ "Version": "2012-10-17", "Statement": statements }).to_string(),
    })
}
