//! Tells the program what it is built from: the commit and the compiler, for `build_info` and `--version`.

use std::process::Command;

fn main() {
    let revision = std::env::var("EXPORTER_REVISION")
        .ok()
        .filter(|revision| !revision.is_empty())
        .or_else(|| output("git", &["rev-parse", "--short=12", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_owned());
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let rustc = output(&rustc, &["--version"]).unwrap_or_else(|| "unknown".to_owned());
    let rustc = rustc.split(' ').nth(1).unwrap_or("unknown").to_owned();
    println!("cargo::rustc-env=EXPORTER_REVISION={revision}");
    println!("cargo::rustc-env=EXPORTER_RUSTC={rustc}");
    println!("cargo::rerun-if-env-changed=EXPORTER_REVISION");
    println!("cargo::rerun-if-changed=build.rs");
    // A commit moves the log and not HEAD itself. Named only where there is a checkout: cargo would run this every time
    // for a path that does not exist.
    if std::path::Path::new(".git/HEAD").exists() {
        println!("cargo::rerun-if-changed=.git/HEAD");
        println!("cargo::rerun-if-changed=.git/logs/HEAD");
    }
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
}
