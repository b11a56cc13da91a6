use super::*;

/// Processes do not take from each other, but all together have a limit.
#[test]
fn each_process_has_its_own_budget() {
    let clients = Clients::default();
    let mut held: Vec<_> = std::iter::from_fn(|| clients.connect(1)).collect();
    assert_eq!(held.len(), OF_ONE.connections);
    for pid in 2.. {
        let before = held.len();
        held.extend(std::iter::from_fn(|| clients.connect(pid)));
        if held.len() == before {
            break;
        }
    }
    assert_eq!(held.len(), OF_ALL.connections);
    held.pop();
    assert!(clients.connect(1).is_none(), "one process still has too many");
    let other = clients.connect(1000).unwrap();
    let mut requests: Vec<_> = std::iter::from_fn(|| Charge::begin(&other.0).ok()).collect();
    assert_eq!(requests.len(), OF_ONE.requests);
    let first = clients.client(1);
    requests.push(Charge::begin(&first).unwrap());
    requests[0].add(OF_ONE.bytes).unwrap();
    assert!(requests[1].add(1).is_err());
    Charge::begin(&first).unwrap().add(OF_ONE.bytes).unwrap();
    drop(requests);
    let again = Charge::begin(&other.0).unwrap();
    again.add(OF_ONE.bytes).unwrap();
    drop((held, again, other));
    let all = &clients.all;
    let left = [&all.connections, &all.requests, &all.bytes].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(left, [0, 0, 0]);
}
