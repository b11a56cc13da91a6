//! Any bytes as a CDI spec file: reading never panics, and what is read says the same when it is written as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pausa_cdi::{Spec, yaml};

fuzz_target!(|bytes: &[u8]| {
    let spec = Spec::parse(bytes);
    let Some(value) = str::from_utf8(bytes).ok().and_then(|text| yaml::parse(text).ok()) else {
        assert!(spec.is_err());
        return;
    };
    let json = value.to_string();
    // Keys of more than 1024 bytes need the form that JSON does not have.
    if let Ok(again) = yaml::parse(&json) {
        assert_eq!(again, value);
        assert_eq!(Spec::parse(json.as_bytes()).ok(), spec.ok());
    }
});
