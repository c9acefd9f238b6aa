//! The one-way data flow: a module uses only what stands to its right.

use std::path::{Path, PathBuf};

/// As `src/lib.rs` lists them, the top floor first.
const FLOORS: &[&str] = &[
    "main",
    "cli",
    "daemon",
    "web",
    "collector",
    "simulator",
    "aws",
    "metrics",
    "http",
    "logging",
    "config",
    "clock",
    "build_info",
    "jobs",
    "proptests",
];

/// What only one or two modules may know.
const SECLUDED: &[(&str, &[&str])] = &[
    ("aws_sdk_", &["aws"]),
    ("aws_config", &["aws"]),
    ("aws_runtime", &["aws"]),
    ("aws_smithy_", &["aws"]),
    ("aws_types", &["aws"]),
    ("rustls_native_certs", &["aws"]),
    ("rustix", &["aws"]),
    // The simulator serves connections itself, since the exporter's server can't break one.
    ("hyper", &["http", "simulator"]),
    ("figment", &["config"]),
    ("tokio_rustls", &["http"]),
    ("sd_notify", &["daemon"]),
    ("webpki", &["config"]),
    ("indicatif", &["cli"]),
    ("bcrypt", &["config"]),
    ("secrecy", &["config"]),
    ("socket2", &["http"]),
    ("regex_lite", &["jobs", "config"]),
    ("saphyr_parser", &["config"]),
    ("x509_parser", &["config"]),
    ("prometheus_client", &["metrics"]),
];

fn sources() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut sources) = (vec![src.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a source folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let inside = path.strip_prefix(&src).expect("below src");
            let module = inside.iter().next().expect("a name").to_string_lossy().trim_end_matches(".rs").to_owned();
            let text = std::fs::read_to_string(&path).expect("a source file");
            sources.push((module, path, text));
        }
    }
    sources
}

fn floor(module: &str) -> usize {
    let floor = FLOORS.iter().position(|known| *known == module);
    floor.unwrap_or_else(|| panic!("{module} stands on no floor: add it to FLOORS and to src/lib.rs"))
}

/// The modules of this crate that a text uses, by `crate::`.
fn used(text: &str) -> impl Iterator<Item = &str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1)).map(|rest| {
        rest.split(|character: char| !character.is_ascii_alphanumeric() && character != '_').next().unwrap_or_default()
    })
}

#[test]
fn a_module_uses_only_modules_to_its_right() {
    for (module, path, text) in sources().iter().filter(|(module, ..)| module != "lib") {
        for used in used(text).filter(|used| *used != module) {
            // `{` and `self` begin a list of modules, which this reader does not take apart: none may be written.
            assert!(!used.is_empty() && used != "self", "{}: write one `use crate::…` a module", path.display());
            assert!(floor(used) > floor(module), "{}: {module} uses {used}, which is not to its right", path.display());
        }
    }
}

#[test]
fn only_the_command_line_depends_on_the_simulator() {
    for (module, path, text) in sources() {
        if !matches!(module.as_str(), "cli" | "simulator" | "lib") {
            assert!(!used(&text).any(|used| used == "simulator"), "{} uses the simulator", path.display());
        }
    }
}

#[test]
fn each_library_is_known_only_where_it_belongs() {
    for (module, path, text) in sources() {
        for (library, knowers) in SECLUDED {
            let named =
                text.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| line.contains(library));
            assert!(!named || knowers.contains(&module.as_str()), "{} knows {library}", path.display());
        }
    }
}
