//! The server-streaming twins of List calls (Kubernetes 0.36): the same items in several messages, because
//! a client takes no message above 16 MiB.
//!
//! Invariants: every item once, in order; no message without an item; no items, no message.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use tonic::Status;

use crate::proto::lists::List;

/// The messages of one answer.
pub(super) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Items in one message at most.
const ITEMS: usize = 200;
/// Encoded items in one message at most, if it is more than one item.
const BYTES: usize = 4 * 1024 * 1024;

/// Deals encoded `items` out to messages.
pub(super) fn messages(items: Vec<Bytes>) -> Messages<List> {
    let packs = pack(items).into_iter().map(|items| Ok(List { items }));
    Box::pin(futures_util::stream::iter(packs.collect::<Vec<_>>()))
}

fn pack(items: Vec<Bytes>) -> Vec<Vec<Bytes>> {
    let mut packs: Vec<Vec<Bytes>> = Vec::new();
    let mut size = 0;
    for item in items {
        let more = item.len();
        match packs.last_mut() {
            Some(pack) if pack.len() < ITEMS && size + more <= BYTES => {
                size += more;
                pack.push(item);
            }
            _ => {
                size = more;
                packs.push(vec![item]);
            }
        }
    }
    packs
}

#[cfg(test)]
mod tests;
