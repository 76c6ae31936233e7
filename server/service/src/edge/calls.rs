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
    use prost_types::DescriptorProto;
    use std::collections::{BTreeMap, BTreeSet};

    /// The types of all fields in a message and in what it consists of.
    fn types_in(message: &str, messages: &BTreeMap<String, DescriptorProto>) -> BTreeSet<String> {
        let (mut found, mut open) = (BTreeSet::new(), vec![message.to_owned()]);
        while let Some(name) = open.pop() {
            for field in messages.get(&name).into_iter().flat_map(|message| &message.field) {
                if field.type_name.is_some() && found.insert(field.type_name().to_owned()) {
                    open.push(field.type_name().to_owned());
                }
            }
        }
        found
    }

    /// However wrong a worker's clock is: nothing that it reads there reaches the coordinator.
    #[test]
    fn no_request_has_a_time_by_its_callers_clock() {
        const TIMESTAMP: &str = ".google.protobuf.Timestamp";
        let files = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
        let mut messages = BTreeMap::new();
        for file in &files {
            let mut open: Vec<_> =
                file.message_type.iter().map(|message| (format!(".{}", file.package()), message)).collect();
            while let Some((outer, message)) = open.pop() {
                let name = format!("{outer}.{}", message.name());
                open.extend(message.nested_type.iter().map(|nested| (name.clone(), nested)));
                messages.insert(name, message.clone());
            }
        }
        let methods = files.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
        let (mut asked, mut told) = (BTreeSet::new(), BTreeSet::new());
        for method in methods {
            asked.extend(types_in(method.input_type(), &messages));
            told.extend(types_in(method.output_type(), &messages));
        }
        assert!(
            asked.contains(".google.protobuf.Duration") && asked.contains(".leasehold.v1.EntryRef"),
            "{asked:?}"
        );
        assert!(told.contains(TIMESTAMP), "{told:?}");
        assert!(!asked.contains(TIMESTAMP), "{asked:?}");
    }

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
