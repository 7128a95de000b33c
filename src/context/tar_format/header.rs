//! One tar header: writing it for a file, its checksum, and whether all readers interpret it the same way. The readers combine
//! headers with the records before them.

use std::io;

use tar::Header;

/// The block size of tars.
pub const BLOCK: u64 = 512;

/// The end of a tar: two blocks of zeros.
pub const END: [u8; 1024] = [0; 1024];

/// The padding after `size` bytes, to fill the last block.
#[must_use]
pub fn padding(size: u64) -> &'static [u8] {
    const ZEROS: [u8; 512] = [0; 512];
    match usize::try_from(size % BLOCK).unwrap_or_default() {
        0 => &[],
        past => &ZEROS[past..],
    }
}

/// The header of a file with owner 0; `blank` has its format, type and time. A name that is too long for its field is truncated:
/// write it into a separate entry before.
#[must_use]
pub fn file_header(mut blank: Header, name: &[u8], mode: u32, size: u64) -> Header {
    let field = &mut blank.as_old_mut().name;
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
    blank.set_mode(mode);
    blank.set_uid(0);
    blank.set_gid(0);
    // Sizes of 8 GiB and more are in base 256, which tar, Docker and Podman read.
    blank.set_size(size);
    seal(&mut blank);
    blank
}

/// The checksum of a header: the sum of its bytes, with spaces in the checksum field.
#[must_use]
pub fn checksum(header: &Header) -> u32 {
    let bytes = header.as_bytes().iter().enumerate();
    bytes.map(|(at, byte)| if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(*byte) }).sum()
}

/// Writes the checksum like GNU tar, Go and Python, with one digit less than the `tar` crate, so that other libraries produce
/// the same archive.
pub fn seal(header: &mut Header) {
    let text = format!("{:06o}\0 ", checksum(header));
    header.as_old_mut().cksum.copy_from_slice(&text.as_bytes()[..8]);
}

/// Checks that a header's checksum is right.
pub fn verify_checksum(header: &Header) -> io::Result<()> {
    if header.cksum()? == checksum(header) { Ok(()) } else { Err(io::Error::other("a header's checksum is wrong")) }
}

/// Why readers could interpret a header differently. It accepts only the two formats that all readers interpret the same way,
/// and of these only the common fields.
///
/// Docker's reader (Go) treats the fields from byte 345 of a GNU header as a prefix of the name if they are not
/// numbers, and those from byte 500 of a POSIX header as star's own format. No writer uses them for a context or an image.
#[must_use]
pub fn header_doubt(header: &Header) -> Option<&'static str> {
    let bytes = header.as_bytes();
    let extra = match &bytes[257..265] {
        b"ustar\x0000" => &bytes[500..],
        b"ustar  \0" => &bytes[345..],
        _ => return Some("a header that is neither POSIX nor GNU"),
    };
    if extra.iter().any(|byte| *byte != 0) {
        return Some("unusual fields in its header");
    }
    // Most of these fields are not used here, but if one is no number, Go fails and Python silently stops.
    let numbers = [100..108, 108..116, 116..124, 136..148, 329..337, 337..345];
    let wrong = numbers.into_iter().any(|field| !is_number(&bytes[field]));
    wrong.then_some("a number in its header that is none")
}

/// Octal digits, with spaces before and spaces or NULs after them: the form that all readers interpret the same way.
#[must_use]
pub fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_start_matches(' ').trim_end_matches(['\0', ' ']);
    if text.starts_with('+') { None } else { u64::from_str_radix(text, 8).ok() }
}

/// Octal digits, an empty field, or the notation for large and negative numbers.
fn is_number(field: &[u8]) -> bool {
    matches!(field.first(), Some(0x80 | 0xff)) || field.iter().all(|byte| *byte == 0) || octal(field).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_filled_to_their_end() {
        for (size, fill) in [(0, 0), (1, 511), (511, 1), (512, 0), (u64::MAX, 1)] {
            assert_eq!(padding(size).len(), fill, "{size}");
        }
    }

    #[test]
    fn sizes_from_8_gib_on_are_in_base_256() {
        let size = |size| file_header(Header::new_gnu(), b"x", 0, size).as_old().size;
        assert_eq!(&size((1 << 33) - 1), b"77777777777\0");
        assert_eq!(&size(1 << 33), b"\x80\0\0\0\0\0\0\x02\0\0\0\0");
    }

    #[test]
    fn the_checksum_is_written_in_six_digits_and_read_in_any_form() {
        let mut header = file_header(Header::new_ustar(), b"a", 0o644, 3);
        let own = header.as_old().cksum;
        assert_eq!(own, *format!("{:06o}\0 ", checksum(&header)).as_bytes());
        assert!(verify_checksum(&header).is_ok());
        header.set_cksum();
        assert_ne!(header.as_old().cksum, own);
        assert!(verify_checksum(&header).is_ok());
        header.as_old_mut().name[0] = b'b';
        assert!(verify_checksum(&header).is_err());
    }
}
