//! The request budget: attempts of one account, region and operation are spaced evenly, whichever target makes them.
//!
//! AWS's rate quotas are per account, region and operation, and are shared with everything else that runs there. A bucket of
//! tokens would allow bursts; here each permit is given no sooner than 1/rate after the one before, so that **no half-open
//! second holds more than `rate` of them** (where the rate is a whole number; 2.5 a second are 3 in some seconds and 2 in others).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::job::AccountId;

/// Gives permits at a steady pace, in the order in which they were asked for.
#[derive(Debug)]
pub struct RateLimiter {
    spacing: RwLock<Duration>,
    /// When the last permit was given. Tokio's mutex is fair, which makes the queue.
    last: tokio::sync::Mutex<Option<Instant>>,
}

impl RateLimiter {
    /// A limiter of `rate` permits a second.
    #[must_use]
    pub fn new(rate: f64) -> Self {
        Self { spacing: RwLock::new(spacing(rate)), last: tokio::sync::Mutex::new(None) }
    }

    /// Changes the pace; a permit that is waited for already comes at the old one.
    fn set_rate(&self, rate: f64) {
        *self.spacing.write().unwrap_or_else(PoisonError::into_inner) = spacing(rate);
    }

    /// Waits for a permit. One that is given up while waiting is not used up.
    pub async fn permit(&self) {
        let mut last = self.last.lock().await;
        if let Some(given) = *last {
            let spacing = *self.spacing.read().unwrap_or_else(PoisonError::into_inner);
            sleep_until(given + spacing).await;
        }
        // From when it was really given, not from when it was due: a timer that fires late must not let the next one catch up.
        *last = Some(Instant::now());
    }
}

/// 1/rate, rounded up: a spacing that is a nanosecond short would fit one permit too many into a second.
fn spacing(rate: f64) -> Duration {
    let nanos = (1e9 / rate).ceil();
    Duration::try_from_secs_f64(nanos / 1e9).map_or(Duration::MAX, |spacing| {
        let exact = Duration::from_nanos(spacing.as_nanos().try_into().unwrap_or(u64::MAX));
        // The division and multiplication above can lose the last nanosecond again.
        if exact.as_secs_f64() * rate < 1.0 { exact + Duration::from_nanos(1) } else { exact }
    })
}

/// Whose quota a request counts against.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum QuotaKey {
    Account(AccountId),
    /// It is not known yet. All such requests share a limiter, since they may well be one account's.
    Unknown,
}

/// Every limiter of the process.
#[derive(Debug)]
pub struct RateLimiters(Mutex<Limiters>);

#[derive(Debug)]
struct Limiters {
    rate: f64,
    limiters: HashMap<(QuotaKey, String, String), Arc<RateLimiter>>,
}

impl RateLimiters {
    /// Limiters of `rate` requests a second each.
    #[must_use]
    pub fn new(rate: f64) -> Self {
        Self(Mutex::new(Limiters { rate, limiters: HashMap::new() }))
    }

    /// Changes the rate of each.
    pub fn set_rate(&self, rate: f64) {
        let mut limiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        limiters.rate = rate;
        limiters.limiters.values().for_each(|limiter| limiter.set_rate(rate));
    }

    fn spacing(&self) -> Duration {
        spacing(self.0.lock().unwrap_or_else(PoisonError::into_inner).rate)
    }

    fn limiter(&self, quota: QuotaKey, region: &str, operation: &str) -> Arc<RateLimiter> {
        let limiters = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (quota, region.to_owned(), operation.to_owned());
        Arc::clone(limiters.limiters.entry(key).or_insert_with(|| Arc::new(RateLimiter::new(limiters.rate))))
    }
}

/// A target's share in the limiters.
#[derive(Debug)]
pub(super) struct TargetLimiter {
    limiters: Arc<RateLimiters>,
    name: String,
    region: String,
    account: RwLock<Option<AccountId>>,
}

impl TargetLimiter {
    pub(super) fn new(limiters: Arc<RateLimiters>, name: &str, region: String) -> Self {
        Self { limiters, name: name.to_owned(), region, account: RwLock::new(None) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// From now on requests count against this account's limiters.
    pub(super) fn known_account(&self, account: &AccountId) {
        *self.account.write().unwrap_or_else(PoisonError::into_inner) = Some(account.clone());
    }

    pub(super) fn spacing(&self) -> Duration {
        self.limiters.spacing()
    }

    /// Waits until `operation` may be called.
    pub(super) async fn permit(&self, operation: &str) {
        let account = self.account.read().unwrap_or_else(PoisonError::into_inner).clone();
        let quota = account.map_or(QuotaKey::Unknown, QuotaKey::Account);
        self.limiters.limiter(quota, &self.region, operation).permit().await;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_spacing_is_one_by_rate_and_never_less(rate in 0.01_f64..1000.0) {
            let product = spacing(rate).as_secs_f64() * rate;
            prop_assert!((1.0 - 1e-12..1.0 + 1e-5).contains(&product), "{product}");
        }
    }

    #[test]
    fn whole_rates_fill_a_second_exactly_or_a_nanosecond_late() {
        for rate in 1..=1000_u32 {
            let second = spacing(f64::from(rate)) * rate;
            assert!(second >= Duration::from_secs(1), "{rate}: {second:?}");
            assert!(second < Duration::from_secs(1) + Duration::from_nanos(2 * u64::from(rate)), "{rate}: {second:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn permits_come_one_by_one_without_a_burst_after_a_pause() {
        let limiter = RateLimiter::new(5.0);
        let start = Instant::now();
        let mut given = Vec::new();
        for wait in [0, 0, 0, 3000, 0, 0] {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            limiter.permit().await;
            given.push(start.elapsed().as_millis());
        }
        assert_eq!(given, [0, 200, 400, 3400, 3600, 3800]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_that_is_given_up_is_not_used_up() {
        let limiter = RateLimiter::new(1.0);
        limiter.permit().await;
        let start = Instant::now();
        assert!(tokio::time::timeout(Duration::from_millis(300), limiter.permit()).await.is_err());
        limiter.permit().await;
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn targets_of_one_account_and_region_share_a_budget_and_others_do_not() {
        let limiters = Arc::new(RateLimiters::new(1.0));
        let account = AccountId::parse("012345678901").expect("an account");
        let limiter = |name: &str, region: &str| {
            let limiter = TargetLimiter::new(Arc::clone(&limiters), name, region.to_owned());
            limiter.known_account(&account);
            limiter
        };
        let (a, b, elsewhere) = (limiter("a", "eu-west-1"), limiter("b", "eu-west-1"), limiter("c", "us-east-1"));
        let start = Instant::now();
        a.permit("ListJobs").await;
        elsewhere.permit("ListJobs").await;
        a.permit("DescribeJob").await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        b.permit("ListJobs").await;
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }
}
