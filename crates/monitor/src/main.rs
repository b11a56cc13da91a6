//! The monitor of one pod. Started by the pausa daemon, never by hand: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    pausa_monitor::run(&pausa_monitor::Builtin)
}
