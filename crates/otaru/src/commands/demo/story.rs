//! The demo's chapters, each of which ends with facts.

use std::time::Duration;

use console::style;
use otaru_format::command::Offer;
use otaru_format::otadata::State;
use otaru_format::status::UpdateState;
use otaru_format::topic::Topics;
use otaru_sim::device::Event;
use otaru_sim::firmware::Behaviour;
use otaru_sim::flash::PowerCut;

use super::facts::{Facts, Seen};
use super::firmware::{Release, lamp};
use super::scene::{MORE, NAMES, Scene};
use crate::fleet::words::fault;
use crate::ui::wrap::wrap;

/// Longest that one step may take before it counts as not observed.
const STEP: Duration = Duration::from_secs(25);
/// Operation and byte at which the power fails: in the middle of programming a page, about half-way through the image.
const CUT: PowerCut = PowerCut { operation: 1600, byte: 77 };

fn chapter(scene: &mut Scene, number: u8, title: &str) {
    scene.say("");
    scene.say(&format!("{}  {}", style(number).cyan().bold(), style(title).bold()));
}

fn result(scene: &mut Scene, held: bool, good: &str) {
    let text = match held {
        true => format!("   {} {good}", style("✓").green().bold()),
        false => format!("   {} that did not happen within {} s", style("✗").red().bold(), STEP.as_secs()),
    };
    scene.say(&text);
}

/// Whether a board's last report says that it runs this release, confirmed.
fn runs(scene: &Scene, name: &str, release: &Release) -> bool {
    scene.status(name).is_some_and(|status| {
        status.state == UpdateState::Confirmed && status.confirmed && status.image == release.digest
    })
}

/// Whether otadata selects a slot that holds exactly this release, and the slot's state.
fn flashed(scene: &Scene, name: &str, release: &Release) -> bool {
    let Ok(dump) = scene.dump(name) else { return false };
    let (slot, record) = dump.selected();
    dump.slot_holds(slot, &release.bytes) && record.is_some_and(|record| record.state == State::Valid)
}

/// All boards say that they are there.
pub(super) async fn wake(scene: &mut Scene) -> bool {
    scene
        .until(STEP, |scene| {
            NAMES.iter().all(|name| scene.status(name).is_some_and(|status| status.version == "1.0.0"))
        })
        .await
}

/// A good update for everybody, asked for with a URL as plain text.
pub(super) async fn good_update(scene: &mut Scene, facts: &mut Facts) -> anyhow::Result<Release> {
    let release = scene.release("1.1.0", Behaviour::Healthy)?;
    chapter(scene, 1, "A good update, 1.0.0 → 1.1.0, for all three");
    let topic = Topics::new(&scene.base, "x")?.update_all();
    scene.say(&format!("   published at {topic}: {}", release.url));
    scene.publish(&topic, &release.url).await?;
    let done = scene.until(STEP, |scene| NAMES.iter().all(|name| runs(scene, name, &release))).await;
    result(scene, done, "all three run 1.1.0; each confirmed itself after its restart");
    facts.note(Seen::Report, "all three restarted into 1.1.0 and confirmed it, by its SHA-256", done);
    let equal = NAMES.iter().all(|name| flashed(scene, name, &release));
    facts.note(
        Seen::Flash,
        "otadata selects a slot that equals lamp-1.1.0.bin, byte for byte, in all three",
        equal,
    );
    Ok(release)
}

/// An image that panics at start: it must go, and say why.
pub(super) async fn bad_update(scene: &mut Scene, facts: &mut Facts, old: &Release) -> anyhow::Result<()> {
    let bad = scene.release("1.2.0", Behaviour::Crash)?;
    chapter(scene, 2, "A bad update: 1.2.0 panics at every start; porch gets it");
    offer(scene, "porch", &bad).await?;
    let gone = |scene: &Scene| {
        scene.status("porch").is_some_and(|status| {
            status.state == UpdateState::RolledBack
                && status.image == old.digest
                && status.failed.as_ref().is_some_and(|failed| failed.image == bad.digest)
        })
    };
    let done = scene.until(STEP, gone).await;
    result(scene, done, "porch runs 1.1.0 again and tells why 1.2.0 failed");
    facts.note(Seen::Report, "porch went back to 1.1.0 and named 1.2.0 as the image that failed", done);
    let status = scene.status("porch").cloned();
    for part in status.iter().filter_map(fault).flat_map(|text| wrap(&text, 90, 3)) {
        scene.say(&format!("     {}", style(part).red()));
    }
    let text =
        status.and_then(|status| status.error).is_some_and(|error| error.detail.contains("panicked at"));
    facts.note(Seen::Report, "the reason carries the panic's own text", text);
    let starts = starts_of(scene, "porch", "1.2.0");
    facts.note(
        Seen::Boot,
        format!("1.2.0 had {}, then never another", crate::ui::many(starts as u64, "start")),
        starts > 0 && done,
    );
    let dump = scene.dump("porch")?;
    let safe = dump.slot_holds(dump.selected().0, &old.bytes);
    facts.note(Seen::Flash, "porch's otadata selects the slot that equals lamp-1.1.0.bin", safe);
    Ok(())
}

/// The power fails while the flash is written.
pub(super) async fn power_cut(scene: &mut Scene, facts: &mut Facts) -> anyhow::Result<Release> {
    let release = scene.release("1.3.0", Behaviour::Healthy)?;
    chapter(scene, 3, "A power cut: garage loses power while 1.3.0 is written");
    let boots = scene.boots.len();
    if let Some(flash) = scene.flash("garage") {
        flash.cut_at(CUT);
    }
    offer(scene, "garage", &release).await?;
    let lost = |scene: &Scene| {
        let mut later = scene.boots[boots..].iter();
        later.any(|(name, event)| name == "garage" && *event == Event::PowerLost)
    };
    let cut = scene.until(STEP, lost).await;
    let at = scene.status("garage").and_then(|status| status.progress).unwrap_or(0);
    if cut {
        scene.say(&format!("   cut in the middle of a flash page, at {at}%; the power returns in a moment"));
    }
    scene.pause(1.5).await;
    facts.note(Seen::Boot, format!("garage lost power inside a flash write, at {at}% of 1.3.0"), cut);
    let boots = scene.boots.len();
    scene.power_on("garage");
    let up = |scene: &Scene| scene.boots[boots..].iter().any(|(name, _)| name == "garage");
    scene.until(STEP, up).await;
    let old = matches!(
        scene.boots[boots..].iter().find(|(name, _)| name == "garage"),
        Some((_, Event::Booted { version, .. })) if version == "1.1.0"
    );
    facts.note(Seen::Boot, "with power again, garage booted 1.1.0, the image it ran before", old);
    let done = scene.until(STEP, |scene| runs(scene, "garage", &release)).await;
    result(scene, done, "garage took the update up again by itself and runs 1.3.0");
    facts.note(Seen::Report, "garage finished the update without another command and confirmed 1.3.0", done);
    let equal = flashed(scene, "garage", &release);
    facts.note(
        Seen::Flash,
        "garage's otadata selects a slot that equals lamp-1.3.0.bin, byte for byte",
        equal,
    );
    let bricked = scene.boots.iter().any(|(_, event)| *event == Event::NothingBootable);
    facts.note(Seen::Boot, "no board was ever without a bootable image", !bricked);
    Ok(release)
}

/// A rollout by the server: one board first, the others only when that one is well.
pub(super) async fn staged_rollout(
    scene: &mut Scene,
    facts: &mut Facts,
    running: &[Release],
) -> anyhow::Result<()> {
    let release = scene.release("1.4.0", Behaviour::Healthy)?;
    let all = NAMES.len() + MORE.len();
    chapter(
        scene,
        4,
        &format!("A staged rollout: five more boards come, and the server brings 1.4.0 to all {all}"),
    );
    scene.plug_in_more(&lamp("1.1.0", Behaviour::Healthy))?;
    let there = |scene: &Scene| MORE.iter().all(|name| scene.status(name).is_some());
    scene.until(STEP, there).await;
    for base in running {
        scene.server.upload(base).await?;
    }
    let offered = scene.server.upload(&release).await?;
    let patches: Vec<u64> = offered.deltas.iter().map(|delta| delta.size).collect();
    let from_each = patches.len() == running.len();
    let largest = patches.iter().max().copied().unwrap_or(0);
    scene.say(&format!("   signed; for who runs 1.1.0 or 1.3.0, a patch of at most {largest} bytes"));
    let claim =
        format!("1.4.0 is {} bytes, and {largest} as a patch from what the boards run", release.bytes.len());
    facts.note(Seen::Server, claim, from_each && largest < release.bytes.len() as u64 / 10);
    let rollout = scene.server.roll_out(&offered, "lamp 1.4.0, a canary first").await?;
    let every = || NAMES.iter().chain(MORE.iter());
    let moved = |scene: &Scene| every().filter(|name| begun(scene, name, &release)).count();
    let settled = |scene: &Scene| every().filter(|name| runs(scene, name, &release)).count();
    let first = scene.until(STEP, |scene| settled(scene) > 0).await;
    let alone = first && moved(scene) == 1;
    result(scene, alone, "the canary runs 1.4.0; until then no other board had begun");
    facts.note(Seen::Report, "the first of eight boards had confirmed 1.4.0 before any other began", alone);
    let done = scene.until(STEP, |scene| settled(scene) == all).await;
    result(scene, done, &format!("all {all} run 1.4.0"));
    facts.note(Seen::Report, format!("all {all} restarted into 1.4.0 and confirmed it"), done);
    let over = completed(scene, rollout).await?;
    facts.note(Seen::Server, "the server's rollout is completed", over);
    Ok(())
}

/// Whether a rollout is completed before long: the server hears of the last board a moment after it is seen here.
async fn completed(scene: &mut Scene, rollout: u64) -> anyhow::Result<bool> {
    let end = tokio::time::Instant::now() + STEP;
    loop {
        if scene.server.is_completed(rollout).await? {
            return Ok(true);
        }
        if tokio::time::Instant::now() > end {
            return Ok(false);
        }
        scene.until(Duration::from_millis(100), |_| false).await;
    }
}

/// Whether a board has begun with this release, or is through with it.
fn begun(scene: &Scene, name: &str, release: &Release) -> bool {
    scene.status(name).is_some_and(|status| status.image == release.digest || status.state.is_under_way())
}

fn starts_of(scene: &Scene, board: &str, wanted: &str) -> usize {
    let started = |event: &Event| matches!(event, Event::Booted { version, .. } if version == wanted);
    scene.boots.iter().filter(|(name, event)| name == board && started(event)).count()
}

async fn offer(scene: &mut Scene, name: &str, release: &Release) -> anyhow::Result<()> {
    let topic = Topics::new(&scene.base, name)?.update_one();
    let mut buf = [0; 1024];
    let deployment = format!("demo-{}", release.version);
    let offer = Offer {
        url: &release.url,
        image: Some(release.digest),
        deployment: Some(&deployment),
        force: false,
        order: None,
    };
    let payload = offer.emit_json(&mut buf).unwrap_or(&release.url).to_owned();
    scene.say(&format!("   published at {topic}: {}", release.url));
    scene.publish(&topic, &payload).await
}
