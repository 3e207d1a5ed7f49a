//! What a predecessor of the same prefix left when it was killed: processes that outlived it, their
//! groups, and loop devices over our mount points. Its mounts went with its namespace; a file
//! system that was frozen then is still in the kernel, out of reach, until it is mounted again and
//! thawed.

use super::cluster::Place;
use keystead_volumes::sys::{self, LoopDevice};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(5);
const LOOP_WAIT: Duration = Duration::from_secs(1);

/// Clears away what can be; says how much could not.
pub(crate) fn sweep(place: &Arc<Place>) -> usize {
    let mut left = 0;
    for name in place.roots.under(&place.prefix) {
        let group = place.roots.group(&place.prefix, &name);
        let deadline = Instant::now() + WAIT;
        let _ = group.kill();
        let gone = group.wait_empty(deadline) && group.remove(deadline).is_ok();
        tracing::warn!(group = name, gone, "a predecessor's group");
        left += usize::from(!gone);
    }
    let folder = place.fuse_folder();
    let noted = noted(place);
    let ours: Vec<LoopDevice> = match sys::loops() {
        // Of a mount whose namespace has ended the kernel shows the file as `/`: then the note of
        // the device tells.
        Ok(all) => all
            .into_iter()
            .filter(|(d, file)| {
                let known =
                    || d.sequence().is_ok_and(|sequence| noted.contains(&(d.minor, sequence)));
                file.starts_with(&folder) || (file == Path::new("/") && known())
            })
            .map(|(d, _)| d)
            .collect(),
        Err(error) => {
            // The notes stay: without the list nobody knows which of them are done with.
            tracing::error!(%error, "the loop devices cannot be listed");
            return left + noted.len();
        }
    };
    for (minor, _) in noted.iter().filter(|(m, _)| !ours.iter().any(|d| d.minor == *m)) {
        forget(place, *minor);
    }
    left + release_all(place, ours)
}

/// Each on a thread of its own: a device whose connection a node still has open, gate closed, is
/// let go only when that node drops it, which it does once it meets this hold.
fn release_all(place: &Arc<Place>, devices: Vec<LoopDevice>) -> usize {
    let deadline = Instant::now() + LOOP_WAIT;
    let (tell, told) = sync_channel(devices.len());
    let mut left = devices.len();
    for device in devices {
        let (place, tell) = (place.clone(), tell.clone());
        let run = move || {
            let gone = release(&place, &device);
            tracing::warn!(device = %device.path.display(), gone, "a predecessor's loop device");
            let _ = tell.send(gone);
        };
        if let Err(error) = std::thread::Builder::new().name("sweep".to_owned()).spawn(run) {
            tracing::error!(%error, "a predecessor's loop device stays");
        }
    }
    drop(tell);
    while let Ok(gone) = told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        left -= usize::from(gone);
    }
    left
}

/// Notes that a loop device is ours, for a successor. Its number alone would not do: somebody else
/// may have the device by then.
pub(crate) fn note(place: &Place, device: &LoopDevice) -> std::io::Result<()> {
    let sequence = device.sequence().map_err(std::io::Error::other)?;
    std::fs::create_dir_all(place.data.join("loops"))?;
    let path = place.data.join("loops").join(device.minor.to_string());
    std::fs::write(path, format!("{sequence}\n"))
}

/// It is not any more.
pub(crate) fn forget(place: &Place, minor: u32) {
    let _ = std::fs::remove_file(place.data.join("loops").join(minor.to_string()));
}

/// Minor number and sequence of each.
fn noted(place: &Place) -> Vec<(u32, u64)> {
    let entries = std::fs::read_dir(place.data.join("loops"));
    let one = |e: std::fs::DirEntry| {
        let sequence = std::fs::read_to_string(e.path()).ok()?.trim().parse().ok()?;
        Some((e.file_name().to_str()?.parse().ok()?, sequence))
    };
    entries.map(|all| all.flatten().filter_map(one).collect()).unwrap_or_default()
}

/// Thaws what may still be frozen on a loop device and takes it off.
fn release(place: &Place, device: &LoopDevice) -> bool {
    let scratch = place.data.join(format!("swept-{}", device.minor));
    let _ = std::fs::create_dir_all(&scratch);
    // The same device is the same superblock: a frozen one is mounted as it is and can be thawed.
    // With its connection gone, an unfrozen one does not mount: fine.
    if sys::mount_ext4(&device.path, &scratch, "").is_ok() {
        let _ = sys::thaw_fs(&scratch);
        let _ = sys::unmount(&scratch);
    }
    let _ = std::fs::remove_dir(&scratch);
    let _ = sys::lift_dirty(device);
    let gone = sys::detach_loop(device).is_ok();
    if gone {
        forget(place, device.minor);
    }
    gone
}
