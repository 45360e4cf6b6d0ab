//! A DHCP server for the few who join the set-up access point (RFC 2131, options of RFC 2132).
//!
//! It remembers nothing: an address follows from the client's MAC address, so whoever asks again gets the same.

/// The access point's own address.
pub const SERVER: [u8; 4] = [192, 168, 4, 1];
/// Bytes of an answer: the fixed part, which is also the least a client must take, and our options.
pub const LEN: usize = 300;

/// Offset of the options: after the fixed part and the magic cookie.
const OPTIONS: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// The answer to a client's message, to be broadcast to port 68; `None` if it wants none.
pub fn answer(message: &[u8]) -> Option<[u8; LEN]> {
    let (head, options) = message.split_at_checked(OPTIONS)?;
    // A request (1) over Ethernet (1) with addresses of 6 bytes.
    if head[..3] != [1, 1, 6] || head[236..] != COOKIE {
        return None;
    }
    let address = address_for(&head[28..34]);
    let wanted = option(options, 50).or_else(|| head.get(12..16)).filter(|wanted| *wanted != [0; 4]);
    let kind = match option(options, 53)? {
        [DISCOVER] => OFFER,
        // Meant for another server: it has lost its choice, and we say nothing.
        [REQUEST] if option(options, 54).is_some_and(|server| server != SERVER) => return None,
        [REQUEST] if wanted.is_none_or(|wanted| wanted == address) => ACK,
        [REQUEST] => NAK,
        _ => return None,
    };

    let mut out = [0; LEN];
    out[..OPTIONS].copy_from_slice(head);
    out[0] = 2;
    out[12..16].fill(0);
    out[16..20].copy_from_slice(if kind == NAK { &[0; 4] } else { &address });
    out[20..24].copy_from_slice(&SERVER);
    // No server name, no file.
    out[44..236].fill(0);
    let [a, b, c, d] = SERVER;
    let hour = 3600u32.to_be_bytes();
    let rest = [
        53, 1, kind, 54, 4, a, b, c, d, 51, 4, hour[0], hour[1], hour[2],
        hour[3], // kind, server, lease
        1, 4, 255, 255, 255, 0, 3, 4, a, b, c, d, 6, 4, a, b, c, d, 255, // mask, router, names
    ];
    // After a refusal nothing but who refused.
    let rest = if kind == NAK { &[53, 1, NAK, 54, 4, a, b, c, d, 255][..] } else { &rest };
    out[OPTIONS..OPTIONS + rest.len()].copy_from_slice(rest);
    Some(out)
}

/// 192.168.4.2 to .251.
fn address_for(mac: &[u8]) -> [u8; 4] {
    let sum = mac.iter().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    [SERVER[0], SERVER[1], SERVER[2], 2 + (sum % 250) as u8]
}

/// The value of an option.
fn option(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match options {
            [255, ..] | [] => return None,
            [0, rest @ ..] => options = rest,
            [code, len, rest @ ..] => {
                let (value, after) = rest.split_at_checked(usize::from(*len))?;
                if *code == wanted {
                    return Some(value);
                }
                options = after;
            }
            [_] => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(options: &[u8]) -> Vec<u8> {
        let mut message = vec![0; OPTIONS];
        message[..3].copy_from_slice(&[1, 1, 6]);
        message[4..8].copy_from_slice(b"xid!");
        message[28..34].copy_from_slice(&[2, 0, 0, 1, 2, 3]);
        message[236..].copy_from_slice(&COOKIE);
        message.extend_from_slice(options);
        message
    }

    #[test]
    fn a_client_gets_what_it_was_offered() {
        let offer = answer(&message(&[53, 1, DISCOVER, 255])).unwrap();
        assert_eq!(offer[0], 2);
        assert_eq!(&offer[4..8], b"xid!");
        assert_eq!(option(&offer[OPTIONS..], 53), Some(&[OFFER][..]));
        assert_eq!(option(&offer[OPTIONS..], 6), Some(&SERVER[..]));
        let mine = &offer[16..20];
        let request = [&[53, 1, REQUEST, 50, 4][..], mine, &[54, 4], &SERVER, &[255]].concat();
        let ack = answer(&message(&request)).unwrap();
        assert_eq!(option(&ack[OPTIONS..], 53), Some(&[ACK][..]));
        assert_eq!(&ack[16..20], mine);
    }

    #[test]
    fn an_address_of_another_network_is_refused() {
        let nak = answer(&message(&[53, 1, REQUEST, 50, 4, 10, 0, 0, 7, 255])).unwrap();
        assert_eq!(option(&nak[OPTIONS..], 53), Some(&[NAK][..]));
        assert_eq!(answer(&message(&[53, 1, REQUEST, 54, 4, 10, 0, 0, 1, 255])), None);
    }

    #[test]
    fn any_bytes_are_taken() {
        let whole = message(&[53, 1, DISCOVER, 12, 3, b'a', b'b', b'c', 255]);
        for end in 0..whole.len() {
            let _ = answer(&whole[..end]);
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7F, 0xFF] {
                let mut changed = whole.clone();
                changed[at] = byte;
                let _ = answer(&changed);
            }
        }
        assert_eq!(answer(&message(&[53])), None);
    }
}
