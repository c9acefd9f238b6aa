//! What this program was built from.

/// The version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit, or `unknown`.
pub const REVISION: &str = env!("EXPORTER_REVISION");
/// The compiler's version.
pub const RUSTC: &str = env!("EXPORTER_RUSTC");
