//! Where a reference leads, for whoever asks why a pull goes where it goes.

use std::sync::Arc;

use pausa_distribution::{Explanation, Proxies, explain};

use super::Images;
use super::error::{ImageError, shortened};
use crate::image::pull::fetch::blocking;

impl Images {
    /// The registries and mirrors that a pull of `text` would ask, in their order. Reads configuration as a pull does, and asks
    /// nobody; says nothing about credentials, which come with each pull.
    ///
    /// # Errors
    /// [`ImageError::Reference`] if it is no name. What is wrong with configuration stands in the answer.
    pub async fn explain(&self, text: &str) -> Result<Explanation, ImageError> {
        let (registries, given) = (Arc::clone(&self.inner.registries), text.to_owned());
        let told = blocking("reading registry configuration", move || {
            Ok(explain(&registries, &given, &Proxies::from_env()))
        });
        told.await?.map_err(|source| ImageError::Reference {
            reference: shortened(text),
            source: Box::new(source),
        })
    }
}
