//! RPCs that pausa does not serve yet answer UNIMPLEMENTED, so that clients fall back instead of waiting.

use pausa::proto::v1;
use tonic::Code;

use crate::harness::{on_pausa, refused};

/// CRI CheckpointContainer and its kin (KEP-2008).
#[test]
#[ignore = "needs root"]
fn checkpoints_are_not_served_yet() {
    on_pausa(async |node| {
        let mut runtime = node.runtime();
        refused(
            Code::Unimplemented,
            runtime
                .checkpoint_container(v1::CheckpointContainerRequest::default())
                .await,
        );
        refused(
            Code::Unimplemented,
            runtime.checkpoint_pod(v1::CheckpointPodRequest::default()).await,
        );
        refused(
            Code::Unimplemented,
            runtime.restore_pod(v1::RestorePodRequest::default()).await,
        );
    });
}
