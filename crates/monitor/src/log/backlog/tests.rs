use proptest::prelude::*;
use rustix::io::Errno;

use super::{Backlog, Dropped};

/// A log file that accepts as many bytes per write as its script says, and everything after its end.
struct Log {
    script: Vec<Option<usize>>,
    file: Vec<u8>,
    backlog: Backlog,
    dropped: Dropped,
}

impl Log {
    fn new(script: &[Option<usize>]) -> Self {
        Self {
            script: script.to_vec(),
            file: Vec::new(),
            backlog: Backlog::new(),
            dropped: Dropped::default(),
        }
    }

    /// Appends entries, some of which come while earlier ones are being written.
    fn write(&mut self, entries: &[u8]) {
        let middle = memchr::memchr(b'\n', entries).map_or(0, |end| end + 1);
        self.backlog.entries().extend_from_slice(&entries[..middle]);
        self.write_backlog(&entries[middle..]);
        self.write_backlog(&[]);
    }

    fn write_backlog(&mut self, meanwhile: &[u8]) {
        let batch = self.backlog.take();
        self.backlog.entries().extend_from_slice(meanwhile);
        let mut written = 0;
        while written < batch.bytes.len() {
            let room = if self.script.is_empty() {
                Some(usize::MAX)
            } else {
                self.script.remove(0)
            };
            let Some(room) = room else { break };
            let taken = room.min(batch.bytes.len() - written);
            self.file
                .extend_from_slice(&batch.bytes[written..written + taken]);
            written += taken;
        }
        let (backlog, dropped) = (&mut self.backlog, &mut self.dropped);
        backlog.settle(&batch.bytes, batch.torn, written, Errno::NOSPC, dropped);
    }
}

fn dropped(bytes: u64) -> Dropped {
    Dropped {
        bytes,
        errno: Errno::NOSPC.raw_os_error(),
    }
}

#[test]
fn a_torn_entry_is_completed_before_the_next_one() {
    let mut log = Log::new(&[Some(3), None]);
    log.backlog.entries().extend_from_slice(b"one\ntwo\n");
    log.write_backlog(b"");
    assert_eq!(log.file, b"one");
    assert!(log.backlog.has_no_whole_entry() && !log.backlog.is_empty());
    log.write(b"three\n");
    assert_eq!(log.file, b"one\nthree\n");
    assert_eq!(log.dropped, dropped(4));
}

#[test]
fn a_full_disk_drops_entries_and_goes_on() {
    let mut log = Log::new(&[None, None]);
    log.write(b"lost\n");
    log.write(b"lost too\n");
    log.write(b"kept\n");
    assert_eq!(log.file, b"kept\n");
    assert_eq!(log.dropped, dropped(14));
}

#[test]
fn a_short_write_is_continued() {
    let mut log = Log::new(&[Some(1), Some(2), Some(1)]);
    log.write(b"whole\n");
    assert_eq!(log.file, b"whole\n");
    assert_eq!(log.dropped, Dropped::default());
}

#[test]
fn a_torn_entry_that_stays_torn_costs_the_ones_after_it() {
    let mut log = Log::new(&[Some(3), None, Some(1), None]);
    log.backlog.entries().extend_from_slice(b"torn\n");
    log.write_backlog(b"next\n");
    log.write_backlog(b"");
    assert_eq!(log.file, b"torn");
    assert_eq!(log.dropped, dropped(5));
    log.backlog.drop_all(None, &mut log.dropped);
    assert_eq!(log.dropped, dropped(6));
    assert!(log.backlog.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_file_holds_whole_entries_in_order_and_the_rest_is_counted(
        batches in proptest::collection::vec(proptest::collection::vec(0_usize..9, 1..5), 1..12),
        script in proptest::collection::vec(proptest::option::of(0_usize..12), 0..20),
    ) {
        let mut log = Log::new(&script);
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
            log.write(&bytes);
        }
        log.write_backlog(&[]);
        let counted = usize::try_from(log.dropped.bytes).unwrap() + log.backlog.len();
        prop_assert_eq!(log.file.len() + counted, total);
        prop_assert!(log.backlog.has_no_whole_entry());
        let text = String::from_utf8(log.file.clone()).unwrap();
        let mut expected = all.iter();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text[..whole].split_inclusive('\n') {
            prop_assert!(expected.any(|entry| entry == line), "{line:?} is no entry, twice or out of order");
        }
        let torn = &text[whole..];
        prop_assert!(torn.is_empty() == log.backlog.is_empty());
    }
}
