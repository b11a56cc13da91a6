use futures_util::StreamExt;

use super::*;
use crate::proto::v1;

fn container(id: usize, weight: usize) -> v1::Container {
    v1::Container {
        id: id.to_string(),
        image_ref: "x".repeat(weight),
        ..Default::default()
    }
}

async fn dealt(items: Vec<v1::Container>) -> Vec<Vec<v1::Container>> {
    messages(items, |containers| v1::StreamContainersResponse { containers })
        .map(|message| message.expect("no status").containers)
        .collect()
        .await
}

#[tokio::test]
async fn nothing_is_no_message() {
    assert!(dealt(Vec::new()).await.is_empty());
}

#[tokio::test]
async fn every_item_comes_once_and_in_order() {
    let items: Vec<_> = (0..2 * ITEMS + 1).map(|id| container(id, 0)).collect();
    let packs = dealt(items.clone()).await;
    let sizes: Vec<_> = packs.iter().map(Vec::len).collect();
    assert_eq!(sizes, [ITEMS, ITEMS, 1]);
    assert_eq!(packs.concat(), items);
}

#[tokio::test]
async fn large_items_make_small_messages() {
    let items: Vec<_> = (0..10).map(|id| container(id, BYTES / 2)).collect();
    let packs = dealt(items.clone()).await;
    assert_eq!(packs.concat(), items);
    for pack in packs {
        let size: usize = pack.iter().map(Message::encoded_len).sum();
        assert!(size <= BYTES || pack.len() == 1, "{size} bytes in {}", pack.len());
    }
}
