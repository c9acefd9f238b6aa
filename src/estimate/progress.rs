//! How far the walks are, on a terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often it moves while no page comes.
const TICK: Duration = Duration::from_millis(200);

/// A progress bar on standard error; nothing where that is no terminal. Clones are the same bar.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: ProgressBar,
    jobs: Arc<AtomicU64>,
}

impl Progress {
    /// A bar that is not shown yet.
    #[must_use]
    pub fn new() -> Self {
        // Hidden by itself where standard error is no terminal.
        Self { bar: ProgressBar::no_length(), jobs: Arc::default() }
    }

    /// One that is never shown, for a terminal that others write to.
    #[must_use]
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden(), jobs: Arc::default() }
    }

    pub(super) fn begin(&self, targets: usize) {
        // How long a walk is only its end tells, so it is targets that fill a bar, where there are several.
        let template = match targets {
            1 => "{spinner} {msg}, {elapsed}",
            _ => "{spinner} [{bar:24}] {pos}/{len} targets, {msg}, {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_message("0 jobs");
        self.bar.set_length(targets as u64);
        self.bar.enable_steady_tick(TICK);
    }

    /// Another summary was read.
    pub(super) fn met(&self) {
        let jobs = self.jobs.fetch_add(1, Ordering::Relaxed) + 1;
        if jobs.is_multiple_of(50) {
            self.bar.set_message(format!("{jobs} jobs"));
        }
    }

    pub(super) fn target_done(&self) {
        self.bar.inc(1);
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}
