//! Observations of the demo: each claim with the place it was seen, and whether it held.

use console::style;
use serde_json::json;

use super::scene::Scene;
use crate::ui;

/// Source of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// In reports over MQTT.
    Report,
    /// In the flash dump, byte for byte.
    Flash,
    /// In what the bootloader did.
    Boot,
    /// In what the server says.
    Server,
}

impl Seen {
    fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Flash => "flash",
            Self::Boot => "boot",
            Self::Server => "server",
        }
    }
}

/// All claims so far.
#[derive(Debug, Default)]
pub(super) struct Facts(Vec<(Seen, String, bool)>);

impl Facts {
    /// Notes a claim and whether it held.
    pub(super) fn note(&mut self, seen: Seen, claim: impl Into<String>, held: bool) -> bool {
        self.0.push((seen, claim.into(), held));
        held
    }

    /// Whether all held.
    pub(super) fn all(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(_, _, held)| *held)
    }

    /// The summary's lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let rows = self.0.iter().map(|(seen, claim, held)| {
            let mark = if *held { style("✓").green().bold() } else { style("✗").red().bold() };
            format!("  {mark} {}  {claim}", style(format!("{:<6}", seen.name())).dim())
        });
        rows.collect()
    }

    /// Says the summary on stage, or prints it as JSON.
    pub(super) fn tell(&self, scene: &mut Scene) {
        if scene.output.json {
            for (seen, claim, held) in &self.0 {
                ui::event(json!({"event": "fact", "seen_in": seen.name(), "claim": claim, "held": held}));
            }
            ui::event(json!({"event": "summary", "ok": self.all()}));
            return;
        }
        scene.say("");
        scene.say(&style("What was observed").bold().to_string());
        self.lines().iter().for_each(|line| scene.say(line));
        let verdict = match self.all() {
            true => style("  Everything held.").green().to_string(),
            false => style("  Not everything held: see ✗ above.").red().bold().to_string(),
        };
        scene.say(&verdict);
    }
}
