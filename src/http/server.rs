//! The life of a server: accept, then drain.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, error, info};

use super::accept::Acceptor;
use super::connection::Protocol;
use super::entrance::Entrance;
use super::seats::{Seat, Seats};
use super::{Handler, Limits, Listener};

/// Serves `handler` on all `listeners` until `shutdown` resolves.
///
/// Then no listener accepts any more, idle connections are closed, and requests under way are finished. Returns once
/// none is left, or after [`Limits::drain`], whichever comes first; what is left then is dropped.
pub async fn serve(listeners: Vec<Listener>, limits: Limits, handler: Handler, shutdown: impl Future<Output = ()>) {
    let seats = Seats::new(limits.max_connections);
    let protocol = Arc::new(Protocol::new(limits.clone(), handler));
    let (running, stopped) = watch::channel(());
    // Owned by this future: where it is dropped, so is all that it started.
    let mut servers = JoinSet::new();
    for listener in listeners {
        let address = listener.local_addr();
        let (sockets, entrance) = listener.into_parts();
        let entrance = Arc::new(entrance);
        for socket in sockets {
            let connections = Connections {
                protocol: protocol.clone(),
                entrance: entrance.clone(),
                stopped: stopped.clone(),
                tasks: JoinSet::new(),
            };
            let (acceptor, seats) = (Acceptor::new(socket), seats.clone());
            servers.spawn(serve_listener(address, acceptor, limits.clone(), connections, seats, stopped.clone()));
        }
    }
    shutdown.await;
    drop(running);
    while servers.join_next().await.is_some() {}
}

async fn serve_listener(
    address: SocketAddr,
    acceptor: Acceptor,
    limits: Limits,
    mut connections: Connections,
    seats: Arc<Seats>,
    mut stopped: watch::Receiver<()>,
) {
    tokio::select! {
        // The acceptor goes with this future, and takes its socket with it.
        () = accept_all(acceptor, &mut connections, seats) => {}
        _ = stopped.changed() => {}
    }
    debug!(%address, "no longer accepting connections");
    connections.drain(&limits).await;
}

/// Accepts first and takes a seat then: the other way round, a listener that nobody calls would keep the last seat from
/// one that is called.
async fn accept_all(mut acceptor: Acceptor, connections: &mut Connections, seats: Arc<Seats>) {
    loop {
        let (stream, peer) = acceptor.accept().await;
        connections.start(stream, peer, seats.take().await);
    }
}

/// The connections of one listener.
struct Connections {
    protocol: Arc<Protocol>,
    entrance: Arc<Entrance>,
    stopped: watch::Receiver<()>,
    tasks: JoinSet<()>,
}

impl Connections {
    fn start(&mut self, stream: TcpStream, peer: SocketAddr, seat: Seat) {
        self.reap();
        // A response leaves in few large writes, and Nagle's algorithm would hold the last of them back.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        let mut stopped = self.stopped.clone();
        let stopped = async move { drop(stopped.changed().await) };
        let connection =
            self.protocol.clone().serve(stream, peer, self.entrance.clone(), seat.phase().clone(), stopped);
        self.tasks.spawn(async move {
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        debug!(%peer, error = &*error as &dyn std::error::Error, "connection failed");
                    }
                }
                () = seat.has_to_leave() => debug!(%peer, "connection ended for another"),
            }
        });
    }

    /// Forgets the tasks that have ended.
    fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            if ended.is_err_and(|error| error.is_panic()) {
                error!("a request's handler panicked; its connection was closed");
            }
        }
    }

    async fn drain(mut self, limits: &Limits) {
        self.reap();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(limits.drain, all).await.is_err() {
            info!(drain = ?limits.drain, "dropping connections that have not finished in time");
        }
    }
}
