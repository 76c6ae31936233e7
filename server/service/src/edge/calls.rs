//! Counts calls as they come, and those that are refused or fail, in front of everything that may refuse them.

use crate::{
    engine::Engine,
    meters::{CallMeters, METHODS},
};
use http::{Request, Response};
use leasehold_proto::v1::coordinator_service_server::SERVICE_NAME;
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tonic::Status;
use tonic_types::StatusExt as _;
use tower::{Layer, Service};

/// The layer.
#[derive(Clone)]
pub(crate) struct CountCalls(Arc<CallMeters>);

impl CountCalls {
    pub(crate) fn new(engine: &Engine) -> Self {
        Self(Arc::clone(&engine.meters().calls))
    }
}

impl<S> Layer<S> for CountCalls {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, meters: Arc::clone(&self.0) }
    }
}

/// A service whose calls are counted.
#[derive(Clone)]
pub(crate) struct Counted<S> {
    inner: S,
    meters: Arc<CallMeters>,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let counted = method(request.uri().path()).map(|method| {
            self.meters.came(method);
            (Arc::clone(&self.meters), METHODS[method])
        });
        Answer { call: self.inner.call(request), counted }
    }
}

pin_project! {
    /// A call under way.
    pub(crate) struct Answer<F> {
        #[pin]
        call: F,
        // What is not of the service, as questions after its health, is not counted.
        counted: Option<(Arc<CallMeters>, &'static str)>,
    }
}

impl<F, R, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let answer = ready!(this.call.poll(context));
        // What fails before its first message is told in the headers.
        if let (Ok(response), Some((meters, method))) = (&answer, this.counted)
            && let Some(status) = Status::from_header_map(response.headers())
            && status.code() != tonic::Code::Ok
        {
            meters.failed(method, &reason(&status));
        }
        Poll::Ready(answer)
    }
}

/// The contract's, or that of the transport, which has none of its own.
pub(crate) fn reason(status: &Status) -> String {
    match status.get_details_error_info() {
        Some(info) => info.reason,
        None => format!("{:?}", status.code()),
    }
}

/// Where a method stands in [`METHODS`].
pub(crate) fn method(path: &str) -> Option<usize> {
    let name = path.strip_prefix('/')?.strip_prefix(SERVICE_NAME)?.strip_prefix('/')?;
    METHODS.iter().position(|method| *method == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use leasehold_proto::v1::FILE_DESCRIPTOR_SET;
    use prost::Message as _;

    #[test]
    fn every_method_of_the_contract_is_counted_and_nothing_else_is() {
        let files = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
        let services = files.iter().flat_map(|file| &file.service);
        let methods: Vec<_> =
            services.flat_map(|service| &service.method).map(|method| method.name()).collect();
        assert_eq!(methods.len(), METHODS.len());
        for name in methods {
            let at = method(&format!("/leasehold.v1.CoordinatorService/{name}"));
            assert_eq!(at.map(|at| METHODS[at]), Some(name));
        }
        assert_eq!(method("/grpc.health.v1.Health/Check"), None);
        assert_eq!(method("/leasehold.v1.CoordinatorService/lookup"), None);
    }
}
