//! A policy that lets everybody in, each as an identity of its own.

use otaru_broker::{Admission, ConnectRequest, Policy, Refusal};

/// Lets everybody in, each as an identity of its own.
pub(crate) struct Open;

impl Policy for Open {
    type Identity = String;

    async fn identify(&self, request: ConnectRequest) -> Result<Admission<String>, Refusal> {
        Ok(Admission::new(request.client))
    }

    fn may_publish(&self, _: &String, _: &str) -> bool {
        true
    }

    fn may_subscribe(&self, _: &String, _: &str) -> bool {
        true
    }
}
