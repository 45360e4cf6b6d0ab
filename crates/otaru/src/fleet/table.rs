//! A fleet as a table: one row a device, with a bar while it updates and its fault below.

use std::collections::BTreeMap;

use console::{Style, style, truncate_str};
use otaru_format::partition::SlotName;
use otaru_format::status::UpdateState;

use super::{Device, words};
use crate::ui::bar::bar;
use crate::ui::clean;
use crate::ui::grid::grid;
use crate::ui::wrap::wrap;

/// Widest a column of texts from devices gets.
const WIDEST: usize = 20;
const HEADS: [&str; 7] = ["", "DEVICE", "CHIP", "PROJECT", "VERSION", "SLOT", "STATE"];

/// A sign in front of a device's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Online,
    Offline,
    Unknown,
    Good,
    Bad,
}

impl Mark {
    /// Chooses the sign for what a device says of itself.
    pub(crate) fn of(device: &Device) -> Self {
        match device.online {
            Some(true) => Self::Online,
            Some(false) => Self::Offline,
            None => Self::Unknown,
        }
    }

    fn show(self) -> String {
        match self {
            Self::Online => style("●").green(),
            Self::Offline => style("○").dim(),
            Self::Unknown => style("?").dim(),
            Self::Good => style("✓").green().bold(),
            Self::Bad => style("✗").red().bold(),
        }
        .to_string()
    }
}

/// The table's lines, fit for this many columns.
pub(crate) fn table<'a>(
    devices: impl Iterator<Item = (&'a str, &'a Device, Mark)>,
    columns: usize,
) -> Vec<String> {
    let (rows, faults): (Vec<_>, Vec<_>) =
        devices.map(|(name, device, mark)| row(name, device, mark)).unzip();
    let mut lines = Vec::new();
    // The heads' line has no fault.
    for (line, fault) in grid(HEADS, rows, columns).into_iter().zip(std::iter::once(None).chain(faults)) {
        lines.push(line);
        for (index, part) in
            fault.iter().flat_map(|fault| wrap(fault, columns.saturating_sub(6), 2)).enumerate()
        {
            let lead = if index == 0 { "└ " } else { "  " };
            lines.push(format!("   {}", style(format!("{lead}{part}")).red()));
        }
    }
    lines
}

/// Urgency of a look at a device: trouble, then what runs, then the rest, and last who is away.
fn urgency(device: &Device, mark: Mark) -> u8 {
    let state = device.status.as_ref().map(|status| (status.state, status.next_trial().is_some()));
    match (mark, state) {
        (Mark::Bad, _) => 0,
        (Mark::Good, _) => 3,
        (_, Some((_, true))) => 1,
        (_, Some((state, _))) if state.is_failure() => 0,
        (_, Some((state, _))) if state.is_under_way() => 2,
        (Mark::Offline | Mark::Unknown, _) => 4,
        _ => 3,
    }
}

/// The same for a screen with so many rows: what is urgent first, and below it how many devices there was no room for, by state.
pub(crate) fn fitted<'a>(
    devices: impl Iterator<Item = (&'a str, &'a Device, Mark)>,
    columns: usize,
    rows: usize,
) -> Vec<String> {
    let mut devices: Vec<_> = devices.collect();
    devices.sort_by_key(|(name, device, mark)| (urgency(device, *mark), *name));
    // A device has one line, or up to three; most have one.
    let mut shown = devices.len().min(rows.saturating_sub(1));
    loop {
        let mut lines = table(devices[..shown].iter().copied(), columns);
        let hidden = &devices[shown..];
        if !hidden.is_empty() {
            lines.push(style(format!("… and {}", tally(hidden))).dim().to_string());
        }
        if lines.len() <= rows || shown == 0 {
            return lines;
        }
        shown = shown.saturating_sub((lines.len() - rows).div_ceil(3).max(1));
    }
}

/// Counts devices by state: `3 more: 2 idle, 1 away`.
fn tally(devices: &[(&str, &Device, Mark)]) -> String {
    format!("{} more: {}", devices.len(), states(devices.iter().map(|(_, device, mark)| (*device, *mark))))
}

/// Devices counted by state, the most urgent first.
pub(crate) fn states<'a>(devices: impl Iterator<Item = (&'a Device, Mark)>) -> String {
    let mut counts = BTreeMap::<(u8, String), usize>::new();
    for (device, mark) in devices {
        let urgency = urgency(device, mark);
        let word = match (&device.status, mark) {
            (_, Mark::Offline) if urgency == 4 => "away".to_owned(),
            (Some(status), _) if status.next_trial().is_some() => "will be tried again".to_owned(),
            (Some(status), _) => words::name(status.state).to_owned(),
            (None, _) => "without a report".to_owned(),
        };
        *counts.entry((urgency, word)).or_default() += 1;
    }
    let parts = counts.into_iter().map(|((_, word), count)| format!("{count} {word}"));
    parts.collect::<Vec<_>>().join(", ")
}

fn row(name: &str, device: &Device, mark: Mark) -> ([String; 7], Option<String>) {
    let short = |text: &str| truncate_str(&clean(text), WIDEST, "…").into_owned();
    let Some(status) = &device.status else {
        let none = String::new;
        let state = style("no report yet").dim().to_string();
        return ([mark.show(), short(name), none(), none(), none(), none(), state], None);
    };
    let cells = [
        mark.show(),
        short(name),
        short(&status.chip),
        short(&status.project),
        short(&status.version),
        SlotName(status.slot).to_string(),
        match status.next_trial() {
            Some(_) => style(words::state(status)).yellow().to_string(),
            None => state_cell(status.state, status.progress, &words::state(status)),
        },
    ];
    (cells, words::fault(status))
}

fn state_cell(state: UpdateState, progress: Option<u8>, text: &str) -> String {
    let colour = match state {
        UpdateState::Confirmed | UpdateState::Current => Style::new().green(),
        state if state.is_failure() => Style::new().red(),
        UpdateState::Retrying | UpdateState::Cancelled => Style::new().yellow(),
        UpdateState::Idle | UpdateState::Unknown => Style::new().dim(),
        _ => Style::new().cyan(),
    };
    let text = colour.apply_to(text);
    match state {
        UpdateState::Checking => format!("{} {text}", bar(0)),
        UpdateState::Downloading | UpdateState::Retrying => format!("{} {text}", bar(progress.unwrap_or(0))),
        UpdateState::Verifying | UpdateState::Restarting | UpdateState::Trial => {
            format!("{} {text}", bar(100))
        }
        _ => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::tests::status;
    use console::measure_text_width;
    use otaru_format::status::{Code, Fault};

    fn plain(lines: Vec<String>) -> Vec<String> {
        lines.iter().map(|line| console::strip_ansi_codes(line).into_owned()).collect()
    }

    #[test]
    fn columns_are_aligned_and_fit() {
        let mut one =
            Device { online: Some(true), status: Some(status("a", UpdateState::Downloading, "1.0.0")) };
        if let Some(status) = &mut one.status {
            status.progress = Some(50);
        }
        let mut two =
            Device { online: Some(false), status: Some(status("b", UpdateState::Failed, "1.0.0-rc1")) };
        if let Some(status) = &mut two.status {
            status.error = Some(Fault { code: Code::Dns, detail: "no such \x07host ".repeat(9) });
        }
        let unknown = Device::default();
        let devices =
            [("a", &one, Mark::Online), ("longer", &two, Mark::Offline), ("c", &unknown, Mark::Unknown)];
        let lines = plain(table(devices.into_iter(), 72));
        assert_eq!(lines[0], "   DEVICE  CHIP     PROJECT  VERSION    SLOT   STATE");
        assert_eq!(lines[1], "●  a       esp32c3  p        1.0.0      ota_0  ━━━━━━━━──────── downloa…");
        assert_eq!(lines[2], "○  longer  esp32c3  p        1.0.0-rc1  ota_0  failed");
        assert!(lines[3].starts_with("   └ dns: no such host no such host"));
        assert!(lines.iter().all(|line| measure_text_width(line) <= 72), "{lines:#?}");
    }

    #[test]
    fn trouble_comes_first_and_what_is_hidden_is_counted_by_state() {
        let device = |name: &str, state, online| {
            let status = Some(status(name, state, "1.0.0"));
            (name.to_owned(), Device { online: Some(online), status })
        };
        let mut devices: Vec<(String, Device)> =
            (0..500).map(|n| device(&format!("a{n:03}"), UpdateState::Idle, n % 10 != 0)).collect();
        devices.push(device("z-bad", UpdateState::RolledBack, true));
        devices.push(device("z-busy", UpdateState::Downloading, true));
        if let Some(status) = &mut devices[500].1.status {
            status.error = Some(Fault { code: Code::Panic, detail: "at main.rs".into() });
        }
        let all = || devices.iter().map(|(name, device)| (name.as_str(), device, Mark::of(device)));
        let lines = plain(fitted(all(), 72, 10));
        assert_eq!(lines.len(), 10, "{lines:#?}");
        assert!(lines[1].contains("z-bad") && lines[2].contains("panic"), "{lines:#?}");
        assert!(lines[3].contains("z-busy") && lines[4].contains("a001"), "{lines:#?}");
        assert_eq!(lines[9], "… and 495 more: 445 idle, 50 away");
        assert_eq!(plain(fitted(all().take(3), 72, 10)).len(), 4);
        let told = states(all().map(|(_, device, mark)| (device, mark)));
        assert_eq!(told, "1 rolled back, 1 downloading, 450 idle, 50 away");
        assert!(fitted(all(), 72, 2).len() <= 3);
    }
}
