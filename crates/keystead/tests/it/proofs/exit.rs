//! Taking the data out by stock tools, as docs/exit.md says: its blocks are run as they stand.

use super::keys;
use crate::joint::load::connect;
use crate::joint::stage::{REGION, Stage};
use crate::world::{World, WorldOptions};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;

const PAGE: &str = "docs/exit.md";

/// The page's shell blocks of volumes, and those of objects, each in order.
pub(crate) fn blocks() -> [Vec<String>; 2] {
    let text = std::fs::read_to_string(crate::repository(PAGE)).expect("docs/exit.md");
    let (volumes, objects) = text.split_once("## Objects").expect("both");
    [volumes, objects].map(shell_blocks)
}

fn shell_blocks(text: &str) -> Vec<String> {
    let blocks = text.split("```sh\n").skip(1);
    blocks.map(|b| b.split("\n```").next().expect("an end").to_owned() + "\n").collect()
}

pub(crate) fn shell(folder: &Path, script: &str, env: &[(&str, &str)]) -> String {
    let out = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(folder)
        .envs(env.iter().copied())
        .output()
        .expect("bash runs");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success(),
        "{script}: {}\n{text}{}",
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
    text
}

/// The holes of the payload, one `from to` a line.
fn holes(image: &Path) -> String {
    use rustix::fs::{SeekFrom, seek};
    let file = std::fs::File::open(image).expect("the image");
    let end = file.metadata().expect("its size").len();
    let (mut at, mut text) = (16 << 20, String::new());
    while at < end {
        let hole = seek(file.as_fd(), SeekFrom::Hole(at)).expect("a hole, or the end");
        if hole >= end {
            break;
        }
        at = seek(file.as_fd(), SeekFrom::Data(hole)).unwrap_or(end);
        text.push_str(&format!("{hole} {at}\n"));
    }
    text
}

#[test]
fn stock_tools_open_a_volume_with_the_owners_key() {
    let stage = Stage::new(World::start(WorldOptions::default()));
    let cluster = stage.cluster("leaving");
    let mark = "KEYSTEAD-EXIT-MARK";
    connect(&cluster.postgres)
        .batch_execute(&format!(
            "create table marks as select '{mark}' || n as t from generate_series(1, 1000) n; checkpoint;"
        ))
        .expect("written");
    let view = stage.view(&cluster.name);
    let volumes = view["volumes"].as_array().expect("volumes");
    let volume = volumes.iter().find(|v| v["disk"] == "orchestration").expect("the first disk");
    let volume = volume["volume"].as_str().expect("an id").to_owned();
    let image = keys::image(&stage, &volume);
    let folder = tempfile::tempdir().expect("a folder");
    let aws = std::path::PathBuf::from(keys::aws());
    let path = format!(
        "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        aws.parent().expect("a folder").display()
    );
    let [volumes, _] = blocks();
    let [passphrase, test, files] = <[String; 3]>::try_from(volumes).expect("three blocks");
    let endpoint = stage.world.env("KEYSTEAD_AWS_ENDPOINT").to_owned();
    let owner = [
        ("PATH", path.as_str()),
        ("IMAGE", image.to_str().expect("text")),
        ("AWS_ENDPOINT_URL", &endpoint),
        ("AWS_ACCESS_KEY_ID", &stage.owner.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", &stage.owner.secret),
        ("AWS_DEFAULT_REGION", REGION),
    ];
    shell(folder.path(), &passphrase, &owner);
    assert_eq!(std::fs::metadata(folder.path().join("passphrase")).expect("there").len(), 64);
    let said = std::fs::read_to_string(folder.path().join("key_arn")).expect("there");
    assert_eq!(said.trim(), cluster.key_arn);
    // The image as it lies after an orderly stop, with Keystead gone.
    let copy = folder.path().join("image");
    stage.world.stop_and_look(|| {
        let done = Command::new("cp").arg("--sparse=always").arg(&image).arg(&copy).status();
        assert!(done.expect("cp runs").success());
    });
    let copied = [("PATH", path.as_str()), ("IMAGE", copy.to_str().expect("text"))];
    let dump = shell(folder.path(), &test, &copied);
    assert!(dump.contains("aes-xts-plain64"), "{dump}");
    std::fs::write(folder.path().join("holes"), holes(&copy)).expect("written");
    let bytes = std::fs::metadata(&copy).expect("there").len();
    let script = format!(
        "#!/bin/bash\nset -e\nexport IMAGE=/dev/vda HOLES=holes IMAGE_BYTES={bytes}\nmodprobe dm_crypt\nmkdir /tmp/w; cp passphrase holes /tmp/w/; cd /tmp/w\n{files}\ncat files/postgres/PG_VERSION\ngrep -rohac '{mark}1000' files/postgres/base | sort -n | tail -1\numount files; cryptsetup close exit\n"
    );
    let guest = folder.path().join("guest");
    std::fs::write(&guest, script).expect("written");
    let out = Command::new(crate::boot_vm())
        .arg(folder.path())
        .arg(&guest)
        .env("VM_DISKS", &copy)
        .output()
        .expect("the rig starts");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
    let lines: Vec<&str> = text.lines().rev().take(2).collect();
    assert_eq!(lines, ["1", "15"], "{text}");
    eprintln!("FIGURE exit: stock cryptsetup and mount in a VM read the files of the volume");
}
