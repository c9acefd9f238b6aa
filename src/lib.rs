//! A Prometheus exporter for AWS IoT Jobs.
//!
//! A worker for each target ([`collector`]) lists and describes its jobs with AWS's API ([`aws`]), keeps them in a store
//! ([`jobs`]), and publishes what it knows as rendered samples ([`metrics`]), which a scrape gets over HTTP ([`web`]).
//!
//! A module uses only what stands to its right here, and a test holds it to that: [`cli`], [`daemon`], [`web`], [`collector`],
//! [`simulator`], [`aws`], [`metrics`], [`http`], [`logging`], [`config`], [`clock`], [`build_info`], [`jobs`].

pub mod aws;
mod build_info;
pub mod cli;
pub mod clock;
pub mod collector;
pub mod config;
pub mod daemon;
pub mod http;
pub mod jobs;
mod logging;
pub mod metrics;
#[cfg(test)]
mod proptests;
pub mod simulator;
pub mod web;
