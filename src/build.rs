//! Tells the program its version: the one of the package, and the commit that it is built from, as far as that is known.
//!
//! The commit is the one in `METAWATCH_COMMIT`, else the one that `cargo package` wrote down, else, in a release build, the
//! one that the working tree is at. A debug build does not look: each commit would build everything anew.

#![allow(clippy::disallowed_macros, reason = "this is how a build script speaks")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// So many digits of a commit are told.
const DIGITS: usize = 10;

fn main() {
    println!("cargo:rerun-if-env-changed=METAWATCH_COMMIT");
    println!("cargo:rerun-if-changed=src/build.rs");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let given = env::var("METAWATCH_COMMIT").ok().and_then(|text| commit_in(&text));
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit =
        given.or_else(|| packaged(&root)).or_else(|| is_release.then(|| checked_out(&root)).flatten());
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    match commit {
        Some(commit) => println!("cargo:rustc-env=METAWATCH_VERSION={version} ({commit})"),
        None => println!("cargo:rustc-env=METAWATCH_VERSION={version}"),
    }
}

/// What `cargo package` wrote down.
fn packaged(root: &Path) -> Option<String> {
    let text = read(&root.join(".cargo_vcs_info.json"))?;
    commit_in(text.split("\"sha1\"").nth(1)?.split('"').nth(1)?)
}

/// What the working tree is at, by the files of git: there may be no git, or one that does not trust the owner.
fn checked_out(root: &Path) -> Option<String> {
    let git = root.join(".git");
    let folder = if git.is_file() {
        // A further working tree of a repository.
        root.join(read(&git)?.strip_prefix("gitdir:")?.trim())
    } else {
        git
    };
    // It grows with every commit and every change of branch.
    read(&folder.join("logs/HEAD"));
    let head = read(&folder.join("HEAD"))?;
    let Some(name) = head.trim().strip_prefix("ref: ") else { return commit_in(&head) };
    let common =
        read(&folder.join("commondir")).map_or_else(|| folder.clone(), |path| folder.join(path.trim()));
    let loose = read(&folder.join(name)).or_else(|| read(&common.join(name)));
    let packed = || {
        let packed = read(&common.join("packed-refs"))?;
        packed.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix(' ')).map(str::to_owned)
    };
    commit_in(&loose.or_else(packed)?)
}

/// The text of a file, which is watched from now on; one that is not there is not, or every build would run this anew.
fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo:rerun-if-changed={}", path.display());
    Some(text)
}

/// The first digits of a commit.
fn commit_in(text: &str) -> Option<String> {
    let text = text.trim();
    let is_commit = text.len() >= DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit.then(|| text.chars().take(DIGITS).collect())
}
