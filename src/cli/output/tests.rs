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

#[test]
fn columns_are_left_out() {
    let mut table = Table::new(["NAME", "SIZE>", "NONE>", "LAST>"]);
    table.row(["a".into(), "1 B".into(), "-".into(), "-".into()]);
    table.row(["b".into(), "20.0 MiB".into(), "-".into(), "9".into()]);
    table.hide_columns_of("-");
    let all = "NAME       SIZE   LAST\n\
               a           1 B      -\n\
               b      20.0 MiB      9\n";
    assert_eq!(table.render(), all);
    let expendable = ["NONE>", "LAST>", "SIZE>"];
    table.fit(22, &expendable);
    assert_eq!(table.render(), all);
    table.fit(21, &expendable);
    assert_eq!(
        table.render(),
        "NAME       SIZE\na           1 B\nb      20.0 MiB\n"
    );
    table.fit(1, &expendable);
    assert_eq!(table.render(), "NAME\na\nb\n");
}
