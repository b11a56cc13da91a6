use std::os::unix::net::UnixStream;

use super::*;

fn connect(clients: &Clients, pid: i32) -> Option<Arc<Connection>> {
    let (socket, _) = UnixStream::pair().unwrap();
    clients.connect(pid, &socket).unwrap()
}

/// A connection with a request in progress.
fn busy(clients: &Clients, pid: i32) -> Option<(Arc<Connection>, Charge)> {
    let connection = connect(clients, pid)?;
    let charge = Charge::begin(&connection).unwrap();
    Some((connection, charge))
}

/// Processes do not take from each other, but all together have a limit.
#[test]
fn each_process_has_its_own_budget() {
    let clients = Clients::default();
    let mut held: Vec<_> = std::iter::from_fn(|| busy(&clients, 1)).collect();
    assert_eq!(held.len(), OF_ONE.connections);
    for pid in 2.. {
        let before = held.len();
        held.extend(std::iter::from_fn(|| busy(&clients, pid)));
        if held.len() == before {
            break;
        }
    }
    assert_eq!(held.len(), OF_ALL.connections);
    held.pop();
    assert!(connect(&clients, 1).is_none(), "one process still has too many");
    let other = connect(&clients, 1000).unwrap();
    held.truncate(1);
    let mut requests: Vec<_> = std::iter::from_fn(|| Charge::begin(&other).ok()).collect();
    assert_eq!(requests.len(), OF_ONE.requests);
    let first = &held[0].0;
    requests.push(Charge::begin(first).unwrap());
    requests[0].add(OF_ONE.bytes).unwrap();
    assert!(requests[1].add(1).is_err());
    Charge::begin(first).unwrap().add(OF_ONE.bytes).unwrap();
    drop(requests);
    let again = Charge::begin(&other).unwrap();
    again.add(OF_ONE.bytes).unwrap();
    drop((held, again, other));
    let all = &clients.all;
    let left = [&all.connections, &all.requests, &all.bytes].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(left, [0, 0, 0]);
}

/// A client that leaves its connections open goes on: those it has not used for the longest time are closed for the new ones,
/// of all clients if all together have too many. One with a request is never closed.
#[test]
fn idle_connections_make_room() {
    let clients = Clients::default();
    let working = busy(&clients, 1).unwrap();
    let held: Vec<_> = (1..OF_ONE.connections)
        .map(|_| connect(&clients, 1).unwrap())
        .collect();
    let is_closed = |connection: &Arc<Connection>| connection.closed.load(Ordering::Relaxed);
    drop(Charge::begin(&held[0]).unwrap());
    let kept = connect(&clients, 1).unwrap();
    let closed: Vec<_> = held.iter().map(is_closed).collect();
    assert_eq!(closed.iter().filter(|closed| **closed).count(), 1);
    assert!(closed[1], "the first of those that were never used");
    assert!(!is_closed(&working.0));
    let mut others = Vec::new();
    for pid in 2.. {
        let many = (0..OF_ONE.connections).map(|_| connect(&clients, pid).unwrap());
        others.extend(many);
        if others.len() > OF_ALL.connections {
            break;
        }
    }
    assert!(held.iter().chain([&kept]).all(is_closed));
    assert!(!is_closed(&working.0));
    let counted = clients.all.connections.load(Ordering::Relaxed);
    assert_eq!(counted, OF_ALL.connections);
    drop((held, kept, others, working));
    assert_eq!(clients.all.connections.load(Ordering::Relaxed), 0);
}
