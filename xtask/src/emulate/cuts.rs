//! Power cuts at random moments of updates.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::limits::START;
use super::peers::Status;
use super::story::{Run, is_confirmed, said};

/// Silence about an update after which a device that has lost power is told again.
const FORGOTTEN: Duration = Duration::from_secs(15);
/// Cuts in one update; the device gives up after eleven.
const CUTS_AN_UPDATE: u32 = 5;

impl Run {
    /// Cuts the power at random moments of updates.
    pub(super) fn cut_power(&mut self, cuts: u32, seed: u64) -> Result<()> {
        println!("power cuts: seed {seed}");
        let mut random = Random(seed | 1);
        let (mut done, mut updates, mut told_again) = (0, 0, 0);
        // Three in turn, so that what is wanted never stands in the other slot already.
        for turn in (0..3).cycle() {
            if done >= cuts {
                break;
            }
            self.cold_start()?;
            let update = match turn {
                0 => &self.images.first,
                1 => &self.images.second,
                _ => &self.images.delta,
            };
            if self.broker.last().is_some_and(|status| status.version == update.version) {
                continue;
            }
            let start = Instant::now();
            let mut here = 0;
            self.publish(update.file)?;
            while done < cuts && here < CUTS_AN_UPDATE {
                let moment = self.took.mul_f64(random.unit());
                if self.broker.wait(moment, |status| is_confirmed(status, update))?.is_some() {
                    break;
                }
                let state = self.broker.last_state();
                self.machine.cut()?;
                (done, here) = (done + 1, here + 1);
                self.broker.forget()?;
                self.machine.power_on()?;
                let back =
                    self.wait(START, "the start after a power cut", |status| !status.version.is_empty())?;
                println!(
                    "  cut {done}/{cuts} {:.1} s into it, while {state}; back with {} ({})",
                    moment.as_secs_f64(),
                    back.version,
                    back.state
                );
                let goes_on = |status: &Status| status.state != "idle" || status.version == update.version;
                if self.broker.wait_from(&back, FORGOTTEN, goes_on)?.is_none() {
                    self.publish(update.file)?;
                    told_again += 1;
                }
            }
            self.settled(update)?;
            updates += 1;
            said(start, &format!("updated to {} after {here} cuts", update.version));
        }
        println!(
            "{done} power cuts in {updates} updates; {told_again} times the device had to be told again"
        );
        Ok(())
    }
}

/// Marsaglia's xorshift64: a few moments that can be had again.
struct Random(u64);

impl Random {
    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        for shift in [13, -7, 17_i32] {
            self.0 ^= if shift > 0 { self.0 << shift } else { self.0 >> -shift };
        }
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
