//! The agent's TLS: one for a firmware, sessions of which begin here.
#![forbid(unsafe_code)]

use core::cell::Cell;
use core::ffi::CStr;
use core::fmt;

use critical_section::Mutex;
use embedded_io_async::{Read, Write};
use mbedtls_rs::{AuthMode, ClientSessionConfig, SessionConfig, SessionError};
use otaru_device::TlsError;
use otaru_device::format::status::{Dates, TlsReport};
use rand_core::CryptoRng;

use crate::clock::{CHECKS_DATES, WallClock};
use crate::reason;
use crate::records::Watched;
use crate::session::Session;
use crate::trust::Trust;

/// Bytes of a name with the zero at its end; longer ones there are not (RFC 1035, 2.3.4).
const NAME: usize = 256;

/// Steps of EC arithmetic before other tasks have their turn; Mbed TLS's own words on it are that 500 to 1000 are sensible. TLS 1.2 only:
/// 1.3 cannot stop in the middle.
#[cfg(feature = "dated")]
const SLICE: u32 = 500;

/// Whether there is a [`MbedTls`]: Mbed TLS has one source of random numbers and one clock.
static TAKEN: Mutex<Cell<bool>> = Mutex::new(Cell::new(false));

/// TLS by Mbed TLS.
pub struct MbedTls {
    /// Sessions borrow it.
    library: mbedtls_rs::Tls<'static>,
    trust: Option<Trust>,
    clock: &'static WallClock,
    free: fn() -> usize,
    needs: usize,
    /// Given back last.
    _taken: Taken,
}

/// Note that there is a [`MbedTls`].
struct Taken;

impl Taken {
    fn take() -> Option<Self> {
        let taken = critical_section::with(|section| TAKEN.borrow(section).replace(true));
        (!taken).then_some(Self)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        critical_section::with(|section| TAKEN.borrow(section).set(false));
    }
}

/// Reason that there is no TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetupError {
    /// There is one already.
    AlreadyThere,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is a TLS already, and one is all that there can be")
    }
}

impl core::error::Error for SetupError {}

impl fmt::Debug for MbedTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MbedTls").field("trust", &self.trust).finish_non_exhaustive()
    }
}

impl MbedTls {
    /// Returns TLS that trusts so. Without anybody to trust there are no sessions.
    ///
    /// # Errors
    /// Returns an error while there is another one.
    pub fn new(
        trust: Option<Trust>,
        clock: &'static WallClock,
        random: &'static mut (dyn CryptoRng + Send),
    ) -> Result<Self, SetupError> {
        let taken = Taken::take().ok_or(SetupError::AlreadyThere)?;
        #[cfg(feature = "dated")]
        {
            crate::hook::install(clock);
            mbedtls_rs::ecp::set_restartable_max_ops(SLICE);
        }
        match mbedtls_rs::Tls::new(random) {
            Ok(library) => Ok(Self { library, trust, clock, free: || usize::MAX, needs: 0, _taken: taken }),
            Err(mbedtls_rs::TlsError::AlreadyCreated) => Err(SetupError::AlreadyThere),
        }
    }

    /// Begins no session unless this many bytes of heap are free, which `free` tells. So a session never takes the memory that others run
    /// with, and a download waits for it with a reason.
    #[must_use]
    pub fn with_reserve(mut self, needs: usize, free: fn() -> usize) -> Self {
        (self.needs, self.free) = (needs, free);
        self
    }
}

/// Words for the library on whom to trust, and how.
fn config(trust: &Trust, time_is_known: bool) -> ClientSessionConfig<'static> {
    ClientSessionConfig {
        ca_chain: Some(trust.cas()),
        creds: trust.identity(),
        // Without the time, what is not valid yet is let through, and everything else is looked at afterwards.
        auth_mode: if time_is_known { AuthMode::Required } else { AuthMode::Optional },
        ..ClientSessionConfig::new()
    }
}

impl otaru_device::Tls for MbedTls {
    type Stream<'t, S: Read + Write + 't> = Session<'t, S>;

    fn is_ready(&self) -> bool {
        self.trust.is_some()
    }

    fn report(&self) -> TlsReport<&str> {
        let trusts = self.trust.as_ref().map_or("", |trust| trust.names().as_str());
        let dates = match (CHECKS_DATES, self.clock.is_known()) {
            (false, _) => Dates::Unchecked,
            (true, false) => Dates::ClockUnknown,
            (true, true) => Dates::Checked,
        };
        TlsReport { trusts, dates }
    }

    async fn open<'t, S: Read + Write + 't>(
        &'t self,
        stream: S,
        server: &str,
    ) -> Result<Session<'t, S>, TlsError> {
        let trust = self.trust.as_ref().ok_or(TlsError::NOT_THERE)?;
        let mut name = [0; NAME];
        let name = c_name(server, &mut name).ok_or(TlsError::WRONG_HOST)?;
        if (self.free)() < self.needs {
            return Err(TlsError::OUT_OF_MEMORY);
        }
        // A clock that is set meanwhile does not change what this handshake was told.
        let time_is_known = self.clock.is_known();
        let config = SessionConfig::Client(config(trust, time_is_known));
        let session = mbedtls_rs::Session::new(self.library.reference(), Watched::new(stream), &config);
        let mut session = session.map_err(reason::setup)?;
        // Its config holds the CAs, too.
        drop(config);
        session.set_server_name(name).map_err(reason::setup)?;
        let opened = session.connect().await;
        let flags = reason::that_count(session.tls_verification_details(), time_is_known);
        if let Err(error) = opened {
            if let SessionError::Io(_) = error {
                session.stream().look_at_rest().await;
            }
            return Err(reason::handshake(error, session.stream().records(), flags));
        }
        match reason::untrusted(flags) {
            Some(error) => Err(error),
            None => Ok(Session::new(session)),
        }
    }
}

/// The name as C has it; `None` where it is too long or has a zero.
fn c_name<'b>(name: &str, buffer: &'b mut [u8; NAME]) -> Option<&'b CStr> {
    let place = buffer.get_mut(..name.len()).filter(|_| !name.is_empty())?;
    place.copy_from_slice(name.as_bytes());
    CStr::from_bytes_until_nul(buffer).ok().filter(|c| c.count_bytes() == name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_whole_or_not_at_all() {
        let mut buffer = [0; NAME];
        assert_eq!(c_name("files.example", &mut buffer), Some(c"files.example"));
        for bad in ["", "a\0b", &"a".repeat(NAME)] {
            assert_eq!(c_name(bad, &mut [0; NAME]), None, "{bad:?}");
        }
        assert!(c_name(&"a".repeat(NAME - 1), &mut [0; NAME]).is_some());
    }
}
