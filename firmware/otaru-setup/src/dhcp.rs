//! The address an access point hands out.
