//! What a client's certificate says of its owner: the few extensions that rustls does not tell.
//!
//! A reader of DER (ITU-T X.690) that goes no further than it must. Bytes that are no certificate say nothing. Whether
//! a certificate is good is not decided here.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Tags of X.690, and the context tags of the certificate's own fields (RFC 5280, section 4.1).
mod tag {
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const OCTET_STRING: u8 = 0x04;
    pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(super) const SEQUENCE: u8 = 0x30;
    /// The version, which is left out where it is 1.
    pub(super) const VERSION: u8 = 0xa0;
    pub(super) const EXTENSIONS: u8 = 0xa3;
}

/// The kinds of name in a subject alternative name (RFC 5280, section 4.2.1.6) that are compared.
mod name {
    pub(super) const EMAIL: u8 = 0x81;
    pub(super) const DNS: u8 = 0x82;
    pub(super) const URI: u8 = 0x86;
    pub(super) const IP_ADDRESS: u8 = 0x87;
}

/// 2.5.29.17
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 2.5.29.19
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// 2.5.29.37
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// 2.5.29.37.0
const ANY_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
/// 1.3.6.1.5.5.7.3.2
const CLIENT_AUTHENTICATION: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// The DNS names, e-mail addresses, IP addresses and URIs that the certificate is for.
pub(super) fn alternative_names(certificate: &[u8]) -> Vec<String> {
    let names = extension(certificate, SUBJECT_ALTERNATIVE_NAME).and_then(|names| content(names, tag::SEQUENCE));
    Elements(names.unwrap_or_default())
        .filter_map(|(kind, value)| match kind {
            name::EMAIL | name::DNS | name::URI => String::from_utf8(value.to_vec()).ok(),
            name::IP_ADDRESS => ip_address(value),
            _ => None,
        })
        .collect()
}

/// Whether the certificate may be used by a client: it says so, or it says nothing of its use.
pub(super) fn is_for_clients(certificate: &[u8]) -> bool {
    let Some(uses) = extension(certificate, EXTENDED_KEY_USAGE) else { return true };
    Elements(content(uses, tag::SEQUENCE).unwrap_or_default())
        .any(|(_, usage)| usage == CLIENT_AUTHENTICATION || usage == ANY_EXTENDED_KEY_USAGE)
}

/// Whether the certificate may issue others: it says so, or it is of version 1, which had no way to.
pub(super) fn is_authority(certificate: &[u8]) -> bool {
    let Some(fields) = fields(certificate) else { return false };
    if Elements(fields).next().is_none_or(|(tag, _)| tag != tag::VERSION) {
        return true;
    }
    let constraints = extension(certificate, BASIC_CONSTRAINTS).and_then(|value| content(value, tag::SEQUENCE));
    // The flag is left out where it is false.
    Elements(constraints.unwrap_or_default()).next().is_some_and(|(tag, value)| tag == tag::BOOLEAN && value == [0xff])
}

/// As Go writes it, and with that the exporter-toolkit: an IPv4 address in an IPv6 one is shown as IPv4.
fn ip_address(bytes: &[u8]) -> Option<String> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(bytes).to_string());
    }
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
    Some(address.to_ipv4_mapped().map_or_else(|| address.to_string(), |address| address.to_string()))
}

/// The signed fields of a certificate.
fn fields(certificate: &[u8]) -> Option<&[u8]> {
    content(content(certificate, tag::SEQUENCE)?, tag::SEQUENCE)
}

/// The value of the extension with this object identifier.
fn extension<'a>(certificate: &'a [u8], identifier: &[u8]) -> Option<&'a [u8]> {
    let (_, extensions) = Elements(fields(certificate)?).find(|(tag, _)| *tag == tag::EXTENSIONS)?;
    Elements(content(extensions, tag::SEQUENCE)?).find_map(|(_, extension)| {
        let mut parts = Elements(extension);
        let named = parts.next()? == (tag::OBJECT_IDENTIFIER, identifier);
        // Between the two there may be a flag: whether the extension is critical.
        parts.find(|(tag, _)| named && *tag == tag::OCTET_STRING).map(|(_, value)| value)
    })
}

/// The content of the element that `input` begins with, where it has this tag.
fn content(input: &[u8], expected: u8) -> Option<&[u8]> {
    Elements(input).next().filter(|(tag, _)| *tag == expected).map(|(_, content)| content)
}

/// The tag and the content of an element.
type Element<'a> = (u8, &'a [u8]);

/// The elements that follow one another in some bytes, up to the first one that is at fault.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        // What is at fault ends it for good.
        let (element, rest) = element(std::mem::take(&mut self.0))?;
        self.0 = rest;
        Some(element)
    }
}

/// The element that `input` begins with, and what follows it.
fn element(input: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // So many bytes of length follow. Without any, the end would be marked, which DER forbids; four are more than any
        // certificate needs.
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if !(1..=4).contains(&bytes.len()) {
            return None;
        }
        (bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some(((tag, content), rest))
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
    fn every_kind_of_alternative_name_is_told() {
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
    fn the_use_that_a_certificate_states_is_minded() {
        let with = |uses: Vec<ExtendedKeyUsagePurpose>| certificate(|params| params.extended_key_usages = uses);
        assert!(is_for_clients(&with(Vec::new())));
        assert!(is_for_clients(&with(vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth])));
        assert!(is_for_clients(&with(vec![ExtendedKeyUsagePurpose::Any])));
        assert!(!is_for_clients(&with(vec![ExtendedKeyUsagePurpose::ServerAuth])));
    }

    #[test]
    fn an_authority_is_told_from_an_end() {
        let with = |is_ca: IsCa| certificate(|params| params.is_ca = is_ca);
        assert!(is_authority(&with(IsCa::Ca(BasicConstraints::Unconstrained))));
        assert!(is_authority(&with(IsCa::Ca(BasicConstraints::Constrained(0)))));
        assert!(!is_authority(&with(IsCa::ExplicitNoCa)));
        assert!(!is_authority(&with(IsCa::NoCa)));
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        for bytes in
            [&[0x30][..], &[0x30, 0x80], &[0x30, 0x85, 1, 1, 1, 1, 1], &[0x30, 0x84, 255, 255, 255, 255], &[0x30, 2, 0]]
        {
            assert_eq!(Elements(bytes).count(), 0, "{bytes:x?}");
        }
    }

    proptest! {
        #![proptest_config(crate::hostile::cases(256))]

        #[test]
        fn hostile_bytes_never_make_it_panic(bytes: Vec<u8>) {
            alternative_names(&bytes);
            is_for_clients(&bytes);
            is_authority(&bytes);
        }

        #[test]
        fn hostile_damage_never_makes_it_panic(at in 0_usize..1000, byte: u8, cut in 0_usize..1000) {
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
