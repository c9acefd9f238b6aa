//! The log: text for people, JSON for collectors, on standard error.

#[cfg(test)]
#[allow(dead_code, reason = "the integration tests use more of it")]
pub(crate) mod thread_log;

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, error};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{Log, LogFormat, LogLevel};

/// Whether the log of the process is JSON.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Whether the log was started as JSON. Then everything on standard error is JSON.
pub(crate) fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// Starts the log of the process.
///
/// Only the exporter's own events are written. The finer levels of the SDK and of hyper print requests with their
/// headers, which contain session tokens and signatures. Their errors appear in the log as causes of the exporter's
/// own.
///
/// # Errors
/// If this process already has a log.
pub(crate) fn start(log: &Log) -> Result<(), tracing::subscriber::SetGlobalDefaultError> {
    tracing::subscriber::set_global_default(Registry::default().with(lines(log, std::io::stderr)))?;
    if log.format == LogFormat::Json {
        IS_JSON.store(true, Ordering::Relaxed);
        // The default hook writes text.
        std::panic::set_hook(Box::new(|panic| {
            let location = panic.location().map(ToString::to_string).unwrap_or_default();
            let message = panic.payload_as_str().unwrap_or("no message");
            error!(location, message_of_panic = message, "the exporter panicked; please report this bug");
        }));
    }
    Ok(())
}

/// Writes the exporter's own events, one line each.
fn lines<S, W>(log: &Log, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let own = Targets::new().with_target(env!("CARGO_CRATE_NAME"), level);
    let layer = fmt::layer().with_writer(writer);
    let layer = match log.format {
        LogFormat::Json => {
            layer.json().with_target(false).flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
        LogFormat::Text => layer.with_target(false).boxed(),
    };
    layer.with_filter(own).boxed()
}

/// For tests: captures the log of the current thread, as text and as JSON.
#[cfg(test)]
pub(crate) fn capture() -> thread_log::ThreadLog {
    use thread_log::{TEXT, ThreadLog};
    ThreadLog::start(|| {
        let log = |format| Log { level: LogLevel::Debug, format };
        let subscriber = Registry::default().with(lines(&log(LogFormat::Text), || TEXT));
        subscriber.with(lines(&log(LogFormat::Json), || JSON))
    })
}

/// For tests: the output for JSON.
#[cfg(test)]
pub(crate) const JSON: thread_log::ToThread = thread_log::ToThread("json");
