//! The life of a server: accept, then drain.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, error, info};

use super::accept::Acceptor;
use super::connection::Protocol;
use super::door::Door;
use super::reply::responding;
use super::{Handler, Limits, Listener, Replier};

/// Serves `handler` on all `listeners` until `shutdown` resolves.
///
/// Then no listener accepts any more, idle connections are closed, and requests under way are finished. Returns once
/// none is left, or after [`Limits::drain`], whichever comes first; what is left then is dropped.
pub async fn serve(listeners: Vec<Listener>, limits: Limits, handler: Handler, shutdown: impl Future<Output = ()>) {
    serve_replies(listeners, limits, responding(handler), shutdown).await;
}

/// As [`serve`], for what may do other things to its clients than answer them.
pub async fn serve_replies(
    listeners: Vec<Listener>,
    limits: Limits,
    replier: Replier,
    shutdown: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(limits.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let door = Arc::new(Door::default());
    let protocol = Arc::new(Protocol::new(limits.clone(), replier, door.clone()));
    let (running, stopped) = watch::channel(());
    // Owned by this future: where it is dropped, so is all that it started.
    let mut servers = JoinSet::new();
    for listener in listeners {
        let connections = Connections::new(protocol.clone(), door.clone());
        servers.spawn(serve_listener(listener, limits.clone(), connections, slots.clone(), stopped.clone()));
    }
    shutdown.await;
    drop(running);
    while servers.join_next().await.is_some() {}
}

async fn serve_listener(
    listener: Listener,
    limits: Limits,
    mut connections: Connections,
    slots: Arc<Semaphore>,
    mut stopped: watch::Receiver<()>,
) {
    let address = listener.local_addr();
    let acceptor = Acceptor::new(listener.into_socket());
    tokio::select! {
        // The acceptor goes with this future, and takes its socket with it.
        () = accept_all(acceptor, &mut connections, slots) => {}
        _ = stopped.changed() => {}
    }
    debug!(%address, "no longer accepting connections");
    connections.drain(&limits).await;
}

/// Accepts first and waits for a slot then: the other way round, a listener that nobody calls would keep the last slot
/// from one that is called.
async fn accept_all(mut acceptor: Acceptor, connections: &mut Connections, slots: Arc<Semaphore>) {
    loop {
        let (stream, peer) = acceptor.accept().await;
        let Some(stream) = connections.door.admit(stream) else { continue };
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        connections.start(stream, peer, slot);
    }
}

/// The connections of one listener.
struct Connections {
    protocol: Arc<Protocol>,
    door: Arc<Door>,
    graceful: GracefulShutdown,
    tasks: JoinSet<()>,
}

impl Connections {
    fn new(protocol: Arc<Protocol>, door: Arc<Door>) -> Self {
        Self { protocol, door, graceful: GracefulShutdown::new(), tasks: JoinSet::new() }
    }

    fn start(&mut self, stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit) {
        self.reap();
        // A response leaves in few large writes, and Nagle's algorithm would hold the last of them back.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        // Watched before it is spawned, or a shutdown between the two would not be heard.
        let connection = self.protocol.serve(stream, peer, &self.graceful);
        self.tasks.spawn(async move {
            let _slot = slot;
            if let Err(error) = connection.await {
                debug!(%peer, error = &error as &dyn std::error::Error, "connection failed");
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
        if timeout(limits.drain, self.graceful.shutdown()).await.is_err() {
            info!(drain = ?limits.drain, "dropping connections that have not finished in time");
        }
        self.tasks.abort_all();
    }
}
