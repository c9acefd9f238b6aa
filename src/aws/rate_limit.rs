//! The rate limit: requests of one account, region and operation are spaced evenly, for all targets together.
//!
//! AWS's rate quotas apply per account, region and operation, and are shared with all other clients. A token bucket
//! would allow bursts. Here each permit is issued at least 1/rate after the previous one, so **no interval of one
//! second has more than `rate` permits** (for a whole number; at 2.5 per second, some seconds have 3 and others 2).
//! When AWS throttles, the rate falls and recovers as [`Share`] describes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::jobs::AccountId;
use crate::metrics::RateInForce;

/// The purpose of a request, most urgent first. Each operation has its own limiter, so only classes of one operation
/// compete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A list of open jobs, or another request that a whole target waits for.
    OpenWalk,
    /// A list of all jobs.
    FullWalk,
    /// A job that is no longer listed as open.
    LeftJob,
    /// An open job that is new or has changed.
    ChangedJob,
    /// An open job that is described again.
    Redescription,
    /// A job that has ended.
    EndedJob,
    /// The executions of a job, listed before.
    LaterLook,
    /// The executions of a job, not listed before.
    FirstLook,
    /// The tags of a job.
    Tags,
}

/// Every n-th permit goes to the waiting class that was served longest ago. The others go to the most urgent class.
const FAIRNESS: u64 = 5;

/// Issues permits at a steady rate: by class, and within a class in the order of the requests.
#[derive(Debug)]
pub struct RateLimiter {
    state: Mutex<State>,
    /// Held by the waiter that issues the permits. When it gets its own permit or is dropped, another waiter takes
    /// over.
    giving: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    /// Requests a second, as configured.
    configured: f64,
    share: Share,
    /// When the last permit was issued.
    last: Option<Instant>,
    /// The number of issued permits.
    given: u64,
    waiting: BTreeMap<Class, Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiters: VecDeque<oneshot::Sender<()>>,
    /// The number of the last permit of this class.
    last_served: u64,
}

impl RateLimiter {
    /// A limiter with `rate` permits a second.
    #[must_use]
    pub fn new(rate: f64) -> Self {
        let state =
            State { configured: rate, share: Share::default(), last: None, given: 0, waiting: BTreeMap::default() };
        Self { state: Mutex::new(state), giving: tokio::sync::Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current rate, in requests a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.state().rate(Instant::now())
    }

    /// Changes the configured rate. A permit that is already due keeps its time.
    fn set_rate(&self, rate: f64) {
        self.state().configured = rate;
    }

    /// Records that AWS throttled a request.
    pub fn throttled(&self) {
        self.state().share.throttled(Instant::now());
    }

    /// Waits for a permit. A cancelled wait uses none.
    pub async fn permit(&self, class: Class) {
        let (give, mut mine) = oneshot::channel();
        self.state().waiting.entry(class).or_default().waiters.push_back(give);
        tokio::select! {
            biased;
            _ = &mut mine => {}
            _giving = self.giving.lock() => {
                while mine.try_recv().is_err() {
                    self.wait_until_due().await;
                    self.state().give(Instant::now());
                }
            }
        }
    }

    async fn wait_until_due(&self) {
        loop {
            let due = self.state().due(Instant::now());
            match due {
                Some(due) if due > Instant::now() => sleep_until(due).await,
                // The rate can fall during the wait.
                _ => return,
            }
        }
    }
}

impl State {
    fn rate(&mut self, now: Instant) -> f64 {
        self.configured * self.share.at(now)
    }

    /// When the next permit is due; `None` before the first.
    fn due(&mut self, now: Instant) -> Option<Instant> {
        let spacing = spacing(self.rate(now));
        self.last.map(|last| last + spacing)
    }

    /// Issues a permit to the next waiter.
    fn give(&mut self, now: Instant) {
        let number = self.given + 1;
        // A cancelled waiter has closed its end.
        for queue in self.waiting.values_mut() {
            queue.waiters.retain(|waiter| !waiter.is_closed());
        }
        let mut waiting = self.waiting.values_mut().filter(|queue| !queue.waiters.is_empty());
        let queue = if number.is_multiple_of(FAIRNESS) {
            waiting.min_by_key(|queue| queue.last_served)
        } else {
            waiting.next()
        };
        if let Some(queue) = queue
            && queue.waiters.pop_front().is_some_and(|waiter| waiter.send(()).is_ok())
        {
            queue.last_served = number;
            self.given = number;
            // The actual time, not the due time: a late timer must not let the next permit catch up.
            self.last = Some(now);
        }
    }
}

/// The current share of the configured rate. Throttling halves it, at most once per [`Self::HALVING_PERIOD`], since
/// concurrent requests are throttled together. Each minute without throttling adds a tenth.
#[derive(Clone, Copy, Debug)]
struct Share {
    factor: f64,
    halved_at: Option<Instant>,
    /// The last throttling, or the last increase.
    since: Option<Instant>,
}

impl Default for Share {
    fn default() -> Self {
        Self { factor: 1.0, halved_at: None, since: None }
    }
}

impl Share {
    const HALVING_PERIOD: Duration = Duration::from_secs(10);
    const LEAST: f64 = 0.1;
    const STEP: f64 = 0.1;
    const STEP_PERIOD: Duration = Duration::from_mins(1);

    fn throttled(&mut self, now: Instant) {
        self.at(now);
        self.since = Some(now);
        if self.halved_at.is_none_or(|halved_at| now - halved_at >= Self::HALVING_PERIOD) {
            self.halved_at = Some(now);
            self.factor = (self.factor / 2.0).max(Self::LEAST);
        }
    }

    /// The current share, between [`Self::LEAST`] and 1.
    fn at(&mut self, now: Instant) -> f64 {
        while let Some(since) = self.since.filter(|since| now - *since >= Self::STEP_PERIOD && self.factor < 1.0) {
            self.factor = (self.factor + Self::STEP).min(1.0);
            self.since = Some(since + Self::STEP_PERIOD);
        }
        self.factor
    }
}

/// 1/rate, rounded up: a spacing that is a nanosecond too short would allow one permit too many in a second.
fn spacing(rate: f64) -> Duration {
    let nanos = (1e9 / rate).ceil();
    Duration::try_from_secs_f64(nanos / 1e9).map_or(Duration::MAX, |spacing| {
        let exact = Duration::from_nanos(spacing.as_nanos().try_into().unwrap_or(u64::MAX));
        // The division and multiplication above can lose a nanosecond again.
        if exact.as_secs_f64() * rate < 1.0 { exact + Duration::from_nanos(1) } else { exact }
    })
}

/// The owner of a quota.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum QuotaKey {
    Account(AccountId),
    /// An unknown account, identified by a keyed hash of the access key.
    Credentials(u64),
}

/// All limiters of the process.
#[derive(Debug)]
pub struct RateLimiters {
    limiters: Mutex<Limiters>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Limiters {
    rate: f64,
    by_key: HashMap<(QuotaKey, String, &'static str), Arc<RateLimiter>>,
}

impl RateLimiters {
    /// Limiters with `rate` requests a second each.
    #[must_use]
    pub fn new(rate: f64) -> Self {
        Self { limiters: Mutex::new(Limiters { rate, by_key: HashMap::new() }), hasher: RandomState::new() }
    }

    /// Changes the configured rate of all limiters.
    pub fn set_rate(&self, rate: f64) {
        let mut limiters = self.lock();
        limiters.rate = rate;
        limiters.by_key.values().for_each(|limiter| limiter.set_rate(rate));
    }

    /// The current rates of the limiters for known accounts, in no particular order.
    #[must_use]
    pub fn in_force(&self) -> Vec<RateInForce> {
        let limiters = self.lock();
        let in_use = limiters.by_key.iter().filter(|(_, limiter)| Arc::strong_count(limiter) > 1);
        let known = in_use.filter_map(|((key, region, operation), limiter)| match key {
            QuotaKey::Account(account) => {
                Some(RateInForce { account: account.clone(), region: region.clone(), operation, rate: limiter.rate() })
            }
            QuotaKey::Credentials(_) => None,
        });
        known.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Limiters> {
        self.limiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limiter(&self, key: QuotaKey, region: &str, operation: &'static str) -> Arc<RateLimiter> {
        let limiters = &mut *self.lock();
        let key = (key, region.to_owned(), operation);
        Arc::clone(limiters.by_key.entry(key).or_insert_with(|| Arc::new(RateLimiter::new(limiters.rate))))
    }
}

/// The limiters for the requests of one target.
#[derive(Debug)]
pub(super) struct TargetLimiter {
    limiters: Arc<RateLimiters>,
    name: String,
    region: String,
    used: Mutex<Used>,
}

/// The account that requests count against, and the limiters of the operations that were called for it.
#[derive(Debug, Default)]
struct Used {
    account: Option<AccountId>,
    by_operation: HashMap<&'static str, Arc<RateLimiter>>,
}

impl TargetLimiter {
    pub(super) fn new(limiters: Arc<RateLimiters>, name: &str, region: String) -> Self {
        Self { limiters, name: name.to_owned(), region, used: Mutex::default() }
    }

    /// The target's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts requests against this account's quotas from now on.
    pub(super) fn known_account(&self, account: &AccountId) {
        let mut used = self.used();
        if used.account.as_ref() != Some(account) {
            *used = Used { account: Some(account.clone()), by_operation: HashMap::new() };
        }
    }

    /// Whether the account is known.
    pub(super) fn has_account(&self) -> bool {
        self.used().account.is_some()
    }

    /// The limiter of an operation, for requests with this access key.
    pub(super) fn of(&self, operation: &'static str, access_key_id: &str) -> Arc<RateLimiter> {
        let Used { account, by_operation } = &mut *self.used();
        let Some(account) = account else {
            let key = QuotaKey::Credentials(self.limiters.hasher.hash_one(access_key_id));
            return self.limiters.limiter(key, &self.region, operation);
        };
        let find = || self.limiters.limiter(QuotaKey::Account(account.clone()), &self.region, operation);
        Arc::clone(by_operation.entry(operation).or_insert_with(find))
    }
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_n;

    use proptest::prelude::*;
    use tokio::task::JoinSet;
    use tokio::time::{sleep, timeout};

    use super::*;

    const CLASSES: [Class; 4] = [Class::LeftJob, Class::ChangedJob, Class::Redescription, Class::EndedJob];
    const SECOND: Duration = Duration::from_secs(1);

    fn paused<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(future)
    }

    proptest! {
        #[test]
        fn a_spacing_is_at_least_one_by_rate(rate in 0.01_f64..1000.0) {
            let product = spacing(rate).as_secs_f64() * rate;
            prop_assert!((1.0 - 1e-12..1.0 + 1e-5).contains(&product), "{product}");
        }

        #[test]
        fn no_second_has_more_permits_than_the_rate(
            rate in 1_u32..20,
            waiters in proptest::collection::vec((0_u64..5000, 0_u64..3000, 0_usize..4, any::<bool>()), 1..60),
        ) {
            let given = paused(async {
                let limiter = Arc::new(RateLimiter::new(f64::from(rate)));
                let mut tasks = JoinSet::new();
                for (start, timeout_millis, class, is_throttled) in waiters {
                    let limiter = Arc::clone(&limiter);
                    tasks.spawn(async move {
                        sleep(Duration::from_millis(start)).await;
                        timeout(Duration::from_millis(timeout_millis), limiter.permit(CLASSES[class])).await.ok()?;
                        if is_throttled {
                            limiter.throttled();
                        }
                        Some(Instant::now())
                    });
                }
                let mut given: Vec<Instant> = tasks.join_all().await.into_iter().flatten().collect();
                given.sort_unstable();
                given
            });
            let rate = rate as usize;
            for window in given.windows(rate + 1) {
                prop_assert!(window[rate] - window[0] >= SECOND);
            }
        }

        #[test]
        fn every_class_that_waits_is_served_within_twenty_permits(
            waiting in proptest::collection::vec(1_usize..40, 4),
        ) {
            let order = paused(order_of(waiting.clone()));
            for (class, count) in CLASSES.into_iter().zip(waiting) {
                let places: Vec<usize> =
                    order.iter().enumerate().filter(|(_, served)| **served == class).map(|(index, _)| index + 1).collect();
                prop_assert_eq!(places.len(), count);
                let gaps = std::iter::once(0).chain(places.iter().copied()).zip(places.iter().copied());
                for (from, to) in gaps {
                    prop_assert!(to - from <= 20, "{:?} waited from {} to {}", class, from, to);
                }
            }
        }

        #[test]
        fn the_share_stays_between_a_tenth_and_one(steps in proptest::collection::vec((0_u64..100_000, any::<bool>()), 1..200)) {
            let mut now = Instant::now();
            let mut share = Share::default();
            for (wait, is_throttled) in steps {
                now += Duration::from_millis(wait);
                let before = share.at(now);
                if is_throttled {
                    share.throttled(now);
                    prop_assert!(share.at(now) >= (before / 2.0).max(Share::LEAST) && share.at(now) <= before);
                }
                prop_assert!((Share::LEAST..=1.0).contains(&share.at(now)));
            }
        }
    }

    /// The classes in the order of their permits, for these numbers of waiters.
    async fn order_of(waiting: Vec<usize>) -> Vec<Class> {
        let limiter = Arc::new(RateLimiter::new(10.0));
        let classes = CLASSES.into_iter().zip(waiting).flat_map(|(class, count)| repeat_n(class, count));
        let mut tasks = JoinSet::new();
        let (served, mut order) = tokio::sync::mpsc::unbounded_channel();
        for class in classes {
            let (limiter, served) = (Arc::clone(&limiter), served.clone());
            tasks.spawn(async move {
                limiter.permit(class).await;
                served.send(class)
            });
        }
        drop(served);
        drop(tasks.join_all().await);
        std::iter::from_fn(|| order.try_recv().ok()).collect()
    }

    #[test]
    fn whole_rates_fill_a_second_exactly_or_a_nanosecond_late() {
        for rate in 1..=1000_u32 {
            let second = spacing(f64::from(rate)) * rate;
            assert!(second >= SECOND, "{rate}: {second:?}");
            assert!(second < SECOND + Duration::from_nanos(2 * u64::from(rate)), "{rate}: {second:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_fifth_permit_goes_to_the_class_served_longest_ago() {
        let order = order_of(vec![8, 8, 8]).await;
        let letter = |class: &Class| match class {
            Class::LeftJob => 'l',
            Class::ChangedJob => 'c',
            _ => 'o',
        };
        let letters: String = order.iter().map(letter).collect();
        assert_eq!(letters, "llllclllloccccocccoooooo");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_not_followed_by_a_burst() {
        let limiter = RateLimiter::new(5.0);
        let start = Instant::now();
        let mut given = Vec::new();
        for wait in [0, 0, 0, 3000, 0, 0] {
            sleep(Duration::from_millis(wait)).await;
            limiter.permit(Class::OpenWalk).await;
            given.push(start.elapsed().as_millis());
        }
        assert_eq!(given, [0, 200, 400, 3400, 3600, 3800]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_wait_uses_no_permit() {
        let limiter = RateLimiter::new(1.0);
        limiter.permit(Class::OpenWalk).await;
        let start = Instant::now();
        assert!(timeout(Duration::from_millis(300), limiter.permit(Class::OpenWalk)).await.is_err());
        limiter.permit(Class::OpenWalk).await;
        assert_eq!(start.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn eight_throttled_answers_at_once_halve_the_rate_once() {
        let limiter = RateLimiter::new(8.0);
        let rate_after = |count: usize| {
            (0..count).for_each(|_| limiter.throttled());
            limiter.rate()
        };
        assert!((rate_after(8) - 4.0).abs() < 1e-9);
        sleep(Duration::from_secs(9)).await;
        assert!((rate_after(1) - 4.0).abs() < 1e-9);
        sleep(SECOND).await;
        assert!((rate_after(8) - 2.0).abs() < 1e-9);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_falls_to_a_tenth_and_recovers_by_a_tenth_a_minute() {
        let limiter = RateLimiter::new(10.0);
        for _ in 0..10 {
            limiter.throttled();
            sleep(Share::HALVING_PERIOD).await;
        }
        assert!((limiter.rate() - 1.0).abs() < 1e-9);
        sleep(Duration::from_secs(51)).await;
        assert!((limiter.rate() - 2.0).abs() < 1e-9, "a minute after the last throttling");
        sleep(Duration::from_mins(4)).await;
        assert!((limiter.rate() - 6.0).abs() < 1e-9);
        limiter.throttled();
        assert!((limiter.rate() - 3.0).abs() < 1e-9);
        sleep(Duration::from_hours(1)).await;
        assert!((limiter.rate() - 10.0).abs() < 1e-9, "and no further");
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_delays_the_next_permit() {
        let limiter = RateLimiter::new(1.0);
        limiter.permit(Class::OpenWalk).await;
        let start = Instant::now();
        tokio::join!(limiter.permit(Class::OpenWalk), async { limiter.throttled() });
        assert_eq!(start.elapsed(), 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn targets_of_one_account_and_region_share_a_limiter_and_others_do_not() {
        let limiters = Arc::new(RateLimiters::new(1.0));
        let account = AccountId::parse("012345678901").expect("an account");
        let target = |name: &str, region: &str| {
            let target = TargetLimiter::new(Arc::clone(&limiters), name, region.to_owned());
            target.known_account(&account);
            target
        };
        let (a, b, elsewhere) = (target("a", "eu-west-1"), target("b", "eu-west-1"), target("c", "us-east-1"));
        let start = Instant::now();
        a.of("ListJobs", "KEY").permit(Class::OpenWalk).await;
        elsewhere.of("ListJobs", "KEY").permit(Class::OpenWalk).await;
        a.of("DescribeJob", "KEY").permit(Class::Redescription).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        b.of("ListJobs", "KEY").permit(Class::OpenWalk).await;
        assert_eq!(start.elapsed(), SECOND);
        drop(elsewhere);
        let mut in_force: Vec<_> = limiters.in_force().into_iter().map(|rate| (rate.region, rate.operation)).collect();
        in_force.sort_unstable();
        let region = || "eu-west-1".to_owned();
        assert_eq!(in_force, [(region(), "DescribeJob"), (region(), "ListJobs")], "only those that a target uses");
    }
}
