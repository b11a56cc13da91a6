//! Any bytes as a database of bbolt: every walk through it ends, and a search finds what a walk has found.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pausa_bolt::{Bucket, Db, Value};

/// A database can have a bucket in itself.
const DEPTH: usize = 4;

fn walk(bucket: &Bucket<'_>, depth: usize, left: &mut usize) {
    for entry in bucket {
        let Ok((key, value)) = entry else { return };
        // Pages may overlap; what they add up to is the reader's limit, not ours.
        let Some(fewer) = left.checked_sub(1) else { return };
        *left = fewer;
        drop(bucket.get(key));
        if let (Value::Bucket(inner), true) = (value, depth > 0) {
            walk(&inner, depth - 1, left);
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(db) = Db::open(bytes) {
        walk(&db.root(), DEPTH, &mut 10_000);
    }
});
