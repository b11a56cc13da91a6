use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::cgroups::settings;
use crate::error::chain;

/// The example of goresctrl's documentation.
const EXAMPLE: &str = "
Classes:
  LowPrioThrottled:
    - Weight: 80
    - Devices:
        - /dev/sd[a-z]
        - /dev/vd[a-z]
      ThrottleReadBps: 50M   # max read bytes per second
      ThrottleWriteBps: 10M
      ThrottleReadIOPS: 10k
      ThrottleWriteIOPS: 5k
      Weight: 50
    - Devices:
        - /dev/disk/by-id/*SSD*
      ThrottleReadBps: 100M
      ThrottleWriteBps: 40M
      Weight: 50
  HighPrioFullSpeed:
    - Weight: 400
";

fn parse(text: &str) -> Result<Classes, BlockIoError> {
    Classes::parse(Path::new("/etc/pausa/blockio.yaml"), text)
}

fn rule(device: Option<(u32, u32)>, parameter: Parameter, value: u64) -> Rule {
    Rule {
        device: device.map(|(major, minor)| Device { major, minor }),
        parameter,
        value,
    }
}

#[test]
fn the_file_of_the_peers_is_read() {
    let classes = parse(EXAMPLE).unwrap();
    let items = &classes.classes["LowPrioThrottled"];
    assert!(items[0].devices.is_none());
    assert_eq!(items[0].values, [(Parameter::Weight, 80)].into());
    let devices = items[1].devices.as_ref().unwrap().iter();
    let devices: Vec<String> = devices.map(ToString::to_string).collect();
    assert_eq!(devices, ["/dev/sd[a-z]", "/dev/vd[a-z]"]);
    let expected = [
        (Parameter::Weight, 50),
        (Parameter::ReadBps, 50_000_000),
        (Parameter::WriteBps, 10_000_000),
        (Parameter::ReadIops, 10_000),
        (Parameter::WriteIops, 5000),
    ];
    assert_eq!(items[1].values, expected.into());
    let weight = [rule(None, Parameter::Weight, 400)];
    assert_eq!(classes.resolve("HighPrioFullSpeed").unwrap(), weight);
    for nothing in ["", "Classes:", "Classes: {}", "Classes:\n  a:\n  b: []\n"] {
        parse(nothing).unwrap();
    }
}

#[test]
fn an_unknown_class_is_refused_with_the_known_ones() {
    let error = parse(EXAMPLE).unwrap().resolve("Fast").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let text = error.to_string();
    assert!(text.contains("HighPrioFullSpeed, LowPrioThrottled"), "{text}");
}

#[test]
fn what_is_wrong_in_the_file_is_named() {
    for (text, problem) in [
        ("[]", "Classes"),
        ("Classes: []", "Classes"),
        ("classes: {}", "\"classes\""),
        ("Classes: {a: {}}", "class \"a\""),
        ("Classes: {a: [{Wait: 10}]}", "Wait"),
        ("Classes: {a: [{Weight: heavy}]}", "Weight is \"heavy\""),
        ("Classes: {a: [{Weight: 9}]}", "from 10 to 1000"),
        ("Classes: {a: [{Weight: 1001}]}", "from 10 to 1000"),
        ("Classes: {a: [{ThrottleReadBps: 1M}]}", "needs Devices"),
        (
            "Classes: {a: [{Devices: [/dev/x], ThrottleReadBps: -1}]}",
            "ThrottleReadBps",
        ),
        ("Classes: {a: [{Devices: [sda], Weight: 10}]}", "\"sda\""),
        ("Classes: {a: [{Devices: ['/dev/[']}]}", "\"/dev/[\""),
        ("Classes: {a: [{Devices: /dev/x}]}", "class \"a\""),
        ("Classes:\n  a: []\n  a: []\n", "line 3"),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        let error = chain(&error);
        assert!(
            error.contains(problem) && error.contains("/etc/pausa/blockio.yaml"),
            "{text}: {error}"
        );
    }
}

/// Neither a directory nor a character device has block I/O.
#[test]
fn only_disks_count() {
    let text = "Classes: {a: [{Devices: [/dev/null, /dev, /dev/nothing*], Weight: 10}]}";
    assert_eq!(parse(text).unwrap().resolve("a").unwrap(), []);
}

#[test]
fn rules_are_lines_of_files() {
    let rules = [
        rule(None, Parameter::Weight, 1000),
        rule(Some((8, 0)), Parameter::Weight, 10),
        rule(Some((8, 0)), Parameter::ReadBps, 7),
        rule(Some((8, 0)), Parameter::WriteIops, 8),
        rule(Some((8, 16)), Parameter::WriteBps, 9),
    ];
    let lines = |v2| {
        let settings = settings::of_block_io(v2, &rules).into_iter();
        let line = |setting: &settings::Setting| format!("{} {}", setting.file, setting.value);
        settings
            .map(|setting| match setting.otherwise.as_deref() {
                Some(other) => format!("{} or {}", line(&setting), line(other)),
                None => line(&setting),
            })
            .collect::<Vec<_>>()
    };
    let v1 = [
        "blkio.bfq.weight 1000 or blkio.weight 1000",
        "blkio.bfq.weight_device 8:0 10 or blkio.weight_device 8:0 10",
        "blkio.throttle.read_bps_device 8:0 7",
        "blkio.throttle.write_iops_device 8:0 8",
        "blkio.throttle.write_bps_device 8:16 9",
    ];
    assert_eq!(lines(false), v1);
    let v2 = [
        "io.bfq.weight default 1000 or io.weight default 10000",
        "io.bfq.weight 8:0 10 or io.weight 8:0 1",
        "io.max 8:0 rbps=7 wbps=max riops=max wiops=8",
        "io.max 8:16 rbps=max wbps=9 riops=max wiops=max",
    ];
    assert_eq!(lines(true), v2);
}

proptest! {
    #[test]
    fn any_text_is_classes_or_an_error(text in "[-a: \\n&*\\[\\]{}0-9kM]{0,60}") {
        parse(&format!("Classes:\n  a:\n    - Weight: {text}\n")).ok();
        parse(&text).ok();
    }
}
