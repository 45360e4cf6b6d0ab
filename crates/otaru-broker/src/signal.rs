//! A word from the router to the task of a connection: there is something to send, or it is over.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::reason::Reason;

/// Signal of one connection.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    waker: AtomicWaker,
    raised: AtomicBool,
    ending: OnceLock<Reason>,
}

impl Signal {
    /// Tells that there is something to send.
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Tells that the connection is over; the first reason counts.
    pub(crate) fn end(&self, reason: Reason) {
        let _ = self.ending.set(reason);
        self.raise();
    }

    /// Returns the reason, if it is over.
    pub(crate) fn ending(&self) -> Option<Reason> {
        self.ending.get().copied()
    }

    /// Waits until it is raised, and lowers it.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        self.waker.register(context.waker());
        match self.raised.swap(false, Ordering::AcqRel) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}
