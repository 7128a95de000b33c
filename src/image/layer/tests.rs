//! Reads layers as engines write them, and damaged ones. The layers are made here, byte for byte.

use std::fs::File;
use std::io::{Read as _, Write as _};

use tar::Builder;

use super::*;

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o4755);
    header.set_uid(1000);
    header.set_gid(7);
    header.set_mtime(1_700_000_000);
    header
}

fn unpacked(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn read(bytes: &[u8]) -> Result<Vec<Entry>, LayerError> {
    let file = unpacked(bytes);
    let mut found = Vec::new();
    let end = entries(&file, &[0..bytes.len() as u64; 1]).each(|entry| {
        found.push(entry);
        Ok::<_, LayerError>(())
    })?;
    assert_eq!(end, found.last().map_or(0, Entry::end));
    Ok(found)
}

fn sample() -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    tar.append_data(&mut header(EntryType::Directory, 0), "etc/", &[][..]).unwrap();
    let pax: [(&str, &[u8]); 3] = [
        ("SCHILY.xattr.security.capability", b"\x01\n9 path=b\n\x00"),
        ("mtime", b"1700000000.25"),
        ("uname", b"somebody"),
    ];
    tar.append_pax_extensions(pax).unwrap();
    tar.append_data(&mut header(EntryType::Regular, 3), "etc/a", &b"abc"[..]).unwrap();
    tar.append_link(&mut header(EntryType::Link, 0), "etc/b", "etc/a").unwrap();
    tar.append_link(&mut header(EntryType::Symlink, 0), "c", "/etc/a/").unwrap();
    let mut device = header(EntryType::Char, 0);
    device.set_device_major(1).unwrap();
    device.set_device_minor(3).unwrap();
    tar.append_data(&mut device, "dev/null", &[][..]).unwrap();
    tar.append_data(&mut header(EntryType::Regular, 0), "etc/.wh.gone", &[][..]).unwrap();
    tar.append_data(&mut header(EntryType::Regular, 0), "etc/.wh..wh..opq", &[][..]).unwrap();
    let mut long = Header::new_gnu();
    long.set_size(1);
    long.set_mode(0o644);
    long.set_mtime(1);
    tar.append_data(&mut long, format!("long/{}", "x".repeat(300)), &b"y"[..]).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn entries_are_read_with_all_that_is_said_of_them() {
    let bytes = sample();
    let found = read(&bytes).unwrap();
    let paths: Vec<_> = found.iter().map(|entry| String::from_utf8(entry.path.clone()).unwrap()).collect();
    let long = format!("long/{}", "x".repeat(300));
    assert_eq!(paths, ["etc", "etc/a", "etc/b", "c", "dev/null", "etc/.wh.gone", "etc/.wh..wh..opq", long.as_str()]);
    let [etc, a, b, c, null, gone, opaque, last] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((etc.kind, etc.start, etc.header, etc.data.clone()), (Kind::Directory, 0, 0, 512..512));
    assert_eq!((a.kind, a.mode, a.uid, a.gid, a.size), (Kind::File, 0o4755, 1000, 7, 3));
    assert_eq!(a.xattrs, [(b"security.capability".to_vec(), b"\x01\n9 path=b\n\x00".to_vec())]);
    assert_eq!(a.mtime, Moment { seconds: 1_700_000_000, nanoseconds: 250_000_000 });
    assert_eq!(a.user, b"somebody");
    assert_eq!((a.start, a.header, a.data.clone(), a.end()), (512, 1536, 2048..2051, 2560));
    assert_eq!((b.kind, b.link.as_slice()), (Kind::HardLink, &b"etc/a"[..]));
    assert_eq!((c.kind, c.link.as_slice()), (Kind::Symlink, &b"/etc/a/"[..]));
    assert_eq!((null.kind, null.device), (Kind::Character, Some((1, 3))));
    assert_eq!(gone.whiteout(), Some(Whiteout::Path(b"etc/gone".to_vec())));
    assert_eq!(opaque.whiteout(), Some(Whiteout::Content(b"etc".to_vec())));
    assert_eq!(last.whiteout(), None);
    assert_eq!(last.header - last.start, 1024, "a header for the long name, and the name");
    assert_eq!(&bytes[usize::try_from(last.data.start).unwrap()..][..1], b"y");
}

#[test]
fn a_layer_in_pieces_is_read_as_one() {
    let bytes = sample();
    let found = read(&bytes).unwrap();
    // The last entry comes first, and another layer's pieces could be between.
    let (last, rest) = found.split_last().unwrap();
    let file = unpacked(&bytes);
    let pieces = [last.start..last.end(), 0..last.start];
    let layer = entries(&file, &pieces);
    let mut paths = Vec::new();
    layer
        .each(|entry| {
            let mut content = Vec::new();
            layer.bytes().copy(entry.data.clone(), &mut content).unwrap();
            paths.push((entry.path, content.len() as u64 == entry.size));
            Ok::<_, LayerError>(())
        })
        .unwrap();
    let expected: Vec<_> = [last].into_iter().chain(rest).map(|entry| (entry.path.clone(), true)).collect();
    assert_eq!(paths, expected);
}

#[test]
fn files_with_holes_are_passed_over() {
    let mut sparse = Header::new_gnu();
    sparse.set_entry_type(EntryType::GNUSparse);
    sparse.set_path("holes").unwrap();
    sparse.set_mode(0o644);
    sparse.set_mtime(0);
    sparse.set_uid(0);
    sparse.set_gid(0);
    sparse.set_size(512);
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.set_real_size(1_000_512);
    gnu.set_is_extended(true);
    sparse.set_cksum();
    let mut more = tar::GnuExtSparseHeader::new();
    more.sparse_mut()[0].set_offset(1_000_000);
    more.sparse_mut()[0].set_length(512);
    let mut bytes = sparse.as_bytes().to_vec();
    bytes.extend(more.as_bytes());
    bytes.extend([7; 512]);
    bytes.extend(sample());
    let found = read(&bytes).unwrap();
    assert_eq!((found[0].kind, found[0].size, found[0].data.clone()), (Kind::Sparse, 1_000_512, 1024..1536));
    assert_eq!((found[1].path.as_slice(), found[1].start), (&b"etc"[..], 1536));
}

#[test]
fn damaged_layers_are_refused() {
    let whole = sample();
    // Truncated in the first header, in an extension header, and in a file's data.
    for length in [100, 700, 2049] {
        let LayerError::Read { position, .. } = read(&whole[..length]).unwrap_err();
        assert!(position <= 512, "{position}");
    }
    let mut damaged = whole.clone();
    damaged[1024 + 2] = b'x';
    let LayerError::Read { position, source } = read(&damaged).unwrap_err();
    assert_eq!((position, source.to_string().as_str()), (512, "an extension header is damaged"));
    assert!(read(&[]).unwrap().is_empty());
}

#[test]
fn times_in_records_are_exact() {
    let moment = |text: &str| moment(&Record { key: b"mtime".to_vec(), value: text.into() });
    let times =
        [("5", 5, 0), ("5.5", 5, 500_000_000), ("-5.25", -6, 750_000_000), ("-5", -5, 0), ("1.0000000019", 1, 1)];
    for (text, seconds, nanoseconds) in times {
        assert_eq!(moment(text).unwrap(), Moment { seconds, nanoseconds }, "{text}");
    }
    for text in ["", "x", "1.x", "1.5.5"] {
        assert!(moment(text).unwrap_err().to_string().ends_with("is no time"), "{text}");
    }
}

#[test]
fn a_layer_is_read_again_from_its_beginning() {
    let bytes = sample();
    let file = unpacked(&bytes);
    let pieces = [0..bytes.len() as u64; 1];
    let layer = entries(&file, &pieces);
    let count = || {
        let mut count = 0;
        layer
            .each(|_| {
                count += 1;
                Ok::<_, LayerError>(())
            })
            .unwrap();
        count
    };
    assert_eq!([count(), count()], [8, 8]);
    let mut again = Vec::new();
    layer.bytes().read_to_end(&mut again).unwrap();
    assert_eq!(again, bytes);
}
