//! Which crate may import which, and which may hold a crypto library: the table of DESIGN
//! section 4. Read from the manifests; sources are searched for ways around them.

use crate::proc;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Folder, and the folders it may import.
const ARROWS: [(&str, &[&str]); 11] = [
    ("fuzzing", &[]),
    ("listen", &[]),
    ("types", &[]),
    ("envelope", &["types", "fuzzing"]),
    ("aws", &["types", "fuzzing"]),
    ("kms", &["types", "envelope", "aws", "listen"]),
    ("objects", &["types", "envelope", "aws", "listen"]),
    ("volumes", &["types", "envelope", "fuzzing"]),
    ("node", &["types", "envelope", "aws", "objects", "volumes"]),
    ("control", &["types", "aws", "listen"]),
    ("keystead", &["types", "envelope", "aws", "kms", "objects", "volumes", "node", "control"]),
];

/// What no product may hold: a dev-dependency at most.
const TESTS_ONLY: [&str; 1] = ["fuzzing"];

/// Crypto library, and who may hold it. AEAD, XTS and data-key derivation are envelope's; aws has
/// SHA-256, HMAC and signatures for SigV4 and the trail; kms signs the trail; control hashes
/// tokens; objects has the checksums of S3 (SHA-1, SHA-256, and MD5 for Content-MD5).
const CRYPTO: [(&str, &[&str]); 11] = [
    ("aws-lc-rs", &["envelope", "aws", "kms", "objects", "control"]),
    ("aws-lc-sys", &["envelope"]),
    ("argon2", &["envelope"]),
    ("aes", &["envelope"]),
    ("xts-mode", &["envelope"]),
    ("aes-gcm", &[]),
    ("chacha20poly1305", &[]),
    ("hkdf", &[]),
    ("sha2", &[]),
    ("hmac", &[]),
    ("md-5", &["objects"]),
];

/// What a pure crate must not import.
const PURE: [(&str, &[&str]); 5] = [
    ("types", &["tokio", "reqwest", "hyper", "rustix", "libc"]),
    ("envelope", &["tokio", "reqwest", "hyper", "sqlx", "redb"]),
    ("aws", &["tokio", "reqwest", "hyper", "aws-sdk-kms", "rustix", "libc"]),
    ("objects", &["reqwest", "aws-sdk-kms", "aws-sdk-sts"]),
    ("volumes", &["tokio", "reqwest", "hyper", "aws-sdk-kms"]),
];

/// The words of AEAD, XTS and key derivation in aws-lc-rs: envelope alone says them.
const SEALED_WORDS: [&str; 4] =
    ["aws_lc_rs::aead", "aws_lc_rs::cipher", "aws_lc_rs::hkdf", "aws_lc_rs::kdf"];

/// Fails with every breach.
pub(crate) fn run() -> Result<()> {
    let root = proc::root();
    let mut breaches = Vec::new();
    for entry in fs::read_dir(root.join("crates"))? {
        let folder = entry?.file_name().to_string_lossy().into_owned();
        let manifest: toml::Table =
            fs::read_to_string(root.join("crates").join(&folder).join("Cargo.toml"))
                .with_context(|| format!("read the manifest of {folder}"))?
                .parse()?;
        breaches.extend(manifest_breaches(&folder, &manifest));
        for file in sources(&root.join("crates").join(&folder).join("src"))? {
            let text = fs::read_to_string(&file)?;
            breaches.extend(source_breaches(&folder, &file, &text));
        }
    }
    breaches.extend(outside(&root)?);
    if !breaches.is_empty() {
        bail!("{} breaches:\n  {}", breaches.len(), breaches.join("\n  "));
    }
    println!("walls stand");
    Ok(())
}

fn manifest_breaches(folder: &str, manifest: &toml::Table) -> Vec<String> {
    let Some((_, may)) = ARROWS.iter().find(|(name, _)| *name == folder) else {
        return vec![format!("{folder}: no row in the table of xtask/src/walls.rs")];
    };
    let mut breaches = Vec::new();
    let tables = ["dependencies", "build-dependencies", "dev-dependencies"];
    for table in tables {
        let names = manifest.get(table).and_then(toml::Value::as_table);
        for name in names.into_iter().flat_map(|t| t.keys()) {
            if let Some(ours) = name.strip_prefix("keystead-")
                && (!may.contains(&ours)
                    || (table != "dev-dependencies" && TESTS_ONLY.contains(&ours)))
            {
                breaches.push(format!("{folder} imports {ours}"));
            }
            if let Some((_, holders)) = CRYPTO.iter().find(|(c, _)| c == name)
                && !holders.contains(&folder)
            {
                breaches.push(format!("{folder} holds the crypto library {name}"));
            }
            let pure = PURE.iter().find(|(p, _)| *p == folder).map_or(&[][..], |(_, no)| no);
            if table == "dependencies" && pure.contains(&name.as_str()) {
                breaches.push(format!("{folder} is behind a wall and imports {name}"));
            }
        }
    }
    breaches
}

fn source_breaches(folder: &str, file: &Path, text: &str) -> Vec<String> {
    if folder == "envelope" {
        return Vec::new();
    }
    let says = |word: &&&str| text.contains(**word);
    SEALED_WORDS.iter().filter(says).map(|w| format!("{}: {w}", file.display())).collect()
}

/// Nothing in the repository reads what lies beside it.
fn outside(root: &Path) -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    // In two parts, so that this file does not find itself.
    let words = [concat!("..", "/shared"), concat!("/work", "/shared")];
    for folder in ["crates", "xtask", ".ci", "compat"] {
        for file in sources(&root.join(folder))? {
            let Ok(text) = fs::read_to_string(&file) else { continue };
            if words.iter().any(|w| text.contains(w)) {
                breaches.push(format!("{} reads outside the repository", file.display()));
            }
        }
    }
    Ok(breaches)
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let Ok(entries) = fs::read_dir(&next) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn an_arrow_up_and_a_stray_cipher_are_breaches() {
        let manifest =
            "[dependencies]\nkeystead-node.workspace = true\naes = \"0.9\"\ntokio = \"1\""
                .parse()
                .expect("TOML");
        assert_eq!(manifest_breaches("aws", &manifest).len(), 3);
        assert_eq!(manifest_breaches("unknown", &manifest).len(), 1);
        let fuzzing = |table| {
            let text = format!("[{table}]\nkeystead-fuzzing.workspace = true");
            manifest_breaches("aws", &text.parse().expect("TOML")).len()
        };
        assert_eq!((fuzzing("dependencies"), fuzzing("dev-dependencies")), (1, 0));
        let source = format!("use {};", SEALED_WORDS[0]);
        assert_eq!(source_breaches("kms", Path::new("x.rs"), &source).len(), 1);
        assert!(source_breaches("envelope", Path::new("x.rs"), &source).is_empty());
    }
}
