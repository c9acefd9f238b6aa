//! Version, commit and compiler of this build.

/// The version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit, or `unknown`.
pub(crate) const REVISION: &str = env!("EXPORTER_REVISION");
/// The compiler's version.
pub(crate) const RUSTC: &str = env!("EXPORTER_RUSTC");
