//! What is shipped to run the exporter with Prometheus, Alertmanager and Grafana fits together: files, mounts, names and ports.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use regex_lite::Regex;
use serde_json::Value;

use crate::process::program;
use crate::support::{free_port, shipped, text, yaml};

const COMPOSE: &str = "config/compose.yml";
pub const PROMETHEUS: &str = "config/prometheus/prometheus.yml";
pub const ALERTMANAGER: &str = "config/prometheus/alertmanager.yml";
const DATA_SOURCES: &str = "config/grafana/provisioning/datasources/prometheus.yml";
const PROVIDERS: &str = "config/grafana/provisioning/dashboards/aws-iot-jobs.yml";

#[track_caller]
fn texts(value: &Value) -> Vec<&str> {
    let items = value.as_array().into_iter().flatten();
    items.map(|item| item.as_str().unwrap_or_else(|| panic!("{item} is no text"))).collect()
}

fn services() -> serde_json::Map<String, Value> {
    yaml(COMPOSE)["services"].as_object().expect("services").clone()
}

/// The mounts of a service: what is mounted, where to, and how.
fn mounts(service: &Value) -> Vec<(String, String, String)> {
    let mounts = texts(&service["volumes"]).into_iter().map(|mount| {
        let parts: Vec<&str> = mount.split(':').collect();
        let [from, to] = parts[..2] else { panic!("{mount} is no mount") };
        (from.to_owned(), to.to_owned(), parts.get(2).copied().unwrap_or_default().to_owned())
    });
    mounts.collect()
}

/// A path of the repository, given from the compose file's folder.
fn beside_compose(path: &str) -> PathBuf {
    let mut found = shipped("config");
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => drop(found.pop()),
            Component::Normal(name) => found.push(name),
            _ => {}
        }
    }
    found
}

/// What a path in a container is in the repository.
fn in_repository(service: &Value, path: &str) -> PathBuf {
    let under = |(from, to, _): (String, String, String)| {
        let rest = Path::new(path).strip_prefix(&to).ok()?.to_owned();
        let from = beside_compose(&from);
        Some(if rest.as_os_str().is_empty() { from } else { from.join(rest) })
    };
    mounts(service).into_iter().find_map(under).unwrap_or_else(|| panic!("{path} is on no mount"))
}

/// The value of `--name=` among a service's arguments.
fn argument(service: &Value, name: &str) -> String {
    let arguments = texts(&service["command"]);
    let found = arguments.iter().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {arguments:?}")).to_owned()
}

#[test]
fn images_are_pinned_ports_are_of_this_machine_alone_and_what_is_mounted_is_there_and_not_written_to() {
    let tag =
        Regex::new(r"^[a-z]+/[a-z]+:v?[0-9]+\.[0-9]+\.[0-9]+(@sha256:[0-9a-f]{64})?$").expect("a regular expression");
    let declared = yaml(COMPOSE)["volumes"].as_object().expect("volumes").clone();
    let services = services();
    assert_eq!(services.keys().collect::<Vec<_>>(), ["alertmanager", "exporter", "grafana", "prometheus"]);
    for (name, service) in &services {
        let image = service["image"].as_str().expect("an image");
        if service["build"].is_null() {
            assert!(tag.is_match(image), "{name}: {image} is not pinned");
            assert!(service["healthcheck"]["test"].is_array(), "{name} has no health check");
        } else {
            assert_eq!(beside_compose(service["build"]["context"].as_str().expect("a folder")), shipped(""), "{name}");
            // The image's own goes by the default address.
            let ports = texts(&service["ports"]);
            assert!(service["healthcheck"].is_null() && ports.contains(&"127.0.0.1:10114:10114"), "{name}: {ports:?}");
            assert!(text("Dockerfile").contains("HEALTHCHECK"), "{name} has no health check");
        }
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port} is open to others");
        }
        for (from, _, mode) in mounts(service) {
            if from.starts_with('.') {
                assert!(beside_compose(&from).exists(), "{name}: there is no {from}");
                assert_eq!(mode, "ro", "{name}: {from} can be written to");
            } else {
                assert!(declared.contains_key(&from), "{name}: volume {from} is not declared");
            }
        }
    }
}

#[test]
fn the_services_read_the_files_that_the_tests_use_and_find_each_other() {
    let services = services();
    let is_served = |address: &str| {
        let (service, port) = address.split_once(':').expect("a port");
        let published = format!("127.0.0.1:{port}:{port}");
        assert!(texts(&services[service]["ports"]).contains(&&*published), "{service} does not serve {port}");
    };
    let (prometheus, alertmanager, grafana) =
        (&services["prometheus"], &services["alertmanager"], &services["grafana"]);
    assert_eq!(in_repository(prometheus, &argument(prometheus, "--config.file")), shipped(PROMETHEUS));
    assert_eq!(in_repository(alertmanager, &argument(alertmanager, "--config.file")), shipped(ALERTMANAGER));
    assert_eq!(in_repository(grafana, "/etc/grafana/provisioning"), shipped("config/grafana/provisioning"));
    let home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str().expect("a path");
    assert!(in_repository(grafana, home).exists(), "{home}");

    let scraping = yaml(PROMETHEUS);
    is_served(scraping["scrape_configs"][0]["static_configs"][0]["targets"][0].as_str().expect("a target"));
    is_served(scraping["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"][0].as_str().expect("a target"));
    let source = yaml(DATA_SOURCES)["datasources"][0].clone();
    is_served(source["url"].as_str().and_then(|url| url.strip_prefix("http://")).expect("an address"));
    assert_eq!(source["jsonData"]["timeInterval"], scraping["global"]["scrape_interval"]);
    assert_eq!(source["uid"], "aws-iot-jobs-prometheus", "links that people keep hold no longer");
    let provider = yaml(PROVIDERS)["providers"][0].clone();
    assert_eq!(in_repository(grafana, provider["options"]["path"].as_str().expect("a path")), shipped("dashboards"));
}

/// The arguments with which the exporter starts unless others are set.
fn demo_arguments(exporter: &Value) -> Vec<String> {
    let command = exporter["command"].as_str().expect("a command");
    let default = command.strip_prefix("${EXPORTER_ARGUMENTS:-").and_then(|rest| rest.strip_suffix('}'));
    default.unwrap_or_else(|| panic!("{command}")).split(' ').map(str::to_owned).collect()
}

/// What the demo prints, started with these arguments, up to the end of its first screen.
async fn welcome(arguments: &[String]) -> String {
    use tokio::io::AsyncBufReadExt as _;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut demo = program(&arguments).spawn().expect("a started demo");
    let mut lines = tokio::io::BufReader::new(demo.stdout.take().expect("its output")).lines();
    let mut printed = String::new();
    while !printed.ends_with("Ctrl-C ends it.\n") {
        let line = lines.next_line().await.expect("a line").unwrap_or_else(|| panic!("it ended after\n{printed}"));
        printed.push_str(&line);
        printed.push('\n');
    }
    printed
}

#[tokio::test]
async fn every_address_that_the_demo_prints_in_its_container_is_published_on_the_host() {
    let exporter = &services()["exporter"];
    let published = texts(&exporter["ports"]);
    let mut arguments = demo_arguments(exporter);
    // Here the ports can be in use. The number of each is replaced by a free one, and put back in what is printed.
    let mut replaced = Vec::new();
    for argument in &mut arguments {
        if let Some((flag, port)) = argument.clone().rsplit_once(':') {
            let free = free_port().to_string();
            *argument = format!("{flag}:{free}");
            replaced.push((free, port.to_owned()));
        }
    }
    assert_eq!(replaced.len(), 2, "{arguments:?}");
    let mut printed = welcome(&arguments).await;
    for (free, port) in &replaced {
        printed = printed.replace(&format!(":{free}"), &format!(":{port}"));
    }
    let url = Regex::new(r"http://([^/:\s]+):([0-9]+)").expect("a regular expression");
    let mut ports = BTreeSet::new();
    for found in url.captures_iter(&printed) {
        assert_eq!(&found[1], "localhost", "{printed}");
        assert!(published.contains(&&*format!("127.0.0.1:{0}:{0}", &found[2])), "{} is not published", &found[0]);
        ports.insert(found[2].to_owned());
    }
    assert_eq!(ports.into_iter().collect::<Vec<_>>(), ["10114", "10115"], "{printed}");
}

#[test]
fn the_exporter_starts_as_the_demo_and_as_the_real_thing_where_its_arguments_say_so() {
    let exporter = &services()["exporter"];
    let demo = demo_arguments(exporter);
    assert_eq!(demo[0], "demo");
    let told = text(COMPOSE);
    let argument = Regex::new(r"EXPORTER_ARGUMENTS=--config\.file=(\S+) docker compose -f config/compose\.yml up")
        .expect("a regular expression");
    let file = &argument.captures(&told).expect("how to start the real thing")[1];
    assert_eq!(in_repository(exporter, file), shipped("config/exporter.yml"));
    for variable in ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
        // Without a value it is handed on from the shell, or is not there at all.
        assert_eq!(exporter["environment"].get(variable), Some(&Value::Null), "{variable}");
    }
}
