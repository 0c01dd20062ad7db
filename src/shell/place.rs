//! Where a file is replaced as a whole.

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
}
