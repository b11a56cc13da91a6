use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::json;

use super::kubelet::{Kubelet, Surroundings, settings};
use super::storage::{Place, Room, Storage, Use};
use super::*;
use crate::cgroups::{Driver, Hierarchy, Layout};
use crate::config::NetworkMode;

/// The verdict of the only finding of a check.
#[track_caller]
fn verdict(findings: &[Finding], check: Check) -> Verdict {
    let found: Vec<_> = findings.iter().filter(|finding| finding.check == check).collect();
    assert_eq!(found.len(), 1, "{}: {findings:#?}", check.id());
    found[0].verdict
}

#[test]
fn every_check_is_documented_with_its_consequence_and_remedy() {
    let docs = include_str!("../../../docs/operations.md");
    let (_, section) = docs.split_once("\n## Doctor\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> = Check::ALL
        .iter()
        .map(|check| {
            format!(
                "| `{}` | {} | {} |",
                check.id(),
                check.consequence(),
                check.remedy()
            )
        })
        .collect();
    assert_eq!(rows, expected);
    let ids: BTreeSet<&str> = Check::ALL.iter().map(|check| check.id()).collect();
    assert_eq!(ids.len(), Check::ALL.len());
}

#[test]
fn what_is_wrong_comes_first_and_what_is_well_only_if_asked_for() {
    let findings = [
        Finding::new(Check::KernelVersion, Verdict::Ok, "Linux 6.1"),
        Finding::new(Check::TimeSynchronised, Verdict::Warning, "a \x1b[31m"),
        Finding::new(Check::DaemonRunning, Verdict::Problem, "gone").remedy("do this"),
    ];
    let texts = |verbose| -> Vec<String> {
        let lines = lines(&findings, verbose).into_iter();
        lines.map(|line| line.text).collect()
    };
    assert_eq!(
        texts(false),
        [
            "problem   daemon.running",
            "          found      gone",
            "          leads to   kubelet has no runtime and the node becomes NotReady; containers that run keep running",
            "          to do      do this",
            "warning   time.synchronised",
            "          found      a \\u{1b}[31m",
            "          leads to   certificates are refused when the clock is wrong, and logs of nodes cannot be compared",
            "          to do      run chrony, ntpd or systemd-timesyncd; check with `timedatectl` or `chronyc tracking`",
            "3 findings: 1 wrong, 1 doubtful, 1 well",
        ]
    );
    assert_eq!(texts(true)[8], "ok        kernel.version: Linux 6.1");
    let summary = |findings: &[Finding]| Summary::of(findings).verdict();
    assert!(matches!(
        summary(&findings),
        Err(CommandError::WrongNode { problems: 1 })
    ));
    assert!(summary(&findings[..2]).is_ok());
    let unknown = [Finding::new(Check::Root, Verdict::Unknown, "")];
    assert!(matches!(summary(&unknown), Err(CommandError::NotChecked { .. })));
}

#[test]
fn a_finding_has_room_for_so_much_and_no_more() {
    let long = Finding::new(Check::Root, Verdict::Ok, "ä".repeat(5000));
    assert_eq!(long.found.chars().count(), 2001);
}

fn kernel() -> kernel::Kernel {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    kernel::Kernel {
        release: "6.1.0-13-amd64".to_owned(),
        filesystems: Some(names(&["ext4", "overlay"])),
        overlay_module: false,
        namespaces: names(&["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"]),
        max_user_namespaces: Some(1000),
        seccomp: true,
        memfd_noexec: Some(1),
        config: None,
    }
}

#[test]
fn a_kernel_is_judged_by_what_pods_need() {
    let judge = |change: fn(&mut kernel::Kernel), check| {
        let mut kernel = kernel();
        change(&mut kernel);
        verdict(&kernel::decide(&kernel, NetworkMode::Bridge), check)
    };
    assert_eq!(judge(|_| {}, Check::KernelVersion), Verdict::Ok);
    assert_eq!(
        judge(
            |kernel| kernel.release = "5.10.0".to_owned(),
            Check::KernelVersion
        ),
        Verdict::Problem
    );
    assert_eq!(
        judge(|kernel| kernel.release = "odd".to_owned(), Check::KernelVersion),
        Verdict::Unknown
    );
    let no_overlay = |kernel: &mut kernel::Kernel| {
        kernel.filesystems = Some(BTreeSet::new());
    };
    assert_eq!(judge(no_overlay, Check::KernelOverlay), Verdict::Problem);
    assert_eq!(
        judge(
            |kernel| {
                kernel.filesystems = Some(BTreeSet::new());
                kernel.overlay_module = true;
            },
            Check::KernelOverlay
        ),
        Verdict::Info
    );
    assert_eq!(
        judge(
            |kernel| {
                kernel.namespaces.remove("ipc");
            },
            Check::KernelNamespaces
        ),
        Verdict::Problem
    );
    assert_eq!(
        judge(
            |kernel| kernel.max_user_namespaces = Some(0),
            Check::KernelUserNamespaces
        ),
        Verdict::Warning
    );
    assert_eq!(
        judge(|kernel| kernel.seccomp = false, Check::KernelSeccomp),
        Verdict::Problem
    );
    assert_eq!(
        judge(|kernel| kernel.memfd_noexec = Some(2), Check::KernelMemfd),
        Verdict::Problem
    );
    assert_eq!(judge(|_| {}, Check::KernelConfig), Verdict::Info);
}

#[test]
fn the_bridge_needs_more_of_the_kernels_configuration() {
    let mut text = String::from("# CONFIG_VETH is not set\nCONFIG_LOCALVERSION=\"-my\"\nCONFIG_HZ=250\n");
    for name in [
        "NAMESPACES",
        "PID_NS",
        "NET_NS",
        "IPC_NS",
        "UTS_NS",
        "CGROUPS",
        "CGROUP_PIDS",
        "CPUSETS",
        "MEMCG",
        "FAIR_GROUP_SCHED",
        "CFS_BANDWIDTH",
        "SECCOMP_FILTER",
        "MEMFD_CREATE",
        "UNIX",
        "BPF_SYSCALL",
        "BRIDGE",
    ] {
        text.push_str(&format!("CONFIG_{name}=y\n"));
    }
    text.push_str("CONFIG_OVERLAY_FS=m\n");
    let mut kernel = kernel();
    let options = kernel::options(&text);
    assert_eq!((options.get("OVERLAY_FS"), options.get("HZ")), (Some(&'m'), None));
    kernel.config = Some(options);
    let judge = |mode| verdict(&kernel::decide(&kernel, mode), Check::KernelConfig);
    assert_eq!(judge(NetworkMode::Cni), Verdict::Info);
    assert_eq!(judge(NetworkMode::Bridge), Verdict::Problem);
}

#[test]
fn cgroups_need_controllers_and_a_driver_that_works() {
    let v2 = Layout::V2 {
        mount_point: "/sys/fs/cgroup".into(),
        flags: Vec::new(),
    };
    let names = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    let good = cgroups::Cgroups {
        layout: Ok(v2),
        controllers: names("cpu cpuset memory pids io"),
        driver: Ok(Driver::Systemd),
    };
    assert!(
        cgroups::decide(&good)
            .iter()
            .all(|one| one.verdict == Verdict::Ok)
    );
    let lacking = cgroups::Cgroups {
        controllers: names("cpu cpuset pids"),
        driver: Err("no systemd".to_owned()),
        ..good
    };
    let findings = cgroups::decide(&lacking);
    assert_eq!(verdict(&findings, Check::CgroupsControllers), Verdict::Problem);
    assert_eq!(verdict(&findings, Check::CgroupsDriver), Verdict::Problem);
    let v1 = Layout::V1 {
        hierarchies: vec![Hierarchy {
            controllers: vec!["memory".to_owned()],
            mount_point: "/sys/fs/cgroup/memory".into(),
        }],
    };
    let old = cgroups::Cgroups {
        layout: Ok(v1),
        ..lacking
    };
    assert_eq!(
        verdict(&cgroups::decide(&old), Check::CgroupsVersion),
        Verdict::Info
    );
    let none = cgroups::Cgroups {
        layout: Err("none".to_owned()),
        ..old
    };
    assert_eq!(
        verdict(&cgroups::decide(&none), Check::CgroupsMounted),
        Verdict::Problem
    );
}

#[test]
fn flags_of_kubelet_precede_its_file() {
    let document = json!({
        "cgroupDriver": "systemd",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "failSwapOn": false,
        "maxPods": 50,
        "featureGates": {"KubeletCgroupDriverFromCRI": true},
        "evictionHard": {"nodefs.available": "1Gi"},
    });
    let own = settings(&document, &[]);
    assert_eq!(own.cgroup_driver.as_deref(), Some("systemd"));
    assert_eq!((own.max_pods, own.fail_swap_on), (Some(50), Some(false)));
    assert_eq!(own.driver_from_cri, Some(true));
    assert_eq!(own.eviction_hard["nodefs.available"], "1Gi");
    assert_eq!(own.resolv_conf(), "/etc/resolv.conf");
    let flags = [
        "--container-runtime-endpoint=unix:///run/pausa/pausa.sock",
        "--max-pods",
        "7",
        "--fail-swap-on=true",
        "--feature-gates=A=true,KubeletCgroupDriverFromCRI=false",
        "--eviction-hard=imagefs.available<5%",
    ];
    let both = settings(&document, &flags.map(str::to_owned));
    assert_eq!(
        both.runtime_endpoint.as_deref(),
        Some("unix:///run/pausa/pausa.sock")
    );
    assert_eq!((both.max_pods, both.fail_swap_on), (Some(7), Some(true)));
    assert_eq!(both.driver_from_cri, Some(false));
    assert_eq!(
        both.eviction_hard,
        [("imagefs.available".to_owned(), "5%".to_owned())].into()
    );
}

#[test]
fn kubelet_and_pausa_have_to_agree() {
    let around = || Surroundings {
        socket: Path::new("/run/pausa/pausa.sock"),
        driver: Some(Driver::Systemd),
        pins: true,
        swap: Vec::new(),
        has_resolv_conf: true,
        addresses: Some((253, "the subnet".to_owned())),
        sysctls: BTreeMap::from([("kernel.panic", 0)]),
    };
    let kubelet = |document: serde_json::Value| Kubelet {
        source: Some("a file".to_owned()),
        settings: settings(&document, &[]),
        ..Kubelet::default()
    };
    let judge = |document, change: fn(&mut Surroundings<'_>), check| {
        let mut around = around();
        change(&mut around);
        verdict(&kubelet::decide(&kubelet(document), &around), check)
    };
    use Verdict::{Info, Ok, Problem, Warning};
    for (document, check, expected) in [
        (json!({"cgroupDriver": "systemd"}), Check::KubeletCgroupDriver, Ok),
        (
            json!({"cgroupDriver": "cgroupfs"}),
            Check::KubeletCgroupDriver,
            Problem,
        ),
        (json!({}), Check::KubeletCgroupDriver, Problem),
        (
            json!({"featureGates": {"KubeletCgroupDriverFromCRI": true}}),
            Check::KubeletCgroupDriver,
            Info,
        ),
        (
            json!({"containerRuntimeEndpoint": "unix:///var/run/pausa/pausa.sock"}),
            Check::KubeletEndpoint,
            Ok,
        ),
        (
            json!({"containerRuntimeEndpoint": "unix:///run/crio/crio.sock"}),
            Check::KubeletEndpoint,
            Problem,
        ),
        // Its flags are not known.
        (json!({}), Check::KubeletEndpoint, Info),
        (
            json!({"imageServiceEndpoint": "unix:///run/crio/crio.sock"}),
            Check::KubeletImageEndpoint,
            Problem,
        ),
        (
            json!({"cpuManagerPolicy": "static"}),
            Check::KubeletCpuManager,
            Warning,
        ),
        (json!({}), Check::KubeletCpuManager, Ok),
        (json!({"maxPods": 254}), Check::KubeletMaxPods, Warning),
        (json!({}), Check::KubeletMaxPods, Ok),
        (
            json!({"protectKernelDefaults": true}),
            Check::KubeletKernelDefaults,
            Problem,
        ),
        (json!({}), Check::KubeletSwap, Ok),
    ] {
        assert_eq!(judge(document.clone(), |_| {}, check), expected, "{document}");
    }
    let swap = |around: &mut Surroundings<'_>| around.swap = vec!["/dev/sda2".to_owned()];
    assert_eq!(judge(json!({}), swap, Check::KubeletSwap), Problem);
    assert_eq!(judge(json!({"failSwapOn": false}), swap, Check::KubeletSwap), Ok);
    let gone = |around: &mut Surroundings<'_>| around.has_resolv_conf = false;
    assert_eq!(judge(json!({}), gone, Check::KubeletResolvConf), Problem);
    let none = Kubelet::default();
    assert_eq!(
        verdict(&kubelet::decide(&none, &around()), Check::KubeletConfig),
        Info
    );
    let new = Kubelet {
        version: Some((1, 34)),
        flags_known: true,
        ..kubelet(json!({}))
    };
    let findings = kubelet::decide(&new, &around());
    assert_eq!(verdict(&findings, Check::KubeletCgroupDriver), Info);
    assert_eq!(verdict(&findings, Check::KubeletEndpoint), Problem);
    assert_eq!(verdict(&findings, Check::KubeletVersion), Ok);
}

#[test]
fn thresholds_are_percentages_or_quantities() {
    assert_eq!(storage::threshold("10%", 1000), Some(100));
    assert_eq!(storage::threshold("12.5%", 1000), Some(125));
    assert_eq!(storage::threshold("1Gi", 1000), Some(1 << 30));
    assert_eq!(storage::threshold("much", 1000), None);
    assert_eq!(storage::threshold("10%", u64::MAX / 2), Some(u64::MAX / 20));
}

#[test]
fn a_disk_is_judged_by_kubelets_thresholds() {
    const ALL: u64 = 100 << 30;
    let place = |used_for, percent: u64| Place {
        used_for,
        path: "/p".into(),
        existing: "/p".into(),
        bytes: Room {
            free: ALL / 100 * percent,
            all: ALL,
        },
        inodes: Room { free: 0, all: 0 },
        read_only: false,
        kind: 0xef53,
        has_types: Some(true),
    };
    let judge = |place: Place, evictions: &[(&str, &str)], check| {
        let storage = Storage {
            places: vec![place],
            ..Storage::default()
        };
        let evictions = evictions.iter();
        let evictions = evictions.map(|(signal, limit)| ((*signal).to_owned(), (*limit).to_owned()));
        verdict(&storage::decide(&storage, &evictions.collect()), check)
    };
    use Verdict::{Ok, Problem, Warning};
    for (percent, expected) in [(14, Problem), (16, Warning), (25, Ok)] {
        assert_eq!(judge(place(Use::Root, percent), &[], Check::DiskSpace), expected);
    }
    for (percent, expected) in [(9, Problem), (12, Warning), (16, Ok)] {
        assert_eq!(judge(place(Use::Logs, percent), &[], Check::DiskSpace), expected);
    }
    let own = [("imagefs.available", "1Gi")];
    assert_eq!(judge(place(Use::Root, 9), &own, Check::DiskSpace), Ok);
    assert_eq!(judge(place(Use::Root, 0), &own, Check::DiskSpace), Problem);
    let few = Place {
        inodes: Room { free: 4, all: 100 },
        ..place(Use::Root, 50)
    };
    assert_eq!(judge(few, &[], Check::DiskInodes), Problem);
    let kind = |kind, has_types| Place {
        kind,
        has_types,
        ..place(Use::Root, 50)
    };
    assert_eq!(judge(kind(0x6969, None), &[], Check::DiskFilesystem), Problem);
    assert_eq!(
        judge(kind(0x5846_5342, Some(false)), &[], Check::DiskFilesystem),
        Problem
    );
    assert_eq!(judge(kind(0x5846_5342, None), &[], Check::DiskFilesystem), Ok);
    assert_eq!(
        judge(kind(0x0102_1994, None), &[], Check::DiskPersistent),
        Warning
    );
    let state = |kind| Place {
        kind,
        ..place(Use::State, 50)
    };
    assert_eq!(judge(state(0x0102_1994), &[], Check::DiskState), Ok);
    assert_eq!(judge(state(0xef53), &[], Check::DiskState), Warning);
    let read_only = Place {
        read_only: true,
        ..place(Use::Root, 50)
    };
    assert_eq!(judge(read_only, &[], Check::DiskWritable), Problem);
}

#[test]
fn routes_are_read_in_the_byte_order_of_the_network() {
    let text = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                docker0\t0000580A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
    let routes = network::routes(text);
    assert_eq!(routes[0], ("0.0.0.0/0".parse().unwrap(), "eth0".to_owned()));
    assert_eq!(routes[1], ("10.88.0.0/16".parse().unwrap(), "docker0".to_owned()));
}

#[test]
fn a_network_is_judged_without_a_pod() {
    use Verdict::{Info, Ok, Problem, Warning};
    use pausa_cni::Resolution;
    let facts = || network::Facts {
        network: Result::Ok(("net".to_owned(), "10.conflist".to_owned())),
        rejected: Vec::new(),
        plugins: Vec::new(),
        version: "1.0.0".to_owned(),
        subnet: Some(("10.88.0.0/16".parse().unwrap(), "the subnet".to_owned())),
        bridge: "pausa0".to_owned(),
        is_bridge: true,
        firewalls: vec!["nft"],
        routes: vec![("10.88.0.0/16".parse().unwrap(), "pausa0".to_owned())],
        ip_forward: Some(0),
        bridge_netfilter: Some(0),
        reverse_path: Some(1),
        connections: Some(95),
        most_connections: Some(100),
    };
    let findings = network::decide(&facts());
    for (check, expected) in [
        (Check::NetworkConfig, Ok),
        (Check::NetworkFirewall, Ok),
        (Check::NetworkSubnet, Ok),
        (Check::NetworkForwarding, Info),
        (Check::NetworkBridgeNetfilter, Warning),
        (Check::NetworkReversePath, Info),
        (Check::NetworkConntrack, Warning),
    ] {
        assert_eq!(verdict(&findings, check), expected, "{}", check.id());
    }
    let judge = |change: &dyn Fn(&mut network::Facts), check| {
        let mut facts = facts();
        change(&mut facts);
        verdict(&network::decide(&facts), check)
    };
    let plugin = |resolution: Result<Resolution, String>| {
        judge(
            &|facts| {
                facts.plugins = vec![network::Plugin {
                    name: "x".to_owned(),
                    resolution: resolution.clone(),
                }];
            },
            Check::NetworkPlugins,
        )
    };
    let binary = |versions: Option<&[&str]>| {
        let path = "/opt/cni/bin/x".into();
        let versions = versions.map(|list| list.iter().map(|one| (*one).to_owned()).collect());
        Result::Ok(Resolution::Binary { path, versions })
    };
    assert_eq!(plugin(Result::Ok(Resolution::InProcess)), Ok);
    assert_eq!(plugin(binary(Some(&["0.4.0", "1.0.0"]))), Ok);
    assert_eq!(plugin(binary(Some(&["0.4.0"]))), Problem);
    assert_eq!(plugin(binary(None)), Warning);
    assert_eq!(plugin(Err("not there".to_owned())), Problem);
    let no_firewall = |facts: &mut network::Facts| facts.firewalls.clear();
    assert_eq!(judge(&no_firewall, Check::NetworkFirewall), Problem);
    let overlapping = |facts: &mut network::Facts| facts.routes[0].1 = "docker0".to_owned();
    assert_eq!(judge(&overlapping, Check::NetworkSubnet), Problem);
    let default_route = |facts: &mut network::Facts| {
        facts.routes = vec![("0.0.0.0/0".parse().unwrap(), "eth0".to_owned())];
    };
    assert_eq!(judge(&default_route, Check::NetworkSubnet), Ok);
    let none = |facts: &mut network::Facts| facts.network = Err("none".to_owned());
    assert_eq!(judge(&none, Check::NetworkConfig), Problem);
    assert_eq!(network::addresses("10.1.2.0/24".parse().unwrap()), 253);
    assert_eq!(network::addresses("10.1.2.0/32".parse().unwrap()), 0);
    assert_eq!(network::addresses("0.0.0.0/0".parse().unwrap()), (1 << 32) - 3);
}

#[test]
fn resolvers_have_limits_and_loopback_is_nothing_for_pods() {
    let stub = "# c\nnameserver 127.0.0.53\noptions edns0\nsearch a b\n";
    let judge = |text: &str, has_kubelet| {
        let resolver = dns::parse(text);
        let findings = dns::decide(&dns::Facts {
            node: Ok(resolver.clone()),
            pods: ("/etc/resolv.conf".to_owned(), Some(resolver)),
            has_kubelet,
            spare: BTreeSet::from(["mirror.example".to_owned()]),
            lookups: BTreeMap::from([
                ("mirror.example".to_owned(), Err("no".to_owned())),
                ("r.example".to_owned(), Err("no".to_owned())),
                ("a.example".to_owned(), Ok(1)),
            ]),
        });
        let lookups = findings.iter().filter(|one| one.check == Check::DnsLookup);
        let lookups: Vec<Verdict> = lookups.map(|one| one.verdict).collect();
        assert_eq!(lookups, [Verdict::Ok, Verdict::Warning, Verdict::Problem]);
        let pods = findings.iter().find(|one| one.check == Check::DnsPods);
        (verdict(&findings, Check::DnsServers), pods.map(|one| one.verdict))
    };
    use Verdict::{Ok as Well, Problem, Warning};
    assert_eq!(judge(stub, true), (Well, Some(Problem)));
    assert_eq!(judge(stub, false), (Well, Some(Warning)));
    assert_eq!(judge("nameserver fe80::1%eth0\n", true), (Well, Some(Well)));
    assert_eq!(judge("", true), (Problem, None));
    assert_eq!(judge("nameserver dns.example\n", true), (Problem, None));
    assert_eq!(
        judge(&"nameserver 10.0.0.1\n".repeat(4), true),
        (Warning, Some(Well))
    );
    assert_eq!(
        judge("nameserver 10.0.0.1\nsearch a b c d e f g\n", true),
        (Warning, Some(Well))
    );
    assert_eq!(dns::name("r.example:5000").as_deref(), Some("r.example"));
    assert_eq!(dns::name("10.0.0.1:5000"), None);
    assert_eq!(dns::name("[::1]:5000"), None);
}

#[test]
fn a_mirror_that_fails_is_doubtful_while_the_registry_answers() {
    let server = |host: &str, is_mirror, outcome| registries::Server {
        url: format!("https://{host}/v2"),
        host: host.to_owned(),
        is_mirror,
        by_proxy: false,
        outcome,
    };
    let judge = |servers: Vec<registries::Server>| -> Vec<Verdict> {
        let facts = registries::Facts {
            registries: vec![("r.example".to_owned(), servers)],
            ..registries::Facts::default()
        };
        let findings = registries::decide(&facts, &BTreeSet::from(["unknown.example".to_owned()]));
        let findings = findings
            .iter()
            .filter(|one| one.check == Check::RegistryReachable);
        findings.map(|one| one.verdict).collect()
    };
    use Verdict::{Ok as Well, Problem, Warning};
    let refused = || Err("connection refused".to_owned());
    let mirror = |outcome| server("mirror.example", true, outcome);
    assert_eq!(
        judge(vec![mirror(refused()), server("r", false, Ok(401))]),
        [Warning, Well]
    );
    assert_eq!(
        judge(vec![mirror(Ok(200)), server("r", false, refused())]),
        [Well, Warning]
    );
    assert_eq!(
        judge(vec![mirror(refused()), server("r", false, Ok(503))]),
        [Problem, Problem]
    );
    // Said of the name already.
    assert_eq!(judge(vec![server("unknown.example", false, refused())]), []);
    let facts = registries::Facts {
        registries: vec![
            (
                "a".to_owned(),
                vec![mirror(refused()), server("a.example", false, Ok(200))],
            ),
            ("b".to_owned(), vec![server("b.example:5", false, refused())]),
        ],
        ..registries::Facts::default()
    };
    assert_eq!(
        facts.spare(),
        ["a.example", "mirror.example"].map(str::to_owned).into()
    );
}

#[test]
fn limits_are_judged_by_how_much_of_them_is_used() {
    assert_eq!(limits::tasks("0.1 0.2 0.3 2/345 678\n"), Some(345));
    assert_eq!(
        limits::keys("  101:     1 1/1 1/200 9/20000\n    0:    12 11/11 9/1000000 178/25000000\n"),
        Some((9, 1_000_000))
    );
    let text = "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
    assert_eq!(limits::open_files(text), Some(1024));
    let used = |used| {
        let limits = limits::Limits {
            inotify: Some(used),
            inotify_instances: Some(100),
            inotify_watches: Some(1000),
            ..limits::Limits::default()
        };
        verdict(&limits::decide(&limits), Check::LimitsInotify)
    };
    assert_eq!(
        (used(10), used(85), used(98)),
        (Verdict::Info, Verdict::Warning, Verdict::Problem)
    );
    let clock = |clock, seconds| {
        let limits = limits::Limits {
            clock,
            now: Some(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
            ..limits::Limits::default()
        };
        let findings = limits::decide(&limits);
        (
            verdict(&findings, Check::TimeSynchronised),
            verdict(&findings, Check::TimePlausible),
        )
    };
    assert_eq!(clock(Some(true), 1_800_000_000), (Verdict::Ok, Verdict::Ok));
    assert_eq!(clock(Some(false), 10), (Verdict::Warning, Verdict::Problem));
}

#[test]
fn apparmor_without_its_parser_confines_nothing() {
    let judge = |loaded, has_parser, runs| {
        let facts = lsm::Lsm {
            apparmor: true,
            has_parser,
            profile: "pausa-default".to_owned(),
            is_configured: false,
            loaded,
            selinux: json!({"enabled": true, "labelsContainers": false, "reason": "no policy"}),
        };
        let findings = lsm::decide(&facts, runs);
        assert_eq!(verdict(&findings, Check::LsmSelinux), Verdict::Warning);
        verdict(&findings, Check::LsmAppArmor)
    };
    assert_eq!(judge(Some(true), false, true), Verdict::Ok);
    assert_eq!(judge(Some(false), false, true), Verdict::Warning);
    assert_eq!(judge(Some(false), true, true), Verdict::Warning);
    assert_eq!(judge(Some(false), true, false), Verdict::Ok);
    assert_eq!(judge(None, true, true), Verdict::Unknown);
}

#[test]
fn leftovers_are_named() {
    let socket = Path::new("/run/pausa/pausa.sock");
    let nothing = leftovers::decide(&leftovers::Leftovers::default(), socket);
    assert!(
        nothing.iter().all(|one| one.verdict == Verdict::Ok),
        "{nothing:?}"
    );
    let left = leftovers::Leftovers {
        programs: vec![("containerd".to_owned(), 1)],
        sockets: Vec::new(),
        units: Some(vec!["crio.service".to_owned()]),
        crictl: Some(leftovers::crictl(
            "runtime-endpoint: unix:///run/containerd/containerd.sock\nimage-endpoint: \"\"\n",
        )),
        attachments: vec!["abc in net".to_owned()],
    };
    for finding in leftovers::decide(&left, socket) {
        assert_eq!(finding.verdict, Verdict::Warning, "{finding:?}");
    }
    let own = leftovers::Leftovers {
        crictl: Some(leftovers::crictl(
            "runtime-endpoint: unix:///var/run/pausa/pausa.sock\n",
        )),
        ..leftovers::Leftovers::default()
    };
    assert_eq!(
        verdict(&leftovers::decide(&own, socket), Check::LeftoversCrictl),
        Verdict::Ok
    );
}
