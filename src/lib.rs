//! A Prometheus exporter for AWS IoT Jobs.
//!
//! Data flows one way: pages of `ListJobs` ([`aws`]) become [`jobs`] summaries, a [`tally`], a [`snapshot`], fragments of an
//! [`exposition`], and at last an answer over HTTP ([`web`]). [`refresh`] decides when.
//!
//! A module uses only what stands to its right here, and a test holds it to that: [`cli`], [`demo`], [`estimate`], [`app`],
//! [`web`], [`refresh`], [`collector`], [`simulator`], [`aws`], [`metrics`], [`exposition`], [`telemetry`], [`http`], [`config`],
//! [`census`], [`tally`], [`memory`], [`snapshot`], [`clock`], [`fingerprint`], [`catalogue`], [`jobs`].

pub mod app;
pub mod aws;
pub mod catalogue;
pub mod census;
pub mod cli;
pub mod clock;
pub mod collector;
pub mod config;
pub mod demo;
pub mod estimate;
pub mod exposition;
pub mod fingerprint;
pub mod http;
pub mod jobs;
pub mod memory;
pub mod metrics;
#[cfg(test)]
mod proptests;
pub mod refresh;
pub mod simulator;
pub mod snapshot;
pub mod tally;
pub mod telemetry;
pub mod web;
