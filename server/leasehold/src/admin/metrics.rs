//! `/metrics`: everything that is counted, as text.

use super::Watched;
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use leasehold_service::{engine::Engine, meters};
use prometheus_client::{encoding::text, metrics::info::Info, registry::Registry};
use std::sync::Arc;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What there is to see of a coordinator.
pub(super) fn registry(engine: &Engine, store: &'static str) -> Registry {
    let mut registry = Registry::with_prefix("leasehold");
    let about = Info::new([("version", env!("CARGO_PKG_VERSION")), ("store", store)]);
    registry.register("coordinator", "Which release it is, and on which store", about);
    meters::register(engine, &mut registry);
    registry
}

pub(super) async fn answer(State(watched): State<Arc<Watched>>) -> Response {
    let Some((_, registry)) = watched.engine.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    };
    let mut text = String::new();
    match text::encode(&mut text, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        // A string takes everything; what is encoded refuses nothing.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
