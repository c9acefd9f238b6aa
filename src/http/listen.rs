//! Listening sockets, and errors that say what the operator can do.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket, lookup_host};

use super::Guard;
use super::entrance::Entrance;

/// How many connections the kernel keeps until they are accepted; `net.core.somaxconn` bounds it. Where there are more,
/// it drops them, and a client tries again after a second: with the usual 128, a scanner that opens some hundreds at once
/// makes a scrape late.
const BACKLOG: u32 = 4096;

/// A socket that listens, ready for [`serve`](super::serve).
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local_addr: SocketAddr,
    entrance: Entrance,
}

impl Listener {
    /// Listens on `host`, a name or an IP address without brackets. With none: on all interfaces, by IPv6 and IPv4
    /// together, and by IPv4 alone where the machine has no IPv6. Port 0 takes a free port.
    ///
    /// Where a name has several addresses, the first that can be listened on is taken. That `[::]` takes IPv4 too is
    /// the system's default on Linux (`net.ipv6.bindv6only`).
    ///
    /// # Errors
    /// Where the name has no address, or none of its addresses can be listened on.
    pub async fn bind(host: Option<&str>, port: u16) -> Result<Self, BindError> {
        let Some(host) = host else { return Self::bind_all_interfaces(port) };
        let unresolved = |source| BindError::Resolve { host: host.to_owned(), source };
        let addresses = lookup_host((host, port)).await.map_err(unresolved)?;
        let mut failure = unresolved(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        for address in addresses {
            match Self::bind_to(address) {
                Ok(listener) => return Ok(listener),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn bind_all_interfaces(port: u16) -> Result<Self, BindError> {
        match Self::bind_to((Ipv6Addr::UNSPECIFIED, port).into()) {
            Err(BindError::Listen { source, .. }) if lacks_ipv6(&source) => {
                Self::bind_to((Ipv4Addr::UNSPECIFIED, port).into())
            }
            bound => bound,
        }
    }

    fn bind_to(address: SocketAddr) -> Result<Self, BindError> {
        let failed = |source| BindError::Listen { address, source };
        let socket = listen(address).map_err(failed)?;
        let local_addr = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, local_addr, entrance: Entrance::default() })
    }

    /// The address that is listened on, with the real port where 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Lets nobody in but past `guard`. Without this, it speaks plain HTTP and lets everybody in.
    #[must_use]
    pub fn guarded(mut self, guard: &Arc<Guard>) -> Self {
        self.entrance.guard = Some(Arc::clone(guard));
        self
    }

    /// Serves nothing but what has one of these `paths`, letter by letter.
    #[must_use]
    pub fn only(mut self, paths: &'static [&'static str]) -> Self {
        self.entrance.only = Some(paths);
        self
    }

    /// The socket alone, for a server of another kind. Guards and paths are dropped with the rest.
    #[must_use]
    pub fn into_socket(self) -> TcpListener {
        self.socket
    }

    pub(super) fn into_parts(self) -> (TcpListener, Entrance) {
        (self.socket, self.entrance)
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of a process that has ended linger for a minute, and would keep the next one from its port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A machine says in several ways that it has no IPv6: the family is unknown, or its addresses are not available. These
/// two are the failures that IPv4 would share.
fn lacks_ipv6(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

/// Why an address can't be listened on. The system's own words are its `source`.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The name could not be resolved.
    #[error("cannot find an address for the host {host:?} to listen on: check the name, or give an IP address")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The system refused the address.
    #[error("cannot listen on {address}: {}", advice(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens there; stop it, or choose another port",
        io::ErrorKind::PermissionDenied => {
            "not permitted; ports under 1024 need root or CAP_NET_BIND_SERVICE, so choose a higher one"
        }
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address; choose one that it has",
        _ => "the system refused it",
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[tokio::test]
    async fn port_0_becomes_a_real_port() {
        let listener = Listener::bind(Some("127.0.0.1"), 0).await.expect("a free port");
        assert_eq!(listener.local_addr().ip(), Ipv4Addr::LOCALHOST);
        assert_ne!(listener.local_addr().port(), 0);
    }

    #[tokio::test]
    async fn no_host_means_all_interfaces() {
        let listener = Listener::bind(None, 0).await.expect("a free port");
        assert!(listener.local_addr().ip().is_unspecified());
        let by_ipv4 = (Ipv4Addr::LOCALHOST, listener.local_addr().port());
        tokio::net::TcpStream::connect(by_ipv4).await.expect("IPv4 reaches it, whichever family was bound");
    }

    /// Containers often have no IPv6 at all; then the error has to say so.
    #[tokio::test]
    async fn ipv6_is_bound_or_refused_in_clear_words() {
        match Listener::bind(Some("::1"), 0).await {
            Ok(listener) => {
                tokio::net::TcpStream::connect(listener.local_addr()).await.expect("a connection by IPv6");
            }
            Err(error) => assert!(error.to_string().starts_with("cannot listen on [::1]:0: "), "{error}"),
        }
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_and_has_advice() {
        let first = Listener::bind(Some("127.0.0.1"), 0).await.expect("a free port");
        let address = first.local_addr();
        let error = Listener::bind(Some("127.0.0.1"), address.port()).await.expect_err("the port is taken");
        let expected =
            format!("cannot listen on {address}: another process listens there; stop it, or choose another port");
        assert_eq!(error.to_string(), expected);
        assert!(error.source().is_some(), "the system's own words are not lost");
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_not_available() {
        // TEST-NET-1 of RFC 5737: no machine has it.
        let error = Listener::bind(Some("192.0.2.1"), 0).await.expect_err("not an address of this machine");
        assert!(error.to_string().contains("no interface of this machine has that address"), "{error}");
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_named() {
        // A label has 63 characters at most, so no resolver is asked for this one.
        let name = "x".repeat(64);
        let error = Listener::bind(Some(&name), 0).await.expect_err("no such name");
        assert!(error.to_string().contains(&name), "{error}");
    }

    #[test]
    fn a_forbidden_port_has_advice() {
        let address = (Ipv4Addr::LOCALHOST, 80).into();
        let error = BindError::Listen { address, source: io::ErrorKind::PermissionDenied.into() };
        assert!(error.to_string().contains("ports under 1024"), "{error}");
    }

    #[test]
    fn a_port_in_use_is_not_taken_for_a_lack_of_ipv6() {
        assert!(!lacks_ipv6(&io::ErrorKind::AddrInUse.into()));
        assert!(!lacks_ipv6(&io::ErrorKind::PermissionDenied.into()));
        assert!(lacks_ipv6(&io::ErrorKind::AddrNotAvailable.into()));
    }
}
