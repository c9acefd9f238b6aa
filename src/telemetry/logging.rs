//! The log: text for people, JSON for collectors, on standard error.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt};

use crate::config::{Log, LogFormat, LogLevel};

/// Starts the log of the process.
///
/// Only the exporter's own events are written. The SDK's and hyper's finer levels print requests with their headers, and
/// those hold session tokens and signatures; their errors reach the log as causes of the exporter's own.
///
/// # Errors
/// Where a log was started before in this process.
pub fn start(log: &Log) -> Result<(), tracing::subscriber::SetGlobalDefaultError> {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let own = Targets::new().with_target(env!("CARGO_CRATE_NAME"), level);
    let layer = fmt::layer().with_writer(std::io::stderr);
    let layer = match log.format {
        LogFormat::Json => {
            layer.json().with_target(false).flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
        LogFormat::Text => layer.with_target(false).boxed(),
    };
    tracing::subscriber::set_global_default(Registry::default().with(layer.with_filter(own)))
}
