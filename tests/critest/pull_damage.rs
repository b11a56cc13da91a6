//! Mirrors that deliver damaged bytes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use pausa::proto::v1;
use tonic::Code;

use crate::harness::node::{Node, spec};
use crate::harness::registry::Registry;
use crate::harness::{ok, on_own_node, refused};

/// A mirror of the suite's registry that spoils the last byte of every blob.
fn liar() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound above").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A client that hangs up is none of the test's business.
            std::thread::spawn(move || forward(stream).ok());
        }
    });
    address
}

fn forward(mut client: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
    let mut server = TcpStream::connect(&Registry::get().address)?;
    server.write_all(head.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes())?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    if head.contains("/blobs/")
        && let Some(last) = answer.last_mut()
    {
        *last ^= 1;
    }
    client.write_all(&answer)
}

async fn pull(node: &Node, name: &str) -> Result<tonic::Response<v1::PullImageResponse>, tonic::Status> {
    let request = v1::PullImageRequest {
        image: Some(spec(name)),
        ..Default::default()
    };
    node.images().pull_image(request).await
}

fn hosts(node: &Node, toml: &str) {
    let dir = node.dir().join("hosts/damaged.test");
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("hosts.toml"), toml).expect("a file");
}

/// OCI distribution specification, "Pulling blobs": the client verifies the digest. Another server may have the right bytes.
#[test]
#[ignore = "needs root"]
fn a_mirror_with_damaged_blobs_fails_no_pull() {
    on_own_node(async |node| {
        let (liar, honest) = (liar(), &Registry::get().address);
        hosts(node, &format!("server = \"http://{liar}\"\n"));
        let text = refused(Code::DataLoss, pull(node, "damaged.test/critest/base:1").await);
        assert!(text.contains(&Registry::get().image("base").id), "{text}");
        assert!(text.contains(&liar), "names who delivered it: {text}");
        assert_eq!(node.image("damaged.test/critest/base:1").await, None);
        hosts(
            node,
            &format!("server = \"http://{honest}\"\n[host.\"http://{liar}\"]\ncapabilities = [\"pull\"]\n"),
        );
        for name in ["base", "spare", "whiteouts"] {
            let pulled = pull(node, &format!("damaged.test/critest/{name}:1")).await;
            assert_eq!(ok("PullImage", pulled).image_ref, Registry::get().image(name).id);
        }
    });
}
