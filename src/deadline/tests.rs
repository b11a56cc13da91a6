use std::time::Duration;

use super::{parse, scope, wait};

#[test]
fn every_unit_is_read_and_anything_else_is_no_deadline() {
    assert_eq!(parse("2H"), Some(Duration::from_secs(7200)));
    assert_eq!(parse("3M"), Some(Duration::from_secs(180)));
    assert_eq!(parse("4S"), Some(Duration::from_secs(4)));
    assert_eq!(parse("5m"), Some(Duration::from_millis(5)));
    assert_eq!(parse("6u"), Some(Duration::from_micros(6)));
    assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
    for bad in ["", "S", "1", "1s", "-1S", "123456789S", "1 S", "ﬃS", "1Sé"] {
        assert_eq!(parse(bad), None, "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_before_the_client_does_and_the_work_is_not_touched() {
    let work = tokio::spawn(async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        7
    });
    let begin = tokio::time::Instant::now();
    let waited = scope(
        Some(Duration::from_secs(2)),
        wait(async { std::future::pending::<()>().await }),
    )
    .await;
    assert_eq!(waited, None);
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert_eq!(work.await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn without_a_deadline_the_work_is_waited_for() {
    let slow = async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        1
    };
    assert_eq!(scope(None, wait(slow)).await, Some(1));
}
