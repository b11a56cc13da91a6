use std::process::Command;

use super::*;

/// A certificate and its key, by the program everybody has; none where it is missing.
fn make(dir: &Path) -> Option<()> {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=pausa.test", "-keyout"])
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("cert.pem"))
        .output();
    match made {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            Some(())
        }
        Err(_) => {
            println!("skipped: openssl is not on PATH");
            None
        }
    }
}

#[test]
fn a_new_pair_is_read_and_a_broken_one_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let Some(()) = make(dir.path()) else { return };
    let certificate = Certificate::open(&cert, &key).unwrap();
    let first = certificate.current();
    assert!(Arc::ptr_eq(&first, &certificate.current()));

    let old = std::fs::read(&key).unwrap();
    make(dir.path()).unwrap();
    let new = std::fs::read(&key).unwrap();
    std::fs::write(&key, old).unwrap();
    assert!(
        Arc::ptr_eq(&first, &certificate.current()),
        "they do not fit each other"
    );
    std::fs::write(&key, [&new[..], b"\n"].concat()).unwrap();
    let second = certificate.current();
    assert!(!Arc::ptr_eq(&first, &second));
    std::fs::remove_file(&key).unwrap();
    assert!(Arc::ptr_eq(&second, &certificate.current()));
}

#[test]
fn files_that_will_not_do_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let error = Certificate::open(&cert, &key).unwrap_err().to_string();
    assert!(error.contains("cert.pem"), "{error}");
    std::fs::write(&cert, "nothing of the kind").unwrap();
    let error = Certificate::open(&cert, &key).unwrap_err();
    assert!(matches!(error, TlsError::Empty { .. }), "{error}");
    let Some(()) = make(dir.path()) else { return };
    std::fs::remove_file(&key).unwrap();
    let error = Certificate::open(&cert, &key).unwrap_err().to_string();
    assert!(error.contains("key.pem"), "{error}");
}
