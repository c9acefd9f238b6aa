//! Reports the state of the process to systemd, or to another service manager that sets `NOTIFY_SOCKET`. Without that
//! variable it does nothing.
//!
//! Protocol: <https://www.freedesktop.org/software/systemd/man/sd_notify.html>.

use sd_notify::NotifyState;
use tracing::warn;

/// Reports that the exporter listens on all addresses.
pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Reports that a reload begins, until [`reloaded`].
pub(super) fn reloading() {
    let mut states = vec![NotifyState::Reloading];
    // A manager that waits for the reload (`Type=notify-reload`) uses this to identify it.
    states.extend(NotifyState::monotonic_usec_now().ok());
    notify(&states);
}

/// Reports that the reload is over. The protocol has no message for a failed reload, so the status text says it.
pub(super) fn reloaded(is_applied: bool) {
    let status = if is_applied { "" } else { "The last configuration was refused: see the log" };
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Reports that the process is about to end.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "cannot report the state to the service manager");
    }
}
