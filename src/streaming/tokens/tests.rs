use super::*;

#[tokio::test(start_paused = true)]
async fn a_token_works_once_and_not_for_long() {
    let tokens = Tokens::default();
    let first = tokens.issue(1).unwrap();
    let second = tokens.issue(2).unwrap();
    assert_eq!(tokens.redeem(&first), Some(1));
    assert_eq!(tokens.redeem(&first), None, "used");
    assert_eq!(tokens.redeem("nonsense"), None, "wrong");
    tokio::time::advance(LIFETIME).await;
    assert_eq!(tokens.redeem(&second), None, "late");
}

#[tokio::test(start_paused = true)]
async fn only_so_many_are_outstanding() {
    let tokens = Tokens::default();
    let issued: Vec<_> = (0..OUTSTANDING_MAX)
        .map(|number| tokens.issue(number).unwrap())
        .collect();
    assert!(tokens.issue(0).is_err());
    assert_eq!(tokens.redeem(&issued[7]), Some(7));
    tokens.issue(0).unwrap();
    assert!(tokens.issue(0).is_err());
    tokio::time::advance(LIFETIME).await;
    tokens.issue(0).unwrap();
}

#[test]
fn used_tokens_are_not_kept() {
    let tokens = Tokens::default();
    for number in 0..10 * OUTSTANDING_MAX {
        let token = tokens.issue(number).unwrap();
        assert_eq!(tokens.redeem(&token), Some(number));
    }
    assert!(tokens.0.lock().expiries.len() <= 2 * OUTSTANDING_MAX + 1);
}

#[test]
fn tokens_are_long_and_fit_a_url() {
    let token = Tokens::default().issue(()).unwrap();
    assert_eq!(token.len(), 32);
    assert!(
        token
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    );
}
