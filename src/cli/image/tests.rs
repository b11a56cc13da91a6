use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Alone {
    #[command(flatten)]
    image: ImageArgs,
}

fn parsed(line: &str) -> Result<ImageArgs, clap::Error> {
    let words = std::iter::once("image").chain(line.split_whitespace());
    Alone::try_parse_from(words).map(|alone| alone.image)
}

#[test]
fn flags_may_stand_before_and_behind_the_command() {
    for line in [
        "--address unix:///x.sock -o json ls",
        "ls --address /x.sock -o json",
        "ls --address unix:///x.sock --output json",
        "ls --listen unix:///x.sock --output=json",
    ] {
        let args = parsed(line).unwrap();
        assert_eq!(args.output.format, Format::Json, "{line}");
        assert_eq!(
            args.client.socket().unwrap(),
            std::path::Path::new("/x.sock"),
            "{line}"
        );
    }
}

#[test]
fn an_address_that_is_no_path_is_wrong_usage() {
    for address in ["tcp://127.0.0.1:1", "relative.sock", "unix://relative"] {
        let error = parsed(&format!("ls --address {address}"))
            .unwrap()
            .client
            .socket()
            .unwrap_err();
        assert!(error.to_string().contains(address), "{error}");
    }
}

#[test]
fn commands_that_need_an_image_say_so() {
    for line in ["rm", "inspect", "pull"] {
        let error = parsed(line).unwrap_err();
        assert_eq!(
            error.kind(),
            clap::error::ErrorKind::MissingRequiredArgument,
            "{line}"
        );
    }
}
