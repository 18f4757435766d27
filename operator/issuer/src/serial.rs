//! Serial numbers of certificates that are signed here.

use crate::error::IssueError;

/// 16 random bytes, positive and not zero (RFC 5280, 4.1.2.2).
pub(crate) fn random() -> Result<[u8; 16], IssueError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| IssueError::Local {
        attempt: "draw a serial number",
        message: "the random number generator failed".to_owned(),
    })?;
    // A fixed leading bit pattern: never negative, never zero, never shorter than 16 bytes.
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    Ok(bytes)
}
