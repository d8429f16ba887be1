//! Following a file that other processes write to, so that a flood fills neither memory nor disk.
//!
//! Owns reading such a file in chunks while it grows, and giving back the room of what was read. Small files are kept
//! whole. Of a large one its beginning and its end are kept, and the middle is released: as a hole where the file system
//! can have holes, else by cutting the file down to its beginning each time that it was read, so that writers go on there
//! and its end is what came since. Who reads too slowly skips what would not fit. All that is released or skipped is
//! counted.
//!
//! Promises never to wait for an end of file, to hold one chunk in memory, and to use no processor time while nothing is
//! written (where the system tells of writings, see `ear`). Reading and releasing block for as long as the file system
//! takes: a millisecond or less where releasing does not wait for the disk.
//!
//! Whoever writes has to append (`O_APPEND`). What is written between the last look at a file and the moment that it is
//! cut down is lost uncounted; holes have no such gap.

mod ear;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ear::Ear;

const MIB: u64 = 1024 * 1024;

/// The most that is read at once: it fits into the cache of a core, and more is not read faster.
const CHUNK: usize = 256 * 1024;

/// Whoever lags too far behind goes on this far before the end.
const REJOIN: u64 = MIB;

/// How long to wait after the first news, so that many small writings are read together: at most 500 times a second.
const GATHER: Duration = Duration::from_millis(2);

/// What is kept of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The room that a file is not to take at any time: 64 MiB, so that a hundred attempts that all flood take what a
    /// large build does. When holes are not enough, because releasing is slower than the writer, and the file is within
    /// `lag` of this, it is cut down to its head, and from then on as if there were no holes.
    pub cap: u64,
    /// Above this size something is released: 16 MiB, which is more than agents write that do not run wild, has room for
    /// the head, the tail and a step, and is so far below the cap that a writer of 2 GB/s has to go on for more than
    /// 20 ms without the reader getting the processor to reach it.
    pub whole: u64,
    /// What is kept of the beginning: 4 MiB. It shows how the flood began.
    pub head: u64,
    /// What is kept of the end: 8 MiB. It shows how the work ended.
    pub tail: u64,
    /// How far the reader may lag behind in a file that is larger than `whole`: 8 MiB, which it reads in 5 to 10 ms. With
    /// `whole` that is less than half of the cap.
    pub lag: u64,
    /// The least that is released at once: 4 MiB, about a millisecond of work for the file system, and few enough calls.
    /// A multiple of the block size of every file system.
    pub step: u64,
    /// Whether holes are made, where the file system can have them.
    pub holes: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cap: 64 * MIB,
            whole: 16 * MIB,
            head: 4 * MIB,
            tail: 8 * MIB,
            lag: 8 * MIB,
            step: 4 * MIB,
            holes: true,
        }
    }
}

/// What became of the bytes of a file so far.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// How many were written. Where there are no holes, those that were lost while the file was cut down are not in any
    /// of these.
    pub written: u64,
    /// How many of them are no longer in the file.
    pub released: u64,
    /// How many were not read. Most of them are released as well.
    pub skipped: u64,
    /// When the file last grew, or else when following it began.
    pub grew: Instant,
}

/// The next bytes of a file.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    /// At least one and at most 256 KiB.
    pub bytes: &'a [u8],
    /// Whether bytes are missing before these.
    pub after_gap: bool,
}

/// Reads a file while it grows.
#[derive(Debug)]
pub struct Follower {
    file: File,
    path: PathBuf,
    limits: Limits,
    ear: Ear,
    buffer: Box<[u8]>,
    /// Where the next chunk begins.
    position: u64,
    /// The size of the file when it was last looked at.
    size: u64,
    /// Everything between the head and this place is released.
    released_to: u64,
    /// Whether holes can be had.
    holes: bool,
    /// What the file was shortened by so far.
    before: u64,
    released: u64,
    skipped: u64,
    grew: Instant,
    /// Bytes are missing before `position`.
    gap: bool,
    /// There may be more to read than what was read.
    busy: bool,
}

impl Follower {
    /// Follows the file of that name from its beginning. `/proc/self/fd/1` is the standard output of this process.
    ///
    /// # Errors
    /// When it cannot be opened for reading and writing, or is no regular file.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(path: &Path, limits: Limits) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        // The name that a descriptor stands for.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Self::new(file, path, limits)
    }

    /// Follows the file that is this process's standard output, and with it that of its children, from its beginning.
    ///
    /// # Errors
    /// When it is no regular file.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn of_own_output(limits: Limits) -> io::Result<Self> {
        // Not inherited by what is started here, which a plain `dup` would be.
        let own = std::io::stdout().as_fd().try_clone_to_owned()?;
        Self::new(own.into(), PathBuf::from("the standard output"), limits)
    }

    /// Follows a file that is open for reading and writing, from its beginning. The name is for messages alone.
    ///
    /// # Errors
    /// When it is no regular file.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(file: File, path: PathBuf, limits: Limits) -> io::Result<Self> {
        if !file.metadata()?.is_file() {
            let message = format!("{} is no regular file", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(Self {
            ear: Ear::of(&file),
            file,
            path,
            limits,
            buffer: vec![0; CHUNK].into_boxed_slice(),
            position: 0,
            size: 0,
            released_to: limits.head,
            holes: limits.holes,
            before: 0,
            released: 0,
            skipped: 0,
            grew: Instant::now(),
            gap: false,
            busy: true,
        })
    }

    /// The name of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What became of the bytes so far.
    pub fn counts(&self) -> Counts {
        Counts {
            written: self.before + self.size,
            released: self.released,
            skipped: self.skipped,
            grew: self.grew,
        }
    }

    /// Waits for the next bytes. What was given before counts as read now, and may be released. Other tasks get their
    /// turn between two chunks. Cancel-safe.
    ///
    /// # Errors
    /// When the file cannot be read, looked at or cut down.
    pub async fn next(&mut self) -> io::Result<Chunk<'_>> {
        loop {
            if self.busy {
                tokio::task::yield_now().await;
            } else {
                self.ear.heard().await?;
                // What was heard is not heard again when this is dropped now.
                self.busy = true;
                tokio::time::sleep(GATHER).await;
            }
            self.look()?;
            self.skip_what_does_not_fit();
            self.make_hole()?;
            let length = self.read(self.size)?;
            // All that is written after the last look is heard of, so there is no need for a look that finds nothing.
            self.busy = length.is_some() && self.position < self.size;
            if let Some(length) = length {
                // Not a gap that cutting makes: that is behind these bytes.
                let after_gap = std::mem::take(&mut self.gap);
                self.cut_when_read()?;
                return Ok(Chunk {
                    bytes: &self.buffer[..length],
                    after_gap,
                });
            }
        }
    }

    /// What is in the file now and was not read, without waiting for more: neither an end of file nor the end of who
    /// writes matters. After `patience` only the last MiB of it is still read, and what is before that skipped.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn rest(&mut self, patience: Duration) -> io::Result<Rest<'_>> {
        self.look()?;
        self.skip_what_does_not_fit();
        Ok(Rest {
            end: self.size,
            deadline: Instant::now() + patience,
            follower: self,
        })
    }

    /// Learns the size of the file.
    fn look(&mut self) -> io::Result<()> {
        let size = self.file.metadata()?.len();
        if size != self.size {
            self.grew = Instant::now();
        }
        if size < self.size {
            // Somebody else has shortened it: what is there now is taken for new.
            self.forget(0);
        }
        self.size = size;
        Ok(())
    }

    /// Reads what comes next and lies before `end`.
    fn read(&mut self, end: u64) -> io::Result<Option<usize>> {
        let wanted = end.saturating_sub(self.position);
        let wanted = usize::try_from(wanted).unwrap_or(CHUNK).min(CHUNK);
        if wanted == 0 {
            return Ok(None);
        }
        let buffer = &mut self.buffer[..wanted];
        let length = loop {
            match self.file.read_at(buffer, self.position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.position += length as u64;
        Ok((length > 0).then_some(length))
    }

    /// What the file holds apart from what was released.
    fn kept(&self) -> u64 {
        self.size
            .saturating_sub(self.released_to - self.limits.head)
    }

    /// Goes on near the end when the reader lags too far behind in a file that is too large.
    fn skip_what_does_not_fit(&mut self) {
        let lag = self.size.saturating_sub(self.position);
        let last_chunk = CHUNK as u64;
        if !self.holes && self.is_pressing() && lag > last_chunk {
            // What is read now is the last that is read before the file is cut down.
            self.skip_to(self.size - last_chunk);
        } else if self.kept() > self.limits.whole && lag > self.limits.lag {
            self.skip_to(self.size - REJOIN.min(self.limits.lag));
        }
    }

    fn skip_to(&mut self, place: u64) {
        self.skipped += place - self.position;
        self.position = place;
        self.gap = true;
    }

    /// Cuts down a file that is too large and cannot have holes, as soon as all of it is read: whatever is written at a
    /// pace that one can read at loses nothing. A faster writer loses what it has written since.
    fn cut_when_read(&mut self) -> io::Result<()> {
        if self.holes || self.kept() <= self.limits.whole {
            return Ok(());
        }
        // Of a pressing one the end is read next, and then it is cut down.
        let was_read = self.position >= self.size;
        self.look()?;
        if self.position >= self.size || (was_read && self.is_pressing()) {
            self.cut()?;
        }
        Ok(())
    }

    /// Whether a file without holes cannot wait any longer until all of it is read.
    fn is_pressing(&self) -> bool {
        self.kept() > self.limits.whole + self.limits.lag / 4
    }

    /// When the file is too large, releases what lies between the head and the tail and was read or skipped. When that
    /// cannot be done, or is not enough, there are to be no more holes.
    fn make_hole(&mut self) -> io::Result<()> {
        let Limits {
            cap,
            tail,
            lag,
            step,
            ..
        } = self.limits;
        let end = self.position.min(self.size.saturating_sub(tail));
        let length = end.saturating_sub(self.released_to) / step * step;
        if !self.holes || length == 0 || self.kept() <= self.limits.whole {
            return Ok(());
        }
        if let Err(error) = punch(&self.file, self.released_to, length) {
            tracing::info!(%error, path = %self.path.display(), "no holes here");
            self.holes = false;
            return Ok(());
        }
        self.released_to += length;
        self.released += length;
        // In blocks of 512 bytes, whatever the file system has. Some write to the disk what is to be released, and are
        // then slower than the writer.
        let allocated = self.file.metadata()?.blocks() * 512;
        if allocated > cap - lag {
            tracing::info!(allocated, path = %self.path.display(), "holes are not enough");
            self.holes = false;
            return self.cut();
        }
        Ok(())
    }

    /// Releases all of the file but its head, and with it what nobody has read.
    fn cut(&mut self) -> io::Result<()> {
        self.look()?;
        let head = self.limits.head.min(self.size);
        self.file.set_len(head)?;
        self.released += self.kept().saturating_sub(head);
        self.forget(head);
        Ok(())
    }

    /// Goes on with a file that was cut down to `size`.
    fn forget(&mut self, size: u64) {
        let unread = self.size.saturating_sub(self.position);
        if unread > 0 {
            self.skipped += unread;
            self.gap = true;
        }
        self.before += self.size - size;
        self.size = size;
        self.position = size;
        self.released_to = self.limits.head;
    }
}

/// What is left to read of a file, up to where it ended when this was made.
#[derive(Debug)]
pub struct Rest<'a> {
    follower: &'a mut Follower,
    end: u64,
    deadline: Instant,
}

impl Rest<'_> {
    /// The next bytes; none when all is read.
    ///
    /// # Errors
    /// When the file cannot be read or cut down.
    pub fn chunk(&mut self) -> io::Result<Option<Chunk<'_>>> {
        let left = self.end.saturating_sub(self.follower.position);
        if left > REJOIN && Instant::now() >= self.deadline {
            self.follower.skip_to(self.end - REJOIN);
        }
        let follower = &mut *self.follower;
        if let Some(length) = follower.read(self.end)? {
            return Ok(Some(Chunk {
                bytes: &follower.buffer[..length],
                after_gap: std::mem::take(&mut follower.gap),
            }));
        }
        follower.make_hole()?;
        if !follower.holes && follower.is_pressing() {
            follower.cut()?;
        }
        Ok(None)
    }
}

/// Makes a hole in a file.
#[cfg(target_os = "linux")]
fn punch(file: &File, offset: u64, length: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    loop {
        match fallocate(file, mode, offset, length) {
            Err(rustix::io::Errno::INTR) => {}
            punched => return Ok(punched?),
        }
    }
}

/// Makes a hole in a file.
#[cfg(not(target_os = "linux"))]
fn punch(_file: &File, _offset: u64, _length: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
