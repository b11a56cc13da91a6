use oci_spec::image::ConfigBuilder;

use super::*;
use crate::config::Handler;

fn list(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn image(entrypoint: &[&str], cmd: &[&str]) -> Config {
    ConfigBuilder::default()
        .entrypoint(list(entrypoint))
        .cmd(list(cmd))
        .build()
        .unwrap()
}

fn config(command: &[&str], args: &[&str]) -> v1::ContainerConfig {
    v1::ContainerConfig {
        command: list(command),
        args: list(args),
        ..Default::default()
    }
}

#[test]
fn command_and_args_against_entrypoint_and_cmd() {
    let image = image(&["entry"], &["cmd"]);
    for (command, args, expected) in [
        (&[][..], &[][..], &["entry", "cmd"][..]),
        (&[], &["a"], &["entry", "a"]),
        (&["c"], &[], &["c"]),
        (&["c"], &["a"], &["c", "a"]),
    ] {
        let got = super::args(&config(command, args), Some(&image)).unwrap();
        assert_eq!(got, expected, "{command:?} {args:?}");
    }
}

#[test]
fn nothing_to_run_is_said_so() {
    let nothing = super::args(&config(&[], &[]), None).unwrap_err();
    assert!(nothing.to_string().contains("no command specified"));
    assert!(super::args(&config(&[""], &[]), None).is_err());
    assert!(super::args(&config(&["a\0b"], &[]), None).is_err());
}

fn environment(image: &[&str], cri: &[(&str, &[u8])], tty: bool) -> Result<Vec<String>, OciError> {
    let image = ConfigBuilder::default().env(list(image)).build().unwrap();
    let config = v1::ContainerConfig {
        envs: cri
            .iter()
            .map(|(key, value)| v1::KeyValue {
                key: (*key).to_owned(),
                value: value.to_vec(),
            })
            .collect(),
        tty,
        ..Default::default()
    };
    let env = env(&config, Some(&image), "web", "/home/me", &Handler::default())?;
    Ok(env
        .iter()
        .map(|entry| String::from_utf8_lossy(entry).into_owned())
        .collect())
}

/// The handler's variables are the weakest, but for the default PATH and the host name.
#[test]
fn a_handlers_variables_come_first() {
    let image = ConfigBuilder::default().env(list(&["B=image"])).build().unwrap();
    let variables = ["PATH=/handler", "HOME=/handler", "A=handler", "B=handler"];
    let handler = Handler {
        default_env: variables.map(|text| text.to_owned().try_into().unwrap()).into(),
        ..Handler::default()
    };
    let env = env(
        &v1::ContainerConfig::default(),
        Some(&image),
        "web",
        "/home/me",
        &handler,
    );
    let expected = [
        "PATH=/handler",
        "HOSTNAME=web",
        "HOME=/handler",
        "A=handler",
        "B=image",
    ];
    assert_eq!(env.unwrap(), expected.map(|entry| entry.as_bytes().to_vec()));
}

#[test]
fn later_variables_win_and_nothing_is_twice() {
    let env = environment(
        &["PATH=/image", "A=image", "HOSTNAME=image", "broken", "=nameless"],
        &[("A", b"first"), ("A", b"last"), ("HOME", b"/cri")],
        true,
    );
    assert_eq!(
        env.unwrap(),
        [
            "PATH=/image",
            "HOSTNAME=image",
            "A=last",
            "HOME=/cri",
            "TERM=xterm"
        ]
    );
}

#[test]
fn what_nobody_set_has_a_default() {
    let env = environment(&[], &[], false).unwrap();
    assert_eq!(env, [DEFAULT_PATH, "HOSTNAME=web", "HOME=/home/me"]);
    let env = environment(&[], &[("TERM", b"vt100")], true).unwrap();
    assert!(env.contains(&"TERM=vt100".to_owned()) && !env.contains(&"TERM=xterm".to_owned()));
}

#[test]
fn impossible_variables_are_refused_without_showing_the_value() {
    for key in ["", "A=B", "A\0"] {
        assert!(environment(&[], &[(key, b"x")], false).is_err(), "{key:?}");
    }
    let error = environment(&[], &[("PASSWORD", b"secret\0")], false).unwrap_err();
    assert!(error.to_string().contains("PASSWORD") && !error.to_string().contains("secret"));
}

#[test]
fn bytes_that_are_no_text_come_through_the_spec() {
    let exact = vec![b"A=plain".to_vec(), b"B=\xff\x80".to_vec()];
    let (readable, annotation) = to_spec(&exact);
    assert_eq!(readable, ["A=plain", "B=\u{fffd}\u{fffd}"]);
    let annotations = HashMap::from([(EXACT_ENV.to_owned(), annotation.unwrap())]);
    assert_eq!(from_spec(Some(&readable), Some(&annotations)).unwrap(), exact);
    assert_eq!(to_spec(&exact[..1]).1, None);
    for broken in ["", "{\"7\":\"QQ==\"}", "{\"0\":\"?\"}"] {
        let annotations = HashMap::from([(EXACT_ENV.to_owned(), broken.to_owned())]);
        assert!(
            from_spec(Some(&readable), Some(&annotations)).is_err(),
            "{broken}"
        );
    }
}

#[test]
fn working_directory() {
    let of = |cri: &str, image: &str| {
        let config = v1::ContainerConfig {
            working_dir: cri.to_owned(),
            ..Default::default()
        };
        let image = ConfigBuilder::default().working_dir(image).build().unwrap();
        cwd(&config, Some(&image))
    };
    assert_eq!(of("/cri", "/image").unwrap(), PathBuf::from("/cri"));
    assert_eq!(of("", "/image").unwrap(), PathBuf::from("/image"));
    assert_eq!(of("", "app").unwrap(), PathBuf::from("/app"));
    assert_eq!(of("", "").unwrap(), PathBuf::from("/"));
    assert!(of("relative", "").is_err());
    assert!(of("/a\0", "").is_err());
}
