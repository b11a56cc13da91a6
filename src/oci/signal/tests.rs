use proptest::prelude::*;

use super::*;

#[test]
fn all_spellings() {
    for (text, number) in [
        ("TERM", 15),
        ("SIGTERM", 15),
        ("sigterm", 15),
        ("15", 15),
        ("SIGCLD", 17),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("rtmax-14", 50),
        ("SIGRTMAX", 64),
        ("64", 64),
    ] {
        assert_eq!(Signal::parse(text).map(Signal::number), Some(number), "{text}");
    }
    for text in [
        "", "SIG", "0", "65", "-9", "SIGFOO", "RTMIN+31", "RTMIN+", "RTMIN++1", "RTMAX-31", "RTMIN-1",
        "TERM ",
    ] {
        assert_eq!(Signal::parse(text), None, "{text}");
    }
}

#[test]
fn every_signal_of_cri_has_a_number_and_comes_back() {
    for value in 1..=65 {
        let signal = Signal::from_cri(value).unwrap_or_else(|| panic!("{value}"));
        let back = signal.to_cri().unwrap();
        assert_eq!(Signal::from_cri(back as i32), Some(signal));
    }
    assert_eq!(
        Signal::from_cri(v1::Signal::Sigusr1 as i32).map(Signal::number),
        Some(10)
    );
    assert_eq!(
        Signal::from_cri(v1::Signal::Sigrtminplus15 as i32).map(Signal::number),
        Some(49)
    );
    assert_eq!(
        Signal::from_cri(v1::Signal::Sigrtmaxminus14 as i32).map(Signal::number),
        Some(50)
    );
    assert_eq!(Signal::from_cri(0), None);
    assert_eq!(Signal::from_cri(1000), None);
}

#[test]
fn cri_wins_over_the_image_and_nonsense_is_term() {
    let usr1 = v1::Signal::Sigusr1 as i32;
    assert_eq!(stop_signal(usr1, Some("QUIT")).number(), 10);
    assert_eq!(stop_signal(0, Some("QUIT")).number(), 3);
    assert_eq!(stop_signal(0, Some("please")), Signal::TERM);
    assert_eq!(stop_signal(0, None), Signal::TERM);
}

proptest! {
    #[test]
    fn what_is_read_can_be_sent(text in "(SIG|RTM(IN|AX)|\\PC){0,3}[+-]?[0-9]{0,12}") {
        if let Some(signal) = Signal::parse(&text) {
            prop_assert!((1..=64).contains(&signal.number()));
        }
    }
}
