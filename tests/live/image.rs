//! The image that is shipped: built from a static program, and run.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::three;
use crate::cluster::LONG;
use crate::support::{say, skipped};

const TARGET: &str = "x86_64-unknown-linux-musl";

/// An image with all that belongs to it may have so many bytes.
const IMAGE_MAX: u64 = 12_000_000;

/// Whether the image can be built here; else it says why not.
fn can_be_built() -> bool {
    let skip = |why: &str| {
        skipped(&format!("the image, because {why}"));
        false
    };
    let library = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    let library = library.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    if !library.is_ok_and(|folder| folder.is_dir()) {
        return skip("the toolchain has no target x86_64-unknown-linux-musl");
    }
    for program in ["buildah", "musl-gcc"] {
        if Command::new(program).arg("--version").output().is_err() {
            return skip(&format!("there is no {program}"));
        }
    }
    true
}

/// The static program: this one, where it is a path, else built with this profile.
fn program(profile: &str) -> PathBuf {
    if profile.contains('/') {
        return PathBuf::from(profile);
    }
    let target = Path::new(env!("CARGO_BIN_EXE_metawatch")).ancestors().nth(2).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--bin", "metawatch", "--profile", profile, "--target", TARGET]);
    cargo.arg("--target-dir").arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
    let built = cargo.stderr(Stdio::inherit()).status().unwrap();
    assert!(built.success(), "{built}");
    let folder = if profile == "dev" { "debug" } else { profile };
    target.join(TARGET).join(folder).join("metawatch")
}

/// A store of images in this folder.
struct Store<'a>(&'a Path);

impl Store<'_> {
    fn command(&self) -> Command {
        let mut buildah = Command::new("buildah");
        buildah.arg("--root").arg(self.0.join("root")).arg("--runroot").arg(self.0.join("run"));
        buildah.args(["--storage-driver", "vfs"]).env("BUILDAH_ISOLATION", "chroot");
        buildah.current_dir(env!("CARGO_MANIFEST_DIR"));
        buildah
    }

    fn output<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    #[track_caller]
    fn done<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

#[tokio::test]
async fn the_image_is_small_and_watches_as_nobody_in_particular() {
    let Ok(profile) = std::env::var("METAWATCH_TEST_IMAGE") else {
        skipped(
            "the image, because METAWATCH_TEST_IMAGE names no profile to build it with (dist), and no program",
        );
        return;
    };
    if !can_be_built() {
        return;
    }
    let program = program(&profile);
    let home = tempfile::tempdir().unwrap();
    let (store, context) = (Store(home.path()), home.path().join("context"));
    fs::create_dir(&context).unwrap();
    fs::copy(&program, context.join("metawatch")).unwrap();
    let context = context.to_str().unwrap();
    store.done(["build", "--file", "examples/deploy/Containerfile", "--tag", "metawatch", context]);
    let inspected: Value =
        serde_json::from_str(&store.done(["inspect", "--type", "image", "metawatch"])).unwrap();
    assert_eq!(inspected["OCIv1"]["config"]["User"], "65532:65532");
    let archive = home.path().join("image.tar");
    store.done(["push", "metawatch", &format!("oci-archive:{}", archive.display())]);
    let (whole, packed) = (fs::metadata(&program).unwrap().len(), fs::metadata(&archive).unwrap().len());
    say(&format!("the program has {whole} bytes, and the packed image {packed}"));
    assert!(profile == "dev" || whole < IMAGE_MAX, "{whole}");

    let cluster = three().await;
    let container = store.done(["from", "metawatch"]);
    let run = |words: &[&str]| {
        let mut command = store.command();
        command.args(["run", &container, "--", "/metawatch"]).args(words);
        command.args(["--no-context", "--server", &cluster.urls(), "--user", "admin", "--password", "admin"]);
        command
    };
    let output = run(&["check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mut watcher = run(&["run"]).stderr(Stdio::null()).spawn().unwrap();
    let sees = async {
        loop {
            let listen = run(&["listen", "--heartbeats", "--for", "3s"]).output().unwrap();
            if String::from_utf8_lossy(&listen.stdout).contains("3 of 3 meta peers online") {
                return;
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    let seen = timeout(LONG, sees).await;
    // The last of the processes, one within the other, is metawatch itself.
    let mut inner = watcher.id();
    while let Some(child) = children(inner).first() {
        inner = *child;
    }
    let status = fs::read_to_string(format!("/proc/{inner}/status")).unwrap_or_default();
    Command::new("kill").arg(inner.to_string()).status().unwrap();
    let ended = watcher.wait().unwrap();
    assert!(seen.is_ok(), "no heartbeat");
    let uid = status.lines().find(|line| line.starts_with("Uid:")).unwrap_or_default();
    assert!(uid.contains("65532") && status.contains("Name:\tmetawatch"), "{status}");
    assert_eq!(ended.code(), Some(0), "it ends in an orderly way");
}

/// What any of its threads has started.
fn children(parent: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let started = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let all: Vec<String> = started.collect();
    all.iter().flat_map(|text| text.split_whitespace()).filter_map(|id| id.parse().ok()).collect()
}
