//! Exec, Attach and PortForward: what is refused before anybody is asked.

use super::*;

/// What makes a request wrong.
type Spoil<T> = fn(&mut T);

fn exec() -> v1::ExecRequest {
    v1::ExecRequest {
        container_id: "ctr".into(),
        cmd: vec!["true".into()],
        stdout: true,
        ..Default::default()
    }
}

fn attach() -> v1::AttachRequest {
    v1::AttachRequest {
        container_id: "ctr".into(),
        stdin: true,
        tty: true,
        ..Default::default()
    }
}

#[tokio::test]
async fn they_answer_with_a_url() {
    let door = Door::open().await;
    let mut runtime = door.runtime().await;
    let answer = runtime.exec(exec()).await.unwrap().into_inner();
    assert_eq!(answer.url, "http://there/exec/1");
    assert!(door.fake.last_call().starts_with("exec ctr [\"true\"]"));
    let answer = runtime.attach(attach()).await.unwrap().into_inner();
    assert_eq!(answer.url, "http://there/attach/1");
    let request = v1::PortForwardRequest {
        pod_sandbox_id: "pod".into(),
        port: vec![1, 65535],
    };
    let answer = runtime.port_forward(request).await.unwrap().into_inner();
    assert_eq!(answer.url, "http://there/portforward/1");
    assert_eq!(door.fake.last_call(), "port-forward pod [1, 65535]");
}

#[tokio::test]
async fn wrong_execs_are_refused() {
    let door = Door::open().await;
    let mut runtime = door.runtime().await;
    let wrong: [(&str, Spoil<v1::ExecRequest>); 4] = [
        ("container_id", |request| request.container_id.clear()),
        ("cmd", |request| request.cmd.clear()),
        ("one of stdin, stdout and stderr", |request| {
            request.stdout = false;
        }),
        ("tty and stderr cannot both be true", |request| {
            (request.tty, request.stderr) = (true, true);
        }),
    ];
    for (field, spoil) in wrong {
        let mut request = exec();
        spoil(&mut request);
        refused(runtime.exec(request).await, field);
    }
}

#[tokio::test]
async fn wrong_attaches_are_refused() {
    let door = Door::open().await;
    let mut runtime = door.runtime().await;
    let wrong: [(&str, Spoil<v1::AttachRequest>); 3] = [
        ("container_id", |request| request.container_id.clear()),
        ("one of stdin, stdout and stderr", |request| request.stdin = false),
        ("tty and stderr cannot both be true", |request| {
            request.stderr = true;
        }),
    ];
    for (field, spoil) in wrong {
        let mut request = attach();
        spoil(&mut request);
        refused(runtime.attach(request).await, field);
    }
}

#[tokio::test]
async fn wrong_port_forwards_are_refused() {
    let door = Door::open().await;
    let mut runtime = door.runtime().await;
    let request = v1::PortForwardRequest::default();
    refused(runtime.port_forward(request).await, "pod_sandbox_id");
    for port in [-1, 0, 65_536] {
        let request = v1::PortForwardRequest {
            pod_sandbox_id: "pod".into(),
            port: vec![80, port],
        };
        refused(runtime.port_forward(request).await, &port.to_string());
    }
}
