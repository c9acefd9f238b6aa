//! What a service manager is told: systemd, or whoever else set `NOTIFY_SOCKET`. Without that, nothing here does anything.
//!
//! Protocol: <https://www.freedesktop.org/software/systemd/man/sd_notify.html>.

use sd_notify::NotifyState;
use tracing::warn;

/// All addresses are listened on.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is about to be read again, until [`reloaded`].
pub(super) fn reloading() {
    let mut states = vec![NotifyState::Reloading];
    // Without it a manager that waits for this (`Type=notify-reload`) can't tell which reload is meant.
    states.extend(NotifyState::monotonic_usec_now().ok());
    tell(&states);
}

/// The configuration was read again. A refusal is nothing that the protocol knows, so it is said to people.
pub(super) fn reloaded(taken_up: bool) {
    let status = if taken_up { "" } else { "The configuration that was read last is refused: see the log" };
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The end has begun.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "the service manager can't be told");
    }
}
