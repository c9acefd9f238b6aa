//! For tests: the log of a thread. The unit tests and the integration tests share this file.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Once;

use tracing::Subscriber;

thread_local! {
    /// What this thread logged, by output; `None` if nobody wants to know.
    static WRITTEN: RefCell<Option<BTreeMap<&'static str, Vec<u8>>>> = const { RefCell::new(None) };
    static PANICS_AT: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// The output that [`ThreadLog::take`] reads.
pub(crate) const TEXT: ToThread = ToThread("text");

/// Captures what the current thread logs, until it is dropped.
pub(crate) struct ThreadLog(());

impl ThreadLog {
    /// Starts it with the subscriber of the process, which writes to one or more [`ToThread`].
    ///
    /// One subscriber serves all threads. With one for each thread, tracing may ask that of another thread whether a
    /// line is enabled.
    pub(crate) fn start<S: Subscriber + Send + Sync>(subscriber: impl FnOnce() -> S) -> Self {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            tracing::subscriber::set_global_default(subscriber()).expect("no other subscriber in this process");
        });
        WRITTEN.set(Some(BTreeMap::new()));
        Self(())
    }

    /// The lines of text since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        let text = String::from_utf8(self.take_output(TEXT)).expect("UTF-8");
        text.lines().map(str::to_owned).collect()
    }

    /// What was written to an output since the last call.
    #[expect(clippy::unused_self, reason = "only who has started a log can take from it")]
    pub(crate) fn take_output(&self, output: ToThread) -> Vec<u8> {
        WRITTEN.with_borrow_mut(|written| written.as_mut()?.remove(output.0)).unwrap_or_default()
    }

    /// Lets the next line with this text panic while it is written, in the middle of what the exporter does.
    #[expect(clippy::unused_self, reason = "only who has started a log can do this")]
    pub(crate) fn panic_at(&self, text: &'static str) {
        PANICS_AT.set(Some(text));
    }
}

impl Drop for ThreadLog {
    fn drop(&mut self) {
        WRITTEN.set(None);
        PANICS_AT.set(None);
    }
}

/// Writes to an output of the current thread.
#[derive(Clone, Copy)]
pub(crate) struct ToThread(pub(crate) &'static str);

impl Write for ToThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let is_awaited = |text: &&str| String::from_utf8_lossy(bytes).contains(*text);
        if PANICS_AT.get().as_ref().is_some_and(is_awaited) {
            PANICS_AT.set(None);
            panic!("a panic on purpose");
        }
        WRITTEN.with_borrow_mut(|written| {
            written.as_mut().map(|written| written.entry(self.0).or_default().extend_from_slice(bytes))
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
