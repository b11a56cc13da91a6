use super::*;

#[test]
fn writable_anonymous_memory_is_found() {
    let line = b"7f00a0000000-7f00a0021000 rw-p 00000000 00:00 0 ";
    assert_eq!(anonymous_range(line), Some((0x7f00_a000_0000, 0x7f00_a002_1000)));
    let line = b"55d0-66d0 rw-p 00000000 00:00 0                          [heap]";
    assert_eq!(anonymous_range(line), Some((0x55d0, 0x66d0)));
    assert_eq!(
        anonymous_range(b"00400000-00452000 rw-p 00000000 08:02 17  /usr/bin/pausa"),
        None
    );
    assert_eq!(
        anonymous_range(b"7fff0000-7fff1000 r-xp 00000000 00:00 0    [vdso]"),
        None
    );
    for strange in [
        "",
        "x",
        "1-2",
        "1-z rw-p 0 00:00 0",
        "a rw-p 0 00:00 0",
        "1-2 rw-p",
    ] {
        assert_eq!(anonymous_range(strange.as_bytes()), None, "{strange}");
    }
}

#[test]
fn copies_are_aligned_and_stay() {
    let memory = ChildMemory::new().unwrap();
    let byte = memory.copy(&[7_u8]).unwrap();
    let numbers = memory.copy(&[1_u64, 2, 3]).unwrap();
    let text = memory.copy_c_str(c"text").unwrap();
    assert_eq!((byte, numbers, text), (&[7][..], &[1, 2, 3][..], c"text"));
    assert!(memory.copy::<u64>(&[]).unwrap().is_empty());
}

#[test]
fn what_does_not_fit_is_refused() {
    let memory = ChildMemory::new().unwrap();
    let large = vec![1_u8; DATA - 8];
    assert_eq!(memory.copy(&large).unwrap().len(), large.len());
    assert_eq!(memory.copy(&[0_u8; 9]), Err(Errno::TOOBIG));
    assert_eq!(memory.copy(&[0_u8; 8]).unwrap().len(), 8);
}

/// Runs in the child. Exits with 0 if its memory holds what it should.
fn compare(argument: &(&str, usize)) -> i32 {
    let (text, own_stack) = *argument;
    let local = 0_u8;
    i32::from(text != "for the child" || (&raw const local).addr() == own_stack)
}

#[test]
fn a_bare_child_runs_on_its_own_memory() {
    let memory = ChildMemory::new().unwrap();
    let text = memory.copy_str("for the child").unwrap();
    let local = 0_u8;
    let argument = (text, (&raw const local).addr());
    // SAFETY: `compare` uses only its argument and its stack, so that other threads of this test do not matter.
    let pid = unsafe { clone_bare(BareCloneArgs::default(), &memory, argument, compare) }.unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let (_, status) = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())
        .unwrap()
        .unwrap();
    assert_eq!(status.exit_status(), Some(0));
}
