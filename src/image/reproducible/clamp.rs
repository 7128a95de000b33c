//! A layer's headers, changed where they lie: no time is later than the epoch, nobody has a name. Contents are not read;
//! which entries there are, and in which order, is not decided here.

use std::io;
use std::ops::Range;

use tar::Header;

use crate::context::tar_format::{BLOCK, Record, seal};
use crate::image::extents::ExtentReader;
use crate::image::layer::{self, Entry, Kind, Layer, LayerError, Moment};

/// Changes the headers of a layer. Gives what is left of its pieces: extension headers that said nothing but what is taken
/// out are not needed any more.
pub(super) fn clamp(layer: &Layer, epoch: u64) -> Result<Vec<Range<u64>>, LayerError> {
    let bytes = layer.bytes();
    let mut kept = Vec::new();
    let mut from = 0;
    layer.each(|entry| {
        let broken = |source| LayerError::Read { position: entry.start, source };
        let latest = latest(epoch).map_err(broken)?;
        for cut in extensions(&bytes, &entry, latest).map_err(broken)? {
            kept.extend(bytes.places(from..cut.start));
            from = cut.end;
        }
        header(&bytes, entry.header, &entry, latest).map_err(broken)
    })?;
    kept.extend(bytes.places(from..bytes.length()));
    Ok(kept)
}

fn latest(epoch: u64) -> io::Result<Moment> {
    Ok(Moment { seconds: i64::try_from(epoch).map_err(io::Error::other)?, nanoseconds: 0 })
}

/// Changes one header, if there is something to change.
fn header(bytes: &ExtentReader, position: u64, entry: &Entry, latest: Moment) -> io::Result<()> {
    let mut header = Header::new_old();
    bytes.read_exact_at(header.as_mut_bytes(), position)?;
    let before = *header.as_bytes();
    let epoch = latest.seconds.unsigned_abs();
    let is_whiteout = position == entry.header && entry.whiteout().is_some();
    // The entry's own time can be in a record, and the header's field is not believed then; a later one is not left there.
    if is_whiteout
        || position == entry.header && (entry.mtime > latest)
        || layer::number(&header.as_old().mtime, header.mtime())? > epoch
    {
        header.set_mtime(epoch);
    }
    if is_whiteout {
        header.set_mode(0);
        if entry.kind == Kind::File {
            header.as_old_mut().linkname = [0; 100];
        }
    }
    if let Some(ustar) = header.as_ustar_mut() {
        (ustar.uname, ustar.gname) = ([0; 32], [0; 32]);
    } else if let Some(gnu) = header.as_gnu_mut() {
        (gnu.uname, gnu.gname) = ([0; 32], [0; 32]);
        if layer::number(&gnu.atime, gnu.atime())? > epoch {
            gnu.set_atime(epoch);
        }
        if layer::number(&gnu.ctime, gnu.ctime())? > epoch {
            gnu.set_ctime(epoch);
        }
    }
    if *header.as_bytes() == before {
        return Ok(());
    }
    seal(&mut header);
    bytes.write_all_at(header.as_bytes(), position)
}

/// Takes late times, those of whiteouts, and names, out of an entry's extension headers. Gives the ranges that are not needed any more.
fn extensions(bytes: &ExtentReader, entry: &Entry, latest: Moment) -> io::Result<Vec<Range<u64>>> {
    let mut cuts = Vec::new();
    for extension in layer::extensions(bytes, entry.start..entry.header)? {
        let all = extension.records.len();
        let mut left = Vec::with_capacity(all);
        for record in extension.records {
            if !goes(&record, latest, entry)? {
                left.push(record);
            }
        }
        if left.len() == all {
            header(bytes, extension.header, entry, latest)?;
        } else if left.is_empty() {
            cuts.push(extension.header..extension.end);
        } else {
            let data = extension.header + BLOCK;
            let text: Vec<u8> = left.iter().flat_map(Record::text).collect();
            let end = data + (text.len() as u64).next_multiple_of(BLOCK);
            let mut block = Header::new_old();
            bytes.read_exact_at(block.as_mut_bytes(), extension.header)?;
            block.set_size(text.len() as u64);
            seal(&mut block);
            bytes.write_all_at(block.as_bytes(), extension.header)?;
            let mut filled = text;
            filled.resize(usize::try_from(end - data).map_err(io::Error::other)?, 0);
            bytes.write_all_at(&filled, data)?;
            header(bytes, extension.header, entry, latest)?;
            cuts.extend((end < extension.end).then_some(end..extension.end));
        }
    }
    Ok(cuts)
}

/// Whether a record says what is not to be said. A file's time that is not late stays to the nanosecond; a whiteout has none,
/// and is no other name of another.
fn goes(record: &Record, latest: Moment, entry: &Entry) -> io::Result<bool> {
    let of_whiteout = entry.whiteout().is_some();
    Ok(match record.key.as_slice() {
        b"mtime" | b"atime" | b"ctime" | b"LIBARCHIVE.creationtime" => of_whiteout || layer::moment(record)? > latest,
        b"linkpath" => of_whiteout && entry.kind == Kind::File,
        b"uname" | b"gname" => true,
        _ => false,
    })
}
