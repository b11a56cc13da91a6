//! Large blobs in parts: small "large" ones, so that the tests stay quick.

use super::*;
use crate::blob::ahead::RangePolicy;
use crate::client::{Client, ClientConfig};
use crate::test_server::{Fixed, config};

const PART: u64 = 64 * 1024;

fn large(servers: &[&Server], in_memory: usize) -> Client {
    let ranges = RangePolicy {
        from_size: 100_000,
        part: PART,
        at_once: 4,
        in_memory,
    };
    let config = ClientConfig { ranges, ..config() };
    let urls = servers.iter().map(|server| server.url()).collect();
    Client::with_resolver(Arc::new(Fixed(urls)), config)
}

async fn fetch(client: &Client, server: &Server, blob: &[u8]) -> Result<Vec<u8>, Error> {
    let mut stream = client
        .fetch_blob(&reference(server), &descriptor(blob), 0, &Credentials::Anonymous)
        .await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[tokio::test]
async fn parts_come_together_in_order() {
    let blob = blob();
    let served = blob.clone();
    let server = server(move |_, request| Reply::ranged(&served, request)).await;
    for in_memory in [0, 1, 8] {
        let before = server.requests().len();
        let client = large(&[&server], in_memory);
        assert!(fetch(&client, &server, &blob).await.unwrap() == blob);
        let ranges: Vec<_> = server.requests()[before..].iter().map(Request::range).collect();
        assert!(
            ranges.len() > 5 && ranges.iter().all(Option::is_some),
            "{ranges:?}"
        );
        let longest = ranges
            .iter()
            .flatten()
            .filter_map(|(first, last)| Some(last.as_ref()? + 1 - first));
        assert_eq!(longest.max(), usize::try_from(PART).ok());
        // Every permit was released.
        assert_eq!(client.part_permits().available_permits(), in_memory);
    }
}

#[tokio::test]
async fn a_server_without_ranges_is_asked_once() {
    let blob = blob();
    let served = blob.clone();
    let server = server(move |_, _| Reply::ok(&served)).await;
    assert!(fetch(&large(&[&server], 8), &server, &blob).await.unwrap() == blob);
    assert_eq!(server.requests().len(), 1);
    let served = blob.clone();
    let refusing = super::server(move |_, request| match request.range() {
        Some(_) => Reply::new(416, ""),
        None => Reply::ok(&served),
    })
    .await;
    assert!(fetch(&large(&[&refusing], 8), &refusing, &blob).await.unwrap() == blob);
    assert_eq!(refusing.requests().len(), 2);
}

#[tokio::test]
async fn whatever_goes_wrong_with_a_part_is_mended() {
    type Fault = fn(&[u8], &Request) -> Reply;
    let faults: [Fault; 5] = [
        |blob, request| Reply::ranged(blob, request).cut(1000),
        |blob, request| Reply::ranged(blob, request).stall(1000),
        |blob, _| Reply::part(blob, 7),
        |_, _| Reply::new(503, "busy"),
        |blob, _| Reply::ok(blob),
    ];
    for fault in faults {
        let blob = blob();
        let served = blob.clone();
        let count = AtomicUsize::new(0);
        let server = Server::start(move |request| match count.fetch_add(1, Ordering::SeqCst) {
            3 => fault(&served, request),
            _ => Reply::ranged(&served, request),
        })
        .await;
        assert!(fetch(&large(&[&server], 8), &server, &blob).await.unwrap() == blob);
    }
}

#[tokio::test]
async fn a_mirror_that_dies_among_the_parts_is_left() {
    let blob = blob();
    let (first, second) = (blob.clone(), blob.clone());
    let mirror = server(move |n, request| match n {
        0..4 => Reply::ranged(&first, request),
        _ => Reply::new(500, "gone"),
    })
    .await;
    let origin = server(move |_, request| Reply::ranged(&second, request)).await;
    let client = large(&[&mirror, &origin], 8);
    assert!(fetch(&client, &origin, &blob).await.unwrap() == blob);
    assert!(!origin.requests().is_empty());
}

#[tokio::test]
async fn who_delivers_damaged_bytes_is_asked_last_next_time() {
    let blob = blob();
    let mut wrong = blob.clone();
    wrong[99] ^= 1;
    let good = blob.clone();
    let mirror = server(move |_, request| Reply::ranged(&wrong, request)).await;
    let origin = server(move |_, request| Reply::ranged(&good, request)).await;
    let client = client(&[&mirror, &origin]);
    let small = client
        .fetch_small(
            &reference(&origin),
            &descriptor(&blob),
            blob.len(),
            &Credentials::Anonymous,
        )
        .await;
    assert!(small.unwrap() == blob);
    assert_eq!((mirror.requests().len(), origin.requests().len()), (1, 1));
    // Still distrusted, and used where nobody else is left.
    let alone = super::client(&[&mirror]);
    let wanted = descriptor(&blob);
    alone.distrust(&wanted.digest, &[format!("{}/v2", mirror.url())]);
    let stream = alone
        .fetch_blob(&reference(&mirror), &wanted, 0, &Credentials::Anonymous)
        .await
        .unwrap();
    assert_eq!(stream.servers(), [format!("{}/v2", mirror.url())]);
}

#[tokio::test]
async fn a_distrusted_plain_registry_on_loopback_stays_behind_its_tls_twin() {
    let blob = blob();
    let served = blob.clone();
    let server = server(move |_, request| Reply::ranged(&served, request)).await;
    let client = Client::with_resolver(Arc::new(crate::hosts::HostsDir::default()), config());
    let wanted = descriptor(&blob);
    client.distrust(&wanted.digest, &[format!("{}/v2", server.url())]);
    assert!(fetch(&client, &server, &blob).await.unwrap() == blob);
}
