//! A Prometheus exporter for AWS IoT Jobs.
//!
//! Each target has a worker ([`collector`]). It lists and describes the jobs with the AWS API ([`aws`]), keeps them in
//! a store ([`jobs`]), and publishes the results as rendered samples ([`metrics`]). A scrape gets those over HTTP
//! ([`web`]).
//!
//! A module uses only the modules to its right; a test checks this: [`cli`], [`daemon`], [`web`], [`collector`],
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
