//! What was checked and what came out. Each check has one consequence and one remedy, which `docs/operations.md` repeats.

use serde::{Serialize, Serializer};

use crate::cli::output::escape;

/// Characters of a text at most: some of them come from files and other programs.
const LONGEST: usize = 2000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    /// Worth knowing, and nobody's fault.
    Info,
    /// It may be meant so, or becomes a problem.
    Warning,
    /// It could not be checked.
    Unknown,
    Problem,
}

impl Verdict {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Problem => "problem",
        }
    }
}

/// A check and what came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) check: Check,
    pub(super) verdict: Verdict,
    /// What is, with the measured value.
    pub(super) found: String,
    /// Instead of the check's own, where more is known.
    remedy: Option<String>,
}

impl Finding {
    pub(super) fn new(check: Check, verdict: Verdict, found: impl Into<String>) -> Self {
        let mut found = found.into();
        if let Some((end, _)) = found.char_indices().nth(LONGEST) {
            found.truncate(end);
            found.push('…');
        }
        Self {
            check,
            verdict,
            found,
            remedy: None,
        }
    }

    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// What does not work; empty if all is well.
    pub(super) fn consequence(&self) -> &str {
        match self.verdict {
            Verdict::Ok => "",
            _ => self.check.consequence(),
        }
    }

    /// What to do about it; empty if all is well.
    pub(super) fn to_do(&self) -> &str {
        match (self.verdict, &self.remedy) {
            (Verdict::Ok, _) => "",
            (_, Some(remedy)) => remedy,
            (_, None) => self.check.remedy(),
        }
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            check: &'a str,
            verdict: Verdict,
            found: String,
            consequence: &'a str,
            remedy: &'a str,
        }
        let shown = Shown {
            check: self.check.id(),
            verdict: self.verdict,
            found: escape(&self.found),
            consequence: self.consequence(),
            remedy: self.to_do(),
        };
        shown.serialize(serializer)
    }
}

/// Declares the checks: id, consequence, remedy.
macro_rules! checks {
    ($($name:ident: $id:literal, $consequence:literal, $remedy:literal;)*) => {
        /// What is checked. Ids are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(super) enum Check {
            $($name,)*
        }

        impl Check {
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$name,)*];

            pub(super) const fn id(self) -> &'static str {
                match self {
                    $(Self::$name => $id,)*
                }
            }

            pub(super) const fn consequence(self) -> &'static str {
                match self {
                    $(Self::$name => $consequence,)*
                }
            }

            pub(super) const fn remedy(self) -> &'static str {
                match self {
                    $(Self::$name => $remedy,)*
                }
            }
        }
    };
}

checks! {
    Root: "doctor.root",
        "what only root may read is not checked",
        "run `pausa doctor` as root";
    ConfigValid: "config.valid",
        "the daemon does not start: it exits with 64",
        "correct what the text names; `pausa config` checks it again";
    ConfigFiles: "config.files",
        "the daemon does not start, or what needs the file fails",
        "create or correct the file, or remove the key";
    DaemonRunning: "daemon.running",
        "kubelet has no runtime and the node becomes NotReady; containers that run keep running",
        "`systemctl start pausa`, then `journalctl -u pausa -e`; or correct `listen` or --address";
    DaemonSocket: "daemon.socket",
        "a client without permission cannot reach the daemon; everybody who can is root on this node",
        "leave the socket to root and its group, mode 0660; run clients as root";
    DaemonVersion: "daemon.version",
        "the daemon lacks what this program has",
        "`systemctl restart pausa`; containers keep running";
    DaemonCri: "daemon.cri",
        "kubelet takes the node for NotReady and starts no pods",
        "the text is the daemon's own; `journalctl -u pausa -e` has more";
    DaemonOperations: "daemon.operations",
        "the pod or container stays in this state, and kubelet waits",
        "`pausa top` shows the step; the tables in docs/operations.md say what holds it up";
    DaemonOpenFiles: "daemon.open-files",
        "with many pods and sessions the daemon fails with EMFILE",
        "`LimitNOFILE=1048576` in the unit, then restart it";
    NetworkPods: "network.pods",
        "these pods are not reached, or reach nothing",
        "`pausa network check` says what is wrong with each";
    KernelVersion: "kernel.version",
        "system calls that pausa needs are missing",
        "use Linux 5.15 or later";
    KernelOverlay: "kernel.overlay",
        "no container gets a root file system",
        "`modprobe overlay`, and name it in /etc/modules-load.d; or use a kernel with CONFIG_OVERLAY_FS";
    KernelNamespaces: "kernel.namespaces",
        "no pod starts",
        "use a kernel with these namespaces";
    KernelUserNamespaces: "kernel.user-namespaces",
        "pods with hostUsers: false fail",
        "raise the sysctl user.max_user_namespaces, or use a kernel with CONFIG_USER_NS";
    KernelSeccomp: "kernel.seccomp",
        "only containers without a seccomp profile start",
        "use a kernel with CONFIG_SECCOMP_FILTER";
    KernelMemfd: "kernel.memfd",
        "the daemon does not start: its monitor is a program in memory",
        "`sysctl -w vm.memfd_noexec=1` or 0, and correct the file in /etc/sysctl.d";
    KernelConfig: "kernel.config",
        "what needs these options fails or is left out",
        "use a kernel with these options, see docs/kernel-features.md";
    CgroupsMounted: "cgroups.mounted",
        "the daemon does not start",
        "mount cgroup2 on /sys/fs/cgroup";
    CgroupsVersion: "cgroups.version",
        "no PSI, no partitions, no systemd driver; kubelet 1.35 and later does not start unless its failCgroupV1 is false",
        "boot with systemd.unified_cgroup_hierarchy=1";
    CgroupsDriver: "cgroups.driver",
        "the daemon does not start",
        "set `cgroup_driver` to auto, or to what works here";
    CgroupsControllers: "cgroups.controllers",
        "limits of these resources are not enforced, or pods that have them fail",
        "remove cgroup_disable= from the kernel's command line, or use a kernel with these controllers";
    KubeletConfig: "kubelet.config",
        "what kubelet asks of this node is not compared",
        "give its configuration with --kubelet-config";
    KubeletVersion: "kubelet.version",
        "kubelet does not speak CRI v1, and registers no node",
        "use kubelet 1.26 or later";
    KubeletEndpoint: "kubelet.endpoint",
        "kubelet uses another runtime, or none",
        "set containerRuntimeEndpoint of kubelet to pausa's socket, and restart kubelet";
    KubeletImageEndpoint: "kubelet.image-endpoint",
        "images are pulled into another runtime's store, and containers do not find them",
        "remove imageServiceEndpoint of kubelet, or set it to pausa's socket";
    KubeletCgroupDriver: "kubelet.cgroup-driver",
        "pods are refused: their cgroup_parent has the form of the other driver",
        "set cgroupDriver of kubelet and `cgroup_driver` of pausa to the same, and restart both";
    KubeletSwap: "kubelet.swap",
        "kubelet does not start",
        "`swapoff -a` and remove it from /etc/fstab, or set failSwapOn: false in kubelet's configuration";
    KubeletCpuManager: "kubelet.cpu-manager",
        "kubelet sets the CPUs of all containers, so pausa pins none",
        "set cpuManagerPolicy of kubelet to none, or `pinning` in [cpu] of pausa to none";
    KubeletResolvConf: "kubelet.resolv-conf",
        "kubelet cannot make the resolv.conf of pods, and they do not start",
        "correct resolvConf in kubelet's configuration";
    KubeletMaxPods: "kubelet.max-pods",
        "the last pods find no free address",
        "lower maxPods of kubelet, or set a larger subnet";
    KubeletKernelDefaults: "kubelet.kernel-defaults",
        "kubelet, with protectKernelDefaults, does not start",
        "set the sysctls to what the text says, in a file in /etc/sysctl.d";
    NetworkConfig: "network.config",
        "the node is NotReady: no pod with a network of its own starts",
        "correct the file, install the network add-on, or set `mode = \"bridge\"` in [network]";
    NetworkPlugins: "network.plugins",
        "RunPodSandbox fails for every pod with a network of its own",
        "install the plugin in a directory of `bin_dir` in [cni], or correct the configuration";
    NetworkFirewall: "network.firewall",
        "pods of the built-in bridge reach only each other and the node; host ports are refused",
        "install nftables (0.9.4 or later) or iptables";
    NetworkSubnet: "network.subnet",
        "pods do not reach hosts in this range, or hosts are taken for pods",
        "set `subnet` in [network.bridge] to a range that the node has no route to";
    NetworkForwarding: "network.forwarding",
        "the node does not route for pods",
        "`sysctl -w net.ipv4.ip_forward=1`, and a file in /etc/sysctl.d";
    NetworkBridgeNetfilter: "network.bridge-netfilter",
        "pods on one bridge do not reach Services whose endpoint is on the same node",
        "`sysctl -w net.bridge.bridge-nf-call-iptables=1`, and a file in /etc/sysctl.d";
    NetworkReversePath: "network.reverse-path",
        "the kernel drops packets that come back another way, as with several uplinks and some network add-ons",
        "`sysctl -w net.ipv4.conf.all.rp_filter=2` if pods are not reached";
    NetworkConntrack: "network.conntrack",
        "new connections are dropped",
        "raise net.netfilter.nf_conntrack_max, or find out who has so many connections with `conntrack -L`";
    DnsServers: "dns.servers",
        "names are not found, or servers and domains beyond the limits are ignored",
        "correct /etc/resolv.conf, or what writes it";
    DnsPods: "dns.pods",
        "pods that get the node's DNS ask themselves: CoreDNS forwards to itself and ends (plugin loop)",
        "set resolvConf of kubelet to a file with the real servers: /run/systemd/resolve/resolv.conf with systemd-resolved";
    DnsLookup: "dns.lookup",
        "images from this host are not pulled",
        "check the name and the name servers: `getent hosts NAME`";
    RegistryConfig: "registry.config",
        "pulls that the file concerns fail",
        "correct the file and line that the text names; no restart is needed";
    RegistryReachable: "registry.reachable",
        "images from this host are not pulled",
        "check proxy, firewall and certificates between this node and the host; `pausa image check IMAGE` shows the way";
    DiskSpace: "disk.space",
        "pulls, containers and logs fail for want of space; kubelet evicts pods and takes no new ones",
        "`pausa image rm --prune` removes unused images; otherwise make room or enlarge the file system";
    DiskInodes: "disk.inodes",
        "no files can be made; kubelet evicts pods and takes no new ones",
        "`pausa image rm --prune` removes unused images; otherwise remove files, or make the file system with more inodes";
    DiskWritable: "disk.writable",
        "nothing can be stored: no pulls, no pods",
        "look for I/O errors in `dmesg`, repair the file system, and mount it read-write";
    DiskFilesystem: "disk.filesystem",
        "overlayfs may refuse it as upper layer, and then no container starts",
        "put `root` on ext4, or on xfs made with ftype=1";
    DiskPersistent: "disk.persistent",
        "images and what outlives a reboot are lost with it",
        "put `root` on a disk";
    DiskState: "disk.state",
        "records of pods that a reboot has ended are still there, and every change is a write to disk",
        "put `state` on a tmpfs: below /run where that is one, or mount one there";
    DiskQuota: "disk.quota",
        "containers of the handler are refused: their limit cannot be enforced",
        "mount the file system of `root` with prjquota, or remove the limit";
    LimitsInotify: "limits.inotify",
        "`kubectl logs -f`, kubelet and programs that watch files fail with \"too many open files\" or ENOSPC",
        "raise fs.inotify.max_user_instances and fs.inotify.max_user_watches, for example to 8192 and 524288";
    LimitsOpenFiles: "limits.open-files",
        "nothing on the node can open files",
        "raise fs.file-max, or find out who has so many open with `lsof`";
    LimitsProcesses: "limits.processes",
        "nothing on the node can start processes or threads",
        "raise kernel.pid_max and kernel.threads-max, or set podPidsLimit of kubelet";
    LimitsKeys: "limits.keys",
        "containers get no session keyring of their own, and fail with EDQUOT",
        "raise kernel.keys.root_maxkeys and kernel.keys.root_maxbytes to 1000000 and 25000000";
    LimitsMounts: "limits.mounts",
        "no pod starts: the kernel refuses mounts with ENOSPC",
        "raise fs.mount-max, or remove mounts that nobody needs";
    TimeSynchronised: "time.synchronised",
        "certificates are refused when the clock is wrong, and logs of nodes cannot be compared",
        "run chrony, ntpd or systemd-timesyncd; check with `timedatectl` or `chronyc tracking`";
    TimePlausible: "time.plausible",
        "certificates of registries and of the API server are refused as not yet valid",
        "set the clock, and run chrony, ntpd or systemd-timesyncd";
    LsmAppArmor: "lsm.apparmor",
        "containers without a Localhost profile are not confined by AppArmor, or are refused",
        "install the package apparmor, or load the profile with `apparmor_parser -r FILE`";
    LsmSelinux: "lsm.selinux",
        "containers are not labelled: SELinux does not confine them",
        "install a policy with container_t (container-selinux), and set `enable_selinux`";
    LeftoversRuntimes: "leftovers.runtimes",
        "two runtimes share CNI networks, host ports and disk, and tools may ask the wrong one",
        "drain the node, stop and disable the other runtime, and remove its pods";
    LeftoversUnits: "leftovers.units",
        "the other runtime starts with the next boot, too",
        "`systemctl disable --now` the unit, unless the node needs it";
    LeftoversCrictl: "leftovers.crictl",
        "crictl shows another runtime's pods, or none",
        "set runtime-endpoint and image-endpoint in /etc/crictl.yaml to pausa's socket";
    LeftoversCni: "leftovers.cni",
        "their addresses stay taken until somebody detaches them",
        "start the daemon, which removes what is its own; otherwise remove the files when nobody uses the network";
    UnitInstalled: "unit.installed",
        "nobody starts the daemon after a boot or its end",
        "`make install`, or install the package; `packaging/pausa.service` is the unit";
    UnitEnabled: "unit.enabled",
        "the daemon does not start at boot",
        "`systemctl enable pausa`";
    UnitActive: "unit.active",
        "nobody starts the daemon again when it ends",
        "`systemctl start pausa`; `journalctl -u pausa -e` says why it ended";
    UnitRestarts: "unit.restarts",
        "requests fail while the daemon is away",
        "`journalctl -u pausa -e` says why it ended; `systemctl reset-failed pausa` sets the number back";
    UnitReload: "unit.reload",
        "systemd uses the unit as it was before the change",
        "`systemctl daemon-reload`, then `systemctl restart pausa`";
    UnitKillMode: "unit.kill-mode",
        "a restart of the unit kills all containers of the node",
        "set `KillMode=process`, then `systemctl daemon-reload`, before anything restarts it";
    UnitDelegate: "unit.delegate",
        "systemd changes and removes the cgroups of containers",
        "set `Delegate=yes`, then `systemctl daemon-reload` and restart the unit";
    UnitType: "unit.type",
        "systemd starts kubelet before the daemon answers",
        "set `Type=notify`, then `systemctl daemon-reload` and restart the unit";
}
