//! Keeps this server known to those that share its database, and its leases renewed.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use otaru_broker::client::BrokerUrl;

use super::error::StartError;
use crate::app::Shared;
use crate::cluster::leases::{self, Leased, Member, Moment, Renewal};
use crate::cluster::notices;
use crate::config::{ArtifactsConfig, MqttConfig};
use crate::data_dir::DataDir;
use crate::db::{Connection, DbError};
use crate::readiness::Bar;
use crate::reconcile::sweep;
use crate::told::Told;

/// Interval of renewing leases and of taking what is free.
const ROUND: Duration = Duration::from_secs(1);
/// Interval of looking whether another server is there, before this one is.
const LOOK: Duration = Duration::from_millis(300);
/// Longest outage of the database that a server waits for which is about to join: it was there a moment ago.
const OUTAGE: Duration = Duration::from_secs(30);
/// Difference from the database's clock from which a server says so, in milliseconds.
pub(super) const SKEW: u64 = 5_000;

/// Returns this server, as others see it; `None` where it has the database to itself.
pub(super) fn of(app: &Shared, http: SocketAddr) -> Option<Member> {
    let id = app.holdings.id()?.to_owned();
    let broker = match &app.config.mqtt {
        MqttConfig::Embedded { .. } => format!("its own, of {id}"),
        MqttConfig::External { url, .. } => {
            format!("{} with topics under {}", address(url), app.config.base)
        }
    };
    let firmware = match &app.config.artifacts {
        ArtifactsConfig::Own => format!("the data folder {} of {id}", absolute(&app.config.data)),
        ArtifactsConfig::Folder(folder) => absolute(folder),
        ArtifactsConfig::S3(bucket) => bucket.place.to_string(),
    };
    Some(Member {
        id,
        firmware,
        name: name(http),
        signer: app.keys.signer().map(|key| key.public().id().to_string()).unwrap_or_default(),
        broker,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: 0,
        seen_at: 0,
        clock_ahead: None,
        broker_away: None,
        shards: 0,
        tasks: Vec::new(),
    })
}

/// Returns where a broker is, in the same words however that was written.
fn address(url: &BrokerUrl) -> String {
    let host = url.host.trim_end_matches('.').to_ascii_lowercase();
    BrokerUrl::new(host, url.port).authority()
}

/// Returns the machine's name and the port of HTTP: the beginning of URLs may be that of what stands in front.
fn name(http: SocketAddr) -> String {
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{machine}:{}", http.port())
}

fn absolute(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // In the same words, whether or not there is a slash at its end.
    absolute.components().collect::<std::path::PathBuf>().display().to_string()
}

/// Its place among those that share the database, when it starts.
pub(super) struct Joined {
    /// Number of the last notice.
    pub(super) notice: i64,
    /// Whether no other is there, so that nobody has heard devices until now.
    pub(super) alone: bool,
}

/// When each of the others was last heard, as it was when this server first looked.
type FirstLook = HashMap<String, i64>;

/// Verdict about the others.
#[derive(Debug)]
enum Standing {
    /// Join them.
    Join,
    /// One of them is there, and is set up otherwise.
    Refuse(Box<Member>),
    /// Look again: whether they are there shows when one is heard, which is every second, or when the leases of the last have ended.
    Wait,
}

/// Says what there is to do about others that were there at the first look, or have come since.
fn standing(me: &Member, others: &[Member], first: Option<&FirstLook>) -> Standing {
    let is_heard = |other: &&Member| first.is_some_and(|first| first.get(&other.id) != Some(&other.seen_at));
    if let Some(other) = others.iter().find(|other| !me.fits(other) && is_heard(other)) {
        return Standing::Refuse(Box::new(other.clone()));
    }
    let fit = others.iter().all(|other| me.fits(other));
    match others.is_empty() || (fit && others.iter().any(|other| is_heard(&other))) {
        true => Standing::Join,
        false => Standing::Wait,
    }
}

/// Makes this server one of those that share the database, with its part of the leases. Where all were killed together it is known to be
/// alone once the leases of the others have ended.
///
/// # Errors
/// When it does not fit those that are there, and when the database fails.
pub(super) async fn join(app: &Shared, me: &Member, data: &DataDir) -> Result<Joined, StartError> {
    let before = data.last_server();
    data.note_server(&me.id)?;
    let (mut first, mut away) = (None, None);
    loop {
        let began = Instant::now();
        let attempt = match try_to_join(app, me, before.clone(), first.clone()).await {
            Err(error) if error.is_outage() && away.get_or_insert(began).elapsed() < OUTAGE => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            attempt => attempt?,
        };
        away = None;
        match attempt {
            Ok((renewal, joined)) => {
                app.holdings.renewed(&renewal.leases, began);
                return Ok(joined);
            }
            Err((Standing::Refuse(other), _)) => return Err(refusal(me, *other)),
            Err((_, others)) => {
                first.get_or_insert_with(|| {
                    let names: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
                    let names = names.join(", ");
                    tracing::info!(%names, "waiting to hear of these servers, or for the end of their leases; no request is answered meanwhile");
                    others.into_iter().map(|other| (other.id, other.seen_at)).collect()
                });
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

type Attempt = Result<(Renewal, Joined), (Standing, Vec<Member>)>;

/// Joins if that is what there is to do: looked at and done in one transaction, so that of two that start at once one sees the other.
async fn try_to_join(
    app: &Shared,
    me: &Member,
    before: Option<String>,
    first: Option<FirstLook>,
) -> Result<Attempt, DbError> {
    let (me, clock) = (me.clone(), app.clock.clone());
    let joining = app.db.write(move |tx| {
        let moment = leases::moment(tx, &clock)?;
        if let Some(before) = &before {
            // Whoever had this folder is gone: nobody need wait for the end of its leases.
            leases::leave(tx, before)?;
        }
        let others = leases::others(tx, &me.id, moment.now)?;
        match standing(&me, &others, first.as_ref()) {
            Standing::Join => {}
            wait_or_refuse => return Ok(Err((wait_or_refuse, others))),
        }
        leases::be_seen(tx, &me, moment, false)?;
        let renewal = leases::renew(tx, &me.id, moment.now)?;
        if others.is_empty() {
            sweep::begin(tx, &me.id)?;
        }
        Ok::<_, DbError>(Ok((renewal, Joined { notice: notices::last(tx)?, alone: others.is_empty() })))
    });
    joining.await
}

/// Returns why a server cannot be beside another.
fn refusal(me: &Member, other: Member) -> StartError {
    let Member { name, broker, signer, firmware, .. } = other;
    if broker != me.broker {
        StartError::OtherBroker { name, theirs: broker, ours: me.broker.clone() }
    } else if signer != me.signer {
        StartError::OtherKey { name }
    } else {
        StartError::OtherFirmware { name, theirs: firmware, ours: me.firmware.clone() }
    }
}

/// Renews leases until the server ends, then gives them back.
pub(super) async fn run(app: Shared, me: Member) {
    let (mut failing, mut refused, mut clock) = (false, Told::default(), Told::default());
    let mut deaf = Told::default();
    loop {
        tokio::select! {
            () = app.stop.cancelled() => break,
            () = app.readiness.left() => break,
            () = tokio::time::sleep(ROUND) => {}
        }
        let round = round(&app, &me).await;
        if app.stop.is_cancelled() || app.readiness.is_left() {
            break;
        }
        match round {
            Ok(Round::Renewed { new, taken, ahead, sweeps }) => {
                failing = false;
                app.readiness.bar(Bar::Membership, None);
                refused.is_over();
                match ahead.unsigned_abs() >= SKEW {
                    true if clock.is_due() => differs(ahead),
                    true => {}
                    false => clock.is_over(),
                }
                took(&app, &new, &taken);
                match app.holdings.are_none() && !app.hears_broker.load(Ordering::Relaxed) {
                    true if deaf.is_due() => tracing::warn!(
                        "this server has no connection to the broker, and others do: they have its devices until it is back"
                    ),
                    true => {}
                    false => deaf.is_over(),
                }
                if sweeps {
                    app.wake.sweep.notify_one();
                }
            }
            Ok(Round::Waits) => {
                app.holdings.gone();
                app.readiness.bar(Bar::Membership, None);
                refused.is_over();
                // It waits for the end of the sweep as one that starts does, and says what that one would.
                if *app.swept.borrow() {
                    app.wake.sweep.notify_one();
                }
            }
            Ok(Round::Refused(other)) => {
                app.holdings.gone();
                let why = refusal(&me, *other).to_string();
                if refused.is_due() {
                    tracing::error!(%why, "this server is none of those that share the database any more");
                }
                app.readiness.bar(Bar::Membership, Some(why));
            }
            Err(error) if !std::mem::replace(&mut failing, true) && !error.is_outage() => {
                tracing::warn!(%error, "leases are not renewed; if that goes on, other servers take this one's devices");
            }
            Err(_) => {}
        }
    }
    app.holdings.gone();
    let left = app.db.write(move |tx| leases::leave(tx, &me.id));
    if let Err(error) = left.await {
        tracing::warn!(%error, "other servers take over only when this one's leases end");
    }
}

fn differs(ahead: i64) {
    let seconds = ahead.unsigned_abs() / 1_000;
    let which = if ahead < 0 { "behind" } else { "ahead of" };
    tracing::warn!(
        "the clock of this server is {seconds} s {which} the database's: moments of rollouts, tokens and certificates come by the clock of \
         whichever server has them; set the clocks (NTP)"
    );
}

/// Outcome of a round.
enum Round {
    /// The leases last.
    Renewed {
        /// Leases that are new.
        new: Vec<Leased>,
        /// Leases that were taken, and from whom.
        taken: Vec<(Leased, Option<String>)>,
        /// Milliseconds that its clock is ahead.
        ahead: i64,
        /// Whether it hears devices, and there is a sweep to be made or waited for all the same: another began that.
        sweeps: bool,
    },
    /// It stood still, and another that found nobody sweeps the fleet: what this one would hear is undone until that is over.
    Waits,
    /// It stood still, and meanwhile another came that is set up otherwise.
    Refused(Box<Member>),
}

async fn round(app: &Shared, me: &Member) -> Result<Round, DbError> {
    let (began, me, clock) = (Instant::now(), me.clone(), app.clock.clone());
    let hears = *app.swept.borrow();
    let hears_broker = app.hears_broker.load(Ordering::Relaxed);
    let renewing = app.db.write(move |tx: &Connection| {
        let moment @ Moment { now, ahead } = leases::moment(tx, &clock)?;
        if !leases::is_there(tx, &me.id, now)?
            && let Some(outside) = stays_out(tx, &me, now)?
        {
            return Ok(Err(outside));
        }
        leases::be_seen(tx, &me, moment, hears_broker)?;
        let sweeps = hears && sweep::maker(tx)?.is_some();
        Ok::<_, DbError>(Ok((leases::renew(tx, &me.id, now)?, ahead, sweeps)))
    });
    match renewing.await? {
        Ok((Renewal { leases, taken }, ahead, sweeps)) => {
            Ok(Round::Renewed { new: app.holdings.renewed(&leases, began), taken, ahead, sweeps })
        }
        Err(outside) => Ok(outside),
    }
}

/// Returns why a server that was not heard for a while cannot go on at once, if so.
fn stays_out(tx: &Connection, me: &Member, now: i64) -> Result<Option<Round>, DbError> {
    let others = leases::others(tx, &me.id, now)?;
    let is_alone = others.is_empty();
    if let Some(other) = others.into_iter().find(|other| !me.fits(other)) {
        return Ok(Some(Round::Refused(Box::new(other))));
    }
    Ok((!is_alone && sweep::maker(tx)?.is_some()).then_some(Round::Waits))
}

/// Goes on with what another server did until now.
fn took(app: &Shared, new: &[Leased], taken: &[(Leased, Option<String>)]) {
    if new.is_empty() {
        return;
    }
    let shards = new.iter().filter(|what| matches!(what, Leased::Shard(_))).count();
    tracing::info!(shards, tasks = new.len() - shards, from = %whose(taken), "took over");
    app.wake.outbox.notify_one();
    app.wake.rollouts.notify_one();
    app.wake.jobs.notify_one();
    if shards > 0 {
        app.recent.forget_all();
        app.wake.shards.send_modify(|times| *times += 1);
    }
}

/// Returns who had what was taken, and how much of it.
fn whose(taken: &[(Leased, Option<String>)]) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for (_, from) in taken {
        *counts.entry(from.as_deref().unwrap_or("nobody")).or_default() += 1;
    }
    let words: Vec<String> = counts.into_iter().map(|(name, count)| format!("{name} ({count})")).collect();
    match words.is_empty() {
        // It stood still, and nobody was quicker.
        true => "itself".to_owned(),
        false => words.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Shard;

    fn member(id: &str, broker: &str, seen_at: i64) -> Member {
        Member {
            id: id.into(),
            name: format!("{id}:8080"),
            broker: broker.into(),
            firmware: String::new(),
            signer: String::new(),
            version: String::new(),
            started_at: 0,
            seen_at,
            clock_ahead: None,
            broker_away: None,
            shards: 0,
            tasks: Vec::new(),
        }
    }

    #[test]
    fn whether_others_are_there_shows_when_they_are_heard() {
        let me = member("me", "b", 0);
        assert!(matches!(standing(&me, &[], None), Standing::Join));
        let (alike, unlike) = (member("a", "b", 10), member("u", "other", 10));
        let first = FirstLook::from([("a".to_owned(), 10), ("u".to_owned(), 10)]);
        for others in [vec![alike.clone()], vec![unlike.clone()], vec![alike.clone(), unlike.clone()]] {
            assert!(matches!(standing(&me, &others, None), Standing::Wait), "not known yet");
            assert!(matches!(standing(&me, &others, Some(&first)), Standing::Wait), "not heard since");
        }
        let heard = |member: &Member| Member { seen_at: 11, ..member.clone() };
        assert!(matches!(standing(&me, &[heard(&alike)], Some(&first)), Standing::Join));
        assert!(matches!(standing(&me, &[heard(&unlike)], Some(&first)), Standing::Refuse(_)));
        assert!(matches!(standing(&me, &[heard(&alike), unlike.clone()], Some(&first)), Standing::Wait));
        // One that came after the first look is there.
        assert!(matches!(standing(&me, &[member("new", "other", 12)], Some(&first)), Standing::Refuse(_)));
    }

    #[test]
    fn a_broker_is_the_same_however_it_is_written() {
        let of = |text: &str| address(&text.parse().unwrap());
        for text in ["mqtt://broker.lan", "mqtt://BROKER.lan:1883/", "Broker.LAN", "mqtt://otaru@broker.lan"]
        {
            assert_eq!(of(text), "broker.lan:1883", "{text}");
        }
        assert_eq!(of("mqtts://broker.lan"), "broker.lan:8883");
        assert_eq!(of("mqtt://[FE80::1]"), "[fe80::1]:1883");
    }

    #[test]
    fn the_log_says_whose_it_was() {
        let shard = |n| Leased::Shard(Shard(n));
        let from = |name: &str| Some(name.to_owned());
        let taken = [(shard(1), from("ota-2:8080")), (shard(2), None), (shard(3), from("ota-2:8080"))];
        assert_eq!(whose(&taken), "nobody (1), ota-2:8080 (2)");
        assert_eq!(whose(&[]), "itself");
    }
}
