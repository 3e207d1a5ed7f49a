//! A disk with a volatile cache, served over NBD: what was not flushed is lost at a power cut.
//!
//! A killed QEMU over a plain file loses nothing that it had written, whatever its `cache=` says:
//! this machine's page cache keeps it. So the cache is here. At a cut a seeded share of its
//! sectors is kept, as a disk writes its cache back in any order.

use crate::world::Random;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// What is kept or lost as a whole: a disk's physical sector. With 512 bytes a cut once left a
/// volume that the kernel refused to mount ("Bad message"): ext4's superblock is 1 KiB, written in
/// place at each mount, freeze and thaw, and torn it has a wrong checksum, on a plain disk too.
const SECTOR: usize = 4096;

/// What a disk does with a flush.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flush {
    Honest,
    /// Says that it is done and does nothing: what the proof rests on is that this is seen.
    Ignored,
}

/// What became of the cache at a cut.
pub(super) struct Cut {
    pub(super) kept: usize,
    pub(super) lost: usize,
    /// Since the power went on.
    pub(super) flushes: u64,
}

struct Disk {
    file: File,
    size: u64,
    cache: BTreeMap<u64, [u8; SECTOR]>,
    flush: Flush,
    flushes: u64,
    /// The power goes within this many writes; at none it is gone.
    writes_left: Option<u64>,
}

impl Disk {
    /// An empty one.
    fn new(file: File, size: u64) -> io::Result<Self> {
        file.set_len(size)?;
        let cache = BTreeMap::new();
        Ok(Self { file, size, cache, flush: Flush::Honest, flushes: 0, writes_left: None })
    }

    fn sector(&self, number: u64) -> io::Result<[u8; SECTOR]> {
        let mut sector = [0; SECTOR];
        match self.cache.get(&number) {
            Some(cached) => sector = *cached,
            None => self.file.read_exact_at(&mut sector, number * SECTOR as u64)?,
        }
        Ok(sector)
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        for (number, inside, part) in sectors(offset, len) {
            bytes[part].copy_from_slice(&self.sector(number)?[inside]);
        }
        Ok(bytes)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.writes_left = self.writes_left.map(|left| left.saturating_sub(1));
        for (number, inside, part) in sectors(offset, bytes.len()) {
            let mut sector = self.sector(number)?;
            sector[inside].copy_from_slice(&bytes[part]);
            self.cache.insert(number, sector);
        }
        Ok(())
    }

    /// Of the sectors of a write with FUA, or of all.
    fn flush(&mut self, range: Option<Range<u64>>) -> io::Result<()> {
        self.flushes += 1;
        if self.flush == Flush::Ignored {
            return Ok(());
        }
        let range = range.unwrap_or(0..self.size);
        let sector = SECTOR as u64;
        for (number, bytes) in
            self.cache.extract_if(range.start / sector..range.end.div_ceil(sector), |_, _| true)
        {
            self.file.write_all_at(&bytes, number * sector)?;
        }
        Ok(())
    }

    /// The power goes. A disk that ignores flushes loses all: it falls back to one moment, of which
    /// a guest can only miss what came later.
    fn cut(&mut self, random: &mut Random) -> io::Result<Cut> {
        let quarters = if self.flush == Flush::Honest { random.below(4) } else { 0 };
        self.writes_left = None;
        let cache = std::mem::take(&mut self.cache);
        let mut cut = Cut { kept: 0, lost: 0, flushes: std::mem::take(&mut self.flushes) };
        for (number, bytes) in cache {
            if random.below(4) < quarters {
                self.file.write_all_at(&bytes, number * SECTOR as u64)?;
                cut.kept += 1;
            } else {
                cut.lost += 1;
            }
        }
        Ok(cut)
    }
}

/// Each sector of a span of bytes, the part of it that is meant, and where that lies in the span.
fn sectors(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let inside = (at % SECTOR as u64) as usize;
        let part = (SECTOR - inside).min(len - done);
        let piece = (at / SECTOR as u64, inside..inside + part, done..done + part);
        done += part;
        (part > 0).then_some(piece)
    })
}

/// The disk, and the socket that QEMU dials.
pub(super) struct Volatile {
    disk: Arc<Mutex<Disk>>,
    socket: PathBuf,
    session: Option<JoinHandle<()>>,
}

impl Volatile {
    /// An empty one.
    pub(super) fn new(folder: &Path, size: u64) -> io::Result<Self> {
        let file =
            File::options().read(true).write(true).create_new(true).open(folder.join("disk"))?;
        let disk = Arc::new(Mutex::new(Disk::new(file, size)?));
        Ok(Self { disk, socket: folder.join("nbd"), session: None })
    }

    /// The power goes on: it serves one machine. Answers what `VM_DISKS` takes.
    pub(super) fn power_on(&mut self) -> io::Result<String> {
        let _ = std::fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket)?;
        let disk = Arc::clone(&self.disk);
        self.session = Some(std::thread::spawn(move || {
            // Its error is the end of QEMU.
            let _ = listener.accept().and_then(|(stream, _)| serve(stream, &disk));
        }));
        Ok(format!("nbd:unix:{}", self.socket.display()))
    }

    pub(super) fn ignore_flushes(&self) {
        lock(&self.disk).flush = Flush::Ignored;
    }

    /// The power will go at a write, which is not answered any more: so there is always something
    /// to lose. A moment of the clock would mostly find the cache empty, as each commit flushes it.
    pub(super) fn power_goes_after(&self, writes: u64) {
        lock(&self.disk).writes_left = Some(writes + 1);
    }

    /// The power is gone: nothing is answered any more.
    pub(super) fn is_off(&self) -> bool {
        lock(&self.disk).writes_left == Some(0)
    }

    /// What becomes of the cache. It is called when QEMU has ended.
    pub(super) fn cut(&mut self, random: &mut Random) -> Cut {
        let session = self.session.take().expect("the power is on");
        session.join().expect("no panic in the session");
        lock(&self.disk).cut(random).expect("written")
    }
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().expect("no panic holds it")
}

/// The protocol's numbers: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
mod nbd {
    /// NBDMAGIC, IHAVEOPT, and "fixed newstyle, no zeroes".
    pub(super) const GREETING: &[u8] = b"NBDMAGICIHAVEOPT\0\x03";
    pub(super) const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
    pub(super) const GO: u32 = 7;
    pub(super) const ACK: u32 = 1;
    pub(super) const INFO: u32 = 3;
    pub(super) const UNSUPPORTED: u32 = 1 << 31 | 1;
    /// That there are flags, FLUSH and FUA.
    pub(super) const FLAGS: u16 = 1 | 1 << 2 | 1 << 3;
    pub(super) const REPLY: u32 = 0x6744_6698;
    pub(super) const READ: u16 = 0;
    pub(super) const WRITE: u16 = 1;
    pub(super) const FLUSH: u16 = 3;
    pub(super) const FUA: u16 = 1;
    pub(super) const EIO: u32 = 5;
}

/// One machine: the handshake, then its requests in their order.
fn serve(mut stream: UnixStream, disk: &Mutex<Disk>) -> io::Result<()> {
    stream.write_all(nbd::GREETING)?;
    let _client_flags: [u8; 4] = take(&mut stream)?;
    while !negotiated(&mut stream, lock(disk).size)? {}
    loop {
        let _magic: [u8; 4] = take(&mut stream)?;
        let flags = u16::from_be_bytes(take(&mut stream)?);
        let command = u16::from_be_bytes(take(&mut stream)?);
        let cookie: [u8; 8] = take(&mut stream)?;
        let offset = u64::from_be_bytes(take(&mut stream)?);
        let len = u32::from_be_bytes(take(&mut stream)?) as usize;
        let done = match command {
            nbd::READ => lock(disk).read(offset, len),
            nbd::WRITE => {
                let bytes = take_vec(&mut stream, len)?;
                let mut disk = lock(disk);
                let mut done = disk.write(offset, &bytes);
                if flags & nbd::FUA != 0 {
                    done = done.and_then(|()| disk.flush(Some(offset..offset + len as u64)));
                }
                done.map(|()| Vec::new())
            }
            nbd::FLUSH => lock(disk).flush(None).map(|()| Vec::new()),
            // A disconnect: there is nothing else that was offered.
            _ => return Ok(()),
        };
        if lock(disk).writes_left == Some(0) {
            // Silence, not errors: the machine shall see nothing until its end.
            return io::copy(&mut stream, &mut io::sink()).map(drop);
        }
        let error = if done.is_ok() { 0 } else { nbd::EIO };
        let mut answer = [&nbd::REPLY.to_be_bytes()[..], &error.to_be_bytes(), &cookie].concat();
        answer.extend(done.unwrap_or_default());
        stream.write_all(&answer)?;
    }
}

/// Answers one option; true when it was the one that opens the disk.
fn negotiated(stream: &mut UnixStream, size: u64) -> io::Result<bool> {
    let _magic: [u8; 8] = take(stream)?;
    let option = u32::from_be_bytes(take(stream)?);
    let len = u32::from_be_bytes(take(stream)?) as usize;
    take_vec(stream, len)?;
    let mut reply = |kind: u32, data: &[u8]| {
        let len = u32::try_from(data.len()).expect("small").to_be_bytes();
        let (magic, option) = (nbd::OPTION_REPLY.to_be_bytes(), option.to_be_bytes());
        stream.write_all(&[&magic[..], &option, &kind.to_be_bytes(), &len, data].concat())
    };
    if option != nbd::GO {
        reply(nbd::UNSUPPORTED, &[])?;
        return Ok(false);
    }
    reply(nbd::INFO, &[&[0, 0][..], &size.to_be_bytes(), &nbd::FLAGS.to_be_bytes()].concat())?;
    reply(nbd::ACK, &[])?;
    Ok(true)
}

fn take<const N: usize>(stream: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn take_vec(stream: &mut UnixStream, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn a_cut_loses_what_was_not_flushed_and_nothing_else() {
    let sector = |byte: u8| [byte; SECTOR];
    let at = |number: u64| number * SECTOR as u64;
    let mut random = Random::from_environment();
    for flush in [Flush::Honest, Flush::Ignored] {
        let mut disk = Disk::new(tempfile::tempfile().expect("a file"), 1 << 20).expect("a disk");
        disk.flush = flush;
        // Flushed; flushed and overwritten; with FUA.
        disk.write(at(0), &sector(1)).expect("written");
        disk.write(at(1) + 100, &[1; 2]).expect("written");
        disk.flush(None).expect("flushed");
        disk.write(at(1) + 101, &[2; 2]).expect("written");
        disk.write(at(2), &sector(1)).expect("written");
        disk.flush(Some(at(2)..at(3))).expect("flushed");
        let many = 100..200;
        for number in many.clone() {
            disk.write(at(number), &sector(1)).expect("written");
        }
        let read = |disk: &Disk, offset, len| disk.read(offset, len).expect("read");
        assert_eq!(read(&disk, at(1) + 99, 5), [0, 1, 2, 2, 0], "while the power is on");
        let cut = disk.cut(&mut random).expect("cut");
        let whole = |number| read(&disk, at(number), SECTOR) == sector(1);
        let kept = flush == Flush::Honest;
        assert_eq!([whole(0), whole(2)], [kept, kept], "flushed sectors");
        let overwritten = read(&disk, at(1) + 99, 5);
        let (old, new) = (if kept { [0, 1, 1, 0, 0] } else { [0; 5] }, [0, 1, 2, 2, 0]);
        assert!(overwritten == old || kept && overwritten == new, "{overwritten:?}");
        let left = many.filter(|number| whole(*number)).count();
        assert_eq!((cut.flushes, left + usize::from(overwritten == new)), (2, cut.kept));
        assert!(cut.lost > 0, "of a hundred sectors some are always lost");
        assert!(kept || cut.kept == 0, "it fell back to one moment");
        assert_eq!(disk.cut(&mut random).expect("cut").lost, 0, "nothing is left to lose");
    }
}
