//! Which certificates a client may connect with.
//!
//! The policies are Go's (<https://pkg.go.dev/crypto/tls#ClientAuthType>), of which rustls has some and none of the
//! others. Under each of them a client has to prove that it holds the key of the certificate that it shows.

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

/// What is asked of a client.
///
/// Each is stricter than those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ClientAuth {
    /// Nothing.
    #[default]
    None,
    /// A certificate, which it need not have and nobody verifies.
    Request,
    /// A certificate that is good, or none.
    VerifyIfGiven,
    /// A certificate, which nobody verifies.
    RequireAny,
    /// A certificate that is good.
    RequireAndVerify,
}

impl ClientAuth {
    /// Whether a client without a certificate is refused.
    pub(super) const fn requires(self) -> bool {
        matches!(self, Self::RequireAny | Self::RequireAndVerify)
    }

    /// Whether a certificate has to come from an authority.
    pub(super) const fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

/// What a client's certificate is held against.
#[derive(Debug)]
pub(super) struct Clients {
    policy: ClientAuth,
    /// The authorities that may have issued it, and when: rustls knows no such time of an anchor.
    authorities: Vec<(TrustAnchor<'static>, Validity)>,
    /// The certificates that were given as authorities, whether they are or not: Go takes a client that shows one of
    /// them. Self-signed certificates are used in this way.
    trusted: BTreeSet<Vec<u8>>,
    /// The subjects of all of `trusted`, for clients that have several certificates to choose from.
    hints: Vec<DistinguishedName>,
    /// The names of which it must have one.
    names: Option<BTreeSet<String>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Clients {
    /// # Errors
    /// The number of the certificate that can't be read, counted from 1.
    pub(super) fn new(
        policy: ClientAuth,
        certificates: &[CertificateDer<'static>],
        names: Option<BTreeSet<String>>,
    ) -> Result<Self, usize> {
        let mut all = RootCertStore::empty();
        for (index, certificate) in certificates.iter().enumerate() {
            all.add(certificate.clone()).map_err(|_| index + 1)?;
        }
        // An anchor can issue, whatever its certificate says of itself; a client's certificate must not be one.
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
            // By then its time has been seen to be right, and for the second its use. See `trusted`.
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

/// The refusal that the client hears of as an alert, each with the one that fits.
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
