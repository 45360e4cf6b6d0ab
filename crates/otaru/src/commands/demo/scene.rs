//! The demo's stage: a server, files, boards, and an observer who sees only reports and boots.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use otaru_format::status::Status;
use otaru_sim::bootloader::BootloaderKind;
use otaru_sim::device::Event;
use otaru_sim::firmware::Behaviour;
use otaru_sim::flash::Flash;
use otaru_sim::tls::HostTls;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, interval, sleep_until};

use crate::fleet::changes::Teller;
use crate::fleet::table::{Mark, table};
use crate::fleet::{Change, Fleet};
use crate::hosting::FileHost as _;
use crate::hosting::files::HttpFiles;
use crate::hosting::served::Kinds;
use crate::output::Output;
use crate::ui;
use crate::ui::live::Live;
use crate::virtual_board::{Board, BoardSettings, Dump, dump_path, happened, provisioned};
use otaru_broker::client::{BrokerUrl, Incoming, Mqtt};

use super::firmware::{CHIP, Release, lamp};
use super::server::DemoServer;

/// The names of the boards that are there from the beginning.
pub(super) const NAMES: [&str; 3] = ["kitchen", "porch", "garage"];
/// The names of those that come later.
pub(super) const MORE: [&str; 5] = ["attic", "cellar", "hall", "shed", "stairs"];
/// A board that is plugged in.
struct Plugged {
    flash: Flash,
    power: Rc<Notify>,
    life: JoinHandle<()>,
}

/// Everything that is on stage.
pub(super) struct Scene {
    pub(super) output: Output,
    pub(super) fleet: Fleet,
    /// Events of the bootloaders, in order.
    pub(super) boots: Vec<(String, Event)>,
    pub(super) base: String,
    pub(super) server: DemoServer,
    files: HttpFiles,
    mqtt: Mqtt,
    boards: Vec<(String, Plugged)>,
    bench: Rc<BoardSettings>,
    sender: mpsc::UnboundedSender<(String, Event)>,
    events: mpsc::UnboundedReceiver<(String, Event)>,
    live: Option<Live>,
    teller: Teller,
    /// The dumps' folder, removed at the end.
    dir: TempDir,
}

impl Scene {
    /// Sets everything up and powers three boards on. Needs a `LocalSet` around it.
    pub(super) async fn open(
        broker: Option<BrokerUrl>,
        base: &str,
        speed: f64,
        output: Output,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("otaru-demo-")
            .tempdir()
            .context("cannot make a temporary folder for the flash dumps")?;
        let served = dir.path().join("www");
        std::fs::create_dir(&served).context("cannot make a folder for the firmware")?;
        let quiet = Arc::new(|_| {});
        let files = HttpFiles::start((std::net::Ipv4Addr::LOCALHOST, 0).into(), &served, Kinds::All, quiet)
            .await
            .context("cannot start the file server on 127.0.0.1")?;
        let server = DemoServer::open(dir.path(), broker, base).await?;
        let mqtt = Mqtt::connect(server.broker(), "demo").await?;
        let fleet = Fleet::new(base);
        for filter in fleet.filters() {
            mqtt.subscribe(&filter).await?;
        }
        let bench = Rc::new(BoardSettings {
            broker: server.broker().clone(),
            base: base.to_owned(),
            bootloader: BootloaderKind::Plain,
            speed,
            keys: vec![server.key()],
            allow_unsigned: true,
            facts: otaru_sim::device::ChipFacts::default(),
            product: None,
            hosts: Vec::new(),
            source: None,
            tls: HostTls::default(),
        });
        let (sender, events) = mpsc::unbounded_channel();
        let firmware = lamp("1.0.0", Behaviour::Healthy);
        let mut boards = Vec::new();
        for name in NAMES {
            let (board, _) = Board::open(&bench, dir.path(), name, CHIP, Some(&firmware))?;
            let (flash, power) = (board.flash.clone(), Rc::new(Notify::new()));
            let life = spawn_local(life(board, Rc::clone(&bench), Rc::clone(&power), sender.clone()));
            let plugged = Plugged { flash, power, life };
            boards.push((name.to_owned(), plugged));
        }
        server.upload(&Release::new("1.0.0", firmware, String::new())).await?;
        Ok(Self {
            output,
            fleet,
            boots: Vec::new(),
            base: base.to_owned(),
            server,
            files,
            mqtt,
            boards,
            bench,
            sender,
            events,
            live: Live::new(output),
            teller: Teller::states_only(output),
            dir,
        })
    }

    /// The broker's address.
    pub(super) fn broker(&self) -> &otaru_broker::client::BrokerUrl {
        self.server.broker()
    }

    /// Plugs more boards in, which run this firmware.
    pub(super) fn plug_in_more(&mut self, firmware: &[u8]) -> anyhow::Result<()> {
        let contents = provisioned(firmware)?;
        for name in MORE {
            let board = Board::in_memory(&self.bench, name, CHIP, Rc::clone(&contents));
            let (flash, power) = (board.flash.clone(), Rc::new(Notify::new()));
            let life =
                spawn_local(life(board, Rc::clone(&self.bench), Rc::clone(&power), self.sender.clone()));
            self.boards.push((name.to_owned(), Plugged { flash, power, life }));
        }
        Ok(())
    }

    /// URL of the folder that is served.
    pub(super) fn files(&self) -> String {
        format!("http://{}/", self.files.address())
    }

    /// The folder of the flash dumps.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The path of a release's file.
    pub(super) fn path_of(&self, release: &Release) -> PathBuf {
        self.dir.path().join("www").join(format!("lamp-{}.bin", release.version))
    }

    /// Puts a firmware on the server.
    pub(super) fn release(&self, version: &'static str, behaviour: Behaviour) -> anyhow::Result<Release> {
        let bytes = lamp(version, behaviour);
        let url =
            self.files.put(&format!("lamp-{version}.bin"), &bytes).context("cannot write the firmware")?;
        Ok(Release::new(version, bytes, url))
    }

    /// Publishes a command.
    pub(super) async fn publish(&self, topic: &str, payload: &str) -> anyhow::Result<()> {
        Ok(self.mqtt.publish(topic, payload, false).await?)
    }

    /// A board's last report.
    pub(super) fn status(&self, name: &str) -> Option<&Status<String>> {
        self.fleet.status(name)
    }

    /// A board's flash dump, as it is now.
    pub(super) fn dump(&self, name: &str) -> anyhow::Result<Dump> {
        Dump::read(&dump_path(self.dir.path(), name))
    }

    /// A board's flash chip.
    pub(super) fn flash(&self, name: &str) -> Option<&Flash> {
        self.boards.iter().find(|(board, _)| board == name).map(|(_, board)| &board.flash)
    }

    /// Gives a board its power back.
    pub(super) fn power_on(&self, name: &str) {
        if let Some((_, board)) = self.boards.iter().find(|(board, _)| board == name) {
            board.flash.restore_power();
            board.power.notify_one();
        }
    }

    /// Lets things happen until `done` holds; says whether it did within `limit`.
    pub(super) async fn until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut tick = interval(Duration::from_millis(80));
        loop {
            if done(self) {
                self.draw();
                return true;
            }
            tokio::select! {
                () = sleep_until(deadline) => return false,
                _ = tick.tick() => self.draw(),
                incoming = self.mqtt.next() => self.take(incoming),
                Some((name, event)) = self.events.recv() => self.happened(name, event),
            }
        }
    }

    /// Time to read, where somebody may be reading.
    pub(super) async fn pause(&mut self, seconds: f64) {
        if self.live.is_some() {
            self.until(Duration::from_secs_f64(seconds), |_| false).await;
        }
    }

    fn take(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Message(message) => {
                let change = self.fleet.take(&message.topic, &message.payload);
                if let (None, Some(change @ (Change::Report(_) | Change::Unreadable(..)))) =
                    (&self.live, change)
                {
                    self.teller.tell(&self.fleet, &change);
                }
            }
            Incoming::Lost(why) => self.say(&format!("broker lost: {}; trying again", ui::clean(&why))),
            Incoming::Back | Incoming::Missed(_) => {}
        }
    }

    fn happened(&mut self, name: String, event: Event) {
        if self.output.json {
            ui::event(json!({"event": "board", "device": name, "what": happened(&event)}));
        } else {
            let text = format!("   {name:<9} {}", happened(&event));
            let text = match event {
                Event::Booted { .. } => console::style(text).dim().to_string(),
                Event::NothingBootable | Event::PowerLost => console::style(text).red().to_string(),
            };
            self.say(&text);
        }
        self.boots.push((name, event));
    }

    /// Says something; not in JSON.
    pub(super) fn say(&mut self, text: &str) {
        match &mut self.live {
            Some(live) => live.print(text),
            None if self.output.json => {}
            None => ui::line(text),
        }
    }

    fn draw(&mut self) {
        let Some(live) = self.live.as_mut().filter(|live| live.due()) else { return };
        let columns = live.size().0 - 4;
        let rows = self.fleet.iter().map(|(name, device)| (name, device, Mark::of(device)));
        let mut lines = vec![String::new()];
        lines.extend(table(rows, columns).iter().map(|line| format!("   {line}")));
        live.draw(&lines);
    }

    /// Unplugs the boards, stops the server, and takes back what they left at a broker that lives on.
    pub(super) async fn close(self, broker_lives_on: bool) {
        for (_, board) in &self.boards {
            board.life.abort();
        }
        if broker_lives_on {
            self.take_back().await;
        }
        self.mqtt.disconnect().await;
        self.server.close().await;
        // Work that had begun may still write there for a moment.
        let folder = self.dir.keep();
        for _ in 0..50 {
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                _ => return,
            }
        }
        ui::warn(&format!("the folder {} could not be removed", folder.display()));
    }

    async fn take_back(&self) {
        // The broker publishes their last wills first.
        tokio::time::sleep(Duration::from_millis(300)).await;
        for (name, _) in &self.boards {
            for leaf in ["status", "online"] {
                let cleared = self.mqtt.publish(&format!("{}/{name}/{leaf}", self.base), "", true).await;
                if let Err(error) = cleared {
                    log::warn!("{error}");
                }
            }
        }
    }

    /// Draws the last picture and leaves it standing.
    pub(super) fn keep(&mut self) {
        if let Some(live) = &mut self.live {
            live.hurry();
        }
        self.draw();
        if let Some(live) = &mut self.live {
            live.keep();
        }
    }
}

/// A board's life: it runs until the power fails, and again when it is back.
async fn life(
    board: Board,
    bench: Rc<BoardSettings>,
    power: Rc<Notify>,
    events: mpsc::UnboundedSender<(String, Event)>,
) {
    loop {
        let name = board.name.clone();
        // Nobody listens any more when the demo is over.
        let last = board.live(&bench, |event| drop(events.send((name.clone(), event)))).await;
        if last != Event::PowerLost {
            return;
        }
        power.notified().await;
    }
}
