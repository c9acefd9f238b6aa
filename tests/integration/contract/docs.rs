//! What the Markdown files name exists: linked files and headings, paths, flags, configuration keys, variables. Their YAML and JSON
//! parses. Their shell commands run, or a comment gives the reason why not.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;

use aws_iot_jobs_exporter::config::{self, Sources};
use aws_iot_jobs_exporter::jobs::{ExecutionStatus, Status};
use aws_iot_jobs_exporter::simulator::Job;
use regex_lite::Regex;
use tokio::process::Command;

use super::{File, assert_none, file};
use crate::process::{PROGRAM, isolated, pointed_at};
use crate::support::{Endpoint, NOW, simulator, text};

/// The folders of the repository that can begin a path.
const FOLDERS: [&str; 9] =
    [".github/", "benches/", "charts/", "config/", "dashboards/", "docs/", "release/", "src/", "tests/"];

const REPOSITORY: &str = "https://github.com/aws-iot-jobs-exporter/aws-iot-jobs-exporter/";

/// Flags that pages name without a command before them, and whose they are.
const FLAGS_OF_OTHER_PROGRAMS: &[(&str, &str)] = &[
    ("--all", "tests/run.sh"),
    ("--force", "aws iot cancel-job"),
    ("--format", "buildah"),
    ("--locked", "cargo"),
    ("--skip", "cargo test"),
];

/// Pages whose names with dots are not configuration keys: fields of the JSON API.
const NO_KEYS: &[&str] = &["docs/api.md"];

/// Programs of the commands that `commands_of_the_exporter_run` runs, and a command of the shell.
const OWN: [&str; 2] = ["aws-iot-jobs-exporter", "export"];

/// Further programs of the commands that `foreign::docs` runs.
pub const TOOLS: [&str; 2] = ["amtool", "promtool"];

/// The pages whose commands for AWS `foreign::python` runs.
const RUNBOOKS: &str = "docs/runbooks/";

/// The configuration and the AWS profile that commands find, unless their page shows a configuration.
const DEFAULT_CONFIGURATION: &str = "targets:\n  - region: eu-west-1\n";
const PROFILE: &str = "[profile monitoring]\nregion = eu-west-1\n";

/// The first line of an example of a configuration.
const CONFIGURATION: &str = "# exporter.yml\n";

const README_LINES: usize = 250;

/// The first screen of the README.
const SCREEN_LINES: usize = 25;

fn re(expression: &str) -> Regex {
    Regex::new(expression).expect("a regular expression")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn is_markdown(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "md")
}

/// All Markdown files of the repository.
fn pages() -> Vec<File> {
    let (mut folders, mut paths) = (vec![String::new()], BTreeSet::new());
    folders.extend(FOLDERS.map(str::to_owned));
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = format!("{folder}{}", entry.file_name().to_string_lossy());
            if entry.file_type().expect("a type").is_dir() && !folder.is_empty() {
                folders.push(format!("{path}/"));
            } else if is_markdown(&path) {
                paths.insert(path);
            }
        }
    }
    paths.iter().map(|path| file(path)).collect()
}

/// The test that runs a block of shell commands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RunBy {
    Contract,
    Foreign,
    Runbooks,
}

/// A code block.
struct Block {
    line: usize,
    language: String,
    text: String,
    /// The reason in the comment `<!-- not run: … -->` before it.
    not_run: Option<String>,
}

impl Block {
    fn is_shell(&self) -> bool {
        ["sh", "console", "bash", "shell"].contains(&&*self.language)
    }

    /// The commands, without the output that a console shows.
    fn script(&self) -> String {
        match &*self.language {
            "console" => self.text.lines().filter_map(|line| line.strip_prefix("$ ")).collect::<Vec<_>>().join("\n"),
            _ => self.text.clone(),
        }
    }

    /// The test that runs the commands. None does if a comment gives a reason.
    fn run_by(&self, page: &str) -> Result<Option<RunBy>, String> {
        if let Some(reason) = &self.not_run {
            return if reason.is_empty() { Err("the comment gives no reason".to_owned()) } else { Ok(None) };
        }
        let programs = programs(&self.script());
        let other = |known: &[&str]| programs.iter().find(|program| !known.contains(&&***program));
        if page.starts_with(RUNBOOKS) && programs.iter().any(|program| program == "aws") {
            return Ok(Some(RunBy::Runbooks));
        }
        if other(&OWN).is_none() {
            return Ok(Some(RunBy::Contract));
        }
        match other(&[&OWN[..], &TOOLS].concat()) {
            None => Ok(Some(RunBy::Foreign)),
            Some(program) => {
                Err(format!("no test runs {program}. Write the reason before the block: <!-- not run: … -->"))
            }
        }
    }
}

/// The code blocks of a page, and its other lines by number.
fn parts(page: &File) -> (Vec<Block>, Vec<(usize, &str)>) {
    let (mut blocks, mut prose): (Vec<Block>, Vec<(usize, &str)>) = (Vec::new(), Vec::new());
    let (mut fence_indent, mut last) = (None, "");
    for (number, line) in (1..).zip(page.text.lines()) {
        let trimmed = line.trim_start();
        match (trimmed.strip_prefix("```"), fence_indent) {
            (Some(language), None) => {
                let reason = last.trim().strip_prefix("<!-- not run:").and_then(|rest| rest.strip_suffix("-->"));
                let not_run = reason.map(|reason| reason.trim().to_owned());
                fence_indent = Some(line.len() - trimmed.len());
                blocks.push(Block { line: number, language: language.to_owned(), text: String::new(), not_run });
            }
            (Some(_), Some(_)) => fence_indent = None,
            (None, Some(indent)) => {
                let block = blocks.last_mut().expect("a block");
                block.text.push_str(line.get(indent..).unwrap_or_default());
                block.text.push('\n');
            }
            (None, None) => prose.push((number, line)),
        }
        if !line.trim().is_empty() {
            last = line;
        }
    }
    (blocks, prose)
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &File) -> BTreeSet<String> {
    let link = re(r"\[([^\]]*)\]\([^)]*\)");
    let anchor = |heading: &str| -> String {
        let heading = link.replace_all(heading.trim_start_matches('#').trim(), "$1").to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    parts(page).1.iter().filter(|(_, line)| line.starts_with('#')).map(|(_, line)| anchor(line)).collect()
}

/// What is wrong with a link of a page.
fn broken(page: &File, target: &str) -> Option<String> {
    if let Some(workflow) = target.strip_prefix(&format!("{REPOSITORY}actions/workflows/")) {
        let name = workflow.split('/').next().unwrap_or_default();
        return (!root().join(".github/workflows").join(name).exists()).then(|| format!("there is no workflow {name}"));
    }
    let (from, target) = match target.strip_prefix(&format!("{REPOSITORY}blob/main/")) {
        Some(path) => (root().to_owned(), path),
        None if target.contains("://") => return None,
        None => (root().join(&page.path).parent().expect("a folder").to_owned(), target),
    };
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let full = if path.is_empty() { root().join(&page.path) } else { from.join(path) };
    let Ok(text) = std::fs::read_to_string(&full).or_else(|error| full.is_dir().then(String::new).ok_or(error)) else {
        return (!full.exists()).then(|| format!("there is no {target}"));
    };
    let anchor = anchor?;
    let is_there = anchors(&File::new(target, &text)).contains(anchor);
    (!is_there).then(|| format!("{target} has no heading #{anchor}"))
}

/// The commands of a text for a shell, each on one line.
fn commands(script: &str) -> Vec<String> {
    script.replace("\\\n", " ").lines().map(|line| line.trim().trim_start_matches("$ ").to_owned()).collect()
}

/// The programs that a script starts. Of what it cannot read, such as a loop or a quoted `|`, it returns words that are no program.
fn programs(script: &str) -> BTreeSet<String> {
    let lines = commands(script).into_iter().filter(|line| !line.starts_with('#'));
    let lines: Vec<String> = lines.map(|line| line.split(" #").next().unwrap_or_default().to_owned()).collect();
    let commands = lines.iter().flat_map(|line| line.split(['|', ';', '&']));
    let is_assignment = re("^[A-Za-z_]+=");
    let program =
        |command: &str| command.split_whitespace().find(|word| !is_assignment.is_match(word)).map(str::to_owned);
    commands.filter_map(program).collect()
}

/// The arguments of the exporter in a command, if the command starts it.
fn arguments(command: &str) -> Option<String> {
    let start = re(
        r"^(?:sudo )?(?:[A-Z_]+=\S+ )*(?:\S*/)?aws-iot-jobs-exporter\b|^cargo run .*?-- |^(?:docker|podman) run .*aws-iot-jobs-exporter:[0-9.]+|^demo\b",
    );
    let found = start.find(command)?;
    command[found.end()..].split(['|', ';', '&', '#']).next().map(str::to_owned)
}

/// Fails with the faults of all pages, each with the line that it is in.
#[track_caller]
fn assert_each(check: impl Fn(&File) -> Vec<(usize, String)>) {
    let pages = pages();
    let faults = pages.iter().flat_map(|page| check(page).into_iter().map(move |(line, fault)| (page, line, fault)));
    let faults: Vec<_> = faults.map(|(page, line, fault)| format!("{}: line {line}: {fault}", page.path)).collect();
    assert_none(&faults);
}

#[test]
fn links_lead_to_files_and_headings() {
    let link = re(r#"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)|(?:src|srcset)="([^"]+)""#);
    let span = re("`[^`]*`");
    assert_each(|page| {
        let mut faults = Vec::new();
        for (number, line) in parts(page).1 {
            for found in link.captures_iter(&span.replace_all(line, "`code`")) {
                let target = found.iter().skip(1).flatten().next().expect("a target").as_str();
                faults.extend(broken(page, target).map(|fault| (number, fault)));
            }
        }
        faults
    });
}

#[test]
fn paths_flags_keys_and_variables_exist() {
    let reference = text("docs/configuration.md");
    let all = |expression: &str, text: &str| -> BTreeSet<String> {
        re(expression).captures_iter(text).map(|found| found[1].to_owned()).collect()
    };
    let keys = all(r"(?m)^#+ `([a-z_.\[\]]+)`$", &reference);
    let variables = all("Variable: `([A-Z_]+)`", &reference);
    let helps = ["", "-demo", "-doctor", "-estimate", "-explain", "-completions"];
    let helps = helps.map(|name| text(&format!("tests/cmd/help{name}.txt"))).join("\n");
    let flag = re("--[a-z][a-z0-9.-]*");
    let flags = all("(?m)^ +(?:-h, )?(--[a-z][a-z0-9.-]*)", &helps);
    let (span, variable) = (re("`([^`]+)`"), re("IOT_JOBS_EXPORTER_[A-Z_]+"));
    let key = re(r"^(?:targets\[\]|shard|collectors|thing_groups|jobs|limits|web|log)(?:\.[a-z_*]+)+");
    let is_key = |name: &str| {
        let global = name.strip_prefix("targets[].").filter(|name| name.starts_with("collectors.")).unwrap_or(name);
        let pattern = re(&format!("^{}$", global.replace(['[', ']'], ".").replace('*', "[a-z_]+")));
        keys.iter().any(|known| known == name || pattern.is_match(known))
    };
    let is_file = |name: &str| [".rs", ".yml", ".json"].iter().any(|ending| name.ends_with(ending));
    let is_other = |name: &str| FLAGS_OF_OTHER_PROGRAMS.iter().any(|(of, _)| *of == name);
    assert!(keys.len() > 50 && flags.len() > 20 && variables.len() > 20, "{keys:?} {flags:?} {variables:?}");
    assert_each(|page| {
        let (blocks, prose) = parts(page);
        let spans = prose.iter().flat_map(|(line, text)| span.captures_iter(text).map(|s| (*line, s[1].to_owned())));
        let shells = blocks.iter().filter(|block| block.is_shell());
        let shells = shells.flat_map(|block| commands(&block.text).into_iter().map(|command| (block.line, command)));
        // The chart has values with dots, which its tests check.
        let is_value = |name: &str| page.path.starts_with("charts/") && page.text.contains(&format!("| `{name}` |"));
        let mut faults = Vec::new();
        for (line, code) in spans.chain(shells) {
            let mut miss = |what: &str, name: &str| faults.push((line, format!("there is no {what} {name}")));
            for word in code.split([' ', '=', '"', '\'']) {
                let path = word.trim_start_matches("./").split(['#', ':', '*', '…']).next().unwrap_or_default();
                if FOLDERS.iter().any(|folder| path.starts_with(folder)) && !root().join(path).exists() {
                    miss("file", path);
                }
            }
            let first = flag.find(&code).filter(|found| found.start() == 0 && !is_other(found.as_str()));
            let arguments = arguments(&code).unwrap_or_default();
            for name in first.into_iter().chain(flag.find_iter(&arguments)).map(|found| found.as_str()) {
                if !flags.contains(name) {
                    miss("flag", name);
                }
            }
            let named = key.find(&code).filter(|_| !NO_KEYS.contains(&&*page.path) && !is_file(&code));
            if named.is_some_and(|name| !is_key(name.as_str()) && !is_value(&code)) {
                miss("key", &code);
            }
        }
        let used = page.text.lines().zip(1..).flat_map(|(text, line)| variable.find_iter(text).map(move |v| (line, v)));
        let unknown = used.filter(|(_, name)| !variables.contains(name.as_str()));
        faults.extend(unknown.map(|(line, name)| (line, format!("there is no variable {}", name.as_str()))));
        faults
    });
}

/// What is wrong with a configuration of the exporter.
fn invalid(text: &str) -> Option<String> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("a written file");
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    config::load(&sources).err().map(|problems| problems.to_string())
}

#[test]
fn yaml_and_json_parse_and_configurations_are_valid() {
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).err().map(|error| error.to_string());
    assert_each(|page| {
        let blocks = parts(page).0.into_iter();
        let check = |Block { line, language, text, .. }| {
            let fault = match &*language {
                "yaml" if text.starts_with(CONFIGURATION) => invalid(&text),
                "yaml" => yaml_serde::from_str::<yaml_serde::Value>(&text).err().map(|error| error.to_string()),
                // A part of a policy is a member of an object.
                "json" => json(&text).filter(|_| json(&format!("{{{text}}}")).is_some()),
                _ => None,
            };
            fault.map(|fault| (line, fault))
        };
        blocks.filter_map(check).collect()
    });
}

#[test]
fn the_readme_is_short_and_begins_with_the_two_commands() {
    let readme = text("README.md");
    assert!(readme.lines().count() <= README_LINES, "{} lines", readme.lines().count());
    for command in ["cargo run --release -- demo", "tests/run.sh"] {
        assert!(readme.lines().take(SCREEN_LINES).any(|line| line == command), "{command} is not on the first screen");
    }
}

#[test]
fn the_policy_in_the_readme_is_the_one_in_the_file() {
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let (blocks, _) = parts(&file("README.md"));
    let policies: Vec<_> =
        blocks.iter().filter(|block| block.language == "json").map(|block| json(&block.text)).collect();
    assert_eq!(policies, [json(&text("config/iam/executions.json"))]);
}

/// Runs the blocks of shell commands of all pages that a test runs. Returns what failed.
pub async fn run_commands(by: RunBy) -> Vec<String> {
    let job = Job::new("fw-1", Status::InProgress, NOW).targeting_thing("device-1");
    let endpoint = Endpoint::start(simulator([job.with_executions(ExecutionStatus::Queued, 1)])).await;
    let (mut faults, mut run) = (Vec::new(), 0);
    for page in pages() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        symlink(PROGRAM, at("aws-iot-jobs-exporter")).expect("a link");
        symlink(root().join("config"), at("config")).expect("a link");
        std::fs::write(at("exporter.yml"), DEFAULT_CONFIGURATION).expect("a written file");
        std::fs::write(at("aws"), PROFILE).expect("a written file");
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a search path"));
        for block in parts(&page).0 {
            if block.language == "yaml" && block.text.starts_with(CONFIGURATION) {
                std::fs::write(at("exporter.yml"), &block.text).expect("a written file");
            }
            if !block.is_shell() || block.run_by(&page.path) != Ok(Some(by)) {
                continue;
            }
            let mut shell = pointed_at(isolated(Command::new("bash"), &["-euc", &block.script()]), &endpoint);
            // A home of its own: a command that writes there must not change the machine.
            shell.current_dir(folder.path()).env("HOME", folder.path()).env("PATH", &path);
            shell.env("AWS_CONFIG_FILE", at("aws"));
            let output = shell.output().await.expect("a shell");
            run += 1;
            if !output.status.success() {
                let printed = [output.stderr, output.stdout].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                faults.push(format!("{}: line {}: {}\n{}", page.path, block.line, output.status, printed.concat()));
            }
        }
    }
    assert!(run > 1, "{run} blocks were run by {by:?}");
    faults
}

#[test]
fn every_shell_command_is_run_or_has_a_reason() {
    assert_each(|page| {
        let mut faults = Vec::new();
        for block in parts(page).0.iter().filter(|block| block.is_shell()) {
            let mut bash = std::process::Command::new("bash");
            let parsed = bash.args(["-nc", &block.script()]).output().expect("bash");
            if !parsed.status.success() {
                faults.push((block.line, String::from_utf8_lossy(&parsed.stderr).into_owned()));
            }
            faults.extend(block.run_by(&page.path).err().map(|fault| (block.line, fault)));
        }
        faults
    });
}

#[tokio::test]
async fn commands_of_the_exporter_run() {
    assert_none(&run_commands(RunBy::Contract).await);
}
