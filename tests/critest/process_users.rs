//! Who a container runs as: users, groups, and what the status says about them.

use std::collections::BTreeSet;

use pausa::proto::v1;
use tonic::Code;

use crate::harness::node::{reference, spec};
use crate::harness::pod::security;
use crate::harness::{on_node, on_pausa, refused, strings};

fn int(value: i64) -> Option<v1::Int64Value> {
    Some(v1::Int64Value { value })
}

/// CRI `run_as_user`, `run_as_group`, `run_as_username`, and the image's USER where the request is silent.
#[test]
#[ignore = "needs root"]
fn every_form_of_user() {
    on_node(async |node| {
        node.pull("user-name").await;
        node.pull("user-number").await;
        let pod = node.pod().await;
        let id = "echo $(id -u):$(id -g)";
        for (image, user, group, name, expected) in [
            ("base", None, None, "", "0:0"),
            ("base", Some(1000), None, "", "1000:1000"),
            ("base", Some(1000), Some(3000), "", "1000:3000"),
            ("base", Some(4242), None, "", "4242:0"),
            ("base", None, None, "bob", "1001:1001"),
            ("base", None, Some(3000), "alice", "1000:3000"),
            ("user-name", None, None, "", "1000:1000"),
            ("user-number", None, None, "", "1000:2000"),
            ("user-name", Some(0), None, "", "0:0"),
        ] {
            let seen = pod.sh_with(id, |config| {
                config.image = Some(spec(&reference(image)));
                let security = security(config);
                security.run_as_user = user.and_then(int);
                security.run_as_group = group.and_then(int);
                security.run_as_username = name.to_owned();
            });
            assert_eq!(
                seen.await.trim_end(),
                expected,
                "{image} {user:?} {group:?} {name}"
            );
        }
    });
}

/// CRI `LinuxContainerSecurityContext.run_as_username`: a name that the image does not know is named in the error.
#[test]
#[ignore = "needs root"]
fn an_unknown_user_name_is_an_error() {
    on_node(async |node| {
        let pod = node.pod().await;
        let mut config = pod.container_config();
        security(&mut config).run_as_username = "nobody-knows".to_owned();
        let text = match pod.try_create(&config).await {
            Err(status) => status.message().to_owned(),
            Ok(answer) => {
                let id = answer.into_inner().container_id;
                let request = v1::StartContainerRequest { container_id: id };
                let started = node.runtime().start_container(request).await;
                started.expect_err("nobody by that name").message().to_owned()
            }
        };
        assert!(!node.is_pausa() || text.contains("nobody-knows"), "{text}");
    });
}

/// CRI `run_as_group`: "should only be specified when run_as_user or run_as_username is specified; otherwise, the runtime MUST error."
#[test]
#[ignore = "needs root"]
fn a_group_without_a_user_is_refused() {
    on_node(async |node| {
        let pod = node.pod().await;
        let mut config = pod.container_config();
        security(&mut config).run_as_group = int(3000);
        let status = pod.try_create(&config).await.expect_err("a group without a user");
        if node.is_pausa() {
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().contains("run_as_group"), "{}", status.message());
        }
    });
}

async fn groups_of(
    pod: &crate::harness::Pod<'_>,
    policy: v1::SupplementalGroupsPolicy,
) -> (BTreeSet<i64>, BTreeSet<i64>) {
    let container = pod.start(|config| {
        let security = security(config);
        security.run_as_user = int(1000);
        security.supplemental_groups = vec![7777, 8888];
        security.set_supplemental_groups_policy(policy);
    });
    let container = container.await;
    let inside = container.sh("id -G").await;
    let inside = inside
        .split_whitespace()
        .map(|id| id.parse().expect("a number"))
        .collect();
    let user = container
        .status()
        .await
        .user
        .and_then(|user| user.linux)
        .expect("the user in the status");
    assert_eq!((user.uid, user.gid), (1000, 1000));
    let mut said: BTreeSet<i64> = user.supplemental_groups.into_iter().collect();
    said.insert(user.gid);
    (inside, said)
}

/// KEP-3619 `Merge`: groups of the request and those `/etc/group` of the image gives the user.
#[test]
#[ignore = "needs root"]
fn merged_groups_are_the_requests_and_the_images() {
    on_node(async |node| {
        let pod = node.pod().await;
        let (inside, said) = groups_of(&pod, v1::SupplementalGroupsPolicy::Merge).await;
        assert_eq!(inside, [1000, 2000, 3000, 7777, 8888].into());
        assert_eq!(said, inside, "CRI ContainerStatus.user tells what was applied");
    });
}

/// KEP-3619 `Strict`: `/etc/group` of the image is not asked.
#[test]
#[ignore = "needs root"]
fn strict_groups_are_only_the_requests() {
    on_node(async |node| {
        let pod = node.pod().await;
        let (inside, said) = groups_of(&pod, v1::SupplementalGroupsPolicy::Strict).await;
        assert_eq!(inside, [1000, 7777, 8888].into());
        assert_eq!(said, inside, "CRI ContainerStatus.user tells what was applied");
    });
}

/// Exec runs as the container's user, with its groups.
#[test]
#[ignore = "needs root"]
fn exec_is_the_same_user() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|config| {
            let security = security(config);
            security.run_as_user = int(1000);
            security.run_as_group = int(3000);
            security.supplemental_groups = vec![7777];
            config.command = strings(&["sh", "-c", "id; sleep 3600"]);
        });
        let container = container.await;
        container.says("uid=").await;
        let inside = container.sh("id").await;
        container.stop(0).await;
        assert_eq!(container.end().await.stdout(), inside);
    });
}

/// Only root of the container has capabilities; another user gets none by being root's heir (CVE-2022-24769).
#[test]
#[ignore = "needs root"]
fn a_plain_user_has_no_capabilities() {
    on_node(async |node| {
        let pod = node.pod().await;
        let script = "grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status | grep -cv 0000000000000000 || true";
        let seen = pod
            .sh_with(script, |config| security(config).run_as_user = int(1000))
            .await;
        assert_eq!(seen, "0\n");
    });
}

/// Ids that do not fit are refused and do not wrap around to root (CVE-2024-40635).
#[test]
#[ignore = "needs root"]
fn a_huge_user_id_does_not_become_root() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        for id in [1_i64 << 32, -1, i64::MAX] {
            let mut config = pod.container_config();
            security(&mut config).run_as_user = int(id);
            let text = refused(Code::InvalidArgument, pod.try_create(&config).await);
            assert!(text.contains("run_as_user"), "{text}");
        }
    });
}
