//! The Dockerfile against what else names the same: versions, images, users. `config/container/build.sh` builds it.

use std::path::Path;

use regex_lite::Regex;

fn dockerfile() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile")).expect("the Dockerfile")
}

#[track_caller]
fn found<'a>(text: &'a str, pattern: &str) -> Vec<&'a str> {
    let pattern = Regex::new(pattern).expect("a regular expression");
    let found: Vec<_> = pattern.captures_iter(text).map(|found| found.get(1).expect("a part").as_str()).collect();
    assert!(!found.is_empty(), "no {pattern} in {text}");
    found
}

#[test]
fn the_image_is_labelled_as_what_it_is() {
    let dockerfile = dockerfile();
    let label = |name: &str| found(&dockerfile, &format!(r#"org\.opencontainers\.image\.{name}="([^"]*)""#))[0];
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("description"), env!("CARGO_PKG_DESCRIPTION"));
    assert_eq!(label("licenses"), env!("CARGO_PKG_LICENSE"));
    assert_eq!(label("revision"), "$REVISION");
    let images = found(&dockerfile, r"(?m)^FROM (\S+)");
    let base = images.last().and_then(|image| image.split('@').next());
    assert_eq!(Some(label("base.name")), base);
}

#[test]
fn the_version_is_the_same_wherever_it_is_written() {
    for path in ["Dockerfile", "README.md"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a text");
        for version in found(&text, r"aws-iot-jobs-exporter:([0-9]+\.[0-9]+\.[0-9]+)") {
            assert_eq!(version, env!("CARGO_PKG_VERSION"), "{path}");
        }
    }
}

#[test]
fn it_is_built_by_a_compiler_that_is_new_enough_and_on_the_debian_that_it_runs_on() {
    let dockerfile = dockerfile();
    let images = found(&dockerfile, r"(?m)^FROM (\S+)");
    let [builder, runtime] = images[..] else { panic!("{images:?}") };
    let version = |text: &str| text.split('.').map(|part| part.parse().expect("a number")).collect::<Vec<u32>>();
    let compiler = found(builder, r"/rust:([0-9.]+)-slim-trixie(?:@sha256:[0-9a-f]{64})?$")[0];
    assert!(version(compiler) >= version(env!("CARGO_PKG_RUST_VERSION")), "{compiler}");
    let readme = crate::support::text("README.md");
    assert_eq!(found(&readme, r"with Rust ([0-9.]+) or later"), [env!("CARGO_PKG_RUST_VERSION")]);
    // Debian 13 is trixie.
    found(runtime, r"^(gcr\.io/distroless/cc-debian13:nonroot)(?:@sha256:[0-9a-f]{64})?$");
}

#[test]
fn all_that_it_copies_is_let_into_the_build_and_nothing_else_is() {
    let ignored = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".dockerignore")).expect("a list");
    let let_in = found(&ignored, r"(?m)^!(\S+)$");
    let dockerfile = dockerfile();
    let copied = found(&dockerfile, r"(?m)^COPY ([^-].*) \S+$").into_iter().flat_map(|line| line.split(' '));
    let mut copied: Vec<_> = copied.map(|name| if name.starts_with("LICENSE-") { "LICENSE-*" } else { name }).collect();
    copied.dedup();
    assert_eq!(copied, let_in);
    assert!(found(&ignored, r"(?m)^([^#!].*)$") == ["*"], "{ignored}");
}

#[test]
fn it_is_asked_for_its_health_by_the_program_itself_without_a_shell() {
    let dockerfile = dockerfile();
    let program = found(&dockerfile, r#"(?m)^ENTRYPOINT \["([^"]*)"\]$"#)[0];
    assert_eq!(found(&dockerfile, r"(?m)^    CMD (\[.*\])$"), [format!("[\"{program}\", \"--health.check\"]")]);
    let user = found(&dockerfile, r"(?m)^USER ([0-9]+):[0-9]+$")[0];
    assert_ne!(user, "0");
}
