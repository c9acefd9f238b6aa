//! Limits the number of open connections, and evicts one for a new one.
//!
//! Without eviction, idle clients could hold every slot. If an evicted scraper connects again, it gets a slot by the
//! same rule.

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::timeouts::{ConnectionState, EvictionPriority};

/// How long a request cannot be evicted: the default timeout of a scrape in Prometheus.
const MIN_REQUEST_TIME: Duration = Duration::from_secs(10);

/// How often eviction is logged.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Keep 1/16 of the slots free to absorb bursts.
const SLOTS_PER_SPARE: usize = 16;

/// The slots for connections, which all listeners of a server share.
#[derive(Debug)]
pub(super) struct ConnectionLimiter {
    slots: Arc<Semaphore>,
    spare: usize,
    /// Notified when a connection becomes evictable.
    evictable: Arc<Notify>,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    next_id: u64,
    open: BTreeMap<u64, Arc<Entry>>,
    /// The number of connections that wait for a slot.
    waiting: usize,
    /// Evicted connections that still have their slot.
    evicting: usize,
    logged: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    state: ConnectionState,
    evicted: Notify,
}

/// The slot of one connection.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    id: u64,
    entry: Arc<Entry>,
    limiter: Arc<ConnectionLimiter>,
    _slot: OwnedSemaphorePermit,
}

impl ConnectionLimiter {
    pub(super) fn new(max_connections: usize) -> Arc<Self> {
        let max_connections = max_connections.clamp(1, Semaphore::MAX_PERMITS);
        let slots = Arc::new(Semaphore::new(max_connections));
        let spare = max_connections / SLOTS_PER_SPARE;
        Arc::new(Self { slots, spare, evictable: Arc::default(), entries: Mutex::default() })
    }

    /// Waits for a slot, first come, first served. Evicts connections until one is free.
    pub(super) async fn acquire(self: &Arc<Self>) -> ConnectionPermit {
        let mut slot = pin!(Arc::clone(&self.slots).acquire_owned());
        let _waiting = Waiting::new(self);
        loop {
            let mut evictable = pin!(self.evictable.notified());
            // Registered before the search, so that no notification is missed.
            evictable.as_mut().enable();
            let next = self.evict_idle();
            let overdue = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                // The semaphore is never closed, so this always matches.
                Ok(slot) = &mut slot => return self.permit(slot),
                () = evictable => {}
                () = overdue => {}
            }
        }
    }

    fn permit(self: &Arc<Self>, slot: OwnedSemaphorePermit) -> ConnectionPermit {
        let state = ConnectionState::new(Arc::clone(&self.evictable));
        let entry = Arc::new(Entry { state, evicted: Notify::new() });
        let mut entries = self.entries();
        let id = entries.next_id;
        entries.next_id += 1;
        entries.open.insert(id, Arc::clone(&entry));
        ConnectionPermit { id, entry, limiter: Arc::clone(self), _slot: slot }
    }

    /// Evicts enough connections for those that wait and for the spare slots. Returns when the next request becomes
    /// evictable.
    fn evict_idle(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut entries = self.entries();
        let wanted = self.spare + entries.waiting;
        for _ in 0..wanted.saturating_sub(self.slots.available_permits() + entries.evicting) {
            entries.evict_one(now);
        }
        let since = entries.open.values().map(|entry| entry.state.priority().1);
        since.map(|since| since + MIN_REQUEST_TIME).filter(|at| *at > now).min()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn evict_one(&mut self, now: Instant) {
        let candidates = self.open.iter().map(|(id, entry)| (*id, entry.state.priority()));
        let found = candidates
            .filter(|(_, (priority, since))| *priority < EvictionPriority::Busy || now - *since >= MIN_REQUEST_TIME)
            .min_by_key(|(_, (priority, since))| (*priority, *since));
        let Some((id, (priority, since))) = found else { return };
        if self.logged.is_none_or(|logged| now - logged >= LOG_INTERVAL) {
            self.logged = Some(now);
            info!(connections = self.open.len(), "connection limit reached; new connections replace idle ones");
        }
        if let Some(entry) = self.open.remove(&id) {
            debug!(?priority, duration = ?(now - since), "connection evicted");
            self.evicting += 1;
            entry.evicted.notify_one();
        }
    }
}

/// Counts a connection that waits for a slot, until it is dropped.
struct Waiting<'a>(&'a ConnectionLimiter);

impl<'a> Waiting<'a> {
    fn new(limiter: &'a ConnectionLimiter) -> Self {
        limiter.entries().waiting += 1;
        Self(limiter)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.entries().waiting -= 1;
    }
}

impl ConnectionPermit {
    pub(super) fn state(&self) -> &ConnectionState {
        &self.entry.state
    }

    /// Resolves when the connection has to be closed.
    pub(super) async fn evicted(&self) {
        self.entry.evicted.notified().await;
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut entries = self.limiter.entries();
        if entries.open.remove(&self.id).is_none() {
            entries.evicting -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    /// Long enough for other tasks to run.
    const MOMENT: Duration = Duration::from_millis(1);

    async fn wait(seconds: u64) {
        sleep(Duration::from_secs(seconds)).await;
    }

    async fn incomplete(limiter: &Arc<ConnectionLimiter>) -> ConnectionPermit {
        let permit = limiter.acquire().await;
        permit.state().input_exhausted();
        permit
    }

    async fn idle(limiter: &Arc<ConnectionLimiter>) -> ConnectionPermit {
        let permit = limiter.acquire().await;
        permit.state().request_started();
        permit.state().response_complete();
        permit.state().output_flushed();
        permit
    }

    async fn busy(limiter: &Arc<ConnectionLimiter>) -> ConnectionPermit {
        let permit = limiter.acquire().await;
        permit.state().request_started();
        permit
    }

    /// Whether the connection is evicted; if so, it is closed.
    fn is_evicted(permit: &mut Option<ConnectionPermit>) -> bool {
        use std::task::{Context, Waker};
        let asked = permit.as_ref().is_some_and(|permit| {
            std::pin::pin!(permit.evicted()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
        });
        if asked {
            *permit = None;
        }
        asked
    }

    /// Acquires a slot, and returns which of the older connections were evicted.
    async fn acquire_one_more(
        limiter: &Arc<ConnectionLimiter>,
        older: &mut [Option<ConnectionPermit>],
    ) -> (Vec<usize>, Option<ConnectionPermit>) {
        let acquiring = tokio::spawn({
            let limiter = Arc::clone(limiter);
            async move { limiter.acquire().await }
        });
        sleep(MOMENT).await;
        let evicted =
            older.iter_mut().enumerate().filter_map(|(index, permit)| is_evicted(permit).then_some(index)).collect();
        sleep(MOMENT).await;
        let permit = if acquiring.is_finished() { acquiring.await.ok() } else { None };
        (evicted, permit)
    }

    #[tokio::test(start_paused = true)]
    async fn incomplete_headers_are_evicted_first_then_idle_connections_the_oldest_first() {
        let limiter = ConnectionLimiter::new(6);
        let mut older = Vec::new();
        older.push(Some(busy(&limiter).await));
        wait(1).await;
        older.push(Some(idle(&limiter).await));
        wait(1).await;
        older.push(Some(idle(&limiter).await));
        wait(1).await;
        older.push(Some(incomplete(&limiter).await));
        wait(1).await;
        older.push(Some(incomplete(&limiter).await));
        wait(1).await;
        older.push(Some(busy(&limiter).await));

        // Incomplete headers, oldest first; then the longest idle connection; never a busy one.
        let mut newer = Vec::new();
        for expected in [3, 4, 1, 2] {
            let (evicted, permit) = acquire_one_more(&limiter, &mut older).await;
            assert_eq!(evicted, [expected]);
            let permit = permit.expect("a permit");
            permit.state().request_started();
            newer.push(Some(permit));
        }
        let (evicted, permit) = acquire_one_more(&limiter, &mut older).await;
        assert!(evicted.is_empty() && permit.is_none(), "all are busy");
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_request_is_evicted_if_nothing_else_can_be() {
        let limiter = ConnectionLimiter::new(1);
        let slow = busy(&limiter).await;
        let acquiring = tokio::spawn({
            let limiter = Arc::clone(&limiter);
            async move { limiter.acquire().await }
        });
        let start = Instant::now();
        slow.evicted().await;
        let waited = start.elapsed();
        assert!((MIN_REQUEST_TIME..MIN_REQUEST_TIME + 2 * MOMENT).contains(&waited), "{waited:?}");
        drop(slow);
        acquiring.await.expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn a_free_slot_goes_to_the_connection_that_waited_longest() {
        let limiter = ConnectionLimiter::new(2);
        let [first, second] = [busy(&limiter).await, busy(&limiter).await];
        let order: Arc<Mutex<Vec<usize>>> = Arc::default();
        for number in 0..4 {
            let (limiter, order) = (Arc::clone(&limiter), Arc::clone(&order));
            tokio::spawn(async move {
                let _seat = busy(&limiter).await;
                order.lock().expect("no panic").push(number);
                pending::<()>().await;
            });
            // Longer than one polling interval of an earlier version, which lost its place in the queue.
            sleep(Duration::from_millis(30)).await;
        }
        let start = Instant::now();
        drop(first);
        sleep(MOMENT).await;
        assert_eq!(*order.lock().expect("no panic"), [0]);
        second.state().response_complete();
        second.state().output_flushed();
        second.evicted().await;
        assert_eq!(start.elapsed(), MOMENT, "it is evicted as soon as it is idle");
        drop(second);
        sleep(MOMENT).await;
        assert_eq!(*order.lock().expect("no panic"), [0, 1]);
        sleep(2 * MIN_REQUEST_TIME).await;
        assert_eq!(order.lock().expect("no panic").len(), 2, "no other slot is free");
        assert_eq!(limiter.entries().waiting, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_connection_frees_its_slot() {
        let limiter = ConnectionLimiter::new(1);
        drop(busy(&limiter).await);
        drop(busy(&limiter).await);
        assert!(limiter.entries.lock().expect("no panic").open.is_empty());
        assert_eq!(limiter.slots.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sixteenth_of_the_slots_is_kept_free() {
        let limiter = ConnectionLimiter::new(2 * SLOTS_PER_SPARE);
        let mut older = Vec::new();
        for _ in 0..2 * SLOTS_PER_SPARE - 2 {
            older.push(Some(idle(&limiter).await));
            wait(1).await;
        }
        assert!(!older.iter_mut().any(is_evicted), "there are slots for all of them");
        let start = Instant::now();
        let newer = [limiter.acquire().await, limiter.acquire().await];
        assert_eq!(start.elapsed(), Duration::ZERO, "no slot had to be freed");
        let evicted = older.iter_mut().map(is_evicted).collect::<Vec<_>>();
        assert_eq!(evicted.iter().filter(|evicted| **evicted).count(), newer.len());
        assert!(evicted[0] && evicted[1], "they were the longest idle ones");
        assert_eq!(limiter.entries.lock().expect("no panic").evicting, 0);
    }
}
