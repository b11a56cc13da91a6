//! Required fields of requests. A request without one is InvalidArgument, and the message names the field.

use std::collections::BTreeMap;

use crate::config::Handler;
use crate::error::{ErrorKind, Failure};
use crate::proto::v1;

/// A message that must be set.
pub(crate) fn message<T>(field: &'static str, value: Option<T>) -> Result<T, Failure> {
    value.ok_or_else(|| missing(field))
}

/// A string that must not be empty.
pub(crate) fn text(field: &'static str, value: &str) -> Result<(), Failure> {
    if value.is_empty() {
        return Err(missing(field));
    }
    Ok(())
}

/// An image specification that names an image, and one of the configured `handlers`.
pub(crate) fn image(
    field: &'static str,
    image: Option<v1::ImageSpec>,
    handlers: &BTreeMap<String, Handler>,
) -> Result<v1::ImageSpec, Failure> {
    let image = message(field, image)?;
    if image.image.is_empty() {
        return Err(invalid(format!("the field {field}.image is required and empty")));
    }
    known_handler(field, &image, handlers)?;
    Ok(image)
}

/// The runtime handler of an image must be configured (CRI `ImageSpec.runtime_handler`). The images of all handlers are the
/// same here.
pub(crate) fn known_handler(
    field: &str,
    image: &v1::ImageSpec,
    handlers: &BTreeMap<String, Handler>,
) -> Result<(), Failure> {
    let handler = &image.runtime_handler;
    if handlers.contains_key(handler) {
        return Ok(());
    }
    Err(invalid(format!(
        "the field {field}.runtime_handler is {handler:?}, which is not configured; add [handlers.{handler:?}] to pausa's configuration"
    )))
}

/// A failure that is the request's own fault.
pub(crate) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::InvalidArgument, message)
}

fn missing(field: &'static str) -> Failure {
    invalid(format!("the field {field} is required and missing"))
}
