//! Streams and the daemon that serves them: its configuration, and its death.

use crate::harness::stream::{Remote, Transport, Want};
use crate::harness::{eventually, on_own_node, which};

/// `[streaming] cert, key`: URLs are https, and a renewed certificate is taken without a restart.
#[test]
#[ignore = "needs root"]
fn over_tls() {
    on_own_node(async |node| {
        if which("openssl").is_none() {
            eprintln!("skipped: needs openssl");
            return;
        }
        let renew = || {
            let made = std::process::Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-nodes",
                ])
                .args([
                    "-days",
                    "2",
                    "-subj",
                    "/CN=pausa.test",
                    "-addext",
                    "subjectAltName=IP:127.0.0.1",
                ])
                .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
                .arg(node.dir().join("key.pem"))
                .arg("-out")
                .arg(node.dir().join("cert.pem"))
                .output()
                .expect("openssl runs");
            assert!(made.status.success(), "{made:?}");
            std::fs::read(node.dir().join("cert.pem")).expect("a certificate")
        };
        let first = renew();
        let pair = ["cert", "key"].map(|name| format!("{name} = \"{}/{name}.pem\"\n", node.dir().display()));
        let drop_in = node.dir().join("config.d/tls.toml");
        std::fs::create_dir_all(drop_in.parent().unwrap()).expect("a directory");
        std::fs::write(drop_in, format!("[streaming]\n{}{}", pair[0], pair[1])).expect("a drop-in");
        node.daemon(|daemon| {
            daemon.terminate();
            daemon.restart();
        });
        node.until_it_answers().await;
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let second = renew();
        assert_ne!(first, second);
        for transport in Transport::BOTH {
            let url = container.exec_url(&["echo", "secret"], Want::OUTPUT).await;
            let remote = Remote::start_trusting(&url, transport, Want::OUTPUT, Some(&second)).await;
            assert_eq!(remote.finish().await.stdout(), "secret\n");
        }
    });
}

/// A command outlives the daemon: whoever ran it is gone, its output is read on, and it ends by itself.
#[test]
#[ignore = "needs root"]
fn a_command_outlives_the_daemon() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let script =
            "echo ready; until [ -e /go ]; do head -c 20000 /dev/zero; sleep 0.05; done; touch /done";
        let mut remotes = Vec::new();
        for transport in Transport::BOTH {
            let mut remote = container
                .exec_stream(transport, &["sh", "-c", script], Want::OUTPUT)
                .await;
            remote.until("ready").await;
            remotes.push(remote);
        }
        node.kill_and_restart_daemon().await;
        drop(remotes);
        assert_eq!(container.sh("ls /done 2>/dev/null; touch /go").await, "");
        eventually("the command ends by itself", async || {
            let done = container.exec(&["ls", "/done"]).await;
            (done.exit_code == 0).then_some(())
        })
        .await;
    });
}
