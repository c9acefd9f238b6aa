//! The file of `--web.config.file`: TLS, client certificates, users and headers.
//!
//! The format is that of the Prometheus exporter-toolkit
//! (<https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>), so one file can serve
//! every exporter of a machine. Keys that this exporter does not support are refused by name. All named files are read
//! at once, so a loaded configuration is ready to use.

mod certificate;
mod clients;
#[cfg(test)]
mod proptests;
pub(in crate::config) mod schema;
mod tls;
mod users;

#[cfg(test)]
pub(crate) mod test_certs;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{self, Digest};
use http::{HeaderName, HeaderValue, header};
use rustls::ServerConfig;

use self::clients::ClientAuth;
use self::schema::{Headers, WebFile};
pub use self::users::PasswordHash;
use super::cursor::{Cursor, Reading};
use super::file;
use super::key::{self, Section as _};
use super::problem::{Problems, abridged};
use super::secret::Secret;
use super::sources;

/// A loaded web configuration. The default is plain HTTP for every client.
///
/// Two configurations are equal if they were read from the same bytes, including certificates and keys.
#[derive(Clone, Default)]
pub struct WebConfig {
    /// TLS; `None` for plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// The headers of every response.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The users and their passwords. If there are none, every client has access.
    pub users: BTreeMap<String, PasswordHash>,
    client_auth: ClientAuth,
    restricts_names: bool,
    digest: Option<Digest>,
}

impl WebConfig {
    pub(super) fn digest(&self) -> Option<Vec<u8>> {
        self.digest.map(|digest| digest.as_ref().to_vec())
    }

    /// The protection of `other` that this configuration lacks, in words; `None` if it lacks none.
    #[must_use]
    pub fn opens(&self, other: &Self) -> Option<&'static str> {
        if self.users.is_empty() && !other.users.is_empty() {
            Some("the users of basic authentication")
        } else if self.tls.is_none() && other.tls.is_some() {
            Some("TLS")
        } else if self.client_auth < other.client_auth {
            Some("the requirement for client certificates")
        } else if other.restricts_names && !self.restricts_names {
            Some("client_allowed_sans")
        } else {
            None
        }
    }
}

impl PartialEq for WebConfig {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl fmt::Debug for WebConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebConfig")
            .field("tls", &self.tls.is_some())
            .field("client_auth", &self.client_auth)
            .field("headers", &self.headers)
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

/// Reads the web configuration and all files that it names. Relative paths start at its folder.
///
/// # Errors
/// All problems at once: unreadable files, unknown keys, invalid or unsupported values, and certificates and keys that
/// do not match.
pub fn load(path: &Path) -> Result<WebConfig, Problems> {
    let mut problems = Vec::new();
    match sources::file_text(path, &mut problems) {
        Some(text) => read(path, &text),
        None => Problems::check(problems).map(|()| WebConfig::default()),
    }
}

/// Reads the content of the web configuration at `path`. The exporter-toolkit accepts an empty file; here it is
/// refused, so that a truncated file never removes the access control.
fn read(path: &Path, text: &str) -> Result<WebConfig, Problems> {
    let (fields, mut problems) = (WebFile::fields(), Vec::new());
    let figment = sources::text_layer(path, text, &fields, &mut problems).unwrap_or_default();
    let mut files = Files::new(path);
    files.note(text.as_bytes());
    let reading = Reading::new(figment, fields);
    let root = reading.root();
    root.check_section(&key::names(reading.fields()));
    let file = WebFile::read_fields(&root);
    let spec = &file.tls_server_config;
    let tls = tls::server_config(spec, &root.key("tls_server_config"), &mut files);
    problems.extend(reading.into_problems());
    Problems::check(problems)?;
    Ok(WebConfig {
        tls,
        client_auth: spec.client_auth_type.unwrap_or_default(),
        restricts_names: !spec.client_allowed_sans.is_empty(),
        headers: file.http_server_config.headers.list(),
        users: file.basic_auth_users,
        digest: Some(files.digest.finish()),
    })
}

impl Headers {
    fn list(self) -> Vec<(HeaderName, HeaderValue)> {
        [
            (header::CONTENT_SECURITY_POLICY, self.content_security_policy),
            (header::STRICT_TRANSPORT_SECURITY, self.strict_transport_security),
            (header::X_CONTENT_TYPE_OPTIONS, self.x_content_type_options),
            (header::X_FRAME_OPTIONS, self.x_frame_options),
            (header::X_XSS_PROTECTION, self.x_xss_protection),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// The files of a web configuration, and a digest of everything that was read.
struct Files {
    folder: PathBuf,
    digest: digest::Context,
}

impl Files {
    fn new(path: &Path) -> Self {
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Self { folder, digest: digest::Context::new(&digest::SHA256) }
    }

    fn note(&mut self, bytes: &[u8]) {
        // The length separates the files in the digest.
        self.digest.update(&bytes.len().to_be_bytes());
        self.digest.update(bytes);
    }

    /// The bytes in the key `inline` or in the file of the key `file`, with the position of that key.
    fn pem<'a>(
        &mut self,
        section: &Cursor<'a>,
        (inline, text): (&str, &Option<Secret>),
        (file, path): (&str, &Option<Secret>),
    ) -> Option<(Cursor<'a>, Vec<u8>)> {
        if section.key(inline).is_given() && section.key(file).is_given() {
            section.key(inline).report(format!("cannot be combined with {file}; give one of the two"));
            return None;
        }
        if let Some(text) = text {
            return Some((section.key(inline), text.expose().trim_start_matches('\u{feff}').as_bytes().to_vec()));
        }
        let (at, path) = (section.key(file), self.folder.join(path.as_ref()?.expose()));
        match file::bytes(&path) {
            Ok(bytes) => {
                self.note(&bytes);
                Some((at, bytes))
            }
            Err(reason) => {
                at.report(format!("\"{}\" {reason}", abridged(&path.display().to_string())));
                None
            }
        }
    }
}
