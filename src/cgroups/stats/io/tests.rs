use proptest::prelude::*;

use super::*;

#[test]
fn v1_has_operations_of_devices_and_a_sum() {
    let bytes = "8:0 Read 4096\n8:0 Write 512\n8:0 Sync 4608\n8:0 Async 0\n8:0 Discard 0\n8:0 Total 4608\n\
                 253:1 Read 7\nTotal 4615\n";
    let devices = v1(bytes, "8:0 Read 1\n8:0 Write 2\n8:16 Read 9\nTotal 12\n");
    assert_eq!(devices.len(), 3);
    assert_eq!((devices[0].major, devices[0].minor), (8, 0));
    assert_eq!(devices[0].bytes.len(), 6);
    assert_eq!(devices[0].bytes[1], (Operation::Write, 512));
    assert_eq!(devices[0].requests, [(Operation::Read, 1), (Operation::Write, 2)]);
    assert_eq!((devices[1].major, devices[1].minor), (253, 1));
    assert_eq!(devices[1].requests, []);
    assert_eq!(devices[2].requests, [(Operation::Read, 9)]);
    // Where nothing was done there is only the sum.
    assert_eq!(v1("Total 0\n", ""), []);
}

#[test]
fn v2_has_a_line_a_device() {
    let devices = v2(
        "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=3 dios=4 cost.usage=7\n8:0\n7:1 rios=x wios=5\n",
    );
    assert_eq!(devices.len(), 2);
    let bytes = [
        (Operation::Read, 4096),
        (Operation::Write, 8192),
        (Operation::Discard, 3),
    ];
    assert_eq!(devices[0].bytes, bytes);
    assert_eq!(devices[0].requests[2], (Operation::Discard, 4));
    assert_eq!((devices[1].major, devices[1].minor), (7, 1));
    assert_eq!(devices[1].requests, [(Operation::Write, 5)]);
}

proptest! {
    #[test]
    fn no_lines_break_it(text in "(([0-9]{1,11}:[0-9]{1,11}|Total|:)( (Read|Total|[rwd](bytes|ios)=)? ?[0-9]{0,22}){0,4}\n){0,90}") {
        prop_assert!(v1(&text, &text).len() <= MAX_DEVICES);
        prop_assert!(v2(&text).len() <= MAX_DEVICES);
    }
}

#[test]
fn the_number_of_devices_is_limited() {
    let many: String = (0..1000).map(|n| format!("8:{n} rbytes=1\n")).collect();
    assert_eq!(v2(&many).len(), MAX_DEVICES);
}
