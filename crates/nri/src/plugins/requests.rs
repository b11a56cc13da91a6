//! The events whose answers change containers: what all plugins want is merged, and validated before it is done.

use std::sync::Arc;

use super::{Plugins, Round};
use crate::creation::{Creation, Merged};
use crate::error::NriError;
use crate::plugin::Plugin;
use crate::proto::{
    ContainerUpdate, CreateContainerRequest, Event, PluginInstance, StopContainerRequest,
    StopContainerResponse, UpdateContainerRequest, ValidateContainerAdjustmentRequest,
    ValidateContainerAdjustmentResponse,
};
use crate::update::{Updated, Updates, Updating};

impl Plugins {
    /// Whether a container cannot be created without asking: a plugin wants to, or the default validator does.
    #[must_use]
    pub fn wants_creations(&self) -> bool {
        self.settings.validator.enable
            || self.wants(Event::CreateContainer)
            || self.wants(Event::ValidateContainerAdjustment)
    }

    /// A container is about to be created: what plugins want of it and of others, which validators have accepted.
    ///
    /// # Errors
    /// A plugin answers with an error, plugins do not agree, or a validator refuses.
    pub async fn create_container(&self, request: CreateContainerRequest) -> Result<Merged, NriError> {
        let round = self.round().await;
        let mut creation = Creation::new(request);
        for plugin in round.interested(Event::CreateContainer) {
            if let Some(answer) = plugin.ask(Event::CreateContainer, creation.request()).await? {
                creation.apply(&plugin.name.to_string(), answer)?;
            }
        }
        let merged = creation.finish(round.members.iter().map(instance).collect());
        self.settings.validator.validate(&merged.validation)?;
        validate(&round, &merged.validation).await?;
        Ok(merged)
    }

    /// A container's resources are about to change: what plugins make of that.
    ///
    /// # Errors
    /// A plugin answers with an error, or plugins do not agree.
    pub async fn update_container(&self, request: UpdateContainerRequest) -> Result<Updated, NriError> {
        let mut updating = Updating::new(request);
        for plugin in self.round().await.interested(Event::UpdateContainer) {
            if let Some(answer) = plugin.ask(Event::UpdateContainer, updating.request()).await? {
                updating.apply(&plugin.name.to_string(), answer)?;
            }
        }
        Ok(updating.finish())
    }

    /// A container has stopped: what plugins want of others.
    ///
    /// # Errors
    /// A plugin answers with an error, or plugins do not agree.
    pub async fn stop_container(
        &self,
        request: StopContainerRequest,
    ) -> Result<Vec<ContainerUpdate>, NriError> {
        let mut updates = Updates::default();
        for plugin in self.round().await.interested(Event::StopContainer) {
            let answer = plugin.ask::<StopContainerResponse>(Event::StopContainer, &request);
            if let Some(answer) = answer.await? {
                updates.apply(&plugin.name.to_string(), answer.update)?;
            }
        }
        Ok(updates.finish())
    }
}

/// A validator that is lost refuses: what it would have said is not known.
async fn validate(round: &Round<'_>, request: &ValidateContainerAdjustmentRequest) -> Result<(), NriError> {
    let event = Event::ValidateContainerAdjustment;
    for plugin in round.interested(event) {
        let answer = plugin
            .ask::<ValidateContainerAdjustmentResponse>(event, request)
            .await?;
        let plugin = plugin.name.to_string();
        match answer {
            Some(answer) if answer.reject => {
                return Err(NriError::RefusedBy {
                    plugin,
                    reason: crate::error::clean(&answer.reason),
                });
            }
            Some(_) => {}
            None => return Err(NriError::ValidatorLost { plugin }),
        }
    }
    Ok(())
}

fn instance(plugin: &Arc<Plugin>) -> PluginInstance {
    PluginInstance {
        name: plugin.name.base.clone(),
        index: plugin.name.index.clone(),
    }
}

#[cfg(test)]
mod tests;
