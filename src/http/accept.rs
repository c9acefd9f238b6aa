//! What to do when `accept` fails: some failures are one client's, others are the machine's.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, info, warn};

/// How long nothing is accepted once the machine has run out of something. The pending connection stays in the kernel's
/// queue, so without a pause the same failure comes back at once, and the loop takes a whole core.
const PAUSE: Duration = Duration::from_millis(250);

/// Accepts from one socket, and outlives every failure to.
pub(super) struct Acceptor {
    socket: TcpListener,
    episode: Episode,
}

impl Acceptor {
    pub(super) fn new(socket: TcpListener) -> Self {
        Self { socket, episode: Episode::default() }
    }

    /// The next connection. Loses none when it is dropped before it is ready.
    pub(super) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok(connection) => {
                    if self.episode.end() {
                        info!("accepting connections again");
                    }
                    return connection;
                }
                Err(error) if is_one_clients(&error) => debug!(%error, "a connection ended before it was accepted"),
                Err(error) => {
                    if self.episode.begin() {
                        warn!(%error, "cannot accept connections; trying again until it works");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Whether a failure to accept belongs to the connection that was about to be accepted, so that the next one can be
/// fine. Linux hands pending network errors of the new connection over in this way, see `accept(2)`.
fn is_one_clients(error: &io::Error) -> bool {
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

/// A run of failures that is told once when it begins and once when it is over: at four failures a second, a line for
/// each would bury its own reason.
#[derive(Debug, Default)]
struct Episode {
    running: bool,
}

impl Episode {
    /// Whether this failure is the first of its episode.
    fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.running, true)
    }

    /// Whether an episode was running.
    fn end(&mut self) -> bool {
        std::mem::replace(&mut self.running, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_went_away_does_not_stop_the_loop() {
        for kind in [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset, io::ErrorKind::Interrupted] {
            assert!(is_one_clients(&kind.into()), "{kind}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_machine_out_of_something_makes_it_pause() {
        for (name, code) in [("EMFILE", 24), ("ENFILE", 23), ("ENOBUFS", 105), ("ENOMEM", 12)] {
            assert!(!is_one_clients(&io::Error::from_raw_os_error(code)), "{name}");
        }
    }

    #[test]
    fn an_episode_is_told_once() {
        let mut episode = Episode::default();
        assert!(!episode.end(), "nothing failed yet");
        assert_eq!([episode.begin(), episode.begin(), episode.begin()], [true, false, false]);
        assert_eq!([episode.end(), episode.end()], [true, false]);
        assert!(episode.begin(), "a new episode is told again");
    }
}
