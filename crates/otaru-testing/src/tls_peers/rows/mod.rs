//! All rows, by their names: each is a function in a file of its subject.

mod chains;
mod ends;
mod handshakes;
mod names;
mod sessions;
mod trust;

use super::row::Row;

/// Makes a list of all rows, and a macro that makes a test of each.
macro_rules! rows {
    ($dollar:tt $($subject:ident: $($name:ident)*;)*) => {
        /// Rows by their names.
        const ROWS: &[(&str, fn() -> Row)] = &[$($((stringify!($name), $subject::$name),)*)*];

        /// Makes a test of each row: the function is given the row.
        #[macro_export]
        macro_rules! tls_rows {
            ($dollar run:path) => {
                $($(
                    #[test]
                    fn $name() {
                        $dollar run($crate::tls_peers::row(stringify!($name)));
                    }
                )*)*
            };
        }
    };
}

rows! { $
    trust:
        a_server_of_a_trusted_authority
        an_unknown_authority
        an_authority_with_the_name_of_a_trusted_one
        a_self_signed_certificate_that_is_not_trusted
        a_self_signed_certificate_that_is_trusted
        an_expired_certificate
        an_expired_authority_below_the_trusted_one
        a_certificate_that_is_not_valid_yet
        a_certificate_for_clients
        a_certificate_that_somebody_else_has_the_key_of
        a_signature_over_sha_1
        an_authority_with_1024_bits_of_rsa
        a_certificate_with_1024_bits_of_rsa;
    chains:
        a_certificate_signed_by_one_that_is_no_authority
        a_certificate_signed_by_one_without_basic_constraints
        a_certificate_signed_by_one_that_may_not_sign
        a_certificate_signed_by_a_trusted_one_that_may_not_sign
        a_certificate_signed_by_a_self_signed_one
        a_path_longer_than_its_authority_allows
        a_path_as_long_as_its_authority_allows
        a_constraint_that_excludes_the_host
        a_constraint_that_permits_other_hosts_only
        a_constraint_that_permits_the_host
        intermediates_that_are_missing
        intermediates_out_of_order
        intermediates_sent_twice
        a_root_sent_too
        a_stranger_among_the_intermediates
        a_chain_of_8_kib
        a_chain_of_nine_authorities;
    names:
        another_host
        a_host_in_capitals
        an_address
        another_address
        an_address_of_ipv6
        an_address_as_a_host_name
        a_wildcard
        a_wildcard_right_below_the_top
        a_wildcard_one_level_too_high
        a_wildcard_for_its_own_domain
        a_wildcard_alone
        a_wildcard_in_the_middle_of_a_label
        a_common_name_only
        a_common_name_beside_other_names
        a_name_with_a_zero_in_it
        a_hundred_other_names;
    handshakes:
        a_curve_that_was_offered_no_share_for
        p_256_only
        tls_1_0_only
        tls_1_1_only
        no_version_in_common
        no_cipher_in_common
        a_cipher_that_was_not_offered
        no_curve_in_common
        a_downgrade_by_a_middleman
        a_downgrade_without_its_sentinel
        a_finished_that_was_changed
        a_record_longer_than_tls_allows
        garbage_instead_of_a_hello
        http_in_clear
        another_protocol
        a_server_that_asks_for_a_certificate
        a_server_that_demands_a_certificate
        a_certificate_of_another_authority_for_the_server
        a_certificate_as_the_server_demands_it;
    ends:
        a_stall_at_each_flight
        a_close_at_each_flight
        an_internal_error_at_each_flight
        a_refusal_of_the_host_name
        a_goodbye_instead_of_a_hello;
    sessions:
        tickets_after_the_handshake
        records_of_4_kib
        records_of_16_kib
        a_new_handshake_in_a_session
        a_body_that_breaks_off;
}

/// Returns the row of this name.
///
/// # Panics
/// When there is none.
pub fn row(name: &str) -> Row {
    let found = ROWS.iter().find(|(other, _)| *other == name);
    found.unwrap_or_else(|| panic!("there is no row {name}")).1()
}
