//! Exchanges two files of a volume as fast as it can, so that whoever uses one of their paths twice gets another file the
//! second time. Compiled by the test that runs it in a container: see `escapes/races.rs`.
//!
//! Arguments: the two paths.

use std::ffi::{CString, c_char, c_int, c_uint};

const HERE: c_int = -100;
const RENAME_EXCHANGE: c_uint = 2;

unsafe extern "C" {
    fn renameat2(
        from: c_int,
        one: *const c_char,
        to: c_int,
        other: *const c_char,
        flags: c_uint,
    ) -> c_int;
}

fn main() {
    let mut paths = std::env::args().skip(1).map(|path| CString::new(path).unwrap());
    let (one, other) = (paths.next().unwrap(), paths.next().unwrap());
    for swaps in 0_u64.. {
        let done = unsafe { renameat2(HERE, one.as_ptr(), HERE, other.as_ptr(), RENAME_EXCHANGE) };
        assert_eq!(done, 0, "renameat2: {}", std::io::Error::last_os_error());
        if swaps % 5000 == 0 {
            println!("swapped {swaps} times");
        }
    }
}
