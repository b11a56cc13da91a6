use super::*;
use proptest::prelude::*;

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn the_empty_input_has_the_well_known_digest() {
    assert_eq!(Digest::sha256(b"").to_string(), EMPTY);
    assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::sha256(b""));
}

#[test]
fn what_cannot_be_verified_is_refused() {
    let upper = EMPTY.to_uppercase().replace("SHA256", "sha256");
    for text in [
        "",
        "sha256",
        "sha256:",
        "sha256:ab",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        &upper,
    ] {
        let error = text.parse::<Digest>().unwrap_err();
        assert_eq!(
            crate::Error::from(error).kind(),
            crate::Kind::InvalidReference,
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn any_text_parses_or_fails_without_panic(text in "\\PC{0,160}") {
        if let Ok(digest) = text.parse::<Digest>() {
            prop_assert_eq!(digest.to_string(), text);
        }
    }

    #[test]
    fn pieces_hash_as_the_whole(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
        let cut = cut.min(bytes.len());
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(&bytes[..cut]);
            hasher.update(&bytes[cut..]);
            let digest = hasher.finish();
            prop_assert_eq!(&digest, &Digest::of(algorithm, &bytes));
            prop_assert_eq!(&digest.to_string().parse::<Digest>().unwrap(), &digest);
        }
    }
}
