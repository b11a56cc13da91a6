use futures_util::StreamExt;

use super::*;

fn item(number: usize, weight: usize) -> Bytes {
    format!("{number}{}", "x".repeat(weight)).into()
}

async fn dealt(items: Vec<Bytes>) -> Vec<Vec<Bytes>> {
    messages(items)
        .map(|message| message.expect("no status").items)
        .collect()
        .await
}

#[tokio::test]
async fn nothing_is_no_message() {
    assert!(dealt(Vec::new()).await.is_empty());
}

#[tokio::test]
async fn every_item_comes_once_and_in_order() {
    let items: Vec<_> = (0..2 * ITEMS + 1).map(|number| item(number, 0)).collect();
    let packs = dealt(items.clone()).await;
    let sizes: Vec<_> = packs.iter().map(Vec::len).collect();
    assert_eq!(sizes, [ITEMS, ITEMS, 1]);
    assert_eq!(packs.concat(), items);
}

#[tokio::test]
async fn large_items_make_small_messages() {
    let items: Vec<_> = (0..10).map(|number| item(number, BYTES / 2)).collect();
    let packs = dealt(items.clone()).await;
    assert_eq!(packs.concat(), items);
    for pack in packs {
        let size: usize = pack.iter().map(Bytes::len).sum();
        assert!(size <= BYTES || pack.len() == 1, "{size} bytes in {}", pack.len());
    }
}
