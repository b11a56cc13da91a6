use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use pausa_monitor_protocol::{Event, FailureKind, FdRole, Reply, Request};

use crate::rig::{Rig, container, exec, open_log, pod, until};

/// A plain process is moved into its cgroup after it has started. It waits for that before it forks.
const JOINED: &str = "until grep -q pausa-monitor-test /proc/$$/cgroup; do :; done;";

/// A cgroup for one test: of v1's pids controller, or of v2.
pub(crate) struct Cgroup(pub(crate) PathBuf);

impl Cgroup {
    pub(crate) fn new(name: &str) -> Option<Self> {
        let roots = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        let root = roots
            .map(Path::new)
            .into_iter()
            .find(|root| root.join("cgroup.procs").exists());
        let path = root.map(|root| root.join(format!("pausa-monitor-test-{}-{name}", std::process::id())));
        let made = path.filter(|path| std::fs::create_dir(path).is_ok());
        if made.is_none() {
            eprintln!("skipped: needs cgroup v2, or v1 with the pids controller");
        }
        made.map(Self)
    }

    /// The descriptor by which a process gets here, and its role.
    fn door(&self) -> (FdRole, File) {
        match File::options().write(true).open(self.0.join("tasks")) {
            Ok(tasks) => (FdRole::CgroupTasks, tasks),
            Err(_) => (FdRole::CgroupDir, File::open(&self.0).unwrap()),
        }
    }

    fn members(&self) -> String {
        std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        drop(std::fs::remove_dir(self.0.join("below")));
        drop(std::fs::remove_dir(&self.0));
    }
}

#[test]
#[ignore = "needs root"]
fn kill_all_leaves_nobody_in_the_cgroup_nor_below_it() {
    let Some(cgroup) = Cgroup::new("all") else { return };
    let mut rig = Rig::new(&pod());
    let below = cgroup.0.join("below");
    std::fs::create_dir(&below).unwrap();
    let script = format!(
        "{JOINED} setsid sleep 1000 & setsid sh -c 'echo $$ > {}/cgroup.procs; echo ready; sleep 1000; true' & wait",
        below.display()
    );
    let mut plan = container("a", &script);
    let (role, door) = cgroup.door();
    plan.fds = vec![FdRole::Log, role];
    let log = open_log(&rig.log());
    rig.daemon.start(&plan, &[log.as_fd(), door.as_fd()]).unwrap();
    until("a log entry", || !rig.entries().is_empty());
    assert_eq!(
        rig.daemon.ask(Request::KillAll {
            container: "a".into()
        }),
        Ok(Reply::Done)
    );
    assert_eq!(cgroup.members(), "");
    assert_eq!(std::fs::read_to_string(below.join("cgroup.procs")).unwrap(), "");
    assert_eq!(rig.daemon.exit("a").signal, 9);
    rig.shut_down();
}

#[test]
#[ignore = "needs root"]
fn what_a_container_leaves_behind_ends_with_it() {
    let Some(cgroup) = Cgroup::new("left") else { return };
    let mut rig = Rig::new(&pod());
    let mut plan = container("a", &format!("{JOINED} setsid sleep 1000 & echo bye"));
    let (role, door) = cgroup.door();
    plan.fds = vec![FdRole::Log, role];
    let log = open_log(&rig.log());
    rig.daemon.start(&plan, &[log.as_fd(), door.as_fd()]).unwrap();
    assert_eq!(rig.daemon.exit("a").code, 0);
    assert_eq!(cgroup.members(), "");
    assert_eq!(rig.entries(), ["stdout F bye"]);
    rig.shut_down();
}

#[test]
fn a_stranger_who_holds_the_pipe_delays_an_exit_but_does_not_prevent_it() {
    let mut rig = Rig::new(&pod());
    // Without a cgroup the monitor cannot know that the sleep belongs to the container.
    rig.start("a", "sleep 1000 & echo $!");
    assert_eq!(rig.daemon.exit("a").code, 0);
    let entry = rig.entries().remove(0);
    let left: i32 = entry.strip_prefix("stdout F ").unwrap().parse().unwrap();
    let left = rustix::process::Pid::from_raw(left).unwrap();
    rustix::process::kill_process(left, rustix::process::Signal::KILL).unwrap();
    rig.shut_down();
}

#[test]
fn kill_exec_ends_the_process_and_its_descendants_and_nothing_else() {
    let mut rig = Rig::new(&pod());
    rig.start("a", "exec sleep 1000");
    let (read, write) = rustix::pipe::pipe().unwrap();
    let plan = exec("e", "a", "sleep 1001 & (sleep 1002 & echo; wait) & wait");
    let started = rig
        .daemon
        .ask_with(Request::Exec(Box::new(plan)), &[write.as_fd()]);
    assert!(matches!(started, Ok(Reply::Started { .. })));
    drop(write);
    let mut output = BufReader::new(File::from(read));
    output.read_line(&mut String::new()).unwrap();
    assert_eq!(
        rig.daemon.ask(Request::KillExec { exec: "e".into() }),
        Ok(Reply::Done)
    );
    // All processes that held the pipe are dead.
    assert_eq!(output.read_line(&mut String::new()).unwrap(), 0);
    let Event::ExecExited { exec, exit } = rig.daemon.event() else {
        panic!()
    };
    assert_eq!((exec.as_str(), exit.signal), ("e", 9));
    let gone = rig
        .daemon
        .ask(Request::KillExec { exec: "e".into() })
        .unwrap_err();
    assert_eq!(gone.kind, FailureKind::NotFound);
    rig.daemon
        .ask(Request::KillAll {
            container: "a".into(),
        })
        .unwrap();
    rig.daemon.exit("a");
    rig.shut_down();
}

#[test]
fn an_exec_tells_its_exit_and_needs_a_running_container() {
    let mut rig = Rig::new(&pod());
    rig.start("a", "exec sleep 1000");
    let (read, write) = rustix::pipe::pipe().unwrap();
    rig.daemon
        .ask_with(
            Request::Exec(Box::new(exec("e", "a", "echo hi; exit 9"))),
            &[write.as_fd()],
        )
        .unwrap();
    drop(write);
    assert_eq!(std::io::read_to_string(File::from(read)).unwrap(), "hi\n");
    assert!(matches!(rig.daemon.event(), Event::ExecExited { exit, .. } if exit.code == 9));
    assert_eq!(
        rig.entries(),
        [""; 0],
        "what an exec says is not the container's log"
    );
    rig.daemon
        .ask(Request::KillAll {
            container: "a".into(),
        })
        .unwrap();
    rig.daemon.exit("a");
    let mut plan = exec("f", "a", "true");
    plan.fds.clear();
    let failure = rig.daemon.ask(Request::Exec(Box::new(plan))).unwrap_err();
    assert_eq!(failure.kind, FailureKind::State);
    rig.shut_down();
}

#[test]
fn shutdown_kills_what_runs_and_tells_it() {
    let mut rig = Rig::new(&pod());
    let pid = rig.start("a", "exec sleep 1000");
    let mut tool = rig.connect();
    tool.hello();
    rig.shut_down();
    assert_eq!(tool.exit("a").code, 137);
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    assert!(rustix::process::test_kill_process(pid).is_err());
}

#[test]
fn the_hosts_shutdown_ends_the_pod_and_the_monitor() {
    let mut rig = Rig::new(&pod());
    rig.start("a", "exit 0");
    rig.daemon.exit("a");
    let pid = rustix::process::Pid::from_child(&rig.process);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    rig.daemon.hello();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(rig.process.wait().unwrap().success());
}
