//! CAs, and a certificate of the device's own, on the set-up page: what is pasted there is looked at, kept, and shown by its name.

use core::fmt::Write as _;

use alloc::vec::Vec;

use embassy_net::tcp::TcpSocket;
use embassy_time::{Duration, with_timeout};
use heapless::String;
use otaru_device::slots::Region;
use otaru_esp_hal::EspFlash;
use otaru_mbedtls::{Identity, TrustError};
use otaru_setup::Settings;
use otaru_setup::form::{self, certificates};
use otaru_setup::pem::MOST_CAS;
use otaru_setup::trust_store::{self, BadTrust, Id};

use crate::{credentials, tls};

/// Sentence on the page.
pub(super) type Sentence = String<{ trust_store::SENTENCE + 80 }>;

/// Words on a form that is too large.
pub(super) const TOO_MUCH: (&str, &str) =
    ("Not kept:", "the form is too large: paste PEM texts without what stands around them.");

/// Time without another byte after which a browser has sent all of a form that is too large.
const SILENCE: Duration = Duration::from_millis(500);

/// Longest line of [`list`].
const LINE: usize = 200;

/// Reason that what was entered is not kept.
pub(super) enum Refused {
    Form(BadTrust),
    /// Mbed TLS cannot use it.
    Library(TrustError),
}

/// Returns memory for a request, and for what is set. It is of the heap, for as long as set-up lasts: the agent is not there then.
pub(super) fn buffers() -> Option<(Vec<u8>, Vec<u8>)> {
    let buffers = credentials::buffer(form::REQUEST).zip(credentials::buffer(trust_store::LEN));
    if buffers.is_none() {
        log::error!("set-up: no memory for a form");
    }
    buffers
}

/// Keeps settings with what their form, which is still in the request, changes of CAs and certificate; says whether they are there.
pub(super) async fn keep(
    mut settings: Settings,
    (request, store): (&mut [u8], &mut [u8]),
    flash: &mut EspFlash<'_>,
    region: Option<Region>,
) -> Result<bool, Refused> {
    let change = certificates::change(certificates::form(request)).map_err(Refused::Form)?;
    let identity = change.identity.map(|(certificate, key)| Identity { certificate, key });
    otaru_mbedtls::check(&change.cas, identity).map_err(Refused::Library)?;
    let mut trust = credentials::shown(flash, region, store).await;
    trust.change(&change).map_err(Refused::Form)?;
    drop(change);
    if settings.tls && !tls::is_built_in() && trust.cas().next().is_none() {
        return Err(Refused::Form(BadTrust::Nobody));
    }
    // Nobody reads the form any more, so that its memory is free.
    let spare = request.get_mut(..trust_store::LEN).unwrap_or_default();
    Ok(credentials::store(flash, region, (&mut settings, &trust), spare).await)
}

/// Returns what the page says of it.
pub(super) fn words(refused: Refused, said: &mut Sentence) -> &str {
    /// RSA is what people have that the preset for a server of one's own does not know.
    const INSTEAD: &str =
        if cfg!(feature = "tls") { "paste one with an EC key on P-256" } else { "paste another" };
    said.clear();
    // It fits: a test of the sentences holds them against their length.
    let _ = match refused {
        Refused::Form(bad) => write!(said, "{bad}"),
        Refused::Library(TrustError::Memory) => write!(said, "{}: try again", TrustError::Memory),
        Refused::Library(error) => write!(said, "{error}: {INSTEAD}"),
    };
    said
}

/// Lists what is kept, each with a box to remove it. A key is not shown.
pub(super) async fn list(
    flash: &mut EspFlash<'_>,
    region: Option<Region>,
    store: &mut [u8],
) -> String<{ (MOST_CAS + 1) * LINE }> {
    let trust = credentials::shown(flash, region, store).await;
    let mut text = String::new();
    let cas = trust.cas().map(|ca| ("CA", ca));
    let own =
        trust.identity().map(|(certificate, _)| ("certificate of this device and its key,", certificate));
    for (kind, der) in cas.chain(own) {
        let (id, field) = (Id::of(der), certificates::REMOVE);
        let _ = writeln!(
            text,
            "<label><input name={field} value={id} type=checkbox style=width:auto> remove {kind} <code>{id}</code></label>"
        );
    }
    text
}

/// Lets a browser send the rest of a form that is too large: it reads no answer before.
pub(super) async fn pass_over(socket: &mut TcpSocket<'_>, buffer: &mut [u8]) {
    while let Ok(Ok(1..)) = with_timeout(SILENCE, socket.read(buffer)).await {}
}
