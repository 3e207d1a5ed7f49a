use crate::rig::{Aligned, Real, Rig, absent, inside, run, wait_until};
use keystead_types::Clock;
use keystead_volumes::sys;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::Command;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// Reads past the page cache: from the volume, not from memory.
fn read_direct(path: &std::path::Path) -> Vec<u8> {
    let file = File::open(path).expect("opens");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("drops the cache");
    let mut bytes = Vec::new();
    (&file).read_to_end(&mut bytes).expect("reads");
    bytes
}

#[test]
fn ext4_on_a_volume_reads_back_and_the_image_holds_no_plaintext() {
    if !inside("kernel::ext4_on_a_volume_reads_back_and_the_image_holds_no_plaintext") {
        return;
    }
    let mut rig = Rig::new(64 * MIB);
    rig.serve();
    rig.attach();
    rig.make_fs();
    let text = b"the tenant's own words. ".repeat(200_000);
    let path = rig.mount.join("file");
    let mut file = File::create(&path).expect("creates");
    file.write_all(&text).expect("writes");
    file.sync_all().expect("fsyncs");
    assert!(read_direct(&path) == text, "read back differs");
    assert!(absent(&rig.image, b"the tenant's own words"), "plaintext in the image");
    assert!(absent(&rig.image, b"lost+found"), "plaintext names in the image");
    assert!(rig.server().stats().flushes > 0, "fsync reaches the server");

    // A trim gives the space back.
    let allocated = || {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(&rig.image).expect("stat").blocks() * 512
    };
    let before = allocated();
    assert!(before > text.len() as u64);
    drop(file);
    fs::remove_file(&path).expect("removes");
    // ext4 frees the blocks when its journal commits.
    File::open(&rig.mount).expect("opens").sync_all().expect("fsyncs the folder");
    run(Command::new("fstrim").arg(&rig.mount));
    wait_until("the trim punches the image", || allocated() + 4 * MIB < before);
    assert!(rig.server().stats().punches > 0);
    assert_eq!(rig.server().stats().io_errors, 0);

    sys::unmount(&rig.mount).expect("unmounts");
    rig.mounted = false;
    run(Command::new("fsck.ext4").args(["-f", "-n"]).arg(&rig.device.as_ref().expect("dev").path));
    rig.finish();
}

#[test]
fn unaligned_requests_and_write_zeroes_on_the_bare_volume() {
    if !inside("kernel::unaligned_requests_and_write_zeroes_on_the_bare_volume") {
        return;
    }
    let mut rig = Rig::new(4 * MIB);
    rig.serve();
    let file = fs::OpenOptions::new().read(true).write(true).open(&rig.file).expect("opens");
    assert_eq!(file.metadata().expect("stat").len(), 4 * MIB);
    file.write_all_at(&[7; 10_000], 1_000).expect("writes");
    let mode = rustix::fs::FallocateFlags::ZERO_RANGE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, mode, 3_000, 6_000).expect("write-zeroes");
    let mut got = vec![1; 12_000];
    file.read_exact_at(&mut got, 0).expect("reads");
    for (i, b) in got.iter().enumerate() {
        let written = (1_000..11_000).contains(&i) && !(3_000..9_000).contains(&i);
        assert_eq!(*b, if written { 7 } else { 0 }, "byte {i}");
    }
    assert!(file.write_all_at(&[1; 10], 4 * MIB - 5).is_err(), "past the end");
    let mut rest = Vec::new();
    File::open(&rig.file).expect("opens").read_to_end(&mut rest).expect("reads to the end");
    assert_eq!(rest.len() as u64, 4 * MIB);
    drop(file);
    rig.finish();
}

#[test]
fn freezes_in_time_with_dirty_pages_and_thaws_without_loss() {
    if !inside("kernel::freezes_in_time_with_dirty_pages_and_thaws_without_loss") {
        return;
    }
    let mut rig = Rig::new(256 * MIB);
    rig.serve();
    let device = rig.attach().clone();
    sys::limit_dirty(&device, 16 * MIB).expect("limits");
    rig.make_fs();
    let path = rig.mount.join("file");
    let mut file = File::create(&path).expect("creates");
    for i in 0..64u8 {
        file.write_all(&vec![i; MIB as usize]).expect("writes");
    }
    let start = Instant::now();
    sys::lift_dirty(&device).expect("lifts");
    sys::freeze_fs(&rig.mount).expect("FIFREEZE");
    let closed = rig.server().close_gate(Duration::from_millis(100));
    let took = start.elapsed();
    assert!(closed.drained && closed.parked == 0, "{closed:?}");
    assert!(took < Duration::from_millis(400), "freezing took {took:?}");

    // A direct reader of the volume waits; a flush passes.
    let volume = File::open(&rig.file).expect("opens");
    volume.sync_data().expect("a flush needs no key");
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; 4096];
        tell.send(volume.read_exact_at(&mut bytes, MIB)).expect("the test waits");
    });
    wait_until("the read is parked", || rig.server().stats().parked == 1);
    assert!(told.try_recv().is_err(), "answered while closed");

    rig.server().open_gate(crate::rig::key()).expect("opens");
    told.recv_timeout(Duration::from_secs(5)).expect("un-parked").expect("no error");
    reader.join().expect("the reader");
    assert_eq!(sys::thaw_fs(&rig.mount).expect("FITHAW"), sys::Thawed::Now);
    assert_eq!(sys::thaw_fs(&rig.mount).expect("FITHAW"), sys::Thawed::Already);
    sys::limit_dirty(&device, 16 * MIB).expect("limits");
    file.write_all(b"after").expect("writes");
    file.sync_all().expect("fsyncs");
    drop(file);
    let got = read_direct(&path);
    assert!(
        (0..64usize)
            .all(|i| got[i * MIB as usize..][..MIB as usize] == vec![i as u8; MIB as usize])
    );
    assert!(got.ends_with(b"after"));
    sys::unmount(&rig.mount).expect("unmounts");
    rig.mounted = false;
    run(Command::new("fsck.ext4").args(["-f", "-n"]).arg(&device.path));
    rig.finish();
}

#[test]
fn an_abort_frees_what_a_closed_gate_holds() {
    if !inside("kernel::an_abort_frees_what_a_closed_gate_holds") {
        return;
    }
    let mut rig = Rig::new(64 * MIB);
    rig.serve();
    rig.attach();
    rig.make_fs();
    let mut file = File::create(rig.mount.join("file")).expect("creates");
    rig.server().close_gate(Duration::from_millis(100));
    let writer =
        std::thread::spawn(move || file.write_all(&[1; 100_000]).and_then(|()| file.sync_all()));
    let (mount, image) = (rig.mount.clone(), rig.image.clone());
    let freezer = std::thread::spawn(move || sys::freeze_fs(&mount));
    wait_until("writes are parked", || rig.server().stats().parked > 0);
    let connection = sys::fuse_connection(&rig.file).expect("mounted");
    sys::abort_fuse(connection, &rig.dir.path().join("fusectl")).expect("aborts");
    assert!(writer.join().expect("the writer").is_err(), "an unanswered fsync succeeded");
    let _ = freezer.join().expect("FIFREEZE returns");
    sys::thaw_fs(&rig.mount).expect("FITHAW");
    wait_until("the readers see the end", || rig.server().has_ended());
    rig.finish();
    assert!(!image.exists(), "the folder goes with the rig");
}

#[test]
fn a_successor_parks_again_what_waited_and_the_lease_alone_lets_it_go_on() {
    if !inside("kernel::a_successor_parks_again_what_waited_and_the_lease_alone_lets_it_go_on") {
        return;
    }
    const WRITERS: usize = 8;
    let mut rig = Rig::new(4 * MIB);
    rig.serve();
    // The lease ends by the clock; nobody closes the gate.
    rig.lease.publish(Some(Real.boot()));
    // Through loop, as in earnest: a synchronous writer of the bare file would hold its inode lock
    // against FSYNC while it waits.
    let path = rig.attach().path.clone();
    let open = || {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_DIRECT).open(&path).expect("opens")
    };
    let writers: Vec<_> = (0..WRITERS)
        .map(|i| {
            let file = open();
            std::thread::spawn(move || {
                let mut bytes = Aligned::new(65_536);
                bytes.get(65_536).fill(i as u8 + 1);
                file.write_all_at(bytes.get(65_536), i as u64 * 65_536)
            })
        })
        .collect();
    wait_until("every write is parked", || rig.server().stats().parked >= WRITERS);
    assert!(rig.server().is_open());
    assert_eq!(rig.server().stats().writes, 0);
    open().sync_data().expect("a flush passes");
    assert!(rig.server().stats().flushes > 0);
    let waiting = rig.server().stats().parked;

    let start = Instant::now();
    rig.server.take().expect("served").stop();
    assert!(start.elapsed() < Duration::from_secs(1), "stop took {:?}", start.elapsed());
    rig.start(true);
    wait_until("every request is parked again", || rig.server().stats().parked == waiting);
    assert_eq!(rig.server().stats().resent, waiting as u64);
    rig.server().open_gate(crate::rig::key()).expect("opens");
    assert_eq!(rig.server().stats().writes, 0, "the lease does not hold yet");
    rig.lease.publish(Some(Real.boot().plus(Duration::from_secs(3600))));
    for writer in writers {
        writer.join().expect("a writer").expect("no error because of the key");
    }
    let mut bytes = Aligned::new(65_536);
    for i in 0..WRITERS {
        let got = bytes.get(65_536);
        open().read_exact_at(got, i as u64 * 65_536).expect("reads");
        assert!(got.iter().all(|b| *b == i as u8 + 1), "block {i}");
    }
    rig.finish();
}

#[test]
fn a_full_disk_makes_writes_wait_and_nothing_is_lost_when_there_is_room() {
    if !inside("kernel::a_full_disk_makes_writes_wait_and_nothing_is_lost_when_there_is_room") {
        return;
    }
    let mut rig = Rig::new(8 * MIB);
    let small = rig.dir.path().join("small");
    fs::create_dir(&small).expect("a folder");
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "kst"]).arg(&small));
    rig.image = small.join("image");
    keystead_volumes::Image::create(&rig.image, 8 * MIB, b"no header").expect("an image");
    rig.serve();
    let text: Vec<u8> = (0..4 * MIB).map(|i| (i / 7 % 251) as u8 | 1).collect();
    let writes = [(0, text.clone()), (5 * MIB + 1_000, text[..10_000].to_vec())];
    let writers: Vec<_> = writes
        .iter()
        .cloned()
        .map(|(at, bytes)| {
            let path = rig.file.clone();
            std::thread::spawn(move || {
                let file = fs::OpenOptions::new().write(true).open(path)?;
                file.write_all_at(&bytes, at)?;
                file.sync_all()
            })
        })
        .collect();
    let full = Some(rustix::io::Errno::NOSPC.raw_os_error());
    let says = |rig: &Rig| rig.server().disk_fault().and_then(|e| e.raw_os_error());
    wait_until("it says that the disk is full", || says(&rig) == full);
    std::thread::sleep(Duration::from_millis(500));
    assert!(!writers[0].is_finished(), "a write that the disk did not take is not answered");
    // A freeze over it costs nothing.
    assert!(rig.server().close_gate(Duration::from_secs(1)).drained);
    rig.server().open_gate(crate::rig::key()).expect("opens");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((says(&rig), rig.server().stats().io_errors), (full, 0));
    run(Command::new("mount").args(["-o", "remount,size=64m"]).arg(&small));
    for writer in writers {
        writer.join().expect("no panic").expect("it goes on by itself");
    }
    let read = read_direct(&rig.file);
    for (at, bytes) in &writes {
        assert!(read[*at as usize..][..bytes.len()] == bytes[..], "what was written at {at}");
    }
    assert_eq!(says(&rig), None);
    assert!(absent(&rig.image, &text[..64]), "plaintext in the image");
    sys::unmount(&rig.file).expect("unmounts");
    rig.server.take().expect("served").stop();
    sys::unmount(&small).expect("unmounts");
}
