use super::*;

#[test]
fn the_status_of_a_command_is_its_exit_code_or_an_error() {
    let code = |status: &str| exit_code(status).map_err(|error| error.to_string());
    assert_eq!(
        code(r#"{"metadata":{},"status":"Success"}"#),
        Ok(ExitCode::SUCCESS)
    );
    let failed = r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code",
        "reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"42"}]}}"#;
    assert_eq!(code(failed), Ok(ExitCode::from(42)));
    let wrong = r#"{"status":"Failure","message":"no such file","reason":"InternalError"}"#;
    assert_eq!(code(wrong), Err("no such file".to_owned()));
    let odd = failed.replace("42", "4200");
    assert_eq!(
        code(&odd),
        Err("command terminated with non-zero exit code".to_owned())
    );
    for status in ["", "no JSON", "[]"] {
        let error = exit_code(status).unwrap_err().to_string();
        assert!(error.contains("does not say"), "{error}");
    }
}
