//! The story over TLS: firmware for a server of one's own talks to Mosquitto, nginx and `otaru serve`.
//!
//! [`images`] are the firmwares, with the [`certificates`] that are built in; [`servers`] is who they speak to, by a [`relay`] that times
//! and breaks connections; [`time_server`] tells them the time, and [`heap`] is what their heap goes through. [`setup`] is the scene of a
//! device that is told on its set-up page whom to trust.

mod certificates;
mod heap;
mod images;
mod relay;
mod servers;
mod setup;
mod time_server;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::images::Update;
use super::limits::{START, UPDATE};
use super::machine::{self, Emulator};
use super::peers::{self, Broker};
use super::story::{Run, Shown, said};
use crate::mbedtls;
use crate::shell::find;
use heap::{Heap, Row};
use images::SecureImages;
use relay::Relay;
use servers::{Fleet, LONG, Listeners, Nginx};

/// Time for which a device that has nothing to do is left alone before its heap is looked at.
const CALM: Duration = Duration::from_secs(5);
/// First words of a firmware's console.
const BANNER: &str = "otaru-firmware ";

/// The servers, and the ways to them.
struct Stage {
    nginx: Nginx,
    fleet: Fleet,
    with_password: Relay,
    with_certificate: Relay,
    web: Relay,
    /// The same web server, for devices that were told on their page whom to trust.
    told_web: Relay,
    old_web: Relay,
    stranger: Relay,
    fleet_web: Relay,
    rows: Vec<Row>,
}

/// Tells the story.
pub(super) fn play(folder: &Path, emulator: Emulator, keep: bool) -> Result<Shown> {
    if find("nginx").is_none() {
        return Ok(Shown::No("no nginx: apt-get install nginx-light"));
    }
    if mbedtls::remedy().is_some() {
        return Ok(Shown::No(
            "Mbed TLS cannot be compiled: apt-get install clang cmake ninja-build libclang-dev",
        ));
    }
    fs::create_dir_all(folder.join("www"))?;
    let images = SecureImages::make(folder, keep)?;
    let listeners = Listeners::choose()?;
    let broker = Broker::start(folder, peers::free_port()?, &listeners.configure(folder)?)?;
    let mut stage = Stage::set(folder, &images, &listeners)?;
    let flash = images.flash.clone();
    let mut run = Run::with(folder, emulator, images, &flash, broker)?;
    let knows_the_time = time_server::start()?;
    stage.first_start(&mut run, knows_the_time)?;
    stage.update_through_a_redirect(&mut run)?;
    stage.update_after_a_cut(&mut run)?;
    stage.update_from_otaru_serve(&mut run)?;
    let part = "a password; a stranger's certificate, TLS 1.3";
    stage.refuse_a_stranger(&mut run, part, |images| &images.release, |stage| &stage.with_password)?;
    stage.set_up(&mut run)?;
    run.judge_memory()?;
    heap::judge(&stage.rows)?;
    Ok(Shown::Yes)
}

impl Stage {
    fn set(folder: &Path, images: &SecureImages, listeners: &Listeners) -> Result<Self> {
        let port = peers::free_port()?;
        let web = Relay::start(0, port)?;
        let nginx = Nginx::start(folder, port, web.port, images.second.file)?;
        let fleet = Fleet::start(folder, images.release.file)?;
        Ok(Self {
            with_password: Relay::start(images.ports.password, listeners.password)?,
            with_certificate: Relay::start(images.ports.certificate, listeners.certificate)?,
            web,
            told_web: Relay::start(0, port)?,
            old_web: Relay::start(0, nginx.old)?,
            stranger: Relay::start(0, nginx.stranger)?,
            fleet_web: Relay::start(0, fleet.port)?,
            nginx,
            fleet,
            rows: Vec::new(),
        })
    }

    /// Joins, asks for the time, and logs in to the broker with a password.
    fn first_start(&self, run: &mut Run<SecureImages>, knows_the_time: bool) -> Result<()> {
        let start = Instant::now();
        run.machine.power_on()?;
        let version = run.images.first.version;
        let status = run.wait(START, "the first start over TLS", |status| status.version == version)?;
        said(start, &format!("{} is online over TLS, with a password and version {version}", status.device));
        if knows_the_time {
            run.wait_line(START, "the time", &["time: ", " seconds since 1970"])?;
        } else {
            println!(
                "!! NOT SHOWN: dates in certificates: UDP port 123 is not to be had, so the device's clock stays unknown"
            );
        }
        run.broker.wait(CALM, |_| false)?;
        Ok(())
    }

    /// From nginx, by way of a redirect to a URL of 1,800 characters.
    fn update_through_a_redirect(&mut self, run: &mut Run<SecureImages>) -> Result<()> {
        let url = url(&self.web, LONG);
        let part = "a password; nginx, a redirect, TLS 1.3";
        self.update(
            run,
            part,
            &url,
            |images| [&images.first, &images.second],
            |stage| [&stage.with_password, &stage.web],
        )?;
        let answers = self.nginx.answers()?;
        ensure!(answers.first().is_some_and(|answer| answer.status == 302), "no redirect: {answers:?}");
        ensure!(answers.iter().all(|answer| answer.protocol == "TLSv1.3"), "not TLS 1.3: {answers:?}");
        Ok(())
    }

    /// From nginx, whose connection breaks in the middle, over TLS 1.2.
    fn update_after_a_cut(&mut self, run: &mut Run<SecureImages>) -> Result<()> {
        let url = url(&self.old_web, run.images.certified.file);
        let half = run.images.certified.image.len() / 2;
        self.old_web.cut_after(half);
        let part = "a password; nginx, a cut, TLS 1.2";
        self.update(
            run,
            part,
            &url,
            |images| [&images.second, &images.certified],
            |stage| [&stage.with_password, &stage.old_web],
        )?;
        ensure!(self.old_web.connections() >= 2, "the connection was not cut");
        let answers = self.nginx.answers()?;
        let rest = answers.last().context("nginx was not asked")?;
        ensure!(rest.protocol == "TLSv1.2", "not TLS 1.2: {rest:?}");
        // What was under way when the connection broke comes again.
        ensure!(
            rest.status == 206 && rest.bytes < half + half / 2,
            "the download was begun anew: {answers:?}"
        );
        ensure!(self.with_certificate.connections() > 0, "nobody came with a certificate");
        Ok(())
    }

    /// From `otaru serve`, while the broker knows the device by its certificate.
    fn update_from_otaru_serve(&mut self, run: &mut Run<SecureImages>) -> Result<()> {
        let url = url(&self.fleet_web, &self.fleet.path);
        let part = "a certificate; `otaru serve`, TLS 1.3";
        self.update(
            run,
            part,
            &url,
            |images| [&images.certified, &images.release],
            |stage| [&stage.with_certificate, &stage.fleet_web],
        )
    }

    /// From a web server whose certificate is of nobody's that the device trusts: that ends the update and nothing else.
    fn refuse_a_stranger(
        &mut self,
        run: &mut Run<SecureImages>,
        part: &'static str,
        runs: fn(&SecureImages) -> &Update,
        way: fn(&Self) -> &Relay,
    ) -> Result<()> {
        let start = Instant::now();
        let (before, sessions) = (self.calm(run)?, way(self).connections());
        run.machine.mark();
        run.broker.publish(&url(&self.stranger, run.images.second.file))?;
        let status =
            run.wait(UPDATE, "the end of an update from a stranger", |status| status.state == "failed")?;
        ensure!(status.error_code == "tls_untrusted", "the error is {:?}", status.error_code);
        ensure!(status.version == runs(&run.images).version, "{} runs", status.version);
        let heap = self.after(run)?;
        ensure!(way(self).connections() == sessions, "the broker's session ended, too");
        said(
            start,
            &format!("a stranger's certificate ended the update, and nothing else: {}", status.error_detail),
        );
        self.rows.push(Row {
            part,
            before,
            during: heap.fewest,
            after: heap.last,
            least: heap.least,
            handshakes: [None, None],
        });
        Ok(())
    }

    /// Updates from the first of two firmwares to the second, and notes what that takes; `ways` lead to the broker and to the web server.
    fn update(
        &mut self,
        run: &mut Run<SecureImages>,
        part: &'static str,
        url: &str,
        images: fn(&SecureImages) -> [&Update; 2],
        ways: fn(&Self) -> [&Relay; 2],
    ) -> Result<()> {
        let start = Instant::now();
        let before = self.calm(run)?;
        let [broker, web] = ways(self).map(Relay::handshake);
        ensure!(web.is_none(), "{part}: somebody was there already");
        run.machine.mark();
        run.broker.publish(url)?;
        let elf = images(&run.images)[0].elf.clone();
        run.look_through_update(part, &elf)?;
        let during = Heap::of(&run.machine.console_since_mark()?, BANNER)?;
        let status = run.confirmed(images(&run.images)[1])?;
        let after = self.after(run)?.last;
        let web = ways(self)[1].handshake();
        self.rows.push(Row {
            part,
            before,
            during: during.fewest,
            after,
            least: during.least,
            handshakes: [broker, web],
        });
        said(start, &format!("updated to {} and confirmed, over TLS: {part}", status.version));
        Ok(())
    }

    /// Free heap of a device that has nothing to do.
    fn calm(&self, run: &mut Run<SecureImages>) -> Result<u64> {
        run.broker.wait(CALM, |_| false)?;
        Ok(Heap::of(&run.machine.console_since_mark()?, "\0")?.last)
    }

    /// The heap once the device has nothing to do any more, of the program that runs now.
    fn after(&self, run: &mut Run<SecureImages>) -> Result<Heap> {
        run.broker.wait(CALM, |_| false)?;
        let console = run.machine.console_since_mark()?;
        let since = console.rsplit(BANNER).next().context("an empty console")?;
        Heap::of(since, "\0")
    }
}

/// URL of a path, as the device has to ask for it.
fn url(way: &Relay, path: &str) -> String {
    format!("https://{}:{}/{path}", machine::HOST, way.port)
}
