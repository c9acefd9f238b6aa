//! Certificates for tests: authorities, and certificates that they issue.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate with its key.
pub(crate) struct Issued {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    key: Vec<u8>,
}

impl Issued {
    fn new(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            key: key.serialize_der(),
        }
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }

    /// A self-signed certificate.
    pub(crate) fn self_signed(is_ca: IsCa, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = named("self-signed");
        params.is_ca = is_ca;
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        Self::new(&params.self_signed(&key).expect("a certificate"), &key)
    }

    /// A client certificate, signed by the owner of this one as if it were an authority.
    pub(crate) fn sign(&self) -> Self {
        let signer = KeyPair::from_pem(&self.key_pem).expect("a key");
        let issuer = rcgen::Issuer::new(named("self-signed"), signer);
        let key = KeyPair::generate().expect("a key");
        Self::new(&named("forged").signed_by(&key, &issuer).expect("a certificate"), &key)
    }

    /// Writes `NAME.pem` and `NAME.key`.
    pub(crate) fn write(&self, folder: &Path, name: &str) {
        std::fs::write(folder.join(format!("{name}.pem")), &self.certificate_pem).expect("a file");
        std::fs::write(folder.join(format!("{name}.key")), &self.key_pem).expect("a file");
    }
}

/// An authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    pub(crate) fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = named(name);
        change(&mut params);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = named("issued");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        Issued::new(&params.signed_by(&key, &self.0).expect("a certificate"), &key)
    }

    /// A certificate for the server `localhost`.
    pub(crate) fn server(&self) -> Issued {
        self.issue(|params| {
            params.subject_alt_names = vec![dns("localhost"), SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())];
        })
    }

    /// A certificate for a client with these DNS names.
    pub(crate) fn client(&self, names: &[&str]) -> Issued {
        self.issue(|params| {
            params.subject_alt_names = names.iter().map(|name| dns(name)).collect();
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("a name"))
}
