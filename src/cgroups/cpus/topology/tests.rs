use std::fs;

use tempfile::TempDir;

use super::super::fixtures::Machine;
use super::*;

fn set(list: &str) -> CpuSet {
    list.parse().unwrap()
}

fn written(machine: &Machine) -> TempDir {
    let sys = tempfile::tempdir().unwrap();
    machine.write(sys.path());
    sys
}

fn remove(sys: &TempDir, path: &str) {
    fs::remove_file(sys.path().join("devices/system").join(path)).unwrap();
}

fn write(sys: &TempDir, path: &str, value: &str) {
    fs::write(sys.path().join("devices/system").join(path), value).unwrap();
}

/// The CPUs of all domains so many levels below the machine.
fn domains(topology: &Topology, level: usize) -> Vec<String> {
    let domains = topology.machine().below(level).into_iter();
    domains.map(|domain| domain.cpus.to_string()).collect()
}

#[test]
fn machines_are_read_as_they_are() {
    for machine in [
        Machine::epyc(),
        Machine::xeon(),
        Machine::laptop(),
        Machine::no_smt(),
        Machine::hybrid(),
        Machine::vm(),
        Machine::epyc().offline(&set("0-7,70,71")),
        Machine::hybrid().offline(&set("0,3,12")),
    ] {
        let sys = written(&machine);
        assert_eq!(
            Topology::read(sys.path()).unwrap(),
            machine.topology(),
            "{machine:?}"
        );
    }
}

#[test]
fn domains_of_each_level() {
    let topology = Machine::xeon().topology();
    let even = (0..40).map(|half| half * 2).collect::<CpuSet>().to_string();
    assert_eq!(domains(&topology, 1)[0], even);
    assert_eq!(domains(&topology, 4)[..2], ["0,40", "2,42"]);

    let topology = Machine::epyc().topology();
    assert_eq!(domains(&topology, 1), ["0-31,64-95", "32-63,96-127"]);
    assert_eq!(domains(&topology, 2)[1], "8-15,72-79");
    assert_eq!(domains(&topology, 3)[1], "4-7,68-71");
    assert_eq!(domains(&topology, 4)[1], "1,65");
}

#[test]
fn this_node_has_a_topology() {
    let topology = Topology::read(Path::new("/sys")).unwrap();
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    assert_eq!(topology.cpus(), &set(&online));
    for level in 0..=4 {
        let domains = topology.machine().below(level);
        let all = domains
            .iter()
            .fold(CpuSet::default(), |all, one| all.union(&one.cpus));
        assert_eq!(&all, topology.cpus());
        assert_eq!(domains.iter().map(|one| one.cpus.len()).sum::<usize>(), all.len());
    }
    assert!(!topology.memory_nodes(topology.cpus()).is_empty());
}

#[test]
fn old_kernels_have_other_names() {
    let mut machine = Machine::laptop();
    machine.memory = set("0,2");
    let sys = written(&machine);
    for cpu in machine.cpus().iter() {
        remove(&sys, &format!("cpu/cpu{cpu}/topology/core_cpus_list"));
    }
    fs::rename(
        sys.path().join("devices/system/node/has_memory"),
        sys.path().join("devices/system/node/has_normal_memory"),
    )
    .unwrap();
    assert_eq!(Topology::read(sys.path()).unwrap(), machine.topology());
}

#[test]
fn cpus_without_topology_are_cores_of_one_socket() {
    let machine = Machine::vm();
    let sys = written(&machine);
    for cpu in machine.cpus().iter() {
        fs::remove_dir_all(sys.path().join(format!("devices/system/cpu/cpu{cpu}"))).unwrap();
    }
    assert_eq!(Topology::read(sys.path()).unwrap(), machine.topology());
}

#[test]
fn caches_of_single_cores_do_not_count() {
    let machine = Machine::epyc();
    let sys = written(&machine);
    for cpu in machine.cpus().iter() {
        fs::remove_dir_all(
            sys.path()
                .join(format!("devices/system/cpu/cpu{cpu}/cache/index3")),
        )
        .unwrap();
    }
    let topology = Topology::read(sys.path()).unwrap();
    assert_eq!(domains(&topology, 3), domains(&topology, 2));
    assert_eq!(domains(&topology, 2), domains(&machine.topology(), 2));
}

#[test]
fn cpus_without_caches_share_one_where_others_have_them() {
    let sys = written(&Machine::epyc());
    for cpu in [0, 64, 7] {
        fs::remove_dir_all(sys.path().join(format!("devices/system/cpu/cpu{cpu}/cache"))).unwrap();
    }
    // The others of their caches do not claim them, as the kernel lists them nowhere.
    write(&sys, "cpu/cpu1/cache/index3/shared_cpu_list", "1-3,65-67");
    write(&sys, "cpu/cpu4/cache/index3/shared_cpu_list", "4-6,68-71");
    let topology = Topology::read(sys.path()).unwrap();
    assert_eq!(domains(&topology, 3)[..3], ["0,7,64", "1-3,65-67", "4-6,68-71"]);
}

#[test]
fn the_smaller_of_two_borders_counts() {
    // A cache over all nodes of a socket, and a node over both sockets.
    let machine = Machine::no_smt();
    let sys = written(&machine);
    for cpu in 0..16 {
        write(
            &sys,
            &format!("cpu/cpu{cpu}/cache/index3/shared_cpu_list"),
            "0-15",
        );
        write(
            &sys,
            &format!("cpu/cpu{cpu}/topology/physical_package_id"),
            if cpu < 4 { "0" } else { "1" },
        );
    }
    let topology = Topology::read(sys.path()).unwrap();
    assert_eq!(domains(&topology, 1), ["0-3", "4-15"]);
    assert_eq!(domains(&topology, 2), ["0-3", "4-7", "8-15"]);
    assert_eq!(domains(&topology, 3), ["0-3", "4-7", "8-15"]);
}

#[test]
fn lists_that_contradict_each_other_still_divide_the_cpus() {
    let sys = written(&Machine::laptop());
    write(&sys, "cpu/cpu2/topology/core_cpus_list", "1-3,99");
    write(&sys, "cpu/cpu4/topology/core_cpus_list", "6-7");
    write(&sys, "node/online", "0-1");
    write(&sys, "node/node0/cpulist", "1-7");
    fs::create_dir(sys.path().join("devices/system/node/node1")).unwrap();
    write(&sys, "node/node1/cpulist", "6-9");
    let topology = Topology::read(sys.path()).unwrap();
    let cores = ["0-1", "2-3", "4,6-7", "5", "10-11", "12-13", "14-15", "8-9"];
    assert_eq!(domains(&topology, 4), cores);
    // A CPU in no node is in the first.
    assert_eq!(domains(&topology, 2), ["0-7,10-15", "8-9"]);
}

#[test]
fn memory_is_that_of_the_cpus_nodes() {
    let mut machine = Machine::epyc();
    let topology = machine.topology();
    assert_eq!(topology.memory_nodes(&set("0-8")), set("0-1"));
    assert_eq!(topology.memory_nodes(&set("127")), set("7"));

    machine.memory = set("0,2,9");
    let sys = written(&machine);
    let topology = Topology::read(sys.path()).unwrap();
    assert_eq!(topology.memory_nodes(&set("0-23")), set("0,2"));
    // A node without memory.
    assert_eq!(topology.memory_nodes(&set("127")), set("0,2,9"));

    let vm = Machine::vm();
    assert_eq!(
        Topology::read(written(&vm).path())
            .unwrap()
            .memory_nodes(&set("3")),
        set("0")
    );
}

#[test]
fn fewer_cpus() {
    let machine = Machine::epyc();
    let some = set("1-63,70-127");
    let topology = machine.topology().restricted_to(&some);
    let gone = machine.cpus().difference(&some);
    assert_eq!(topology, machine.offline(&gone).topology());
    assert_eq!(topology.cpus(), &some);
    assert_eq!(topology.memory_nodes(topology.cpus()), set("0-7"));

    let topology = topology.restricted_to(&set("32-39,500"));
    assert_eq!(topology.cpus(), &set("32-39"));
    assert_eq!(domains(&topology, 1), ["32-39"]);
    assert_eq!(topology.memory_nodes(topology.cpus()), set("4"));

    let none = topology.restricted_to(&CpuSet::default());
    assert!(none.cpus().is_empty() && none.machine().parts.is_empty());
}

#[test]
fn errors_have_the_path() {
    let sys = written(&Machine::vm());
    write(&sys, "cpu/cpu3/topology/physical_package_id", "three\n");
    let error = Topology::read(sys.path()).unwrap_err();
    assert!(
        matches!(&error, TopologyError::Number { path, .. } if path.ends_with("cpu3/topology/physical_package_id"))
    );

    write(&sys, "cpu/online", "0-\n");
    let error = Topology::read(sys.path()).unwrap_err();
    assert!(matches!(&error, TopologyError::List { path, .. } if path.ends_with("cpu/online")));

    remove(&sys, "cpu/online");
    let error = Topology::read(sys.path()).unwrap_err();
    assert!(matches!(&error, TopologyError::Missing { path } if path.ends_with("cpu/online")));

    fs::create_dir(sys.path().join("devices/system/cpu/online")).unwrap();
    let error = Topology::read(sys.path()).unwrap_err();
    assert!(matches!(&error, TopologyError::Read { path, .. } if path.ends_with("cpu/online")));
}
