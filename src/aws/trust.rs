//! The trusted certificates for AWS's answers.
//!
//! The order is that of AWS's own tools: `AWS_CA_BUNDLE`, else `ca_bundle` of the profile, else the system's
//! certificates, which `SSL_CERT_FILE` and `SSL_CERT_DIR` replace. The SDK supports only the last ones, and panics on
//! an unusable bundle, so bundles are read here.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_iot::config::SharedHttpClient;
use aws_smithy_http_client::tls::TrustStore;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::error::one_line;
use super::http_client::{self, Proxies};
use crate::config::{self, TrustProblem};

/// The variable with the bundle for all profiles.
pub(super) const CA_BUNDLE: &str = "AWS_CA_BUNDLE";

/// One HTTP client for each bundle content, so that targets with the same bundle share connections. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct CaBundles(Arc<Mutex<Vec<(String, SharedHttpClient)>>>);

impl CaBundles {
    /// The client that trusts only the certificates in `path`.
    ///
    /// # Errors
    /// If the file has no usable certificate.
    pub(super) fn client(&self, path: &Path) -> Result<SharedHttpClient, String> {
        let pem = bundle(path)?;
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = clients.iter().find(|(known, _)| *known == pem) {
            return Ok(client.clone());
        }
        let trust = TrustStore::empty().with_pem_certificate(pem.clone());
        let client = http_client::client(Proxies::FromEnvironment, trust);
        clients.push((pem, client.clone()));
        Ok(client)
    }
}

/// The system's certificates. Empty if there are none: the SDK would panic in debug builds.
pub(super) fn system() -> TrustStore {
    let found = rustls_native_certs::load_native_certs();
    TrustStore::empty().with_native_roots(found.certs.iter().any(is_usable))
}

/// The number of usable certificates in a bundle.
///
/// # Errors
/// If there are none.
pub(super) fn in_bundle(path: &Path) -> Result<usize, String> {
    Ok(bundle(path)?.matches("-----BEGIN").count())
}

/// The number of the system's usable certificates, and their source.
///
/// # Errors
/// If there are none.
pub(super) fn of_system() -> Result<(usize, String), String> {
    let variable = |name: &str| std::env::var(name).ok();
    let (file, folders) = (variable(FILE), variable(FOLDERS));
    let number = rustls_native_certs::load_native_certs().certs.iter().filter(|found| is_usable(found)).count();
    if number == 0 {
        let problem = system_problem(|name| if name == FILE { file.as_deref() } else { folders.as_deref() });
        return Err(problem
            .map_or_else(|| NO_CERTIFICATE.to_owned(), |problem| format!("{}: {}", problem.source, problem.reason)));
    }
    let replaced = [(FILE, file), (FOLDERS, folders)].into_iter();
    let replaced: Vec<_> = replaced.filter_map(|(name, path)| Some(format!("{} ({name})", one_line(&path?)))).collect();
    let source = if replaced.is_empty() { "the system".to_owned() } else { replaced.join(" and ") };
    Ok((number, source))
}

/// The variables that replace the system's certificates.
const FILE: &str = "SSL_CERT_FILE";
const FOLDERS: &str = "SSL_CERT_DIR";

/// Why a bundle or the system has no usable certificate.
pub(super) fn problems<'a>(
    variable: impl Fn(&str) -> Option<&'a str>,
    bundles_of_profiles: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<TrustProblem> {
    if let Some(path) = variable(CA_BUNDLE) {
        let reason = bundle(Path::new(path)).err();
        return reason.map(|reason| TrustProblem::new(CA_BUNDLE, reason)).into_iter().collect();
    }
    let of_profiles = bundles_of_profiles.filter_map(|(profile, path)| {
        let reason = bundle(Path::new(path)).err()?;
        let reason = format!("ca_bundle of profile {profile:?}: {reason}");
        Some(TrustProblem { profile: Some(profile.to_owned()), ..TrustProblem::new("AWS configuration", reason) })
    });
    of_profiles.chain(system_problem(variable)).collect()
}

fn system_problem<'a>(variable: impl Fn(&str) -> Option<&'a str>) -> Option<TrustProblem> {
    let (file, folders) = (variable(FILE), variable(FOLDERS));
    let mut found = Vec::new();
    let mut look_in = |file: Option<&Path>, folder: Option<&Path>| {
        let of_path = rustls_native_certs::load_certs_from_paths(file, folder);
        found.extend(of_path.certs);
        of_path.errors.first().map(|error| format!(" ({})", one_line(&error.to_string())))
    };
    let mut reasons = Vec::new();
    if let Some(file) = file {
        let error = look_in(Some(Path::new(file)), None);
        reasons.push((FILE, format!("{} {NO_CERTIFICATE}{}", one_line(file), error.unwrap_or_default())));
    }
    for folder in folders.into_iter().flat_map(std::env::split_paths).filter(|path| path != &PathBuf::new()) {
        let error = look_in(None, Some(&folder));
        let folder = one_line(&folder.to_string_lossy());
        reasons.push((FOLDERS, format!("{folder} {NO_CERTIFICATE}{}", error.unwrap_or_default())));
    }
    if reasons.is_empty() {
        found = rustls_native_certs::load_native_certs().certs;
        let reason =
            "this system has no trusted certificates; install the package ca-certificates, or set SSL_CERT_FILE";
        reasons.push(("HTTPS", reason.to_owned()));
    }
    if found.iter().any(is_usable) {
        return None;
    }
    let reason = reasons.iter().map(|(_, reason)| reason.as_str()).collect::<Vec<_>>().join("; ");
    let (source, _) = reasons.first()?;
    Some(TrustProblem { is_of_system: file.is_none() && folders.is_none(), ..TrustProblem::new(source, reason) })
}

const NO_CERTIFICATE: &str = "has no certificate that can be used";

/// The usable certificates of a file, as PEM: the SDK panics on unusable ones.
fn bundle(path: &Path) -> Result<String, String> {
    let shown = one_line(&path.to_string_lossy());
    let text = config::read_text(path).map_err(|error| format!("{shown} {error}"))?;
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok).filter(is_usable);
    let pem: String = certificates.map(|certificate| pem(&certificate)).collect();
    if pem.is_empty() { Err(format!("{shown} {NO_CERTIFICATE}")) } else { Ok(pem) }
}

/// Whether rustls accepts it as an authority. Bundles often contain a few that it does not.
fn is_usable(certificate: &CertificateDer<'static>) -> bool {
    RootCertStore::empty().add(certificate.clone()).is_ok()
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(certificate))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> String {
        let key = rcgen::KeyPair::generate().expect("a key");
        rcgen::CertificateParams::new([]).expect("parameters").self_signed(&key).expect("a certificate").pem()
    }

    fn written(content: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), content).expect("a written file");
        file
    }

    #[test]
    fn invalid_parts_of_a_bundle_are_skipped() {
        let (one, other) = (authority(), authority());
        let broken = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        let file = written(format!("\u{feff}# two of three\n{one}{broken}{other}"));
        let pem = bundle(file.path()).expect("certificates");
        assert_eq!(pem.matches("BEGIN").count(), 2, "{pem}");
        // The SDK assumes that the bundle of a client can be parsed.
        let bundles = CaBundles::default();
        bundles.client(file.path()).expect("a client");
        bundles.client(written(pem).path()).expect("the same client");
        assert_eq!(bundles.0.lock().expect("no panic").len(), 1, "the content decides");
    }

    #[test]
    fn a_bundle_without_a_certificate_is_reported() {
        for content in ["", "hello", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"] {
            let file = written(content);
            let path = file.path().display();
            assert_eq!(bundle(file.path()), Err(format!("{path} has no certificate that can be used")), "{content}");
        }
        let missing = bundle(Path::new("/nonexistent/ca.pem")).expect_err("no file");
        assert!(missing.starts_with("/nonexistent/ca.pem cannot be read: No such file"), "{missing}");
    }

    fn problems_with(variables: &[(&str, &str)], profiles: &[(&str, &str)]) -> Vec<String> {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let found = problems(variable, profiles.iter().copied());
        found.into_iter().map(|problem| format!("{}: {}", problem.source, problem.reason)).collect()
    }

    #[test]
    fn a_replacement_of_the_system_certificates_without_any_is_reported() {
        let (empty, usable, folder) = (written(""), written(authority()), tempfile::tempdir().expect("a folder"));
        let [empty, usable] = [&empty, &usable].map(|file| file.path().to_str().expect("UTF-8"));
        let folder = folder.path().to_str().expect("UTF-8");
        let named = |source: &str, path: &str| vec![format!("{source}: {path} {NO_CERTIFICATE}")];
        assert_eq!(problems_with(&[("SSL_CERT_FILE", empty)], &[]), named("SSL_CERT_FILE", empty));
        assert_eq!(problems_with(&[("SSL_CERT_DIR", folder)], &[]), named("SSL_CERT_DIR", folder));
        let missing = problems_with(&[("SSL_CERT_FILE", "/nonexistent")], &[]);
        assert!(missing[0].starts_with("SSL_CERT_FILE: /nonexistent has no certificate"), "{missing:?}");
        assert!(missing[0].contains("No such file"), "{missing:?}");
        for variables in [
            &[("SSL_CERT_FILE", usable)][..],
            &[("SSL_CERT_FILE", usable), ("SSL_CERT_DIR", "/nonexistent")],
            &[("AWS_CA_BUNDLE", usable), ("SSL_CERT_FILE", empty)],
        ] {
            assert_eq!(problems_with(variables, &[]), [""; 0], "{variables:?}");
        }
    }

    #[test]
    fn the_bundle_of_the_environment_precedes_those_of_profiles() {
        let (empty, usable) = (written(""), written(authority()));
        let [empty, usable] = [&empty, &usable].map(|file| file.path().to_str().expect("UTF-8"));
        let expected = vec![format!("AWS configuration: ca_bundle of profile \"a\": {empty} {NO_CERTIFICATE}")];
        assert_eq!(problems_with(&[("SSL_CERT_FILE", usable)], &[("a", empty), ("b", usable)]), expected);
        assert_eq!(problems_with(&[("AWS_CA_BUNDLE", usable)], &[("a", empty)]), [""; 0]);
        let expected = vec![format!("AWS_CA_BUNDLE: {empty} {NO_CERTIFICATE}")];
        assert_eq!(problems_with(&[("AWS_CA_BUNDLE", empty)], &[("b", usable)]), expected);
    }
}
