//! What a predecessor of the same prefix left when it was killed: processes that outlived it, their
//! groups, and loop devices over our mount points. Its mounts went with its namespace; a file
//! system that was frozen then is still in the kernel, out of reach, until it is mounted again and
//! thawed.

use super::cluster::Place;
use super::remove::bounded;
use keystead_volumes::sys::{self, LoopDevice};
use std::path::Path;
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(5);

/// Clears away what can be; says how much could not.
pub(crate) fn sweep(place: &Place) -> usize {
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
                file.starts_with(&folder) || (file == Path::new("/") && noted.contains(&d.minor))
            })
            .map(|(d, _)| d)
            .collect(),
        Err(error) => {
            tracing::error!(%error, "the loop devices cannot be listed");
            vec![]
        }
    };
    for minor in noted.iter().filter(|m| !ours.iter().any(|d| d.minor == **m)) {
        forget(place, *minor);
    }
    for device in ours {
        let (loop_device, scratch) = (device.clone(), place.data.join("swept"));
        let gone = bounded("sweep", WAIT, move || release(&loop_device, &scratch));
        let gone = gone.unwrap_or(false);
        tracing::warn!(device = %device.path.display(), gone, "a predecessor's loop device");
        left += usize::from(!gone);
        if gone {
            forget(place, device.minor);
        }
    }
    left
}

/// Notes that a loop device is ours, for a successor.
pub(crate) fn note(place: &Place, minor: u32) -> std::io::Result<()> {
    std::fs::create_dir_all(place.data.join("loops"))?;
    std::fs::write(place.data.join("loops").join(minor.to_string()), "")
}

/// It is not any more.
pub(crate) fn forget(place: &Place, minor: u32) {
    let _ = std::fs::remove_file(place.data.join("loops").join(minor.to_string()));
}

fn noted(place: &Place) -> Vec<u32> {
    let entries = std::fs::read_dir(place.data.join("loops"));
    let number = |e: std::fs::DirEntry| e.file_name().to_str()?.parse().ok();
    entries.map(|all| all.flatten().filter_map(number).collect()).unwrap_or_default()
}

/// Thaws what may still be frozen on a loop device and takes it off.
fn release(device: &LoopDevice, scratch: &Path) -> bool {
    let _ = std::fs::create_dir_all(scratch);
    // The same device is the same superblock: a frozen one is mounted as it is and can be thawed.
    // With its connection gone, an unfrozen one does not mount: fine.
    if sys::mount_ext4(&device.path, scratch, "").is_ok() {
        let _ = sys::thaw_fs(scratch);
        let _ = sys::unmount(scratch);
    }
    let _ = sys::lift_dirty(device);
    sys::detach_loop(device).is_ok()
}
