//! Applies changes of the web configuration and of its certificates automatically.
//!
//! External programs renew certificates every few weeks or days. The exporter-toolkit reads the files for each
//! connection; this reads them once a minute, independently of connections.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval_at, sleep};
use tracing::{error, info, warn};

use crate::config::{Problems, WebConfig, web_config};

/// The longest time until a renewed certificate is used.
pub(super) const READ_INTERVAL: Duration = Duration::from_mins(1);

/// How long changed files must stay unchanged before they are applied. A program that writes them in several steps
/// takes less.
pub(super) const SETTLE_TIME: Duration = Duration::from_secs(2);

/// The largest number of differing reads in a row. After that, the files are read again at the next interval.
const MAX_READS: usize = 10;

/// Watches the web configuration and the files that it names.
#[derive(Debug)]
pub(super) struct WebConfigWatcher {
    path: Option<PathBuf>,
    interval: Interval,
    /// Why the last change was not applied, so that it is logged once.
    rejection: Option<String>,
}

impl WebConfigWatcher {
    /// Watches the file at `path`, which was just read. Without a path, there is nothing to watch.
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        let mut interval = interval_at(tokio::time::Instant::now() + READ_INTERVAL, READ_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { path, interval, rejection: None }
    }

    /// Records that an explicit reload has read and applied the file.
    pub(super) fn reloaded(&mut self) {
        self.rejection = None;
        self.interval.reset();
    }

    /// Whether one of these problems is in the watched file.
    pub(super) fn is_about(&self, problems: &Problems) -> bool {
        let name = self.path.as_ref().map(|path| path.display().to_string());
        problems.0.iter().any(|problem| Some(&problem.source.name) == name.as_ref())
    }

    /// Waits for the next read, and returns the result of two equal reads in a row. If the result equals `in_use`, one
    /// read is enough. Can be cancelled.
    pub(super) async fn changed(&mut self, in_use: &WebConfig) -> Result<WebConfig, Problems> {
        let Some(path) = self.path.clone() else { return std::future::pending().await };
        loop {
            self.interval.tick().await;
            let mut last = None;
            for _ in 0..MAX_READS {
                let read = load(path.clone()).await;
                match read {
                    Some(read) if read.as_ref() == Ok(in_use) || last.as_ref() == Some(&read) => return read,
                    read => last = read,
                }
                sleep(SETTLE_TIME).await;
            }
            warn!(file = %path.display(), "web configuration changes with every read; not applied");
        }
    }

    /// Returns the new configuration if it is to be applied. A configuration with less protection than `in_use` is
    /// not: a truncated file must not remove the access control.
    ///
    /// # Errors
    /// If it is not applied; the reason is logged.
    pub(super) fn accept(
        &mut self,
        read: Result<WebConfig, Problems>,
        in_use: &WebConfig,
    ) -> Result<Option<WebConfig>, NotApplied> {
        let rejection = match read {
            Ok(web) if web == *in_use => {
                self.rejection = None;
                return Ok(None);
            }
            Ok(web) => match web.opens(in_use) {
                None => {
                    self.rejection = None;
                    info!("web configuration changed and applied");
                    return Ok(Some(web));
                }
                Some(protection) => format!(
                    "it removes {protection}, which only an explicit reload can do: send SIGHUP, or POST /-/reload"
                ),
            },
            Err(problems) => problems.to_string(),
        };
        if self.rejection.as_ref() != Some(&rejection) {
            error!(reason = rejection, "web configuration changed and not applied; the previous one stays in use");
        }
        self.rejection = Some(rejection);
        Err(NotApplied)
    }
}

/// The content of the file is not in use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotApplied;

/// Reads the files on a blocking thread: their disk could hang. `None` if that panicked, which must not end the
/// exporter.
async fn load(path: PathBuf) -> Option<Result<WebConfig, Problems>> {
    tokio::task::spawn_blocking(move || web_config::load(&path)).await.ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const HASH: &str = "$2b$04$Zyxwvutsrqponmlkjihgfe91EVTbipYuSP7HB4a0NH55cMj08u5tG";

    fn users_file(path: &Path, names: &[&str]) {
        let users: Vec<String> = names.iter().map(|name| format!("{name}: '{HASH}'")).collect();
        fs::write(path, format!("basic_auth_users: {{{}}}\n", users.join(", "))).expect("a written file");
    }

    struct Fixture {
        folder: tempfile::TempDir,
        watcher: WebConfigWatcher,
        in_use: WebConfig,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join("web.yml");
            users_file(&path, &["one", "two"]);
            let in_use = web_config::load(&path).expect("a valid file");
            Self { folder, watcher: WebConfigWatcher::new(Some(path)), in_use }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("web.yml")
        }

        fn accept(&mut self, read: Result<WebConfig, Problems>) -> bool {
            let accepted = self.watcher.accept(read, &self.in_use);
            let is_in_use = accepted.is_ok();
            self.in_use = accepted.ok().flatten().unwrap_or_else(|| self.in_use.clone());
            is_in_use
        }

        /// Whether the content of the file is in use after the next read.
        async fn next(&mut self) -> bool {
            let read = self.watcher.changed(&self.in_use).await;
            self.accept(read)
        }

        fn users(&self) -> Vec<&str> {
            self.in_use.users.keys().map(String::as_str).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_applied_after_two_equal_reads() {
        let mut fixture = Fixture::new();
        users_file(&fixture.path(), &["one", "three"]);
        let before = tokio::time::Instant::now();
        assert!(fixture.next().await);
        assert_eq!((fixture.users(), before.elapsed()), (vec!["one", "three"], READ_INTERVAL + SETTLE_TIME));
        let before = tokio::time::Instant::now();
        assert!(fixture.next().await);
        assert_eq!(before.elapsed() + SETTLE_TIME, READ_INTERVAL, "nothing changed, so one read is enough");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_written_in_two_steps_is_applied_once() {
        let mut fixture = Fixture::new();
        let path = fixture.path();
        users_file(&path, &["one"]);
        let (read, ()) = tokio::join!(fixture.watcher.changed(&fixture.in_use), async {
            // Writes between the first and the second read.
            sleep(READ_INTERVAL + SETTLE_TIME / 2).await;
            users_file(&path, &["one", "two", "three"]);
        });
        assert!(fixture.accept(read));
        assert_eq!(fixture.users(), ["one", "three", "two"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_keeps_changing_is_not_applied() {
        let mut fixture = Fixture::new();
        let path = fixture.path();
        let writes = async {
            // Writes twice as often as the reads.
            sleep(SETTLE_TIME / 4).await;
            for n in 0..100 {
                users_file(&path, &[&format!("user-{n}")]);
                sleep(SETTLE_TIME / 2).await;
            }
        };
        let before = tokio::time::Instant::now();
        let (read, ()) = tokio::join!(fixture.watcher.changed(&fixture.in_use), writes);
        assert!(before.elapsed() > READ_INTERVAL * 2, "{:?}", before.elapsed());
        assert!(fixture.accept(read));
        assert_eq!(fixture.users(), ["user-99"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_invalid_missing_or_empty_file_changes_nothing() {
        let mut fixture = Fixture::new();
        for content in [
            Some("basic_auth_users: {one: plain}\n"),
            None,
            Some(""),
            Some("# x\n"),
            Some("{}"),
            Some("basic_auth_users:\n"),
        ] {
            match content {
                Some(content) => fs::write(fixture.path(), content).expect("a written file"),
                None => fs::remove_file(fixture.path()).expect("the file"),
            }
            assert!(!fixture.next().await, "{content:?}");
            assert_eq!(fixture.users(), ["one", "two"], "{content:?}");
        }
        users_file(&fixture.path(), &["three"]);
        assert!(fixture.next().await, "users can change, as long as there are any");
        assert_eq!(fixture.users(), ["three"]);
    }

    #[test]
    fn every_removed_protection_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let authority = web_config::test_certs::Authority::new("an authority");
        authority.server().write(folder.path(), "server");
        fs::write(folder.path().join("ca.pem"), authority.pem()).expect("a written file");
        let load = |yaml: &str| {
            let path = folder.path().join("web.yml");
            fs::write(&path, yaml).expect("a written file");
            web_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"))
        };
        let tls =
            |more: &str| load(&format!("tls_server_config: {{cert_file: server.pem, key_file: server.key{more}}}\n"));
        let verified = ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem";
        let (users, nothing) = (load(&format!("basic_auth_users: {{one: '{HASH}'}}\n")), load("{}"));
        let named = tls(&format!("{verified}, client_allowed_sans: [a]"));
        for (new, old, lost) in [
            (&nothing, &users, Some("the users of basic authentication")),
            (&nothing, &tls(""), Some("TLS")),
            (&tls(""), &tls(verified), Some("the requirement for client certificates")),
            (&tls(verified), &named, Some("client_allowed_sans")),
            (&users, &nothing, None),
            (&named, &tls(verified), None),
            (&tls(verified), &tls(""), None),
        ] {
            assert_eq!(new.opens(old), lost);
        }
    }
}
