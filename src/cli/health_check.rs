//! `--health.check`: checks whether the exporter on this machine is healthy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use super::{FAILURE, SUCCESS, USAGE, eprint, print};
use crate::config::{self, ListenAddress, Sources};
use crate::http;
use crate::web::HEALTHY;

/// The timeout of a health check for each address. Container runtimes allow 30 s by default.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Checks the health of the exporter that these sources would start.
pub(super) fn run(mut sources: Sources) -> u8 {
    // Only the address matters here; the exporter itself reports problems of other settings.
    sources.environment.retain(|(name, _)| name.starts_with("IOT_JOBS_EXPORTER_WEB__"));
    let web = match config::load(&sources) {
        Ok(config) => config.web,
        Err(problems) => {
            eprint(&format!("{problems}\n"));
            return USAGE;
        }
    };
    let Some(address) = web.probe_address.as_ref().or(web.listen_addresses.first()) else { return USAGE };
    let candidates = match probed(address) {
        Ok(candidates) => candidates,
        Err(error) => {
            eprint(&format!("{address}: {error}\n"));
            return FAILURE;
        }
    };
    let mut failures = Vec::new();
    for candidate in candidates {
        match http::probe(candidate, HEALTHY, PROBE_TIMEOUT) {
            Ok(()) => {
                print("Healthy.\n");
                return SUCCESS;
            }
            Err(error) => failures.push(format!("{error}{}", advice(&error))),
        }
    }
    if failures.is_empty() {
        failures.push(format!("{address} has no address"));
    }
    eprint(&format!("{}\n", failures.join("; ")));
    FAILURE
}

fn advice(error: &http::ProbeError) -> &'static str {
    match error {
        // The second is the response of this exporter to plain HTTP on a TLS port.
        http::ProbeError::NotHttp(_) | http::ProbeError::Unhealthy { status: 400, .. } => {
            ": if it uses TLS, check its --web.probe-address"
        }
        _ => "",
    }
}

/// The addresses to check for a listening address. All interfaces include the loopback addresses.
fn probed(address: &ListenAddress) -> std::io::Result<Vec<SocketAddr>> {
    let port = address.port;
    let own = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    Ok(match (&address.host, address.ip()) {
        (None, _) => own.to_vec(),
        (_, Some(IpAddr::V4(host))) if host.is_unspecified() => own[..1].to_vec(),
        (_, Some(IpAddr::V6(host))) if host.is_unspecified() => own.to_vec(),
        (_, Some(host)) => vec![SocketAddr::from((host, port))],
        (Some(name), None) => (name.as_str(), port).to_socket_addrs()?.collect(),
    })
}
