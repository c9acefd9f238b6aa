//! One call of an operation: wait for a permit, send, classify the result, and retry.
//!
//! The SDK's own retries are off, so each `send` is one attempt. The permit is acquired first: neither the age of the
//! signature nor the timeout of the attempt runs during that wait.

use std::error::Error;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sdk_iot::config::http::HttpResponse;
use aws_sdk_iot::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_iot::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_iot::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_async::time::TimeSource as _;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use tokio::time::{Instant, sleep, timeout};
use tracing::{trace, warn};

use super::credentials::{CredentialsCache, SigningClock};
use super::error::{ApiError, server_time};
use super::rate_limit::{Class, RateLimiter, TargetLimiter};
use crate::metrics::{Reason, TargetCounters};

/// The limit for one attempt, from connecting to the last byte of the answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// From this difference on, the SDK attributes a refused signature to the clocks. AWS accepts five minutes.
const CLOCK_SKEW: Duration = Duration::from_mins(4);

/// The longest waits before the second and the third attempt.
const RETRY_WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// An operation of AWS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    /// Its AWS name.
    pub(super) name: &'static str,
    /// The longest waits before the second and later attempts. The actual wait is random, so that targets which fail
    /// together do not retry together.
    retry_waits: &'static [Duration],
}

impl Operation {
    /// A page of a walk. If one page fails, the whole walk is lost.
    pub(super) const fn page(name: &'static str) -> Self {
        Self { name, retry_waits: &RETRY_WAITS }
    }

    /// An operation that is called again later anyway.
    pub(super) const fn single(name: &'static str) -> Self {
        Self { name, retry_waits: &[] }
    }
}

/// The host of a service, and its last answer; known from its requests. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Host {
    clock: SigningClock,
    url: Arc<OnceLock<http::Uri>>,
    last: Arc<Mutex<Option<Answered>>>,
}

/// An answer of a service, with any status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The host, and the port if its URL names one.
    pub host: String,
    /// The time from the request until the headers of the answer, with the handshakes of a new connection.
    pub latency: Duration,
    /// The service's time minus the own one, in seconds; `None` if the answer has no valid date.
    pub clock_difference: Option<i64>,
}

/// When a request was sent.
#[derive(Debug)]
struct Sent(Instant);

impl Storable for Sent {
    type Storer = StoreReplace<Self>;
}

impl Host {
    pub(super) fn new(clock: SigningClock) -> Self {
        Self { clock, url: Arc::default(), last: Arc::default() }
    }

    /// The host, and the port if its URL names one; `None` before the first request.
    fn name(&self) -> Option<String> {
        let url = self.url()?;
        let port = url.port_u16().map_or_else(String::new, |port| format!(":{port}"));
        Some(format!("{}{port}", url.host()?))
    }

    /// The URL of the first request; `None` before it.
    pub(super) fn url(&self) -> Option<&http::Uri> {
        self.url.get()
    }

    pub(super) fn last_answer(&self) -> Option<Answered> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A time in seconds since 1970.
fn seconds(time: SystemTime) -> Option<i64> {
    i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()).ok()
}

impl Intercept for Host {
    fn name(&self) -> &'static str {
        "Host"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let url = context.request().uri().parse()?;
        self.url.get_or_init(|| url);
        config.interceptor_state().store_put(Sent(Instant::now()));
        Ok(())
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some((Sent(sent), host)) = config.load::<Sent>().zip(self.name()) else { return Ok(()) };
        let difference = server_time(context.response())
            .and_then(|time| Some(seconds(time)?.saturating_sub(seconds(self.clock.now())?)));
        let answered = Answered { host, latency: sent.elapsed(), clock_difference: difference };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(answered);
        Ok(())
    }
}

/// Permits one attempt.
#[derive(Debug)]
pub(super) struct Permit {
    /// Notified of throttling.
    limiter: Arc<RateLimiter>,
    /// The credentials of the attempt.
    credentials: Credentials,
}

/// What all calls of a target share.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) limiter: TargetLimiter,
    pub(super) credentials: CredentialsCache,
    pub(super) counters: Arc<TargetCounters>,
    pub(super) clock: SigningClock,
    pub(super) region: String,
}

impl Caller {
    /// Calls an operation of the service at `host`; `send` makes one attempt.
    ///
    /// # Errors
    /// The error of the last attempt, or missing credentials.
    pub(super) async fn call<T, E, F>(
        &self,
        operation: Operation,
        host: &Host,
        class: Class,
        send: impl Fn() -> F,
    ) -> Result<T, ApiError>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        let mut waits = operation.retry_waits.iter();
        loop {
            let permit = self.permit(operation, class).await?;
            let started = Instant::now();
            // Boxed: the SDK's futures have tens of kilobytes.
            let error = match self.send(operation, host, &permit, Box::pin(send())).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let can_succeed = error.is_transient() || error.server_time.is_some_and(|time| self.is_skewed(time));
            let Some(longest) = waits.next().filter(|_| can_succeed) else { return Err(error) };
            if error.reason == Reason::Timeout {
                warn!(
                    target = %self.limiter.name(),
                    operation = operation.name,
                    host = host.name(),
                    seconds = started.elapsed().as_secs(),
                    "request timed out; sending it again"
                );
            }
            sleep(longest.mul_f64(fastrand::f64())).await;
        }
    }

    /// The credentials in use, or new ones.
    ///
    /// # Errors
    /// If there are none.
    pub(super) async fn credentials(&self, operation: Operation) -> Result<Credentials, ApiError> {
        let found = self.credentials.get().await;
        found.map_err(|error| ApiError::without_credentials(operation.name, &self.region, &error))
    }

    /// Waits until a request may be sent.
    ///
    /// # Errors
    /// If there are no credentials.
    pub(super) async fn permit(&self, operation: Operation, class: Class) -> Result<Permit, ApiError> {
        // A search for credentials can take longer than an attempt may, and a permit should not wait for it.
        let credentials = self.credentials(operation).await?;
        let limiter = self.limiter.of(operation.name, credentials.access_key_id());
        let wait = Wait { counters: &self.counters, operation, started: Instant::now() };
        limiter.permit(class).await;
        drop(wait);
        // They may have ended during the wait.
        Ok(Permit { limiter, credentials: self.credentials(operation).await? })
    }

    /// Makes one attempt.
    ///
    /// # Errors
    /// If it fails.
    pub(super) async fn send<T, E>(
        &self,
        operation: Operation,
        host: &Host,
        permit: &Permit,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, ApiError>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        trace!(target = %self.limiter.name(), operation = operation.name, "request");
        let outcome = self.attempt(operation, host, request).await;
        match outcome.as_ref().map_err(|error| error.reason) {
            Err(Reason::Throttled) => permit.limiter.throttled(),
            Err(Reason::Credentials) => self.credentials.refused(&permit.credentials).await,
            _ => {}
        }
        outcome
    }

    async fn attempt<T, E>(
        &self,
        operation: Operation,
        host: &Host,
        send: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, ApiError>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let mut count = Count { counters: &self.counters, operation, started: Instant::now(), end: End::Cancelled };
        let outcome = timeout(ATTEMPT_TIMEOUT, send).await;
        count.end = End::Ended;
        let error = match outcome {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => ApiError::from_sdk(operation.name, &self.location(host), &error),
            Err(_) => ApiError::timeout(operation.name, &self.location(host), ATTEMPT_TIMEOUT),
        };
        match &error.code {
            Some(code) => self.counters.request_failed(operation.name, code),
            None => count.end = End::NotSent,
        }
        if error.reason == Reason::Throttled {
            self.counters.request_throttled(operation.name);
        }
        Err(error)
    }

    /// Whether AWS refused a signature because its time differs. The SDK has learned the difference from the answer,
    /// and signs the next request with AWS's time.
    fn is_skewed(&self, server_time: SystemTime) -> bool {
        let now = self.clock.now();
        let ahead = server_time.duration_since(now).or_else(|_| now.duration_since(server_time));
        ahead.is_ok_and(|difference| difference >= CLOCK_SKEW)
    }

    /// The destination of a request, for messages.
    pub(super) fn location(&self, host: &Host) -> String {
        host.name().map_or_else(|| format!("in {}", self.region), |host| format!("on {host}"))
    }
}

/// Counts the wait for a permit, also if it is cancelled.
struct Wait<'a> {
    counters: &'a TargetCounters,
    operation: Operation,
    started: Instant,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.counters.waited(self.operation.name, self.started.elapsed());
    }
}

/// Counts a request when it ends, also if it is cancelled.
struct Count<'a> {
    counters: &'a TargetCounters,
    operation: Operation,
    started: Instant,
    end: End,
}

/// How a request ended.
enum End {
    /// With or without an answer; its duration counts.
    Ended,
    /// The caller dropped it.
    Cancelled,
    /// It could not be sent.
    NotSent,
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        let duration = match self.end {
            End::Ended => Some(self.started.elapsed()),
            End::Cancelled => None,
            End::NotSent => return,
        };
        self.counters.request_ended(self.operation.name, duration);
    }
}
