//! CRI conformance from outside: a real daemon, a real registry, real containers, one test per rule.
//!
//! Every test's doc comment names where its rule comes from: a field or RPC of CRI v1, a Kubernetes enhancement
//! proposal (KEP), what kubelet does, or a section of the OCI specifications. By default each test starts a daemon of
//! its own in temporary directories and ends with a look for whatever may be left on the node. With
//! `PAUSA_CRITEST_SOCKET` the suite runs against any CRI socket: see `docs/conformance.md`.
//!
//! All tests need root and are ignored without `--run-ignored all`. Nothing here measures time.
#![cfg(test)]

mod harness;

mod admin_import;
mod apparmor;
mod attach;
mod attacks;
mod authority;
mod bad_input;
mod cadvisor;
mod cdi;
mod classes;
mod commands_cli;
mod container_lifecycle;
mod container_lists;
mod cpu_pinning;
mod differential;
mod doctor_cli;
mod escapes;
mod events;
mod events_cli;
mod exec_stream;
mod exec_sync;
mod foreign_tools;
mod handlers;
mod hanging_mounts;
mod hooks;
mod image_cli;
mod image_volumes;
mod images;
mod images_crash;
mod layer_quota;
mod log_files;
mod metrics;
mod migrate_cli;
mod mounts;
mod namespaces;
mod network_attacks;
mod network_check;
mod network_crash;
mod nri;
mod pids_limit;
mod pod_crash;
mod pod_metrics;
mod port_forward;
mod process;
mod process_users;
mod prometheus;
mod pull_auth;
mod pull_damage;
mod pull_tls;
mod recovery;
mod recovery_faults;
mod recovery_greeting;
mod registries_conf;
mod reload;
mod reset_cli;
mod resources;
mod sandbox_lifecycle;
mod sandbox_network;
mod security;
mod selinux;
mod service_manager;
mod silent_monitor;
mod stats;
mod status;
mod stop;
mod stream_attacks;
mod stream_daemon;
mod stream_soak;
mod streamed_lists;
mod top_cli;
mod traces;
mod two_daemons;
mod unserved;
mod user_namespaces;
mod warm;
