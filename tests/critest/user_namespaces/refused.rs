//! What cannot be in a user namespace.

use std::path::Path;

use pausa::proto::v1;
use pausa::proto::v1::NamespaceMode;
use tonic::Code;

use super::{FIRST, LENGTH, mappings, on_able_node, pod_of, set, users, volume};
use crate::harness::pod::{pod_security, security};
use crate::harness::{on_pausa, refused};

/// What cannot be is refused as the caller's mistake, and makes nothing.
#[test]
#[ignore = "needs root"]
fn pods_that_cannot_be_are_refused() {
    let changes: [fn(&mut v1::PodSandboxConfig); 9] = [
        |c| set(c, v1::UserNamespace::default()),
        |c| {
            let mut two = users(FIRST);
            two.uids.extend(mappings(FIRST + LENGTH));
            two.gids.extend(mappings(FIRST + LENGTH));
            set(c, two);
        },
        |c| {
            let mut shifted = users(FIRST);
            shifted.uids[0].container_id = 1;
            shifted.gids[0].container_id = 1;
            set(c, shifted);
        },
        |c| {
            let mut different = users(FIRST);
            different.gids[0].host_id += 1;
            set(c, different);
        },
        |c| {
            let mut node = users(FIRST);
            node.set_mode(NamespaceMode::Node);
            set(c, node);
        },
        |c| {
            let mut target = users(FIRST);
            target.set_mode(NamespaceMode::Target);
            set(c, target);
        },
        |c| {
            set(c, users(FIRST));
            pod_security(c).privileged = true;
        },
        |c| {
            set(c, users(FIRST));
            let options = pod_security(c).namespace_options.get_or_insert_default();
            options.set_pid(NamespaceMode::Node);
        },
        |c| {
            set(c, users(FIRST));
            let options = pod_security(c).namespace_options.get_or_insert_default();
            options.set_ipc(NamespaceMode::Node);
        },
    ];
    on_pausa(async |node| {
        for (at, change) in changes.into_iter().enumerate() {
            let mut config = node.pod_config();
            change(&mut config);
            let text = refused(Code::InvalidArgument, node.try_pod(&config).await);
            assert!(text.contains("config.linux.security_context"), "{at}: {text}");
        }
    });
}

/// A container has its pod's users, and only those.
#[test]
#[ignore = "needs root"]
fn containers_that_cannot_be_are_refused() {
    on_able_node(async |node| {
        if !node.is_pausa() {
            return;
        }
        let pod = pod_of(node, FIRST).await;
        let changes: [fn(&mut v1::ContainerConfig); 5] = [
            |c| {
                let options = security(c).namespace_options.get_or_insert_default();
                options.userns_options = Some(users(FIRST + LENGTH));
            },
            |c| {
                let options = security(c).namespace_options.get_or_insert_default();
                let node = options.userns_options.insert(v1::UserNamespace::default());
                node.set_mode(NamespaceMode::Node);
            },
            |c| {
                let options = security(c).namespace_options.get_or_insert_default();
                options.set_network(NamespaceMode::Node);
            },
            |c| {
                let value = LENGTH.into();
                security(c).run_as_user = Some(v1::Int64Value { value });
            },
            |c| c.mounts = vec![volume(Path::new("/tmp"), "/v", FIRST + LENGTH)],
        ];
        for change in changes {
            let mut config = pod.container_config();
            change(&mut config);
            refused(Code::InvalidArgument, pod.try_create(&config).await);
        }
        let plain = node.pod().await;
        let mut config = plain.container_config();
        let options = security(&mut config).namespace_options.get_or_insert_default();
        options.userns_options = Some(users(FIRST));
        refused(Code::InvalidArgument, plain.try_create(&config).await);
    });
}
