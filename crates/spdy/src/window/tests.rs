use super::*;

#[test]
fn a_send_window_goes_down_up_and_below_zero() {
    let mut window = SendWindow::new(100);
    window.spend(60);
    assert_eq!(window.available(), 40);
    window.change(-50).unwrap();
    assert_eq!(window.available(), 0, "SETTINGS took away what was used");
    window.change(9).unwrap();
    assert_eq!(window.available(), 0);
    window.change(2).unwrap();
    assert_eq!(window.available(), 1);
}

#[test]
fn a_send_window_ends_at_31_bits() {
    let mut window = SendWindow::new(StreamId::MAX);
    assert_eq!(window.change(1), Err(Violation::WindowOverflow));
    window.spend(1);
    assert_eq!(window.change(1), Ok(()));
}

#[test]
fn credit_is_given_in_halves() {
    let mut window = RecvWindow::new(100);
    assert!(window.receive(100));
    window.release(49);
    assert_eq!(window.credit(), None);
    window.release(1);
    assert_eq!(window.credit(), Some(50));
    assert_eq!(window.credit(), None, "once");
    assert!(window.receive(50));
    assert!(!window.receive(1), "one more than allowed");
}
