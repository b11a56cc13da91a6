//! A terminal for programs that draw on one.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command};

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
        .read(true)
        .write(true)
        .open(Path::new(side.to_str().expect("UTF-8")));
    (terminal.into(), side.expect("its other side"))
}

/// What a program shows on a terminal.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: File,
    shown: String,
}

impl Screen {
    /// Runs a program with colours on a terminal of a size.
    pub(crate) fn run(program: &mut Command, rows: u16, columns: u16) -> (Child, Self) {
        let (terminal, side) = terminal(rows, columns);
        let child = program
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .stdout(side)
            .spawn()
            .expect("the program");
        let shown = String::new();
        (child, Self { terminal, shown })
    }

    /// Everything that was shown, once that is enough.
    pub(crate) fn until(&mut self, enough: impl Fn(&str) -> bool) -> &str {
        let mut buffer = [0; 4096];
        while !enough(&self.shown) {
            let count = self.terminal.read(&mut buffer).expect("output");
            let text = std::str::from_utf8(&buffer[..count]);
            self.shown.push_str(text.expect("UTF-8, in whole lines"));
        }
        &self.shown
    }
}

/// The first two frames that were drawn at the same place: the beginning of the third one is the end of the second one.
pub(crate) fn two_frames(screen: &mut Screen) -> Vec<String> {
    const HOME: &str = "\x1b[H";
    let shown = screen.until(|shown| shown.matches(HOME).count() >= 3);
    shown.split(HOME).skip(1).take(2).map(str::to_owned).collect()
}
