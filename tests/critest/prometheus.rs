//! The alerts and the Grafana board in `packaging/`, against a real Prometheus that reads a real daemon.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use pausa::proto::v1;
use serde_json::{Value, json};
use tonic::Code;

use crate::harness::cni::use_plugin;
use crate::harness::node::{Node, reference, spec};
use crate::harness::{PATIENCE, eventually, on_own_node, refused, which};

/// The network of the node: it refuses pods of one name.
const PLUGIN: &str = r#"case "$CNI_COMMAND $CNI_ARGS" in
"ADD "*K8S_POD_NAME=refused*) echo '{"code": 100, "msg": "not this one"}'; exit 1 ;;
"ADD "*) echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.9.8.7/24"}]}' ;;
esac
"#;

/// docs/metrics.md: every query of the alerts and of the board is about what a daemon serves, and the alerts fire when they
/// should.
#[test]
#[ignore = "needs root"]
fn alerts_and_board_ask_for_what_is_served() {
    for program in ["prometheus", "promtool"] {
        if which(program).is_none() {
            let why = format!("needs {program}: apt-get install prometheus");
            assert!(std::env::var("CI").is_err(), "{why}");
            return eprintln!("skipped: {why}");
        }
    }
    promtool(&["check", "rules"], "prometheus/pausa.rules.yml");
    promtool(&["check", "config", "--syntax-only"], "prometheus/scrape.yml");
    promtool(&["test", "rules"], "prometheus/pausa.rules.test.yml");
    on_own_node(async |node| {
        node.configure(Some("[metrics]\naddress = \"127.0.0.1:0\"\n"));
        use_plugin(node, PLUGIN).await;
        let metrics = serving_metrics(node);
        keep_busy(node).await;
        let prometheus = Prometheus::start(node.dir(), &metrics);
        eventually("Prometheus has read the metrics a few times", async || {
            // It listens before it answers.
            let read = prometheus.get("query", "query", "count_over_time(up{job=\"pausa\"}[1m]) > 3");
            read.is_ok_and(|data| data["result"] != json!([])).then_some(())
        })
        .await;
        check_alerts(&prometheus).await;
        check_board(&prometheus);
    });
}

/// A file in `packaging/`.
fn packaged(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

fn promtool(arguments: &[&str], file: &str) {
    let program = which("promtool").expect("checked");
    let said = Command::new(program).args(arguments).arg(packaged(file)).output();
    let said = said.expect("promtool runs");
    let text = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "promtool {arguments:?} {file}: {text}");
}

/// Where the daemon says that it serves metrics, on a port that the kernel chose.
fn serving_metrics(node: &Node) -> String {
    let log = node.daemon_log();
    let (_, line) = log
        .rsplit_once("serving metrics")
        .expect("the daemon serves metrics");
    let (_, rest) = line.split_once("127.0.0.1:").expect("an address");
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    format!("127.0.0.1:{port}")
}

/// A bit of everything that the queries ask for: pulls, pods, containers, commands, and failures of each.
async fn keep_busy(node: &Node) {
    node.pull("base").await;
    for (code, reference) in [
        (Code::NotFound, reference("never-pushed")),
        (Code::Unknown, "127.0.0.1:1/nobody/listens:1".to_owned()),
    ] {
        let request = v1::PullImageRequest {
            image: Some(spec(&reference)),
            ..Default::default()
        };
        refused(code, node.images().pull_image(request).await);
    }
    let pod = node.pod().await;
    // Its first process ignores the signal, so it ends when the time is up, which the client does not wait for.
    let container = pod
        .start(|config| config.command = vec!["sleep".into(), "1000".into()])
        .await;
    container.sh("true").await;
    let mut stop = tonic::Request::new(v1::StopContainerRequest {
        container_id: container.id.clone(),
        timeout: 3,
    });
    stop.set_timeout(Duration::from_millis(500));
    // The client gives up at the same time as the daemon, and may be first.
    node.runtime().stop_container(stop).await.unwrap_err();
    let mut config = node.pod_config();
    if let Some(metadata) = &mut config.metadata {
        metadata.name = "refused".to_owned();
    }
    refused(Code::Internal, node.try_pod(&config).await);
}

/// A Prometheus that reads one daemon and evaluates the alerts, until this is dropped.
struct Prometheus {
    child: Child,
    address: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Prometheus {
    fn start(dir: &Path, metrics: &str) -> Self {
        let dir = dir.join("prometheus");
        std::fs::create_dir(&dir).expect("a directory");
        let rules = packaged("prometheus/pausa.rules.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{rules:?}]\nscrape_configs:\n\
             - {{job_name: pausa, static_configs: [{{targets: [{metrics:?}]}}]}}\n"
        );
        std::fs::write(dir.join("prometheus.yml"), text).expect("a configuration");
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(which("prometheus").expect("checked"))
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Prometheus starts");
        let lines = BufReader::new(child.stderr.take().expect("asked for above")).lines();
        let (sender, addresses) = mpsc::channel();
        // Reads to the end, so that Prometheus can always write.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("msg=\"Listening on\" address=") {
                    sender.send(address.to_owned()).ok();
                }
            }
        });
        let mut prometheus = Self {
            child,
            address: String::new(),
        };
        let address = addresses.recv_timeout(PATIENCE);
        prometheus.address = address.expect("Prometheus says where it listens");
        prometheus
    }

    /// What the API answers, or its error.
    fn get(&self, path: &str, parameter: &str, value: &str) -> Result<Value, String> {
        let value = value.bytes().map(|byte| format!("%{byte:02x}"));
        let query = if parameter.is_empty() {
            String::new()
        } else {
            format!("?{parameter}={}", value.collect::<String>())
        };
        let mut socket = TcpStream::connect(&self.address).expect("Prometheus listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
        // An answer to HTTP/1.0 comes in one piece.
        write!(socket, "GET /api/v1/{path}{query} HTTP/1.0\r\n\r\n").expect("a request");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("an answer with a body");
        let mut body: Value = serde_json::from_str(body).map_err(|_| answer.clone())?;
        match body["status"].as_str() {
            Some("success") => Ok(body["data"].take()),
            _ => Err(body["error"].to_string()),
        }
    }

    /// The series that a query gives.
    fn query(&self, query: &str) -> Vec<Value> {
        let data = self.get("query", "query", query);
        let data = data.unwrap_or_else(|error| panic!("{query}: {error}"));
        data["result"].as_array().cloned().unwrap_or_default()
    }

    /// Every selector of a query finds something, and every label that the query or `legend` has is a label of that.
    fn check(&self, query: &str, legend: &str) {
        let Parts {
            selectors,
            mut labels,
        } = parts(query);
        assert!(!selectors.is_empty(), "nothing is selected: {query}");
        let mut known = BTreeSet::from(["le".to_owned()]);
        for selector in selectors {
            let series = self.get("series", "match[]", &selector);
            let series = series.unwrap_or_else(|error| panic!("{selector} in {query}: {error}"));
            let series = series.as_array().cloned().unwrap_or_default();
            assert!(!series.is_empty(), "there is no {selector}, for {query}");
            let names = series
                .iter()
                .filter_map(Value::as_object)
                .flat_map(|one| one.keys().cloned());
            known.extend(names);
        }
        let of_legend = legend
            .split("{{")
            .skip(1)
            .filter_map(|rest| rest.split_once("}}"));
        labels.extend(of_legend.map(|(label, _)| label.trim().to_owned()));
        for label in labels {
            assert!(
                known.contains(&label),
                "{label} of {query} is no label of it: {known:?}"
            );
        }
    }
}

/// What is in a query.
#[derive(Debug, Default, PartialEq)]
struct Parts {
    /// As they stand there: `name{label="value"}`.
    selectors: Vec<String>,
    /// Those that it groups by.
    labels: Vec<String>,
}

/// Reads as much of PromQL as the files in `packaging/` use.
fn parts(query: &str) -> Parts {
    let mut parts = Parts::default();
    let mut rest = query;
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic() || "_\"[".contains(c)) {
        rest = &rest[at..];
        let skipped = match rest.as_bytes()[0] {
            b'"' => Some('"'),
            b'[' => Some(']'),
            _ => None,
        };
        if let Some(end) = skipped {
            rest = rest[1..].split_once(end).expect("an end").1;
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after.trim_start();
        if let ("by" | "without" | "on" | "ignoring", Some(list)) = (word, rest.strip_prefix('(')) {
            let (list, after) = list.split_once(')').expect("an end");
            parts
                .labels
                .extend(list.split(',').map(|label| label.trim().to_owned()));
            rest = after;
        } else if let Some(matchers) = rest.strip_prefix('{') {
            let (matchers, after) = matchers.split_once('}').expect("an end");
            parts.selectors.push(format!("{word}{{{matchers}}}"));
            rest = after;
        } else if !["(", "by ", "without "]
            .iter()
            .any(|begin| rest.starts_with(begin))
            && !["and", "or", "unless", "bool"].contains(&word)
        {
            parts.selectors.push(word.to_owned());
        }
    }
    parts
}

#[test]
fn the_parts_of_a_query_are_found() {
    let query = r#"histogram_quantile(0.9, sum by (rpc, le) (rate(a_bucket{x=~"b|c", y!="d (e)"}[10m]))) > 5 or f / on(g) h{}"#;
    let expected = Parts {
        selectors: vec![
            r#"a_bucket{x=~"b|c", y!="d (e)"}"#.into(),
            "f".into(),
            "h{}".into(),
        ],
        labels: vec!["rpc".into(), "le".into(), "g".into()],
    };
    assert_eq!(parts(query), expected);
}

/// Every alert can be evaluated, is about something, says what to do, and has a case in the tests of the rules.
async fn check_alerts(prometheus: &Prometheus) {
    let alerts = eventually("every alert has been evaluated", async || {
        let answer = prometheus.get("rules", "", "").expect("the rules");
        let rules = answer["groups"][0]["rules"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let done = !rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown");
        done.then_some(rules)
    })
    .await;
    let cases = std::fs::read_to_string(packaged("prometheus/pausa.rules.test.yml")).expect("cases");
    for alert in alerts {
        let name = alert["name"].as_str().expect("an alert has a name");
        assert_eq!(alert["health"], "ok", "{name}: {}", alert["lastError"]);
        prometheus.check(alert["query"].as_str().expect("a query"), "");
        for annotation in ["summary", "description"] {
            let text = alert["annotations"][annotation].as_str().unwrap_or_default();
            assert!(text.ends_with('.'), "{name} has no {annotation}: {text:?}");
        }
        let severity = alert["labels"]["severity"].as_str().unwrap_or_default();
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}: {severity:?}"
        );
        assert!(
            cases.contains(&format!("alertname: {name}\n")),
            "{name} has no case"
        );
    }
}

/// Every query of the board gives something, from the data source that is chosen.
fn check_board(prometheus: &Prometheus) {
    let text = std::fs::read(packaged("grafana/pausa.json")).expect("the board");
    let board: Value = serde_json::from_slice(&text).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let panels = panels.iter().filter(|panel| panel["type"] != "row");
    let (mut count, mut places) = (0, BTreeSet::new());
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(
            places.insert(panel["gridPos"].to_string()),
            "{title} has no place of its own"
        );
        for target in panel["targets"].as_array().expect("queries") {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let query = target["expr"].as_str().expect("a query");
            let query = query.replace("$__rate_interval", "1m").replace("$instance", ".+");
            assert!(
                !query.contains('$'),
                "{title} has a variable that nobody sets: {query}"
            );
            prometheus.check(&query, target["legendFormat"].as_str().unwrap_or_default());
            assert!(
                !prometheus.query(&query).is_empty(),
                "{title} shows nothing: {query}"
            );
            count += 1;
        }
    }
    assert!(count > 50, "only {count} queries were looked at");
    let variables = board["templating"]["list"].as_array().expect("variables");
    let names: Vec<_> = variables
        .iter()
        .map(|variable| variable["name"].as_str())
        .collect();
    assert_eq!(names, [Some("datasource"), Some("instance")]);
    prometheus.check("pausa_build_info", "{{instance}}");
}
