//! A device's report in words, harmless and short.

use otaru_format::partition::SlotName;
use otaru_format::status::{Fault, MAX_TRIALS, Status, UpdateState};

use crate::ui::clean;

/// The state in words: `downloading 40%`.
pub(crate) fn state(status: &Status<String>) -> String {
    if let Some(next) = status.next_trial() {
        return will_try_again(next);
    }
    let mut text = name(status.state).to_owned();
    if let Some(percent) = status.progress {
        text.push_str(&format!(" {}%", percent.min(100)));
    }
    if status.attempt > 1 {
        text.push_str(&format!(" (attempt {})", status.attempt));
    }
    text
}

/// A state's name.
pub(crate) fn name(state: UpdateState) -> &'static str {
    match state {
        UpdateState::RolledBack => "rolled back",
        state => state.as_str(),
    }
}

/// Words for a device whose new image did not reach the broker.
pub(crate) fn will_try_again(next: u8) -> String {
    format!("unreachable: will be tried again ({next} of {MAX_TRIALS})")
}

/// Tells what went wrong, if anything: `panic: panicked at …`.
pub(crate) fn fault(status: &Status<String>) -> Option<String> {
    let text = status.error.as_ref().map(|Fault { code, detail }| match detail.is_empty() {
        true => code.to_string(),
        false => format!("{code}: {}", clean(detail)),
    });
    let failed = status.failed.as_ref().map(|failed| format!("image {}", clean(&failed.version)));
    match (failed, text) {
        (Some(failed), Some(text)) => Some(format!("{failed}, {text}")),
        (failed, text) => text.or(failed),
    }
}

/// One line about a device: version, slot, state, fault.
pub(crate) fn report(status: &Status<String>) -> String {
    let mut text = format!("{} on {}: {}", clean(&status.version), SlotName(status.slot), state(status));
    if let Some(fault) = fault(status) {
        text.push_str(&format!(" — {fault}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::tests::status;
    use otaru_format::digest::Digest;
    use otaru_format::status::{Code, FailedImage};

    #[test]
    fn a_roll_back_tells_all() {
        let mut told = status("d", UpdateState::RolledBack, "1.1.0");
        told.error = Some(Fault { code: Code::Panic, detail: "at \x1b[31mmain.rs (boots: 3)".into() });
        told.failed = Some(FailedImage { version: "1.2.0".into(), image: Digest::ZERO, boots: 3 });
        assert_eq!(
            report(&told),
            "1.1.0 on ota_0: rolled back — image 1.2.0, panic: at [31mmain.rs (boots: 3)"
        );
    }

    #[test]
    fn an_image_that_is_tried_again_was_not_rolled_back() {
        let mut told = status("d", UpdateState::Retrying, "1.0.0");
        told.error = Some(Fault { code: Code::Unreachable, detail: String::new() });
        told.attempt = 1;
        assert_eq!(state(&told), "unreachable: will be tried again (2 of 5)");
        told.error = Some(Fault { code: Code::Dns, detail: String::new() });
        assert_eq!(state(&told), "retrying");
    }

    #[test]
    fn a_download_tells_how_far_it_is() {
        let mut told = status("d", UpdateState::Downloading, "1");
        (told.progress, told.attempt) = (Some(255), 2);
        assert_eq!(state(&told), "downloading 100% (attempt 2)");
    }
}
