//! Reports the state of the process to systemd, or to another service manager that sets `NOTIFY_SOCKET`. Without that variable
//! nothing happens.
//!
//! Protocol: <https://www.freedesktop.org/software/systemd/man/sd_notify.html>.

use sd_notify::NotifyState;
use tracing::warn;

/// All addresses are listened on.
pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// The configuration is about to be read again, until [`reloaded`].
pub(super) fn reloading() {
    let mut states = vec![NotifyState::Reloading];
    // Without it a manager that waits for this (`Type=notify-reload`) cannot know which reload is meant.
    states.extend(NotifyState::monotonic_usec_now().ok());
    notify(&states);
}

/// The configuration was read again. The protocol has no message for a refusal, so the status text says it.
pub(super) fn reloaded(is_applied: bool) {
    let status = if is_applied { "" } else { "The last configuration was refused: see the log" };
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The process is about to end.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "the state cannot be reported to the service manager");
    }
}
