//! The `process_*` metrics of the Prometheus client libraries.
//! Source: <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

/// Reads `/proc/self` and the limits at each scrape. Values that cannot be read are absent.
#[derive(Debug)]
pub(super) struct Process {
    #[cfg(target_os = "linux")]
    proc: Option<procfs::process::Process>,
    /// `/proc/self/stat`. Kept open: to open and close it at each scrape costs more than to read it.
    #[cfg(target_os = "linux")]
    stat: Option<std::fs::File>,
    #[cfg(target_os = "linux")]
    start_time_seconds: Option<f64>,
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fmt::Error;
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    use procfs::process::{Process as Proc, Stat};
    use procfs::{CurrentSI as _, FromRead as _, WithCurrentSystemInfo as _};
    use prometheus_client::encoding::EncodeMetric;
    use prometheus_client::metrics::counter::ConstCounter;
    use prometheus_client::metrics::gauge::ConstGauge;
    use rustix::process::{Resource, getrlimit};

    use super::{Collector, DescriptorEncoder, Process};
    use crate::metrics::catalogue::{
        Family, PROCESS_CPU, PROCESS_MAX_FDS, PROCESS_OPEN_FDS, PROCESS_RESIDENT_MEMORY, PROCESS_START_TIME,
        PROCESS_THREADS, PROCESS_VIRTUAL_MEMORY, PROCESS_VIRTUAL_MEMORY_MAX,
    };

    impl Process {
        pub(in super::super) fn new() -> Self {
            let proc = Proc::myself().ok();
            let stat = proc.as_ref().and_then(|proc| proc.open_relative("stat").ok());
            let start_time_seconds = stat.as_ref().and_then(read).as_ref().and_then(start_time);
            Self { proc, stat, start_time_seconds }
        }
    }

    /// Longer than 52 numbers of up to 20 digits, and a name.
    const STAT_BYTES: usize = 2048;

    /// The current values of `/proc/self/stat`: the kernel makes them anew at each read from the start.
    fn read(stat: &File) -> Option<Stat> {
        let mut buffer = [0; STAT_BYTES];
        let length = stat.read_at(&mut buffer, 0).ok()?;
        Stat::from_read(buffer.get(..length)?).ok()
    }

    /// The boot time plus the process's start in ticks since then, as in other client libraries. Read once: the kernel
    /// moves the boot time when the clock is set, but the start time must not change.
    #[expect(clippy::cast_precision_loss, reason = "seconds and ticks are far below 2^52")]
    fn start_time(stat: &Stat) -> Option<f64> {
        let booted = procfs::KernelStats::current().ok()?.btime;
        Some(booted as f64 + stat.starttime as f64 / procfs::ticks_per_second() as f64)
    }

    impl Collector for Process {
        #[expect(clippy::cast_precision_loss, reason = "ticks are far below 2^52")]
        fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
            let mut gauge = |family: &Family, value: Option<f64>| {
                let Some(value) = value else { return Ok(()) };
                let gauge = ConstGauge::new(value);
                let descriptor = encoder.encode_descriptor(family.name, "", None, gauge.metric_type())?;
                gauge.encode(descriptor)
            };
            let stat = self.stat.as_ref().and_then(read);
            let open_files = self.proc.as_ref().and_then(|proc| proc.fd_count().ok());
            // `None` if it is unlimited.
            let limit = |resource| getrlimit(resource).current.map(|limit| limit as f64);
            gauge(&PROCESS_OPEN_FDS, open_files.map(|count| count as f64))?;
            gauge(&PROCESS_MAX_FDS, limit(Resource::Nofile))?;
            gauge(&PROCESS_VIRTUAL_MEMORY, stat.as_ref().map(|stat| stat.vsize as f64))?;
            gauge(&PROCESS_VIRTUAL_MEMORY_MAX, limit(Resource::As))?;
            let resident = stat.as_ref().map(|stat| stat.rss_bytes().get() as f64);
            gauge(&PROCESS_RESIDENT_MEMORY, resident)?;
            gauge(&PROCESS_START_TIME, self.start_time_seconds)?;
            gauge(&PROCESS_THREADS, stat.as_ref().map(|stat| stat.num_threads as f64))?;
            if let Some(stat) = &stat {
                let ticks = (stat.utime + stat.stime) as f64;
                let cpu = ConstCounter::new(ticks / procfs::ticks_per_second() as f64);
                let name = PROCESS_CPU.family_name();
                cpu.encode(encoder.encode_descriptor(name, "", None, cpu.metric_type())?)?;
            }
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::{Collector, DescriptorEncoder, Process};

    impl Process {
        pub(in super::super) fn new() -> Self {
            Self {}
        }
    }

    impl Collector for Process {
        fn encode(&self, _encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
            Ok(())
        }
    }
}
