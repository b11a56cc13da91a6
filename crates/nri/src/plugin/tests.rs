use prost::Message;

use super::*;

#[test]
fn masks_are_those_of_the_protocol() {
    let two = Events::subscribed(0b100_0000_0000_1000).map_err(drop);
    assert_eq!(two, Err(()), "bit 14 is LAST");
    let events = Events::subscribed(1 << 3 | 1 << 13).unwrap();
    let subscribed: Vec<_> = (0..=20)
        .filter_map(|number| Event::try_from(number).ok())
        .filter(|event| events.contains(*event))
        .collect();
    assert_eq!(
        subscribed,
        [Event::CreateContainer, Event::ValidateContainerAdjustment]
    );
    let all = Events::subscribed(0).unwrap();
    assert_eq!(all.bits(), 0x3fff);
    assert!(!all.contains(Event::Unknown) && !all.contains(Event::Last));
    assert!(Events::subscribed(-1).is_err());
}

fn pod(id: usize, size: usize) -> PodSandbox {
    PodSandbox {
        id: id.to_string(),
        name: "a".repeat(size),
        ..Default::default()
    }
}

#[test]
fn parts_fit_their_limit_and_lose_nothing() {
    let containers: Vec<_> = (0..50)
        .map(|id| Container {
            id: id.to_string(),
            args: vec!["b".repeat(id * 7)],
            ..Default::default()
        })
        .collect();
    let pods: Vec<_> = (0..50).map(|id| pod(id, id * 11)).collect();
    let limit = 1000;
    let parts = parts(pods.clone(), containers.clone(), limit);
    assert!(parts.len() > 20, "{}", parts.len());
    let (last, others) = parts.split_last().unwrap();
    assert!(!last.more && others.iter().all(|part| part.more));
    assert!(parts.iter().all(|part| part.encoded_len() <= limit));
    let told: Vec<_> = parts.iter().flat_map(|part| part.pods.clone()).collect();
    assert_eq!(told, pods);
    let told: Vec<_> = parts.iter().flat_map(|part| part.containers.clone()).collect();
    assert_eq!(told, containers);
}

#[test]
fn nothing_is_one_part_and_what_is_too_large_has_one_of_its_own() {
    assert_eq!(
        parts(Vec::new(), Vec::new(), 100),
        [SynchronizeRequest::default()]
    );
    let parts = parts(vec![pod(1, 5), pod(2, 500), pod(3, 5)], Vec::new(), 100);
    let ids: Vec<Vec<&str>> = parts
        .iter()
        .map(|part| part.pods.iter().map(|pod| &*pod.id).collect())
        .collect();
    assert_eq!(ids, [vec!["1"], vec!["2"], vec!["3"]]);
}
