//! Listening sockets, and errors that say what the operator can do.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, lookup_host};

use super::AccessControl;
use super::security::ListenerPolicy;
use crate::config::WebConfig;

/// How many connections the kernel keeps until they are accepted; `net.core.somaxconn` bounds it. Where there are more,
/// it drops them, and a client tries again after a second: with the usual 128, a scanner that opens some hundreds at once
/// makes a scrape late.
const BACKLOG: i32 = 4096;

/// Free ports of IPv6 that are tried until one is free with IPv4 too.
const MAX_PORTS_TRIED: usize = 16;

/// One or two sockets that listen, ready for [`serve`](super::serve).
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
    local_addr: SocketAddr,
    policy: ListenerPolicy,
}

impl Listener {
    /// Listens on `host`, a name or an IP address without brackets. Without a host: on all interfaces, by IPv6 and IPv4
    /// whatever `net.ipv6.bindv6only` says, or by the one that the machine has. Port 0 takes a free port.
    ///
    /// If a name has several addresses, the first one that can be listened on is taken.
    ///
    /// # Errors
    /// If the name has no address, or none of its addresses can be listened on.
    pub async fn bind(host: Option<&str>, port: u16) -> Result<Self, BindError> {
        let Some(host) = host else { return Self::bind_all_interfaces(port) };
        let unresolved = |source| BindError::Resolve { host: host.to_owned(), source };
        let addresses = lookup_host((host, port)).await.map_err(unresolved)?;
        let mut failure = unresolved(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        for address in addresses {
            match listen(address, false) {
                Ok(bound) => return Ok(Self::of(bound)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn bind_all_interfaces(port: u16) -> Result<Self, BindError> {
        for _ in 1..MAX_PORTS_TRIED {
            match Self::bind_both_families(port) {
                Err(_) if port == 0 => {}
                bound => return bound,
            }
        }
        Self::bind_both_families(port)
    }

    fn bind_both_families(port: u16) -> Result<Self, BindError> {
        let ipv4 = |port| listen((Ipv4Addr::UNSPECIFIED, port).into(), false);
        let first = match listen((Ipv6Addr::UNSPECIFIED, port).into(), true) {
            Err(BindError::Listen { source, .. }) if lacks_family(&source) => return ipv4(port).map(Self::of),
            bound => bound?,
        };
        let second = match ipv4(first.1.port()) {
            Err(BindError::Listen { source, .. }) if lacks_family(&source) => None,
            bound => Some(bound?.0),
        };
        let mut listener = Self::of(first);
        listener.sockets.extend(second);
        Ok(listener)
    }

    fn of((socket, local_addr): (TcpListener, SocketAddr)) -> Self {
        let access_control = Arc::new(AccessControl::new(WebConfig::default(), &[]));
        Self { sockets: vec![socket], local_addr, policy: ListenerPolicy { access_control, only_paths: None } }
    }

    /// The address that is listened on, with the real port if 0 was asked for. Without a host, that of one family.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Applies `access_control`. Without this, the listener serves plain HTTP to everybody.
    #[must_use]
    pub fn with_access_control(mut self, access_control: &Arc<AccessControl>) -> Self {
        self.policy.access_control = Arc::clone(access_control);
        self
    }

    /// Serves only these `paths`, compared exactly.
    #[must_use]
    pub fn only_paths(mut self, paths: &'static [&'static str]) -> Self {
        self.policy.only_paths = Some(paths);
        self
    }

    /// The sockets alone, for another server. Access control and paths do not apply to them.
    #[must_use]
    pub fn into_sockets(self) -> Vec<TcpListener> {
        self.sockets
    }

    pub(super) fn into_parts(self) -> (Vec<TcpListener>, ListenerPolicy) {
        (self.sockets, self.policy)
    }
}

/// Listens on `address`, and returns the one with the real port. With `only_ipv6`, `[::]` leaves IPv4 to another socket;
/// otherwise the system decides (`net.ipv6.bindv6only`).
fn listen(address: SocketAddr, only_ipv6: bool) -> Result<(TcpListener, SocketAddr), BindError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if only_ipv6 {
            socket.set_only_v6(true)?;
        }
        // Connections of a process that has ended linger for a minute, and would keep the next one from its port.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into())?;
        let local_addr = socket.local_addr()?;
        Ok((socket, local_addr))
    };
    bind().map_err(|source| BindError::Listen { address, source })
}

/// A machine says in several ways that it has no IPv6 or no IPv4: the family is unknown, or its addresses are not
/// available. The other family would fail for these two reasons as well.
fn lacks_family(error: &io::Error) -> bool {
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
    /// Another listener of this process has the address.
    #[error(
        "cannot listen on {address}: this exporter already listens on {other}, which overlaps it; remove one of the two"
    )]
    Overlap {
        /// The address.
        address: SocketAddr,
        /// The other listener's address.
        other: SocketAddr,
    },
}

impl BindError {
    /// Names the one of these listeners, of this process, that has the address; the system only says that it is in use.
    #[must_use]
    pub fn or_overlap(self, listeners: &[Listener]) -> Self {
        let Self::Listen { address, source } = &self else { return self };
        if source.kind() != io::ErrorKind::AddrInUse {
            return self;
        }
        match listeners.iter().map(Listener::local_addr).find(|other| overlaps(*address, *other)) {
            Some(other) => Self::Overlap { address: *address, other },
            None => self,
        }
    }
}

/// Whether the system refuses one of the two while the other is listened on.
fn overlaps(one: SocketAddr, other: SocketAddr) -> bool {
    // `[::]` can have IPv4 too.
    let covers = |any: SocketAddr, other: SocketAddr| any.ip().is_unspecified() && (any.is_ipv6() || other.is_ipv4());
    one.port() == other.port() && (one.ip() == other.ip() || covers(one, other) || covers(other, one))
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

    /// `net.ipv6.bindv6only` cannot be set here, but decides only about a socket that does not decide itself.
    #[tokio::test]
    async fn no_host_means_a_socket_for_each_family_that_does_not_depend_on_the_system() {
        let listener = Listener::bind(None, 0).await.expect("a free port");
        let port = listener.local_addr().port();
        let has_ipv6 = listen((Ipv6Addr::UNSPECIFIED, 0).into(), true).is_ok();
        let sockets = listener.into_sockets();
        assert_eq!(sockets.len(), if has_ipv6 { 2 } else { 1 });
        for socket in &sockets {
            let address = socket.local_addr().expect("an address");
            assert_eq!(address.port(), port);
            if address.is_ipv6() {
                assert!(socket2::SockRef::from(socket).only_v6().expect("an option"));
            }
            let own = if address.is_ipv6() {
                Ipv6Addr::LOCALHOST.into()
            } else {
                std::net::IpAddr::from(Ipv4Addr::LOCALHOST)
            };
            let client = tokio::net::TcpStream::connect((own, port));
            let (accepted, client) = tokio::join!(socket.accept(), client);
            client.expect("a connection");
            accepted.expect("a connection");
        }
        let taken = Listener::bind(None, port).await.expect_err("the port is taken");
        assert!(taken.to_string().contains("listens there"), "{taken}");
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
    async fn an_address_that_another_listener_of_the_exporter_has_is_named() {
        let all = Listener::bind(None, 0).await.expect("a free port");
        let (own, port) = (all.local_addr(), all.local_addr().port());
        let error = Listener::bind(Some("127.0.0.1"), port).await.expect_err("it overlaps").or_overlap(&[all]);
        let expected = format!(
            "cannot listen on 127.0.0.1:{port}: this exporter already listens on {own}, which overlaps it; \
             remove one of the two"
        );
        assert_eq!(error.to_string(), expected);
        let other = Listener::bind(Some("127.0.0.1"), 0).await.expect("a free port");
        let address = other.local_addr();
        let error = Listener::bind(Some("127.0.0.1"), address.port()).await.expect_err("it is taken").or_overlap(&[]);
        assert!(error.to_string().contains("another process listens there"), "{error}");
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
        assert!(!lacks_family(&io::ErrorKind::AddrInUse.into()));
        assert!(!lacks_family(&io::ErrorKind::PermissionDenied.into()));
        assert!(lacks_family(&io::ErrorKind::AddrNotAvailable.into()));
    }
}
