//! Pages of FaceTheory, and ours for FaceTheory: a row tells only when a page was rendered and where it is; what the response
//! was is told by the metadata of its object.

use leasehold_core::{
    object::{self, ObjectName},
    page::{PageMeta, PageStatus, Pointer},
};
use leasehold_store::port::ObjectMeta;

/// The response's status.
pub(super) const STATUS: &str = "facetheory-status";
/// Its content type.
pub(super) const CONTENT_TYPE: &str = "facetheory-content-type";
/// Its header [`CSP_HEADER`].
pub(super) const CSP: &str = "facetheory-content-security-policy";
pub(super) const CSP_HEADER: &str = "content-security-policy";

/// Whether an object is a page at all: that of a status which is never cached here counts as none, and is rendered again.
pub(super) fn is_page(object: &ObjectMeta) -> bool {
    attribute(object, STATUS).is_none_or(|status| parse_status(status).is_some())
}

/// A page with what its object tells. What it does not tell is as its row has it.
pub(super) fn complete(pointer: &Pointer, object: &ObjectMeta) -> Pointer {
    let mut meta: PageMeta = pointer.meta.clone();
    if let Some(status) = attribute(object, STATUS).and_then(parse_status) {
        meta.status = status;
    }
    let content_type = attribute(object, CONTENT_TYPE).unwrap_or(&object.content_type);
    if !content_type.is_empty() {
        meta.content_type = content_type.to_owned();
    }
    meta.headers.extend(attribute(object, CSP).map(|csp| (CSP_HEADER.to_owned(), csp.to_owned())));
    Pointer { meta, ..pointer.clone() }
}

/// The sidecar that a foreign page may have: its row names the HTML alone.
pub(super) fn sidecar_of(pointer: &Pointer) -> Option<ObjectName> {
    pointer.is_foreign().then(|| object::sidecar_beside(&pointer.html.object))?
}

fn parse_status(status: &str) -> Option<PageStatus> {
    PageStatus::new(status.parse().ok()?)
}

fn attribute<'a>(object: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    object.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}
