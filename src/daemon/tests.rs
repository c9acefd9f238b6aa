//! Tests of the exporter with a web configuration that changes while it runs.

use std::path::Path;
use std::time::Duration;

use ::http::Request;
use bytes::Bytes;

use super::*;
use crate::aws::fake_http;
use crate::config::{self, Sources};
use crate::jobs::Timestamp;
use crate::proptests::answers::Answer;

const HASH: &str = "$2b$04$Zyxwvutsrqponmlkjihgfe91EVTbipYuSP7HB4a0NH55cMj08u5tG";

/// Loads the configuration of a folder, to be served without a socket.
fn load(folder: &Path) -> Result<Loaded, Problems> {
    let mut loaded = config::load_all(&Sources { file: Some(folder.join("exporter.yml")), ..Sources::default() })?;
    loaded.config.web.listen_addresses.clear();
    Ok(loaded)
}

/// The value of a metric without labels.
async fn value(handler: &http::Handler, name: &str) -> String {
    let request = Request::get("/metrics").body(Bytes::new()).expect("a request");
    let body = handler(request).await.into_body().into_bytes();
    let text = String::from_utf8(body.to_vec()).expect("UTF-8");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("aws_iot_jobs_exporter_{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_reload_compares_with_the_web_configuration_that_was_applied_meanwhile() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, web) = (folder.path().join("exporter.yml"), folder.path().join("web.yml"));
    let target = "targets: [{region: eu-west-1, account_id: 012345678901}]";
    std::fs::write(&file, format!("{target}\nweb: {{config_file: {}}}\n", web.display())).expect("a written file");
    std::fs::write(&web, "{}\n").expect("a written file");
    let access = fake_http::options(|_| Answer::good("{\"jobs\": []}"));
    let loaded = load(folder.path()).unwrap_or_else(|problems| panic!("{problems}"));
    let clock = Clock::starting_at(Timestamp::from_secs(1_790_000_000));
    let daemon = Box::pin(Daemon::start(loaded, &access, clock, Handle::current())).await.expect("it starts");
    let (handler, reloads) = (daemon.handler(), daemon.reloads());
    let path = folder.path().to_owned();
    let read: Load = Arc::new(move || load(&path));
    let running = tokio::spawn(async move { Box::pin(daemon.run(read, std::future::pending())).await });
    let hash = value(&handler, "config_hash").await;

    std::fs::write(&web, format!("basic_auth_users: {{one: '{HASH}'}}\n")).expect("a written file");
    tokio::time::sleep(Duration::from_secs(70)).await;
    let with_users = value(&handler, "config_hash").await;
    assert_ne!(with_users, hash, "the users are applied");
    let outcome = reloads.reload().await.expect("a reload");
    assert!(outcome.starts_with("Nothing changed in "), "{outcome}");
    assert_eq!(value(&handler, "config_hash").await, with_users);

    std::fs::write(&web, "nonsense: [\n").expect("a written file");
    reloads.reload().await.expect_err("an invalid file");
    assert_eq!(value(&handler, "web_config_last_reload_successful").await, "0");
    std::fs::write(&web, "{}\n").expect("a written file");
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert_eq!(value(&handler, "web_config_last_reload_successful").await, "0", "the users are not removed");
    assert_eq!(value(&handler, "config_hash").await, with_users);
    let outcome = reloads.reload().await.expect("a reload");
    assert_eq!(outcome, "Changed: the web configuration.");
    assert_eq!(value(&handler, "web_config_last_reload_successful").await, "1");
    assert_eq!(value(&handler, "config_hash").await, hash);
    running.abort();
}
