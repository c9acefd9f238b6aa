//! Whether connections that are accepted are served: a server can refuse all of them for a while.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

/// Open, unless it was closed a moment ago. All listeners of a server share it.
#[derive(Debug, Default)]
pub(super) struct Door {
    closed_until: Mutex<Option<Instant>>,
}

impl Door {
    /// Keeps it closed for `pause` from now on, or for what is left of an earlier pause that ends later.
    pub(super) fn close_for(&self, pause: Duration) {
        let mut closed_until = self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        *closed_until = (*closed_until).max(Instant::now().checked_add(pause));
    }

    /// The stream where the door is open. Where it is closed, the stream is reset.
    pub(super) fn admit(&self, stream: TcpStream) -> Option<TcpStream> {
        if !self.is_closed() {
            return Some(stream);
        }
        if let Err(error) = stream.set_zero_linger() {
            debug!(%error, "cannot reset a connection; closing it");
        }
        None
    }

    fn is_closed(&self) -> bool {
        let closed_until = *self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        closed_until.is_some_and(|end| Instant::now() < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_closed_for_the_longest_pause_that_was_asked_for() {
        let door = Door::default();
        assert!(!door.is_closed());
        door.close_for(Duration::from_secs(10));
        door.close_for(Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(door.is_closed());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!door.is_closed());
    }
}
