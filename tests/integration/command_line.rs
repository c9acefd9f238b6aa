//! What the command line prints. Each file of `tests/cmd` is a command with its output and exit status;
//! `SNAPSHOTS=overwrite cargo test command_line` writes what follows the command again.

use std::path::Path;

use snapbox::assert::DEFAULT_ACTION_ENV;
use snapbox::{Assert, Data, Redactions};

use crate::process::program;
use crate::support::shipped;

/// Runs `$ VARIABLE=value… aws-iot-jobs-exporter argument…` in the folder of the files. Output comes before errors.
async fn transcript(command_line: &str, folder: &Path) -> String {
    let mut words = command_line.strip_prefix("$ ").expect("a command in the first line").split(' ');
    let mut variables = Vec::new();
    for word in words.by_ref().take_while(|word| *word != "aws-iot-jobs-exporter") {
        variables.push(word.split_once('=').expect("a variable and its value"));
    }
    let mut command = program(&words.collect::<Vec<_>>());
    let output = command.envs(variables).current_dir(folder).output().await.expect("an end");
    let [printed, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
    format!("{command_line}\n{printed}{errors}{}\n", output.status)
}

#[tokio::test]
async fn what_is_printed_is_what_the_files_say() {
    let folder = shipped("tests/cmd");
    let mut redactions = Redactions::new();
    redactions.insert("[VERSION]", env!("CARGO_PKG_VERSION")).expect("a placeholder");
    let assert = Assert::new().action_env(DEFAULT_ACTION_ENV).redact_with(redactions).normalize_paths(false);
    let mut files: Vec<_> = folder.read_dir().expect("files").map(|entry| entry.expect("a file").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(!files.is_empty());
    for path in files {
        let expected = std::fs::read_to_string(&path).expect("a text");
        let command_line = expected.lines().next().expect("a command");
        assert.eq(transcript(command_line, &folder).await, Data::read_from(&path, None));
    }
}
