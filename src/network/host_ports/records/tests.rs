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
        network: Some("10.123.0.0/24".parse().unwrap()),
    }
}

fn pod(name: &str) -> PodNetwork {
    PodNetwork {
        pod_id: format!("id-{name}"),
        name: name.to_owned(),
        namespace: "default".to_owned(),
        ..PodNetwork::default()
    }
}

/// The families that a pod of both gets its port in.
fn asks_for(host_ip: Option<&str>, addresses: &[&str]) -> Result<Vec<String>, NetworkError> {
    let pod = PodNetwork {
        port_mappings: vec![PortMapping {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_port: 8080,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        }],
        ..pod("a")
    };
    let addresses: Vec<IpNet> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    let ports = wanted(&pod, &addresses)?;
    let text = |port: HostPort| {
        let at = port.host_ip.map_or_else(|| "any".to_owned(), |ip| ip.to_string());
        format!("{at} -> {}", port.address)
    };
    Ok(ports.into_iter().map(text).collect())
}

#[test]
fn a_port_is_open_in_the_families_that_the_pod_has() {
    let both = ["10.123.0.2/24", "fd00::2/64", "10.123.0.3/24"];
    let all = ["any -> 10.123.0.2", "any -> fd00::2"];
    assert_eq!(asks_for(None, &both).unwrap(), all);
    assert_eq!(asks_for(Some("::"), &both).unwrap(), all);
    assert_eq!(asks_for(Some("0.0.0.0"), &both).unwrap(), all[..1]);
    assert_eq!(
        asks_for(Some("127.0.0.1"), &both).unwrap(),
        ["127.0.0.1 -> 10.123.0.2"]
    );
    assert_eq!(asks_for(Some("fd00::7"), &both).unwrap(), ["fd00::7 -> fd00::2"]);
    assert_eq!(asks_for(Some("::"), &both[..1]).unwrap(), all[..1]);
    // On an address of the host of another family nothing would ever reach the pod.
    let error = asks_for(Some("fd00::7"), &both[..1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("fd00::7"), "{error}");
}

fn is_taken(outcome: &Result<(), NetworkError>, wanted: u16) -> bool {
    matches!(outcome, Err(NetworkError::PortTaken { port, protocol: "tcp", owner, .. }) if *port == wanted && owner == "default/a")
}

#[test]
fn a_port_is_one_pods_until_that_pod_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let records = PortRecords::new(dir.path().join("ports"));
    records
        .take(&pod("a"), &[port(None, 8080, 2), port(None, 8081, 2)], false)
        .unwrap();
    let wanted = [port(None, 9090, 3), port(None, 8081, 3)];
    assert!(is_taken(&records.take(&pod("b"), &wanted, false), 8081));
    assert_eq!(
        records.opened("id-b").unwrap(),
        [],
        "what b never had is not on its record"
    );
    // The same number is another port over another protocol, or at another address.
    let other = HostPort {
        protocol: Protocol::Udp,
        ..port(None, 8080, 3)
    };
    records
        .take(&pod("b"), &[other, port(Some([127, 0, 0, 1]), 8080, 3)], false)
        .unwrap();
    records.remove("id-a").unwrap();
    records.take(&pod("c"), &wanted, false).unwrap();
}

#[test]
fn a_retry_takes_the_place_of_the_attempt_before() {
    let dir = tempfile::tempdir().unwrap();
    let records = PortRecords::new(dir.path().join("ports"));
    records
        .take(&pod("a"), &[port(None, 8080, 2), port(None, 8081, 2)], false)
        .unwrap();
    records.take(&pod("a"), &[port(None, 8080, 9)], false).unwrap();
    assert_eq!(records.opened("id-a").unwrap(), [port(None, 8080, 9)]);
    records.take(&pod("b"), &[port(None, 8081, 3)], false).unwrap();
}

#[test]
fn the_next_daemon_knows_who_has_which_port() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("ports");
    PortRecords::new(dir.clone())
        .take(&pod("a"), &[port(None, 8080, 2)], false)
        .unwrap();
    let records = PortRecords::new(dir);
    assert!(is_taken(
        &records.take(&pod("b"), &[port(None, 8080, 3)], false),
        8080
    ));
    records.remove("id-a").unwrap();
    assert_eq!(records.all().unwrap(), []);
    records.take(&pod("b"), &[port(None, 8080, 3)], false).unwrap();
}

#[test]
fn ports_that_a_plugin_opens_are_taken_and_not_pausas_to_close() {
    let dir = tempfile::tempdir().unwrap();
    let records = PortRecords::new(dir.path().join("ports"));
    records.take(&pod("a"), &[port(None, 8080, 2)], true).unwrap();
    assert_eq!(records.opened("id-a").unwrap(), []);
    assert!(is_taken(
        &records.take(&pod("b"), &[port(None, 8080, 3)], false),
        8080
    ));
}

/// Pods whose ports an older version opened.
#[test]
fn records_of_older_versions_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let old =
        r#"[{"protocol":"tcp","host_ip":null,"host_port":8080,"address":"10.123.0.2","container_port":80}]"#;
    std::fs::write(dir.path().join("id-a"), old).unwrap();
    let records = PortRecords::new(dir.path().to_owned());
    let expected = HostPort {
        network: None,
        ..port(None, 8080, 2)
    };
    assert_eq!(records.opened("id-a").unwrap(), [expected]);
    assert!(records.take(&pod("b"), &[port(None, 8080, 3)], false).is_err());
}
