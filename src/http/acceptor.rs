//! Accepts connections. An error never ends the loop.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, info, warn};

/// The pause after a failure for lack of a resource. The connection stays in the kernel's queue, so without a pause
/// the loop would fail again at once, and use a whole core.
const PAUSE: Duration = Duration::from_millis(250);

/// Accepts connections from one socket.
pub(super) struct Acceptor {
    socket: TcpListener,
    /// Whether the last attempt failed. Only changes are logged: there are four failures a second.
    is_failing: bool,
}

impl Acceptor {
    pub(super) fn new(socket: TcpListener) -> Self {
        Self { socket, is_failing: false }
    }

    /// Accepts the next connection. Cancelling this loses none.
    pub(super) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok(connection) => {
                    if std::mem::take(&mut self.is_failing) {
                        info!("accepting connections again");
                    }
                    return connection;
                }
                Err(error) if is_of_one_connection(&error) => debug!(%error, "connection ended before it was accepted"),
                Err(error) => {
                    if !std::mem::replace(&mut self.is_failing, true) {
                        warn!(%error, "cannot accept connections; retrying");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Whether only one connection failed. Linux reports network errors of a new connection in this way, see `accept(2)`.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::HostUnreachable
            | Kind::Interrupted
            | Kind::NetworkDown
            | Kind::NetworkUnreachable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_connection_does_not_pause_the_loop() {
        for kind in [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset, io::ErrorKind::Interrupted] {
            assert!(is_of_one_connection(&kind.into()), "{kind}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_missing_resource_pauses_the_loop() {
        for (name, code) in [("EMFILE", 24), ("ENFILE", 23), ("ENOBUFS", 105), ("ENOMEM", 12)] {
            assert!(!is_of_one_connection(&io::Error::from_raw_os_error(code)), "{name}");
        }
    }
}
