//! How many connections there are, and who leaves when one more comes.
//!
//! A cap alone lets whoever fills it keep everybody else out: idle connections cost their owner nothing. So a newcomer
//! takes the place of the connection that would be missed least. A scraper whose idle connection goes in this way opens
//! another one, which gets in by the same rule.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::future::pending;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::patience::{Phase, Worth};

/// For so long a request is under way undisturbed: Prometheus gives a scrape up after this time, unless told otherwise.
const UNDISTURBED: Duration = Duration::from_secs(10);

/// How often it is told that places are short.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// One in so many places is kept free where it can be, so that newcomers who come in numbers need not wait for each other's
/// predecessors to be gone.
const ONE_SPARE_IN: usize = 16;

/// The places for connections, which all listeners of a server share.
#[derive(Debug)]
pub(super) struct Seats {
    free: Arc<Semaphore>,
    /// How many are kept free.
    spare: usize,
    evictable: Arc<Notify>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    by: BTreeMap<u64, Sitter>,
    /// How many wait for a place.
    waiting: usize,
    /// How many have been asked to leave, and have not left.
    leaving: usize,
    told: Option<Instant>,
}

#[derive(Debug)]
struct Sitter {
    phase: Phase,
    leave: Arc<Notify>,
}

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    phase: Phase,
    leave: Arc<Notify>,
    seats: Arc<Seats>,
    _place: OwnedSemaphorePermit,
}

impl Seats {
    pub(super) fn new(number: usize) -> Arc<Self> {
        let number = number.clamp(1, Semaphore::MAX_PERMITS);
        let free = Arc::new(Semaphore::new(number));
        Arc::new(Self { free, spare: number / ONE_SPARE_IN, evictable: Arc::default(), taken: Mutex::default() })
    }

    /// A place for a new connection, in the order in which they were asked for. While each of the others has a request under
    /// way that has not taken unduly long, there is none.
    pub(super) async fn take(self: &Arc<Self>) -> Seat {
        let mut place = pin!(Arc::clone(&self.free).acquire_owned());
        let _waiting = Waiting::new(self);
        loop {
            let mut evictable = pin!(self.evictable.notified());
            // Before the look, so that none is missed that becomes evictable after it.
            evictable.as_mut().enable();
            let next = self.make_room();
            let overdue = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                // It fails where the semaphore is closed, and nobody does that.
                Ok(place) = &mut place => return self.seat(place),
                () = evictable => {}
                () = overdue => {}
            }
        }
    }

    fn seat(self: &Arc<Self>, place: OwnedSemaphorePermit) -> Seat {
        let (phase, leave) = (Phase::fresh(Arc::clone(&self.evictable)), Arc::new(Notify::new()));
        let mut taken = self.taken();
        let number = taken.next;
        taken.next += 1;
        taken.by.insert(number, Sitter { phase: phase.clone(), leave: Arc::clone(&leave) });
        Seat { number, phase, leave, seats: Arc::clone(self), _place: place }
    }

    /// Asks as many to leave as it takes for the spare places to be free once all who wait have one, as far as that many can.
    /// Returns when the next one can.
    fn make_room(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut taken = self.taken();
        let wanted = (self.spare + taken.waiting).saturating_sub(self.free.available_permits() + taken.leaving);
        for _ in 0..wanted {
            taken.ask_one_to_leave(now);
        }
        let standing = taken.by.values().map(|sitter| sitter.phase.worth(now));
        standing.map(|(_, time)| now + UNDISTURBED.saturating_sub(time)).filter(|at| *at > now).min()
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one who waits.
struct Waiting<'a>(&'a Seats);

impl<'a> Waiting<'a> {
    fn new(seats: &'a Seats) -> Self {
        seats.taken().waiting += 1;
        Self(seats)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.taken().waiting -= 1;
    }
}

impl Taken {
    fn ask_one_to_leave(&mut self, now: Instant) {
        let candidates = self.by.iter().map(|(number, sitter)| (*number, sitter.phase.worth(now)));
        let found = candidates
            .filter(|(_, (worth, time))| *worth < Worth::UnderWay || *time >= UNDISTURBED)
            .min_by_key(|(_, (worth, time))| (*worth, Reverse(*time)));
        let Some((number, (worth, time))) = found else { return };
        if self.told.is_none_or(|told| now - told >= TELL_EVERY) {
            self.told = Some(now);
            info!(connections = self.by.len(), "no more connections can be open; each new one ends an idle one");
        }
        // Nobody asks it twice.
        if let Some(sitter) = self.by.remove(&number) {
            debug!(?worth, for_so_long = ?time, "ending a connection to make room for another");
            self.leaving += 1;
            sitter.leave.notify_one();
        }
    }
}

impl Seat {
    /// Where the connection stands.
    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Resolves when the connection has to go.
    pub(super) async fn has_to_leave(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        if taken.by.remove(&self.number).is_none() {
            taken.leaving -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    /// Time for tasks that need none.
    const MOMENT: Duration = Duration::from_millis(1);

    async fn wait(seconds: u64) {
        sleep(Duration::from_secs(seconds)).await;
    }

    async fn unfinished(seats: &Arc<Seats>) -> Seat {
        let seat = seats.take().await;
        seat.phase().header_is_awaited();
        seat
    }

    async fn idle(seats: &Arc<Seats>) -> Seat {
        let seat = seats.take().await;
        seat.phase().header_is_complete();
        seat.phase().response_is_whole();
        seat.phase().everything_is_sent();
        seat
    }

    async fn busy(seats: &Arc<Seats>) -> Seat {
        let seat = seats.take().await;
        seat.phase().header_is_complete();
        seat
    }

    /// Whether it has been asked to leave; if so, it does.
    fn leaves(seat: &mut Option<Seat>) -> bool {
        use std::task::{Context, Waker};
        let asked = seat.as_ref().is_some_and(|seat| {
            std::pin::pin!(seat.has_to_leave()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
        });
        if asked {
            *seat = None;
        }
        asked
    }

    /// Lets one more in, and tells which of those inside left for it.
    async fn newcomer(seats: &Arc<Seats>, inside: &mut [Option<Seat>]) -> (Vec<usize>, Option<Seat>) {
        let taking = tokio::spawn({
            let seats = Arc::clone(seats);
            async move { seats.take().await }
        });
        sleep(MOMENT).await;
        let left = inside.iter_mut().enumerate().filter_map(|(index, seat)| leaves(seat).then_some(index)).collect();
        sleep(MOMENT).await;
        let seat = if taking.is_finished() { taking.await.ok() } else { None };
        (left, seat)
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_be_missed_least_leaves_first() {
        let seats = Seats::new(6);
        let mut inside = Vec::new();
        inside.push(Some(busy(&seats).await));
        wait(1).await;
        inside.push(Some(idle(&seats).await));
        wait(1).await;
        inside.push(Some(idle(&seats).await));
        wait(1).await;
        inside.push(Some(unfinished(&seats).await));
        wait(1).await;
        inside.push(Some(unfinished(&seats).await));
        wait(1).await;
        inside.push(Some(busy(&seats).await));

        // Those without a whole header, the oldest first; then those that were idle for longest; never who is busy.
        let mut newcomers = Vec::new();
        for expected in [3, 4, 1, 2] {
            let (left, seat) = newcomer(&seats, &mut inside).await;
            assert_eq!(left, [expected]);
            let seat = seat.expect("a place");
            seat.phase().header_is_complete();
            newcomers.push(Some(seat));
        }
        let (left, seat) = newcomer(&seats, &mut inside).await;
        assert!(left.is_empty() && seat.is_none(), "everybody is busy");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_unduly_long_has_to_leave_when_nobody_else_can() {
        let seats = Seats::new(1);
        let slow = busy(&seats).await;
        let taking = tokio::spawn({
            let seats = Arc::clone(&seats);
            async move { seats.take().await }
        });
        let start = Instant::now();
        slow.has_to_leave().await;
        let waited = start.elapsed();
        assert!((UNDISTURBED..UNDISTURBED + 2 * MOMENT).contains(&waited), "{waited:?}");
        drop(slow);
        taking.await.expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_becomes_free_goes_at_once_to_who_has_waited_longest() {
        let seats = Seats::new(2);
        let [first, second] = [busy(&seats).await, busy(&seats).await];
        let order: Arc<Mutex<Vec<usize>>> = Arc::default();
        for number in 0..4 {
            let (seats, order) = (Arc::clone(&seats), Arc::clone(&order));
            tokio::spawn(async move {
                let _seat = busy(&seats).await;
                order.lock().expect("no panic").push(number);
                pending::<()>().await;
            });
            // Longer than it took for one that waits to give up its place in the queue.
            sleep(Duration::from_millis(30)).await;
        }
        let start = Instant::now();
        drop(first);
        sleep(MOMENT).await;
        assert_eq!(*order.lock().expect("no panic"), [0]);
        second.phase().response_is_whole();
        second.phase().everything_is_sent();
        second.has_to_leave().await;
        assert_eq!(start.elapsed(), MOMENT, "it is asked as soon as it is idle");
        drop(second);
        sleep(MOMENT).await;
        assert_eq!(*order.lock().expect("no panic"), [0, 1]);
        sleep(2 * UNDISTURBED).await;
        assert_eq!(order.lock().expect("no panic").len(), 2, "nobody else has left");
        assert_eq!(seats.taken().waiting, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_by_itself_makes_room_and_is_forgotten() {
        let seats = Seats::new(1);
        drop(busy(&seats).await);
        drop(busy(&seats).await);
        assert!(seats.taken.lock().expect("no panic").by.is_empty());
        assert_eq!(seats.free.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_places_are_kept_free_for_those_who_come_in_numbers() {
        let seats = Seats::new(2 * ONE_SPARE_IN);
        let mut inside = Vec::new();
        for _ in 0..2 * ONE_SPARE_IN - 2 {
            inside.push(Some(idle(&seats).await));
            wait(1).await;
        }
        assert!(!inside.iter_mut().any(leaves), "there is room for all of them");
        let start = Instant::now();
        let newcomers = [seats.take().await, seats.take().await];
        assert_eq!(start.elapsed(), Duration::ZERO, "nobody has left yet");
        let left = inside.iter_mut().map(leaves).collect::<Vec<_>>();
        assert_eq!(left.iter().filter(|left| **left).count(), newcomers.len());
        assert!(left[0] && left[1], "they are those that were idle for longest");
        assert_eq!(seats.taken.lock().expect("no panic").leaving, 0);
    }
}
