//! `keystead key`: the owner's hand on every key of a cluster. Each key is called in its own Region
//! as the owner; one that fails keeps nobody from the next.

use super::aws::{Call, Wire, refusal};
use super::{client, json, or_dash, table};
use crate::cli::{KeyArgs, KeyCommand, KeyOf};
use crate::failure::{Failure, render};
use anyhow::Result;
use keystead_types::KeyArn;
use serde::Serialize;
use std::process::ExitCode;
use std::sync::Arc;

/// What became of one key.
#[derive(Serialize)]
struct Outcome {
    region: String,
    key: KeyArn,
    done: bool,
    /// What KMS said, or why it was not asked.
    error: Option<String>,
}

/// Runs it.
pub(crate) async fn run(args: KeyArgs) -> Result<ExitCode> {
    let (operation, word, of) = match args.command {
        KeyCommand::Disable(of) => ("DisableKey", "disabled", of),
        KeyCommand::Enable(of) => ("EnableKey", "enabled", of),
    };
    let keys = keys(&of).await?;
    let wire = Wire::of_kms(|name| std::env::var(name).ok()).ok_or_else(|| {
        Failure::new("the key owner's credentials are not set")
            .why("keys are changed by their owner alone, as himself")
            .fix(
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_ENDPOINT_URL, unless the keys lie at AWS), or source the file that `keystead dev --env FILE` wrote",
            )
    })?;
    let outcomes = each(&Arc::new(wire), operation, keys).await;
    let whole = outcomes.iter().all(|o| o.done);
    if of.format.json {
        json(&outcomes)?;
    } else {
        let row = |o: &Outcome| {
            let word = if o.done { word } else { "FAILED" };
            [o.region.clone(), word.to_owned(), o.key.to_string(), or_dash(o.error.as_ref())]
        };
        table(["REGION", "RESULT", "KEY", "ERROR"], outcomes.iter().map(row).collect());
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tries them all at the same time: a KMS that hangs must not hold up the next.
async fn each(wire: &Arc<Wire>, operation: &'static str, keys: Vec<KeyArn>) -> Vec<Outcome> {
    let ask = |key: KeyArn| {
        let wire = wire.clone();
        tokio::spawn(async move {
            let error = change(&wire, operation, &key).await.err();
            let region = key.region().to_string();
            Outcome { region, key, done: error.is_none(), error }
        })
    };
    let asked: Vec<_> = keys.into_iter().map(ask).collect();
    let mut outcomes = Vec::new();
    for one in asked {
        match one.await {
            Ok(outcome) => outcomes.push(outcome),
            Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
        }
    }
    outcomes
}

/// Named, or those that control has on record.
async fn keys(of: &KeyOf) -> Result<Vec<KeyArn>> {
    let Some(name) = &of.cluster else {
        let parse = |text: &String| {
            text.parse().map_err(|e| {
                Failure::new(format!("`{text}` is no key ARN")).why(format!("{e}")).into()
            })
        };
        return of.key_arns.iter().map(parse).collect();
    };
    let found = client(&of.api)?.cluster(name).await?.key_arns;
    if found.is_empty() {
        return Err(Failure::new(format!("{name} has no key yet"))
            .fix(format!("keystead cluster associate {name} --key-arn ARN"))
            .into());
    }
    Ok(found)
}

async fn change(wire: &Wire, operation: &str, key: &KeyArn) -> Result<(), String> {
    let target = format!("TrentService.{operation}");
    let call = Call {
        service: "kms",
        region: key.region().as_str(),
        target: &target,
        content_type: "application/x-amz-json-1.1",
        fix: "correct KEYSTEAD_AWS_ENDPOINT or AWS_ENDPOINT_URL",
    };
    let ask = serde_json::json!({ "KeyId": key });
    match wire.call(&call, &ask).await {
        Ok((status, _)) if status.is_success() => Ok(()),
        Ok((status, answer)) => Err(format!("{} ({})", refusal(&answer), status.as_u16())),
        Err(error) => Err(render(&error).trim_start_matches("error: ").trim().replace('\n', ";")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpListener};

    /// A KMS that refuses in one Region; answers what each call was.
    fn kms(
        refuses: &'static str,
        calls: usize,
    ) -> (SocketAddr, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let served = std::thread::spawn(move || {
            let one = |_| {
                let (mut stream, _) = listener.accept().expect("a call");
                let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
                let (mut length, mut said) = (0, String::new());
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).expect("a header");
                    let line = line.trim().to_ascii_lowercase();
                    if line.is_empty() {
                        break;
                    }
                    if let Some(value) = line.strip_prefix("content-length: ") {
                        length = value.parse().expect("a length");
                    }
                    if line.starts_with("x-amz-target") || line.starts_with("authorization") {
                        said.push_str(&line);
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("a body");
                said.push_str(&String::from_utf8_lossy(&body));
                let no = "{\"__type\":\"AccessDeniedException\",\"message\":\"not you\"}";
                let (status, body) =
                    if said.contains(refuses) { ("400 Bad Request", no) } else { ("200 OK", "{}") };
                let length = body.len();
                write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
                    .expect("an answer");
                said
            };
            (0..calls).map(one).collect()
        });
        (address, served)
    }

    fn arn(region: &str) -> KeyArn {
        format!("arn:aws:kms:{region}:111122223333:key/1234abcd-12ab-34cd-56ef-123456789001")
            .parse()
            .expect("a key ARN")
    }

    #[test]
    fn each_key_is_called_in_its_region_whatever_became_of_the_one_before() {
        let (address, served) = kms("eu-central-1/kms", 2);
        let wire = Wire::of_kms(|name| match name {
            "AWS_ENDPOINT_URL" => Some(format!("http://{address}")),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("x".to_owned()),
            _ => None,
        })
        .expect("a wire");
        let wire = Arc::new(wire);
        let keys = vec![arn("eu-central-1"), arn("eu-west-1")];
        let outcomes =
            super::super::on_runtime(async { Ok(each(&wire, "DisableKey", keys.clone()).await) })
                .expect("outcomes");
        let done: Vec<_> = outcomes.iter().map(|o| (o.region.as_str(), o.done)).collect();
        assert_eq!(done, [("eu-central-1", false), ("eu-west-1", true)]);
        assert_eq!(outcomes[0].error.as_deref(), Some("AccessDeniedException: not you (400)"));
        let calls = served.join().expect("the server");
        for (call, key) in calls.iter().zip(&keys) {
            assert!(call.contains("trentservice.disablekey"), "{call}");
            assert!(call.contains(&format!("{}/kms", key.region())), "{call}");
            assert!(call.contains(&key.to_string()), "{call}");
        }
        // Nobody listens any more.
        let outcomes = super::super::on_runtime(async { Ok(each(&wire, "EnableKey", keys).await) })
            .expect("outcomes");
        assert!(outcomes.iter().all(|o| !o.done), "silence is no success");
        let said = outcomes[1].error.as_deref().expect("an error");
        assert!(said.contains("does not answer"), "{said}");
    }
}
