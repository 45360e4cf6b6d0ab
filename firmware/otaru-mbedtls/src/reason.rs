//! From Mbed TLS's numbers, and from the records that went by, to the failure that the agent tells.
#![forbid(unsafe_code)]

use mbedtls_rs::SessionError;
use mbedtls_rs::sys::*;
use otaru_device::TlsError;

use crate::records::{LARGEST_RECORD, Records};

/// Bytes by which a record is longer than what it carries, at the most (TLS 1.2 with AES-GCM).
const RECORD_OVERHEAD: usize = 24;

/// Bytes of a record behind its head, at the most (RFC 5246, 6.2.3).
const LARGEST_OF_TLS: usize = 16_384 + 2_048;

/// Numbers of Mbed TLS that a lower layer's number is added to, and the lower layer's.
const HIGH: i32 = 0xFF80;
const LOW: i32 = 0x7F;

/// Reason of a handshake that failed; `flags` is what verifying found, as far as it counts.
pub(crate) fn handshake(error: SessionError, records: Records, flags: u32) -> TlsError {
    if records.is_strange() {
        return TlsError::NOT_TLS;
    }
    let error = match error {
        // Whoever was going to say more is told that nobody listens; what was said before that counts.
        SessionError::Io(_) => return records.alert().map_or(TlsError::CLOSED, alert),
        SessionError::MbedTls(error) => error.code(),
    };
    match error {
        _ if is_memory(error) => TlsError::OUT_OF_MEMORY,
        MBEDTLS_ERR_X509_CERT_VERIFY_FAILED | MBEDTLS_ERR_SSL_BAD_CERTIFICATE => {
            untrusted(flags).unwrap_or(TlsError::BAD_CERTIFICATE)
        }
        _ if is_too_large(error, records) => TlsError::RECORD_TOO_LARGE,
        // A server of 1.3 that finds no certificate for what the device knows says so in secret.
        MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE => records.alert().map_or(TlsError::NOTHING_IN_COMMON, alert),
        // The server has shown a certificate, and signs with another key (1.3, and 1.2).
        MBEDTLS_ERR_SSL_HANDSHAKE_FAILURE if flags != NOT_VERIFIED => TlsError::BAD_CERTIFICATE,
        MBEDTLS_ERR_ECP_VERIFY_FAILED | MBEDTLS_ERR_RSA_VERIFY_FAILED => TlsError::BAD_CERTIFICATE,
        MBEDTLS_ERR_SSL_HANDSHAKE_FAILURE | MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION => {
            TlsError::NOTHING_IN_COMMON
        }
        MBEDTLS_ERR_SSL_CONN_EOF | MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY => TlsError::CLOSED,
        // A key or signature of a kind that is not compiled in.
        MBEDTLS_ERR_X509_UNKNOWN_SIG_ALG | MBEDTLS_ERR_PK_UNKNOWN_PK_ALG => TlsError::NOTHING_IN_COMMON,
        _ if is_of_certificate(error) => TlsError::BAD_CERTIFICATE,
        // Without the time, a handshake goes on behind a bad certificate.
        _ if flags != NOT_VERIFIED => untrusted(flags).unwrap_or(TlsError::PROTOCOL),
        _ => TlsError::PROTOCOL,
    }
}

/// Reason that a session ended.
pub(crate) fn session(error: SessionError, records: Records) -> TlsError {
    match error {
        SessionError::Io(_) => TlsError::BROKEN,
        SessionError::MbedTls(error) if is_memory(error.code()) => TlsError::OUT_OF_MEMORY,
        SessionError::MbedTls(error) if is_too_large(error.code(), records) => TlsError::RECORD_TOO_LARGE,
        // TLS 1.3 refuses a client's certificate after the handshake, in secret.
        SessionError::MbedTls(error) if error.code() == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE => {
            TlsError::CLIENT_REFUSED
        }
        SessionError::MbedTls(_) => TlsError::PROTOCOL,
    }
}

/// Reason that a session could not be set up.
pub(crate) fn setup(error: SessionError) -> TlsError {
    match error {
        SessionError::MbedTls(error) if is_memory(error.code()) => TlsError::OUT_OF_MEMORY,
        _ => TlsError::PROTOCOL,
    }
}

/// Failure that these flags of a verification stand for, if any.
pub(crate) fn untrusted(flags: u32) -> Option<TlsError> {
    const EXPIRED: u32 = MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCRL_EXPIRED;
    const FUTURE: u32 = MBEDTLS_X509_BADCERT_FUTURE | MBEDTLS_X509_BADCRL_FUTURE;
    const WEAK: u32 =
        MBEDTLS_X509_BADCERT_BAD_MD | MBEDTLS_X509_BADCERT_BAD_PK | MBEDTLS_X509_BADCERT_BAD_KEY;
    const OTHERS: u32 = !(EXPIRED | FUTURE | MBEDTLS_X509_BADCERT_CN_MISMATCH);
    match flags {
        0 => None,
        // A signature that is too weak is not looked at, so that nobody seems to have made it.
        _ if flags != NOT_VERIFIED && flags & WEAK != 0 => Some(TlsError::BAD_CERTIFICATE),
        _ if flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED != 0 => Some(TlsError::UNKNOWN_CA),
        _ if flags & OTHERS != 0 => Some(TlsError::BAD_CERTIFICATE),
        _ if flags & MBEDTLS_X509_BADCERT_CN_MISMATCH != 0 => Some(TlsError::WRONG_HOST),
        _ if flags & EXPIRED != 0 => Some(TlsError::EXPIRED),
        _ => Some(TlsError::NOT_YET_VALID),
    }
}

/// Flags before anything was verified.
const NOT_VERIFIED: u32 = u32::MAX;

/// Flags of a verification that are a failure: without the time, what is not valid yet is none.
pub(crate) fn that_count(flags: u32, time_is_known: bool) -> u32 {
    const UNCERTAIN: u32 = MBEDTLS_X509_BADCERT_FUTURE | MBEDTLS_X509_BADCRL_FUTURE;
    if time_is_known || flags == NOT_VERIFIED { flags } else { flags & !UNCERTAIN }
}

/// Whether memory was short.
pub(crate) fn is_memory(error: i32) -> bool {
    let (high, low) = (-(-error & HIGH), -(-error & LOW));
    matches!(
        high,
        MBEDTLS_ERR_SSL_ALLOC_FAILED
            | MBEDTLS_ERR_X509_ALLOC_FAILED
            | MBEDTLS_ERR_PK_ALLOC_FAILED
            | MBEDTLS_ERR_ECP_ALLOC_FAILED
            | MBEDTLS_ERR_MD_ALLOC_FAILED
            | MBEDTLS_ERR_CIPHER_ALLOC_FAILED
            | MBEDTLS_ERR_PEM_ALLOC_FAILED
    ) || matches!(low, MBEDTLS_ERR_MPI_ALLOC_FAILED | MBEDTLS_ERR_ASN1_ALLOC_FAILED)
}

/// Whether it is for the length of a record, or of a message in several, that there is no room for it.
fn is_too_large(error: i32, records: Records) -> bool {
    let largest = records.largest();
    match error {
        // Nobody has to have room for that.
        _ if largest > LARGEST_OF_TLS => false,
        MBEDTLS_ERR_SSL_BUFFER_TOO_SMALL => true,
        // More was to be fetched than fits; a hello may be bad input, too.
        MBEDTLS_ERR_SSL_BAD_INPUT_DATA => records.announced() > LARGEST_RECORD,
        MBEDTLS_ERR_SSL_INVALID_RECORD => largest > LARGEST_RECORD + RECORD_OVERHEAD,
        _ => false,
    }
}

/// Whether it is a number of X.509.
fn is_of_certificate(error: i32) -> bool {
    (0x2080..=0x3000).contains(&(-error & HIGH))
}

/// Failure that an alert in clear tells (RFC 8446, 6.2).
fn alert(number: u8) -> TlsError {
    match u32::from(number) {
        MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE
        | MBEDTLS_SSL_ALERT_MSG_PROTOCOL_VERSION
        | MBEDTLS_SSL_ALERT_MSG_INSUFFICIENT_SECURITY
        | MBEDTLS_SSL_ALERT_MSG_NO_APPLICATION_PROTOCOL => TlsError::NOTHING_IN_COMMON,
        MBEDTLS_SSL_ALERT_MSG_BAD_CERT
        | MBEDTLS_SSL_ALERT_MSG_UNSUPPORTED_CERT
        | MBEDTLS_SSL_ALERT_MSG_CERT_REVOKED
        | MBEDTLS_SSL_ALERT_MSG_CERT_EXPIRED
        | MBEDTLS_SSL_ALERT_MSG_CERT_UNKNOWN
        | MBEDTLS_SSL_ALERT_MSG_UNKNOWN_CA
        | MBEDTLS_SSL_ALERT_MSG_ACCESS_DENIED
        | MBEDTLS_SSL_ALERT_MSG_CERT_REQUIRED => TlsError::CLIENT_REFUSED,
        MBEDTLS_SSL_ALERT_MSG_UNRECOGNIZED_NAME => TlsError::WRONG_HOST,
        _ => TlsError::CLOSED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_also_where_two_layers_numbers_were_added() {
        for error in [
            MBEDTLS_ERR_SSL_ALLOC_FAILED,
            MBEDTLS_ERR_MPI_ALLOC_FAILED,
            MBEDTLS_ERR_PK_KEY_INVALID_FORMAT + MBEDTLS_ERR_MPI_ALLOC_FAILED,
            MBEDTLS_ERR_X509_INVALID_FORMAT + MBEDTLS_ERR_ASN1_ALLOC_FAILED,
        ] {
            assert!(is_memory(error), "{error}");
        }
        for error in [0, MBEDTLS_ERR_SSL_INVALID_RECORD, MBEDTLS_ERR_X509_CERT_VERIFY_FAILED] {
            assert!(!is_memory(error), "{error}");
        }
    }

    #[test]
    fn of_several_faults_of_a_certificate_the_gravest_is_told() {
        let flags = |flags: &[u32]| untrusted(flags.iter().fold(0, |all, flag| all | flag));
        let (host, old) = (MBEDTLS_X509_BADCERT_CN_MISMATCH, MBEDTLS_X509_BADCERT_EXPIRED);
        assert_eq!(flags(&[]), None);
        assert_eq!(flags(&[old]), Some(TlsError::EXPIRED));
        assert_eq!(flags(&[MBEDTLS_X509_BADCERT_FUTURE]), Some(TlsError::NOT_YET_VALID));
        assert_eq!(flags(&[old, host]), Some(TlsError::WRONG_HOST));
        assert_eq!(flags(&[old, host, MBEDTLS_X509_BADCERT_BAD_KEY]), Some(TlsError::BAD_CERTIFICATE));
        let unknown = MBEDTLS_X509_BADCERT_NOT_TRUSTED;
        assert_eq!(flags(&[host, unknown]), Some(TlsError::UNKNOWN_CA));
        assert_eq!(flags(&[unknown, MBEDTLS_X509_BADCERT_BAD_MD]), Some(TlsError::BAD_CERTIFICATE));
        // No session at all.
        assert_eq!(untrusted(NOT_VERIFIED), Some(TlsError::UNKNOWN_CA));
    }
}
