//! Basic authentication (RFC 7617) against bcrypt hashes.
//!
//! bcrypt is made to be slow: some 50 ms for each guess at a usual cost. So a password that was right once is
//! remembered, as a keyed digest in memory; a scraper pays for its first scrape only. Wrong ones are not: whoever sends
//! enough of them could push the right ones out, and saves the guesser work. Guesses are checked one at a time, on a
//! thread that may block.
//!
//! How long an answer takes must not tell which users there are: a name that is not known is checked too, against the
//! hash of one that is. Each unknown name always against the same one, so that where hashes differ in cost, unknown
//! names differ in time as known ones do.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use ::http::{HeaderMap, header};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::web_config::PasswordHash;

/// How many guesses of one client can wait to be checked. More than a scraper sends at once, and few enough that those
/// of one client do not hold up the first scrape of another for long.
const MAX_WAITING: usize = 8;

/// Whether a request has the login of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has, or needs none.
    Admitted,
    /// It has not.
    Failed(LoginFailure),
}

/// Why a login fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginFailure {
    /// The request has no credentials. A browser sends its first request without.
    NoCredentials,
    /// No user has these credentials.
    WrongCredentials,
    /// Too many guesses of the same client wait already, so this one is not checked.
    TooManyAttempts,
}

impl LoginFailure {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::NoCredentials, Self::WrongCredentials, Self::TooManyAttempts];

    /// The name of the reason, in the log and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::WrongCredentials => "wrong_credentials",
            Self::TooManyAttempts => "too_many_attempts",
        }
    }
}

/// The users, and what is remembered of them.
pub(super) struct Logins {
    users: HashMap<String, Arc<User>>,
    /// The same, in an order, for names that are not known to be checked against.
    stand_ins: Vec<Arc<User>>,
    key: hmac::Key,
    turns: Turns,
}

struct User {
    hash: PasswordHash,
    /// Of the last password that was right.
    remembered: Mutex<Option<hmac::Tag>>,
}

impl Logins {
    pub(super) fn new(users: BTreeMap<String, PasswordHash>) -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .expect("the system has random numbers, as TLS needs them too");
        let none = Self { users: HashMap::new(), stand_ins: Vec::new(), key, turns: Turns::default() };
        none.replaced(users)
    }

    /// The same with other users. A user whose hash stays is remembered on.
    pub(super) fn replaced(&self, users: BTreeMap<String, PasswordHash>) -> Self {
        // A map whose lookups are keyed by chance, so that how long one takes tells nothing of the names in it.
        let users: HashMap<String, Arc<User>> = users
            .into_iter()
            .map(|(name, hash)| {
                let kept = self.users.get(&name).filter(|user| user.hash == hash).cloned();
                (name, kept.unwrap_or_else(|| Arc::new(User { hash, remembered: Mutex::default() })))
            })
            .collect();
        let stand_ins = users.values().cloned().collect();
        Self { users, stand_ins, key: self.key.clone(), turns: self.turns.clone() }
    }

    /// Judges a request by its headers.
    pub(super) async fn judge(&self, headers: &HeaderMap, peer: IpAddr) -> Verdict {
        if self.users.is_empty() {
            return Verdict::Admitted;
        }
        if !headers.contains_key(header::AUTHORIZATION) {
            return Verdict::Failed(LoginFailure::NoCredentials);
        }
        let wrong = Verdict::Failed(LoginFailure::WrongCredentials);
        let Some((name, password)) = credentials(headers) else { return wrong };
        let known = self.users.get(&name);
        let Some(user) = known.or_else(|| self.stand_in(&name)) else { return wrong };
        match self.check(&name, password, user, peer).await {
            Some(true) if known.is_some() => Verdict::Admitted,
            Some(_) => wrong,
            None => Verdict::Failed(LoginFailure::TooManyAttempts),
        }
    }

    /// Whether the password is that of `user`; `None` where there is no turn to be had.
    async fn check(&self, name: &str, password: Vec<u8>, user: &Arc<User>, peer: IpAddr) -> Option<bool> {
        let digest = self.digest(name, &user.hash, &password);
        if user.remembers(&digest) {
            return Some(true);
        }
        let turn = self.turns.take(peer).await?;
        // Others may have come with the same one, and been first.
        if user.remembers(&digest) {
            return Some(true);
        }
        let checked = Arc::clone(user);
        let matches = tokio::task::spawn_blocking(move || {
            // A client that goes away does not end this, and so it must not end the turn.
            let _turn = turn;
            checked.hash.matches(&password)
        });
        let matches = matches.await.unwrap_or(false);
        if matches {
            *user.remembered.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest);
        }
        Some(matches)
    }

    /// The user that a name that is not known is checked against.
    fn stand_in(&self, name: &str) -> Option<&Arc<User>> {
        let digest = hmac::sign(&self.key, name.as_bytes());
        let number = digest.as_ref().iter().take(4).fold(0_usize, |number, byte| (number << 8) | usize::from(*byte));
        self.stand_ins.get(number.checked_rem(self.stand_ins.len())?)
    }

    fn digest(&self, name: &str, hash: &PasswordHash, password: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [name.as_bytes(), hash.expose().as_bytes(), password] {
            // With its length, so that none can pass for the beginning of the next.
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        context.sign()
    }
}

impl User {
    fn remembers(&self, digest: &hmac::Tag) -> bool {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.as_ref().is_some_and(|remembered| {
            aws_lc_rs::constant_time::verify_slices_are_equal(remembered.as_ref(), digest.as_ref()).is_ok()
        })
    }
}

/// The name and the password. A request that has several is one that somebody on its way reads in another way, and
/// has none.
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut decoded = STANDARD.decode(encoded.trim_start_matches(' ')).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let password = decoded.split_off(colon + 1);
    decoded.truncate(colon);
    Some((String::from_utf8(decoded).ok()?, password))
}

/// Who may have a guess checked: one at a time, in the order in which they came.
#[derive(Clone)]
struct Turns {
    one: Arc<Semaphore>,
    /// How many of each client wait or are being checked.
    waiting: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { one: Arc::new(Semaphore::new(1)), waiting: Arc::default() }
    }
}

/// Holds the turn, and its place among those of its client.
struct Turn {
    _place: Place,
    _one: OwnedSemaphorePermit,
}

struct Place {
    client: IpAddr,
    waiting: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Turns {
    /// Waits for a turn; `None` where too many of this client wait already.
    async fn take(&self, peer: IpAddr) -> Option<Turn> {
        let place = self.place(client(peer))?;
        let one = Arc::clone(&self.one).acquire_owned().await.ok()?;
        Some(Turn { _place: place, _one: one })
    }

    fn place(&self, client: IpAddr) -> Option<Place> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let places = waiting.entry(client).or_default();
        if *places >= MAX_WAITING {
            return None;
        }
        *places += 1;
        Some(Place { client, waiting: Arc::clone(&self.waiting) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = waiting.get_mut(&self.client) {
            *places -= 1;
            if *places == 0 {
                waiting.remove(&self.client);
            }
        }
    }
}

/// A client, as far as its address tells: with IPv6, one has as many addresses as it likes in its network of 64 bits.
fn client(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    /// Of `hunter2`, with the cost 4.
    const HASH: &str = "$2b$04$Zyxwvutsrqponmlkjihgfe91EVTbipYuSP7HB4a0NH55cMj08u5tG";
    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    const UNKNOWN: Verdict = Verdict::Failed(LoginFailure::WrongCredentials);

    fn hash(text: &str) -> PasswordHash {
        PasswordHash::parse(text).expect("a hash")
    }

    fn users(names: &[&str]) -> BTreeMap<String, PasswordHash> {
        names.iter().map(|name| ((*name).to_owned(), hash(HASH))).collect()
    }

    fn authorization(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::try_from(value).expect("a header"))])
    }

    fn login(name: &str, password: &str) -> HeaderMap {
        authorization(&format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))))
    }

    #[tokio::test]
    async fn the_right_password_of_a_user_is_admitted_and_nothing_else() {
        let logins = Logins::new(users(&["alice", ""]));
        for (name, password, verdict) in [
            ("alice", "hunter2", Verdict::Admitted),
            ("", "hunter2", Verdict::Admitted),
            ("alice", "hunter3", UNKNOWN),
            ("alice", "", UNKNOWN),
            ("alice", "hunter2:", UNKNOWN),
            ("Alice", "hunter2", UNKNOWN),
            ("bob", "hunter2", UNKNOWN),
        ] {
            // The second time it may be remembered.
            for _ in 0..2 {
                assert_eq!(logins.judge(&login(name, password), PEER).await, verdict, "{name:?} {password:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_header_that_says_it_wrongly_is_unknown() {
        let logins = Logins::new(users(&["alice"]));
        let encoded = STANDARD.encode("alice:hunter2");
        for right in [format!("Basic {encoded}"), format!("bAsIc  {encoded}")] {
            assert_eq!(logins.judge(&authorization(&right), PEER).await, Verdict::Admitted, "{right}");
        }
        let no_colon = STANDARD.encode("alice");
        for wrong in
            ["", "Basic", "Basic ", "Basic !", &format!("Basic {no_colon}"), &format!("Bearer {encoded}"), &encoded]
        {
            assert_eq!(logins.judge(&authorization(wrong), PEER).await, UNKNOWN, "{wrong}");
        }
        let none = Verdict::Failed(LoginFailure::NoCredentials);
        assert_eq!(logins.judge(&HeaderMap::new(), PEER).await, none);
        let mut twice = login("alice", "hunter2");
        twice.append(header::AUTHORIZATION, HeaderValue::from_static("Basic x"));
        assert_eq!(logins.judge(&twice, PEER).await, UNKNOWN);
    }

    #[tokio::test]
    async fn without_users_everybody_is_admitted() {
        assert_eq!(Logins::new(BTreeMap::new()).judge(&HeaderMap::new(), PEER).await, Verdict::Admitted);
    }

    #[tokio::test]
    async fn only_a_right_password_is_remembered() {
        let logins = Logins::new(users(&["alice"]));
        let alice = &logins.users["alice"];
        let remembered = || alice.remembered.lock().expect("no panic").is_some();
        logins.judge(&login("alice", "hunter3"), PEER).await;
        logins.judge(&login("bob", "hunter3"), PEER).await;
        assert!(!remembered());
        logins.judge(&login("alice", "hunter2"), PEER).await;
        assert!(remembered());
        // While nobody gets a turn, only what is remembered is answered.
        let _turn = logins.turns.take(PEER).await.expect("a turn");
        assert_eq!(logins.judge(&login("alice", "hunter2"), PEER).await, Verdict::Admitted);
        let wrong = login("alice", "hunter3");
        let waits = logins.judge(&wrong, PEER);
        tokio::time::timeout(std::time::Duration::from_millis(50), waits).await.expect_err("it has to be checked");
    }

    #[tokio::test]
    async fn who_has_waited_is_not_checked_again_where_another_was_first() {
        let logins = Arc::new(Logins::new(users(&["alice"])));
        let turn = logins.turns.take(PEER).await.expect("a turn");
        let waiting = tokio::spawn({
            let logins = Arc::clone(&logins);
            // A check would find it wrong, so that it shows whether there is one.
            async move { logins.judge(&login("alice", "hunter3"), PEER).await }
        });
        tokio::task::yield_now().await;
        let alice = &logins.users["alice"];
        *alice.remembered.lock().expect("no panic") = Some(logins.digest("alice", &alice.hash, b"hunter3"));
        drop(turn);
        assert_eq!(waiting.await.expect("no panic"), Verdict::Admitted);
    }

    #[tokio::test]
    async fn what_is_remembered_ends_with_the_hash_and_stays_with_it() {
        let first = Logins::new(users(&["alice", "bob"]));
        first.judge(&login("alice", "hunter2"), PEER).await;
        let remembers = |logins: &Logins| logins.users["alice"].remembered.lock().expect("no panic").is_some();
        let more = first.replaced(users(&["alice", "carol"]));
        assert!(remembers(&more));
        assert_eq!(more.judge(&login("bob", "hunter2"), PEER).await, UNKNOWN, "he is gone");
        let mut changed = users(&["alice"]);
        let other = "$2y$05$abcdefghijklmnopqrstuuZVEMa1pjhlynBQ1qXmSvGBJpN9h1w8G";
        changed.insert("alice".to_owned(), hash(other));
        let changed = more.replaced(changed);
        assert!(!remembers(&changed));
        assert_eq!(changed.judge(&login("alice", "hunter2"), PEER).await, UNKNOWN);
        assert_eq!(changed.judge(&login("alice", "pässwörd"), PEER).await, Verdict::Admitted);
        let back = changed.replaced(users(&["alice"]));
        assert!(!remembers(&back), "nothing is remembered of a hash that was gone");
    }

    #[tokio::test]
    async fn an_unknown_name_is_checked_against_one_of_the_users_always_the_same() {
        let logins = Logins::new(users(&["alice", "bob", "carol"]));
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..200 {
            let name = format!("unknown{n}");
            let stand_in = logins.stand_in(&name).expect("there are users");
            assert!(Arc::ptr_eq(stand_in, logins.stand_in(&name).expect("there are users")));
            seen.insert(Arc::as_ptr(stand_in));
        }
        assert_eq!(seen.len(), 3);
    }

    #[tokio::test]
    async fn one_client_can_not_keep_others_waiting() {
        let turns = Turns::default();
        let mut held = Vec::new();
        let running = turns.take(PEER).await.expect("a turn");
        for _ in 1..MAX_WAITING {
            let turns = turns.clone();
            held.push(tokio::spawn(async move { turns.take(PEER).await.is_some() }));
        }
        tokio::task::yield_now().await;
        assert!(turns.take(PEER).await.is_none(), "as many as may wait do");
        let other = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take("192.0.2.1".parse().expect("an address")).await.is_some() }
        });
        // One that goes away while it waits leaves its place.
        held.pop().expect("one of them").abort();
        tokio::task::yield_now().await;
        drop(running);
        assert!(other.await.expect("no panic"));
        for waiting in held {
            assert!(waiting.await.expect("no panic"));
        }
        assert!(turns.waiting.lock().expect("no panic").is_empty(), "nothing is kept of those that are gone");
    }

    #[test]
    fn addresses_of_one_network_are_one_client() {
        let client = |text: &str| client(text.parse().expect("an address"));
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
    }

    proptest! {
        #![proptest_config(crate::proptests::cases(256))]

        #[test]
        fn proptest_any_header_is_read_or_not(bytes: Vec<u8>, credentials_of: Vec<u8>) {
            let encoded = format!("Basic {}", STANDARD.encode(&credentials_of));
            for value in [HeaderValue::from_bytes(&bytes), HeaderValue::try_from(encoded)].into_iter().flatten() {
                let read = credentials(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]));
                if let Some((name, _)) = read {
                    prop_assert!(!name.contains(':'));
                }
            }
        }
    }
}
