//! All that this crate has, put together for the agent.
#![forbid(unsafe_code)]

use core::marker::PhantomData;

use esp_hal::rng::Rng;
use otaru_device::{AlwaysHealthy, Health, Link, NoTls, Parts, Platform, Tls};

use crate::{EspBoard, EspClock, EspFlash, Net, StackLink};

/// A chip of the ESP32 family: with a link of the firmware's own, if it has one, its health check and its TLS.
pub struct EspPlatform<'d, L = StackLink<'d>, H = AlwaysHealthy, T = NoTls>(PhantomData<(&'d (), L, H, T)>);

impl<'d, L: Link, H: Health, T: Tls> Platform for EspPlatform<'d, L, H, T> {
    type Net = Net<'d>;
    type Tls = T;
    type Clock = EspClock;
    type Flash = EspFlash<'d>;
    type Board = EspBoard<'d>;
    type Link = L;
    type Health = H;
    type Rng = Rng;
}

impl<'d, L: Link, H: Health> EspPlatform<'d, L, H> {
    /// Collects the parts that the agent works with, without TLS.
    pub fn parts<'a>(
        net: &'a Net<'d>,
        flash: EspFlash<'d>,
        board: EspBoard<'d>,
        link: L,
        health: H,
    ) -> Parts<'a, Self> {
        EspPlatform::parts_with_tls(net, &NoTls, flash, board, link, health)
    }
}

impl<'d, L: Link, H: Health, T: Tls> EspPlatform<'d, L, H, T> {
    /// Collects the parts that the agent works with.
    pub fn parts_with_tls<'a>(
        net: &'a Net<'d>,
        tls: &'a T,
        flash: EspFlash<'d>,
        board: EspBoard<'d>,
        link: L,
        health: H,
    ) -> Parts<'a, Self> {
        Parts { net, tls, clock: &EspClock, flash, board, link, health, rng: Rng::new() }
    }
}
