//! Files of a pod that belong to its network: `resolv.conf`, `hosts`, `hostname`. Pure functions from configuration
//! to text; where the text goes is the caller's business.
//!
//! See resolv.conf(5), hosts(5), CRI `DNSConfig`. Kubelet writes `hosts` itself for most pods and mounts it over ours.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A pod's resolver configuration, as CRI carries it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// Name servers, in order.
    pub servers: Vec<String>,
    /// Search domains, in order.
    pub searches: Vec<String>,
    /// Resolver options, in order.
    pub options: Vec<String>,
}

impl DnsConfig {
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.searches.is_empty() && self.options.is_empty()
    }
}

/// Text of `/etc/resolv.conf`. Without a configuration it is the host's. Duplicates are kept: their order is the
/// user's. Line breaks inside a value become spaces, so that a value stays on its line.
#[must_use]
pub fn resolv_conf(dns: Option<&DnsConfig>, host: &str) -> String {
    let Some(dns) = dns.filter(|dns| !dns.is_empty()) else {
        return host.to_owned();
    };
    let mut text = String::new();
    let mut line = |keyword: &str, values: &[String]| {
        if !values.is_empty() {
            text.push_str(keyword);
            for value in values {
                text.push(' ');
                text.extend(value.chars().map(|c| if c.is_control() { ' ' } else { c }));
            }
            text.push('\n');
        }
    };
    line("search", &dns.searches);
    for server in &dns.servers {
        line("nameserver", std::slice::from_ref(server));
    }
    line("options", &dns.options);
    text
}

/// Text of `/etc/hosts` for a pod that has none from kubelet.
#[must_use]
pub fn hosts(hostname: &str, ips: &[IpAddr]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    if !hostname.is_empty() {
        for ip in ips {
            // Writing to a String cannot fail.
            writeln!(text, "{ip}\t{hostname}").ok();
        }
    }
    text
}

/// The pod's host name, without the line break its file has: what was asked for, or else the host's.
#[must_use]
pub fn hostname<'a>(asked: &'a str, host: &'a str) -> &'a str {
    if asked.is_empty() { host } else { asked }
}
