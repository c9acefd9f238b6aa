//! Accepts connections, and drains them at the shutdown.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tracing::{debug, error, info};

use super::acceptor::Acceptor;
use super::connection::Protocol;
use super::connection_limit::{ConnectionLimiter, ConnectionPermit};
use super::{Handler, Limits, Listener};

/// Serves `handler` on all `listeners` until `shutdown` resolves.
///
/// Then the sockets and idle connections are closed, and current requests finish. Returns when no connection is left,
/// or after [`Limits::drain`], which drops the remaining ones.
pub async fn serve(listeners: Vec<Listener>, limits: Limits, handler: Handler, shutdown: impl Future<Output = ()>) {
    let limiter = ConnectionLimiter::new(limits.max_connections);
    let (running, stopped) = watch::channel(());
    // Owned by this future: dropping it ends all tasks.
    let mut servers = JoinSet::new();
    for listener in listeners {
        let (sockets, policy) = listener.into_parts();
        let protocol = Arc::new(Protocol { limits: limits.clone(), handler: handler.clone(), policy });
        for socket in sockets {
            let connections =
                Connections { protocol: protocol.clone(), stopped: stopped.clone(), tasks: JoinSet::new() };
            servers.spawn(connections.serve(Acceptor::new(socket), limiter.clone()));
        }
    }
    shutdown.await;
    drop(running);
    while servers.join_next().await.is_some() {}
}

/// The connections of one socket.
struct Connections {
    protocol: Arc<Protocol>,
    /// Resolves at the shutdown, when its sender is dropped.
    stopped: watch::Receiver<()>,
    tasks: JoinSet<()>,
}

impl Connections {
    async fn serve(mut self, acceptor: Acceptor, limiter: Arc<ConnectionLimiter>) {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            // Owns the socket; dropping it closes the socket.
            () = self.accept_all(acceptor, limiter) => {}
            _ = stopped.changed() => {}
        }
        let drain = self.protocol.limits.drain;
        let drained = async {
            while let Some(ended) = self.tasks.join_next().await {
                report_panic(ended);
            }
        };
        if timeout(drain, drained).await.is_err() {
            info!(?drain, "dropping connections that have not finished in time");
        }
    }

    /// Accepts before it acquires a slot. Otherwise an idle listener would hold the last slot.
    async fn accept_all(&mut self, mut acceptor: Acceptor, limiter: Arc<ConnectionLimiter>) {
        loop {
            let (stream, peer) = acceptor.accept().await;
            let permit = limiter.acquire().await;
            self.start(stream, peer, permit);
            while let Some(ended) = self.tasks.try_join_next() {
                report_panic(ended);
            }
        }
    }

    fn start(&mut self, stream: TcpStream, peer: SocketAddr, permit: ConnectionPermit) {
        // Nagle's algorithm would delay the last part of a response.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        let mut stopped = self.stopped.clone();
        let stopped = async move { drop(stopped.changed().await) };
        let connection = self.protocol.clone().serve(stream, peer, permit.state().clone(), stopped);
        self.tasks.spawn(async move {
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        debug!(%peer, error = &*error as &dyn std::error::Error, "connection failed");
                    }
                }
                () = permit.evicted() => {}
            }
        });
    }
}

fn report_panic(ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        error!("a request handler panicked; its connection was closed");
    }
}
