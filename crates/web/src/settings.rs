//! What the operator decides about the web door, and may decide otherwise while it runs.

use sojourn_core::network::Network;

/// Settings of the web door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Proxies whose word about where a request comes from is believed.
    pub trusted_proxies: Vec<Network>,
    /// Connections at one time.
    pub max_connections: usize,
    /// Connections of one address (of IPv6, one /64) at one time. Trusted proxies may have more.
    pub max_connections_per_address: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            max_connections: 8192,
            max_connections_per_address: 4096,
        }
    }
}
