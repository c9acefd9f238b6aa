//! Tells the program what it is built from: the commit and the compiler, for `build_info` and `--version`.

use std::process::Command;

fn main() {
    let revision = std::env::var("EXPORTER_REVISION")
        .ok()
        .filter(|revision| !revision.is_empty())
        .or_else(|| is_own_checkout().then(|| output("git", &["rev-parse", "--short=12", "HEAD"])).flatten())
        .unwrap_or_else(|| "unknown".to_owned());
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let rustc = output(&rustc, &["--version"]).unwrap_or_else(|| "unknown".to_owned());
    let rustc = rustc.split(' ').nth(1).unwrap_or("unknown").to_owned();
    println!("cargo::rustc-env=EXPORTER_REVISION={revision}");
    println!("cargo::rustc-env=EXPORTER_RUSTC={rustc}");
    println!("cargo::rerun-if-env-changed=EXPORTER_REVISION");
    println!("cargo::rerun-if-changed=build.rs");
    // A commit moves the log and not HEAD itself. Git says where they are: in a worktree, elsewhere.
    for name in ["HEAD", "logs/HEAD"] {
        let path = is_own_checkout().then(|| output("git", &["rev-parse", "--git-path", name])).flatten();
        // cargo would run this every time for a path that does not exist.
        if let Some(path) = path.filter(|path| std::path::Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// Whether the checkout around this is one of this project, and not of something that has it as a part.
fn is_own_checkout() -> bool {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map(std::path::PathBuf::from);
    let top = output("git", &["rev-parse", "--show-toplevel"]).map(std::path::PathBuf::from);
    matches!((own.and_then(|own| own.canonicalize().ok()), top), (Some(own), Some(top)) if own == top)
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
}
