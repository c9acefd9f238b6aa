//! Which certificates of an endpoint are trusted, and what is reported where none can be.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

use crate::process::{Running, program};
use crate::support::{ACCESS_KEY_ID, Endpoint, REGION, jobs, simulator as simulated};
use crate::test_certs::certificates;

/// An address where `endpoint` is reached by TLS, with the certificate of `folder`.
async fn with_tls(endpoint: &Endpoint, folder: &Path) -> SocketAddr {
    let chain = CertificateDer::pem_file_iter(folder.join("server.pem")).expect("a file");
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).expect("a key");
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("a configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, plain) = (listener.local_addr().expect("an address"), endpoint.address);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outer) = acceptor.accept(socket).await else { return };
                let Ok(mut inner) = TcpStream::connect(plain).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            });
        }
    });
    address
}

fn at(address: SocketAddr) -> Command {
    let mut command = program(&["--web.listen-address=127.0.0.1:0"]);
    command.env("AWS_ENDPOINT_URL", format!("https://{address}")).env("AWS_REGION", REGION);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID).env("AWS_SECRET_ACCESS_KEY", "x");
    command
}

#[tokio::test]
async fn the_bundle_of_the_environment_or_of_the_profile_is_trusted_and_no_other() {
    let (endpoint, folder) = (Endpoint::start(simulated(jobs(3))).await, tempfile::tempdir().expect("a folder"));
    certificates(folder.path());
    let address = with_tls(&endpoint, folder.path()).await;
    let bundle = folder.path().join("ca.pem");
    let other = tempfile::tempdir().expect("a folder");
    certificates(other.path());
    let profiles = |bundle: &Path| {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), format!("[default]\nca_bundle = {}\n", bundle.display())).expect("a written file");
        file
    };
    let (right, wrong) = (profiles(&bundle), profiles(&other.path().join("ca.pem")));

    let mut by_environment = at(address);
    by_environment.env("AWS_CA_BUNDLE", &bundle).env("AWS_CONFIG_FILE", wrong.path());
    Running::start(by_environment).until("run complete").await;
    let mut by_profile = at(address);
    by_profile.env("AWS_CONFIG_FILE", right.path());
    Running::start(by_profile).until("run complete").await;
    let mut by_file = at(address);
    by_file.env("SSL_CERT_FILE", &bundle);
    Running::start(by_file).until("run complete").await;

    let mut untrusted = at(address);
    untrusted.env("AWS_CONFIG_FILE", wrong.path()).env("SSL_CERT_FILE", &bundle);
    let line = Running::start(untrusted).until("run failed").await;
    assert!(line.contains("reason=network") && line.contains("trusted certificates"), "{line}");
}

#[tokio::test]
async fn certificates_that_can_not_be_used_end_the_start_and_fail_the_check_by_their_file() {
    let empty = tempfile::NamedTempFile::new().expect("a temporary file");
    let profiles = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(profiles.path(), "[default]\nca_bundle = /nonexistent/ca.pem\n").expect("a written file");
    let path = |file: &tempfile::NamedTempFile| file.path().to_str().expect("UTF-8").to_owned();
    for (variable, value, named) in [
        ("SSL_CERT_FILE", "/nonexistent".to_owned(), "SSL_CERT_FILE: /nonexistent has no certificate"),
        ("SSL_CERT_FILE", path(&empty), "has no certificate that can be used"),
        ("SSL_CERT_DIR", "/nonexistent".to_owned(), "SSL_CERT_DIR: /nonexistent has no certificate"),
        ("AWS_CA_BUNDLE", path(&empty), "AWS_CA_BUNDLE: /"),
        ("AWS_CONFIG_FILE", path(&profiles), "ca_bundle of profile \"default\": /nonexistent/ca.pem cannot be read"),
    ] {
        for arguments in [&["--web.listen-address=127.0.0.1:0"][..], &["--config.check"]] {
            let mut command = program(arguments);
            let output = command.env("AWS_REGION", REGION).env(variable, &value).output().await.expect("an end");
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{variable}: {errors}");
            assert!(errors.contains(named) && errors.lines().count() == 1, "{variable}: {errors}");
        }
    }
}
