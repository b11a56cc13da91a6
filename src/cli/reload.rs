//! A reload: the daemon reads its configuration again and changes what can be changed while it runs.
//!
//! ```text
//!   SIGHUP ─▶ read, validate ─▶ prepare what can fail ─▶ change ─▶ the configuration that is in force
//!                  └──────────────────┴─ error: logged, nothing is changed
//! ```
//!
//! Must never: end the daemon, or leave a part of a reload in force.

use std::sync::Arc;

use sd_notify::NotifyState;
use tokio::signal::unix::Signal;

use super::services;
use crate::blocking::blocking;
use crate::config::{Change, Config, Reload, Running};
use crate::cri::server::notify;
use crate::error::chain;
use crate::sandbox::Pods;
use crate::telemetry;

/// Reloads with each SIGHUP.
pub(super) async fn on_signal(mut hangup: Signal, running: Arc<Running>, pods: Pods) {
    while hangup.recv().await.is_some() {
        // Without a time systemd would not know this reload from the one before.
        if let Ok(time) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, time]);
        }
        let reloaded = reload(Arc::clone(&running), pods.clone()).await;
        let status = match &reloaded {
            Ok(()) => String::new(),
            Err(error) => {
                let error = chain(error.as_ref());
                tracing::error!(
                    error,
                    "cannot reload the configuration: nothing was changed; `pausa config validate` shows all errors"
                );
                format!("The last reload failed, and changed nothing: {error}")
            }
        };
        // A status is one line.
        let status = status.replace(|c: char| c.is_control(), " ");
        notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }
}

async fn reload(running: Arc<Running>, pods: Pods) -> anyhow::Result<()> {
    blocking(move || {
        let Reload { changes, config } = running.read()?;
        services::configure(&pods, &running.config(), &config)?;
        // What a reload does is logged whatever the level was and will be.
        telemetry::set_log_level("info")?;
        report(&changes, &config);
        telemetry::set_log_level(&config.log.level)?;
        running.set(config);
        Ok(())
    })
    .await
}

fn report(changes: &[Change], config: &Config) {
    let mut pending = 0_usize;
    for change in changes {
        let text = |value: &Option<toml::Value>| {
            let text = value.as_ref().map(ToString::to_string);
            text.unwrap_or_else(|| "not set".to_owned())
        };
        let (key, old, new) = (&change.key, text(&change.old), text(&change.new));
        if change.needs_restart() {
            pending += 1;
            tracing::warn!(
                key,
                old,
                new,
                "a key of the configuration has changed that needs a restart"
            );
        } else {
            tracing::info!(key, old, new, "a key of the configuration has changed");
        }
    }
    tracing::info!(
        changed = changes.len() - pending,
        pending,
        log_level = config.log.level,
        "reloaded the configuration"
    );
}
