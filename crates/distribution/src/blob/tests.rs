use super::*;
use crate::error::Kind;
use crate::test_server::{Reply, Request, Server, client, descriptor, reference};
use reqwest::header::{CONTENT_RANGE, HeaderMap};
use std::sync::atomic::{AtomicUsize, Ordering};

mod parts;

fn blob() -> Vec<u8> {
    (0..200_000u32).flat_map(u32::to_le_bytes).collect()
}

/// A server whose handler also learns which request this is, counting from 0.
async fn server(handler: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |request| handler(count.fetch_add(1, Ordering::SeqCst), request)).await
}

async fn download(servers: &[&Server], blob: &[u8], offset: usize) -> Result<Vec<u8>, Error> {
    let offset = u64::try_from(offset).unwrap();
    let client = client(servers);
    let last = reference(servers[servers.len() - 1]);
    let mut stream = client
        .fetch_blob(&last, &descriptor(blob), offset, &Credentials::Anonymous)
        .await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_cut_connection_is_resumed_where_it_broke() {
    let blob = blob();
    let served = blob.clone();
    let server = server(move |n, request| match n {
        0 => Reply::ok(&served).cut(100_000),
        1 => Reply::ranged(&served, request).cut(50_000),
        _ => Reply::ranged(&served, request),
    })
    .await;
    assert!(download(&[&server], &blob, 0).await.unwrap() == blob);
    let ranges: Vec<Option<usize>> = server.requests().iter().map(Request::from).collect();
    assert_eq!(ranges.len(), 3);
    assert_eq!(ranges[0], None);
    assert!(
        ranges[1].is_some_and(|from| from <= 100_000) && ranges[2] > ranges[1],
        "{ranges:?}"
    );
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_skipped_through() {
    let blob = blob();
    let served = blob.clone();
    let server = server(move |n, _| {
        if n == 0 {
            Reply::ok(&served).cut(300_000)
        } else {
            Reply::ok(&served)
        }
    })
    .await;
    assert!(download(&[&server], &blob, 0).await.unwrap() == blob);
    assert!(download(&[&server], &blob, 12_345).await.unwrap() == blob[12_345..]);
}

#[tokio::test]
async fn a_server_that_refuses_ranges_is_asked_for_the_whole() {
    let blob = blob();
    let served = blob.clone();
    let server = server(move |_, request| {
        if request.from().is_some() {
            Reply::new(416, "")
        } else {
            Reply::ok(&served)
        }
    })
    .await;
    assert!(download(&[&server], &blob, 5).await.unwrap() == blob[5..]);
}

#[tokio::test]
async fn a_wrong_range_is_not_believed() {
    let blob = blob();
    let served = blob.clone();
    let server = server(move |_, request| {
        if request.from().is_some() {
            Reply::part(&served, 7)
        } else {
            Reply::ok(&served).cut(9)
        }
    })
    .await;
    let error = download(&[&server], &blob, 0).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidAnswer);
    assert!(error.to_string().contains("Content-Range"), "{error}");
}

#[tokio::test]
async fn a_stalled_server_is_left_for_the_next_endpoint_in_mid_blob() {
    let blob = blob();
    let (first, second) = (blob.clone(), blob.clone());
    let mirror = server(move |_, request| Reply::ranged(&first, request).stall(1000)).await;
    let origin = server(move |_, request| Reply::ranged(&second, request)).await;
    assert!(download(&[&mirror, &origin], &blob, 0).await.unwrap() == blob);
    assert!(
        mirror.requests()[0]
            .path
            .contains(&format!("?ns={}", origin.host().replace(':', "%3A")))
    );
    assert_eq!(origin.requests()[0].from(), Some(1000));
}

#[tokio::test]
async fn a_server_that_only_stalls_is_given_up_with_a_clear_error() {
    let blob = blob();
    let served = blob.clone();
    let server = server(move |_, request| Reply::ranged(&served, request).stall(0)).await;
    let error = download(&[&server], &blob, 0).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("no byte arrived"), "{error}");
    assert!(error.to_string().contains(&server.host()), "{error}");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_few_bytes_now_and_then_are_a_stall_too() {
    let blob = blob();
    let (slow, fast) = (blob.clone(), blob.clone());
    let mirror = server(move |_, request| Reply::ranged(&slow, request).drip()).await;
    let origin = server(move |_, request| Reply::ranged(&fast, request)).await;
    assert!(download(&[&mirror, &origin], &blob, 0).await.unwrap() == blob);
    assert!(origin.requests()[0].from().is_some_and(|from| from > 0));
}

#[tokio::test]
async fn other_sizes_than_the_descriptors_are_errors() {
    let blob = blob();
    for (served, no_length) in [
        (blob[..blob.len() - 1].to_vec(), false),
        ([blob.as_slice(), b"x"].concat(), false),
        ([blob.as_slice(), b"x"].concat(), true),
    ] {
        let server = server(move |_, _| {
            let reply = Reply::ok(&served);
            if no_length { reply.no_length() } else { reply }
        })
        .await;
        let error = download(&[&server], &blob, 0).await.unwrap_err();
        assert_eq!(error.kind(), Kind::DigestMismatch, "{error}");
    }
    let server = server(|_, _| Reply::ok("")).await;
    assert_eq!(
        download(&[&server], &blob, blob.len() + 1)
            .await
            .unwrap_err()
            .kind(),
        Kind::DigestMismatch
    );
    assert!(download(&[&server], &blob, blob.len()).await.unwrap().is_empty());
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn endless_breaking_ends_and_a_body_without_length_works() {
    let blob = blob();
    let (first, second) = (blob.clone(), blob.clone());
    let breaking = server(move |_, request| Reply::ranged(&first, request).cut(10)).await;
    assert_eq!(
        download(&[&breaking], &blob, 0).await.unwrap_err().kind(),
        Kind::Unavailable
    );
    let plain = server(move |_, _| Reply::ok(&second).no_length()).await;
    assert!(download(&[&plain], &blob, 0).await.unwrap() == blob);
}

#[tokio::test]
async fn damaged_bytes_of_a_small_blob_are_found() {
    let blob = blob();
    let mut damaged = blob.clone();
    damaged[777] ^= 1;
    for (served, good) in [(blob.clone(), true), (damaged, false)] {
        let server = server(move |_, request| Reply::ranged(&served, request)).await;
        let wanted = descriptor(&blob);
        let small = client(&[&server])
            .fetch_small(&reference(&server), &wanted, blob.len(), &Credentials::Anonymous)
            .await;
        assert_eq!(
            small.map_err(|e| e.kind()).err(),
            (!good).then_some(Kind::DigestMismatch)
        );
    }
}

#[test]
fn content_range_is_read_strictly() {
    let read = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_RANGE, text.parse().unwrap());
        content_range(&headers).map(|range| (range.first, range.last, range.total))
    };
    assert_eq!(read("bytes 5-9/10"), Some((5, 9, Some(10))));
    assert_eq!(read("bytes 5-9/*"), Some((5, 9, None)));
    for text in [
        "",
        "bytes */10",
        "bytes 9-5/10",
        "items 5-9/10",
        "bytes 5-9",
        "bytes a-9/10",
        "bytes 5-9/x",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[tokio::test]
async fn foreign_layers_and_missing_blobs_are_refused_before_the_first_read() {
    let server = server(|_, _| Reply::new(404, "nothing here")).await;
    let mut wanted = descriptor(b"x");
    let client = client(&[&server]);
    let error = client
        .fetch_blob(&reference(&server), &wanted, 0, &Credentials::Anonymous)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(server.requests().len(), 1);
    wanted.urls.push("https://elsewhere.example/layer".into());
    let error = client
        .fetch_blob(&reference(&server), &wanted, 0, &Credentials::Anonymous)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(
        client
            .fetch_small(
                &reference(&server),
                &descriptor(b"xy"),
                1,
                &Credentials::Anonymous
            )
            .await
            .is_err()
    );
    assert_eq!(server.requests().len(), 1);
}
