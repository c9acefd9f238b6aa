//! Where the foreign tools are. This module is private to `foreign`, so that no other test can come to need one.
//!
//! A tool that is missing fails the test with how to get it. It never skips the test.

use std::path::Path;
use std::process::Command;

/// A tool of the system, by name.
pub fn tool(name: &str) -> Command {
    let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    assert!(found, "{name} is not installed: run tests/run.sh --all, which installs it");
    Command::new(name)
}

/// A tool that Debian's own release has too old or not at all. It is unpacked, and not installed.
pub fn newer_tool(name: &str) -> Command {
    let path = format!("{}/target/tools/usr/bin/{name}", env!("CARGO_MANIFEST_DIR"));
    assert!(Path::new(&path).exists(), "there is no {path}: run tests/run.sh --all, which unpacks it");
    Command::new(path)
}

/// The Python of the tests' own environment.
pub fn python() -> Command {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python/bin/python3");
    assert!(Path::new(path).exists(), "there is no {path}: run tests/run.sh --all, which makes it");
    Command::new(path)
}

/// A program of a package in that environment.
pub fn python_program(name: &str) -> Command {
    let path = format!("{}/target/python/bin/{name}", env!("CARGO_MANIFEST_DIR"));
    assert!(Path::new(&path).exists(), "there is no {path}: run tests/run.sh --all, which installs it");
    Command::new(path)
}
