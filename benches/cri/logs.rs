//! The throughput of a container's log, and its cost for the runtime.

use std::io::{BufWriter, Write as _};
use std::time::Instant;

use pausa::proto::v1;

use crate::harness::{Node, strings};
use crate::memory;
use crate::table::Table;

const LINE: &[u8; 100] =
    b"A line of one hundred bytes with its newline, as a busy web server writes for every request it has.\n";

/// The container runs `cat` on a prepared file, so that writing costs almost nothing.
pub(crate) async fn measure(nodes: &[(String, Node)], megabytes: usize, table: &mut Table) {
    for (name, node) in nodes {
        let lines = node.dir().join("lines");
        let mut file = BufWriter::new(std::fs::File::create(&lines).expect("a file of lines"));
        for _ in 0..megabytes * 1_000_000 / LINE.len() {
            file.write_all(LINE).expect("a file of lines");
        }
        file.flush().expect("a file of lines");
        let before = memory::processes();
        let daemon = memory::daemon(node.socket());
        let pod = node.run_pod(node.pod_config()).await;
        let mut config = pod.container_config();
        config.command = strings(&["cat", "/lines"]);
        config.mounts = vec![v1::Mount {
            host_path: lines.display().to_string(),
            container_path: "/lines".to_owned(),
            readonly: true,
            ..Default::default()
        }];
        let container = pod.create(config).await;
        let helpers: Vec<i32> = memory::processes()
            .difference(&before)
            .copied()
            .chain(daemon)
            .collect();
        let cpu = memory::cpu_seconds(helpers.iter().copied());
        let start = Instant::now();
        container.start().await;
        while container.status().await.state() != v1::ContainerState::ContainerExited {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let seconds = start.elapsed().as_secs_f64();
        let cpu = memory::cpu_seconds(helpers.iter().copied()) - cpu;
        let total = f64::from(u32::try_from(megabytes).expect("not that many megabytes"));
        table.add("log throughput", "MB/s", name, total / seconds);
        table.add("runtime's CPU time for that log", "s", name, cpu);
        pod.remove().await;
        std::fs::remove_file(&lines).expect("the file of lines");
    }
}
