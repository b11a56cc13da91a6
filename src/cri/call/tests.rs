use tonic::Code;

use super::*;
use crate::error::ErrorKind;

#[tokio::test]
async fn a_panic_is_one_requests_error() {
    let work = async {
        if std::hint::black_box(true) {
            panic!("the work broke down");
        }
        Ok::<_, Failure>(())
    };
    let status = call("Version", "", work).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(status.message().contains("the work broke down"), "{status:?}");
}

#[tokio::test]
async fn a_failure_keeps_its_code_and_text() {
    let failure = Failure::new(ErrorKind::FailedPrecondition, "the pod is not ready");
    let status = call("Version", "", async { Err::<(), _>(failure) })
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::FailedPrecondition, "the pod is not ready")
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_wait() {
    let patience = std::time::Duration::from_secs(2);
    let endless = call("Version", "", std::future::pending::<Result<(), Failure>>());
    let status = deadline::scope(Some(patience), endless).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("it goes on"), "{status:?}");
}
