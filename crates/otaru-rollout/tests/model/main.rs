//! Random fleets, rollouts and networks against the engine: after every step, what must hold is checked.
//!
//! A failure prints the smallest history that shows it, and its seed goes to `proptest-regressions/`, from where it is tried
//! first from then on.

mod device;
mod store;
mod world;

use std::collections::BTreeSet;
use std::fmt::Debug;

use otaru_format::digest::Digest;
use otaru_rollout::{
    Attempts, AutoGate, Control, Deployment, Event, Gate, GateState, Goal, Limits, MAX_RETURNS, Outcome,
    Percent, Phase, Position, Rollout, RolloutId, RolloutSpec, Span, Stage, StopRule, Tags, Target, Wave,
    WaveSize, Window,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::device::Nature;
use crate::world::{BEGINNING, World};

#[derive(Debug, Clone)]
enum Op {
    Create(Box<RolloutSpec>),
    /// Undoes a rollout.
    Undo(usize),
    Control(usize, Control),
    Fill(usize),
    ForceStart(usize, usize),
    Pass(Span),
    /// The clock is set back.
    SetBack(Span),
    Step(usize),
    StepAll,
    /// A while in which all goes well: whoever may starts, and every device is heard some times.
    Smoothly,
    Reach(usize, bool),
    Join(usize),
    Deliver(usize),
    DeliverAll,
    Lose(usize),
    Repeat(usize),
    DeafNetwork(bool),
    Retry(usize, usize, bool),
    Remove(usize, usize),
}

fn percent() -> impl Strategy<Value = Percent> {
    (1..=100_u8).prop_map(Percent::whole)
}

fn minutes(most: u64) -> impl Strategy<Value = Span> {
    (0..most).prop_map(Span::minutes)
}

fn gate() -> impl Strategy<Value = Gate> {
    prop_oneof![
        Just(Gate::Hand),
        (percent(), minutes(60), minutes(60)).prop_map(|(success, soak, patience)| Gate::Auto(AutoGate {
            success,
            soak,
            patience
        })),
    ]
}

fn waves() -> impl Strategy<Value = Vec<Wave>> {
    let by_size = (1..5_u32, gate()).prop_map(|(n, gate)| Wave { size: WaveSize::Devices(n), gate });
    let by_percent = (gate(), gate()).prop_map(|(one, two)| {
        let wave = |share, gate| Wave { size: WaveSize::Percent(Percent::whole(share)), gate };
        vec![wave(10, one), wave(50, two)]
    });
    prop_oneof![vec(by_size, 0..3), by_percent]
}

fn limits() -> impl Strategy<Value = Limits> {
    let window = prop_oneof![
        3 => Just(None),
        1 => Just("22:00-06:00".parse::<Window>().ok()),
        1 => Just("08:30-17:00 -05:00".parse::<Window>().ok()),
    ];
    (option::of(1..6_u32), option::of(1..6_u32), window).prop_map(
        |(concurrency, starts_per_minute, window)| Limits { concurrency, starts_per_minute, window },
    )
}

fn target() -> impl Strategy<Value = Target> {
    let tags = prop_oneof![
        2 => Just(None),
        1 => Just("site=berlin and not canary".parse().ok()),
        1 => Just("canary or site=paris".parse().ok()),
    ];
    (tags, prop_oneof![2 => Just(Percent::ALL), 1 => percent()]).prop_map(|(tags, percent)| Target {
        tags,
        percent,
        ..Target::default()
    })
}

fn stop() -> impl Strategy<Value = Option<StopRule>> {
    option::of((percent(), 1..6_u32).prop_map(|(failures, minimum)| StopRule { failures, minimum }))
}

fn attempts() -> impl Strategy<Value = Attempts> {
    (1..120_u64, 1..4_u32, minutes(20)).prop_map(|(timeout, count, backoff)| Attempts {
        timeout: Span::minutes(timeout),
        count,
        backoff,
        max_backoff: Span::minutes(30),
    })
}

fn spec() -> impl Strategy<Value = RolloutSpec> {
    let whom = (0..3_u8, target(), "[a-c]", -1..2_i32);
    let how = (waves(), limits(), stop(), attempts(), any::<bool>());
    let when = (option::weighted(0.2, minutes(60)), option::weighted(0.2, minutes(600)));
    (whom, how, when, prop::bool::weighted(0.3)).prop_map(|(whom, how, (start, end), continuous)| {
        let (image, target, salt, priority) = whom;
        let (waves, limits, stop, attempts, force) = how;
        RolloutSpec {
            goal: Goal::Image(image_number(image)),
            target,
            salt,
            priority,
            waves,
            limits,
            stop,
            attempts,
            start_at: start.map(|after| BEGINNING + after),
            end_at: end.map(|after| BEGINNING + Span::hours(1) + after),
            continuous,
            force,
        }
    })
}

fn image_number(n: u8) -> Digest {
    Digest::of(&[n])
}

fn control() -> impl Strategy<Value = Control> {
    prop_oneof![
        1 => Just(Control::Pause),
        3 => Just(Control::Resume),
        2 => Just(Control::Advance),
        1 => Just(Control::Finish),
        1 => any::<bool>().prop_map(|cancel| Control::Abort { cancel }),
        1 => percent().prop_map(Control::Widen),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let n = || 0..1_000_usize;
    prop_oneof![
        1 => spec().prop_map(|spec| Op::Create(Box::new(spec))),
        1 => n().prop_map(Op::Undo),
        3 => (n(), control()).prop_map(|(rollout, control)| Op::Control(rollout, control)),
        12 => n().prop_map(Op::Fill),
        2 => (n(), n()).prop_map(|(rollout, device)| Op::ForceStart(rollout, device)),
        5 => (0..7_200_u64).prop_map(|seconds| Op::Pass(Span::seconds(seconds))),
        5 => (0..60_u64).prop_map(|seconds| Op::Pass(Span::seconds(seconds))),
        1 => (0..100_000_u64).prop_map(|seconds| Op::SetBack(Span::seconds(seconds))),
        12 => n().prop_map(Op::Step),
        4 => Just(Op::StepAll),
        10 => Just(Op::Smoothly),
        6 => (n(), any::<bool>()).prop_map(|(device, reachable)| Op::Reach(device, reachable)),
        2 => n().prop_map(Op::Join),
        10 => n().prop_map(Op::Deliver),
        4 => Just(Op::DeliverAll),
        2 => n().prop_map(Op::Lose),
        4 => n().prop_map(Op::Repeat),
        1 => any::<bool>().prop_map(Op::DeafNetwork),
        2 => (n(), n(), any::<bool>()).prop_map(|(rollout, device, force)| Op::Retry(rollout, device, force)),
        1 => (n(), n()).prop_map(|(rollout, device)| Op::Remove(rollout, device)),
    ]
}

type Plan = (Tags, Nature, bool);

fn nature() -> impl Strategy<Value = Nature> {
    prop_oneof![
        5 => Just(Nature::Good),
        1 => (1..4_u8).prop_map(Nature::Flaky),
        1 => Just(Nature::Damaged),
        1 => Just(Nature::Crashes),
        2 => (1..8_u8).prop_map(Nature::Unreachable),
        1 => Just(Nature::Forgets),
        1 => Just(Nature::Strict),
        1 => Just(Nature::Deaf),
        2 => Just(Nature::GoesBack),
    ]
}

fn fleet() -> impl Strategy<Value = Vec<Plan>> {
    let tags = (any::<bool>(), any::<bool>()).prop_map(|(berlin, canary)| {
        let site = if berlin { "berlin" } else { "paris" };
        let mut tags = Tags::from([("site".to_owned(), site.to_owned())]);
        if canary {
            tags.insert("canary".to_owned(), String::new());
        }
        tags
    });
    vec((tags, nature(), prop::bool::weighted(0.8)), 1..14)
}

const MAX_ROLLOUTS: u64 = 4;

fn rollout(world: &World, pick: usize) -> Option<RolloutId> {
    let count = world.store.rollouts.len();
    (count > 0).then(|| RolloutId((pick % count) as u64))
}

fn create(world: &mut World, spec: RolloutSpec) {
    let id = world.store.rollouts.len() as u64;
    if id < MAX_ROLLOUTS {
        world.create(RolloutId(id), spec);
    }
}

fn undo(world: &mut World, pick: usize) {
    let Some(id) = rollout(world, pick) else { return };
    let spec = world.store.rollouts[&id].spec().clone();
    if let Goal::Image(image) = spec.goal {
        world.control(id, Control::Abort { cancel: true });
        create(world, RolloutSpec { goal: Goal::Undo { rollout: id, image }, waves: Vec::new(), ..spec });
    }
}

fn run(world: &mut World, op: Op) {
    let member = |pick: usize| pick % world.fleet.len();
    match op {
        Op::Create(spec) => create(world, *spec),
        Op::Undo(pick) => undo(world, pick),
        Op::Pass(span) => world.pass(span),
        Op::SetBack(span) => world.set_back(span),
        Op::Step(pick) => world.device_step(member(pick)),
        Op::StepAll => (0..world.fleet.len()).for_each(|at| world.device_step(at)),
        Op::Smoothly => smoothly(world),
        Op::Reach(pick, reachable) => world.reach(member(pick), reachable),
        Op::Join(pick) => {
            let at = member(pick);
            world.fleet[at].joined = true;
            world.admit(at);
        }
        Op::Deliver(pick) => world.deliver(pick),
        Op::DeliverAll => world.deliver_all(),
        Op::Lose(pick) => world.lose(pick),
        Op::Repeat(pick) => world.repeat(pick),
        Op::DeafNetwork(deaf) => world.deaf_network = deaf,
        Op::Control(pick, control) => with_rollout(world, pick, |world, id| world.control(id, control)),
        Op::Fill(pick) => with_rollout(world, pick, World::fill),
        Op::ForceStart(pick, device) => {
            let at = member(device);
            with_rollout(world, pick, |world, id| world.force_start(id, at));
        }
        Op::Retry(pick, device, force) => {
            let at = member(device);
            with_rollout(world, pick, |world, id| world.device_event(id, at, Event::Retry { force }));
        }
        Op::Remove(pick, device) => {
            let at = member(device);
            with_rollout(world, pick, |world, id| world.device_event(id, at, Event::Remove));
        }
    }
}

fn smoothly(world: &mut World) {
    let ids: Vec<RolloutId> = world.store.rollouts.keys().copied().collect();
    ids.into_iter().for_each(|id| world.fill(id));
    for _ in 0..6 {
        (0..world.fleet.len()).for_each(|at| world.device_step(at));
        world.deliver_all();
    }
}

fn with_rollout(world: &mut World, pick: usize, act: impl FnOnce(&mut World, RolloutId)) {
    if let Some(id) = rollout(world, pick) {
        act(world, id);
    }
}

/// From now on everything can be reached and nothing is lost, and an operator sees to what waits for one.
fn calm_down(world: &mut World) {
    world.deaf_network = false;
    for at in 0..world.fleet.len() {
        world.reach(at, true);
    }
    // Long enough for the longest window to come round between any two attempts of every device.
    for _ in 0..24 * 12 * 20 {
        let open: Vec<RolloutId> =
            world.store.rollouts.values().filter(|r| r.open() > 0 || !is_over(r)).map(Rollout::id).collect();
        if open.is_empty() {
            return;
        }
        for id in open {
            tend(world, id);
        }
        smoothly(world);
        world.pass(Span::minutes(5));
    }
    let open: Vec<_> = world.store.rollouts.values().filter(|r| r.open() > 0 || !is_over(r)).collect();
    panic!("no end in sight: {open:#?}, {:?}", open.iter().map(|r| world.budget(r.id())).collect::<Vec<_>>());
}

fn is_over(rollout: &Rollout) -> bool {
    matches!(rollout.phase(), Phase::Completed | Phase::Aborted { .. })
}

fn tend(world: &mut World, id: RolloutId) {
    let rollout = &world.store.rollouts[&id];
    let control = match (rollout.phase(), rollout.gate()) {
        (Phase::Paused | Phase::Stopped, _) => Some(Control::Resume),
        (Phase::Running, GateState::Held(_)) => Some(Control::Advance),
        (Phase::Running, _) if rollout.spec().continuous && rollout.open() == 0 => Some(Control::Finish),
        _ => None,
    };
    if let Some(control) = control {
        world.control(id, control);
    }
    world.fill(id);
}

/// The rules would hold in a world where nothing happens, too: this one is not such a world.
#[test]
fn the_model_sees_everything_happen() {
    let mut runner = TestRunner::deterministic();
    let (mut outcomes, mut notices, mut declined) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut returns = 0;
    for _ in 0..1_000 {
        let case = (fleet(), spec(), vec(op(), 0..150)).new_tree(&mut runner).expect("a case");
        let (fleet, first, ops) = case.current();
        let mut world = World::new(fleet, image_number(9));
        create(&mut world, first);
        for op in ops {
            run(&mut world, op);
            let ids = world.store.rollouts.keys();
            declined.extend(ids.filter_map(|id| world.budget(*id).err()).map(|why| word(&why)));
        }
        outcomes.extend(world.store.deployments.values().map(|d| format!("{:?}", d.stage())));
        returns = returns.max(world.store.deployments.values().map(Deployment::returns).max().unwrap_or(0));
        notices.extend(world.notices.iter().map(word));
    }
    for outcome in Outcome::ALL {
        assert!(
            outcomes.contains(&format!("{:?}", Stage::Finished(outcome))),
            "{outcome:?} not in {outcomes:?}"
        );
    }
    assert!(outcomes.contains("Retrying"), "{outcomes:?}");
    assert_eq!(returns, MAX_RETURNS, "devices come back as often as they may");
    for notice in ["Started", "WaveOpened", "Soaking", "Held", "Stopped", "Completed"] {
        assert!(notices.contains(notice), "{notice} not in {notices:?}");
    }
    for why in ["Phase", "Window", "Concurrency", "Rate"] {
        assert!(declined.contains(why), "{why} not in {declined:?}");
    }
}

/// The name of a variant.
fn word(value: &impl Debug) -> String {
    format!("{value:?}").chars().take_while(|c| c.is_alphabetic()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_whatever_happens(fleet in fleet(), first in spec(), ops in vec(op(), 0..150)) {
        let mut world = World::new(fleet, image_number(9));
        create(&mut world, first);
        for op in ops {
            run(&mut world, op);
        }
        world.check_replay();
    }

    #[test]
    fn every_rollout_whose_devices_answer_ends(fleet in fleet(), first in spec(), ops in vec(op(), 0..60)) {
        let mut world = World::new(fleet, image_number(9));
        create(&mut world, first);
        for op in ops {
            run(&mut world, op);
        }
        calm_down(&mut world);
        prop_assert!(world.store.occupancy.values().all(|occupancy| occupancy.active.is_none()));
        world.check_replay();
    }

    #[test]
    fn a_larger_share_keeps_the_smaller(device in "[a-z0-9-]{1,20}", salt in "[a-z]{0,8}", one in 0..=100_u8, other in 0..=100_u8) {
        let position = Position::of(&device, &salt, "target");
        let (less, more) = (Percent::whole(one.min(other)), Percent::whole(one.max(other)));
        prop_assert!(!position.is_within(less) || position.is_within(more));
    }
}
