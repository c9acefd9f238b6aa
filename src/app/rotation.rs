//! Certificates, keys and logins that change on disk: taken up without anybody having to ask.
//!
//! Certificates live for weeks or days, and what renews them knows nothing of this program. The exporter-toolkit reads its
//! files with every connection; this looks once a minute, away from the connections.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval_at};
use tracing::{info, warn};

use crate::config::{Problems, WebConfig, web_config};
use crate::http::Guard;

/// How long a certificate that is renewed goes on being the old one, at most.
pub(super) const LOOK_EVERY: Duration = Duration::from_mins(1);

/// Watches the web configuration and the files that it names.
#[derive(Debug)]
pub(super) struct Rotation {
    path: Option<PathBuf>,
    in_use: WebConfig,
    look: Interval,
    /// What was wrong with the files at the last look, so that it is told once.
    problems: Option<Problems>,
}

impl Rotation {
    /// Watches the file at `path`, of which `in_use` was read. Without a path there is nothing to watch.
    pub(super) fn new(path: Option<PathBuf>, in_use: WebConfig) -> Self {
        let mut look = interval_at(tokio::time::Instant::now() + LOOK_EVERY, LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { path, in_use, look, problems: None }
    }

    /// What a reload has read is in use now.
    pub(super) fn taken_up(&mut self, web: WebConfig) {
        self.in_use = web;
        self.problems = None;
        self.look.reset();
    }

    /// Waits for the next look, and reads the files. Gives what is to be told of it. Can be dropped while it waits.
    pub(super) async fn read(&mut self) -> Result<WebConfig, Problems> {
        let Some(path) = self.path.clone() else { return std::future::pending().await };
        loop {
            self.look.tick().await;
            let path = path.clone();
            // A file on a disk that hangs must not hold up what serves. One that panics is none of ours.
            if let Ok(read) = tokio::task::spawn_blocking(move || web_config::load(&path)).await {
                return read;
            }
        }
    }

    /// Has `guard` go by what was read where that is something new.
    pub(super) fn settle(&mut self, read: Result<WebConfig, Problems>, guard: &Guard) {
        match read {
            Ok(web) => {
                self.problems = None;
                if web != self.in_use {
                    guard.replace(web.clone());
                    self.in_use = web;
                    info!("the web configuration, or a file that it names, has changed and is taken up");
                }
            }
            Err(problems) => {
                if self.problems.as_ref() != Some(&problems) {
                    warn!(%problems, "the web configuration can't be read again: the one that was read before is in use");
                    self.problems = Some(problems);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const HASH: &str = "$2b$04$Zyxwvutsrqponmlkjihgfe91EVTbipYuSP7HB4a0NH55cMj08u5tG";

    fn write(path: &Path, names: &[&str]) {
        let users: Vec<String> = names.iter().map(|name| format!("{name}: '{HASH}'")).collect();
        fs::write(path, format!("basic_auth_users: {{{}}}\n", users.join(", "))).expect("a written file");
    }

    fn users(rotation: &Rotation) -> Vec<&str> {
        rotation.in_use.users.keys().map(String::as_str).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_on_disk_is_in_use_within_a_minute_and_what_is_faulty_never() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("web.yml");
        write(&path, &["one"]);
        let first = web_config::load(&path).expect("a valid file");
        let guard = Guard::new(first.clone(), &[]);
        let mut rotation = Rotation::new(Some(path.clone()), first);

        write(&path, &["one", "two"]);
        let before = tokio::time::Instant::now();
        let read = rotation.read().await;
        assert_eq!(before.elapsed(), LOOK_EVERY);
        rotation.settle(read, &guard);
        assert_eq!(users(&rotation), ["one", "two"]);

        fs::write(&path, "basic_auth_users: {one: plain}\n").expect("a written file");
        let read = rotation.read().await;
        rotation.settle(read, &guard);
        assert_eq!((users(&rotation), rotation.problems.is_some()), (vec!["one", "two"], true));

        fs::remove_file(&path).expect("the file");
        let read = rotation.read().await;
        rotation.settle(read, &guard);
        assert_eq!(users(&rotation), ["one", "two"], "a file that is gone opens no door");

        write(&path, &["three"]);
        let read = rotation.read().await;
        rotation.settle(read, &guard);
        assert_eq!((users(&rotation), rotation.problems.is_some()), (vec!["three"], false));
    }
}
