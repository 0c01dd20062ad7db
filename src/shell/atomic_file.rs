//! Files that are replaced as a whole, and opened for what they are.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The file that `path` means, links followed, whether it exists yet or not.
///
/// Replacing a file is renaming another one to its name. A directory, a device or a pipe would be moved away or
/// replaced by that just as well: what is there and is no regular file is refused, with the reason in words.
pub fn file_at(path: &Path) -> Result<PathBuf, &'static str> {
    if path.file_name().is_none() {
        return Err("that names no file");
    }
    match path.metadata() {
        Ok(found) if found.is_dir() => Err("it is a directory"),
        Ok(found) if !found.is_file() => Err("it is no regular file"),
        // What cannot be looked at cannot be replaced either: that failure has its own words.
        Ok(_) | Err(_) => Ok(path.canonicalize().unwrap_or_else(|_| path.to_owned())),
    }
}

/// Replaces what a file holds: whoever reads it sees the old bytes or the new ones. `mode` holds for a new file, less
/// what the umask takes. Gives the file, which may not have reached the disk yet.
///
/// The new bytes are written beside it, into a file that nobody else can have made, and so through no link.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<File> {
    let mut builder = tempfile::Builder::new();
    let prefix = temporary_prefix(path);
    builder.prefix(&prefix).suffix(".new");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    let mut temporary = builder.tempfile_in(folder_of(path))?;
    temporary.write_all(bytes)?;
    temporary.persist(path).map_err(|failed| failed.error)
}

/// Removes what a crash within [`replace`] left beside a file that nobody else replaces now.
pub fn remove_leftovers(path: &Path) -> io::Result<()> {
    let prefix = temporary_prefix(path);
    for entry in std::fs::read_dir(folder_of(path))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix.to_string_lossy().as_ref()) && name.ends_with(".new") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn temporary_prefix(path: &Path) -> std::ffi::OsString {
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push(".");
    prefix
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens a regular file as `options` say, and nothing else: not through a link, and without waiting for the other end
/// of a pipe.
pub fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let other = || io::Error::other("it is no regular file");
    // Where a pipe has no other end, opening it fails before it can be looked at.
    let is_other = || path.symlink_metadata().is_ok_and(|found| !found.is_file() && !found.is_symlink());
    let file = open_itself(path, options).map_err(|error| if is_other() { other() } else { error })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(other()) }
}

/// Opens what stands at `path` itself: where a link leads is somebody else's choice.
pub fn open_itself(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits();
        std::os::unix::fs::OpenOptionsExt::custom_flags(options, flags.cast_signed());
    }
    let is_link = || path.symlink_metadata().is_ok_and(|found| found.is_symlink());
    match options.open(path) {
        Err(_) if is_link() => Err(io::Error::other("it is a link")),
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_or_none_can_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        for free in ["file", "none yet", "no folder/file"] {
            assert_eq!(file_at(&at(free)).unwrap().file_name(), at(free).file_name());
        }
        let refused = [
            (folder.path().to_owned(), "it is a directory"),
            (at(""), "it is a directory"),
            ("".into(), "that names no file"),
            (at(".."), "that names no file"),
        ];
        for (path, why) in refused {
            assert_eq!(file_at(&path), Err(why), "{}", path.display());
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_no_file_and_a_link_stays_one() {
        assert_eq!(file_at(Path::new("/dev/null")), Err("it is no regular file"));
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(file_at(&link), Ok(file.canonicalize().unwrap()));
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for text in ["one", "two"] {
            replace(&path, text.as_bytes(), 0o600).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        std::fs::write(folder.path().join(".file.crashed.new"), "half").unwrap();
        std::fs::write(folder.path().join("other"), "").unwrap();
        remove_leftovers(&path).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["file", "other"]);
    }

    #[cfg(unix)]
    #[test]
    fn nothing_but_a_regular_file_is_ever_opened_and_no_pipe_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link, pipe) =
            (folder.path().join("file"), folder.path().join("link"), folder.path().join("pipe"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let open = |path: &Path, write: bool| {
            let opened = open_regular(path, OpenOptions::new().read(!write).write(write));
            opened.map(drop).map_err(|error| error.to_string())
        };
        for write in [false, true] {
            assert_eq!(open(&file, write), Ok(()));
            assert_eq!(open(&link, write), Err("it is a link".to_owned()));
            assert_eq!(open(&pipe, write), Err("it is no regular file".to_owned()));
            assert_eq!(open(folder.path(), write), Err("it is no regular file".to_owned()));
        }
    }
}
