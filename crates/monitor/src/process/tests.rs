use proptest::prelude::*;

use super::{Stat, parse, stat};

#[test]
fn a_name_may_hold_brackets() {
    assert_eq!(
        parse(b"12 (a) b) S 3 4 5 0 -1"),
        Some(Stat {
            parent: 3,
            session: 5,
            state: 'S'
        })
    );
}

#[test]
fn this_process_has_its_parent_and_session() {
    let own = i32::try_from(std::process::id()).unwrap();
    let stat = stat(own).unwrap();
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    assert_eq!(stat.parent, parent);
    // 0 if the session's leader is outside of this PID namespace, as in many CI systems.
    let session = nix::unistd::getsid(None).unwrap().as_raw();
    assert_eq!(stat.session, session);
}

proptest! {
    #[test]
    fn garbage_is_no_process_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(parse(&bytes).is_none_or(|stat| bytes.contains(&b')') && stat.state.is_ascii()));
    }
}
