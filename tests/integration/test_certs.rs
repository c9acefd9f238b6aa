//! Certificates for tests over TLS, by the authority of the unit tests.

use std::path::Path;

#[path = "../../src/config/web_config/test_certs.rs"]
#[allow(dead_code, reason = "the unit tests use more of it")]
mod authority;

/// An authority, and a certificate of it for a server and for a client, as files.
pub fn certificates(folder: &Path) {
    let authority = authority::Authority::new("an authority");
    std::fs::write(folder.join("ca.pem"), authority.pem()).expect("a written file");
    authority.server().write(folder, "server");
    authority.client(&[]).write(folder, "client");
}
