//! Rolls firmware out to ten lamps, one first: what a server does with the engine, without a server.

use std::collections::BTreeMap;
use std::error::Error;

use otaru_format::digest::Digest;
use otaru_rollout::{
    Control, Deployment, DeploymentStep, Device, DeviceId, Effect, Occupancy, Rollout, RolloutId, Tags, Time,
    admit,
};

fn main() -> Result<(), Box<dyn Error>> {
    let now = Time(1_795_000_000_000);
    let order = format!(
        r#"{{"goal": {{"image": "{}"}}, "waves": [{{"size": {{"devices": 1}}, "gate": "hand"}}]}}"#,
        Digest::of(b"new")
    );
    let mut rollout = Rollout::new(RolloutId(1), serde_json::from_str(&order)?, now)?;
    let mut rows: BTreeMap<DeviceId, (Deployment, Occupancy)> = BTreeMap::new();

    // The engine asks for the fleet; each device is offered to it.
    rollout.step(Control::Start, now)?;
    let tags = Tags::new();
    for number in 0..10 {
        let id = DeviceId::from(format!("lamp-{number}").as_str());
        let (product, version, image) = ("lamp", "1.0.0", Digest::of(b"old"));
        let chip = "esp32c3";
        let device =
            Device { id: &id, tags: &tags, chip, product, version, image, reachable: true, brought_by: None };
        let (deployment, _) = admit(&mut rollout, &device, &[], None)?;
        rows.insert(id, (deployment, Occupancy::default()));
    }
    rollout.step(Control::Scanned(1), now)?;

    for wave in ["first", "second"] {
        let candidates = rows.values().map(|(deployment, occupancy)| (deployment, *occupancy));
        let chosen: Vec<DeviceId> = rollout.select(candidates, now).into_iter().cloned().collect();
        println!("the {wave} wave starts {} devices", chosen.len());
        for id in chosen {
            let Some((deployment, occupancy)) = rows.get_mut(&id) else { continue };
            let mut step = DeploymentStep { rollout: &mut rollout, deployment, occupancy };
            for effect in step.start(now)? {
                if let Effect::Offer { device, offer, .. } = effect {
                    println!("  offer {offer} to {device}");
                }
            }
        }
        if wave == "first" {
            rollout.step(Control::Advance, now)?;
        }
    }
    Ok(())
}
