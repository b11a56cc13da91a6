use super::*;

#[tokio::test]
async fn image_calls_need_an_image() {
    let server = Server::start().await;
    let mut images = server.images().await;
    refused(images.pull_image(v1::PullImageRequest::default()).await, "image");
    refused(
        images.image_status(v1::ImageStatusRequest::default()).await,
        "image",
    );
    refused(
        images.remove_image(v1::RemoveImageRequest::default()).await,
        "image",
    );
    let nameless = v1::PullImageRequest {
        image: Some(image("")),
        ..Default::default()
    };
    refused(images.pull_image(nameless).await, "image.image");
}

/// CRI `ImageSpec.runtime_handler`: "If the runtime handler is unknown, the request should be rejected."
#[tokio::test]
async fn the_handler_of_an_image_must_be_known() {
    let server = Server::start().await;
    let mut images = server.images().await;
    let unknown = Some(v1::ImageSpec {
        runtime_handler: "kata".to_owned(),
        ..image("nope")
    });
    let pull = v1::PullImageRequest {
        image: unknown.clone(),
        ..Default::default()
    };
    refused(images.pull_image(pull).await, "image.runtime_handler");
    let status = v1::ImageStatusRequest {
        image: unknown.clone(),
        verbose: false,
    };
    refused(images.image_status(status).await, "image.runtime_handler");
    let remove = v1::RemoveImageRequest {
        image: unknown.clone(),
    };
    refused(images.remove_image(remove).await, "image.runtime_handler");
    let filter = Some(v1::ImageFilter { image: unknown });
    let list = v1::ListImagesRequest {
        filter: filter.clone(),
    };
    refused(images.list_images(list).await, "filter.image.runtime_handler");
    let stream = v1::StreamImagesRequest { filter };
    refused(images.stream_images(stream).await, "filter.image.runtime_handler");
}

#[tokio::test]
async fn a_missing_image_is_an_answer() {
    let server = Server::start().await;
    let request = v1::ImageStatusRequest {
        image: Some(image("nope")),
        verbose: false,
    };
    let answer = server.images().await.image_status(request).await.unwrap();
    assert_eq!(answer.into_inner().image, None);
}

#[tokio::test]
async fn an_unreachable_registry_is_reported_as_kubelet_reads_it() {
    let server = Server::start().await;
    // Port 1 of the loopback: nobody listens there.
    let request = v1::PullImageRequest {
        image: Some(image("127.0.0.1:1/gone")),
        auth: Some(v1::AuthConfig {
            username: "me".into(),
            password: "hunter2".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let status = server.images().await.pull_image(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown, "{status:?}");
    assert!(
        status.message().starts_with("RegistryUnavailable: "),
        "{status:?}"
    );
    assert!(!status.message().contains("hunter2"));
}

#[tokio::test]
async fn an_empty_store_has_empty_lists() {
    let server = Server::start().await;
    let mut images = server.images().await;
    let filter = Some(v1::ImageFilter {
        image: Some(image("nope")),
    });
    for filter in [filter, None] {
        let list = images.list_images(v1::ListImagesRequest { filter }).await;
        assert!(list.unwrap().into_inner().images.is_empty());
    }
    let stream = images.stream_images(v1::StreamImagesRequest::default()).await;
    assert!(stream.unwrap().into_inner().message().await.unwrap().is_none());
    let info = images.image_fs_info(v1::ImageFsInfoRequest {}).await;
    assert_eq!(info.unwrap().into_inner().image_filesystems.len(), 1);
}
