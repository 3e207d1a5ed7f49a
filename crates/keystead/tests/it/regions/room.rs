//! No room in the backup Region: the primary goes on, and what did not fit arrives when it does.

use super::{Keys, Pair, SECOND, count, sealed};
use crate::objects::text;
use crate::proofs::fragile::Disk;
use crate::world::{Alone, WorldOptions};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// What is left when the disk is full: less than an object.
const LEFT: u64 = 2 << 20;
const OBJECT: usize = 6 << 20;

/// Takes all room but what is left; gives it back when it is dropped.
struct Filler(std::path::PathBuf);

impl Filler {
    fn lay(folder: &Path) -> Self {
        let path = folder.join("filler");
        let file = File::create(&path).expect("the filler");
        // ext4 keeps some back: what there is to take is what it gives.
        let mut taken = 0;
        for step in [64 << 20, 1 << 20, 64 << 10] {
            while fallocate(&file, FallocateFlags::empty(), taken, step).is_ok() {
                taken += step;
            }
        }
        file.set_len(taken - LEFT).expect("it is given back");
        Self(path)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn objects_wait_for_room_in_the_backup_region() {
    // Before the disk: other Worlds would take its loop device for theirs.
    let alone = Alone::take();
    let disk = Disk::new();
    let elsewhere = vec![("node/eu-west-1/objects", disk.folder())];
    let options = WorldOptions { elsewhere, ..WorldOptions::default() };
    let pair = Pair::start_with(alone, options, "room", Keys::Replicas, "any");
    let users = pair.users("writer");
    let [here, there] = &users;
    pair.documents(&users);
    let body = text(OBJECT);
    let whole = |path: &str| {
        let reply = there.call("GET", path, "", b"").expect("answered");
        assert!(reply.status != 200 || reply.body == body, "{path} is half visible");
        reply.status
    };
    let arrived = |path: &str| {
        pair.until(path, Duration::from_secs(30), || (whole(path) == 200).then_some(()));
    };
    for round in 0..count(1, 5) {
        let first = format!("/documents/{round}-first");
        here.ok("PUT", &first, "", &body);
        arrived(&first);
        let full = Filler::lay(disk.folder().parent().expect("the disk"));
        let paths: Vec<_> = (0..4).map(|n| format!("/documents/{round}-{n}")).collect();
        for path in &paths {
            here.ok("PUT", path, "", &body);
        }
        let told = pair.until("it says why", Duration::from_secs(10), || {
            let told = pair.replication();
            let message = told["message"].as_str().unwrap_or_default();
            message.contains("the other Region's disk is full").then_some(told)
        });
        assert!(told["pending"].as_u64().is_some_and(|n| n > 0), "{told}");
        let why = pair.view().to_string();
        assert!(why.contains("the other Region's disk is full"), "{why}");
        // What is there is read on, what is not is not there, and nothing is left of the attempts.
        arrived(&first);
        let waiting: Vec<_> = paths.iter().filter(|path| whole(path) == 404).collect();
        assert_eq!(waiting.len(), paths.len(), "they do not fit");
        let attempts = pair.folder(SECOND).join("incoming");
        pair.until("the attempts are cleared", Duration::from_secs(5), || {
            (std::fs::read_dir(&attempts).map_or(0, Iterator::count) == 0).then_some(())
        });
        drop(full);
        paths.iter().for_each(|path| arrived(path));
        pair.until("nothing waits", Duration::from_secs(5), || {
            let told = pair.replication();
            (told["pending"] == 0 && told["message"].is_null()).then_some(())
        });
    }
    let files = sealed::same(&pair);
    eprintln!(
        "FIGURE regions: no room in the backup Region: 0 lost, 0 half visible, {files} files equal"
    );
    pair.stage.world.stop();
}
