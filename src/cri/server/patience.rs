//! Takes the client's deadline from the request's headers and lets it travel with the request.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tonic::codegen::http::Request;
use tower::{Layer, Service};

use crate::deadline;

#[derive(Debug, Clone, Copy)]
pub(super) struct PatienceLayer;

impl<S> Layer<S> for PatienceLayer {
    type Service = Patience<S>;

    fn layer(&self, inner: S) -> Patience<S> {
        Patience { inner }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Patience<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Patience<S>
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
        Box::pin(deadline::scope(patience, self.inner.call(request)))
    }
}
