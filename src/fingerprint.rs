//! Job ids as 128 bits: small enough to keep for a million jobs, and as good as the id itself to tell them apart.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher, RandomState};

use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// Makes fingerprints. Two jobs of the same fingerprint would be counted as one; with 128 keyed bits that is out of reach for
/// chance and, as long as the key is not known, for intent.
#[derive(Clone, Copy, Debug)]
pub struct Fingerprinter(SipHasher13);

/// A key of the hash.
pub type HashKey = [u8; 16];

impl Fingerprinter {
    /// Makes fingerprints with this key.
    #[must_use]
    pub fn new(key: &HashKey) -> Self {
        Self(SipHasher13::new_with_key(key))
    }

    /// Makes fingerprints with a key that nobody outside the process knows, from the standard library's source of randomness.
    #[must_use]
    pub fn random() -> Self {
        let mut key = [0; 16];
        let (low, high) = key.split_at_mut(8);
        low.copy_from_slice(&RandomState::new().hash_one(0_u8).to_le_bytes());
        high.copy_from_slice(&RandomState::new().hash_one(1_u8).to_le_bytes());
        Self::new(&key)
    }

    /// The fingerprint of a job's id.
    #[must_use]
    pub fn of(&self, job_id: &str) -> Fingerprint {
        let mut hasher = self.0;
        hasher.write(job_id.as_bytes());
        let hash = hasher.finish128();
        Fingerprint(hash.h1, hash.h2)
    }
}

/// 128 bits that stand for a job id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64, u64);

impl Fingerprint {
    /// Bits that [`ByFingerprint`] does not use, for tables of tables.
    #[must_use]
    pub const fn spare_bits(self) -> u64 {
        self.1
    }
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// A table by fingerprints.
pub type ByFingerprint<T> = HashMap<Fingerprint, T, BuildHasherDefault<AlreadyHashed>>;

/// A fingerprint is a hash already; hashing it again would be work for nothing.
#[derive(Default)]
pub struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not reached: `Fingerprint` writes one u64. Correct all the same.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}
