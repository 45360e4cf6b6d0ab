//! A device that reports without pause, and another whose reports shall be seen all the same.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mqtt5_protocol::packet::publish::PublishPacket;
use mqtt5_protocol::{ConnectOptions, QoS};
use serde_json::{Value, json};

use super::honest::{body, exchange, get};
use super::options::Attack;
use super::socket::socket;
use super::target::Target;
use crate::broker::{CONNACK, PUBACK, Wire};

/// Time between two reports of the device that means well.
const PACE: Duration = Duration::from_secs(1);
/// Time between two looks whether a report is seen.
const LOOK: Duration = Duration::from_millis(10);
/// Most time until it is.
const LIMIT: Duration = Duration::from_secs(200);
/// Bytes of a long report.
const LONG: usize = 15_000;

/// A device with a login of its own.
pub(super) struct Device {
    name: String,
    password: String,
}

impl Device {
    /// Has the server know it.
    ///
    /// # Errors
    /// Returns an error if the server does not add the device.
    pub(super) fn new(target: &Target, name: &str) -> Result<Self> {
        let wanted = json!({ "id": name }).to_string();
        let head = format!(
            "POST {}/api/v1/devices HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{wanted}",
            target.prefix,
            target.host,
            target.server.token,
            wanted.len()
        );
        let added: Value = serde_json::from_slice(&body(exchange(&target.host, &head)?, 201)?)?;
        let password = added["password"].as_str().context("no password")?.to_owned();
        Ok(Self { name: name.to_owned(), password })
    }

    /// Returns a device that comes with a fleet key, and is registered when it does.
    pub(super) fn with_fleet_key(name: &str, fleet_key: &str) -> Self {
        Self { name: name.to_owned(), password: fleet_key.to_owned() }
    }

    /// Returns the name, which is the client id.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A report that says something new, `more` bytes longer than need be.
    fn report(&self, version: &str, more: usize) -> String {
        json!({
            "device": self.name, "chip": "esp32c3", "state": "idle", "project": "lamp", "version": version,
            "image": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "slot": 0,
            "confirmed": true, "boot": "power_on", "uptime": 3, "more": "x".repeat(more),
        })
        .to_string()
    }

    fn connect(&self, target: &Target) -> Result<Wire> {
        let login = ConnectOptions::new(&self.name).with_credentials(&self.name, &self.password);
        let mut wire = Wire::connect(target.server.mqtt, login)?;
        wire.expect(CONNACK)?;
        Ok(wire)
    }

    fn topic(&self) -> String {
        format!("ESP32/ota/{}/status", self.name)
    }

    fn post(&self, target: &Target, report: &str) -> String {
        format!(
            "POST {}/api/v1/devices/{}/status HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n",
            target.prefix,
            self.name,
            target.host,
            base64(&format!("{}:{}", self.name, self.password)),
            report.len()
        )
    }

    /// Reports once a second until `stop`; how long each report that was acknowledged took to be seen.
    ///
    /// # Errors
    /// Returns an error if a report is not acknowledged, or an acknowledged one is never seen.
    pub(super) fn be_heard(
        &self,
        target: &Target,
        attack: Attack,
        stop: &AtomicBool,
    ) -> Result<Vec<Duration>> {
        let mut wire = match attack.is_over_mqtt() {
            true => Some(self.connect(target)?),
            false => None,
        };
        let mut delays = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let version = format!("1.0.{}", delays.len());
            let report = self.report(&version, 0);
            match &mut wire {
                Some(wire) => {
                    let mut packet =
                        PublishPacket::new(self.topic(), report, QoS::AtLeastOnce).with_packet_id(7);
                    // As a device's report is: that it cannot be kept is a failure.
                    packet.retain = true;
                    wire.send(&packet)?;
                    wire.expect(PUBACK).context("the report was not acknowledged")?;
                }
                None => {
                    let post = format!("{}Connection: close\r\n\r\n{report}", self.post(target, &report));
                    body(exchange(&target.host, &post)?, 200).context("the report was not taken")?;
                }
            }
            let acknowledged = Instant::now();
            while self.version(target)? != version {
                ensure!(acknowledged.elapsed() < LIMIT, "an acknowledged report is never seen");
                std::thread::sleep(LOOK);
            }
            delays.push(acknowledged.elapsed());
            std::thread::sleep(PACE.saturating_sub(began.elapsed()));
        }
        Ok(delays)
    }

    fn version(&self, target: &Target) -> Result<String> {
        let path = format!("{}/api/v1/devices/{}", target.prefix, self.name);
        let device: Value = serde_json::from_slice(&get(target, &path, "")?)?;
        Ok(device["version"].as_str().unwrap_or_default().to_owned())
    }

    /// Reports without pause until `stop`; how often.
    ///
    /// # Errors
    /// Returns an error if the server refuses the first connection.
    pub(super) fn flood(&self, target: &Target, attack: Attack, stop: &AtomicBool) -> Result<usize> {
        match attack.is_over_mqtt() {
            true => self.flood_over_mqtt(target, attack, stop),
            false => self.flood_over_http(target, stop),
        }
    }

    fn flood_over_mqtt(&self, target: &Target, attack: Attack, stop: &AtomicBool) -> Result<usize> {
        let more = if attack == Attack::LongReports { LONG } else { 0 };
        let mut wire = self.connect(target)?;
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            let report = self.report(&format!("0.0.{sent}"), more);
            let packet = PublishPacket::new(self.topic(), report, QoS::AtMostOnce);
            match wire.send(&packet) {
                Ok(()) => sent += 1,
                // Sent away; it comes back.
                Err(_) => match self.connect(target) {
                    Ok(again) => wire = again,
                    Err(_) => std::thread::sleep(LOOK),
                },
            }
        }
        Ok(sent)
    }

    /// Over eight connections, which take turns; every fourth report is a long one.
    fn flood_over_http(&self, target: &Target, stop: &AtomicBool) -> Result<usize> {
        const CONNECTIONS: usize = 8;
        let to: SocketAddr = target.host.parse()?;
        let open = || -> Result<TcpStream> {
            let stream = TcpStream::from(socket(Ipv4Addr::new(127, 0, 2, 1))?);
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            rustix::net::connect(&stream, &to)?;
            Ok(stream)
        };
        let mut streams = (0..CONNECTIONS).map(|_| open()).collect::<Result<Vec<_>>>()?;
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            for stream in &mut streams {
                let more = if sent % 4 == 0 { LONG } else { 0 };
                let report = self.report(&format!("0.0.{sent}"), more);
                let written =
                    stream.write_all(format!("{}\r\n{report}", self.post(target, &report)).as_bytes());
                sent += 1;
                if written.is_err() || answer(stream).is_err() {
                    match open() {
                        Ok(again) => *stream = again,
                        Err(_) => std::thread::sleep(LOOK),
                    }
                }
            }
        }
        Ok(sent)
    }
}

/// Reads what is there of an answer, whatever it says.
fn answer(stream: &mut TcpStream) -> Result<()> {
    use std::io::Read as _;
    let len = stream.read(&mut [0; 4096])?;
    ensure!(len > 0, "closed");
    Ok(())
}

/// RFC 4648, section 4.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for three in text.as_bytes().chunks(3) {
        let number =
            (0..3).fold(0_usize, |number, at| number << 8 | usize::from(*three.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let digit = DIGITS[number >> (18 - 6 * at) & 63];
            encoded.push(if at <= three.len() { char::from(digit) } else { '=' });
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_in_its_rfc() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        pairs.iter().for_each(|(text, encoded)| assert_eq!(base64(text), *encoded));
    }
}
