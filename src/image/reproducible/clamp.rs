//! Clamps the headers of a layer, in place: no time is later than the epoch, and owners have no names. It does not read
//! contents, and neither removes nor reorders entries.

use std::fs::File;
use std::io;
use std::ops::Range;

use tar::Header;

use crate::context::tar_format::{BLOCK, Record, seal};
use crate::image::extents::ExtentWriter;
use crate::image::layer::{self, Entry, Kind, LayerError, Moment};

/// Changes the headers of a layer in this file. Returns the remaining pieces of the layer: it cuts out extension headers that contained only
/// records that are dropped.
pub(super) fn clamp(file: &File, pieces: &[Range<u64>], epoch: u64) -> Result<Vec<Range<u64>>, LayerError> {
    let layer = layer::entries(file, pieces);
    let writer = ExtentWriter::new(file, pieces);
    let bytes = &writer.reader;
    let mut kept = Vec::new();
    let mut from = 0;
    layer.each(|entry| {
        let broken = |source| LayerError::Read { position: entry.start, source };
        let latest = latest(epoch).map_err(broken)?;
        for cut in extensions(&writer, &entry, latest).map_err(broken)? {
            kept.extend(bytes.places(from..cut.start));
            from = cut.end;
        }
        header(&writer, entry.header, &entry, latest).map_err(broken)
    })?;
    kept.extend(bytes.places(from..bytes.length()));
    Ok(kept)
}

fn latest(epoch: u64) -> io::Result<Moment> {
    Ok(Moment { seconds: i64::try_from(epoch).map_err(io::Error::other)?, nanoseconds: 0 })
}

/// Changes one header, if necessary.
fn header(writer: &ExtentWriter, position: u64, entry: &Entry, latest: Moment) -> io::Result<()> {
    let mut header = Header::new_old();
    writer.reader.read_exact_at(header.as_mut_bytes(), position)?;
    let before = *header.as_bytes();
    let epoch = latest.seconds.unsigned_abs();
    let is_whiteout = position == entry.header && entry.whiteout().is_some();
    // If a record has the entry's time, readers ignore the header's field; it is clamped nevertheless.
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
    writer.write_all_at(header.as_bytes(), position)
}

/// Drops late times, the times of whiteouts, and names from an entry's extension headers. Returns the ranges to cut out.
fn extensions(writer: &ExtentWriter, entry: &Entry, latest: Moment) -> io::Result<Vec<Range<u64>>> {
    let mut cuts = Vec::new();
    for extension in layer::extensions(&writer.reader, entry.start..entry.header)? {
        let all = extension.records.len();
        let mut kept = Vec::with_capacity(all);
        for record in extension.records {
            if !is_dropped(&record, latest, entry)? {
                kept.push(record);
            }
        }
        if kept.len() == all {
            header(writer, extension.header, entry, latest)?;
        } else if kept.is_empty() {
            cuts.push(extension.header..extension.end);
        } else {
            let data = extension.header + BLOCK;
            let text: Vec<u8> = kept.iter().flat_map(Record::text).collect();
            let end = data + (text.len() as u64).next_multiple_of(BLOCK);
            let mut block = Header::new_old();
            writer.reader.read_exact_at(block.as_mut_bytes(), extension.header)?;
            block.set_size(text.len() as u64);
            seal(&mut block);
            writer.write_all_at(block.as_bytes(), extension.header)?;
            let mut filled = text;
            filled.resize(usize::try_from(end - data).map_err(io::Error::other)?, 0);
            writer.write_all_at(&filled, data)?;
            header(writer, extension.header, entry, latest)?;
            cuts.extend((end < extension.end).then_some(end..extension.end));
        }
    }
    Ok(cuts)
}

/// Whether to drop a record. A file's time that is not late keeps its nanoseconds; whiteouts have no time of their own, and are
/// not hard links to each other.
fn is_dropped(record: &Record, latest: Moment, entry: &Entry) -> io::Result<bool> {
    let of_whiteout = entry.whiteout().is_some();
    Ok(match record.key.as_slice() {
        b"mtime" | b"atime" | b"ctime" | b"LIBARCHIVE.creationtime" => of_whiteout || layer::moment(record)? > latest,
        b"linkpath" => of_whiteout && entry.kind == Kind::File,
        b"uname" | b"gname" => true,
        _ => false,
    })
}
