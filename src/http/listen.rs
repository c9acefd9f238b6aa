//! Listening sockets, and errors that say what the operator can do.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, lookup_host};

use super::AccessControl;
use super::security::ListenerPolicy;
use crate::config::WebConfig;

/// The length of the kernel's queue of new connections, limited by `net.core.somaxconn`. Connections beyond it are
/// dropped, and their clients retry after a second. With the usual 128, a scanner that opens some hundreds at once
/// would delay a scrape.
const BACKLOG: i32 = 4096;

/// The number of free IPv6 ports to try until one is also free with IPv4.
const MAX_PORTS_TRIED: usize = 16;

/// One or two listening sockets for [`serve`](super::serve).
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
    local_addr: SocketAddr,
    policy: ListenerPolicy,
}

impl Listener {
    /// Listens on `host`, a name or an IP address without brackets. Without a host, it listens on all interfaces, with
    /// IPv6 and IPv4 regardless of `net.ipv6.bindv6only`, or with the only family of the machine. Port 0 selects a
    /// free port.
    ///
    /// If a name has several addresses, the first one that works is used.
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

    /// The local address, with the real port if port 0 was requested. Without a host, the address of one family.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Applies `access_control`. Without it, the listener serves plain HTTP to every client.
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

    /// The sockets for another server. Access control and paths do not apply to them.
    #[must_use]
    pub fn into_sockets(self) -> Vec<TcpListener> {
        self.sockets
    }

    pub(super) fn into_parts(self) -> (Vec<TcpListener>, ListenerPolicy) {
        (self.sockets, self.policy)
    }
}

/// Listens on `address`, and returns it with the real port. With `only_ipv6`, `[::]` leaves IPv4 to another socket;
/// otherwise the system decides (`net.ipv6.bindv6only`).
fn listen(address: SocketAddr, only_ipv6: bool) -> Result<(TcpListener, SocketAddr), BindError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if only_ipv6 {
            socket.set_only_v6(true)?;
        }
        // Connections of an ended process linger for a minute, and would block the port for the next process.
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

/// Systems report a missing IPv6 or IPv4 in several ways: an unknown family, or an address that is not available. Each
/// reason affects the other family as well if that is also missing.
fn lacks_family(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

/// Why the server cannot listen on an address. The error of the system is its `source`.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The name could not be resolved.
    #[error("cannot find an address for the host {host:?} to listen on: check the name, or give an IP address")]
    Resolve {
        /// The name.
        host: String,
        /// The error of the resolver.
        source: io::Error,
    },
    /// The system refused the address.
    #[error("cannot listen on {address}: {}", advice(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
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
    /// Adds the listener of this process, among these, that holds the address; the system only reports that it is in
    /// use.
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

/// Whether both addresses cannot be used at the same time.
fn overlaps(one: SocketAddr, other: SocketAddr) -> bool {
    // `[::]` may include IPv4.
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
        tokio::net::TcpStream::connect(by_ipv4).await.expect("a connection by IPv4");
    }

    /// Tests cannot set `net.ipv6.bindv6only`; it only affects sockets that do not set the option.
    #[tokio::test]
    async fn no_host_means_one_socket_per_family_regardless_of_bindv6only() {
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

    /// Containers often have no IPv6; the error must say so.
    #[tokio::test]
    async fn ipv6_is_bound_or_its_error_names_the_address() {
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
        assert!(error.source().is_some(), "the error of the system is its source");
    }

    #[tokio::test]
    async fn an_address_of_another_listener_of_the_exporter_is_named() {
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
        // A label has at most 63 characters, so the resolver sends no query for this one.
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
    fn a_port_in_use_does_not_count_as_missing_ipv6() {
        assert!(!lacks_family(&io::ErrorKind::AddrInUse.into()));
        assert!(!lacks_family(&io::ErrorKind::PermissionDenied.into()));
        assert!(lacks_family(&io::ErrorKind::AddrNotAvailable.into()));
    }
}
