use super::*;
use crate::proto::admin::ImportRequest;
use crate::proto::admin::admin_client::AdminClient;

#[tokio::test]
async fn image_calls_need_an_image() {
    let door = Door::open().await;
    let mut images = door.images().await;
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

#[tokio::test]
async fn a_missing_image_is_an_answer() {
    let door = Door::open().await;
    let request = v1::ImageStatusRequest {
        image: Some(image("nope")),
        verbose: false,
    };
    let answer = door.images().await.image_status(request).await.unwrap();
    assert_eq!(answer.into_inner().image, None);
}

#[tokio::test]
async fn an_unreachable_registry_is_told_as_kubelet_reads_it() {
    let door = Door::open().await;
    let request = v1::PullImageRequest {
        image: Some(image("gone")),
        auth: Some(v1::AuthConfig {
            username: "me".into(),
            password: "hunter2".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let status = door.images().await.pull_image(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    assert_eq!(
        status.message(),
        "RegistryUnavailable: cannot connect to gone:443"
    );
    assert!(!door.fake.last_call().contains("hunter2"));
}

#[tokio::test]
async fn lists_and_streams_of_images_agree() {
    let door = Door::open().await;
    let mut images = door.images().await;
    let filter = Some(v1::ImageFilter {
        image: Some(image("nope")),
    });
    let request = v1::ListImagesRequest { filter };
    assert!(
        images
            .list_images(request)
            .await
            .unwrap()
            .into_inner()
            .images
            .is_empty()
    );
    let all = images.list_images(v1::ListImagesRequest::default()).await;
    let mut stream = images
        .stream_images(v1::StreamImagesRequest::default())
        .await
        .unwrap()
        .into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(first.images, all.unwrap().into_inner().images);
    assert!(stream.message().await.unwrap().is_none());
    images.image_fs_info(v1::ImageFsInfoRequest {}).await.unwrap();
}

#[tokio::test]
async fn an_archive_arrives_whole() {
    let door = Door::open().await;
    let pieces = (0..40).map(|_| ImportRequest {
        chunk: vec![0; 256 * 1024],
    });
    let mut admin = AdminClient::new(door.channel().await);
    let answer = admin.import(futures_util::stream::iter(pieces)).await.unwrap();
    let images = answer.into_inner().images;
    assert_eq!(images[0].id, format!("sha256:{}", 40 * 256 * 1024));
    assert_eq!(images[0].names, ["name:tag"]);
}
