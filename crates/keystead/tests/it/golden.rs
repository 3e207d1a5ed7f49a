//! Help and error texts, held against files. KEYSTEAD_BLESS=1 writes them anew.

use std::process::Command;

fn golden(name: &str, args: &[&str], success: bool) {
    let out = Command::new(env!("CARGO_BIN_EXE_keystead"))
        .args(args)
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("COLUMNS", "100")
        .envs((name == "no-api.txt").then_some(("KEYSTEAD_TOKEN", "ks_x")))
        .output()
        .expect("the binary runs");
    assert_eq!(out.status.success(), success, "{args:?}");
    let text = format!(
        "$ keystead {}\n{}{}",
        args.join(" "),
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    let path = crate::repository("crates/keystead/tests/it/golden").join(name);
    if std::env::var_os("KEYSTEAD_BLESS").is_some() {
        std::fs::write(&path, &text).expect("the golden file is writable");
    }
    let wanted = std::fs::read_to_string(&path).expect("the golden file is there");
    assert_eq!(text, wanted, "{args:?} answers otherwise than {}", path.display());
}

#[test]
fn help_says_what_can_be_asked() {
    golden("help.txt", &["--help"], true);
    golden("dev-help.txt", &["dev", "--help"], true);
    golden("cluster-help.txt", &["cluster", "--help"], true);
    golden("tail-help.txt", &["audit", "tail", "--help"], true);
    golden("doctor-help.txt", &["doctor", "--help"], true);
    golden("associate-help.txt", &["cluster", "associate", "--help"], true);
}

#[test]
fn errors_say_what_why_and_fix() {
    golden("no-token.txt", &["cluster", "list"], false);
    golden("no-trail.txt", &["audit", "verify", "--dir", "/nonexistent"], false);
    golden("no-tail.txt", &["audit", "tail", "--dir", "/nonexistent", "--key", "x"], false);
    golden("no-api.txt", &["cluster", "list", "--api", "nonsense"], false);
    golden("no-stop.txt", &["dev", "stop", "--data", "/usr"], false);
    golden("no-clean.txt", &["dev", "clean", "--data", "/usr"], false);
}
