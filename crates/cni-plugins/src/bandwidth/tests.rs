//! The numbers, and the node's state against that of the binaries.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command as Process;

use serde_json::json;

use super::*;
use crate::chained::{HOST, interfaces, on_node};
use crate::reference::{binaries, json_of, output, run};

/// Of container "pod-1" in network "net".
const IFB: &str = "bwp4ff8982b6c35";

fn both_ways() -> Value {
    json!({"type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 80_000,
           "egressRate": 16_000_000, "egressBurst": 160_000})
}

/// What container runtimes give to pods: no limit of the burst.
fn capability(rate: u64) -> Value {
    let burst = u32::MAX;
    json!({"type": "bandwidth", "capabilities": {"bandwidth": true}, "runtimeConfig": {"bandwidth": {
        "ingressRate": rate, "ingressBurst": burst, "egressRate": rate, "egressBurst": burst}}})
}

fn understood(config: &Value) -> Result<(), String> {
    Bandwidth.understands(config.as_object().unwrap())
}

fn has_ifb() -> bool {
    Netlink::open().unwrap().index_of(IFB).unwrap().is_some()
}

fn tc(arguments: &str) {
    output(Process::new("tc").args(arguments.split(' ')));
}

#[test]
fn numbers_are_those_of_the_binary() {
    let of = |rate, burst| bucket("ingress", rate, burst).unwrap().unwrap();
    let expected = TokenBucket {
        rate: 1_000_000,
        limit: 35_000,
        buffer: 156_250,
    };
    assert_eq!(of(8_000_000, 80_000), expected);
    assert_eq!(bucket("ingress", 0, 0).unwrap(), None);
    for (rate, burst) in [(1000, 0), (0, 1000), (7, 1000), (1000, u64::from(u32::MAX) * 8)] {
        let failure = bucket("ingress", rate, burst).unwrap_err();
        assert_eq!(failure.code, invalid("").code, "{rate} {burst}");
    }
    // 429 s are more than 32 bits of ticks.
    let wrapped = of(10_000_000, u32::MAX.into()).buffer;
    if cfg!(target_arch = "x86_64") {
        assert_eq!(wrapped, 2_415_919_079);
    } else {
        assert_eq!(wrapped, u32::MAX);
    }
}

#[test]
fn what_is_not_known_is_not_understood() {
    understood(&both_ways()).unwrap();
    understood(&capability(1000)).unwrap();
    for unknown in [
        json!({"unshapedSubnets": ["10.0.0.0/8"]}),
        json!({"ingressRate": "8"}),
        json!({"ingressRate": 1.5}),
        json!({"ingressRate": MAX_RATE + 1, "ingressBurst": 8}),
        json!({"runtimeConfig": {"bandwidth": {"ingressRate": 8, "new": 1}}}),
        json!({"runtimeConfig": {"new": 1}}),
        json!({"args": {}}),
    ] {
        understood(&unknown).unwrap_err();
    }
}

#[test]
fn any_key_of_the_network_counts_instead_of_the_capability() {
    let mut config = capability(1000);
    config["ingressRate"] = json!(0);
    let parsed: Config = parse(config.as_object().unwrap()).unwrap();
    assert_eq!(parsed.limits().unwrap(), Limits::default());
}

/// Adds on two nodes and compares; then each side checks and deletes what the other has added.
fn compare(config: &Value) {
    for binary in binaries("bandwidth") {
        let ours = on_node(|node| {
            let result = add(&node.call(Command::Add, config)).unwrap();
            let state = node.state();
            run(&binary, &node.call(Command::Check, config)).unwrap();
            run(&binary, &node.call(Command::Del, config)).unwrap();
            assert!(!has_ifb());
            (interfaces(&result), state)
        });
        let theirs = on_node(|node| {
            let result = run(&binary, &node.call(Command::Add, config)).unwrap();
            let state = node.state();
            check(&node.call(Command::Check, config)).unwrap();
            delete(&node.call(Command::Del, config)).unwrap();
            assert!(!has_ifb());
            delete(&node.call(Command::Del, config)).unwrap();
            (interfaces(&result), state)
        });
        pretty_equal(&ours.0, &theirs.0);
        pretty_equal(&ours.1, &theirs.1);
    }
}

fn pretty_equal(ours: &Value, theirs: &Value) {
    assert_eq!(format!("{ours:#}"), format!("{theirs:#}"));
}

#[test]
#[ignore = "needs root"]
fn both_directions() {
    compare(&both_ways());
}

#[test]
#[ignore = "needs root"]
fn one_direction() {
    compare(&json!({"type": "bandwidth", "ingressRate": 1_000_000, "ingressBurst": 12_345}));
    compare(&json!({"type": "bandwidth", "egressRate": 1_000_000, "egressBurst": 12_345}));
}

#[test]
#[ignore = "needs root"]
fn no_limit() {
    compare(&json!({"type": "bandwidth", "ingressRate": 0, "ingressBurst": 0}));
    // CHECK of older binaries crashes without any key.
    on_node(|node| {
        let call = node.call(Command::Add, &json!({"type": "bandwidth"}));
        assert_eq!(add(&call).unwrap(), call.config["prevResult"]);
        check(&call).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn the_capability_with_bursts_of_container_runtimes() {
    for rate in [
        1000,
        1_000_000,
        10_000_000,
        1_000_000_007,
        100_000_000_000,
        MAX_RATE,
    ] {
        compare(&capability(rate));
    }
}

#[test]
#[ignore = "needs root"]
fn what_a_pod_sends_goes_through_the_ifb_device() {
    on_node(|node| {
        add(&node.call(Command::Add, &both_ways())).unwrap();
        let address = |name: &str, address: [u8; 4]| {
            let mut netlink = Netlink::open().unwrap();
            let index = netlink.index_of(name).unwrap().unwrap();
            let address = Request::AddAddress {
                index,
                address: address.into(),
                prefix: 24,
            };
            netlink.execute(&[Request::SetUp { index }, address]).unwrap();
        };
        address(HOST, [10, 62, 0, 1]);
        node.in_pod(|| address("eth0", [10, 62, 0, 2]));
        let listener = TcpListener::bind("10.62.0.1:80").unwrap();
        node.in_pod(|| {
            let mut stream = TcpStream::connect("10.62.0.1:80").unwrap();
            stream.write_all(&[7; 10_000]).unwrap();
        });
        let mut received = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), 10_000);
        let sent = &json_of(&format!("tc -j -s qdisc show dev {IFB}"))[0]["bytes"];
        assert!(sent.as_u64().unwrap() > 10_000, "{sent}");
    });
}

#[test]
#[ignore = "needs root"]
fn what_has_been_changed_fails_the_check() {
    on_node(|node| {
        add(&node.call(Command::Add, &both_ways())).unwrap();
        let call = node.call(Command::Check, &both_ways());
        check(&call).unwrap();
        tc(&format!(
            "qdisc change dev {HOST} root handle 1: tbf rate 8mbit burst 20000 latency 25ms"
        ));
        let failure = check(&call).unwrap_err();
        assert!(failure.msg.contains("the tbf qdisc of veth1"), "{failure:?}");
        tc(&format!("qdisc del dev {HOST} root"));
        assert_eq!(check(&call).unwrap_err().msg, "veth1 has no tbf qdisc");
        let egress = json!({"type": "bandwidth", "egressRate": 16_000_000, "egressBurst": 160_000});
        let call = node.call(Command::Check, &egress);
        check(&call).unwrap();
        delete(&call).unwrap();
        let failure = check(&call).unwrap_err();
        assert_eq!(failure.msg, format!("there is no ifb device {IFB}"));
    });
}

#[test]
#[ignore = "needs root"]
fn a_failed_add_leaves_no_ifb_device() {
    on_node(|node| {
        let call = node.call(Command::Add, &both_ways());
        tc(&format!("qdisc add dev {HOST} clsact"));
        let failure = add(&call).unwrap_err();
        assert!(failure.details.contains("add an ingress qdisc"), "{failure:?}");
        assert!(!has_ifb());
        delete(&call).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_the_chain_has_not_made_is_refused() {
    on_node(|node| {
        let mut call = node.call(Command::Add, &both_ways());
        call.config["prevResult"]["interfaces"][0]["name"] = json!("veth2");
        let failure = add(&call).unwrap_err();
        assert!(
            failure.msg.contains("not an interface of the host"),
            "{failure:?}"
        );
        call.if_name = "lo".to_owned();
        let failure = add(&call).unwrap_err();
        assert_eq!(failure.msg, "the pod's interface lo has no veth peer");
        call.config.remove("prevResult");
        add(&call).unwrap_err();
        assert!(!has_ifb());
    });
}

/// The namespace, the interface and the configuration's numbers do not matter to DEL.
#[test]
#[ignore = "needs root"]
fn what_is_gone_is_deleted() {
    on_node(|node| {
        let mut call = node.call(Command::Del, &json!({"type": "bandwidth", "ingressRate": 1}));
        call.netns = "/nowhere".into();
        delete(&call).unwrap();
        call.netns = "".into();
        delete(&call).unwrap();
    });
}
