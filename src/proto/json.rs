//! How some fields of messages look in JSON: `build.rs` names these functions in serde attributes.
//!
//! `-o json` of the `pausa` command prints messages of the admin service; `docs/operations.md` documents the result.

use serde::Serializer;

use super::admin::{CpuMode, LayerState, NetworkVerdict, PullStep, VerifyMethod};
use super::v1::{ContainerState, PodSandboxState};

impl PullStep {
    /// For tables and JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "working",
            Self::Resolving => "resolving",
            Self::Config => "configuration",
            Self::Layers => "layers",
            Self::Syncing => "syncing",
            Self::Recording => "recording",
        }
    }
}

impl LayerState {
    /// For tables and JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unknown",
            Self::Queued => "queued",
            Self::Joined => "joined",
            Self::Fetching => "fetching",
            Self::Done => "done",
            Self::Present => "present",
        }
    }
}

impl ContainerState {
    /// For tables and JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::ContainerCreated => "created",
            Self::ContainerRunning => "running",
            Self::ContainerExited => "exited",
            Self::ContainerUnknown => "unknown",
        }
    }
}

impl PodSandboxState {
    /// For tables and JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::SandboxReady => "ready",
            Self::SandboxNotready => "notready",
        }
    }
}

impl CpuMode {
    /// For tables and JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unknown",
            Self::Pinned => "pinned",
            Self::Given => "given",
        }
    }
}

impl NetworkVerdict {
    /// For tables and JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unspecified | Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// The word of a [`NetworkVerdict`].
pub(super) fn network_verdict<S: Serializer>(verdict: &i32, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(NetworkVerdict::try_from(*verdict).unwrap_or_default().word())
}

/// The word of a [`PullStep`].
pub(super) fn pull_step<S: Serializer>(step: &i32, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(PullStep::try_from(*step).unwrap_or_default().word())
}

/// The word of a [`LayerState`].
pub(super) fn layer_state<S: Serializer>(state: &i32, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(LayerState::try_from(*state).unwrap_or_default().word())
}

/// The word of a [`VerifyMethod`].
pub(super) fn verify_method<S: Serializer>(method: &i32, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match VerifyMethod::try_from(*method).unwrap_or_default() {
        VerifyMethod::Exact => "exact",
        VerifyMethod::Tree => "tree",
        VerifyMethod::Unspecified => "unknown",
    })
}

/// The word of a [`CpuMode`].
pub(super) fn cpu_mode<S: Serializer>(mode: &i32, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(CpuMode::try_from(*mode).unwrap_or_default().word())
}

/// Nanoseconds since the epoch as RFC 3339 in UTC, to the second.
pub(crate) fn time<S: Serializer>(nanoseconds: &i64, to: S) -> Result<S::Ok, S::Error> {
    let time = jiff::Timestamp::from_nanosecond((*nanoseconds).into()).unwrap_or_default();
    to.collect_str(&time.strftime("%Y-%m-%dT%H:%M:%SZ"))
}

/// The same; null without one.
pub(crate) fn optional_time<S: Serializer>(nanoseconds: &Option<i64>, to: S) -> Result<S::Ok, S::Error> {
    match nanoseconds {
        Some(nanoseconds) => time(nanoseconds, to),
        None => to.serialize_none(),
    }
}

/// Bytes: text if they are UTF-8, otherwise a list of numbers.
pub(super) mod text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(in crate::proto) fn serialize<S: Serializer>(value: &[u8], to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(value) {
            Ok(text) => to.serialize_str(text),
            Err(_) => value.serialize(to),
        }
    }

    pub(in crate::proto) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        Ok(match Form::deserialize(from)? {
            Form::Text(text) => text.into_bytes(),
            Form::Bytes(bytes) => bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::admin::{
        CpuHolder, LayerProgress, LayerReport, NetworkFinding, Operation, PullProgress,
    };

    #[test]
    fn numbers_of_enums_are_words() {
        let mut pull = PullProgress {
            step: PullStep::Config.into(),
            layers: vec![LayerProgress {
                state: LayerState::Fetching.into(),
                diff_id: "sha256:bb".to_owned(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let json = serde_json::to_value(&pull).unwrap();
        assert_eq!(json["step"], "configuration");
        assert_eq!(json["layers"][0]["state"], "fetching");
        assert_eq!(json["layers"][0]["diffId"], "sha256:bb");
        // Those of a newer daemon.
        pull.step = 99;
        pull.layers[0].state = 99;
        let json = serde_json::to_value(&pull).unwrap();
        assert_eq!(
            (&json["step"], &json["layers"][0]["state"]),
            (&"working".into(), &"unknown".into())
        );
        for (verdict, word) in [(1, "ok"), (4, "problem"), (5, "unknown"), (99, "unknown")] {
            let finding = NetworkFinding {
                verdict,
                ..Default::default()
            };
            assert_eq!(serde_json::to_value(&finding).unwrap()["verdict"], word);
        }
        for (mode, word) in [(1, "pinned"), (2, "given"), (99, "unknown")] {
            let holder = CpuHolder {
                mode,
                ..Default::default()
            };
            assert_eq!(serde_json::to_value(&holder).unwrap()["mode"], word);
        }
        let report = LayerReport {
            method: VerifyMethod::Exact.into(),
            ..Default::default()
        };
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["method"], "exact");
        assert!(json["damage"].is_null());
    }

    #[test]
    fn times_are_rfc_3339() {
        for (nanoseconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_767_322_801_999_999_999, "2026-01-02T03:00:01Z"),
        ] {
            let pull = PullProgress {
                started: nanoseconds,
                ..Default::default()
            };
            assert_eq!(serde_json::to_value(&pull).unwrap()["started"], text);
            let mut operation = Operation {
                step_since: Some(nanoseconds),
                ..Default::default()
            };
            assert_eq!(serde_json::to_value(&operation).unwrap()["stepSince"], text);
            operation.step_since = None;
            assert!(serde_json::to_value(&operation).unwrap()["stepSince"].is_null());
        }
    }
}
