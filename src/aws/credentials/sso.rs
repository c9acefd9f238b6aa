//! IAM Identity Center (SSO): the token file of `aws sso login`, its renewal, and the credentials of the role.
//!
//! If the SDK cannot write the file, it loses the renewed token, for example in a container that mounts `~/.aws`
//! read-only. This module then keeps the token in memory.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_lc_rs::digest;
use aws_sdk_iot::error::SdkError;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tracing::warn;

use super::profile::SsoRole;
use super::roles::failed;
use super::{CredentialRequests, SourceError, blocking, for_calls, read_token, retries, shown};
use crate::aws::error::one_line;
use crate::aws::profiles;
use crate::metrics::Reason;

/// Tokens are renewed this long before they end, as by AWS's other tools.
const RENEWAL: Duration = Duration::from_mins(5);

/// Renewed tokens that could not be saved, by file. All clones and all targets share them: each refresh token is valid
/// for one renewal. Each file has its own lock, held during a renewal.
#[derive(Clone, Debug, Default)]
pub struct SsoTokens(Arc<std::sync::Mutex<HashMap<PathBuf, Unsaved>>>);

type Unsaved = Arc<Mutex<Option<Token>>>;

/// The content of a token file. Fields of other tools are preserved.
#[derive(Clone)]
struct Token(Map<String, Value>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    async fn read(path: &Path) -> Result<Self, String> {
        let text = read_token(path).await.map_err(|fault| fault.message)?;
        let fields: Map<String, Value> =
            serde_json::from_str(&text).map_err(|_| "is not a JSON object, as a token is".to_owned())?;
        let token = Self(fields);
        if token.text("accessToken").is_none() || token.time("expiresAt").is_none() {
            return Err("has no accessToken with an expiresAt".to_owned());
        }
        Ok(token)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    fn time(&self, name: &str) -> Option<SystemTime> {
        // Old versions of the AWS CLI write `2020-06-17T10:02:08UTC`.
        let text = self.text(name)?.replace("UTC", "Z");
        text.parse::<Timestamp>().ok()?.try_into().ok()
    }

    fn ends(&self) -> SystemTime {
        self.time("expiresAt").unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// The values for a renewal, if all exist and the registration of the client is valid.
    fn renewal(&self, now: SystemTime) -> Option<[&str; 3]> {
        self.time("registrationExpiresAt").filter(|ends| *ends > now)?;
        Some([self.text("clientId")?, self.text("clientSecret")?, self.text("refreshToken")?])
    }

    /// Replaces the file, readable only by its owner. The old file survives if the disk is full.
    fn save(&self, path: &Path) -> std::io::Result<()> {
        let new = path.with_extension(format!("json.{}", std::process::id()));
        let written = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&new).and_then(
            |mut file| {
                file.write_all(Value::Object(self.0.clone()).to_string().as_bytes())?;
                file.sync_all()
            },
        );
        let replaced = written.and_then(|()| std::fs::rename(&new, path));
        if replaced.is_err() {
            // It may not exist.
            let _ = std::fs::remove_file(&new);
        }
        replaced
    }
}

/// The credentials of a role, for the token of the user who has logged in.
pub(super) async fn credentials(
    role: &SsoRole,
    profile: &str,
    tokens: &SsoTokens,
    base: &SdkConfig,
    requests: &CredentialRequests,
) -> Result<Credentials, SourceError> {
    let login = match &role.session {
        Some(session) => format!("run `aws sso login --sso-session {}`", one_line(session)),
        None => format!("run `aws sso login --profile {}`", one_line(profile)),
    };
    let settings = for_calls(base).into_builder().region(Region::new(role.region.clone())).build();
    let path = token_path(role.session.as_deref().unwrap_or(&role.start_url))
        .ok_or_else(|| SourceError::new("HOME is not set, so there is no ~/.aws/sso/cache with a token"))?;
    let token = tokens.valid(role, &path, &settings, requests, &login).await?;

    let config = aws_sdk_sso::config::Builder::from(&for_service(&settings, "AWS_ENDPOINT_URL_SSO"));
    let config = config.retry_partition(retries()).interceptor(requests.clone());
    let call = aws_sdk_sso::Client::from_conf(config.build())
        .get_role_credentials()
        .role_name(&role.role_name)
        .account_id(&role.account_id)
        .access_token(token);
    let answer = call.send().await.map_err(|error| {
        let failed = failed("sso:GetRoleCredentials", &error);
        match error.raw_response().map(|response| response.status().as_u16()) {
            Some(401) => SourceError::new(format!("{}: {login}", failed.message)),
            _ => failed,
        }
    })?;
    let incomplete = || SourceError {
        reason: Reason::Malformed,
        message: "sso:GetRoleCredentials: the answer has no credentials".to_owned(),
    };
    let issued = answer.role_credentials.ok_or_else(incomplete)?;
    let mut credentials = Credentials::builder()
        .access_key_id(issued.access_key_id.ok_or_else(incomplete)?)
        .secret_access_key(issued.secret_access_key.ok_or_else(incomplete)?)
        .provider_name("SSO");
    credentials.set_session_token(issued.session_token);
    let ends = Timestamp::from_millisecond(issued.expiration).ok().and_then(|ends| ends.try_into().ok());
    credentials.set_expiry(Some(ends.ok_or_else(incomplete)?));
    Ok(credentials.build())
}

/// The settings for a service other than AWS IoT and STS: the endpoint of a target applies only to those two.
/// `variable` names the endpoint of the service.
fn for_service(settings: &SdkConfig, variable: &str) -> SdkConfig {
    let mut own = settings.to_builder();
    if settings.get_origin("endpoint_url").is_client_config() {
        own.set_endpoint_url([variable, "AWS_ENDPOINT_URL"].iter().find_map(|name| std::env::var(name).ok()));
    }
    own.build()
}

/// The token file of a session, or of a start URL in legacy profiles
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-sso-credentials.html>).
fn token_path(identifier: &str) -> Option<PathBuf> {
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, identifier.as_bytes());
    let mut name = String::new();
    for byte in hash.as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    Some(Path::new(&profiles::home()?).join(".aws/sso/cache").join(name).with_extension("json"))
}

impl SsoTokens {
    /// A valid access token. One that ends soon is renewed, if possible.
    async fn valid(
        &self,
        role: &SsoRole,
        path: &Path,
        settings: &SdkConfig,
        requests: &CredentialRequests,
        login: &str,
    ) -> Result<String, SourceError> {
        // Held during the renewal: two renewals with one refresh token would fail.
        let of_file = {
            let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(files.entry(path.to_owned()).or_default())
        };
        let mut unsaved = of_file.lock().await;
        let now = settings.time_source().map_or(SystemTime::UNIX_EPOCH, |time| time.now());
        let shown_path = one_line(&path.to_string_lossy());
        let token = match (Token::read(path).await, &*unsaved) {
            (Ok(saved), Some(unsaved)) if saved.ends() < unsaved.ends() => unsaved.clone(),
            (Ok(saved), _) => saved,
            (Err(_), Some(unsaved)) => unsaved.clone(),
            (Err(reason), None) => {
                return Err(SourceError::new(format!("the SSO token {shown_path} {reason}: {login}")));
            }
        };
        let has_ended = token.ends() <= now;
        let mut fault = None;
        // Legacy tokens cannot be renewed.
        if token.ends() <= now + RENEWAL
            && role.session.is_some()
            && let Some(renewal) = token.renewal(now)
        {
            match renew(&token, renewal, settings, requests, now).await {
                Ok(renewed) => {
                    let access_token = renewed.text("accessToken").unwrap_or_default().to_owned();
                    let (saved, file) = (renewed.clone(), path.to_owned());
                    match blocking(move || saved.save(&file)).await? {
                        Ok(()) => *unsaved = None,
                        Err(error) => {
                            if unsaved.replace(renewed).is_none() {
                                warn!(path = shown_path, %error, "cannot save the renewed SSO token; it stays in memory until a restart, then log in again");
                            }
                        }
                    }
                    return Ok(access_token);
                }
                Err(error) => fault = Some(error),
            }
        }
        if !has_ended {
            return Ok(token.text("accessToken").unwrap_or_default().to_owned());
        }
        let cause = fault.as_ref().map_or("it cannot be renewed", |fault| fault.message.as_str());
        let message = format!("the SSO token {shown_path} ended at {}, and {cause}: {login}", shown(token.ends()));
        Err(SourceError { reason: fault.map_or(Reason::Credentials, |fault| fault.reason), message })
    }
}

/// Renews `token`.
async fn renew(
    token: &Token,
    [client_id, client_secret, refresh_token]: [&str; 3],
    settings: &SdkConfig,
    requests: &CredentialRequests,
    now: SystemTime,
) -> Result<Token, SourceError> {
    const OPERATION: &str = "sso-oidc:CreateToken";
    let config = aws_sdk_ssooidc::config::Builder::from(&for_service(settings, "AWS_ENDPOINT_URL_SSO_OIDC"));
    let config = config.retry_partition(retries());
    let call = aws_sdk_ssooidc::Client::from_conf(config.interceptor(requests.clone()).build())
        .create_token()
        .grant_type("refresh_token")
        .client_id(client_id)
        .client_secret(client_secret)
        .refresh_token(refresh_token);
    let answer = call.send().await.map_err(|error| match &error {
        // A refusal concerns the login, not a policy.
        SdkError::ServiceError(_) => SourceError { reason: Reason::Credentials, ..failed(OPERATION, &error) },
        _ => failed(OPERATION, &error),
    })?;
    let incomplete = || SourceError::new(format!("{OPERATION}: the answer has no token"));
    let life = Duration::from_secs(u64::try_from(answer.expires_in).map_err(|_| incomplete())?);
    let mut fields = token.0.clone();
    fields.insert("accessToken".to_owned(), answer.access_token.ok_or_else(incomplete)?.into());
    fields.insert("expiresAt".to_owned(), shown(now + life).into());
    if let Some(refresh_token) = answer.refresh_token {
        fields.insert("refreshToken".to_owned(), refresh_token.into());
    }
    Ok(Token(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(fields: &[(&str, &str)]) -> Token {
        Token(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect())
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn both_formats_of_the_end_of_a_token_are_read() {
        for text in ["2020-06-17T10:02:08Z", "2020-06-17T10:02:08UTC"] {
            assert_eq!(token(&[("expiresAt", text)]).ends(), at(1_592_388_128));
        }
    }

    #[test]
    fn a_token_is_renewed_only_with_all_values() {
        let whole = [
            ("clientId", "c"),
            ("clientSecret", "s"),
            ("refreshToken", "r"),
            ("registrationExpiresAt", "2020-06-17T10:02:08Z"),
        ];
        assert_eq!(token(&whole).renewal(at(1_592_388_127)), Some(["c", "s", "r"]));
        assert_eq!(token(&whole).renewal(at(1_592_388_128)), None, "the registration has ended");
        for missing in 0..whole.len() {
            let mut part = whole.to_vec();
            part.remove(missing);
            assert_eq!(token(&part).renewal(at(0)), None, "{part:?}");
        }
    }

    #[test]
    fn debug_output_hides_the_token() {
        let token = token(&[("accessToken", "hunter2"), ("refreshToken", "hunter2")]);
        assert!(!format!("{token:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn a_saved_token_is_private_and_keeps_unknown_fields() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("token.json");
        let fields = [("accessToken", "a"), ("expiresAt", "2020-06-17T10:02:08Z"), ("startUrl", "https://a.test")];
        token(&fields).save(&path).expect("a written file");
        assert_eq!(path.metadata().expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(Token::read(&path).await.expect("a token").text("startUrl"), Some("https://a.test"));
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing else is left");
        std::fs::write(&path, "{\"accessToken\": \"hunter2\"}").expect("a written file");
        let fault = Token::read(&path).await.expect_err("no end");
        assert!(fault.contains("expiresAt") && !fault.contains("hunter2"), "{fault}");
    }
}
