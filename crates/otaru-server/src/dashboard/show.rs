//! Numbers, moments and states as pages show them.

use std::fmt;

use askama::filters::HtmlSafe;
use otaru_api::{Deployment, Device, Timestamp};
use otaru_format::status::{MAX_TRIALS, UpdateState};
use otaru_rollout::{Phase, Standing};

/// Tone of a badge, which is shown as a colour and never as a colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be.
    Good,
    /// Under way.
    Busy,
    /// It waits for somebody.
    Wait,
    /// It went wrong.
    Bad,
    /// Nothing to say.
    Calm,
}

impl fmt::Display for Tone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Busy => "busy",
            Self::Wait => "wait",
            Self::Bad => "bad",
            Self::Calm => "calm",
        })
    }
}

impl HtmlSafe for Tone {}

/// The tone of a device's state.
pub(super) fn tone_of_state(state: &str) -> Tone {
    match UpdateState::of_name(state) {
        UpdateState::Idle | UpdateState::Confirmed | UpdateState::Current => Tone::Good,
        UpdateState::Retrying => Tone::Wait,
        state if state.is_under_way() => Tone::Busy,
        state if state.is_failure() => Tone::Bad,
        _ => Tone::Calm,
    }
}

/// Tells in words what a device is at.
pub(super) fn state(device: &Device) -> String {
    match device.next_trial() {
        Some(next) => will_try_again(next),
        None => words(&device.state),
    }
}

/// Returns the standing of a deployment in words.
pub(super) fn standing(deployment: &Deployment) -> String {
    match (deployment.standing.as_str(), deployment.trials) {
        ("retrying", 0) => "not heard since it started the image".into(),
        ("retrying", trials) => will_try_again(trials.saturating_add(1).min(MAX_TRIALS)),
        (standing, _) => words(standing),
    }
}

/// Words for a device whose new image did not reach the broker.
pub(super) fn will_try_again(next: u8) -> String {
    format!("unreachable: will be tried again ({next} of {MAX_TRIALS})")
}

/// The tone of a deployment's standing.
pub(super) fn tone_of_standing(standing: &str) -> Tone {
    match Standing::of_name(standing) {
        Some(Standing::Finished(outcome)) if outcome.is_good() => Tone::Good,
        Some(Standing::Finished(outcome)) if outcome.is_trouble() => Tone::Bad,
        Some(Standing::Active) => Tone::Busy,
        Some(Standing::Waiting | Standing::Retrying) => Tone::Wait,
        Some(Standing::Ready | Standing::Finished(_)) | None => Tone::Calm,
    }
}

/// The tone of a rollout's phase.
pub(super) fn tone_of_phase(phase: &str) -> Tone {
    match Phase::of_name(phase) {
        Some(Phase::Completed) => Tone::Good,
        Some(Phase::Running | Phase::Finishing) => Tone::Busy,
        Some(Phase::Paused | Phase::Scheduled) => Tone::Wait,
        Some(Phase::Stopped) => Tone::Bad,
        Some(Phase::Draft | Phase::Aborted { .. }) | None => Tone::Calm,
    }
}

/// Label of a device's health, which the API names in one word.
pub(super) fn health(name: &str) -> &str {
    match name {
        "well" => "healthy",
        "troubled" => "needs attention",
        "away" => "offline",
        other => other,
    }
}

/// A name as people write it: `rolled_back` is `rolled back`.
pub(super) fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// A number that is counted. Templates lend what they show, some of it more than once.
pub(super) trait Number {
    fn number(&self) -> u64;
}

impl Number for u64 {
    fn number(&self) -> u64 {
        *self
    }
}

impl Number for u32 {
    fn number(&self) -> u64 {
        u64::from(*self)
    }
}

impl Number for usize {
    fn number(&self) -> u64 {
        u64::try_from(*self).unwrap_or(u64::MAX)
    }
}

impl<N: Number> Number for &N {
    fn number(&self) -> u64 {
        (**self).number()
    }
}

/// A moment, likewise: in milliseconds since 1970.
pub(super) trait Millis {
    fn millis(&self) -> i64;
}

impl Millis for i64 {
    fn millis(&self) -> i64 {
        *self
    }
}

impl Millis for Timestamp {
    fn millis(&self) -> i64 {
        Self::millis(*self)
    }
}

impl<M: Millis> Millis for &M {
    fn millis(&self) -> i64 {
        (**self).millis()
    }
}

/// A number with its thousands apart: `10,000`.
pub(super) fn count(number: impl Number) -> String {
    let digits = number.number().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of something: `1 device`, `3 devices`.
pub(super) fn many(number: impl Number, one: &str) -> String {
    let number = number.number();
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Bytes: `17 B`, `512 KiB`, `1.5 MiB`.
pub(super) fn bytes(number: impl Number) -> String {
    match number.number() {
        number @ 0..1_024 => format!("{number} B"),
        number @ 1_024..1_048_576 => format!("{} KiB", tenths(number, 1_024)),
        number => format!("{} MiB", tenths(number, 1_048_576)),
    }
}

/// One digit behind the point, below 100 and where it is not 0.
fn tenths(number: u64, unit: u64) -> String {
    let tenths = (number.saturating_mul(10) + unit / 2) / unit;
    match (tenths / 10, tenths % 10) {
        (whole @ 0..100, tenth @ 1..) => format!("{whole}.{tenth}"),
        (whole, _) => whole.to_string(),
    }
}

/// Per cent of something, as a whole number; neither 0 nor 100 unless it is.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    match (part, whole) {
        (0, _) | (_, 0) => 0,
        (part, whole) if part >= whole => 100,
        (part, whole) => (part.saturating_mul(100) / whole).clamp(1, 99),
    }
}

/// The beginning of a digest.
pub(super) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// A span in one unit.
pub(super) fn span(milliseconds: u64) -> String {
    match milliseconds / 1_000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// A moment: how long ago it was, with the exact time for who looks closer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    at: i64,
    now: i64,
}

/// A moment, seen from another; both in milliseconds since 1970.
pub(super) fn ago(at: impl Millis, now: impl Millis) -> Moment {
    Moment { at: at.millis(), now: now.millis() }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(time) = Timestamp::from_millis(self.at) else { return f.write_str("?") };
        let exact = time.utc().format("%Y-%m-%d %H:%M:%S UTC");
        let difference = self.now.saturating_sub(self.at);
        let text = match difference {
            ..-1_000 => format!("in {}", span(difference.unsigned_abs())),
            -1_000..5_000 => "now".to_owned(),
            _ => format!("{} ago", span(difference.unsigned_abs())),
        };
        write!(f, "<time datetime=\"{time}\" title=\"{exact}\">{text}</time>")
    }
}

impl HtmlSafe for Moment {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(
            [count(0_u64), count(999_u64), count(1_000_u64), count(1_234_567_u64)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!((many(1_u64, "device"), many(2_u64, "device")), ("1 device".into(), "2 devices".into()));
        for (number, text) in
            [(17, "17 B"), (1_024, "1 KiB"), (1_536, "1.5 KiB"), (524_288, "512 KiB"), (1_600_000, "1.5 MiB")]
        {
            assert_eq!(bytes(number as u64), text);
        }
        assert_eq!([percent(0, 0), percent(1, 1_000), percent(999, 1_000), percent(5, 5)], [0, 1, 99, 100]);
    }

    #[test]
    fn a_moment_tells_both_times() {
        let now = 1_795_000_000_000;
        let text = ago(now - 600_000, now).to_string();
        assert_eq!(
            text,
            "<time datetime=\"2026-11-18T10:56:40.000Z\" title=\"2026-11-18 10:56:40 UTC\">10 min ago</time>"
        );
        assert!(ago(now + 7_300_000, now).to_string().contains(">in 2 h<"));
        assert!(ago(now, now).to_string().contains(">now<"));
        assert_eq!(ago(i64::MAX, now).to_string(), "?");
    }
}
