//! Searches for credentials, from the start each time.

use std::path::Path;
use std::time::SystemTime;

use aws_config::SdkConfig;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::profile::ProfileSet;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, future};
use tokio::task::JoinSet;

use super::metadata::{self, Missed};
use super::profile::{self, Chain, CredentialsSource};
use super::roles::{Role, Sts};
use super::sso::{self, SsoTokens};
use super::{CredentialRequests, FoundIn, SourceError, blocking, process, read_token, usable};
use crate::aws::error::one_line;
use crate::aws::profiles::{DEFAULT, SharedFiles};

/// The message if no source has credentials.
const NOWHERE: &str = "no credentials in the environment, the profile, a web identity token file, or from the metadata \
    service of a container or an instance";

/// Searches for credentials from the start each time. The SDK's own sources keep the profile that they first read, so
/// they never see a rotated key.
#[derive(Clone, Debug)]
pub(in super::super) struct ReloadingProvider {
    base: SdkConfig,
    /// The only source, if the target names a profile.
    profile: Option<String>,
    tokens: SsoTokens,
    requests: CredentialRequests,
    found_in: FoundIn,
}

/// Credentials, and their source in words.
type Found = (Credentials, String);

impl ReloadingProvider {
    /// Uses only `profile` if it is given, else all usual sources. `base` has the settings of the calls.
    pub(in super::super) fn new(
        base: &SdkConfig,
        profile: Option<String>,
        tokens: SsoTokens,
        requests: CredentialRequests,
        found_in: FoundIn,
    ) -> Self {
        Self { base: base.clone(), profile, tokens, requests, found_in }
    }

    async fn look(&self) -> Result<Found, SourceError> {
        let files = blocking(SharedFiles::of_process).await?;
        match &self.profile {
            Some(name) => {
                let chain = chain_of(name, &files)?;
                let missing = || {
                    let faults = files.faults(Some(name)).lines;
                    let none = || format!("{} has no credentials", named(name, &files));
                    SourceError::new(if faults.is_empty() { none() } else { faults.join("; ") })
                };
                let (profiles, chain) = chain.ok_or_else(missing)?;
                self.follow(&chain, &profiles, &files).await
            }
            None => self.look_everywhere(&files).await,
        }
    }

    async fn look_everywhere(&self, files: &SharedFiles) -> Result<Found, SourceError> {
        let (named_profile, mut notes) = (files.named_profile(None), vec![NOWHERE.to_owned()]);
        match environment().await {
            Ok(credentials) => return Ok((credentials, "AWS_ACCESS_KEY_ID in the environment".to_owned())),
            Err(note) => notes.extend(note),
        }
        let name = named_profile.unwrap_or(DEFAULT);
        if let Some((profiles, chain)) = chain_of(name, files)? {
            return self.follow(&chain, &profiles, files).await;
        }
        notes.extend(files.faults(named_profile).lines);
        if let Some(token_file) = variable("AWS_WEB_IDENTITY_TOKEN_FILE") {
            if let Some(arn) = variable("AWS_ROLE_ARN") {
                let session_name = variable("AWS_ROLE_SESSION_NAME");
                let role = Role { arn, session_name, external_id: None, duration_seconds: None };
                let source = format!(
                    "{} (AWS_ROLE_ARN) with the token in {} (AWS_WEB_IDENTITY_TOKEN_FILE)",
                    role.arn, token_file
                );
                let credentials = self.by_token(&role, &token_file, "AWS_WEB_IDENTITY_TOKEN_FILE").await?;
                return Ok((credentials, one_line(&source)));
            }
            notes.push("AWS_WEB_IDENTITY_TOKEN_FILE is set, and AWS_ROLE_ARN is not".to_owned());
        }
        if let Some(found) = metadata::container(&self.base).await {
            return Ok((found?, "the metadata service of the container".to_owned()));
        }
        let sections = files.sections();
        let profile = sections.as_ref().and_then(|sections| sections.get_profile(name));
        match metadata::instance(&self.base, profile).await {
            Ok(credentials) => Ok((credentials, "the metadata service of the instance".to_owned())),
            Err(Missed::Absent(note)) => {
                notes.push(note);
                Err(SourceError::new(notes.join("; ")))
            }
            Err(Missed::Failed(error)) => Err(error),
        }
    }

    /// Gets the credentials of a chain's source, and assumes its roles.
    async fn follow(&self, chain: &Chain, profiles: &ProfileSet, files: &SharedFiles) -> Result<Found, SourceError> {
        let found = self.ask(&chain.source, &chain.source_profile, profiles).await.and_then(usable);
        let mut credentials = found.map_err(|error| error.of(&named(&chain.source_profile, files)))?;
        let sts = Sts::new(&self.base, self.requests.clone());
        for (profile, role) in &chain.roles {
            let assumed = sts.assume(role, credentials).await;
            credentials = assumed.map_err(|error| error.of(&named(profile, files)))?;
        }
        let mut source = format!("{} of {}", chain.source, named(&chain.source_profile, files));
        for (profile, role) in &chain.roles {
            source.push_str(&one_line(&format!(", then role {} of profile {profile:?}", role.arn)));
        }
        Ok((credentials, source))
    }

    async fn ask(
        &self,
        source: &CredentialsSource,
        profile: &str,
        profiles: &ProfileSet,
    ) -> Result<Credentials, SourceError> {
        match source {
            CredentialsSource::Keys(credentials) => Ok(credentials.clone()),
            CredentialsSource::Process(command) => {
                let now = self.base.time_source().map_or(SystemTime::UNIX_EPOCH, |time| time.now());
                let ran = process::run(command.expose(), now).await;
                ran.map_err(|reason| SourceError::new(format!("credential_process {reason}")))
            }
            CredentialsSource::WebIdentity { role, token_file } => {
                self.by_token(role, token_file, "web_identity_token_file").await
            }
            CredentialsSource::Sso(role) => {
                sso::credentials(role, profile, &self.tokens, &self.base, &self.requests).await
            }
            CredentialsSource::Environment => environment().await.map_err(|note| {
                let none = || "credential_source is Environment, and AWS_ACCESS_KEY_ID is not set".to_owned();
                SourceError::new(note.unwrap_or_else(none))
            }),
            CredentialsSource::Container => metadata::container(&self.base).await.unwrap_or_else(|| {
                let unset = "credential_source is EcsContainer, and AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not set";
                Err(SourceError::new(unset))
            }),
            CredentialsSource::Instance => {
                metadata::instance(&self.base, profiles.get_profile(profile)).await.map_err(|missed| match missed {
                    Missed::Absent(note) => SourceError::new(note),
                    Missed::Failed(error) => error,
                })
            }
        }
    }

    /// Assumes a role with the token in a file. `named_by` is the setting that names the file.
    async fn by_token(&self, role: &Role, token_file: &str, named_by: &str) -> Result<Credentials, SourceError> {
        let token = read_token(Path::new(token_file)).await.map_err(|fault| {
            let path = one_line(token_file);
            SourceError::new(format!("the web identity token file {path} ({named_by}) {fault}"))
        })?;
        let sts = Sts::new(&self.base, self.requests.clone());
        sts.assume_by_token(role, token.trim_end()).await
    }
}

/// The chain of a profile, with all profiles; `None` if it has no credentials or does not exist.
fn chain_of(name: &str, files: &SharedFiles) -> Result<Option<(ProfileSet, Chain)>, SourceError> {
    let unparsable = || SourceError::new(files.faults(None).lines.join("; "));
    let profiles = files.sections().ok_or_else(unparsable)?;
    let chain = profile::chain(&profiles, name);
    let chain = chain.map_err(|fault| SourceError::new(format!("{} {}", named(&fault.profile, files), fault.text)))?;
    Ok(chain.map(|chain| (profiles, chain)))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A profile with the files that were searched, for the start of a sentence.
fn named(profile: &str, files: &SharedFiles) -> String {
    format!("profile {profile:?} ({})", files.searched().join(", "))
}

/// The credentials in the environment, or their fault.
async fn environment() -> Result<Credentials, Option<String>> {
    const ID: &str = "AWS_ACCESS_KEY_ID";
    const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
    EnvironmentVariableCredentialsProvider::new().provide_credentials().await.map_err(|_| {
        let is_set = |name: &str| std::env::var_os(name).is_some();
        let half = |set: &str, unset: &str| format!("{set} is set, and {unset} is not");
        match (is_set(ID), is_set(SECRET)) {
            (true, false) => Some(half(ID, SECRET)),
            (false, true) => Some(half(SECRET, ID)),
            (true, true) => Some(format!("{ID} or {SECRET} is not UTF-8")),
            (false, false) => None,
        }
    })
}

impl ProvideCredentials for ReloadingProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let reloading = self.clone();
        future::ProvideCredentials::new(async {
            // A separate task that ends with this future: the SDK's sources panic on some input.
            let mut look = JoinSet::new();
            look.spawn(async move { reloading.look().await });
            let looked = look.join_next().await.and_then(Result::ok);
            let panicked = || Err(SourceError::new("a source of credentials panicked"));
            let (credentials, source): Found = looked.unwrap_or_else(panicked)?;
            let credentials = usable(credentials)?;
            self.found_in.set(source);
            Ok(credentials)
        })
    }
}
