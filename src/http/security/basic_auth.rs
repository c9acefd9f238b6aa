//! Basic authentication (RFC 7617) against bcrypt hashes.
//!
//! bcrypt is slow by design: about 50 ms per check at a usual cost. So the last correct password of each user is
//! cached in memory, as a keyed digest, and only the first scrape of a client pays for bcrypt. Wrong passwords are not
//! cached: they could displace correct ones, and the cache would save an attacker work. Checks run one at a time, on a
//! blocking thread.
//!
//! Response times must not reveal which users exist. So an unknown name is checked against the hash of a user, always
//! the same one for the same name. If the hashes have different costs, the times of unknown names differ like those of
//! known ones.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use ::http::{HeaderMap, header};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::web_config::PasswordHash;

/// How many passwords of one client can wait for their check: more than a scraper sends at once, and few enough not to
/// delay the first scrape of another client.
const MAX_WAITING: usize = 8;

/// Whether a request has valid credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthResult {
    /// It has valid credentials, or needs none.
    Accepted,
    /// It needs credentials, and they are missing, wrong, or were not checked.
    Failed(LoginFailure),
}

/// Why a login fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginFailure {
    /// The request has no credentials. A browser sends its first request without them.
    NoCredentials,
    /// No user has these credentials.
    WrongCredentials,
    /// Too many passwords of this client wait already, so this one is not checked.
    TooManyAttempts,
}

impl LoginFailure {
    /// Every reason, in the order of the discriminants.
    pub const ALL: [Self; 3] = [Self::NoCredentials, Self::WrongCredentials, Self::TooManyAttempts];

    /// The reason in the log and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::WrongCredentials => "wrong_credentials",
            Self::TooManyAttempts => "too_many_attempts",
        }
    }
}

/// The users, with a cache of their passwords.
pub(super) struct BasicAuth {
    users: HashMap<String, Arc<User>>,
    /// The users in a fixed order, for [`BasicAuth::dummy_hash`].
    dummies: Vec<Arc<User>>,
    /// Made for the first login: the first random number takes tens of milliseconds, which a start without users avoids.
    key: Arc<LazyLock<hmac::Key>>,
    queue: VerifyQueue,
}

struct User {
    hash: PasswordHash,
    /// The digest of the last correct password.
    remembered: Mutex<Option<hmac::Tag>>,
}

impl BasicAuth {
    pub(super) fn new(users: BTreeMap<String, PasswordHash>) -> Self {
        let key = Arc::new(LazyLock::new(random_key as fn() -> hmac::Key));
        let empty = Self { users: HashMap::new(), dummies: Vec::new(), key, queue: VerifyQueue::default() };
        empty.with_users(users)
    }

    /// Replaces the users. Cached passwords stay valid if the hash of the user is unchanged.
    pub(super) fn with_users(&self, users: BTreeMap<String, PasswordHash>) -> Self {
        // The map hashes with a random key, so lookup times reveal no names.
        let users: HashMap<String, Arc<User>> = users
            .into_iter()
            .map(|(name, hash)| {
                let kept = self.users.get(&name).filter(|user| user.hash == hash).cloned();
                (name, kept.unwrap_or_else(|| Arc::new(User { hash, remembered: Mutex::default() })))
            })
            .collect();
        let dummies = users.values().cloned().collect();
        Self { users, dummies, key: Arc::clone(&self.key), queue: self.queue.clone() }
    }

    pub(super) async fn authenticate(&self, headers: &HeaderMap, peer: IpAddr) -> AuthResult {
        if self.users.is_empty() {
            return AuthResult::Accepted;
        }
        if !headers.contains_key(header::AUTHORIZATION) {
            return AuthResult::Failed(LoginFailure::NoCredentials);
        }
        let wrong = AuthResult::Failed(LoginFailure::WrongCredentials);
        let Some((name, password)) = credentials(headers) else { return wrong };
        let known = self.users.get(&name);
        let Some(user) = known.or_else(|| self.dummy_hash(&name)) else { return wrong };
        match self.verify(&name, password, user, peer).await {
            Some(true) if known.is_some() => AuthResult::Accepted,
            Some(_) => wrong,
            None => AuthResult::Failed(LoginFailure::TooManyAttempts),
        }
    }

    /// Whether the password is that of `user`; `None` if too many passwords of this client wait.
    async fn verify(&self, name: &str, password: Vec<u8>, user: &Arc<User>, peer: IpAddr) -> Option<bool> {
        let digest = self.digest(name, &user.hash, &password);
        if user.remembers(&digest) {
            return Some(true);
        }
        let permit = self.queue.enter(peer).await?;
        // Another request may have verified the same password meanwhile.
        if user.remembers(&digest) {
            return Some(true);
        }
        let checked = Arc::clone(user);
        let matches = tokio::task::spawn_blocking(move || {
            // The check continues if the client disconnects, so it owns the permit.
            let _permit = permit;
            checked.hash.matches(&password)
        });
        let matches = matches.await.unwrap_or(false);
        if matches {
            *user.remembered.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest);
        }
        Some(matches)
    }

    /// The user against whose hash an unknown name is checked.
    fn dummy_hash(&self, name: &str) -> Option<&Arc<User>> {
        let digest = hmac::sign(&self.key, name.as_bytes());
        let number = digest.as_ref().iter().take(4).fold(0_usize, |number, byte| (number << 8) | usize::from(*byte));
        self.dummies.get(number.checked_rem(self.dummies.len())?)
    }

    fn digest(&self, name: &str, hash: &PasswordHash, password: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [name.as_bytes(), hash.expose().as_bytes(), password] {
            // The length separates the parts.
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        context.sign()
    }
}

#[expect(clippy::expect_used, reason = "without random numbers nothing can be authenticated, and TLS needs them too")]
fn random_key() -> hmac::Key {
    hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).expect("the system has random numbers")
}

impl User {
    fn remembers(&self, digest: &hmac::Tag) -> bool {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.as_ref().is_some_and(|remembered| {
            aws_lc_rs::constant_time::verify_slices_are_equal(remembered.as_ref(), digest.as_ref()).is_ok()
        })
    }
}

/// The name and the password. A request with several credentials is refused: a proxy could read other ones than this
/// server.
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

/// Lets passwords be checked one at a time, first come, first served.
#[derive(Clone)]
struct VerifyQueue {
    one: Arc<Semaphore>,
    /// One token for each client. Each password that waits or is being checked holds a reference.
    waiting: Arc<Mutex<HashMap<IpAddr, Weak<()>>>>,
}

impl Default for VerifyQueue {
    fn default() -> Self {
        Self { one: Arc::new(Semaphore::new(1)), waiting: Arc::default() }
    }
}

impl VerifyQueue {
    /// Waits for the turn of a password; `None` if too many of this client wait already.
    async fn enter(&self, peer: IpAddr) -> Option<(Arc<()>, OwnedSemaphorePermit)> {
        let token = self.token(client(peer))?;
        let permit = Arc::clone(&self.one).acquire_owned().await.ok()?;
        Some((token, permit))
    }

    fn token(&self, client: IpAddr) -> Option<Arc<()>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, token| token.strong_count() > 0);
        let token = waiting.get(&client).and_then(Weak::upgrade).unwrap_or_default();
        waiting.insert(client, Arc::downgrade(&token));
        (Arc::strong_count(&token) <= MAX_WAITING).then_some(token)
    }
}

/// The client of this address. An IPv6 client can have a whole /64 network.
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

    const WRONG: AuthResult = AuthResult::Failed(LoginFailure::WrongCredentials);

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
    async fn only_the_password_of_the_user_is_accepted() {
        let auth = BasicAuth::new(users(&["alice", ""]));
        for (name, password, result) in [
            ("alice", "hunter2", AuthResult::Accepted),
            ("", "hunter2", AuthResult::Accepted),
            ("alice", "hunter3", WRONG),
            ("alice", "", WRONG),
            ("alice", "hunter2:", WRONG),
            ("Alice", "hunter2", WRONG),
            ("bob", "hunter2", WRONG),
        ] {
            // The second time, it can be in the cache.
            for _ in 0..2 {
                assert_eq!(auth.authenticate(&login(name, password), PEER).await, result, "{name:?} {password:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_malformed_header_is_rejected() {
        let auth = BasicAuth::new(users(&["alice"]));
        let encoded = STANDARD.encode("alice:hunter2");
        for right in [format!("Basic {encoded}"), format!("bAsIc  {encoded}")] {
            assert_eq!(auth.authenticate(&authorization(&right), PEER).await, AuthResult::Accepted, "{right}");
        }
        let no_colon = STANDARD.encode("alice");
        for wrong in
            ["", "Basic", "Basic ", "Basic !", &format!("Basic {no_colon}"), &format!("Bearer {encoded}"), &encoded]
        {
            assert_eq!(auth.authenticate(&authorization(wrong), PEER).await, WRONG, "{wrong}");
        }
        let none = AuthResult::Failed(LoginFailure::NoCredentials);
        assert_eq!(auth.authenticate(&HeaderMap::new(), PEER).await, none);
        let mut twice = login("alice", "hunter2");
        twice.append(header::AUTHORIZATION, HeaderValue::from_static("Basic x"));
        assert_eq!(auth.authenticate(&twice, PEER).await, WRONG);
    }

    #[tokio::test]
    async fn without_users_every_request_is_accepted() {
        assert_eq!(BasicAuth::new(BTreeMap::new()).authenticate(&HeaderMap::new(), PEER).await, AuthResult::Accepted);
    }

    /// On the paused clock, since that waits for a check that runs.
    #[tokio::test(start_paused = true)]
    async fn only_a_correct_password_is_cached() {
        let auth = BasicAuth::new(users(&["alice"]));
        let alice = &auth.users["alice"];
        let remembered = || alice.remembered.lock().expect("no panic").is_some();
        auth.authenticate(&login("alice", "hunter3"), PEER).await;
        auth.authenticate(&login("bob", "hunter3"), PEER).await;
        assert!(!remembered());
        auth.authenticate(&login("alice", "hunter2"), PEER).await;
        assert!(remembered());
        // While the permit is held, only cached passwords are accepted.
        let _permit = auth.queue.enter(PEER).await.expect("a permit");
        assert_eq!(auth.authenticate(&login("alice", "hunter2"), PEER).await, AuthResult::Accepted);
        let wrong = login("alice", "hunter3");
        let waits = auth.authenticate(&wrong, PEER);
        tokio::time::timeout(std::time::Duration::from_millis(50), waits).await.expect_err("it waits for its check");
    }

    #[tokio::test]
    async fn a_password_verified_meanwhile_is_not_checked_again() {
        let auth = Arc::new(BasicAuth::new(users(&["alice"])));
        let permit = auth.queue.enter(PEER).await.expect("a permit");
        let waiting = tokio::spawn({
            let auth = Arc::clone(&auth);
            async move { auth.authenticate(&login("alice", "hunter3"), PEER).await }
        });
        tokio::task::yield_now().await;
        let alice = &auth.users["alice"];
        *alice.remembered.lock().expect("no panic") = Some(auth.digest("alice", &alice.hash, b"hunter3"));
        drop(permit);
        assert_eq!(waiting.await.expect("no panic"), AuthResult::Accepted);
    }

    #[tokio::test]
    async fn a_password_is_cached_as_long_as_its_hash_stays() {
        let first = BasicAuth::new(users(&["alice", "bob"]));
        first.authenticate(&login("alice", "hunter2"), PEER).await;
        let remembers = |auth: &BasicAuth| auth.users["alice"].remembered.lock().expect("no panic").is_some();
        let more = first.with_users(users(&["alice", "carol"]));
        assert!(remembers(&more));
        assert_eq!(more.authenticate(&login("bob", "hunter2"), PEER).await, WRONG, "bob was removed");
        let mut changed = users(&["alice"]);
        let other = "$2y$05$abcdefghijklmnopqrstuuZVEMa1pjhlynBQ1qXmSvGBJpN9h1w8G";
        changed.insert("alice".to_owned(), hash(other));
        let changed = more.with_users(changed);
        assert!(!remembers(&changed));
        assert_eq!(changed.authenticate(&login("alice", "hunter2"), PEER).await, WRONG);
        assert_eq!(changed.authenticate(&login("alice", "pässwörd"), PEER).await, AuthResult::Accepted);
        let back = changed.with_users(users(&["alice"]));
        assert!(!remembers(&back), "the cache forgets a removed hash");
    }

    #[tokio::test]
    async fn an_unknown_name_is_always_checked_against_the_same_user() {
        let auth = BasicAuth::new(users(&["alice", "bob", "carol"]));
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..200 {
            let name = format!("unknown{n}");
            let dummy_hash = auth.dummy_hash(&name).expect("there are users");
            assert!(Arc::ptr_eq(dummy_hash, auth.dummy_hash(&name).expect("there are users")));
            seen.insert(Arc::as_ptr(dummy_hash));
        }
        assert_eq!(seen.len(), 3);
    }

    #[tokio::test]
    async fn one_client_cannot_fill_the_queue() {
        let queue = VerifyQueue::default();
        let mut held = Vec::new();
        let running = queue.enter(PEER).await.expect("a permit");
        for _ in 1..MAX_WAITING {
            let queue = queue.clone();
            held.push(tokio::spawn(async move { queue.enter(PEER).await.is_some() }));
        }
        tokio::task::yield_now().await;
        assert!(queue.enter(PEER).await.is_none(), "the queue is full for this client");
        let other = tokio::spawn({
            let queue = queue.clone();
            async move { queue.enter("192.0.2.1".parse().expect("an address")).await.is_some() }
        });
        // A cancelled request leaves the queue.
        held.pop().expect("one of them").abort();
        tokio::task::yield_now().await;
        drop(running);
        assert!(other.await.expect("no panic"));
        for waiting in held {
            assert!(waiting.await.expect("no panic"));
        }
        assert!(queue.token(PEER).is_some());
        assert_eq!(queue.waiting.lock().expect("no panic").len(), 1, "clients that are gone are removed");
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
        fn proptest_any_header_is_parsed_or_refused(bytes: Vec<u8>, credentials_of: Vec<u8>) {
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
