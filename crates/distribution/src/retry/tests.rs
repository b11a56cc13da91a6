use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn waits_grow_up_to_the_limit_and_vary_by_half(round in 0u32..80) {
        let mut failover = Failover::new(Vec::new(), RetryPolicy::default());
        failover.round = round;
        let wait = failover.wait();
        prop_assert!(wait >= Duration::from_millis(250) && wait <= Duration::from_secs(10));
        let jittered = jittered(wait);
        prop_assert!(jittered >= wait / 2 && jittered <= wait);
    }
}

#[test]
fn without_endpoints_there_is_nothing_to_try() {
    assert!(
        Failover::new(Vec::new(), RetryPolicy::default())
            .current()
            .is_none()
    );
}
