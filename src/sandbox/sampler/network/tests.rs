use proptest::prelude::*;

use super::*;

const HEAD: &str = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop\n";

fn names(text: &str) -> Vec<String> {
    parse(text.as_bytes()).into_iter().map(|one| one.name).collect()
}

#[test]
fn the_kernels_form() {
    let text = format!(
        "{HEAD}    lo:     840      10    0    0    0     0          0         0      840      10    0    0    0     0       0          0\n  \
         eth0:    1156      14    1    0    0     0          0         0      446       5    2    0    0     0       0          0\n"
    );
    let all = parse(text.as_bytes());
    assert_eq!(all.len(), 1);
    let traffic = |bytes, packets, errors| Traffic {
        bytes,
        packets,
        errors,
        dropped: 0,
    };
    let expected = Interface {
        name: "eth0".to_owned(),
        received: traffic(1156, 14, 1),
        sent: traffic(446, 5, 2),
    };
    assert_eq!(all[0], expected);
}

#[test]
fn what_a_pod_may_call_its_interfaces() {
    let counters = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16";
    assert_eq!(
        names(&format!("{HEAD}|face: {counters}\nlo: {counters}\n")),
        ["|face"]
    );
    // Short numbers stick to the colon, long ones are wider than the column.
    assert_eq!(names(&format!("a:{counters}\n")), ["a"]);
    assert_eq!(
        names(&format!("a: {}9 {counters}\nb: {counters}\n", u64::MAX)),
        ["b"]
    );
    assert_eq!(names("a: 1 2 3\n-1: x\n:\n"), Vec::<String>::new());
    assert_eq!(
        parse(b"\xff\xfe: 1 2 3 4 5 6 7 8 9 10 11 12\n")[0].name,
        "\u{fffd}\u{fffd}"
    );
    // A line that the limit of what is read has cut tells wrong numbers.
    assert_eq!(names(&format!("a: {counters}\nb: {counters}")), ["a"]);
    let many: String = (0..1000).map(|n| format!("d{n}: {counters}\n")).collect();
    assert_eq!(names(&many).len(), MAX_INTERFACES);
}

proptest! {
    #[test]
    fn no_text_breaks_it(text in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(parse(&text).len() <= MAX_INTERFACES);
    }

    #[test]
    fn no_lines_break_it(text in "([a-z:|@ ]{0,9}:( [0-9]{0,22}){0,17}\n?){0,9}") {
        prop_assert!(parse(text.as_bytes()).len() <= MAX_INTERFACES);
    }
}
