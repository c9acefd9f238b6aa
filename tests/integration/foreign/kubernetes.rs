//! The Helm chart, as Helm renders it: against the real schemas, against other shipped files, and against the exporter.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_iot_jobs_exporter::config::{self, Config, Sources};
use aws_iot_jobs_exporter::web::{HEALTHY, PROBES};
use regex_lite::Regex;
use serde_json::{Value, json};

use super::tools::{newer_tool, python};
use crate::kubernetes::{CHART, RULES};
use crate::support::{output, shipped, text, yaml};
use crate::test_certs::certificates;

/// What a manifest can note of itself in an annotation, as `kubectl apply` does, in bytes.
const NOTED: usize = 256 * 1024;

/// What a Secret can hold, in bytes. Helm keeps a release in one: the chart and its manifests, compressed and in Base64.
const SECRET: usize = 1024 * 1024;

const RELEASE: &str = "iot-jobs";

/// Helm, unpacked by `tests/run.sh --all`.
fn helm() -> Command {
    let path = shipped("target/tools/bin/helm");
    assert!(path.exists(), "there is no {}: run tests/run.sh --all, which unpacks it", path.display());
    Command::new(path)
}

/// The value sets for tests, by their names.
fn value_sets() -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(shipped(CHART).join("ci")).expect("a folder");
    let named = entries.map(|entry| {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        (name.strip_suffix("-values.yaml").expect("a value set").to_owned(), path)
    });
    let mut sets: Vec<_> = named.collect();
    sets.sort();
    assert!(sets.len() >= 12, "{sets:?}");
    sets
}

fn value_set(name: &str) -> PathBuf {
    shipped(CHART).join("ci").join(format!("{name}-values.yaml"))
}

/// What Helm makes of a chart, as text.
fn template(chart: &Path, values: &Path, settings: &[&str]) -> String {
    let mut command = helm();
    command.args(["template", RELEASE, "--namespace", "iot"]).arg(chart).arg("--values").arg(values);
    output(command.args(settings.iter().flat_map(|setting| ["--set", setting])))
}

/// What Helm makes of a value set and more settings.
fn rendered_with(name: &str, settings: &[&str]) -> Vec<Value> {
    let printed = template(&shipped(CHART), &value_set(name), settings);
    // The last line of a manifest has its end, which counts in a text.
    let manifests = printed.split_inclusive("\n---\n").map(|manifest| {
        let manifest = manifest.strip_suffix("---\n").unwrap_or(manifest);
        yaml_serde::from_str(manifest).expect("YAML")
    });
    manifests.filter(|manifest: &Value| !manifest.is_null()).collect()
}

fn rendered(name: &str) -> Vec<Value> {
    rendered_with(name, &[])
}

/// The one manifest of this kind.
#[track_caller]
fn only<'a>(manifests: &'a [Value], kind: &str) -> &'a Value {
    let mut found = manifests.iter().filter(|manifest| manifest["kind"] == kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    first
}

fn workload(manifests: &[Value]) -> &Value {
    let of = |manifest: &&Value| manifest["kind"] == "Deployment" || manifest["kind"] == "StatefulSet";
    manifests.iter().find(of).expect("a workload")
}

/// The pods of a Deployment or a `StatefulSet`, and their container of the exporter.
fn pod(workload: &Value) -> (&Value, &Value) {
    let spec = &workload["spec"]["template"]["spec"];
    let container = spec["containers"].as_array().expect("containers").first().expect("a container");
    assert_eq!(container["name"], "exporter");
    (spec, container)
}

/// The configuration of a value set, if it has one of its own.
fn configuration(manifests: &[Value]) -> Option<&str> {
    manifests.iter().find_map(|manifest| manifest["data"]["exporter.yml"].as_str())
}

/// What the exporter makes of a configuration, with this environment.
fn loaded(configuration: &str, environment: &[(&str, &str)]) -> Config {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), configuration).expect("a written file");
    let environment = environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let sources = Sources { file: Some(file.path().to_owned()), environment, ..Sources::default() };
    config::load(&sources).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What Helm says of settings that it refuses.
fn refused(settings: &[&str]) -> String {
    let mut command = helm();
    command.args(["template", RELEASE]).arg(shipped(CHART));
    let printed = command.args(settings.iter().flat_map(|setting| ["--set", setting])).output().expect("helm");
    assert!(!printed.status.success(), "{settings:?} are accepted");
    String::from_utf8_lossy(&printed.stderr).into_owned()
}

#[test]
fn every_value_set_passes_lint_and_the_schemas_of_kubernetes_and_its_operator() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut files = Vec::new();
    for (name, values) in value_sets() {
        output(helm().args(["lint", "--strict"]).arg(shipped(CHART)).arg("--values").arg(&values));
        let file = folder.path().join(format!("{name}.yaml"));
        std::fs::write(&file, template(&shipped(CHART), &values, &[])).expect("a written file");
        files.push(file);
    }
    let printed = output(python().arg(shipped("tests/python/check_kubernetes.py")).args(&files));
    assert_eq!(printed.lines().filter(|line| line.contains(" manifests, ")).count(), files.len(), "{printed}");
}

#[test]
fn the_packaged_chart_is_whole_without_the_repository_and_fits_into_a_release() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    output(helm().arg("package").arg(shipped(CHART)).arg("--destination").arg(folder.path()));
    let version = yaml(&format!("{CHART}/Chart.yaml"))["version"].as_str().expect("a version").to_owned();
    let package = folder.path().join(format!("aws-iot-jobs-exporter-{version}.tgz"));
    // A release is 3.3 times its package: Base64, twice for files, and the manifests, which repeat them.
    let bytes = std::fs::metadata(&package).expect("a package").len();
    assert!(usize::try_from(bytes).expect("a size") * 4 < SECRET, "{bytes} bytes");
    for (name, values) in value_sets() {
        let (packaged, unpackaged) = (template(&package, &values, &[]), template(&shipped(CHART), &values, &[]));
        assert!(packaged == unpackaged, "{name} is another one from the package");
    }
}

#[test]
fn helm_refuses_values_that_it_does_not_know_or_that_contradict_each_other() {
    for (settings, reason) in [
        (&["replicas=2"][..], "additional properties 'replicas' not allowed"),
        (&["image.tga=1"], "additional properties 'tga' not allowed"),
        (&["config.targets[0].regoin=eu-west-1"], "additional properties 'regoin' not allowed"),
        (&["config.targets[0].account_id=123456789012"], "/config/targets/0/account_id"),
        (&["prometheusRule.alerts.AwsIotJobStuk.enabled=false"], "additional properties 'AwsIotJobStuk' not allowed"),
        (&["prometheusRule.alerts.AwsIotJobStuck.thresholds.x=1"], "additional properties 'x' not allowed"),
        (
            &["prometheusRule.alerts.AwsIotJobsThrottled.critical.for=1m"],
            "additional properties 'critical' not allowed",
        ),
        (&["shards=0"], "minimum: got 0, want 1"),
        (&["existingSecret=a", "existingConfigMap=b"], "Set one of them."),
        (&["web.existingSecret=a", "web.config.http_server_config.http2=false"], "Set one of them."),
        (&["config.shard.total=3"], "Set shards."),
        (&["config.web.listen_addresses[0]=:1"], "Set containerPort."),
        (&["shards=2", "ingress.enabled=true"], "ingress.enabled needs shards: 1"),
        (&["web.existingSecret=a", "web.probePort=10114"], "Set another one for the probes."),
    ] {
        let said = refused(settings);
        assert!(said.contains(reason), "{settings:?}: {said}");
    }
}

#[test]
fn the_prometheus_rule_has_the_rules_unless_values_change_them() {
    let groups: Vec<Value> =
        RULES.iter().flat_map(|path| yaml(path)["groups"].as_array().expect("groups").clone()).collect();
    let rule = only(&rendered("monitoring"), "PrometheusRule").clone();
    assert_eq!(rule["spec"]["groups"], Value::Array(groups.clone()));

    let changed = only(&rendered("rules"), "PrometheusRule")["spec"].clone();
    let rules_of = |groups: &Value| groups[0]["rules"].as_array().expect("rules").clone();
    let (before, after) = (rules_of(&Value::Array(groups)), rules_of(&changed["groups"]));
    let of = |rules: &[Value], name: &str| -> Vec<Value> {
        rules.iter().filter(|rule| rule["alert"] == name).cloned().collect()
    };
    let stuck = of(&after, "AwsIotJobStuck");
    let [critical, warning] = &stuck[..] else { panic!("{stuck:?}") };
    for rule in [critical, warning] {
        let expression = rule["expr"].as_str().expect("a text");
        assert!(expression.contains("sum >= 10 # open_executions\n"), "{expression}");
        assert!(expression.contains("ratio >= 0.2 # open_share\n"), "{expression}");
    }
    assert_eq!(critical["labels"], json!({"severity": "page", "team": "devices", "pager": "devices"}));
    assert_eq!(warning["labels"], json!({"severity": "ticket", "team": "devices", "pager": "devices"}));
    assert_eq!((&critical["for"], &critical["keep_firing_for"]), (&"10m".into(), &"2h".into()));
    assert_eq!((&warning["for"], &warning["keep_firing_for"]), (&"5m".into(), &"1h".into()));
    let failing = of(&after, "AwsIotRolloutFailing");
    assert!(failing[0]["expr"].as_str().expect("a text").contains("ratio >= 0.5 # critical_share\n"));
    assert!(failing[1]["expr"].as_str().expect("a text").contains("< 0.5 # critical_share\n"));
    // Helm reads numbers as floating point ones.
    let long = of(&after, "AwsIotJobExecutionLong");
    assert!(long[0]["expr"].as_str().expect("a text").contains("> 2160000 # seconds\n"), "{long:?}");
    assert_eq!(of(&after, "AwsIotRolloutEndedWithFailures").len(), 1);
    assert!(of(&after, "AwsIotJobsThrottled").is_empty());
    assert_eq!(after.len(), before.len() - 2);

    // An alert that no value names has the labels and annotations of all alerts, and nothing else is different.
    let mut aborted = of(&before, "AwsIotRolloutAborted");
    aborted[0]["labels"]["team"] = "devices".into();
    aborted[0]["annotations"]["chat"] = "#devices".into();
    let path = aborted[0]["annotations"]["dashboard"].as_str().expect("a path");
    aborted[0]["annotations"]["dashboard"] = format!("https://grafana.example.com{path}").into();
    assert_eq!(of(&after, "AwsIotRolloutAborted"), aborted);

    let file = tempfile::NamedTempFile::with_suffix(".json").expect("a temporary file");
    std::fs::write(file.path(), changed.to_string()).expect("a written file");
    output(newer_tool("promtool").args(["check", "rules"]).arg(file.path()));
}

#[test]
fn each_dashboard_is_a_config_map_with_the_very_bytes_of_its_file() {
    let manifests = rendered("monitoring");
    let mut expected = BTreeSet::new();
    for entry in std::fs::read_dir(shipped("dashboards")).expect("the dashboards") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let dashboard = std::fs::read_to_string(&path).expect("a dashboard");
        let has = |manifest: &&Value| manifest["kind"] == "ConfigMap" && manifest["data"][&name].is_string();
        let map = manifests.iter().find(has).unwrap_or_else(|| panic!("the chart does not install {name}"));
        assert!(map["data"][&name] == *dashboard, "{name} is another than its file");
        assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1", "Grafana's sidecar does not find {name}");
        assert!(map.to_string().len() < NOTED, "{name} is too long for `kubectl apply`");
        expected.insert(name);
    }
    let maps = manifests.iter().filter(|manifest| manifest["kind"] == "ConfigMap").count();
    // The other one is the configuration.
    assert_eq!((maps, expected.is_empty()), (expected.len() + 1, false), "{expected:?}");
}

#[test]
fn probes_ports_labels_and_names_are_those_that_the_others_have() {
    let manifests = rendered_with("monitoring", &["networkPolicy.enabled=true"]);
    let deployment = only(&manifests, "Deployment");
    let (spec, container) = pod(deployment);
    for (probe, path) in [("livenessProbe", HEALTHY), ("readinessProbe", "/-/ready")] {
        assert!(PROBES.contains(&path));
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "http"}), "{probe}");
    }
    let port = loaded(configuration(&manifests).expect("a configuration"), &[]).web.listen_addresses[0].port;
    assert_eq!(container["ports"], json!([{"name": "http", "containerPort": port}]));
    let arguments = container["args"].as_array().expect("arguments");
    assert!(arguments.contains(&format!("--web.listen-address=:{port}").into()), "{arguments:?}");

    let selector = &deployment["spec"]["selector"]["matchLabels"];
    let name = json!({"app.kubernetes.io/name": "aws-iot-jobs-exporter", "app.kubernetes.io/instance": RELEASE});
    assert_eq!(*selector, name);
    let (service, monitor) = (only(&manifests, "Service"), only(&manifests, "ServiceMonitor"));
    let policy = only(&manifests, "NetworkPolicy");
    for labels in [&deployment["spec"]["template"]["metadata"]["labels"], &service["metadata"]["labels"]] {
        for (label, value) in selector.as_object().expect("labels") {
            assert_eq!(labels[label], *value);
        }
    }
    assert_eq!(service["spec"]["selector"], *selector);
    assert_eq!(policy["spec"]["podSelector"]["matchLabels"], *selector);
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["spec"]["ingress"][0]["ports"][0]["port"], "http");
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], *selector);
    assert_eq!(monitor["spec"]["namespaceSelector"]["matchNames"], json!([service["metadata"]["namespace"]]));
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!((&endpoint["port"], &service["spec"]["ports"][0]["targetPort"]), (&"http".into(), &"http".into()));
    assert_eq!((&service["spec"]["ports"][0]["name"], &endpoint["path"]), (&"http".into(), &"/metrics".into()));

    let scraping = &yaml("config/prometheus/prometheus.yml")["global"];
    assert_eq!(endpoint["interval"], scraping["scrape_interval"]);
    assert_eq!(endpoint["scrapeTimeout"], scraping["scrape_timeout"]);
    // The labels that the operator adds for each pod, or a pod that is replaced would be another exporter's series.
    let recording = text(RULES[1]);
    let without = Regex::new(r"max without \(instance([^)]*)\)").expect("a regular expression");
    let removed = &without.captures(&recording).expect("the labels of a process")[1];
    for label in ["pod", "container", "endpoint"] {
        assert!(removed.split([',', ' ']).any(|name| name == label), "{label} is not in ({removed})");
    }
    assert_eq!(spec["serviceAccountName"], only(&manifests, "ServiceAccount")["metadata"]["name"]);
    let image = container["image"].as_str().expect("an image");
    assert!(image.ends_with(concat!("/aws-iot-jobs-exporter:", env!("CARGO_PKG_VERSION"))), "{image}");

    // What values change is changed wherever it counts.
    let path = only(&rendered("ingress"), "ServiceMonitor")["spec"]["endpoints"][0]["path"].clone();
    assert_eq!(path, "/iot/metrics");
    let manifests = rendered("network-policy");
    let (_, container) = pod(only(&manifests, "Deployment"));
    assert_eq!(container["ports"][0]["containerPort"], 9100);
    assert!(container["args"].as_array().expect("arguments").contains(&"--web.listen-address=:9100".into()));
    let account = only(&rendered("irsa"), "ServiceAccount")["metadata"]["annotations"].clone();
    assert!(account["eks.amazonaws.com/role-arn"].is_string(), "{account}");
}

#[test]
fn two_pods_never_watch_the_same_targets() {
    for (name, _) in value_sets() {
        let manifests = rendered(&name);
        let workload = workload(&manifests);
        if workload["kind"] == "Deployment" {
            let spec = &workload["spec"];
            assert_eq!((&spec["replicas"], &spec["strategy"]["type"]), (&1.into(), &"Recreate".into()), "{name}");
        } else {
            // Its pods are replaced one by one, and have targets of their own.
            assert_eq!(name, "shards");
        }
    }
}

#[test]
fn a_pod_may_nothing_that_it_does_not_need() {
    for (name, _) in value_sets() {
        let manifests = rendered(&name);
        let (spec, container) = pod(workload(&manifests));
        assert_eq!(spec["automountServiceAccountToken"], false, "{name}");
        let context = &spec["securityContext"];
        assert_eq!(
            (&context["runAsNonRoot"], &context["seccompProfile"]["type"]),
            (&true.into(), &"RuntimeDefault".into()),
            "{name}"
        );
        let expected = json!({
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
        });
        assert_eq!(container["securityContext"], expected, "{name}");
        for (kind, amount) in [("requests", "cpu"), ("requests", "memory"), ("limits", "memory")] {
            assert!(container["resources"][kind][amount].is_string(), "{name}: no {kind} of {amount}");
        }
        let is_role = |manifest: &Value| manifest["kind"].as_str().is_some_and(|kind| kind.contains("Role"));
        assert!(!manifests.iter().any(is_role), "{name}");
        for account in manifests.iter().filter(|manifest| manifest["kind"] == "ServiceAccount") {
            assert_eq!(account["automountServiceAccountToken"], false, "{name}");
        }
    }
}

#[test]
fn the_exporter_takes_the_arguments_and_configurations_of_every_value_set() {
    let mut checked = 0;
    for (name, _) in value_sets() {
        let manifests = rendered(&name);
        let (spec, container) = pod(workload(&manifests));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let here = folder.path().to_str().expect("a path of UTF-8");
        let local = |path: &str| path.replace("/etc/aws-iot-jobs-exporter", &format!("{here}/exporter"));
        // A folder for each mount, with the files that the chart makes. The shipped configuration stands for one that exists.
        for mount in container["volumeMounts"].as_array().expect("mounts") {
            let volumes = spec["volumes"].as_array().expect("volumes");
            assert!(volumes.iter().any(|volume| volume["name"] == mount["name"]), "{name}: {mount}");
            let path = mount["mountPath"].as_str().expect("a folder");
            if path.starts_with("/etc/aws-iot-jobs-exporter") {
                std::fs::create_dir_all(local(path)).expect("a folder");
            }
        }
        let own = configuration(&manifests).map_or_else(|| text("config/exporter.yml"), str::to_owned);
        std::fs::write(local("/etc/aws-iot-jobs-exporter/exporter.yml"), own).expect("a written file");
        if let Some(web) = manifests.iter().find_map(|manifest| manifest["stringData"]["web.yml"].as_str()) {
            std::fs::write(local("/etc/aws-iot-jobs-exporter-web/web.yml"), local(web)).expect("a written file");
            let made = tempfile::tempdir().expect("a temporary folder");
            certificates(made.path());
            for (file, from) in [("tls.crt", "server.pem"), ("tls.key", "server.key"), ("ca.crt", "ca.pem")] {
                let to = local(&format!("/etc/aws-iot-jobs-exporter-tls/{file}"));
                std::fs::copy(made.path().join(from), to).expect("a file");
            }
        }
        let arguments = container["args"].as_array().expect("arguments").iter();
        let arguments: Vec<String> = arguments.map(|argument| local(argument.as_str().expect("a text"))).collect();
        let mut command = Command::new(crate::process::PROGRAM);
        command.env("AWS_REGION", "eu-west-1").args(arguments).arg("--config.check");
        assert_eq!(output(&mut command), "The configuration is valid.\n", "{name}");
        checked += 1;
    }
    assert!(checked >= 12);
}

#[test]
fn with_a_web_configuration_the_probes_have_a_port_of_their_own_in_plain_http() {
    let manifests = rendered("tls");
    let (_, container) = pod(workload(&manifests));
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "probe");
        assert!(container[probe]["httpGet"]["scheme"].is_null());
    }
    assert_eq!(container["ports"][1], json!({"name": "probe", "containerPort": 10115}));
    let arguments = container["args"].as_array().expect("arguments");
    assert!(arguments.contains(&"--web.probe-address=:10115".into()), "{arguments:?}");
    assert_eq!(only(&manifests, "ServiceMonitor")["spec"]["endpoints"][0]["scheme"], "https");
}

#[test]
fn a_changed_configuration_changes_the_template_of_the_pods() {
    let template_with = |name: &str, settings: &[&str]| {
        let manifests = rendered_with(name, settings);
        workload(&manifests)["spec"]["template"].clone()
    };
    let before = template_with("tls", &[]);
    assert_eq!(before, template_with("tls", &[]));
    assert_eq!(before, template_with("tls", &["serviceMonitor.enabled=false"]), "the scrape is no matter of the pods");
    let changed = [&["config.jobs.stuck_after=2d"][..], &["web.config.basic_auth_users=null"]];
    for settings in changed {
        assert_ne!(before, template_with("tls", settings), "{settings:?}");
    }
}

#[test]
fn the_shards_share_all_targets_and_their_number_is_in_one_place() {
    for shards in [3, 5] {
        let manifests = rendered_with("shards", &[&format!("shards={shards}")]);
        assert!(manifests.iter().all(|manifest| manifest["kind"] != "Deployment"));
        let workload = only(&manifests, "StatefulSet");
        let (_, container) = pod(workload);
        assert_eq!(workload["spec"]["replicas"], shards);
        assert_eq!(workload["spec"]["podManagementPolicy"], "Parallel");
        let environment = container["env"].as_array().expect("an environment");
        let [index, total] = &environment[..] else { panic!("{environment:?}") };
        assert_eq!(workload["spec"]["serviceName"], only(&manifests, "Service")["metadata"]["name"]);
        assert_eq!(index["valueFrom"]["fieldRef"]["fieldPath"], "metadata.labels['apps.kubernetes.io/pod-index']");
        assert_eq!(total["value"], shards.to_string(), "not every pod knows how many they are");

        let (index, total) = (index["name"].as_str().expect("a name"), total["name"].as_str().expect("a name"));
        let configuration = configuration(&manifests).expect("a configuration");
        let mut shared = Vec::new();
        for pod in 0..shards {
            let config = loaded(configuration, &[(index, &pod.to_string()), (total, &shards.to_string())]);
            shared.extend(config.targets.into_iter().map(|target| target.name));
        }
        let mut all: Vec<_> = loaded(configuration, &[]).targets.into_iter().map(|target| target.name).collect();
        all.sort();
        shared.sort();
        assert_eq!(shared, all);
    }
}
