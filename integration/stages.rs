//! One stage of the program at a time, for scripts/profile: from files into files or nothing, so that neither an engine nor
//! a server is in the picture. What the stages do is the library's; which of them are measured, and how, is the script's.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Instant;

use flate2::bufread::MultiGzDecoder;
use image_worker::context::collect::Context;
use image_worker::context::intake::{Expectation, Limits, receive};
use image_worker::context::owners::reset_owners;
use image_worker::context::{ContextScheme, HashScheme};
use image_worker::image::UnpackedImage;
use image_worker::net::retry::RetryConfig;
use image_worker::net::stream;
use image_worker::net::transfer::{self, Storage, UploadBody};
use image_worker::report::Report;

const USAGE: &str =
    "stages hash DIRECTORY | gunzip|intake CONTEXT.tar.gz | spool|sum|copy|LEVEL IMAGE.tar | upload FILE";

/// As the program writes to disk.
const WRITE_BUFFER: usize = 256 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [stage, path] = arguments.as_slice() else { return Err(USAGE.into()) };
    let path = Path::new(path);
    let began = Instant::now();
    let bytes = match stage.as_str() {
        "gunzip" => io::copy(&mut MultiGzDecoder::new(io::BufReader::new(File::open(path)?)), &mut io::sink())?,
        "hash" => hash(path)?,
        "intake" => intake(path)?,
        "upload" => upload(path)?,
        stage => image(stage, path)?,
    };
    let seconds = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate, to be looked at")]
    let rate = bytes as f64 / seconds / 1e6;
    println!("{stage}: {bytes} bytes in {seconds:.3} s, {rate:.0} MB/s");
    Ok(())
}

/// The context hash of an image directory.
fn hash(path: &Path) -> Result<u64, Box<dyn Error>> {
    let context = Context::collect(&Path::new(".").into(), path, &BTreeMap::new(), HashScheme::Tar)?;
    println!("{}", context.hash()?);
    Ok(context.size())
}

/// A context as `run` receives it: unpacked, hashed, checked, written, and given to root.
fn intake(path: &Path) -> Result<u64, Box<dyn Error>> {
    let expect = Expectation {
        scheme: ContextScheme::Tar,
        hash: None,
        directory: None,
        image: "image".parse()?,
        encoded: false,
    };
    let file = tempfile::tempfile()?;
    let out = BufWriter::with_capacity(WRITE_BUFFER, &file);
    let limits = Limits { max_bytes: u64::MAX, ..Limits::default() };
    let received = receive(File::open(path)?, &expect, &limits, out)?;
    if received.others {
        reset_owners(&file)?;
    }
    Ok(received.bytes)
}

/// An image's archive, unpacked as an engine's export is; then hashed, copied, or compressed at a level.
fn image(stage: &str, path: &Path) -> Result<u64, Box<dyn Error>> {
    let unpacked = UnpackedImage::import(File::open(path)?, tempfile::tempfile()?)?;
    let size = unpacked.layers().iter().map(|layer| layer.size).sum();
    if stage == "spool" {
        return Ok(size);
    }
    let archive = unpacked.arrange("image:profile")?;
    drop(unpacked);
    if stage == "sum" {
        archive.sum()?;
        return Ok(size);
    }
    let level = if stage == "copy" { None } else { Some(stage.parse().map_err(|_| USAGE)?) };
    let mut out = tempfile::tempfile()?;
    let began = Instant::now();
    archive.write_into(level, BufWriter::with_capacity(WRITE_BUFFER, &out), |_| {})?;
    let length = out.seek(SeekFrom::End(0))?;
    println!("{stage}: poured into {length} bytes in {:.3} s", began.elapsed().as_secs_f64());
    Ok(size)
}

/// An upload to a server on this machine that throws away what it gets.
fn upload(path: &Path) -> Result<u64, Box<dyn Error>> {
    let size = path.metadata()?.len();
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/image.tar", listener.local_addr()?).parse()?;
    let server = std::thread::spawn(move || -> io::Result<()> {
        let (mut connection, _) = listener.accept()?;
        let mut buffer = vec![0; WRITE_BUFFER];
        let mut left = size;
        // The request's head counts as a part of the body: then the last of it is not waited for.
        while left > 0 {
            let read = connection.read(&mut buffer)? as u64;
            left = if read == 0 { 0 } else { left.saturating_sub(read) };
        }
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        io::copy(&mut connection, &mut io::sink()).map(drop)
    });
    let file = File::open(path)?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let storage = Storage::new(RetryConfig::default())?;
        // As an image goes: from a thread that reads, through a pipe.
        let body = stream::from_writer(move |mut out| io::copy(&mut &file, &mut out).map(drop));
        let meter = Report::silent().meter("uploading", None);
        storage.put(&url, &BTreeMap::new(), UploadBody { bytes: body, size, meter }).await?;
        Ok::<_, transfer::TransferError>(())
    })?;
    server.join().map_err(|_| "the server's thread ended badly")??;
    Ok(size)
}
