//! What systemd and the daemon tell each other: notifications, the watchdog, sockets and credentials.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::Duration;

use pausa::proto::v1;
use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Node, PATIENCE, eventually, ok, on_crashing_node, on_own_node};

/// The socket of a service manager.
struct Manager(UnixDatagram);

impl Manager {
    /// Starts the daemon anew below it.
    async fn of(node: &Node, variables: &[(&str, &str)]) -> Self {
        let path = node.dir().join("notify.sock");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let path = path.to_str().expect("UTF-8");
        let variables = [&[("NOTIFY_SOCKET", path)], variables].concat();
        node.daemon(|daemon| {
            daemon.terminate();
            daemon.restart_with(&variables);
        });
        node.until_it_answers().await;
        Self(socket)
    }

    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).expect("a message in time");
        String::from_utf8(bytes[..length].to_vec()).expect("UTF-8")
    }

    /// Waits for a message that has this line.
    fn await_line(&self, line: &str) -> String {
        loop {
            let message = self.next();
            if message.lines().any(|known| known.starts_with(line)) {
                return message;
            }
        }
    }

    /// How many messages come within a second.
    fn counted(&self) -> usize {
        let limit = Some(Duration::from_secs(1));
        self.0.set_read_timeout(limit).expect("a limit");
        let mut messages = 0;
        while self.0.recv(&mut [0; 4096]).is_ok() {
            messages += 1;
        }
        self.0.set_read_timeout(Some(PATIENCE)).expect("a limit");
        messages
    }
}

/// sd_notify(3), "RELOADING=1": the start and the end of a reload, and what came out of it.
#[test]
#[ignore = "needs root"]
fn a_reload_is_announced() {
    on_own_node(async |node| {
        let manager = Manager::of(node, &[]).await;
        manager.await_line("READY=1");
        let pid = Pid::from_raw(node.daemon(|daemon| daemon.pid())).expect("a process id");
        for (configuration, status) in [
            ("max_log_line = 1\n", "STATUS=The last reload failed"),
            ("", "STATUS="),
        ] {
            node.configure(Some(configuration));
            kill_process(pid, Signal::HUP).expect("SIGHUP");
            let begun = manager.await_line("RELOADING=1");
            assert!(begun.contains("MONOTONIC_USEC="), "{begun}");
            let ended = manager.await_line("READY=1");
            assert!(ended.lines().any(|line| line.starts_with(status)), "{ended}");
            assert_eq!(
                ended.contains("max_log_line"),
                !configuration.is_empty(),
                "{ended}"
            );
        }
    });
}

/// sd_notify(3), "WATCHDOG=1": pings come while the daemon answers, and none while a thread that it needs hangs.
#[test]
#[ignore = "needs root"]
fn a_daemon_that_hangs_does_not_ping() {
    on_crashing_node(async |node| {
        let manager = Manager::of(node, &[("WATCHDOG_USEC", "100000")]).await;
        manager.await_line("WATCHDOG=1");
        // With an actor that is asked.
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        for _ in 0..3 {
            manager.await_line("WATCHDOG=1");
        }
        let hold = node.dir().join("s/hold-watchdog");
        std::fs::write(&hold, "").expect("a file");
        // Those that were sent before, and one that was on its way.
        manager.counted();
        assert_eq!(manager.counted(), 0);
        std::fs::remove_file(&hold).expect("the file");
        manager.await_line("WATCHDOG=1");
        assert_eq!(container.sh("echo alive").await, "alive\n");
    });
}

/// sd_listen_fds(3): with a socket of systemd's, clients wait for the next daemon instead of being refused.
#[test]
#[ignore = "needs root"]
fn clients_wait_at_a_socket_that_systemd_holds() {
    on_own_node(async |node| {
        node.daemon(|daemon| daemon.terminate());
        let path = node.socket();
        let listener = UnixListener::bind(path).expect("a socket");
        let passed = || OwnedFd::from(listener.try_clone().expect("a descriptor"));
        node.daemon(|daemon| daemon.restart_on(passed()));
        node.until_it_answers().await;
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        for orderly in [true, false] {
            node.daemon(|daemon| match orderly {
                true => drop(daemon.terminate()),
                false => daemon.kill(),
            });
            assert!(path.exists(), "it is systemd's");
            // The connection is taken although there is no daemon, and answered once there is one.
            let mut client = node.runtime();
            let waiting = tokio::spawn(async move { client.version(v1::VersionRequest::default()).await });
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(!waiting.is_finished(), "nobody is there to answer");
            node.daemon(|daemon| daemon.restart_on(passed()));
            ok("Version", waiting.await.expect("no panic"));
            assert_eq!(container.sh("echo alive").await, "alive\n");
        }
        // A second daemon must not take it.
        node.daemon(|daemon| daemon.terminate());
        node.daemon(|daemon| daemon.restart());
        let ended = eventually("the daemon refuses", async || {
            node.daemon(|daemon| daemon.ended())
        });
        assert_eq!(ended.await.code(), Some(1));
        assert!(node.daemon_log().contains("another daemon is listening"));
        node.daemon(|daemon| {
            daemon.forget();
            daemon.restart_on(passed());
        });
        node.until_it_answers().await;
    });
}

/// systemd.exec(5), "Credentials": secrets come from there by name.
#[test]
#[ignore = "needs root"]
fn secrets_are_credentials_of_systemd() {
    on_own_node(async |node| {
        let directory = node.dir().join("credentials");
        std::fs::create_dir(&directory).expect("a directory");
        node.configure(Some(
            "[streaming]\ncert = \"credential:cert\"\nkey = \"credential:key\"\n[images]\nauth_file = \"credential:login\"\n",
        ));
        let variable = ("CREDENTIALS_DIRECTORY", directory.to_str().expect("UTF-8"));
        node.daemon(|daemon| {
            daemon.terminate();
            daemon.restart_with(&[variable]);
        });
        let ended = eventually("the daemon refuses", async || {
            node.daemon(|daemon| daemon.ended())
        });
        assert_eq!(ended.await.code(), Some(64));
        let log = node.daemon_log();
        assert!(log.contains("LoadCredential=login"), "{log}");
        let pair = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
        let certificate = params.self_signed(&pair).expect("a certificate");
        std::fs::write(directory.join("cert"), certificate.pem()).expect("a certificate");
        std::fs::write(directory.join("key"), pair.serialize_pem()).expect("a key");
        std::fs::write(directory.join("login"), "{}").expect("a login");
        node.daemon(|daemon| {
            daemon.forget();
            daemon.restart_with(&[variable]);
        });
        node.until_it_answers().await;
        assert!(
            node.daemon_log().contains("url=\"https://127.0.0.1:"),
            "{}",
            node.daemon_log()
        );
    });
}
