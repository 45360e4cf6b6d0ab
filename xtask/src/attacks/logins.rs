//! Attacks over MQTT by somebody who has a login: sessions without end, names without end, and names of others.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::force::Force;
use super::honest::{body, exchange};
use super::options::Attack;
use super::raw::{Login, Raw};
use super::reporter::Device;
use super::target::Target;

/// Sessions that are wanted, of one token.
const SESSIONS: usize = 20_000;
/// Ordinary reports, and then large messages, for all of these.
const REPORTS: usize = 40;
const REPORT: usize = 700;
const LARGE: usize = 200_000;
/// Bytes of what an invented device keeps at the broker under each of its topics, and publishes to itself.
const KEPT: usize = 7_900;
/// Pause after a refusal.
const PAUSE: Duration = Duration::from_millis(2);

/// Credentials of an attack.
pub(super) struct Credentials {
    viewer: String,
    operator: String,
    fleet_key: String,
    /// Names that were made up so far, in whichever round.
    invented: AtomicU64,
}

fn made(target: &Target, path: &str, wanted: &Value) -> Result<String> {
    let wanted = wanted.to_string();
    let head = format!(
        "POST {}/api/v1/{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{wanted}",
        target.prefix,
        target.host,
        target.server.token,
        wanted.len()
    );
    let made: Value = serde_json::from_slice(&body(exchange(&target.host, &head)?, 201)?)?;
    Ok(made["text"].as_str().context("no credential")?.to_owned())
}

impl Credentials {
    /// Has the server make them.
    ///
    /// # Errors
    /// Returns an error if the server does not.
    pub(super) fn new(target: &Target, attack: Attack) -> Result<Self> {
        let name = attack.name();
        let token =
            |role: &str| made(target, "tokens", &json!({"name": format!("{role} {name}"), "role": role}));
        let fleet_key = made(target, "fleet-keys", &json!({ "name": name }))?;
        let (viewer, operator) = (token("viewer")?, token("operator")?);
        Ok(Self { viewer, operator, fleet_key, invented: AtomicU64::default() })
    }

    /// Returns the fleet key.
    pub(super) fn fleet_key(&self) -> &str {
        &self.fleet_key
    }

    /// Attacks until `stop`; says with what.
    ///
    /// # Errors
    /// Returns an error if an operator cannot log in.
    pub(super) fn attack(
        &self,
        target: &Target,
        attack: Attack,
        victim: &Device,
        stop: &AtomicBool,
    ) -> Result<Force> {
        let port = target.server.mqtt;
        match attack {
            Attack::ViewerSessions => Ok(self.sessions(port, stop)?.into()),
            Attack::InventedDevices => Ok(self.names(port, stop)),
            _ => Ok(self.taken(port, victim, stop)?.into()),
        }
    }

    /// Makes sessions that hear everything, and gives them much to hear.
    fn sessions(&self, port: u16, stop: &AtomicBool) -> Result<String> {
        let (mut made, mut refused, mut sent) = (0, 0, 0);
        let mut operator =
            Raw::connect(port, &Login { client: "push", username: "x", password: &self.operator })?;
        while !stop.load(Ordering::Relaxed) {
            for number in 0..SESSIONS {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let client = format!("v-{number}");
                let login = Login { client: &client, username: "x", password: &self.viewer };
                let session = Raw::connect(port, &login).and_then(|mut raw| {
                    raw.subscribe("#")?;
                    raw.leave()
                });
                match session {
                    Ok(()) => made += 1,
                    Err(_) => refused += 1,
                }
                if number % 500 == 499 {
                    for _ in 0..REPORTS {
                        operator.publish("ESP32/ota/progress", &[b'x'; REPORT], false)?;
                    }
                    for _ in 0..2 {
                        operator.publish("ESP32/ota/progress", &vec![b'x'; LARGE], false)?;
                    }
                    sent += REPORTS + 2;
                }
            }
        }
        Ok(format!("{made} sessions, {refused} refused, {sent} messages to each"))
    }

    /// Registers devices that there are not, each of which keeps as much as it may.
    fn names(&self, port: u16, stop: &AtomicBool) -> Force {
        let (mut registered, mut refused) = (0_u64, 0_u64);
        while !stop.load(Ordering::Relaxed) {
            let number = self.invented.fetch_add(1, Ordering::Relaxed);
            let device = format!("invented-{number}");
            match self.keep(port, &device) {
                Ok(()) => registered += 1,
                Err(_) => {
                    refused += 1;
                    std::thread::sleep(PAUSE);
                }
            }
        }
        Force { words: format!("{registered} names, {refused} refused"), names: registered }
    }

    fn keep(&self, port: u16, device: &str) -> Result<()> {
        let login = Login { client: device, username: device, password: &self.fleet_key };
        let mut raw = Raw::connect(port, &login)?;
        let report = json!({
            "device": device, "chip": "esp32c3", "state": "idle", "project": "lamp", "version": "1.0.0",
            "image": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "slot": 0,
            "confirmed": true, "boot": "power_on", "uptime": 3, "more": "x".repeat(3_500),
        });
        raw.publish(&format!("ESP32/ota/{device}/status"), report.to_string().as_bytes(), true)?;
        for leaf in ["online", "heartbeat"] {
            raw.publish(&format!("ESP32/ota/{device}/{leaf}"), &[b'x'; KEPT], true)?;
        }
        // Its own messages wait for it once it is gone.
        raw.subscribe(&format!("ESP32/ota/{device}/status"))?;
        raw.leave()
    }

    /// Comes as another device and as an operator, again and again.
    fn taken(&self, port: u16, victim: &Device, stop: &AtomicBool) -> Result<String> {
        let names = [victim.name(), "push", "not-there-yet"];
        let mut operator =
            Raw::connect(port, &Login { client: "push", username: "x", password: &self.operator })?;
        let (mut taken, mut refused) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            for client in names {
                for password in [&self.viewer, &self.fleet_key] {
                    let login = Login { client, username: client, password };
                    match Raw::connect(port, &login).and_then(Raw::leave) {
                        Ok(()) => taken += 1,
                        Err(_) => refused += 1,
                    }
                }
            }
            // The operator is still there.
            operator.publish("ESP32/ota/progress", b"here", false)?;
        }
        Ok(format!("{taken} times, {refused} refused"))
    }
}
