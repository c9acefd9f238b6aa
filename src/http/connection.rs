//! One connection: its handshake, and its requests, each of which passes the entrance, is read within bounds, and is then
//! answered by the handler.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::{HeaderValue, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::entrance::Entrance;
use super::patience::{Patient, Phase};
use super::stream::Stream;
use super::{Handler, Limits, Response, ResponseBody, short};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The buffers of a connection, in bytes. With the default of hyper, 512 connections could take 200 MB.
const BUFFER_BYTES: usize = 16 * 1024;

/// Everything that connections have in common.
pub(super) struct Protocol {
    http1: http1::Builder,
    limits: Limits,
    handler: Handler,
}

impl Protocol {
    pub(super) fn new(limits: Limits, handler: Handler) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            // Runs from the end of a response to the end of the next header: see `patience`.
            .header_read_timeout(limits.idle_timeout)
            // A client that has closed its side asks for nothing more, and still gets its answer (RFC 9112, section 9.6).
            .half_close(true)
            .max_header_size(limits.max_header_bytes)
            .max_buf_size(BUFFER_BYTES);
        Self { http1, limits, handler }
    }

    /// Serves `stream` until either side closes it. Once it is too old, or `stopped` resolves, the request under way is
    /// its last one.
    ///
    /// # Errors
    /// If it ends in any other way.
    pub(super) async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        entrance: Arc<Entrance>,
        phase: Phase,
        stopped: impl Future<Output = ()>,
    ) -> Result<(), BoxError> {
        let too_old = sleep(self.limits.max_connection_age);
        let mut last = pin!(async {
            tokio::select! {
                () = stopped => {}
                () = too_old => {}
            }
        });
        let tls = entrance.tls();
        if tls.is_some() {
            phase.header_is_awaited();
        }
        let stream = tokio::select! {
            stream = Stream::open(stream, tls, self.limits.header_timeout) => stream?,
            () = &mut last => return Ok(()),
        };
        let io = TokioIo::new(Patient::new(stream, phase.clone(), &self.limits));
        let protocol = Arc::clone(&self);
        let service = service_fn(move |request| {
            respond(request, peer, phase.clone(), Arc::clone(&entrance), Arc::clone(&protocol))
        });
        let mut connection = pin!(self.http1.serve_connection(io, service));
        tokio::select! {
            ended = &mut connection => return Ok(ended?),
            () = last => connection.as_mut().graceful_shutdown(),
        }
        Ok(connection.await?)
    }
}

async fn respond(
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    phase: Phase,
    entrance: Arc<Entrance>,
    protocol: Arc<Protocol>,
) -> Result<hyper::Response<Sending>, BoxError> {
    phase.header_is_complete();
    let (mut head, body) = request.into_parts();
    let mut response = match entrance.admit(&mut head, peer).await {
        // The body of a request that is not let in is not read.
        Err(refusal) if body.is_end_stream() => refusal,
        Err(refusal) => closing(refusal, &phase),
        Ok(()) => match read_whole(body, &protocol.limits).await {
            Ok(body) => {
                head.extensions.insert(peer);
                (protocol.handler)(super::Request::from_parts(head, body)).await
            }
            Err(BodyFault::TooLarge) => closing(short(StatusCode::PAYLOAD_TOO_LARGE), &phase),
            Err(BodyFault::TooSlow) => closing(short(StatusCode::REQUEST_TIMEOUT), &phase),
            Err(BodyFault::Broken(error)) => return Err(error),
        },
    };
    entrance.complete(response.headers_mut());
    Ok(response.map(|body| Sending { body, phase }))
}

/// A body on its way to its client. hyper drops it once it needs no more of it.
struct Sending {
    body: ResponseBody,
    phase: Phase,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.phase.response_is_whole();
    }
}

impl hyper::body::Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a request has no whole body.
enum BodyFault {
    TooLarge,
    TooSlow,
    /// It ended early, or its framing is wrong: there is nobody left to answer.
    Broken(BoxError),
}

async fn read_whole(body: Incoming, limits: &Limits) -> Result<Bytes, BodyFault> {
    // A length that is announced needs no reading to be refused.
    if body.size_hint().lower() > u64::try_from(limits.max_body_bytes).unwrap_or(u64::MAX) {
        return Err(BodyFault::TooLarge);
    }
    let whole = Limited::new(body, limits.max_body_bytes).collect();
    match timeout(limits.body_timeout, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyFault::TooLarge),
        Ok(Err(error)) => Err(BodyFault::Broken(error)),
        Err(_elapsed) => Err(BodyFault::TooSlow),
    }
}

/// A response that ends its connection, because the rest of a body still stands between this request and the next.
fn closing(mut response: Response, phase: &Phase) -> Response {
    phase.refuse();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
