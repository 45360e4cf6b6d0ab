//! Messages of the outbox on their way to the broker.

use std::time::Duration;

use crate::reconcile::outbox::Publish;
use otaru_broker::client::Publisher;

/// Publishes messages of the outbox.
pub(super) struct MqttPublisher(Publisher);

impl MqttPublisher {
    pub(super) fn new(publisher: Publisher) -> Self {
        Self(publisher)
    }
}

impl Publish for MqttPublisher {
    async fn publish(&self, topic: &str, payload: &[u8], expiry: Duration) -> Result<(), String> {
        self.0.publish(topic, payload, false, Some(expiry)).await.map_err(|error| error.to_string())
    }
}
