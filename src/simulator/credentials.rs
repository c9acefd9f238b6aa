//! The callers: access keys, roles, and the temporary credentials of assumed roles.

use std::collections::HashMap;
use std::time::Duration;

use crate::http::{HeaderMap, StatusCode, header};
use crate::jobs::{AccountId, Timestamp};

use super::json::uuid_of;
use super::protocol::{ApiError, Params, Service};

/// A role that can be assumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    account: AccountId,
    name: String,
    external_id: Option<String>,
}

impl Role {
    /// A role of `account` that any known caller may assume.
    #[must_use]
    pub fn new(account: AccountId, name: &str) -> Self {
        Self { account, name: name.to_owned(), external_id: None }
    }

    /// The same role for callers that know `external_id`.
    #[must_use]
    pub fn with_external_id(mut self, external_id: &str) -> Self {
        self.external_id = Some(external_id.to_owned());
        self
    }

    /// `arn:aws:iam::ACCOUNT:role/NAME`
    #[must_use]
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::{}:role/{}", self.account, self.name)
    }
}

/// The owner of an access key.
#[derive(Clone, Debug)]
pub(super) struct Principal {
    pub(super) account: AccountId,
    pub(super) arn: String,
    pub(super) user_id: String,
    /// Present for temporary credentials.
    pub(super) session: Option<Session>,
}

/// What makes credentials temporary.
#[derive(Clone, Debug)]
pub(super) struct Session {
    token: String,
    expires: Timestamp,
}

/// Temporary credentials, as STS returns them.
pub(super) struct TemporaryCredentials {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) session_token: String,
    pub(super) expiration: Timestamp,
    pub(super) principal: Principal,
}

#[derive(Default)]
pub(super) struct Credentials {
    keys: HashMap<String, Principal>,
    roles: HashMap<String, Role>,
    /// Roles that can be assumed with a web identity token, by token.
    trusted: HashMap<String, String>,
    issued: u64,
}

impl Credentials {
    pub(super) fn add_access_key(&mut self, account: &AccountId, access_key_id: &str) {
        let principal = Principal {
            account: account.clone(),
            arn: format!("arn:aws:iam::{account}:user/{access_key_id}"),
            user_id: unique_id("AIDA", &(account, access_key_id)),
            session: None,
        };
        self.keys.insert(access_key_id.to_owned(), principal);
    }

    pub(super) fn add_role(&mut self, role: Role) {
        self.roles.insert(role.arn(), role);
    }

    pub(super) fn trust_web_identity(&mut self, role: Role, token: &str) {
        let arn = role.arn();
        self.trusted.retain(|_, trusted| *trusted != arn);
        self.trusted.insert(token.to_owned(), arn);
        self.add_role(role);
    }

    pub(super) fn remove_access_key(&mut self, access_key_id: &str) {
        self.keys.remove(access_key_id);
    }

    pub(super) fn end_sessions(&mut self) {
        for session in self.keys.values_mut().filter_map(|principal| principal.session.as_mut()) {
            session.expires = Timestamp::from_millis(0);
        }
    }

    /// The caller of a request with a web identity token, and its region. STS has one region for all of them.
    pub(super) fn identify_bearer(&self, params: &Params) -> Result<(Principal, String), ApiError> {
        let token = params.get("WebIdentityToken").unwrap_or_default();
        let role = self.trusted.get(token).and_then(|role| self.roles.get(role)).ok_or_else(untrusted)?;
        let principal = Principal {
            account: role.account.clone(),
            arn: format!("arn:aws:sts::{}:federated-user/{token}", role.account),
            user_id: unique_id("AROA", &token),
            session: None,
        };
        Ok((principal, "us-east-1".to_owned()))
    }

    /// Whether this token may assume this role.
    pub(super) fn trusts(&self, token: &str, role_arn: &str) -> bool {
        self.trusted.get(token).is_some_and(|trusted| trusted == role_arn)
    }

    /// The signer of a request, and its region. The signature itself is not verified.
    pub(super) fn identify(
        &self,
        headers: &HeaderMap,
        service: Service,
        now: Timestamp,
    ) -> Result<(Principal, String), ApiError> {
        let authorization = headers.get(header::AUTHORIZATION).ok_or_else(|| no_credentials(service))?;
        let scope = authorization.to_str().ok().and_then(CredentialScope::parse).ok_or_else(|| incomplete(service))?;
        if scope.service != service.signing_name() {
            return Err(wrong_service(service));
        }
        let principal = self.keys.get(scope.access_key_id).ok_or_else(|| unknown_key(service))?;
        if let Some(session) = &principal.session {
            let token = headers.get("x-amz-security-token").and_then(|token| token.to_str().ok());
            if token != Some(session.token.as_str()) {
                return Err(unknown_key(service));
            }
            if now >= session.expires {
                return Err(expired(service));
            }
        }
        Ok((principal.clone(), scope.region.to_owned()))
    }

    /// Issues credentials for a role; `None` if there is no such role, or if it requires another external id.
    pub(super) fn assume(
        &mut self,
        role_arn: &str,
        session_name: &str,
        external_id: Option<&str>,
        duration: Duration,
        now: Timestamp,
    ) -> Option<TemporaryCredentials> {
        let role = self.roles.get(role_arn)?;
        // As in the condition of a trust policy: a role that requires no external id accepts any.
        if role.external_id.is_some() && role.external_id.as_deref() != external_id {
            return None;
        }
        self.issued += 1;
        let access_key_id = unique_id("ASIA", &self.issued);
        let session = Session { token: uuid_of(&("session token", self.issued)), expires: now.after(duration) };
        let principal = Principal {
            account: role.account.clone(),
            arn: format!("arn:aws:sts::{}:assumed-role/{}/{session_name}", role.account, role.name),
            user_id: format!("{}:{session_name}", unique_id("AROA", &role_arn)),
            session: Some(session.clone()),
        };
        self.keys.insert(access_key_id.clone(), principal.clone());
        Some(TemporaryCredentials {
            access_key_id,
            secret_access_key: uuid_of(&("secret access key", self.issued)),
            session_token: session.token,
            expiration: session.expires,
            principal,
        })
    }
}

/// An id of AWS IAM: a prefix for the type, and 16 letters and digits.
fn unique_id(prefix: &str, key: &impl std::hash::Hash) -> String {
    let letters = uuid_of(key).to_ascii_uppercase();
    let letters = letters.chars().filter(char::is_ascii_alphanumeric).take(16);
    prefix.chars().chain(letters).collect()
}

/// The parts of `Authorization: AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, …`.
#[derive(Debug, PartialEq, Eq)]
struct CredentialScope<'a> {
    access_key_id: &'a str,
    region: &'a str,
    service: &'a str,
}

impl<'a> CredentialScope<'a> {
    fn parse(authorization: &'a str) -> Option<Self> {
        let fields = authorization.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let credential = fields.split(',').find_map(|field| field.trim().strip_prefix("Credential="))?;
        let mut parts = credential.split('/');
        let access_key_id = parts.next()?;
        let _date = parts.next()?;
        let (region, service) = (parts.next()?, parts.next()?);
        (parts.next()? == "aws4_request" && parts.next().is_none()).then_some(Self { access_key_id, region, service })
    }
}

/// The services use different names for the same error.
fn forbidden(service: Service, iot: &'static str, sts: &'static str, message: impl Into<String>) -> ApiError {
    let code = match service {
        Service::Iot => iot,
        Service::Sts => sts,
    };
    ApiError::new(StatusCode::FORBIDDEN, code, message)
}

fn no_credentials(service: Service) -> ApiError {
    let message = "Request is missing Authentication Token";
    forbidden(service, "MissingAuthenticationTokenException", "MissingAuthenticationToken", message)
}

fn incomplete(service: Service) -> ApiError {
    let message = "The Authorization header is not a complete SigV4 header";
    forbidden(service, "IncompleteSignatureException", "IncompleteSignature", message)
}

fn untrusted() -> ApiError {
    let message = "The web identity token that was passed could not be validated.";
    ApiError::new(StatusCode::BAD_REQUEST, "InvalidIdentityToken", message)
}

fn wrong_service(service: Service) -> ApiError {
    let message = format!("Credential should be scoped to correct service: '{}'.", service.signing_name());
    forbidden(service, "InvalidSignatureException", "SignatureDoesNotMatch", message)
}

pub(super) fn unknown_key(service: Service) -> ApiError {
    let message = "The security token included in the request is invalid.";
    forbidden(service, "UnrecognizedClientException", "InvalidClientTokenId", message)
}

pub(super) fn expired(service: Service) -> ApiError {
    let message = "The security token included in the request is expired";
    forbidden(service, "ExpiredTokenException", "ExpiredToken", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credential_scope_names_key_region_and_service() {
        let header =
            "AWS4-HMAC-SHA256 Credential=AKIA/20260725/eu-west-1/iot/aws4_request, SignedHeaders=host, Signature=0";
        let expected = CredentialScope { access_key_id: "AKIA", region: "eu-west-1", service: "iot" };
        assert_eq!(CredentialScope::parse(header), Some(expected));
    }

    #[test]
    fn other_authorization_headers_are_refused() {
        for header in [
            "",
            "Basic dTpw",
            "AWS4-HMAC-SHA256 ",
            "AWS4-HMAC-SHA256 Credential=AKIA",
            "AWS4-HMAC-SHA256 Credential=AKIA/20260725/eu-west-1/iot/aws4_request/more",
            "AWS4-HMAC-SHA256 SignedHeaders=host",
        ] {
            assert_eq!(CredentialScope::parse(header), None, "{header:?}");
        }
    }

    #[test]
    fn ids_have_the_length_of_those_of_iam() {
        assert_eq!(unique_id("ASIA", &1).len(), 20);
    }
}
