use super::*;

#[test]
fn sizes_have_three_digits_and_a_binary_unit() {
    for (bytes, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (20 << 20, "20.0 MiB"),
        (312 << 20, "312 MiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (1_048_000, "1023 KiB"),
        (5 << 30, "5.0 GiB"),
        (u64::MAX, "16.0 EiB"),
    ] {
        assert_eq!(size(bytes), text, "{bytes}");
    }
}

#[test]
fn durations_have_at_most_two_parts() {
    for (seconds, text) in [
        (0.04, "0.0 s"),
        (1.86, "1.9 s"),
        (59.99, "59.9 s"),
        (60.0, "1m 0s"),
        (125.9, "2m 5s"),
        (12_000.0, "3h 20m"),
        (350_000.0, "4d 1h"),
    ] {
        assert_eq!(duration(Duration::from_secs_f64(seconds)), text, "{seconds}");
    }
}

#[test]
fn ids_are_shortened_as_crictl_does() {
    let whole = format!("sha256:{}", "ab".repeat(32));
    assert_eq!(id(&whole, false), "abababababab".to_owned() + "a");
    assert_eq!(id(&whole, true), whole);
    assert_eq!(id("short", false), "short");
}
