//! Any bytes as a CDI spec file: reading never panics, and what is read says the same when it is written as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pausa_cdi::Spec;
use pausa_yaml::{Scalars, YamlError};

/// With the limit that spec files have.
fn parse(text: &str) -> Result<String, YamlError> {
    pausa_yaml::parse(text, Scalars::Typed, 64 << 20).map(|value| value.to_string())
}

fuzz_target!(|bytes: &[u8]| {
    let spec = Spec::parse(bytes);
    let Some(json) = str::from_utf8(bytes).ok().and_then(|text| parse(text).ok()) else {
        assert!(spec.is_err());
        return;
    };
    // Keys of more than 1024 bytes need the form that JSON does not have.
    if let Ok(again) = parse(&json) {
        assert_eq!(again, json);
        assert_eq!(Spec::parse(json.as_bytes()).ok(), spec.ok());
    }
});
