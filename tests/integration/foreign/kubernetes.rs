//! What is shipped for Kubernetes, as kubectl builds it: against the real schemas, against other shipped files, and against the
//! exporter.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aws_iot_jobs_exporter::config::{self, Config, Sources};
use aws_iot_jobs_exporter::web::{HEALTHY, PROBES};
use regex_lite::Regex;
use serde_json::Value;

use super::tools::python;
use crate::kubernetes::RULES;
use crate::support::{output, shipped, text, yaml};

const FOLDERS: &str = "config/kubernetes";

/// What a manifest can note of itself in an annotation, as `kubectl apply` does, in bytes.
const NOTED: usize = 256 * 1024;

/// kubectl, of the tests' own Python environment.
fn kubectl() -> PathBuf {
    let path = shipped("target/python/bin/kubectl");
    assert!(path.exists(), "there is no {}: run tests/run.sh --all, which makes it", path.display());
    path
}

/// What a folder of `config/kubernetes` builds.
fn built(folder: &str) -> Vec<Value> {
    built_in(&shipped(FOLDERS).join(folder))
}

fn built_in(folder: &Path) -> Vec<Value> {
    let printed = output(std::process::Command::new(kubectl()).arg("kustomize").arg(folder));
    printed.split("\n---\n").map(|manifest| yaml_serde::from_str(manifest).expect("YAML")).collect()
}

/// The one manifest of this kind.
#[track_caller]
fn only<'a>(manifests: &'a [Value], kind: &str) -> &'a Value {
    let mut found = manifests.iter().filter(|manifest| manifest["kind"] == kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    first
}

/// The text of a configuration that is built.
fn configuration(manifests: &[Value]) -> &str {
    let of = |manifest: &&Value| manifest["kind"] == "ConfigMap" && manifest["data"]["exporter.yml"].is_string();
    manifests.iter().find(of).expect("a configuration")["data"]["exporter.yml"].as_str().expect("a text")
}

#[test]
fn whoever_wants_another_number_of_pods_says_it_in_one_place_and_every_pod_is_told() {
    // As the README tells, from a folder of one's own. kustomize takes no absolute paths.
    let folder = tempfile::tempdir_in(shipped("target")).expect("a folder");
    let shards = text("config/kubernetes/sharded/shards.yaml").replace("total: \"3\"", "total: \"5\"");
    std::fs::write(folder.path().join("shards.yaml"), shards).expect("a written file");
    let shipped = "../../config/kubernetes";
    let own = format!(
        "resources: [{shipped}/base, {shipped}/monitoring, shards.yaml]\ncomponents: [{shipped}/components/shards]\n"
    );
    std::fs::write(folder.path().join("kustomization.yaml"), own).expect("a written file");
    let manifests = built_in(folder.path());
    let workload = only(&manifests, "StatefulSet");
    assert_eq!(workload["spec"]["replicas"], 5);
    assert_eq!(pod(workload).1["env"][1]["value"], "5");
    let is_applied = manifests.iter().any(|manifest| manifest["metadata"]["name"] == "aws-iot-jobs-exporter-shards");
    assert!(!is_applied, "the number is for kustomize alone");
}

#[test]
fn requests_and_limits_are_the_measured_figures_and_those_stand_nowhere_otherwise() {
    let readme = text("README.md");
    let row =
        Regex::new(r"\| peak memory of the daemon \| ([0-9]+) MiB \| ([0-9]+) MiB \|").expect("a regular expression");
    let figures = row.captures(&readme).expect("the figures");
    let figure = |n: usize| figures.get(n).expect("a figure").as_str().parse::<u64>().expect("a number");
    let (hundred_thousand, million) = (figure(1), figure(2));
    let manifests = built("base");
    let (_, container) = pod(only(&manifests, "Deployment"));
    let mebibytes = |what: &str| {
        let text = container["resources"][what]["memory"].as_str().expect("an amount");
        text.strip_suffix("Mi").and_then(|number| number.parse::<u64>().ok()).expect("an amount in Mi")
    };
    assert!((hundred_thousand..2 * hundred_thousand).contains(&mebibytes("requests")), "{figures:?}");
    assert!((million..3 * million).contains(&mebibytes("limits")), "{figures:?}");
    let unit = text("config/systemd/aws-iot-jobs-exporter.service");
    assert!(
        unit.contains(&format!("It takes {hundred_thousand} MiB at 100,000 jobs and {million} MiB at a million.")),
        "other figures than the README's"
    );
    let deployment = text("config/kubernetes/base/deployment.yaml");
    for (figure, of) in [(hundred_thousand, "100,000 jobs"), (million, "a million jobs")] {
        assert!(deployment.contains(&format!("# {figure} MiB at {of}.")), "no {figure} MiB at {of} in deployment.yaml");
    }
}

/// What the exporter makes of a configuration, with this environment.
fn loaded(configuration: &str, environment: &[(&str, &str)]) -> Config {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), configuration).expect("a written file");
    let environment = environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let sources = Sources { file: Some(file.path().to_owned()), environment, ..Sources::default() };
    config::load(&sources).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The pods of a Deployment or a `StatefulSet`, and their one container.
fn pod(workload: &Value) -> (&Value, &Value) {
    let spec = &workload["spec"]["template"]["spec"];
    let containers = spec["containers"].as_array().expect("containers");
    assert_eq!(containers.len(), 1);
    (spec, &containers[0])
}

#[test]
fn every_folder_builds_and_the_schemas_of_kubernetes_and_its_operator_know_every_field() {
    let entries = std::fs::read_dir(shipped(FOLDERS)).expect("a folder");
    // A component is nothing by itself; `sharded` has it.
    let folders: BTreeSet<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir() && !path.ends_with("components"))
        .collect();
    assert!(folders.len() >= 4, "{folders:?}");
    let printed = output(python().arg(shipped("tests/python/check_kubernetes.py")).arg(kubectl()).args(&folders));
    assert_eq!(printed.lines().filter(|line| line.contains(" manifests, ")).count(), folders.len(), "{printed}");
}

#[test]
fn each_dashboard_is_a_config_map_with_the_very_bytes_of_its_file() {
    let manifests = built("monitoring");
    let mut expected = BTreeSet::new();
    for entry in std::fs::read_dir(shipped("dashboards")).expect("the dashboards") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let dashboard = std::fs::read_to_string(&path).expect("a dashboard");
        let has = |manifest: &&Value| manifest["kind"] == "ConfigMap" && manifest["data"][&name].is_string();
        let map =
            manifests.iter().find(has).unwrap_or_else(|| panic!("{name} is not in dashboards/kustomization.yaml"));
        assert!(map["data"][&name] == *dashboard, "{name} is another than its file");
        assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1", "Grafana's sidecar does not find {name}");
        assert!(map.to_string().len() < NOTED, "{name} is too long for `kubectl apply`");
        expected.insert(name);
    }
    let maps = manifests.iter().filter(|manifest| manifest["kind"] == "ConfigMap").count();
    assert_eq!((maps, expected.is_empty()), (expected.len(), false), "{expected:?}");
}

#[test]
fn probes_ports_labels_and_names_are_those_that_the_others_have() {
    let manifests = built("irsa");
    let (spec, container) = pod(only(&manifests, "Deployment"));
    for (probe, path) in [("livenessProbe", HEALTHY), ("readinessProbe", "/-/ready")] {
        assert!(PROBES.contains(&path));
        assert_eq!(container[probe]["httpGet"]["path"], path, "{probe}");
        assert_eq!(container[probe]["httpGet"]["port"], "http", "{probe}");
    }
    let config = loaded(configuration(&manifests), &[]);
    let port = &container["ports"][0];
    assert_eq!((&port["name"], &port["containerPort"]), (&"http".into(), &config.web.listen_addresses[0].port.into()));

    let labels = &only(&manifests, "Deployment")["spec"]["template"]["metadata"]["labels"];
    let (service, monitor) = (only(&manifests, "Service"), only(&manifests, "ServiceMonitor"));
    let policy = only(&manifests, "NetworkPolicy");
    assert_eq!(only(&manifests, "Deployment")["spec"]["selector"]["matchLabels"], *labels);
    assert_eq!(service["spec"]["selector"], *labels);
    assert_eq!(policy["spec"]["podSelector"]["matchLabels"], *labels);
    assert_eq!(policy["spec"]["ingress"][0]["ports"][0]["port"], "http");
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"]);
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!((&endpoint["port"], &service["spec"]["ports"][0]["targetPort"]), (&"http".into(), &"http".into()));
    assert_eq!((&service["spec"]["ports"][0]["name"], &endpoint["path"]), (&"http".into(), &"/metrics".into()));

    let scraping = &yaml("config/prometheus/prometheus.yml")["global"];
    assert_eq!(endpoint["interval"], scraping["scrape_interval"]);
    assert_eq!(endpoint["scrapeTimeout"], scraping["scrape_timeout"]);
    // The labels that the operator adds for each pod, or a pod that is replaced would be another exporter's series.
    let recording = text(RULES[1]);
    let without = Regex::new(r"max without \(instance([^)]*)\)").expect("a regular expression");
    let told_apart = &without.captures(&recording).expect("the labels of a process")[1];
    for label in ["pod", "container", "endpoint"] {
        assert!(told_apart.split([',', ' ']).any(|name| name == label), "{label} is not in ({told_apart})");
    }

    let account = &only(&manifests, "ServiceAccount")["metadata"];
    assert_eq!(spec["serviceAccountName"], account["name"]);
    assert!(account["annotations"]["eks.amazonaws.com/role-arn"].is_string(), "{account}");
    let version = concat!("aws-iot-jobs-exporter:", env!("CARGO_PKG_VERSION"));
    assert_eq!(container["image"], version);
}

#[test]
fn two_pods_never_watch_the_same_targets() {
    let manifests = built("base");
    let deployment = &only(&manifests, "Deployment")["spec"];
    assert_eq!((&deployment["replicas"], &deployment["strategy"]["type"]), (&1.into(), &"Recreate".into()));
    // Pods of a StatefulSet are replaced one by one, and have targets of their own.
    assert!(only(&built("sharded"), "StatefulSet")["spec"]["strategy"].is_null());
}

#[test]
fn a_pod_may_nothing_that_it_does_not_need() {
    for (folder, kind) in [("base", "Deployment"), ("sharded", "StatefulSet")] {
        let manifests = built(folder);
        let (spec, container) = pod(only(&manifests, kind));
        assert_eq!(spec["automountServiceAccountToken"], false);
        let context = &spec["securityContext"];
        assert_eq!(
            (&context["runAsNonRoot"], &context["seccompProfile"]["type"]),
            (&true.into(), &"RuntimeDefault".into())
        );
        let user = format!("\nUSER {}:{}\n", context["runAsUser"], context["runAsGroup"]);
        assert!(text("Dockerfile").contains(&user), "another user than the image's: {user}");
        let expected = serde_json::json!({
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
        });
        assert_eq!(container["securityContext"], expected);
        for (name, amount) in [("requests", "cpu"), ("requests", "memory"), ("limits", "memory")] {
            assert!(container["resources"][name][amount].is_string(), "no {name} of {amount}");
        }
        assert_eq!(only(&manifests, "NetworkPolicy")["spec"]["policyTypes"], serde_json::json!(["Ingress", "Egress"]));
    }
}

#[test]
fn the_exporter_takes_the_shipped_arguments_and_configurations() {
    let manifests = built("base");
    let (spec, container) = pod(only(&manifests, "Deployment"));
    let mount = container["volumeMounts"][0]["mountPath"].as_str().expect("a folder");
    assert_eq!(container["volumeMounts"][0]["name"], spec["volumes"][0]["name"]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("exporter.yml"), configuration(&manifests)).expect("a written file");
    let here = folder.path().to_str().expect("a path of UTF-8");
    let arguments = container["args"].as_array().expect("arguments").iter();
    let arguments: Vec<String> =
        arguments.map(|argument| argument.as_str().expect("a text").replace(mount, here)).collect();
    assert!(arguments.contains(&format!("--config.file={here}/exporter.yml")), "{arguments:?}");
    let checked = output(std::process::Command::new(crate::process::PROGRAM).args(arguments).arg("--config.check"));
    assert_eq!(checked, "The configuration is valid.\n");
}

#[test]
fn the_replicas_of_the_stateful_set_share_all_targets() {
    let manifests = built("sharded");
    assert!(manifests.iter().all(|manifest| manifest["kind"] != "Deployment"));
    let workload = only(&manifests, "StatefulSet");
    let (_, container) = pod(workload);
    let replicas = workload["spec"]["replicas"].as_u64().expect("a number");
    let environment = container["env"].as_array().expect("an environment");
    let [index, total] = &environment[..] else { panic!("{environment:?}") };
    assert_eq!(workload["spec"]["serviceName"], only(&manifests, "Service")["metadata"]["name"]);
    assert_eq!(index["valueFrom"]["fieldRef"]["fieldPath"], "metadata.labels['apps.kubernetes.io/pod-index']");
    assert_eq!(total["value"], replicas.to_string(), "not every pod knows how many they are");

    let (index, total) = (index["name"].as_str().expect("a name"), total["name"].as_str().expect("a name"));
    let configuration = configuration(&manifests);
    let mut shared = Vec::new();
    for pod in 0..replicas {
        let config = loaded(configuration, &[(index, &pod.to_string()), (total, &replicas.to_string())]);
        assert!(!config.targets.is_empty(), "pod {pod} has nothing to do");
        shared.extend(config.targets.into_iter().map(|target| target.name));
    }
    let mut all: Vec<_> = loaded(configuration, &[]).targets.into_iter().map(|target| target.name).collect();
    all.sort();
    shared.sort();
    assert_eq!(shared, all);
}
