//! The log: text for people, JSON for collectors, on standard error.

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

/// For tests: captures the log of a thread.
#[cfg(test)]
pub(crate) mod captured {
    use std::cell::RefCell;
    use std::io::Write;
    use std::sync::Once;

    use super::*;

    thread_local! {
        static TEXT: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
        static JSON: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
    }

    /// Captures what this thread logs while `run` runs, as text and as JSON.
    ///
    /// One subscriber serves all threads. With one for each thread, tracing may ask that of another thread whether a
    /// line is enabled.
    pub(crate) fn capture<T>(run: impl FnOnce() -> T) -> (T, Vec<u8>, Vec<u8>) {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            let log = |format| Log { level: LogLevel::Debug, format };
            let text = lines(&log(LogFormat::Text), || ToThread(LogFormat::Text));
            let subscriber = Registry::default().with(text);
            let subscriber = subscriber.with(lines(&log(LogFormat::Json), || ToThread(LogFormat::Json)));
            tracing::subscriber::set_global_default(subscriber).expect("no other subscriber in this process");
        });
        TEXT.set(Some(Vec::new()));
        JSON.set(Some(Vec::new()));
        let done = run();
        (done, TEXT.take().unwrap_or_default(), JSON.take().unwrap_or_default())
    }

    struct ToThread(LogFormat);

    impl Write for ToThread {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let written = match self.0 {
                LogFormat::Text => &TEXT,
                LogFormat::Json => &JSON,
            };
            written.with_borrow_mut(|written| written.as_mut().map(|written| written.extend_from_slice(bytes)));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
