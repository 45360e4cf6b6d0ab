//! The set-up page of a firmware that knows no CA of the servers here: what it must refuse, and that the CA and the certificate that are
//! pasted there are used from then on, over a loss of power and an update too.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::images::{Pasted, SecureImages};
use super::{CALM, Stage};
use crate::emulate::images::a_copy;
use crate::emulate::limits::START;
use crate::emulate::story::{Run, said};
use crate::emulate::{browser, machine, peers};

const NAME: &str = "told-whom-to-trust";
const UPDATED: &str = "CA and certificate by phone; nginx, TLS 1.3";
const STRANGER: &str = "CA and certificate by phone; a stranger's certificate, TLS 1.3";

/// Console line about a server whose CA the device does not know.
const UNKNOWN_CA: &str = "the server's certificate is of no CA that this device trusts";

/// Field of the form, and what somebody pastes there.
type Field<'a> = (&'static str, &'a str);

impl Stage {
    /// Tells a device that trusts nobody here whom to trust, on its page, and with what certificate to log in: it updates from then on from
    /// those servers, and from no others.
    pub(super) fn set_up(&mut self, run: &mut Run<SecureImages>) -> Result<()> {
        let page = peers::free_port()?;
        start_untold(run, page)?;
        self.refuses(page, &run.images.page)?;
        self.trusts_nobody(run, page)?;
        start_untold(run, page)?;
        self.is_told(run, page)?;
        self.update(
            run,
            UPDATED,
            &super::url(&self.told_web, run.images.untold_next.file),
            |images| [&images.untold, &images.untold_next],
            |stage| [&stage.with_certificate, &stage.told_web],
        )?;
        let answers = self.nginx.answers()?;
        ensure!(
            answers.last().is_some_and(|answer| answer.protocol == "TLSv1.3"),
            "not TLS 1.3: {answers:?}"
        );
        self.refuse_a_stranger(run, STRANGER, |images| &images.untold_next, |stage| &stage.with_certificate)?;
        trusts(run, "the update")
    }

    /// Pastes what cannot be used: it is refused with the reason, and leaves nothing behind.
    fn refuses(&self, page: u16, pasted: &Pasted) -> Result<()> {
        let start = Instant::now();
        browser::page(page)?;
        let cut = pasted.ca.get(..pasted.ca.len() / 2).unwrap_or_default();
        let bad: [(Vec<Field<'_>>, &str); 6] = [
            (vec![("ca", "/etc/ssl/ca.pem")], "CAs to trust: this is no PEM text: paste what is in the file"),
            (vec![("ca", cut)], "CAs to trust: a PEM text is damaged or cut: copy it again"),
            (vec![("ca", &pasted.key)], "CAs to trust: a private key stands where a certificate is wanted"),
            (vec![("ca", &pasted.foreign_ca)], "does not know: paste one with an EC key on P-256"),
            (vec![("cert", &pasted.certificate)], "it goes together with its key: paste both"),
            (
                vec![("cert", &pasted.certificate), ("key", &pasted.certificate)],
                "a certificate stands where its key is wanted",
            ),
        ];
        for (fields, sentence) in &bad {
            let answer = self.send(page, fields)?;
            let told = answer.contains("Not kept:") && answer.contains(sentence);
            ensure!(told, "{fields:?}: the page does not say {sentence:?}: {answer}");
        }
        let kept = browser::page(page)?;
        ensure!(!kept.contains("name=remove"), "the page has kept something: {kept}");
        said(start, &format!("{} kinds of CA, certificate and key refused on the set-up page", bad.len()));
        Ok(())
    }

    /// Pastes no CA: the broker that the device trusts later is one of an unknown CA to it, and hears nothing of it.
    fn trusts_nobody(&self, run: &Run<SecureImages>, page: u16) -> Result<()> {
        let start = Instant::now();
        let taken = self.send(page, &[])?;
        ensure!(taken.contains("Kept."), "not kept without a CA: {taken}");
        run.wait_line(START, "a start without the CA", &["broker: ", UNKNOWN_CA])?;
        let heard = run.broker.wait(CALM, |status| status.device == NAME)?;
        ensure!(heard.is_none(), "it reports without the CA: {heard:?}");
        said(start, "told no CA on its page: the broker's is unknown to it, and it tells the broker nothing");
        Ok(())
    }

    /// Pastes the CA and the certificate: the device uses them from then on, and keeps them over a loss of power.
    fn is_told(&self, run: &mut Run<SecureImages>, page: u16) -> Result<()> {
        let start = Instant::now();
        let sessions = self.with_certificate.connections();
        let Pasted { ca, ca_id, certificate, key, .. } = &run.images.page;
        let taken = self.send(page, &[("ca", ca), ("cert", certificate), ("key", key)])?;
        ensure!(taken.contains("Kept.") && taken.contains(ca_id), "no word of {ca_id}: {taken}");
        let part = "the restart after set-up";
        run.wait(START, part, |status| status.device == NAME)?;
        run.wait_line(START, part, &["settings: they work"])?;
        trusts(run, part)?;
        run.cold_start()?;
        trusts(run, "a cold start after set-up")?;
        ensure!(self.with_certificate.connections() >= sessions + 2, "it logged in by another way");
        said(
            start,
            &format!("told whom to trust on its page; online as {NAME} after that and after a loss of power"),
        );
        Ok(())
    }

    /// Sends the page a form with network, broker, and what is pasted.
    fn send(&self, page: u16, pasted: &[Field<'_>]) -> Result<String> {
        let broker = self.with_certificate.port.to_string();
        let texts: Vec<_> = pasted.iter().map(|(name, text)| (*name, browser::typed(text))).collect();
        let rest = [
            ("ssid", machine::NETWORK),
            ("host", machine::HOST),
            ("port", &broker),
            ("name", NAME),
            ("tls", "on"),
        ];
        let pasted = texts.iter().map(|(name, text)| (*name, text.as_str()));
        browser::send(page, &rest.into_iter().chain(pasted).collect::<Vec<_>>())
    }
}

/// Starts a device that was told nothing, with its page at this port.
fn start_untold(run: &mut Run<SecureImages>, page: u16) -> Result<()> {
    run.machine.cut()?;
    let flash = a_copy(&run.images.untold_flash, &run.folder.join("set-up-flash.bin"))?;
    run.machine.with_flash(flash, Some(page))?;
    run.broker.forget()?;
    run.machine.mark();
    run.machine.power_on()
}

/// Holds the last report against what was told: of the two CAs it names the one that was set first.
fn trusts(run: &Run<SecureImages>, part: &str) -> Result<()> {
    let status = run.broker.last().with_context(|| format!("{part}: no report"))?;
    let set = &run.images.page.ca_id;
    let trusts = status.trusts.split_once(' ').is_some_and(|(first, _)| first == set);
    ensure!(trusts && status.device == NAME, "{part}: it does not trust {set} first: {}", status.text);
    Ok(())
}
