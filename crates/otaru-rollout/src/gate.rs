//! Decisions that a rollout takes by itself: to stop, to open the next wave, to end.

use crate::effect::{Effect, Notice};
use crate::held::Held;
use crate::rollout::{GateState, Phase, Rollout};
use crate::spec::{AutoGate, Gate};
use crate::tally::{Tally, Verdicts};
use crate::time::{Span, Time};

/// Decides what is to be decided. Called after whatever changed the counts, and as time passes.
pub(crate) fn evaluate(rollout: &mut Rollout, now: Time, effects: &mut Vec<Effect>) {
    // A clock that was set back must not make anything wait for the time it once showed.
    rollout.opened_at = rollout.opened_at.min(now);
    rollout.recent.follow_clock(now);
    follow_the_calendar(rollout, now, effects);
    if rollout.phase == Phase::Running {
        stop_if_bad(rollout, effects);
    }
    if rollout.phase == Phase::Running && rollout.scanned {
        open_waves(rollout, now, effects);
    }
    let done = match rollout.phase {
        Phase::Running => rollout.scanned && !rollout.spec.continuous && rollout.open_wave().is_none(),
        Phase::Finishing => true,
        _ => false,
    };
    if done && rollout.open() == 0 {
        rollout.phase = Phase::Completed;
        effects.push(Effect::Notice(Notice::Completed));
    }
}

fn follow_the_calendar(rollout: &mut Rollout, now: Time, effects: &mut Vec<Effect>) {
    if rollout.phase == Phase::Scheduled && rollout.spec.start_at.is_none_or(|start| start <= now) {
        rollout.begin(now, effects);
    }
    if rollout.phase.is_open() && rollout.spec.end_at.is_some_and(|end| end <= now) {
        rollout.phase = Phase::Finishing;
        effects.push(Effect::CloseAll);
    }
}

fn stop_if_bad(rollout: &mut Rollout, effects: &mut Vec<Effect>) {
    if let Some(verdicts) = rollout.breaks_stop_rule(Tally::verdicts) {
        rollout.phase = Phase::Stopped;
        effects.push(Effect::Notice(Notice::Stopped(verdicts)));
    }
}

/// Opens as many waves as may be: those that nobody is in may follow one another at once.
fn open_waves(rollout: &mut Rollout, now: Time, effects: &mut Vec<Effect>) {
    while let Some(gate) = rollout.open_wave().map(|wave| wave.gate) {
        let next = match gate {
            Gate::Hand => by_hand(rollout),
            Gate::Auto(auto) => by_itself(rollout, auto, now),
        };
        match next {
            Next::Open => open_next(rollout, now, effects),
            Next::Stay(state) => {
                note(rollout, state, effects);
                return;
            }
        }
    }
}

enum Next {
    Open,
    Stay(GateState),
}

fn note(rollout: &mut Rollout, state: GateState, effects: &mut Vec<Effect>) {
    if rollout.gate == state {
        return;
    }
    match (rollout.gate, state) {
        // Only the moment moved, with the clock.
        (GateState::Soaking(_), GateState::Soaking(_)) | (_, GateState::Working) => {}
        (_, GateState::Soaking(_)) => effects.push(Effect::Notice(Notice::Soaking(rollout.wave))),
        (_, GateState::Held(held)) => effects.push(Effect::Notice(Notice::Held(held))),
    }
    rollout.gate = state;
}

/// Opens the next wave, if there is one.
pub(crate) fn open_next(rollout: &mut Rollout, now: Time, effects: &mut Vec<Effect>) {
    if rollout.open_wave().is_none() {
        return;
    }
    rollout.wave += 1;
    rollout.opened_at = now;
    rollout.gate = GateState::Working;
    effects.push(Effect::Notice(Notice::WaveOpened(rollout.wave)));
}

fn is_settled(rollout: &Rollout, patience: Span, now: Time) -> bool {
    let tally = rollout.tally(rollout.wave);
    let waited = now.since(rollout.opened_at) >= patience;
    tally.ready == 0 && tally.active == 0 && (tally.waiting == 0 || waited)
}

fn by_hand(rollout: &Rollout) -> Next {
    let tally = rollout.tally(rollout.wave);
    let settled = tally.ready == 0 && tally.active == 0;
    let held = if rollout.is_held_by_retries() { Held::Unreachable } else { Held::Hand };
    Next::Stay(if settled { GateState::Held(held) } else { GateState::Working })
}

fn by_itself(rollout: &Rollout, auto: AutoGate, now: Time) -> Next {
    let tally = rollout.tally(rollout.wave);
    if tally.total() == 0 {
        return Next::Open;
    }
    if let Some(held) = not_good_enough(rollout, auto, tally) {
        let settled = is_settled(rollout, auto.patience, now);
        let was_settled = matches!(rollout.gate, GateState::Soaking(_) | GateState::Held(_));
        let bad = settled || was_settled;
        return Next::Stay(if bad { GateState::Held(held) } else { GateState::Working });
    }
    // Those who come late, while a wave soaks, start as all do; the soak does not begin again for each of them.
    let settled = is_settled(rollout, auto.patience, now);
    let since = match rollout.gate {
        // Devices that went back again took what they had shown with them.
        _ if rollout.verdicts().good == 0 && settled => {
            return Next::Stay(GateState::Held(Held::NoEvidence));
        }
        GateState::Soaking(since) if rollout.verdicts().good > 0 => since.min(now),
        _ if !settled => return Next::Stay(GateState::Working),
        _ => now,
    };
    if now.since(since) >= auto.soak { Next::Open } else { Next::Stay(GateState::Soaking(since)) }
}

fn not_good_enough(rollout: &Rollout, auto: AutoGate, tally: Tally) -> Option<Held> {
    let fails =
        |verdicts: Verdicts| verdicts.all() > 0 && !auto.success.is_reached(verdicts.good, verdicts.all());
    if fails(tally.verdicts()) {
        return Some(Held::SuccessRate);
    }
    (rollout.is_held_by_retries() || fails(tally.feared())).then_some(Held::Unreachable)
}
