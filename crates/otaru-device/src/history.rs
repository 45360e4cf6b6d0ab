//! Rules for commands: tells a new one from copies of older ones, which brokers keep and deliver again.
//!
//! A broker keeps a retained command until somebody replaces it, and sends an unacknowledged one again after each restart.
//! [`History::judge`] is the rule, [`History::follow`] what changes when a command is begun.

use heapless::Vec;
use otaru_format::digest::Digest;

/// Replaced commands that are remembered.
pub(crate) const SUPERSEDED: usize = 4;

/// Identity of a command: the first 8 bytes of the SHA-256 of its bytes; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommandId(pub(crate) u64);

impl CommandId {
    /// The identity of the command with these bytes.
    pub(crate) fn of(payload: &[u8]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = Digest::of(payload).0;
        Self(u64::from_le_bytes([a, b, c, d, e, f, g, h]).max(1))
    }
}

/// The way a command came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Published while the device was listening, or kept for it while it was away.
    Live,
    /// A retained copy, sent because the device subscribed.
    Retained,
    /// Sent again, because the broker had no acknowledgement.
    Redelivered,
    /// Taken up again from the memory after a restart.
    Resumed,
}

impl Origin {
    /// Whether the broker sent it by itself rather than because somebody published it.
    pub(crate) const fn is_copy(self) -> bool {
        matches!(self, Self::Retained | Self::Redelivered)
    }
}

/// Why a command is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PassedOver {
    /// An offer with a higher order was followed.
    OlderOffer,
    /// A retained copy of a command that another has replaced.
    Superseded,
    /// A copy of a command that was given up for good.
    GivenUp,
    /// A copy of a command that was refused.
    Refused,
}

impl PassedOver {
    /// The line for people.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::OlderOffer => "Passed over: a newer offer was followed.",
            Self::Superseded => "Passed over: a retained command that a newer one has replaced.",
            Self::Refused => "Passed over: a copy of a command that was refused.",
            Self::GivenUp => "Passed over: a copy of a command that was given up. Publish it again to retry.",
        }
    }
}

/// Commands, the one noted last at the end.
pub(crate) type Notes = Vec<CommandId, SUPERSEDED>;

/// Commands that were followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// The highest `order` that was followed.
    pub(crate) order: u64,
    /// The command followed last.
    pub(crate) followed: Option<CommandId>,
    /// Whether the broker has a retained copy of that one, as far as was seen.
    pub(crate) followed_is_retained: bool,
    /// The command that was given up for good; only a fresh publication starts it again.
    pub(crate) given_up: Option<CommandId>,
    /// The command that was refused last. A copy of it is looked at again, but interrupts nothing.
    pub(crate) refused: Option<CommandId>,
    /// Commands that others have replaced.
    pub(crate) superseded: Vec<CommandId, SUPERSEDED>,
    /// Superseded commands of which a retained copy was seen. They stand apart, so that no number of others pushes them out.
    pub(crate) retained: Vec<CommandId, SUPERSEDED>,
}

impl History {
    /// An empty history.
    pub(crate) const fn new() -> Self {
        Self {
            order: 0,
            followed: None,
            followed_is_retained: false,
            given_up: None,
            refused: None,
            superseded: Vec::new(),
            retained: Vec::new(),
        }
    }

    /// Decides whether a command is to be followed.
    pub(crate) fn judge(
        &self,
        command: CommandId,
        origin: Origin,
        order: Option<u64>,
    ) -> Result<(), PassedOver> {
        if order.is_some_and(|order| order < self.order) {
            return Err(PassedOver::OlderOffer);
        }
        let superseded = self.superseded.contains(&command) || self.retained.contains(&command);
        match origin {
            Origin::Retained if superseded => Err(PassedOver::Superseded),
            origin if origin.is_copy() && self.given_up == Some(command) => Err(PassedOver::GivenUp),
            _ => Ok(()),
        }
    }

    /// Whether a command may end another, or take its place.
    pub(crate) fn interrupts(
        &self,
        command: CommandId,
        origin: Origin,
        order: Option<u64>,
    ) -> Result<(), PassedOver> {
        match origin.is_copy() && self.refused == Some(command) {
            true => Err(PassedOver::Refused),
            false => self.judge(command, origin, order),
        }
    }

    /// Notes that this command is followed now, and that it replaces the one before.
    pub(crate) fn follow(&mut self, command: CommandId, origin: Origin, order: Option<u64>) {
        let retained = origin == Origin::Retained;
        if self.followed == Some(command) {
            self.followed_is_retained |= retained;
        } else {
            if let Some(before) = self.followed {
                self.supersede(before, self.followed_is_retained);
            }
            self.followed_is_retained = retained;
        }
        self.superseded.retain(|known| *known != command);
        self.retained.retain(|known| *known != command);
        self.given_up = self.given_up.filter(|given_up| *given_up != command);
        self.followed = Some(command);
        self.order = self.order.max(order.unwrap_or(0));
    }

    /// Notes that retained copies of this command are to be passed over. `seen` says that there is one.
    pub(crate) fn supersede(&mut self, command: CommandId, seen: bool) {
        let seen = seen || self.retained.contains(&command);
        let notes = if seen { &mut self.retained } else { &mut self.superseded };
        notes.retain(|known| *known != command);
        // The one that was not needed for longest gives way.
        if notes.is_full() {
            notes.remove(0);
        }
        let _ = notes.push(command);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: CommandId = CommandId(1);
    const B: CommandId = CommandId(2);

    #[test]
    fn a_retained_copy_of_a_replaced_command_is_passed_over_until_it_is_published_again() {
        let mut history = History::new();
        history.follow(A, Origin::Live, None);
        assert_eq!(history.judge(A, Origin::Retained, None), Ok(()), "same URL, new file");
        history.follow(B, Origin::Live, None);
        assert_eq!(history.judge(A, Origin::Retained, None), Err(PassedOver::Superseded));
        assert_eq!(history.judge(A, Origin::Live, None), Ok(()));
        history.follow(A, Origin::Live, None);
        assert_eq!(history.judge(A, Origin::Retained, None), Ok(()));
        assert_eq!(history.judge(B, Origin::Retained, None), Err(PassedOver::Superseded));
    }

    #[test]
    fn a_copy_that_is_seen_again_and_again_is_not_forgotten() {
        let mut history = History::new();
        history.follow(A, Origin::Live, None);
        for number in 10..100 {
            history.follow(CommandId(number), Origin::Live, None);
            assert_eq!(history.judge(A, Origin::Retained, None), Err(PassedOver::Superseded), "{number}");
            history.supersede(A, true);
        }
    }

    #[test]
    fn no_number_of_other_commands_pushes_out_a_copy_that_was_seen() {
        for (first, later) in [(Origin::Retained, Origin::Live), (Origin::Live, Origin::Retained)] {
            let mut history = History::new();
            history.follow(A, first, None);
            history.follow(A, later, None);
            for number in 10..100 {
                history.follow(CommandId(number), Origin::Live, None);
            }
            assert_eq!(history.judge(A, Origin::Retained, None), Err(PassedOver::Superseded));
        }
    }

    #[test]
    fn copies_of_a_command_that_was_given_up_start_nothing() {
        let mut history = History { given_up: Some(A), ..History::new() };
        for origin in [Origin::Retained, Origin::Redelivered] {
            assert_eq!(history.judge(A, origin, None), Err(PassedOver::GivenUp));
            assert_eq!(history.judge(B, origin, None), Ok(()));
        }
        assert_eq!(history.judge(A, Origin::Live, None), Ok(()));
        history.follow(A, Origin::Live, None);
        assert_eq!(history.judge(A, Origin::Redelivered, None), Ok(()), "a new count has begun");
    }

    #[test]
    fn an_older_offer_is_passed_over_however_it_comes() {
        let mut history = History::new();
        history.follow(A, Origin::Live, Some(7));
        for origin in [Origin::Live, Origin::Retained, Origin::Redelivered] {
            assert_eq!(history.judge(B, origin, Some(6)), Err(PassedOver::OlderOffer));
            assert_eq!(history.judge(A, origin, Some(7)), Ok(()));
            assert_eq!(history.judge(B, origin, None), Ok(()), "a person's command has no order");
        }
        history.follow(B, Origin::Live, None);
        assert_eq!(history.order, 7);
    }
}
