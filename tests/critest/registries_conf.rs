//! `registries.conf` (containers-registries.conf(5)) over the socket, read live.

use pausa::proto::v1;
use tonic::Code;

use crate::harness::node::{Node, reference, spec};
use crate::harness::registry::{HOST, Registry};
use crate::harness::{ok, on_own_node, refused};

fn write(node: &Node, name: &str, text: &str) {
    let path = node.dir().join(name);
    std::fs::create_dir_all(path.parent().expect("a file in a directory")).expect("a directory");
    std::fs::write(path, text).expect("a file");
}

async fn pull(node: &Node, name: &str) -> Result<tonic::Response<v1::PullImageResponse>, tonic::Status> {
    let request = v1::PullImageRequest {
        image: Some(spec(name)),
        ..Default::default()
    };
    node.images().pull_image(request).await
}

/// containers-registries.conf(5), "Remapping and mirroring registries": the name stays the user's.
#[test]
#[ignore = "needs root"]
fn a_location_stands_in_for_a_name() {
    on_own_node(async |node| {
        let dead = "[[registry.mirror]]\nlocation = \"127.0.0.1:9/nothing\"\ninsecure = true\n";
        let rule =
            format!("[[registry]]\nprefix = \"*.logical.test\"\nlocation = \"{HOST}/critest\"\n{dead}");
        write(node, "registries.conf", &rule);
        let name = "eu.logical.test/base:1";
        let id = ok("PullImage", pull(node, name).await).image_ref;
        assert_eq!(id, Registry::get().image("base").id);
        let image = node.image(name).await.expect("by the name it was asked for");
        assert_eq!(image.repo_tags, [name]);
        // Read live: a drop-in blocks it.
        let block = "[[registry]]\nprefix = \"eu.logical.test\"\nblocked = true\n";
        write(node, "registries.conf.d/10-block.conf", block);
        let text = refused(Code::FailedPrecondition, pull(node, name).await);
        assert!(text.contains("10-block.conf") && text.contains(name), "{text}");
        write(node, "registries.conf.d/10-block.conf", "nonsense");
        let text = refused(Code::FailedPrecondition, pull(node, name).await);
        assert!(text.contains("10-block.conf"), "{text}");
    });
}

/// containers-registries.conf(5), "Short-Name Aliasing", and the search list.
#[test]
#[ignore = "needs root"]
fn short_names_are_found_by_their_short_names() {
    on_own_node(async |node| {
        write(
            node,
            "registries.conf",
            &format!("[aliases]\nalias = \"{HOST}/critest/base\"\n"),
        );
        let id = ok("PullImage", pull(node, "alias:1").await).image_ref;
        for name in ["alias:1", &reference("base")] {
            assert_eq!(
                node.image(name).await.map(|image| image.id),
                Some(id.clone()),
                "{name}"
            );
        }
        let search = format!("unqualified-search-registries = [\"127.0.0.1:9\", \"{HOST}\"]\n");
        write(node, "registries.conf", &search);
        let id = ok("PullImage", pull(node, "critest/spare:1").await).image_ref;
        let found = node.image("critest/spare:1").await.expect("by its short name");
        assert_eq!((found.id, found.repo_tags), (id, vec![reference("spare")]));
        let remove = v1::RemoveImageRequest {
            image: Some(spec("critest/spare:1")),
        };
        ok("RemoveImage", node.images().remove_image(remove).await);
        assert_eq!(node.image(&reference("spare")).await, None);
        let text = refused(Code::Unknown, pull(node, "critest/no-such:1").await);
        assert!(text.contains("127.0.0.1:9") && text.contains(HOST), "{text}");
    });
}
