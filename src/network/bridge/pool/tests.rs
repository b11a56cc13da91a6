//! The pool against real directories.

use super::*;

fn subnet(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

#[test]
fn addresses_are_distinct_kept_over_restarts_and_given_round_robin() {
    let dir = tempfile::tempdir().unwrap();
    let net = subnet("10.9.0.0/29");
    let pool = Pool::new(dir.path().join("br"));
    let given: Vec<String> = ["a", "b", "a"]
        .iter()
        .map(|pod| pool.reserve(pod, "eth0", net).unwrap().to_string())
        .collect();
    assert_eq!(
        given,
        ["10.9.0.2", "10.9.0.3", "10.9.0.2"],
        "a pod that asks again gets what it has"
    );
    let text = fs::read_to_string(dir.path().join("br/10.9.0.2")).unwrap();
    assert_eq!(text, "a\r\neth0", "the layout of host-local");

    let pool = Pool::new(dir.path().join("br"));
    pool.release("a").unwrap();
    pool.release("a").unwrap();
    assert_eq!(
        pool.reserve("c", "eth0", net).unwrap().to_string(),
        "10.9.0.4",
        "a released address rests"
    );
    for pod in ["d", "e", "f"] {
        pool.reserve(pod, "eth0", net).unwrap();
    }
    assert!(matches!(
        pool.reserve("g", "eth0", net),
        Err(NetworkError::PoolExhausted { .. })
    ));
    pool.release("c").unwrap();
    assert_eq!(pool.reserve("g", "eth0", net).unwrap().to_string(), "10.9.0.4");
    let owners: Vec<String> = pool.owners().unwrap().into_iter().collect();
    assert_eq!(owners, ["b", "d", "e", "f", "g"]);
}

#[test]
fn many_at_once_get_different_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let pool = Pool::new(dir.path().to_path_buf());
    let net = subnet("10.9.0.0/24");
    let addresses: BTreeSet<Ipv4Addr> = std::thread::scope(|scope| {
        let pool = &pool;
        let threads: Vec<_> = (0..50)
            .map(|n| scope.spawn(move || pool.reserve(&format!("p{n}"), "eth0", net).unwrap()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(addresses.len(), 50);
    let leftovers = pool
        .names()
        .unwrap()
        .into_iter()
        .filter(|name| name.starts_with(".new-"))
        .count();
    assert_eq!(leftovers, 0);
}

#[test]
fn what_a_crash_left_is_swept_and_foreign_files_are_not_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let pool = Pool::new(dir.path().to_path_buf());
    fs::write(dir.path().join(".new-1-0x0-0"), "half").unwrap();
    fs::write(dir.path().join("lock"), "").unwrap();
    fs::write(dir.path().join(LAST), "not an address").unwrap();
    super::super::sweep(dir.path()).unwrap();
    assert!(!dir.path().join(".new-1-0x0-0").exists());
    assert!(dir.path().join("lock").exists());
    assert_eq!(
        pool.reserve("a", "eth0", subnet("10.9.0.0/30"))
            .unwrap()
            .to_string(),
        "10.9.0.2"
    );
    assert!(matches!(
        pool.reserve("b", "eth0", subnet("10.9.0.0/31")),
        Err(NetworkError::SubnetTooSmall { .. })
    ));
}

#[test]
fn the_range_of_kubelet_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let pool = Pool::new(dir.path().join("new"));
    assert_eq!(pool.saved_range(), None);
    pool.save_range(subnet("10.244.3.0/24")).unwrap();
    assert_eq!(
        Pool::new(dir.path().join("new")).saved_range(),
        Some(subnet("10.244.3.0/24"))
    );
}
