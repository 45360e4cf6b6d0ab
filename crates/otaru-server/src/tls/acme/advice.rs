//! Advice of a directory when to renew a certificate (ARI, RFC 9773). A directory without it, or with one that makes no sense, is as one that
//! is not asked.

use std::time::Duration;

use instant_acme::{Account, CertificateIdentifier, Error, SuggestedWindow};
use otaru_rollout::Time;
use tokio::time::Instant;

use super::failure::Failure;
use crate::tls::pair::{PairFiles, certificates};

/// Shortest and longest time between two questions.
const PAUSES: (Duration, Duration) = (Duration::from_secs(3_600), Duration::from_secs(24 * 3_600));
/// Time until it is asked again after a failure: RFC 9773 has 6 hours, in section 4.3.2.
pub(super) const AFTER_FAILURE: Duration = Duration::from_secs(6 * 3_600);

/// Window in which a directory wants a certificate renewed, in milliseconds since 1970.
type Window = (u64, u64);

/// Advice about the certificate in use.
#[derive(Debug)]
pub(super) struct Advice {
    /// The window that was told last, and a moment in it that was drawn.
    told: Option<(Window, Time)>,
    next: Instant,
}

impl Advice {
    pub(super) fn new() -> Self {
        Self { told: None, next: Instant::now() }
    }

    /// Returns the moment at which the directory wants the certificate renewed, if it told one.
    pub(super) fn moment(&self) -> Option<Time> {
        self.told.map(|(_, moment)| moment)
    }

    /// Whether it is time to ask.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    /// Asks about a certificate.
    pub(super) async fn ask(&mut self, account: &Account, certificate: &CertificateIdentifier<'static>) {
        match account.renewal_info(certificate).await {
            Ok((info, pause)) => {
                self.take(window(&info.suggested_window), rand::random());
                self.wait(bounded(pause));
            }
            Err(Error::Unsupported(_)) => self.wait(PAUSES.1),
            Err(error) => {
                let error = Failure::from(error);
                tracing::debug!(%error, "the directory does not say when to renew");
                self.wait(AFTER_FAILURE);
            }
        }
    }

    /// Asks no more for so long.
    pub(super) fn wait(&mut self, pause: Duration) {
        self.next = Instant::now() + pause;
    }

    /// Takes a window. The moment drawn in it stays as long as the window does; `share` of it is before the moment.
    fn take(&mut self, window: Option<Window>, share: f64) {
        let Some((start, end)) = window else { return };
        if self.told.is_none_or(|(before, _)| before != (start, end)) {
            let length = Duration::from_millis(end - start).mul_f64(share.clamp(0.0, 1.0));
            let moment = start.saturating_add(u64::try_from(length.as_millis()).unwrap_or(0));
            self.told = Some(((start, end), Time(moment)));
        }
    }
}

impl Default for Advice {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the time until the next question, where the directory wants this one.
fn bounded(pause: Duration) -> Duration {
    pause.clamp(PAUSES.0, PAUSES.1)
}

/// Reads a window; none if it ends before it begins.
fn window(told: &SuggestedWindow) -> Option<Window> {
    let millis = |seconds: i64| u64::try_from(seconds).ok()?.checked_mul(1_000);
    let (start, end) = (millis(told.start.unix_timestamp())?, millis(told.end.unix_timestamp())?);
    (start < end).then_some((start, end))
}

/// Returns the name by which a directory knows the certificate in these files, if it has one.
pub(super) fn identifier(files: &PairFiles) -> Option<CertificateIdentifier<'static>> {
    let chain = certificates(&files.certificate).ok()?;
    CertificateIdentifier::try_from(chain.first()?).ok().map(CertificateIdentifier::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::acme::canned::Canned;

    #[test]
    fn a_moment_is_drawn_once_in_each_window() {
        let mut advice = Advice::new();
        assert_eq!(advice.moment(), None);
        advice.take(Some((1_000, 3_000)), 0.5);
        assert_eq!(advice.moment(), Some(Time(2_000)));
        advice.take(Some((1_000, 3_000)), 0.9);
        assert_eq!(advice.moment(), Some(Time(2_000)));
        advice.take(None, 0.9);
        assert_eq!(advice.moment(), Some(Time(2_000)), "nonsense changes nothing");
        advice.take(Some((100, 200)), 1.0);
        assert_eq!(advice.moment(), Some(Time(200)));
    }

    #[tokio::test]
    async fn a_directory_says_when_to_renew() {
        let known =
            CertificateIdentifier { authority_key_identifier: "a".into(), serial: "b".into() }.into_owned();
        let window = r#"{"suggestedWindow":{"start":"2026-01-01T00:00:00Z","end":"2026-01-01T00:00:01Z"},"explanationURL":null}"#;
        let mut advice = Advice::new();
        advice.ask(&Canned::account(vec![("/when/a.b", window.to_owned())]).await, &known).await;
        let moment = advice.moment().unwrap().0;
        assert!((1_767_225_600_000..=1_767_225_601_000).contains(&moment) && !advice.is_due(), "{moment}");
        for garbage in ["", "{}", r#"{"suggestedWindow":{"start":1,"end":"x"}}"#] {
            let mut advice = Advice::new();
            advice.ask(&Canned::account(vec![("/when/", garbage.to_owned())]).await, &known).await;
            assert!(advice.moment().is_none() && !advice.is_due(), "it is asked again later");
        }
    }

    #[test]
    fn a_directory_is_asked_once_an_hour_at_most_and_once_a_day_at_least() {
        let hours = |seconds| bounded(Duration::from_secs(seconds)).as_secs_f64() / 3_600.0;
        assert_eq!([0, 7_200, u64::MAX].map(hours), [1.0, 2.0, 24.0]);
    }

    #[test]
    fn a_window_ends_after_it_begins() {
        let read = |start: &str, end: &str| {
            let info = format!(r#"{{"suggestedWindow":{{"start":"{start}","end":"{end}"}}}}"#);
            window(&serde_json::from_str::<instant_acme::RenewalInfo>(&info).unwrap().suggested_window)
        };
        let (early, late) = ("1970-01-01T00:00:01Z", "1970-01-01T00:00:02Z");
        assert_eq!(read(early, late), Some((1_000, 2_000)));
        assert_eq!(read(late, early), None);
        assert_eq!(read(early, early), None);
        assert_eq!(read("1960-01-01T00:00:00Z", late), None);
    }
}
