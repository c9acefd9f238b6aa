//! Reads properties of client certificates that rustls does not provide.
//!
//! Invalid certificates have none of these properties.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Version;

/// The DNS names, e-mail addresses, IP addresses and URIs of the certificate.
pub(super) fn alternative_names(certificate: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default().iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
                Some((*text).to_owned())
            }
            GeneralName::IPAddress(bytes) => ip_address(bytes),
            _ => None,
        })
        .collect()
}

/// Whether a client may use the certificate: its extended key usage allows it or is absent.
pub(super) fn is_for_clients(certificate: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    match certificate.extended_key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.client_auth || usage.value.any),
        Err(_) => false,
    }
}

/// Whether the certificate may issue others: it says so, or it has version 1, which has no such field.
pub(super) fn is_authority(certificate: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let says_so = || certificate.basic_constraints().ok().flatten().is_some_and(|constraints| constraints.value.ca);
    certificate.version() == X509Version::V1 || says_so()
}

/// Seconds since the epoch, both ends inclusive.
pub(super) type Validity = RangeInclusive<u64>;

/// The validity period of the certificate.
pub(super) fn validity(certificate: &[u8]) -> Option<Validity> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let [start, end] = [certificate.validity().not_before, certificate.validity().not_after]
        .map(|time| u64::try_from(time.timestamp()).unwrap_or_default());
    Some(start..=end)
}

/// An IP address as in Go and the exporter-toolkit: an IPv4 address inside an IPv6 one is shown as IPv4.
fn ip_address(bytes: &[u8]) -> Option<String> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(bytes).to_string());
    }
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
    Some(address.to_ipv4_mapped().map_or_else(|| address.to_string(), |address| address.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};

    use super::*;

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn every_kind_of_alternative_name_is_reported() {
        let text = |text: &str| text.try_into().expect("ASCII");
        let der = certificate(|params| {
            params.subject_alt_names = vec![
                SanType::DnsName(text("scraper.example")),
                SanType::Rfc822Name(text("me@example.org")),
                SanType::URI(text("spiffe://example.org/scraper")),
                SanType::IpAddress("192.0.2.1".parse().expect("an address")),
                SanType::IpAddress("2001:db8::1".parse().expect("an address")),
                SanType::IpAddress("::ffff:192.0.2.2".parse().expect("an address")),
            ];
        });
        let names = [
            "scraper.example",
            "me@example.org",
            "spiffe://example.org/scraper",
            "192.0.2.1",
            "2001:db8::1",
            "192.0.2.2",
        ];
        assert_eq!(alternative_names(&der), names);
    }

    #[test]
    fn a_certificate_without_names_has_none() {
        assert!(alternative_names(&certificate(|_| {})).is_empty());
    }

    #[test]
    fn the_key_usage_of_a_certificate_is_respected() {
        let with = |uses: Vec<ExtendedKeyUsagePurpose>| certificate(|params| params.extended_key_usages = uses);
        assert!(is_for_clients(&with(Vec::new())));
        assert!(is_for_clients(&with(vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth])));
        assert!(is_for_clients(&with(vec![ExtendedKeyUsagePurpose::Any])));
        assert!(!is_for_clients(&with(vec![ExtendedKeyUsagePurpose::ServerAuth])));
    }

    #[test]
    fn an_authority_differs_from_an_end_entity() {
        let with = |is_ca: IsCa| certificate(|params| params.is_ca = is_ca);
        assert!(is_authority(&with(IsCa::Ca(BasicConstraints::Unconstrained))));
        assert!(is_authority(&with(IsCa::Ca(BasicConstraints::Constrained(0)))));
        assert!(!is_authority(&with(IsCa::ExplicitNoCa)));
        assert!(!is_authority(&with(IsCa::NoCa)));
    }

    proptest! {
        #![proptest_config(crate::proptests::cases(256))]

        #[test]
        fn proptest_any_bytes_cause_no_panic(bytes: Vec<u8>) {
            alternative_names(&bytes);
            is_for_clients(&bytes);
            is_authority(&bytes);
        }

        #[test]
        fn proptest_any_damage_causes_no_panic(at in 0_usize..1000, byte: u8, cut in 0_usize..1000) {
            let mut der = certificate(|params| params.is_ca = IsCa::ExplicitNoCa);
            let at = at % der.len();
            der[at] = byte;
            der.truncate(der.len() - cut % der.len());
            alternative_names(&der);
            is_for_clients(&der);
            is_authority(&der);
        }
    }
}
