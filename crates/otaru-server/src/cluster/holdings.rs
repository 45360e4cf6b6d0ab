//! Leases that this server holds just now, and the fence before each write on their strength.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::leases::{self, Lease, Leased, Task};
use super::shard::Shard;
use crate::db::{Connection, DbError};

/// Time before the end of a lease from which it is not relied on any more: a transaction that has begun may go on for so long.
const MARGIN: Duration = Duration::from_secs(1);

/// Leases of this server. One that has the database to itself holds everything, for good.
#[derive(Debug)]
pub struct Holdings(Option<Membership>);

#[derive(Debug)]
struct Membership {
    id: String,
    held: RwLock<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// Until when; `None` before the first renewal.
    until: Option<Instant>,
    numbers: HashMap<Leased, i64>,
}

impl Holdings {
    /// Holds everything, for good: the only server of its database.
    pub fn everything() -> Self {
        Self(None)
    }

    /// Holds nothing yet, as the server with this id among others.
    pub fn member(id: String) -> Self {
        Self(Some(Membership { id, held: RwLock::default() }))
    }

    /// Returns the server's id, if it is one among others.
    pub fn id(&self) -> Option<&str> {
        self.0.as_ref().map(|member| &*member.id)
    }

    /// Whether its leases last: what it knows of them is true.
    pub fn are_good(&self) -> bool {
        let Some(member) = &self.0 else { return true };
        member.held.read().unwrap_or_else(PoisonError::into_inner).is_good()
    }

    /// Whether this server does a task.
    pub fn has_task(&self, task: Task) -> bool {
        self.claim(Leased::Task(task)).is_some()
    }

    /// Whether a device is this server's.
    pub fn has_device(&self, device: &str) -> bool {
        self.claim_device(device).is_some()
    }

    /// Returns the shards that it holds; `None` for all.
    pub fn shards(&self) -> Option<Vec<Shard>> {
        let member = self.0.as_ref()?;
        let held = member.held.read().unwrap_or_else(PoisonError::into_inner);
        if !held.is_good() {
            return Some(Vec::new());
        }
        Some(
            held.numbers
                .keys()
                .filter_map(|what| match what {
                    Leased::Shard(shard) => Some(*shard),
                    Leased::Task(_) => None,
                })
                .collect(),
        )
    }

    /// Whether its leases last, and are none: others do all there is to do.
    pub fn are_none(&self) -> bool {
        let Some(member) = &self.0 else { return false };
        let held = member.held.read().unwrap_or_else(PoisonError::into_inner);
        held.is_good() && held.numbers.is_empty()
    }

    /// Returns the right to write for a device, if this server has it.
    pub fn claim_device(&self, device: &str) -> Option<Claim> {
        self.claim(Leased::Shard(Shard::of(device)))
    }

    /// Returns the right to write on the strength of a lease, if this server holds it.
    pub fn claim(&self, what: Leased) -> Option<Claim> {
        let Some(member) = &self.0 else { return Some(Claim(None)) };
        let held = member.held.read().unwrap_or_else(PoisonError::into_inner);
        let number = *held.numbers.get(&what).filter(|_| held.is_good())?;
        Some(Claim(Some((member.id.clone(), Lease { what, number }))))
    }

    /// Notes what was renewed, by a transaction that began at this moment. Returns what is new.
    pub fn renewed(&self, leases: &[Lease], began: Instant) -> Vec<Leased> {
        let Some(member) = &self.0 else { return Vec::new() };
        let numbers: HashMap<Leased, i64> = leases.iter().map(|lease| (lease.what, lease.number)).collect();
        let mut held = member.held.write().unwrap_or_else(PoisonError::into_inner);
        let good = held.is_good();
        let is_new = |lease: &&Lease| !good || held.numbers.get(&lease.what) != Some(&lease.number);
        let new = leases.iter().filter(is_new).map(|lease| lease.what).collect();
        let term = Duration::from_millis(leases::TERM.unsigned_abs());
        *held = Held { until: Some(began + term - MARGIN), numbers };
        new
    }

    /// Holds nothing any more.
    pub fn gone(&self) {
        if let Some(member) = &self.0 {
            *member.held.write().unwrap_or_else(PoisonError::into_inner) = Held::default();
        }
    }
}

impl Held {
    fn is_good(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }
}

/// The right to write on the strength of a lease, to be looked at within the transaction that writes.
#[derive(Debug, Clone)]
pub struct Claim(Option<(String, Lease)>);

impl Claim {
    /// Returns the right of who needs no lease: what it writes is right whichever server does.
    pub const fn of_anybody() -> Self {
        Self(None)
    }

    /// Fails unless the lease is held still.
    ///
    /// # Errors
    /// [`DbError::NotHeld`] when another server has it.
    pub fn check(&self, tx: &Connection) -> Result<(), DbError> {
        if self.holds(tx)? { Ok(()) } else { Err(DbError::NotHeld) }
    }

    /// Whether the lease is held still: until the transaction ends, nobody takes it.
    pub fn holds(&self, tx: &Connection) -> Result<bool, DbError> {
        match &self.0 {
            None => Ok(true),
            Some((me, lease)) => leases::is_held(tx, me, *lease),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_relied_on_while_it_lasts() {
        let holdings = Holdings::member("a".into());
        assert!(!holdings.has_device("lamp"));
        let lease = Lease { what: Leased::Shard(Shard::of("lamp")), number: 3 };
        assert_eq!(holdings.renewed(&[lease], Instant::now()), [lease.what]);
        assert!(holdings.has_device("lamp") && !holdings.has_task(Task::Jobs));
        assert_eq!(holdings.renewed(&[lease], Instant::now()), [], "nothing new");
        let long_ago = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        holdings.renewed(&[lease], long_ago);
        assert!(!holdings.has_device("lamp"), "a server that stood still holds nothing");
        assert_eq!(holdings.renewed(&[lease], Instant::now()), [lease.what], "and asks anew");
        holdings.gone();
        assert!(!holdings.has_device("lamp"));
    }

    #[test]
    fn the_only_server_holds_everything() {
        let holdings = Holdings::everything();
        assert!(holdings.has_device("lamp") && holdings.has_task(Task::Jobs) && holdings.shards().is_none());
    }
}
