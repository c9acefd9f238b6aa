//! The stream of a connection: plain, or TLS after a handshake.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// The response to an HTTP request on a port with TLS, in HTTP/1.0 so that every client can show it.
const NOT_HTTPS: &[u8] = b"HTTP/1.0 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    connection: close\r\n\r\nThis port speaks HTTPS, and the request was HTTP.\n";

/// A connection that is ready for HTTP.
pub(in crate::http) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Makes `stream` ready for HTTP, with a handshake if there are TLS settings.
///
/// # Errors
/// If the handshake fails, or takes longer than `limit`.
pub(in crate::http) async fn handshake(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    limit: Duration,
) -> io::Result<Box<dyn Stream>> {
    let Some(config) = tls else { return Ok(Box::new(stream)) };
    let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "the client does not complete its handshake");
    timeout(limit, accept_tls(stream, config)).await.map_err(timed_out)?
}

async fn accept_tls(mut stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<Box<dyn Stream>> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    // A handshake starts with byte 22 (RFC 8446, section 5.1), a request with the letters of its method.
    if first[0].is_ascii_uppercase() {
        // Closing a socket with unread input resets the connection, and the client would lose the response.
        let _ = stream.read(&mut [0; 4096]).await?;
        stream.write_all(NOT_HTTPS).await?;
        stream.shutdown().await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client uses HTTP instead of HTTPS"));
    }
    Ok(Box::new(TlsAcceptor::from(config).accept(stream).await?))
}
