//! Who has which host port.

use super::*;
use crate::error::{ErrorKind, Kinded};
use crate::network::types::PortMapping;

fn port(host_ip: Option<[u8; 4]>, host_port: u16, last: u8) -> HostPort {
    HostPort {
        protocol: Protocol::Tcp,
        host_ip: host_ip.map(Into::into),
        host_port,
        address: [10, 123, 0, last].into(),
        container_port: 80,
    }
}

fn asks_for(host_ip: &str) -> Result<Vec<HostPort>, NetworkError> {
    let pod = PodNetwork {
        port_mappings: vec![PortMapping {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_port: 8080,
            host_ip: Some(host_ip.parse().unwrap()),
        }],
        ..PodNetwork::default()
    };
    wanted(&pod, [10, 123, 0, 2].into())
}

/// On an IPv6 address of the host nothing would ever reach the pod.
#[test]
fn a_port_of_an_ipv6_address_is_refused() {
    let error = asks_for("fd00::7").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("fd00::7"), "{error}");
    for all in ["0.0.0.0", "::"] {
        assert_eq!(asks_for(all).unwrap(), [port(None, 8080, 2)], "{all}");
    }
    assert_eq!(
        asks_for("127.0.0.1").unwrap(),
        [port(Some([127, 0, 0, 1]), 8080, 2)]
    );
}

fn is_taken(outcome: &Result<(), NetworkError>, wanted: u16) -> bool {
    matches!(outcome, Err(NetworkError::PortTaken { port, protocol: "tcp", .. }) if *port == wanted)
}

#[test]
fn a_port_is_one_pods_until_that_pod_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let records = PortRecords::new(dir.path().join("ports"));
    records
        .take("a", &[port(None, 8080, 2), port(None, 8081, 2)])
        .unwrap();
    let wanted = [port(None, 9090, 3), port(None, 8081, 3)];
    assert!(is_taken(&records.take("b", &wanted), 8081));
    assert_eq!(
        records.load("b").unwrap(),
        [],
        "what b never had is not on its record"
    );
    // The same number is another port over another protocol, or at another address.
    let other = HostPort {
        protocol: Protocol::Udp,
        ..port(None, 8080, 3)
    };
    records
        .take("b", &[other, port(Some([127, 0, 0, 1]), 8080, 3)])
        .unwrap();
    records.remove("a").unwrap();
    records.take("c", &wanted).unwrap();
}

#[test]
fn a_retry_takes_the_place_of_the_attempt_before() {
    let dir = tempfile::tempdir().unwrap();
    let records = PortRecords::new(dir.path().join("ports"));
    records
        .take("a", &[port(None, 8080, 2), port(None, 8081, 2)])
        .unwrap();
    records.take("a", &[port(None, 8080, 9)]).unwrap();
    assert_eq!(records.load("a").unwrap(), [port(None, 8080, 9)]);
    records.take("b", &[port(None, 8081, 3)]).unwrap();
}

#[test]
fn the_next_daemon_knows_who_has_which_port() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("ports");
    PortRecords::new(dir.clone())
        .take("a", &[port(None, 8080, 2)])
        .unwrap();
    let records = PortRecords::new(dir);
    assert!(is_taken(&records.take("b", &[port(None, 8080, 3)]), 8080));
    records.remove("a").unwrap();
    assert_eq!(records.all().unwrap(), []);
    records.take("b", &[port(None, 8080, 3)]).unwrap();
}
