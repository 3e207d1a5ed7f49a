//! Nothing of what PostgreSQL, S3 and documents were told reaches the disk in clear.

use crate::joint::load::connect;
use crate::joint::stage::{Cluster, Stage};
use crate::objects::access_key;
use crate::world::{Alone, World, WorldOptions};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// An ext4 of its own on a sparse file, so that all that was written can be searched raw.
struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    fn new() -> Self {
        let base = std::env::temp_dir().join(format!("kst-{}-disk", std::process::id()));
        let (image, mount) = (base.with_extension("img"), base.with_extension("mnt"));
        let file = File::create(&image).expect("the image");
        file.set_len(8 << 30).expect("8 GiB, sparse");
        std::fs::create_dir_all(&mount).expect("a folder");
        let disk = Self { image, mount };
        run(Command::new("/usr/sbin/mkfs.ext4").args(["-q", "-F"]).arg(&disk.image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&disk.image).arg(&disk.mount));
        disk
    }

    fn unmount(&self) {
        run(Command::new("umount").arg(&self.mount));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.mount).output();
        let _ = std::fs::remove_file(&self.image);
        let _ = std::fs::remove_dir(&self.mount);
    }
}

fn run(command: &mut Command) {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// True when one of the marks stands in the file; holes are skipped.
fn contains(path: &Path, marks: &[String]) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    let longest = marks.iter().map(String::len).max().unwrap_or(1);
    let mut buffer = vec![0; 4 << 20];
    let mut at = 0;
    loop {
        match rustix::fs::seek(file.as_fd(), rustix::fs::SeekFrom::Data(at)) {
            Ok(next) => at = next,
            // No data after this, or a file system that knows no holes.
            Err(rustix::io::Errno::NXIO) => return false,
            Err(_) => {}
        }
        if file.seek(SeekFrom::Start(at)).is_err() {
            return false;
        }
        let mut got = 0;
        while got < buffer.len() {
            match file.read(&mut buffer[got..]) {
                Ok(0) | Err(_) => break,
                Ok(n) => got += n,
            }
        }
        let found = |mark: &String| buffer[..got].windows(mark.len()).any(|w| w == mark.as_bytes());
        if marks.iter().any(found) {
            return true;
        }
        if got <= longest {
            return false;
        }
        at += (got - longest) as u64;
    }
}

/// Files of the root file system that changed since `start`.
fn changed(folder: &Path, device: u64, start: SystemTime, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(meta) = entry.path().symlink_metadata() else { continue };
        if meta.dev() != device {
            continue;
        }
        if meta.is_dir() {
            changed(&entry.path(), device, start, found);
        } else if meta.is_file() && meta.modified().is_ok_and(|at| at >= start) {
            found.push(entry.path());
        }
    }
}

/// An object of S3 and a document, each got again; answers the marks of their bodies, names and metadata.
fn store(stage: &Stage, cluster: &Cluster, mark: &dyn Fn(&str) -> String) -> Vec<String> {
    let [object, body, name, metadata] = ["object", "body", "file-name", "metadata"].map(mark);
    let user = access_key(stage, cluster, "writer");
    // More than a frame, so that whole ones are written while the next is on its way.
    let sent = object.repeat(4000);
    user.ok("PUT", "/documents/marked", "", sent.as_bytes());
    assert!(user.ok("GET", "/documents/marked", "", b"").body == sent.as_bytes(), "other bytes");
    // The client's own copy is in memory: on a disk it would be found, rightly.
    let mut file = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file in memory");
    file.write_all(body.repeat(4000).as_bytes()).expect("written");
    let path = file.path().display().to_string();
    let meta = format!("said={metadata}");
    let put = ["doc", "put", &cluster.name, &path, "--name", &name, "--meta", &meta];
    let id = stage.world.cli_ok(&put);
    let listed = stage.world.cli_json(&["doc", "list", &cluster.name, "--json"]);
    let shown = &listed.as_array().expect("a list")[0];
    assert_eq!(
        (&shown["name"], &shown["metadata"]["said"]),
        (&name.clone().into(), &metadata.clone().into())
    );
    let got = stage.world.cli_ok(&["doc", "get", &cluster.name, id.trim(), "--output", "-"]);
    assert!(got == body.repeat(4000), "another document");
    vec![object, body, name, metadata]
}

#[test]
#[allow(clippy::disallowed_methods)] // compared with the times of files
fn a_marker_given_to_postgres_or_to_s3_is_nowhere_in_clear() {
    let start = SystemTime::now();
    // Its loop device must not be taken for another World's.
    let alone = Alone::take();
    let disk = Disk::new();
    let options = WorldOptions { folder: Some(disk.mount.clone()), ..WorldOptions::default() };
    let stage = Stage::new(World::start_alone(alone, options, |_| {}));
    let cluster = stage.cluster("sealed");
    let unique = uuid_like();
    let mark = |kind: &str| format!("KEYSTEAD-MARK-{kind}-{unique}");
    let (row, failing, temporary, clear) =
        (mark("row"), mark("failing"), mark("temporary"), mark("clear"));
    let mut client = connect(&cluster.postgres);
    client
        .batch_execute(&format!(
            "create table marks (t text); insert into marks select '{row}' from generate_series(1, 5000);
             create temporary table temporary_marks as select '{temporary}' as t from generate_series(1, 5000);
             checkpoint;"
        ))
        .expect("they are written");
    let failed = client.batch_execute(&format!("select 1/0 /* {failing} */"));
    assert!(failed.is_err());
    // A sort that spills to files.
    client
        .batch_execute("set work_mem = '64kB'; select count(*) from (select t from marks order by t || random()::text) s;")
        .expect("it sorts");
    drop(client);
    let stored = store(&stage, &cluster, &mark);
    std::fs::write(disk.mount.join("clear.txt"), &clear).expect("the control is written");
    let secret = [vec![row, failing, temporary], stored].concat();
    let mut files = Vec::new();
    let root = std::fs::metadata("/").expect("/").dev();
    changed(Path::new("/"), root, start, &mut files);
    let own = disk.image.clone();
    for file in files.iter().filter(|file| **file != own) {
        assert!(!contains(file, &secret), "a marker stands in {}", file.display());
    }
    stage.world.stop();
    disk.unmount();
    assert!(contains(&disk.image, &[clear]), "the search misses what is written in clear");
    assert!(!contains(&disk.image, &secret), "a marker stands on the disk in clear");
    eprintln!(
        "FIGURE disk: the raw disk and {} files changed since the start searched, no marker",
        files.len()
    );
}

fn uuid_like() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("randomness").trim().to_owned()
}
