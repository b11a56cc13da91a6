//! Plugins that the set starts: this test program itself, behind a script that begins [`plugin`].

use std::fs::{Permissions, create_dir, read_to_string, set_permissions, write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::*;

/// A directory with plugins, each of which does what its name says.
fn directory(names: &[&str]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for name in ["plugins", "conf.d"] {
        create_dir(directory.path().join(name)).unwrap();
    }
    let program = std::env::current_exe().unwrap();
    for name in names {
        let path = directory.path().join("plugins").join(name);
        let test = "--exact --ignored plugins::tests::launched::plugin";
        write(
            &path,
            format!("#!/bin/sh\nexec '{}' {test} <&3\n", program.display()),
        )
        .unwrap();
        set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
    directory
}

async fn start(names: &[&str], change: impl FnOnce(&mut Settings, &TempDir)) -> Node {
    let directory = directory(names);
    let mut settings = settings(&directory);
    change(&mut settings, &directory);
    Node::start_in(directory, settings).await
}

/// What a started plugin does. Its connection is its standard input.
#[tokio::test]
#[ignore = "is a plugin that other tests start"]
async fn plugin() {
    let Ok(name) = std::env::var("NRI_PLUGIN_NAME") else {
        return;
    };
    if name == "dies" {
        return;
    }
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    socket.set_nonblocking(true).unwrap();
    let mut plugin = FakePlugin::new(tokio::net::UnixStream::from_std(socket).unwrap());
    if name == "hangs" {
        return std::future::pending().await;
    }
    // The runtime knows it by the name of its file.
    plugin.register("00", "other").await.unwrap();
    let configure = plugin
        .answer_next("Configure", &ConfigureResponse { events: 1 })
        .await;
    let config = configure.decode::<ConfigureRequest>().config;
    plugin
        .answer_next("Synchronize", &SynchronizeResponse::default())
        .await;
    loop {
        let call = plugin.called().await;
        if call.method == "RunPodSandbox" && name == "faints" {
            return;
        }
        if call.method == "Shutdown" && !config.is_empty() {
            write(&config, "told").unwrap();
        }
        plugin.answer(call.stream, &Empty {}).await;
    }
}

fn exists(status: &PluginStatus) -> bool {
    std::path::Path::new("/proc")
        .join(status.pid.unwrap().to_string())
        .exists()
}

#[tokio::test]
async fn installed_plugins_are_in_the_set_from_the_start_until_the_end() {
    let node = start(&["20-b", "10-a"], |_, directory| {
        let told = directory.path().join("told");
        write(directory.path().join("conf.d/a.conf"), told.display().to_string()).unwrap();
    })
    .await;
    assert_eq!(node.names(), ["10-a", "20-b"]);
    let plugins = node.plugins.list();
    assert!(
        plugins
            .iter()
            .all(|plugin| plugin.origin == Origin::Launched && exists(plugin))
    );
    node.plugins
        .run_pod_sandbox(RunPodSandboxRequest::default())
        .await
        .unwrap();
    node.plugins.stop().await;
    assert!(!plugins.iter().any(exists));
    assert_eq!(
        read_to_string(node.directory.path().join("told")).unwrap(),
        "told"
    );
}

#[tokio::test]
async fn a_plugin_that_does_not_come_up_holds_up_nobody_for_long() {
    let node = start(&["10-hangs", "20-dies"], |settings, _| {
        settings.registration_timeout = Duration::from_millis(500);
    })
    .await;
    assert!(node.names().is_empty());
    node.plugins.stop().await;
}

#[tokio::test]
async fn a_plugin_that_ends_is_gone() {
    let node = start(&["10-faints"], |_, _| {}).await;
    let plugins = node.plugins.list();
    node.plugins
        .run_pod_sandbox(RunPodSandboxRequest::default())
        .await
        .unwrap();
    until("it is not listed any more", || node.plugins.list().is_empty()).await;
    until("its process is reaped", || !plugins.iter().any(exists)).await;
    node.plugins.stop().await;
}
