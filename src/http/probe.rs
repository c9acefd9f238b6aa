//! Checks whether a local server answers a path with 200, over plain HTTP.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tokio::time::Instant;

/// The longest first line of a response.
const MAX_LINE_BYTES: usize = 1024;

/// Why a server is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It cannot be reached, or does not answer in time.
    #[error("{address} does not answer: {source}")]
    Unreachable {
        /// Its address.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// Its response is not HTTP.
    #[error("{0} does not answer in plain HTTP")]
    NotHttp(SocketAddr),
    /// Its status is not 200.
    #[error("{address} answers {status}")]
    Unhealthy {
        /// Its address.
        address: SocketAddr,
        /// The status.
        status: u16,
    },
}

/// Requests `path` from `address`, within about `timeout`.
///
/// # Errors
/// If the status is not 200.
pub fn probe(address: SocketAddr, path: &str, timeout: Duration) -> Result<(), ProbeError> {
    let answer = ask(address, path, timeout).map_err(|source| ProbeError::Unreachable { address, source })?;
    match status(&answer) {
        Some(200) => Ok(()),
        Some(status) => Err(ProbeError::Unhealthy { address, status }),
        None => Err(ProbeError::NotHttp(address)),
    }
}

/// The start of the response: at least its first line, unless that is too long.
fn ask(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<Vec<u8>> {
    let started = Instant::now();
    let left = || timeout.checked_sub(started.elapsed()).filter(|left| !left.is_zero()).ok_or(ErrorKind::TimedOut);
    let mut socket = TcpStream::connect_timeout(&address, left()?)?;
    socket.set_write_timeout(Some(left()?))?;
    socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; MAX_LINE_BYTES];
    while answer.len() < MAX_LINE_BYTES && !answer.contains(&b'\n') {
        socket.set_read_timeout(Some(left()?))?;
        match socket.read(&mut part) {
            Ok(0) => break,
            Ok(read) => answer.extend(part.iter().take(read)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Systems use different error kinds for a timeout.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// The status in the first line of a response.
fn status(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.split(|byte| *byte == b'\n').next()?).ok()?;
    let mut words = line.trim_end().split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    // `u16::from_str` would accept a plus sign.
    words.next().filter(|status| status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// The result of a probe with this response, sent byte by byte.
    fn answered(answer: &'static [u8]) -> Result<(), ProbeError> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a connection");
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") {
                socket.read_exact(&mut byte).expect("a request");
                request.extend(byte);
            }
            for byte in answer {
                // The probe closes the connection early.
                let _ = socket.write_all(&[*byte]);
            }
            String::from_utf8(request).expect("text")
        });
        let outcome = probe(address, "/-/healthy", Duration::from_secs(10));
        let request = server.join().expect("a server");
        assert!(request.starts_with("GET /-/healthy HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        outcome
    }

    #[test]
    fn only_200_is_healthy() {
        assert!(answered(b"HTTP/1.1 200 OK\r\n\r\nHealthy.\n").is_ok());
        assert!(answered(b"HTTP/1.0 200\n").is_ok());
        for (answer, status) in
            [(&b"HTTP/1.1 503 Service Unavailable\r\n\r\n"[..], 503), (b"HTTP/1.1 204 \r\n\r\n", 204)]
        {
            assert!(matches!(answered(answer), Err(ProbeError::Unhealthy { status: got, .. }) if got == status));
        }
    }

    #[test]
    fn other_protocols_are_not_http() {
        let long: &[u8] = &[b'x'; 4 * MAX_LINE_BYTES];
        for answer in
            [&b""[..], b"\x15\x03\x01\x00\x02\x02\x46", b"HTTP/2 200\r\n", b"HTTP/1.1 +20\r\n", b"HTTP/1.1\r\n", long]
        {
            assert!(matches!(answered(answer), Err(ProbeError::NotHttp(_))), "{answer:?}");
        }
    }

    #[test]
    fn a_silent_or_missing_server_is_unreachable() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let Err(ProbeError::Unreachable { source, .. }) = probe(address, "/", Duration::from_millis(50)) else {
            panic!("a response of a silent server")
        };
        assert_eq!(source.kind(), ErrorKind::TimedOut);
        drop(listener);
        let Err(ProbeError::Unreachable { source, .. }) = probe(address, "/", Duration::from_secs(10)) else {
            panic!("a response without a server")
        };
        assert_eq!(source.kind(), ErrorKind::ConnectionRefused);
    }
}
