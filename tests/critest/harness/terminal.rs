//! A terminal for programs that draw on one.

use std::fs::File;
use std::path::Path;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A terminal of a size: the side of who looks at it, and that of the program.
pub(crate) fn terminal(rows: u16, columns: u16) -> (File, File) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).expect("its other side");
    unlockpt(&terminal).expect("its other side");
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&terminal, size).expect("a size");
    let side = ptsname(&terminal, Vec::new()).expect("a name");
    let side = File::options()
        .write(true)
        .open(Path::new(side.to_str().expect("UTF-8")));
    (terminal.into(), side.expect("its other side"))
}
