//! TLS and logins, as curl and a real Prometheus with a client certificate use them.

use std::path::Path;

use aws_iot_jobs_exporter::config::web_config;

use super::prometheus::Prometheus;
use super::tools::tool;
use crate::process::{Running, pointed_at, program};
use crate::support::{Endpoint, Listening, config, jobs, output, simulator as simulated};
use crate::test_certs::certificates;

/// Of `hunter2`, with a low cost.
const HASH: &str = "$2b$04$Zyxwvutsrqponmlkjihgfe91EVTbipYuSP7HB4a0NH55cMj08u5tG";

async fn listening(folder: &Path, web: &str) -> (Endpoint, Listening) {
    let file = folder.join("web.yml");
    std::fs::write(&file, web).expect("a written file");
    let web = web_config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
    let endpoint = Endpoint::start(simulated(jobs(10))).await;
    let listening = Listening::start_with_web_config(config(&endpoint.url()), web).await;
    (endpoint, listening)
}

/// The status that curl gets.
fn curl(arguments: &[&str], url: &str) -> String {
    let mut command = tool("curl");
    output(command.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]).args(arguments).arg(url))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_password_curl_is_401_everywhere_but_at_the_probes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_endpoint, listening) =
        listening(folder.path(), &format!("basic_auth_users: {{prometheus: '{HASH}'}}\n")).await;
    for path in ["/metrics", "/", "/-/reload", "/nothing"] {
        assert_eq!(curl(&[], &listening.url(path)), "401", "{path}");
        assert_eq!(curl(&["--user", "prometheus:wrong"], &listening.url(path)), "401", "{path}");
        assert_eq!(curl(&["--user", "somebody:hunter2"], &listening.url(path)), "401", "{path}");
    }
    for path in ["/metrics", "/"] {
        assert_eq!(curl(&["--user", "prometheus:hunter2"], &listening.url(path)), "200", "{path}");
    }
    for path in ["/-/healthy", "/-/ready"] {
        assert_eq!(curl(&[], &listening.url(path)), "200", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_over_mutual_tls_and_a_login_and_nobody_gets_in_without() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    certificates(path);
    let web = format!(
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  client_ca_file: ca.pem\n\
         \x20 client_auth_type: RequireAndVerifyClientCert\n  min_version: TLS13\nbasic_auth_users: {{prometheus: '{HASH}'}}\n"
    );
    let (_endpoint, listening) = listening(path, &web).await;
    let file = |name: &str| path.join(name).display().to_string();
    let scrape = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: locked\n  scheme: https\n\
         \x20 basic_auth: {{username: prometheus, password: hunter2}}\n\
         \x20 tls_config: {{ca_file: '{}', cert_file: '{}', key_file: '{}'}}\n  static_configs: [{{targets: ['{}']}}]\n",
        file("ca.pem"),
        file("client.pem"),
        file("client.key"),
        listening.address
    );
    let prometheus = Prometheus::start(path, &scrape);
    prometheus.query("up == 1", 1).await;
    prometheus.query("aws_iot_jobs", 10).await;

    let url = format!("https://{}/metrics", listening.address);
    let (ca, certificate, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let client = ["--cacert", &ca, "--cert", &certificate, "--key", &key];
    assert_eq!(curl(&[&client[..], &["--user", "prometheus:hunter2"]].concat(), &url), "200");
    assert_eq!(curl(&client, &url), "401");
    let refused = tool("curl").args(["--silent", "--cacert", &ca, &url]).status().expect("curl");
    assert!(!refused.success(), "without a client certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_were_renewed_are_served_after_a_hang_up_and_faulty_ones_are_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    certificates(path);
    let file = |name: &str| path.join(name).display().to_string();
    std::fs::write(path.join("web.yml"), "tls_server_config: {cert_file: server.pem, key_file: server.key}\n")
        .expect("a written file");
    std::fs::copy(path.join("ca.pem"), path.join("old.pem")).expect("a copied file");
    let endpoint = Endpoint::start(simulated(jobs(10))).await;
    let web = format!("--web.config.file={}", file("web.yml"));
    let mut daemon = Running::start(pointed_at(program(&["--web.listen-address=127.0.0.1:0", &web]), &endpoint));
    let url = format!("https://{}/metrics", daemon.address().await);
    let status = |authority: &str| {
        let mut command = tool("curl");
        command.args(["--silent", "--output", "/dev/null", "--cacert", &file(authority), &url]);
        command.status().expect("curl").success()
    };
    assert!(status("old.pem"));

    certificates(path);
    daemon.signal("HUP");
    daemon.until("configuration reloaded").await;
    assert_eq!((status("old.pem"), status("ca.pem")), (false, true), "the renewed one, and it alone");

    std::fs::write(path.join("server.key"), "no key").expect("a written file");
    daemon.signal("HUP");
    let line = daemon.until("configuration not reloaded").await;
    assert!(line.contains("tls_server_config.key_file"), "{line}");
    assert!(status("ca.pem"), "the one that was good goes on being served");
}
