//! A browser that fills in the set-up page.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Most time until the page appears.
const START: Duration = Duration::from_secs(60);
/// Most time for an answer.
const ANSWER: Duration = Duration::from_secs(20);

/// The page, as soon as the device shows it.
pub(super) fn page(port: u16) -> Result<String> {
    let end = Instant::now() + START;
    loop {
        // The emulator takes the connection also while the device does not listen yet, and then closes it.
        match ask(port, "GET / HTTP/1.1\r\nHost: device\r\n\r\n") {
            Ok(page) if !page.is_empty() => return Ok(page),
            _ if Instant::now() > end => bail!("no set-up page after {} s", START.as_secs()),
            _ => thread::sleep(Duration::from_millis(500)),
        }
    }
}

/// Sends a form and returns what the page says. The values are sent as they are: what a form must escape is [`typed`] before.
pub(super) fn send(port: u16, fields: &[(&str, &str)]) -> Result<String> {
    let form: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let form = form.join("&");
    let length = form.len();
    let kind = "application/x-www-form-urlencoded";
    ask(
        port,
        &format!(
            "POST / HTTP/1.1\r\nHost: device\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{form}"
        ),
    )
}

/// Escapes what somebody typed, as browsers do.
pub(super) fn typed(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn ask(port: u16, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("the set-up page's answer breaks off")?;
    Ok(answer)
}
