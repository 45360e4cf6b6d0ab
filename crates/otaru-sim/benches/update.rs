//! Time of an update against what link and flash allow, and against the usual way of writing one.
//!
//! Virtual time, so the figures are the same on every machine. The peer is the strategy of common updaters:
//! read 128 bytes, gather a sector, erase 4 KiB, program it, and meanwhile leave the network waiting.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::time::Duration;

use embedded_io_async::{Read as _, Write as _};
use embedded_nal_async::TcpConnect as _;
use embedded_storage_async::nor_flash::NorFlash as _;
use otaru_device::Clock as _;
use otaru_format::status::UpdateState;
use otaru_sim::clock::SimClock;
use otaru_sim::firmware::Behaviour;
use otaru_sim::flash::{BLOCK, Counts, FLASH_LEN, Flash, PAGE, SECTOR, Timing};
use otaru_sim::lab::{Lab, Setup, firmware, http, run};
use otaru_sim::lan::{HOST, Lan, Quality};

const SIZE: usize = 1 << 20;
const SLOT: u32 = 0x21_0000;
const LONG: Duration = Duration::from_secs(3600);

struct Figures {
    seconds: f64,
    counts: Counts,
}

fn quality(rate: u32, window: usize) -> Quality {
    Quality { rate, window, ..Quality::HOME }
}

/// The agent: from the command to the restart, everything verified.
fn agent(rate: u32, window: usize) -> Figures {
    run(async {
        let setup = Setup { quality: quality(rate, window), ..Setup::default() };
        let mut lab = Lab::new(setup, &firmware("1.0.0", SIZE, Behaviour::Healthy)).unwrap();
        lab.flash.provision(SLOT, &firmware("0.9.0", SIZE + 50_000, Behaviour::Healthy)).unwrap();
        lab.serve(&firmware("1.1.0", SIZE, Behaviour::Healthy));
        lab.power_on();
        lab.ready().await;
        let (start, before) = (lab.clock.now(), lab.flash.counts());
        lab.command();
        let end = lab.wait_for(LONG, |status| status.state == UpdateState::Restarting).await;
        assert!(end.is_some(), "the update failed: {:?}", lab.reports().last());
        let after = lab.flash.counts();
        Figures {
            seconds: (lab.clock.now() - start).as_secs_f64(),
            counts: Counts {
                reads: after.reads - before.reads,
                pages: after.pages - before.pages,
                sector_erases: after.sector_erases - before.sector_erases,
                block_erases: after.block_erases - before.block_erases,
            },
        }
    })
}

/// The usual way, without any verification.
fn sector_by_sector(rate: u32, window: usize) -> Figures {
    run(async {
        let clock = SimClock::new(1.0);
        let lan = Lan::new(clock.clone(), quality(rate, window), 1);
        let image = firmware("1.1.0", SIZE, Behaviour::Healthy);
        let server = http::Http::start(&lan, clock.clone(), None);
        server.handle(move |request| http::file(request, &image, "\"1\""));
        let contents = vec![0x55; FLASH_LEN as usize];
        let mut flash = Flash::from_bytes(contents, Timing::W25Q, clock.clone());
        let start = clock.now();
        let mut socket = lan.connect((HOST, http::PORT).into()).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut sector = Vec::new();
        let mut at = SLOT;
        let mut buf = [0; 128];
        while at < SLOT + SIZE as u32 {
            match socket.read(&mut buf).await.unwrap() {
                0 => break,
                count => sector.extend_from_slice(&buf[..count]),
            }
            // The response's few header bytes do not matter here.
            if sector.len() >= SECTOR as usize {
                flash.erase(at, at + SECTOR).await.unwrap();
                flash.write(at, &sector[..SECTOR as usize]).await.unwrap();
                sector.drain(..SECTOR as usize);
                at += SECTOR;
            }
        }
        Figures { seconds: (clock.now() - start).as_secs_f64(), counts: flash.counts() }
    })
}

/// Lower bound of the time: the slower of link and flash, each alone and without a pause.
fn bound(rate: u32) -> f64 {
    let timing = Timing::W25Q;
    let link = SIZE as f64 / f64::from(rate);
    let blocks = SIZE as u32 / BLOCK;
    let pages = SIZE as u32 / PAGE;
    let flash = (timing.block_erase * blocks + timing.page_program * pages).as_secs_f64();
    link.max(flash)
}

fn main() {
    println!(
        "1 MiB update, virtual time; bound = max(link, flash); window = TCP receive buffer; peer = 4 KiB erases, 128-byte reads\n"
    );
    println!(
        "{:>9} {:>7} {:>8} {:>8} {:>8} {:>9} {:>9} {:>7}  flash operations (erase 64K + 4K, pages, reads)",
        "link", "window", "bound s", "otaru s", "peer s", "x bound", "peer x", "speed-up"
    );
    let ways = [100_000, 200_000, 400_000, 1_000_000]
        .map(|rate| [(rate, 8 << 10), (rate, 16 << 10), (rate, 24 << 10)]);
    for (rate, window) in ways.into_iter().flatten() {
        let (ours, peer, bound) = (agent(rate, window), sector_by_sector(rate, window), bound(rate));
        let show = |c: Counts| format!("{}+{} {} {}", c.block_erases, c.sector_erases, c.pages, c.reads);
        println!(
            "{:>4} kB/s {:>3} KiB {bound:>8.2} {:>8.2} {:>8.2} {:>9.2} {:>9.2} {:>7.2}x  otaru {} | peer {}",
            rate / 1000,
            window >> 10,
            ours.seconds,
            peer.seconds,
            ours.seconds / bound,
            peer.seconds / bound,
            peer.seconds / ours.seconds,
            show(ours.counts),
            show(peer.counts),
        );
    }
    let ram = run(async {
        let lab = Lab::new(Setup::default(), &firmware("1.0.0", 4096, Behaviour::Healthy)).unwrap();
        lab.agent_size().await.unwrap()
    });
    println!(
        "\nRAM of the agent without the TCP stack, every buffer included: {ram} bytes here, where a pointer has {} \
         bytes; less on a chip",
        size_of::<usize>()
    );
}
