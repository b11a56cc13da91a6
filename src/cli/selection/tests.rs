use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Alone {
    #[command(flatten)]
    selection: Selection,
}

const ID: &str = "0123456789abcdef0123456789abcdef";

/// Whether the pod default/web-0 with two labels is meant.
fn has(line: &str) -> bool {
    let words = std::iter::once("pausa").chain(line.split_whitespace());
    let Alone { selection } = Alone::try_parse_from(words).unwrap();
    let labels = [("app", "web"), ("tier", "")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    selection.has("default", "web-0", ID, &labels.into())
}

#[test]
fn what_is_not_asked_for_does_not_matter() {
    for line in [
        "",
        "-n default",
        "--namespace other --namespace default",
        "--pod web-0",
        "--pod other --pod web-0",
        "--pod 0123456789ab",
        "--pod 0123456789abcdef0123456789abcdef",
        "--label app",
        "--label app=web --label tier=",
        "-n default --pod web-0 -l tier",
    ] {
        assert!(has(line), "{line}");
    }
}

#[test]
fn all_of_it_has_to_be_so() {
    for line in [
        "-n other",
        "--pod web",
        "--pod web-0x",
        // Too short to be meant as an id.
        "--pod 0123456789a",
        "--label app=we",
        "--label tier=web",
        "--label app --label none",
        "-n other --pod web-0",
        "-n default --pod web-0 -l app=db",
    ] {
        assert!(!has(line), "{line}");
    }
}
