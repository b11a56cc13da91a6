//! Required fields. A request without one is InvalidArgument, and the text names the field.

use crate::error::{ErrorKind, Failure};
use crate::proto::v1;

/// A message that must be there.
pub(super) fn message<T>(field: &'static str, value: Option<T>) -> Result<T, Failure> {
    value.ok_or_else(|| missing(field))
}

/// A text that must not be empty.
pub(super) fn text(field: &'static str, value: &str) -> Result<(), Failure> {
    if value.is_empty() {
        return Err(missing(field));
    }
    Ok(())
}

/// An image specification that names an image.
pub(super) fn image(field: &'static str, image: Option<v1::ImageSpec>) -> Result<v1::ImageSpec, Failure> {
    let image = message(field, image)?;
    if image.image.is_empty() {
        return Err(wrong(format!("the field {field}.image is required and empty")));
    }
    Ok(image)
}

/// A failure because of the request itself.
pub(super) fn wrong(message: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::InvalidArgument, message)
}

fn missing(field: &'static str) -> Failure {
    wrong(format!("the field {field} is required and missing"))
}
