"""Holds messages against Home Assistant's own schema of MQTT updates. Input: `topic payload`, one message a line."""

import json
import sys

from homeassistant.components.mqtt.discovery import MQTT_ORIGIN_INFO_SCHEMA
from homeassistant.components.mqtt.update import DISCOVERY_SCHEMA, _MqttUpdatePayloadType

# Since Home Assistant 2024.11 the platform also knows these two (home-assistant.io/integrations/update.mqtt).
STATE = set(_MqttUpdatePayloadType.__annotations__) | {"in_progress", "update_percentage"}


def config(payload):
    origin = payload.pop("origin")
    assert MQTT_ORIGIN_INFO_SCHEMA(origin) == origin, origin
    taken = DISCOVERY_SCHEMA(dict(payload))
    dropped = set(payload) - set(taken)
    assert not dropped, f"Home Assistant does not know {dropped}"


def state(payload):
    unknown = set(payload) - STATE
    assert not unknown, f"Home Assistant does not know {unknown}"
    for name in ("installed_version", "latest_version", "title"):
        assert isinstance(payload[name], str) and payload[name], payload
    assert len(payload.get("release_summary", "")) <= 255, payload
    assert payload.get("release_url", "http://").startswith("http"), payload
    assert isinstance(payload["in_progress"], bool), payload
    percent = payload["update_percentage"]
    assert percent is None or (type(percent) is int and 0 <= percent <= 100), payload


counts = {"config": 0, "state": 0}
for line in sys.stdin:
    topic, _, text = line.strip().partition(" ")
    kind = topic.rsplit("/", 1)[-1]
    if kind in counts and text != "(null)":
        {"config": config, "state": state}[kind](json.loads(text))
        counts[kind] += 1
print(json.dumps(counts))
