//! The workflows of GitHub Actions: actionlint checks that they are valid, and zizmor that they are secure.

use std::path::Path;
use std::process::Output;

use super::tools::python_program;
use crate::support::{shipped, text};

const FOLDER: &str = ".github/workflows";
const WORKFLOWS: [&str; 3] = ["pull-request.yml", "release.yml", "weekly.yml"];

/// Of the workflows of a repository. Without shellcheck and pyflakes, so that the result does not depend on what is installed beside it.
fn actionlint(folder: &Path) -> Output {
    let files = WORKFLOWS.map(|file| folder.join(FOLDER).join(file));
    python_program("actionlint")
        .args(["-shellcheck=", "-pyflakes="])
        .args(files)
        .output()
        .expect("a started actionlint")
}

fn zizmor(folder: &Path) -> Output {
    let mut command = python_program("zizmor");
    command.args(["--offline", "--no-config", "--no-progress", "--persona=pedantic", "--color=never"]);
    command.arg(folder.join(FOLDER));
    command.output().expect("a started zizmor")
}

fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn actionlint_and_zizmor_find_nothing_in_the_workflows() {
    let mut files: Vec<_> = std::fs::read_dir(shipped(FOLDER))
        .expect("the workflows")
        .map(|entry| entry.expect("a file").file_name().into_string().expect("a name"))
        .collect();
    files.sort();
    assert_eq!(files, WORKFLOWS);
    for checked in [actionlint(&shipped("")), zizmor(&shipped(""))] {
        assert!(checked.status.success(), "{}", printed(&checked));
    }
    for file in WORKFLOWS {
        assert!(text(&format!("{FOLDER}/{file}")).contains("\npermissions: {}\n"), "{file} starts with permissions");
    }
}

/// Checks the workflows of a repository.
type Check = fn(&Path) -> Output;

#[test]
fn actionlint_and_zizmor_would_find_a_mistake() {
    let checks: [(Check, &str, &str, &str); 5] = [
        (actionlint, "    needs: check\n", "    needs: checks\n", "[job-needs]"),
        (actionlint, "matrix.runner }}", "matrix.runners }}", "[expression]"),
        (zizmor, "persist-credentials: false", "fetch-depth: 1", "artipacked"),
        (zizmor, "@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "@v7", "unpinned-uses"),
        (zizmor, "run: release/build.sh", "run: release/build.sh ${{ github.ref_name }}", "template-injection"),
    ];
    for (check, right, wrong, rule) in checks {
        let folder = tempfile::tempdir().expect("a folder");
        let workflows = folder.path().join(FOLDER);
        std::fs::create_dir_all(&workflows).expect("a folder");
        for file in WORKFLOWS {
            let workflow = text(&format!("{FOLDER}/{file}"));
            assert!(file != "release.yml" || workflow.contains(right), "{right}");
            std::fs::write(workflows.join(file), workflow.replace(right, wrong)).expect("a written file");
        }
        let checked = check(folder.path());
        assert!(!checked.status.success() && printed(&checked).contains(rule), "{wrong}: {}", printed(&checked));
    }
}
