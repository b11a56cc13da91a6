use std::collections::BTreeMap;
use std::path::Path;

use super::*;

fn flags(args: &[&str]) -> Flags {
    let all = ["pausa", "serve"].iter().chain(args);
    match Cli::try_parse_from(all).unwrap().command {
        Command::Serve(flags) => flags,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_shell_gets_a_script_that_asks_this_program() {
    use clap::ValueEnum as _;
    for shell in clap_complete::Shell::value_variants() {
        let shells = clap_complete::env::Shells::builtins();
        let mut script = Vec::new();
        let completer = shells.completer(&shell.to_string()).unwrap();
        completer
            .write_registration(COMPLETE, "pausa", "pausa", "pausa", &mut script)
            .unwrap();
        assert!(String::from_utf8(script).unwrap().contains(COMPLETE), "{shell}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    fn pages(command: &clap::Command, name: &str, all: &mut BTreeMap<String, String>) {
        let about = command.get_about().unwrap().to_string();
        all.insert(format!("{name}.1"), about);
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            pages(below, &format!("{name}-{}", below.get_name()), all);
        }
    }
    let mut expected = BTreeMap::new();
    pages(&Cli::command(), "pausa", &mut expected);
    assert!(expected.contains_key("pausa-image-pull.1"), "{expected:?}");
    let dir = tempfile::tempdir().unwrap();
    man(dir.path()).unwrap();
    let written = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(written, expected.len(), "{expected:?}");
    for (page, about) in expected {
        let text = std::fs::read_to_string(dir.path().join(&page)).unwrap();
        assert!(text.starts_with(".ie"), "{page} is no roff: {text}");
        let first = about.split([' ', '`', '-']).next().unwrap();
        assert!(text.contains(&format!(r"\- {first}")), "{page}: {text}");
    }
    assert!(
        man(Path::new("/nowhere"))
            .unwrap_err()
            .to_string()
            .contains("/nowhere")
    );
}

#[test]
fn flags_override_files_and_files_override_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, "root = \"/from-file\"\nstate = \"/from-file-too\"\n").unwrap();
    let config = flags(&[
        "--config",
        file.to_str().unwrap(),
        "--root",
        "/from-flag",
        "--network",
        "bridge",
        "--cgroup-driver",
        "systemd",
        "--cni-bin-dir",
        "/one",
        "--cni-bin-dir",
        "/two",
        "--log-level",
        "debug",
    ])
    .config()
    .unwrap();
    assert_eq!(config.root, Path::new("/from-flag"));
    assert_eq!(config.state, Path::new("/from-file-too"));
    assert_eq!(config.network.mode, NetworkMode::Bridge);
    assert_eq!(config.cgroup_driver, CgroupDriver::Systemd);
    assert_eq!(config.cni.bin_dir, [Path::new("/one"), Path::new("/two")]);
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.listen, config::DEFAULT_LISTEN);
}

#[test]
fn a_flag_is_judged_like_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, "").unwrap();
    let error = flags(&["--config", file.to_str().unwrap(), "--root", "relative"])
        .config()
        .unwrap_err();
    assert!(matches!(error, ConfigError::Value { key: "root", .. }));
}
