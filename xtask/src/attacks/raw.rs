//! MQTT 3.1.1 as bytes, from any address of this machine: for those who mean no good.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::socket::socket;

/// Most time for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Address of those who log in and mean no good.
const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 2, 1);

/// A login with a client id.
pub(super) struct Login<'a> {
    pub(super) client: &'a str,
    pub(super) username: &'a str,
    pub(super) password: &'a str,
}

/// A connection that was let in.
pub(super) struct Raw(TcpStream);

fn text(text: &str) -> Vec<u8> {
    bytes(text.as_bytes())
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes(), bytes].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut left = body.len();
    loop {
        let more = left >= 128;
        packet.push(u8::try_from(left % 128).unwrap_or(0) | u8::from(more) << 7);
        left /= 128;
        if !more {
            break;
        }
    }
    packet.extend(body);
    packet
}

/// The beginning of a CONNECT that says it has `length` bytes, with `there` of them.
pub(super) fn half_connect(length: usize, there: usize) -> Vec<u8> {
    let connect = [text("MQTT"), vec![4, 2, 0, 60], bytes(&vec![b'x'; length.saturating_sub(12)])].concat();
    let mut packet = packet(0x10, &connect);
    packet.truncate(there);
    packet
}

impl Raw {
    /// Logs in, with a session that stays.
    ///
    /// # Errors
    /// Returns an error if nobody answers, or it is refused.
    pub(super) fn connect(port: u16, login: &Login<'_>) -> Result<Self> {
        let stream = TcpStream::from(socket(FROM)?);
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        rustix::net::connect(&stream, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        stream.set_nodelay(true)?;
        let mut raw = Self(stream);
        let head = [text("MQTT"), vec![4, 0xC0, 0, 60], text(login.client)].concat();
        raw.0.write_all(&packet(0x10, &[head, text(login.username), text(login.password)].concat()))?;
        let answer = raw.answer::<4>()?;
        ensure!(answer[3] == 0, "refused: {}", answer[3]);
        Ok(raw)
    }

    fn answer<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut answer = [0; N];
        self.0.read_exact(&mut answer)?;
        Ok(answer)
    }

    /// Subscribes at QoS 1.
    ///
    /// # Errors
    /// Returns an error if there is no answer.
    pub(super) fn subscribe(&mut self, filter: &str) -> Result<()> {
        self.0.write_all(&packet(0x82, &[vec![0, 9], text(filter), vec![1]].concat()))?;
        self.answer::<5>().map(drop)
    }

    /// Publishes at QoS 1, and waits until the broker has it.
    ///
    /// # Errors
    /// Returns an error if there is no answer.
    pub(super) fn publish(&mut self, topic: &str, payload: &[u8], retain: bool) -> Result<()> {
        let body = [text(topic), vec![0, 7], payload.to_vec()].concat();
        self.0.write_all(&packet(0x32 | u8::from(retain), &body))?;
        self.answer::<4>().map(drop)
    }

    /// Says goodbye; the session stays.
    ///
    /// # Errors
    /// Returns an error if the connection is gone already.
    pub(super) fn leave(mut self) -> Result<()> {
        Ok(self.0.write_all(&[0xE0, 0])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_connect_says_how_long_it_is() {
        assert_eq!(half_connect(256 << 10, 4), [0x10, 0x80, 0x80, 0x10]);
        assert_eq!(half_connect(1_900, 1_500).len(), 1_500);
    }
}
