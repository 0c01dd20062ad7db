//! A disk that hangs when it is told to.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A disk of its own, in a file.
pub struct Disk {
    at: PathBuf,
    frozen: bool,
}

impl Disk {
    /// `None` where this user may not have one.
    pub fn new(folder: &Path) -> Option<Self> {
        let (image, at) = (folder.join("disk.img"), folder.join("disk"));
        std::fs::File::create(&image).and_then(|file| file.set_len(16 << 20)).ok()?;
        std::fs::create_dir(&at).ok()?;
        let run = |words: &[&str]| {
            let done = Command::new(words[0]).args(&words[1..]).output();
            done.is_ok_and(|done| done.status.success())
        };
        let (image, place) = (image.to_str()?, at.to_str()?);
        if run(&["mkfs.ext4", "-q", image]) && run(&["mount", "-o", "loop", image, place]) {
            let mut disk = Self { at, frozen: false };
            if disk.set_frozen(true) && disk.set_frozen(false) {
                return Some(disk);
            }
        }
        None
    }

    /// Where it is mounted.
    pub fn folder(&self) -> &Path {
        &self.at
    }

    /// Lets it hang, or answer again. Whether that worked.
    pub fn set_frozen(&mut self, frozen: bool) -> bool {
        let flag = if frozen { "--freeze" } else { "--unfreeze" };
        let done = Command::new("fsfreeze").arg(flag).arg(&self.at).status();
        self.frozen = frozen;
        done.is_ok_and(|done| done.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.frozen {
            self.set_frozen(false);
        }
        // Whoever held a file there may be about to end.
        for _ in 0..50 {
            if Command::new("umount").arg(&self.at).output().is_ok_and(|done| done.status.success()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
