//! The threads and the signals of the process.
//!
//! The main thread serves HTTP and controls the targets. Another thread collects. So a page of jobs that is being parsed
//! never delays a scrape.

use std::pin::Pin;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info};

use super::FAILURE;

/// How long blocking tasks of each runtime, such as a name resolution, may delay the end of the process.
const RUNTIME_GRACE: Duration = Duration::from_millis(100);

/// Threads of each runtime for blocking work: compression, password checks, files and name resolution. tokio's default
/// of 512 exceeds the limits of the systemd unit (`TasksMax`) and of many containers, and tokio panics if a thread
/// cannot be started.
const MAX_BLOCKING_THREADS: usize = 16;

/// Resolves when the process should end.
pub(super) type Stop = Pin<Box<dyn Future<Output = ()>>>;

/// What a command gets from its process.
pub(super) struct Process {
    /// The runtime for collectors.
    pub(super) collectors: Handle,
    /// Resolves when the process should end: at the first SIGTERM or SIGINT.
    pub(super) stop: Stop,
    /// Receives one item for each reload request.
    pub(super) hangups: Signal,
}

impl Process {
    /// Runs work that ends by itself, or until a signal asks for the end. A hang-up does too: there is nothing to reload.
    pub(super) async fn interrupting(self, work: impl Future<Output = u8>) -> u8 {
        let Self { stop, mut hangups, .. } = self;
        tokio::select! {
            status = Box::pin(work) => status,
            () = stop => FAILURE,
            _ = hangups.recv() => FAILURE,
        }
    }
}

/// Runs a command and returns its exit status.
pub(super) fn run(command: impl AsyncFnOnce(Process) -> u8) -> u8 {
    let [main, collectors] = match runtimes() {
        Ok(runtimes) => runtimes,
        Err(error) => {
            error!(%error, "cannot start the runtime: check the limits on threads and open files");
            return FAILURE;
        }
    };
    let status = main.block_on(async {
        // Before anything slow: for PID 1 of a container, the kernel drops unhandled signals, and an unhandled hang-up
        // ends the process.
        let collectors = collectors.handle().clone();
        match signals(&collectors) {
            Ok((stop, hangups)) => Box::pin(command(Process { collectors, stop, hangups })).await,
            Err(error) => {
                error!(%error, "cannot handle signals");
                FAILURE
            }
        }
    });
    for runtime in [collectors, main] {
        runtime.shutdown_timeout(RUNTIME_GRACE);
    }
    status
}

/// The runtime of the main thread, and the one of the collectors.
fn runtimes() -> std::io::Result<[Runtime; 2]> {
    let build = |mut builder: Builder| builder.max_blocking_threads(MAX_BLOCKING_THREADS).enable_all().build();
    let mut collectors = Builder::new_multi_thread();
    collectors.worker_threads(1).thread_name("collectors");
    Ok([build(Builder::new_current_thread())?, build(collectors)?])
}

/// Handles the signals from now on. The second SIGTERM or SIGINT ends the process at once, even if the main thread hangs.
fn signals(collectors: &Handle) -> std::io::Result<(Stop, Signal)> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let hangups = signal(SignalKind::hangup())?;
    let (first, seen) = oneshot::channel();
    collectors.spawn(async move {
        let name = either(&mut interrupt, &mut terminate).await;
        info!(signal = name, "stopping; a second signal exits at once");
        // Fails only if the program already ends.
        let _ = first.send(());
        either(&mut interrupt, &mut terminate).await;
        std::process::exit(i32::from(FAILURE));
    });
    let stop = Box::pin(async {
        let _ = seen.await;
    });
    Ok((stop, hangups))
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn blocking_threads_are_bounded_and_fit_into_the_systemd_unit() {
        /// The main thread, the one of the collectors, and programs that provide credentials.
        const OTHER_TASKS: usize = 2 + 16;
        let unit = include_str!("../../config/systemd/aws-iot-jobs-exporter.service");
        let tasks_max = unit.lines().find_map(|line| line.strip_prefix("TasksMax=")).expect("a limit");
        let tasks_max: usize = tasks_max.parse().expect("a number");
        let runtimes = runtimes().expect("two runtimes");
        assert!(runtimes.len() * MAX_BLOCKING_THREADS + OTHER_TASKS <= tasks_max);
        runtimes.iter().for_each(assert_that_blocking_threads_are_bounded);
    }

    fn assert_that_blocking_threads_are_bounded(runtime: &Runtime) {
        let (started, starts) = std::sync::mpsc::channel();
        let hung = Arc::new(Mutex::new(()));
        let hangs = hung.lock().expect("no panic");
        for _ in 0..4 * MAX_BLOCKING_THREADS {
            let (started, hung) = (started.clone(), Arc::clone(&hung));
            runtime.spawn_blocking(move || {
                let _ = started.send(());
                drop(hung.lock());
            });
        }
        for _ in 0..MAX_BLOCKING_THREADS {
            starts.recv_timeout(Duration::from_secs(20)).expect("a thread");
        }
        starts.recv_timeout(Duration::from_millis(200)).expect_err("all threads hang");
        drop(hangs);
    }
}
