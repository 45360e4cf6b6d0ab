//! Drawings: bars and a ring, as SVG in the page. Colours are classes; who cannot see them reads the list beside each.

use std::fmt;

use askama::filters::HtmlSafe;

use super::show::{Number, Tone};

/// A part of a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Name of the part.
    pub(super) name: String,
    /// Size of the part.
    pub(super) number: u64,
    /// Colour of the part.
    pub(super) tone: Tone,
    /// Link to more about it.
    pub(super) href: String,
}

/// A bar with parts one after another. It is wider the more `whole` is; what is left of it is empty.
#[derive(Debug, Clone)]
pub(super) struct Bar<'p> {
    parts: &'p [Part],
    whole: u64,
}

/// A bar of these parts of a whole.
pub(super) fn bar(parts: &[Part], whole: impl Number) -> Bar<'_> {
    Bar { parts, whole: whole.number().max(1) }
}

impl fmt::Display for Bar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "<svg class=\"bar\" viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
        )?;
        let mut at = 0;
        for part in self.parts.iter().filter(|part| part.number > 0) {
            // One of ten thousand is still to be seen.
            let width = (part.number.saturating_mul(1_000) / self.whole).clamp(4, 1_000);
            write!(f, "<rect class=\"{}\" x=\"{at}\" width=\"{width}\" height=\"10\"/>", part.tone)?;
            at += width;
        }
        f.write_str("</svg>")
    }
}

impl HtmlSafe for Bar<'_> {}

/// A ring of parts of a whole.
#[derive(Debug, Clone)]
pub(super) struct Ring<'p>(&'p [Part]);

/// A ring of these parts.
pub(super) fn ring(parts: &[Part]) -> Ring<'_> {
    Ring(parts)
}

/// The length of the ring's line: its radius makes it so, up to a thousandth.
const LENGTH: u64 = 1_000;

impl fmt::Display for Ring<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<svg class=\"ring\" viewBox=\"0 0 400 400\" aria-hidden=\"true\">")?;
        f.write_str("<circle class=\"calm-line\" cx=\"200\" cy=\"200\" r=\"159.155\"/>")?;
        let whole: u64 = self.0.iter().map(|part| part.number).sum();
        let mut at = 0;
        for part in self.0.iter().filter(|part| part.number > 0) {
            let length = (part.number.saturating_mul(LENGTH) / whole.max(1)).max(8);
            write!(
                f,
                "<circle class=\"{}-line\" cx=\"200\" cy=\"200\" r=\"159.155\" pathLength=\"{LENGTH}\" \
                 stroke-dasharray=\"{length} {LENGTH}\" stroke-dashoffset=\"-{at}\" transform=\"rotate(-90 200 200)\"/>",
                part.tone
            )?;
            at += length;
        }
        f.write_str("</svg>")
    }
}

impl HtmlSafe for Ring<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u64, tone: Tone) -> Part {
        Part { name: "x".into(), number, tone, href: String::new() }
    }

    #[test]
    fn parts_follow_one_another() {
        let parts = [part(1, Tone::Good), part(0, Tone::Wait), part(3, Tone::Bad)];
        let svg = bar(&parts, 8_u64).to_string();
        assert!(svg.contains("class=\"good\" x=\"0\" width=\"125\""), "{svg}");
        assert!(svg.contains("class=\"bad\" x=\"125\" width=\"375\""), "{svg}");
        assert!(!svg.contains("wait"), "{svg}");
        let svg = ring(&parts).to_string();
        assert!(svg.contains("stroke-dasharray=\"250 1000\" stroke-dashoffset=\"-0\""), "{svg}");
        assert!(svg.contains("stroke-dasharray=\"750 1000\" stroke-dashoffset=\"-250\""), "{svg}");
    }

    #[test]
    fn little_is_seen_and_nothing_is_not() {
        assert!(bar(&[part(1, Tone::Bad)], 10_000_u64).to_string().contains("width=\"4\""));
        assert!(!bar(&[part(0, Tone::Bad)], 0_u64).to_string().contains("rect"));
    }
}
