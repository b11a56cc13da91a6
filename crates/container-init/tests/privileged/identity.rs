//! Users, groups, capabilities, limits.

use pausa_monitor_protocol::{CapabilitySets, ContainerPlan, Rlimit};
use rustix::process::{Resource, getrlimit};

use crate::Case;
use crate::privileged::world::*;

pub(crate) const CASES: &[Case] = &[
    ("identity::user_groups_and_umask", user_groups_and_umask),
    ("identity::capabilities_are_exactly_the_plans", capabilities),
    ("identity::all_capabilities_means_all_there_are", all_capabilities),
    ("identity::limits_are_set_and_clamped", limits),
    ("identity::oom_score_adj_is_set_and_clamped", oom_score),
    ("identity::signals_are_default_and_unblocked", signals),
    ("identity::the_environment_is_the_plans", environment),
    ("identity::streams_belong_to_the_user", streams_belong_to_the_user),
];

/// The lines of `/proc/self/status` that begin with `prefix`.
fn status(plan: &mut ContainerPlan, world: &World, prefix: &str) -> Vec<(String, String)> {
    plan.process.args = vec![
        b"grep".to_vec(),
        format!("^{prefix}").into_bytes(),
        b"/proc/self/status".to_vec(),
    ];
    let output = world.run(plan).unwrap().output;
    let pair = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_owned(), value.trim().to_owned())
    };
    output.lines().map(pair).collect()
}

fn capability_sets(plan: &mut ContainerPlan, world: &World) -> [u64; 5] {
    let found = status(plan, world, "Cap");
    ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"].map(|name| {
        let value = &found.iter().find(|(found, _)| found == name).unwrap().1;
        u64::from_str_radix(value, 16).unwrap()
    })
}

fn user_groups_and_umask() {
    let world = World::new();
    let mut plan = shell("id -u; id -g; id -G; umask; cat /proc/self/uid_map > /dev/null");
    plan.process.uid = 1000;
    plan.process.gid = 2000;
    plan.process.groups = vec![10, 3000];
    plan.process.umask = 0o077;
    assert_eq!(
        world.run(&plan).unwrap().output,
        "1000\n2000\n2000 10 3000\n0077\n"
    );
}

fn capabilities() {
    let world = World::new();
    let mut plan = shell("");
    let caps = DEFAULT_CAPABILITIES;
    assert_eq!(capability_sets(&mut plan, &world), [caps, caps, caps, 0, 0]);
    // Not root, nothing ambient: only the bounding set is left after exec.
    plan.process.uid = 1000;
    assert_eq!(capability_sets(&mut plan, &world), [caps, 0, 0, 0, 0]);
    let bind_service = 1 << 10;
    plan.process.capabilities = CapabilitySets {
        bounding: caps,
        effective: bind_service,
        permitted: bind_service,
        inheritable: bind_service,
        ambient: bind_service,
    };
    plan.process.no_new_privs = true;
    let expected = [caps, bind_service, bind_service, bind_service, bind_service];
    assert_eq!(capability_sets(&mut plan, &world), expected);
    plan.process.uid = 0;
    plan.process.capabilities = CapabilitySets::default();
    assert_eq!(capability_sets(&mut plan, &world), [0; 5]);
    assert_eq!(
        status(&mut plan, &world, "NoNewPrivs"),
        [("NoNewPrivs".to_owned(), "1".to_owned())]
    );
}

fn all_capabilities() {
    let world = World::new();
    let mut plan = shell("");
    let all = u64::MAX;
    plan.process.capabilities = CapabilitySets {
        bounding: all,
        effective: all,
        permitted: all,
        inheritable: 0,
        ambient: 0,
    };
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
    let own = u64::from_str_radix(own.trim(), 16).unwrap();
    assert_eq!(capability_sets(&mut plan, &world)[..3], [own; 3]);
}

fn limits() {
    let world = World::new();
    let mut plan = shell("grep 'open files' /proc/self/limits; grep 'core file' /proc/self/limits");
    let hard = getrlimit(Resource::Nofile).maximum.unwrap();
    plan.process.rlimits = vec![
        Rlimit {
            resource: 7,
            soft: 100,
            hard: u64::MAX,
        },
        Rlimit {
            resource: 4,
            soft: 0,
            hard: 0,
        },
    ];
    let output = world.run(&plan).unwrap().output;
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words[3], "100");
    let got = words[4].parse::<u64>().unwrap();
    assert!(got >= hard, "{output}");
    assert!(
        output.contains("Max core file size        0                    0"),
        "{output}"
    );
    plan.process.rlimits = vec![Rlimit {
        resource: 99,
        soft: 1,
        hard: 1,
    }];
    assert!(world.run(&plan).unwrap_err().step.contains("limit 99"));
}

fn oom_score() {
    let world = World::new();
    let mut plan = shell("cat /proc/self/oom_score_adj");
    plan.process.oom_score_adj = Some(123);
    assert_eq!(world.run(&plan).unwrap().output, "123\n");
    plan.process.oom_score_adj = Some(-999);
    let lowered: i32 = world.run(&plan).unwrap().output.trim().parse().unwrap();
    assert!((-999..=0).contains(&lowered));
}

fn signals() {
    let world = World::new();
    let found = status(&mut shell(""), &world, "Sig[BIC]");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found.iter().all(|(_, value)| value == "0000000000000000"),
        "{found:?}"
    );
}

fn environment() {
    let world = World::new();
    let mut plan = shell("");
    plan.process.args = vec![b"cat".to_vec(), b"/proc/self/environ".to_vec()];
    plan.process.env.push(b"RAW=\xff\xfe".to_vec());
    let output = world.run(&plan).unwrap().output;
    assert_eq!(output, "PATH=/usr/bin:/bin\0HOME=/root\0RAW=\u{fffd}\u{fffd}\0");
    plan.process.env.push(b"A=\0".to_vec());
    assert!(world.run(&plan).unwrap_err().step.contains("zero byte"));
}

fn streams_belong_to_the_user() {
    let world = World::new();
    let mut plan = shell("echo again > /dev/stdout; echo and > /dev/stderr");
    plan.process.uid = 1000;
    assert_eq!(world.run(&plan).unwrap().output, "again\nand\n");
}
