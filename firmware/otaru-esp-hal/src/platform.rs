//! All that this crate has, put together for the agent.
#![forbid(unsafe_code)]

use core::marker::PhantomData;

use esp_hal::rng::Rng;
use otaru_device::{AlwaysHealthy, Health, Link, Parts, Platform};

use crate::{EspBoard, EspClock, EspFlash, Net, StackLink};

/// A chip of the ESP32 family: with a link of the firmware's own, if it has one, and its health check.
pub struct EspPlatform<'d, L = StackLink<'d>, H = AlwaysHealthy>(PhantomData<(&'d (), L, H)>);

impl<'d, L: Link, H: Health> Platform for EspPlatform<'d, L, H> {
    type Net = Net<'d>;
    type Clock = EspClock;
    type Flash = EspFlash<'d>;
    type Board = EspBoard<'d>;
    type Link = L;
    type Health = H;
    type Rng = Rng;
}

impl<'d, L: Link, H: Health> EspPlatform<'d, L, H> {
    /// Collects the parts that the agent works with.
    pub fn parts<'a>(
        net: &'a Net<'d>,
        flash: EspFlash<'d>,
        board: EspBoard<'d>,
        link: L,
        health: H,
    ) -> Parts<'a, Self> {
        Parts { net, clock: &EspClock, flash, board, link, health, rng: Rng::new() }
    }
}
