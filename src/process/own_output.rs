//! Reading back what was written to this process's own standard output.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;

/// Where the standard output ends now, and the last bytes of it from `begin` on, at most `limit`. It has to be a file
/// that was opened for reading as well, as executors get it.
///
/// # Errors
/// When it is something else.
pub fn own_output_since(begin: u64, limit: u64) -> io::Result<(u64, Vec<u8>)> {
    let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let end = metadata.len();
    let from = end.saturating_sub(limit).max(begin.min(end));
    let length = usize::try_from(end - from).unwrap_or(0);
    let mut bytes = vec![0; length];
    let mut read = 0;
    while read < length {
        match file.read_at(&mut bytes[read..], from + read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    bytes.truncate(read);
    Ok((end, bytes))
}
