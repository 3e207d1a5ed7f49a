//! The stock client: `compat/kms_boto3.py` calls every operation, each also with a wrong secret.

use crate::rig::{CUSTOMER, OPERATOR, OWNER, PROVIDER, Rig, user};
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn boto3_calls_every_operation_and_a_wrong_secret_none() {
    let python = std::env::var("KEYSTEAD_PYTHON").unwrap_or_else(|_| {
        let home = std::env::var("HOME").expect("HOME");
        format!("{home}/.cache/keystead-venv/bin/python")
    });
    assert!(
        std::path::Path::new(&python).exists(),
        "{python} is missing: `cargo xtask test` installs it"
    );
    let rig = Rig::new().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../compat/kms_boto3.py");
    let mut command = Command::new(python);
    command.arg(script).env("ENDPOINT", format!("http://{}", rig.at));
    for (name, n, account) in [("OWNER", OWNER, CUSTOMER), ("OPERATOR", OPERATOR, PROVIDER)] {
        let key = user(n);
        command
            .env(format!("{name}_ID"), key.id)
            .env(format!("{name}_SECRET"), key.secret)
            .env(format!("{name}_ACCOUNT"), account);
    }
    let ran = tokio::task::block_in_place(|| command.output()).expect("python runs");
    let out = String::from_utf8_lossy(&ran.stdout);
    let err = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{out}\n{err}");
    assert!(out.contains("45 operations"), "{out}");
}
