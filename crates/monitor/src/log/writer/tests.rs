use std::io::Write;

use proptest::prelude::*;
use rustix::io::Errno;

use super::{Dropped, Writer};

/// A file that accepts as many bytes per call as its script says, and everything after its end.
struct Scripted {
    script: Vec<Option<usize>>,
    file: Vec<u8>,
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = if self.script.is_empty() {
            Some(usize::MAX)
        } else {
            self.script.remove(0)
        };
        let taken = room.ok_or(Errno::NOSPC)?.min(bytes.len());
        self.file.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn writer(script: &[Option<usize>]) -> Writer<Scripted> {
    Writer::new(Scripted {
        script: script.to_vec(),
        file: Vec::new(),
    })
}

#[test]
fn a_torn_entry_is_completed_before_the_next_one() {
    let mut writer = writer(&[Some(3), None]);
    writer.write(b"one\ntwo\n");
    assert_eq!(writer.file.file, b"one");
    writer.write(b"three\n");
    assert_eq!(writer.file.file, b"one\nthree\n");
    assert_eq!(
        writer.take_dropped(),
        Some(Dropped {
            bytes: 4,
            errno: Errno::NOSPC.raw_os_error()
        })
    );
    assert_eq!(writer.take_dropped(), None);
}

#[test]
fn a_full_disk_drops_entries_and_goes_on() {
    let mut writer = writer(&[None, None]);
    writer.write(b"lost\n");
    writer.write(b"lost too\n");
    writer.write(b"kept\n");
    assert_eq!(writer.file.file, b"kept\n");
    assert_eq!(writer.take_dropped().map(|dropped| dropped.bytes), Some(14));
}

#[test]
fn a_short_write_is_continued() {
    let mut writer = writer(&[Some(1), Some(2), Some(1)]);
    writer.write(b"whole\n");
    assert_eq!(writer.file.file, b"whole\n");
    assert!(!writer.has_dropped());
}

#[test]
fn the_other_file_begins_with_a_whole_entry() {
    let mut writer = writer(&[Some(3), None, None]);
    writer.write(b"torn\n");
    writer.replace(Scripted {
        script: Vec::new(),
        file: Vec::new(),
    });
    writer.write(b"next\n");
    assert_eq!(writer.file.file, b"next\n");
    assert_eq!(writer.take_dropped().map(|dropped| dropped.bytes), Some(2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_file_holds_whole_entries_in_order_and_the_rest_is_counted(
        batches in proptest::collection::vec(proptest::collection::vec(0_usize..9, 1..5), 1..12),
        script in proptest::collection::vec(proptest::option::of(0_usize..12), 0..20),
    ) {
        let mut writer = writer(&script);
        let (mut number, mut total, mut all) = (0_u32, 0, Vec::new());
        for batch in batches {
            let mut bytes = Vec::new();
            for padding in batch {
                let entry = format!("{number}{}\n", "x".repeat(padding));
                bytes.extend_from_slice(entry.as_bytes());
                all.push(entry);
                number += 1;
            }
            total += bytes.len();
            writer.write(&bytes);
        }
        writer.complete_torn_entry();
        let counted = usize::try_from(writer.dropped).unwrap() + writer.torn.len();
        prop_assert_eq!(writer.file.file.len() + counted, total);
        let text = String::from_utf8(writer.file.file.clone()).unwrap();
        let mut expected = all.iter();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text[..whole].split_inclusive('\n') {
            prop_assert!(expected.any(|entry| entry == line), "{line:?} is no entry, twice or out of order");
        }
        let torn = &text[whole..];
        prop_assert!(torn.is_empty() == writer.torn.is_empty());
    }
}
