//! Generates files from the definitions of the keys. `UPDATE_DOCS=1 cargo test reference` writes them.

use std::fmt::Write as _;

use super::key::{Field, Section as _, Shape};
use super::schema::Config;
use super::sources::{leaves, variable_of};
use super::web_config::schema::WebFile;

const MAX_LINE_CHARS: usize = 118;

/// A text as comment lines at an indent.
fn comment(text: &str, indent: &str) -> String {
    let (mut lines, mut line) = (String::new(), format!("{indent}#"));
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > MAX_LINE_CHARS {
            lines += &line;
            lines.push('\n');
            line = format!("{indent}#");
        }
        line = format!("{line} {word}");
    }
    lines + &line + "\n"
}

fn accepted(field: &Field) -> Option<&str> {
    match &field.info.shape {
        Shape::Scalar { accepted, .. } | Shape::List { accepted, .. } | Shape::Mapping { accepted, .. } => {
            Some(accepted)
        }
        Shape::Section(_) | Shape::Sections(_) => None,
    }
}

fn with_accepted(field: &Field) -> String {
    let accepted = accepted(field).map(|accepted| format!(" Accepts {accepted}.")).unwrap_or_default();
    field.description() + &accepted
}

/// `config/exporter.yml`.
pub(super) fn sample() -> String {
    let mut sample = String::from("# yaml-language-server: $schema=exporter.schema.json\n");
    sample += &comment(
        "Configuration of aws-iot-jobs-exporter, generated from the definitions of the keys. It contains every key with its \
         default; the exporter also runs without this file. An omitted or empty key has its default. An unknown key is an \
         error. `aws-iot-jobs-exporter --config.file=exporter.yml --config.check` reports all problems.",
        "",
    );
    sample += "#\n";
    sample += &comment("A duration is a number with a unit: 200ms, 30s, 5m, 1m30s, 1d (24 hours).", "");
    sample += "#\n";
    sample += &comment(
        "Flags take precedence over environment variables, and those over this file. A variable is named after its key: \
         IOT_JOBS_EXPORTER_COLLECTORS__OPEN_JOBS__INTERVAL=30s sets collectors.open_jobs.interval. An empty variable counts as unset. A list is set as \
         a whole: as YAML, or separated by commas: \
         IOT_JOBS_EXPORTER_TARGETS='[{region: eu-west-1}, {region: us-east-1}]', \
         IOT_JOBS_EXPORTER_WEB__LISTEN_ADDRESSES='127.0.0.1:10114,[::1]:10114'.",
        "",
    );
    for field in Config::fields() {
        let _ = write!(sample, "\n{}{}:\n", comment(&field.description(), ""), field.name);
        match &field.info.shape {
            Shape::Sections(fields) => sample += &targets(fields),
            Shape::Section(fields) => sample += &keys(fields, "  "),
            _ => unreachable!("the root has sections only"),
        }
    }
    sample
}

/// The keys of a section with their defaults.
fn keys(fields: &[Field], indent: &str) -> String {
    let mut text = String::new();
    for field in fields {
        if let Shape::Section(inner) = &field.info.shape {
            let _ = writeln!(text, "{}{indent}{}:", comment(&field.description(), indent), field.name);
            text += &keys(inner, &format!("{indent}  "));
            continue;
        }
        let default = match (&field.info.shape, field.info.default) {
            (Shape::List { .. }, Some(text)) if !text.starts_with('[') => {
                let items: Vec<_> = text.split(',').map(quoted).collect();
                format!(" [{}]", items.join(", "))
            }
            (_, Some(text)) => format!(" {text}"),
            (_, None) => String::new(),
        };
        let _ = writeln!(text, "{}{indent}{}:{default}", comment(&with_accepted(field), indent), field.name);
    }
    text
}

/// A list item of a default. A colon is the only special character in defaults.
fn quoted(text: &str) -> String {
    if text.contains(':') { format!("\"{text}\"") } else { text.to_owned() }
}

/// The default list of targets, and two items as comments: one with the keys for single values, one with those for
/// several.
fn targets(fields: &[Field]) -> String {
    fn is_for_several(name: &str) -> bool {
        matches!(name, "regions" | "role_arns")
    }
    let mut text = String::from("  - {}\n");
    text += &comment("To define targets, remove the line with {} and the # at the start of these lines:", "");
    let mut items = String::new();
    item(fields, "    ", &mut items, |name| !is_for_several(name));
    // The dash of the item precedes its first key by two columns.
    let mut items = items.replacen("    name:", "  - name:", 1);
    items += "  - name: plants\n";
    item(fields, "    ", &mut items, is_for_several);
    for line in items.lines() {
        let _ = writeln!(text, "#{line}");
    }
    text
}

fn item(fields: &[Field], indent: &str, text: &mut String, is_shown: fn(&str) -> bool) {
    for field in fields.iter().filter(|field| is_shown(field.name)) {
        *text += &comment(&with_accepted(field), indent);
        if let Some(fields) = field.own_keys() {
            let _ = writeln!(text, "{indent}{}:", field.name);
            item(fields, &format!("{indent}  "), text, |_| true);
        } else {
            let example = field.info.example.map(|example| format!(" {example}")).unwrap_or_default();
            let _ = writeln!(text, "{indent}{}:{example}", field.name);
        }
    }
}

/// `docs/configuration.md`.
pub(super) fn page() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         Generated from `src/config/schema.rs`; `UPDATE_DOCS=1 cargo test reference` updates it.\n\n\
         Flags take precedence over environment variables, those over the YAML file of `--config.file`, and the file over the\n\
         defaults. Lists are replaced as a whole. An empty variable counts as unset. An omitted or empty key has its default; an\n\
         unknown key is an error that names the most similar known one. A duration is a number with a unit: `200ms`, `30s`, `5m`,\n\
         `1m30s`, `1d` (24 hours).\n\n\
         | command | what it does |\n| --- | --- |\n\
         | `--config.check` | reports all problems with file and line, warns of settings that are valid but probably unintended, and exits with 0 or 64 |\n\
         | `--config.print` | prints the effective configuration with the source of each value, secrets hidden |\n\
         | `--config.schema` | prints the JSON Schema of the file, for editors; [config/exporter.schema.json](../config/exporter.schema.json) |\n\n\
         [config/exporter.yml](../config/exporter.yml) has every key with its default.\n",
    );
    section(&Config::fields(), "", true, &mut page);
    page += "\n## Web configuration\n\n\
        The file of `web.config_file` has the format of the\n\
        [Prometheus exporter-toolkit](https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md). It is\n\
        read every minute, with the files that it names. An empty file is refused; write `{}` instead. A change is applied after two equal reads. A change that removes all\n\
        users, TLS, client authentication or `client_allowed_sans` is not applied until an explicit reload (SIGHUP or\n\
        `POST /-/reload`); until then, `aws_iot_jobs_exporter_web_config_last_reload_successful` is 0.\n";
    section(&WebFile::fields(), "", false, &mut page);
    page
}

fn section(fields: &[Field], path: &str, is_set_by_variables: bool, page: &mut String) {
    for field in fields {
        let name = if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
        let is_section = matches!(field.info.shape, Shape::Section(_) | Shape::Sections(_));
        let heading = if path.is_empty() && is_section && is_set_by_variables { "##" } else { "###" };
        let _ = write!(page, "\n{heading} `{name}`\n\n{}\n", field.description());
        let mut facts = Vec::new();
        facts.extend(accepted(field).map(|accepted| format!("Accepts {accepted}")));
        facts.extend(
            field.info.default.filter(|default| !default.is_empty()).map(|default| format!("Default: `{default}`")),
        );
        facts.extend(field.info.example.map(|example| format!("Example: `{example}`")));
        let is_in_list = name.contains("[]");
        if is_set_by_variables && !is_in_list && !matches!(field.info.shape, Shape::Section(_)) {
            facts.push(format!("Variable: `{}`", variable_of(&name)));
        }
        facts
            .extend(field.info.flag.map(|(flag, value)| format!("Flag: `{}`", format!("--{flag} {value}").trim_end())));
        if !facts.is_empty() {
            let _ = write!(page, "\n- {}\n", facts.join("\n- "));
        }
        match &field.info.shape {
            Shape::Sections(fields) => section(fields, &format!("{name}[]"), is_set_by_variables, page),
            _ => section(field.own_keys().unwrap_or_default(), &name, is_set_by_variables, page),
        }
    }
}

/// Checks that the file at `path` has this content, or writes it if `UPDATE_DOCS` is set.
fn check_file(path: &str, content: &str) {
    let full = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&full, content).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    let written = std::fs::read_to_string(&full).unwrap_or_default();
    assert!(written == content, "{path} is out of date: run `UPDATE_DOCS=1 cargo test reference`");
}

#[test]
fn the_generated_files_in_the_repository_are_up_to_date() {
    check_file("config/exporter.yml", &sample());
    check_file("config/exporter.schema.json", &super::json_schema());
    check_file("docs/configuration.md", &page());
}

#[test]
fn every_key_is_in_the_sample_and_on_the_page() {
    let (sample, page) = (sample(), page());
    let fields = Config::fields();
    let targets = fields.iter().find_map(|field| match &field.info.shape {
        Shape::Sections(fields) => Some(fields),
        _ => None,
    });
    let of_targets = leaves(targets.expect("targets"));
    // The overrides are documented with the global keys.
    let of_targets = of_targets.into_iter().filter(|(path, _)| !path.starts_with("collectors."));
    let of_targets = of_targets.map(|(path, field)| (format!("targets[].{path}"), field));
    for (path, field) in leaves(&fields).into_iter().chain(of_targets) {
        let is_at = |line: &str| line.trim_start_matches(['#', ' ', '-']).starts_with(&format!("{}:", field.name));
        assert!(sample.lines().any(is_at), "{path} is not in the sample");
        let heading = format!("# `{path}`");
        assert!(page.lines().any(|line| line.trim_start_matches('#') == &heading[1..]), "{path} has no heading");
    }
}

#[test]
fn every_summary_is_a_short_sentence_for_the_help() {
    for flag in super::flags() {
        assert!((10..130).contains(&flag.help.len()), "{}: {}", flag.name, flag.help);
    }
}
