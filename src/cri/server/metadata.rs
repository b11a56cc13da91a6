//! Takes the client's deadline and its trace from the request's headers, and lets them travel with the request.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use opentelemetry::context::FutureExt as _;
use tonic::codegen::http::Request;
use tower::{Layer, Service};

use crate::deadline;
use crate::telemetry::traces;

#[derive(Debug, Clone, Copy)]
pub(super) struct MetadataLayer;

impl<S> Layer<S> for MetadataLayer {
    type Service = Metadata<S>;

    fn layer(&self, inner: S) -> Metadata<S> {
        Metadata { inner }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Metadata<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Metadata<S>
where
    S: Service<Request<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let header = request
            .headers()
            .get("grpc-timeout")
            .and_then(|value| value.to_str().ok());
        let patience = header.and_then(deadline::parse);
        let trace = traces::of_client(request.headers());
        let answer = deadline::scope(patience, self.inner.call(request));
        match trace {
            Some(trace) => Box::pin(answer.with_context(trace)),
            None => Box::pin(answer),
        }
    }
}
