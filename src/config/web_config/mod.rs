//! The file of `--web.config.file`: who may come in, and by which lock.
//!
//! The format is the Prometheus exporter-toolkit's
//! (<https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>), so that one file serves
//! every exporter of a machine. What that takes and this exporter has not is refused with the key named, rather than
//! taken and not obeyed. Each file that it names is read with it, so that what is loaded is ready to serve with.

mod certificate;
mod clients;
mod document;
mod headers;
#[cfg(test)]
mod hostile;
mod tls;
mod users;

#[cfg(test)]
pub(crate) mod pki;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::Digest;
use figment::value::Value;
use http::{HeaderName, HeaderValue};
use rustls::ServerConfig;

use self::document::Document;
pub use self::users::PasswordHash;
use super::problem::Problems;

/// A web configuration that is ready to serve with. The default asks for nothing: plain HTTP, and everybody may come in.
///
/// Two are equal where they were made of the same bytes, those of the certificates and keys included.
#[derive(Clone, Default)]
pub struct WebConfig {
    /// What to serve TLS with; without it, plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// The headers that every response gets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Who may come in, by name; without any, everybody.
    pub users: BTreeMap<String, PasswordHash>,
    content: Option<Digest>,
}

impl WebConfig {
    fn content(&self) -> Option<&[u8]> {
        self.content.as_ref().map(Digest::as_ref)
    }
}

impl PartialEq for WebConfig {
    fn eq(&self, other: &Self) -> bool {
        self.content() == other.content()
    }
}

impl fmt::Debug for WebConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebConfig")
            .field("tls", &self.tls.is_some())
            .field("headers", &self.headers)
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

/// Reads the web configuration, and every file that it names. A relative path in it starts in its own folder.
///
/// # Errors
/// Everything that is wrong, in one go: files that can't be read, unknown keys, values that are wrong or not supported,
/// certificates and keys that don't fit.
pub fn load(path: &Path) -> Result<WebConfig, Problems> {
    let (document, value) = Document::open(path);
    read(document, &value)
}

fn read(mut document: Document, value: &Value) -> Result<WebConfig, Problems> {
    let mut top = document.top(value);
    let tls = tls::read(top.section("tls_server_config"));
    let mut http = top.section("http_server_config");
    if http.truth("http2") == Some(true) {
        http.tell(
            "http2",
            "is not supported: this exporter speaks HTTP/1.1, as scrapers do; leave it out, or say false",
        );
    }
    let headers = headers::read(http.section("headers"));
    let users = users::read(top.section("basic_auth_users"));
    let (problems, content) = document.close();
    if problems.is_empty() {
        Ok(WebConfig { tls, headers, users, content: Some(content) })
    } else {
        Err(Problems::new(problems))
    }
}
