//! The policies for client certificates.
//!
//! The policies are those of Go (<https://pkg.go.dev/crypto/tls#ClientAuthType>); rustls supports only some of them.
//! Under each of them, a client must prove that it has the key of its certificate.

use std::collections::BTreeSet;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage};

use super::certificate::{Validity, alternative_names, is_authority, is_for_clients, validity};

/// A policy for client certificates.
///
/// Each one is stricter than the previous ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ClientAuth {
    /// No certificate is requested.
    #[default]
    None,
    /// A certificate is requested. It is optional and not verified.
    Request,
    /// A certificate is optional, but must be valid.
    VerifyIfGiven,
    /// A certificate is required, but not verified.
    RequireAny,
    /// A valid certificate is required.
    RequireAndVerify,
}

impl ClientAuth {
    /// Whether a client without a certificate is refused.
    pub(super) const fn requires(self) -> bool {
        matches!(self, Self::RequireAny | Self::RequireAndVerify)
    }

    /// Whether a certificate must come from an authority.
    pub(super) const fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

/// The verifier of client certificates.
#[derive(Debug)]
pub(super) struct Clients {
    policy: ClientAuth,
    /// The authorities with their validity periods: rustls does not check the period of an anchor.
    authorities: Vec<(TrustAnchor<'static>, Validity)>,
    /// The certificates that were given as authorities. As in Go, a client can present one of them directly, even if
    /// it is not an authority. Self-signed certificates are used this way.
    trusted: BTreeSet<Vec<u8>>,
    /// The subjects of all of `trusted`, for clients with several certificates.
    hints: Vec<DistinguishedName>,
    /// If set, the certificate must have one of these names.
    names: Option<BTreeSet<String>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Clients {
    /// # Errors
    /// The number of the first invalid certificate, counted from 1.
    pub(super) fn new(
        policy: ClientAuth,
        certificates: &[CertificateDer<'static>],
        names: Option<BTreeSet<String>>,
    ) -> Result<Self, usize> {
        let mut all = RootCertStore::empty();
        for (index, certificate) in certificates.iter().enumerate() {
            all.add(certificate.clone()).map_err(|_| index + 1)?;
        }
        // An anchor can issue regardless of its own certificate, but the certificate of a client must not be an
        // authority.
        let authorities = all.roots.iter().cloned().zip(certificates);
        let authorities = authorities.filter(|(_, certificate)| is_authority(certificate));
        let authorities =
            authorities.filter_map(|(anchor, certificate)| Some((anchor, validity(certificate)?))).collect();
        Ok(Self {
            policy,
            authorities,
            trusted: certificates.iter().map(|certificate| certificate.to_vec()).collect(),
            hints: all.subjects(),
            names,
            algorithms: aws_lc_rs::default_provider().signature_verification_algorithms,
        })
    }

    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = EndEntityCert::try_from(certificate).map_err(|error| refused(&error))?;
        let valid = self.authorities.iter().filter(|(_, validity)| validity.contains(&now.as_secs()));
        let anchors: Vec<_> = valid.map(|(anchor, _)| anchor.clone()).collect();
        let verified =
            parsed.verify_for_usage(self.algorithms.all, &anchors, others, now, KeyUsage::client_auth(), None, None);
        match verified {
            Ok(_) => Ok(()),
            // Its validity period was checked before, and for the second error its key usage. See `trusted`.
            Err(webpki::Error::CaUsedAsEndEntity | webpki::Error::UnknownIssuer)
                if self.trusted.contains(&**certificate) && is_for_clients(certificate) =>
            {
                Ok(())
            }
            Err(error) => Err(refused(&error)),
        }
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn client_auth_mandatory(&self) -> bool {
        self.policy.requires()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.policy.verifies() {
            self.verify(end_entity, intermediates, now)?;
        }
        if let Some(names) = &self.names
            && !alternative_names(end_entity).iter().any(|name| names.contains(name))
        {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The error, with the matching TLS alert for the client.
fn refused(error: &webpki::Error) -> Error {
    let error = match error {
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::BadDer | webpki::Error::BadDerTime => CertificateError::BadEncoding,
        other => CertificateError::Other(OtherError(std::sync::Arc::new(other.clone()))),
    };
    Error::InvalidCertificate(error)
}
