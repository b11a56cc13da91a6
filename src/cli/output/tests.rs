use super::*;

#[test]
fn columns_are_as_wide_as_they_must_be() {
    let mut table = Table::new(["NAME", "SIZE>", "LAST"]);
    table.row(["a".into(), "1 B".into(), String::new()]);
    table.row(["longer".into(), "20.0 MiB".into(), "x".into()]);
    assert_eq!(
        table.render(),
        "NAME         SIZE   LAST\n\
         a             1 B\n\
         longer   20.0 MiB   x\n"
    );
}

#[test]
fn hostile_text_cannot_drive_the_terminal() {
    assert_eq!(escape("a\x1b[2Jb\nc\u{9b}"), "a\\u{1b}[2Jb\\nc\\u{9b}");
    let mut table = Table::new(["X"]);
    table.row(["\x1b]0;title\x07".into()]);
    assert!(!table.render().contains('\x1b'));
}

struct Closed(io::ErrorKind);

impl io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_is_told_from_a_full_disk() {
    let closed = write_to(&mut Closed(io::ErrorKind::BrokenPipe), b"x").unwrap_err();
    assert!(crate::cli::failure::exit_code(&closed).is_none());
    let full = write_to(&mut Closed(io::ErrorKind::StorageFull), b"x").unwrap_err();
    assert!(crate::cli::failure::exit_code(&full).is_some());
}
