//! Chains of plugins that are shell scripts: they note how they were called and answer what the test wants.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

mod node;
mod processes;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pausa_cni::{
    AttachmentId, Call, Delegate, Error, ErrorKind, Failure, InProcess, Request, Resolution, Runtime,
    Timeouts,
};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use node::{ADDRESS, Node, PASS, chain, network, request};

#[tokio::test]
async fn a_chain_adds_in_order_deletes_in_reverse_and_remembers_in_between() {
    let node = Node::new();
    node.plugin(
        "first",
        &format!("env | grep ^CNI_ | sort > env.$CNI_COMMAND; {ADDRESS}"),
    );
    node.plugin("second", PASS);
    let result = node.runtime.add(&chain("1.0.0"), &request()).await.unwrap();
    assert_eq!(result["ips"][0]["address"], "10.1.0.5/16");
    assert_eq!(result["mine"], 1, "fields we do not know travel along");

    let environment = fs::read_to_string(node.dir.path().join("env.ADD")).unwrap();
    let path = node.dir.path().join("bin");
    let expected = format!(
        "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=p\nCNI_COMMAND=ADD\nCNI_CONTAINERID=c1\nCNI_IFNAME=eth0\n\
         CNI_NETNS=/var/run/netns/none\nCNI_PATH={}\n",
        path.display()
    );
    assert_eq!(environment, expected);
    let (first, second) = (node.stdin("first.ADD"), node.stdin("second.ADD"));
    assert_eq!(
        first["runtimeConfig"],
        json!({"portMappings": [{"hostPort": 80}]}),
        "dns is not declared"
    );
    assert_eq!(second.get("runtimeConfig"), None);
    assert_eq!(
        (&first["name"], &first["cniVersion"]),
        (&json!("net"), &json!("1.0.0"))
    );
    assert_eq!(second["prevResult"]["ips"][0]["address"], "10.1.0.5/16");
    assert_eq!(node.cache_files(), 1);

    // A configuration that has changed meanwhile, and a caller that knows less than ADD did.
    let other = network(&json!({"cniVersion": "1.0.0", "name": "net", "type": "third"}));
    let bare = Request {
        args: Vec::new(),
        capability_args: serde_json::Map::new(),
        ..request()
    };
    node.runtime.del(Some(&other), &bare).await.unwrap();
    assert_eq!(
        node.calls(),
        ["first ADD", "second ADD", "second DEL", "first DEL"]
    );
    assert_eq!(node.stdin("first.DEL")["prevResult"], result);
    assert_eq!(
        node.stdin("first.DEL")["runtimeConfig"]["portMappings"][0]["hostPort"],
        80
    );
    assert_eq!(node.cache_files(), 0);
    node.runtime.del(None, &bare).await.unwrap();
}

/// Each plugin is told of, then the list; what the network's version does not have is not called.
#[tokio::test]
async fn an_observer_is_told_of_every_call() {
    static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let node = Node::new();
    node.plugin("first", ADDRESS);
    node.plugin(
        "second",
        &format!(
            "{PASS}; if [ $CNI_COMMAND = DEL ]; then echo '{{\"code\":11,\"msg\":\"later\"}}'; exit 1; fi"
        ),
    );
    let runtime = node.runtime.clone().with_observer(|call| {
        let (plugin, failed) = (call.plugin.unwrap_or("all"), call.error.map(Error::kind));
        let text = format!("{plugin} {} {failed:?}", call.command);
        SEEN.lock().unwrap().push(text);
    });
    runtime.add(&chain("1.0.0"), &request()).await.unwrap();
    runtime.status(&chain("1.0.0")).await.unwrap();
    runtime.status(&chain("1.1.0")).await.unwrap();
    runtime.del(None, &request()).await.unwrap_err();
    assert_eq!(
        *SEEN.lock().unwrap(),
        [
            "first ADD None",
            "second ADD None",
            "all ADD None",
            "first STATUS None",
            "second STATUS None",
            "all STATUS None",
            "second DEL Some(TryAgain)",
            "all DEL Some(TryAgain)",
        ]
    );
}

#[tokio::test]
async fn a_failed_delete_keeps_the_entry_for_the_next_try() {
    let node = Node::new();
    node.plugin("first", ADDRESS);
    node.plugin("second", &format!("{PASS}; if [ $CNI_COMMAND = DEL ] && [ -e deny ]; then echo '{{\"code\":11,\"msg\":\"later\"}}'; exit 1; fi"));
    node.runtime.add(&chain("1.0.0"), &request()).await.unwrap();
    fs::write(node.dir.path().join("deny"), "").unwrap();
    let error = node.runtime.del(None, &request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain);
    assert!(
        !node.calls().contains(&"first DEL".to_owned()),
        "the chain stops at the first error"
    );
    assert_eq!(node.cache_files(), 1);
    fs::remove_file(node.dir.path().join("deny")).unwrap();
    node.runtime
        .del(
            None,
            &Request {
                netns: PathBuf::new(),
                ..request()
            },
        )
        .await
        .unwrap();
    assert_eq!(node.cache_files(), 0);
}

#[tokio::test]
async fn errors_of_plugins_keep_everything_they_said() {
    let node = Node::new();
    node.plugin(
        "first",
        "echo trouble >&2; echo '{\"code\":7,\"msg\":\"no\",\"details\":\"really\"}'; exit 1",
    );
    match node.runtime.add(&chain("1.0.0"), &request()).await.unwrap_err() {
        Error::Plugin {
            plugin,
            code: 7,
            msg,
            details,
            stderr,
            ..
        } => {
            assert_eq!(
                [&*plugin, &*msg, &*details, &*stderr],
                ["first", "no", "really", "trouble"]
            );
        }
        other => panic!("unexpected error {other:?}"),
    }
    assert_eq!(node.cache_files(), 0);
    node.plugin("first", "seq 1 100000 >&2; kill -9 $$");
    match node.runtime.add(&chain("1.0.0"), &request()).await.unwrap_err() {
        Error::Crashed { stderr, .. } => assert!(stderr.ends_with("100000") && stderr.len() <= 2048),
        other => panic!("unexpected error {other:?}"),
    }
    node.plugin("first", "echo '{\"ips\": 5}'");
    assert!(matches!(
        node.runtime.add(&chain("1.0.0"), &request()).await,
        Err(Error::InvalidResult { plugin, .. }) if plugin == "first"
    ));
    node.plugin("first", "true");
    assert!(matches!(
        node.runtime.add(&chain("1.0.0"), &request()).await,
        Err(Error::InvalidResult { .. })
    ));
    node.plugin("first", "yes");
    let limited = node.runtime.clone().with_timeouts(Timeouts {
        add: Duration::from_millis(500),
        ..Timeouts::default()
    });
    assert!(matches!(
        limited.add(&chain("1.0.0"), &request()).await,
        Err(Error::Timeout { .. })
    ));
    node.plugin("first", "head -c 3000000 /dev/zero");
    assert!(matches!(
        node.runtime.add(&chain("1.0.0"), &request()).await,
        Err(Error::OutputTooLarge { .. })
    ));
    let missing = network(&json!({"cniVersion": "1.0.0", "name": "net", "type": "nowhere"}));
    assert!(matches!(
        node.runtime.add(&missing, &request()).await,
        Err(Error::PluginNotFound { .. })
    ));
}

#[tokio::test]
async fn commands_are_sent_only_to_versions_that_know_them() {
    let node = Node::new();
    node.plugin("first", ADDRESS);
    node.plugin("second", PASS);
    let old = chain("0.3.1");
    node.runtime.add(&old, &request()).await.unwrap();
    node.runtime.check(&old, &request()).await.unwrap();
    node.runtime.status(&old).await.unwrap();
    node.runtime.gc(&old, &[]).await.unwrap();
    node.runtime.del(Some(&old), &request()).await.unwrap();
    assert_eq!(
        node.calls(),
        ["first ADD", "second ADD", "second DEL", "first DEL"]
    );
    assert_eq!(
        node.stdin("first.DEL").get("prevResult"),
        None,
        "0.3.1 has no prevResult for DEL"
    );
    assert_eq!(node.stdin("second.ADD")["prevResult"]["ips"][0]["version"], "4");

    let new = chain("1.1.0");
    node.runtime.add(&new, &request()).await.unwrap();
    node.runtime.check(&new, &request()).await.unwrap();
    node.runtime.status(&new).await.unwrap();
    let valid = AttachmentId {
        container_id: "c1".to_owned(),
        if_name: "eth0".to_owned(),
    };
    node.runtime.gc(&new, &[valid]).await.unwrap();
    assert_eq!(
        node.calls()[4..],
        [
            "first ADD",
            "second ADD",
            "first CHECK",
            "second CHECK",
            "first STATUS",
            "second STATUS",
            "first GC",
            "second GC",
        ]
    );
    assert_eq!(
        node.stdin("second.CHECK")["prevResult"]["ips"][0]["address"],
        "10.1.0.5/16"
    );
    assert_eq!(
        node.stdin("first.GC")["cni.dev/valid-attachments"],
        json!([{"containerID": "c1", "ifname": "eth0"}])
    );
}

#[tokio::test]
async fn parameters_that_could_confuse_plugins_are_refused() {
    let node = Node::new();
    node.plugin("first", ADDRESS);
    node.plugin("second", PASS);
    let bad = [
        Request {
            container_id: "../c".to_owned(),
            ..request()
        },
        Request {
            if_name: "a/b".to_owned(),
            ..request()
        },
        Request {
            if_name: "a-very-long-interface".to_owned(),
            ..request()
        },
        Request {
            args: vec![("K8S_POD_NAME".to_owned(), "p;K8S_POD_UID=x".to_owned())],
            ..request()
        },
        Request {
            netns: PathBuf::new(),
            ..request()
        },
    ];
    for request in bad {
        let error = node.runtime.add(&chain("1.0.0"), &request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidParameter, "{request:?}");
    }
    assert!(node.calls().is_empty());
}

/// Gives an address, after its IPAM plugin if it has one, and notes its calls beside those of the scripts.
#[derive(Debug)]
struct Own {
    calls: PathBuf,
    delay: Duration,
}

impl InProcess for Own {
    fn understands(&self, config: &Map<String, Value>) -> Result<(), String> {
        let unknown = config.keys().find(|key| *key == "novelty");
        unknown.map_or(Ok(()), |key| Err(format!("key `{key}`")))
    }

    fn call(&self, call: &Call, delegate: &Delegate<'_>) -> Result<Value, Failure> {
        std::thread::sleep(self.delay);
        let mut calls = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.calls)
            .unwrap();
        writeln!(calls, "own {}", call.command).unwrap();
        if call.container_id == "c2" {
            return Err(Failure {
                code: 100,
                ..Failure::internal("not mine")
            });
        }
        match call.config.get("ipam") {
            Some(ipam) => delegate.run(ipam["type"].as_str().unwrap(), call),
            None => Ok(json!({"ips": [{"address": "10.1.0.9/16"}]})),
        }
    }
}

/// The types `first` and `ipam-own` are implemented in process.
fn with_own(node: &Node, delay: Duration) -> Runtime {
    let own = |delay| {
        let calls = node.dir.path().join("calls");
        Arc::new(Own { calls, delay }) as Arc<dyn InProcess>
    };
    let in_process = [
        ("first".to_owned(), own(delay)),
        ("ipam-own".to_owned(), own(Duration::ZERO)),
    ];
    node.runtime_with(BTreeMap::from(in_process))
}

#[tokio::test]
async fn a_type_may_be_implemented_in_process() {
    let node = Node::new();
    node.plugin("first", "exit 1");
    let runtime = with_own(&node, Duration::ZERO);
    let list = network(&json!({"cniVersion": "1.0.0", "name": "net", "type": "first"}));
    let result = runtime.add(&list, &request()).await.unwrap();
    assert_eq!(result["ips"][0]["address"], "10.1.0.9/16");
    let other = Request {
        container_id: "c2".to_owned(),
        ..request()
    };
    assert!(matches!(
        runtime.add(&list, &other).await,
        Err(Error::Plugin { code: 100, .. })
    ));
    assert_eq!(node.calls(), ["own ADD", "own ADD"]);
}

#[tokio::test]
async fn what_is_not_known_in_process_goes_to_the_binary() {
    let node = Node::new();
    let runtime = with_own(&node, Duration::ZERO);
    let list = network(&json!({"cniVersion": "1.0.0", "name": "net", "type": "first", "novelty": 1}));
    let error = runtime.add(&list, &request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("key `novelty`"), "{error}");
    node.plugin("first", ADDRESS);
    runtime.add(&list, &request()).await.unwrap();
    assert_eq!(node.calls(), ["first ADD"]);
}

#[tokio::test]
async fn a_plugin_in_process_delegates_to_binaries_and_to_others_in_process() {
    let node = Node::new();
    node.plugin("ipam", ADDRESS);
    let runtime = with_own(&node, Duration::ZERO);
    let delegating = |ipam: &str| {
        let ipam = json!({"type": ipam});
        network(&json!({"cniVersion": "1.0.0", "name": "net", "type": "first", "ipam": ipam}))
    };
    let result = runtime.add(&delegating("ipam"), &request()).await.unwrap();
    assert_eq!(result["mine"], 1);
    assert_eq!(node.stdin("ipam.ADD")["ipam"]["type"], "ipam");
    node.plugin(
        "ipam",
        "echo '{\"code\":7,\"msg\":\"no\",\"details\":\"really\"}'; exit 1",
    );
    match runtime.add(&delegating("ipam"), &request()).await.unwrap_err() {
        Error::Plugin {
            code: 7,
            msg,
            details,
            ..
        } => assert_eq!([&*msg, &*details], ["no", "really"]),
        other => panic!("unexpected error {other:?}"),
    }
    for missing in ["nowhere", "../bin/ipam"] {
        let error = runtime.add(&delegating(missing), &request()).await.unwrap_err();
        assert!(matches!(error, Error::Plugin { code: 999, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_delete_waits_for_an_add_in_process_that_nobody_waits_for_any_more() {
    let node = Node::new();
    let runtime = with_own(&node, Duration::from_millis(300));
    let list = network(&json!({"cniVersion": "1.0.0", "name": "net", "type": "first"}));
    let request = request();
    let add = runtime.add(&list, &request);
    assert!(timeout(Duration::from_millis(50), add).await.is_err());
    runtime.del(Some(&list), &request).await.unwrap();
    assert_eq!(node.calls(), ["own ADD", "own DEL"]);

    let limited = runtime.with_timeouts(Timeouts {
        add: Duration::from_millis(50),
        ..Timeouts::default()
    });
    let error = limited.add(&list, &request).await.unwrap_err();
    assert!(matches!(error, Error::Stuck { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_dry_run_resolves_plugins_and_asks_binaries_for_their_versions_only() {
    let node = Node::new();
    node.plugin(
        "first",
        r#"echo '{"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}'"#,
    );
    let list = network(&json!({"cniVersion": "1.0.0", "name": "net", "plugins": [
        {"type": "first", "ipam": {"type": "missing"}},
    ]}));
    let tried = node.runtime.dry_run(&list).await;
    let names: Vec<&str> = tried.iter().map(|one| one.plugin.as_str()).collect();
    assert_eq!(names, ["first", "missing"]);
    let expected = Resolution::Binary {
        path: node.dir.path().join("bin/first"),
        versions: Some(vec!["0.4.0".to_owned(), "1.0.0".to_owned()]),
    };
    assert_eq!(tried[0].outcome.as_ref().unwrap(), &expected);
    assert!(matches!(tried[1].outcome, Err(Error::PluginNotFound { .. })));
    assert_eq!(node.calls(), ["first VERSION"]);
    assert_eq!(node.stdin("first.VERSION"), json!({"cniVersion": "1.0.0"}));
}
