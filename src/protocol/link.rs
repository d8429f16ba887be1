//! A typed channel of messages between one orchestrator and one executor, whatever carries its frames.
//!
//! Promises: a message that [`LinkReader::next`] returns belongs to this run, story and attempt, and comes after all
//! that were returned before; a stream that ends between two frames is the end, one that ends within a frame is an
//! error. It knows no deadlines: whoever waits here sets one. It does not answer, retry or reconnect.

use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use futures_util::{Sink, SinkExt, Stream, StreamExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::codec::{Decoder, FramedRead, FramedWrite, LengthDelimitedCodec};

use super::codec::{CodecError, MAX_FRAME, decode, encode, frame_codec};
use super::message::{Envelope, FromExecutor, Hello, Label, PROTOCOL_VERSION, ToExecutor};
use crate::engine::{AttemptNumber, RunId};
use crate::story::StoryId;

/// Whose messages a link carries; every other one is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The run.
    pub run: RunId,
    /// The story.
    pub story: StoryId,
    /// The attempt at it.
    pub attempt: AttemptNumber,
}

/// Why a link cannot go on.
#[derive(Debug, Error)]
pub enum LinkError {
    /// A frame that is not a message of this version, or a message that does not fit a frame.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A frame announced as longer than [`MAX_FRAME`].
    #[error("a frame of more than {MAX_FRAME} bytes was announced")]
    FrameTooLarge,
    /// A message of another run.
    #[error("a message of run {theirs} instead of {ours}")]
    OtherRun {
        /// The message's.
        theirs: RunId,
        /// The link's.
        ours: RunId,
    },
    /// A message of another story.
    #[error("a message of story {theirs} instead of {ours}")]
    OtherStory {
        /// The message's.
        theirs: StoryId,
        /// The link's.
        ours: StoryId,
    },
    /// A message of another attempt.
    #[error("a message of attempt {theirs} instead of {ours}")]
    OtherAttempt {
        /// The message's.
        theirs: AttemptNumber,
        /// The link's.
        ours: AttemptNumber,
    },
    /// A message that was sent before one that has been read.
    #[error("message {received} after message {previous}")]
    Sequence {
        /// The number of the last message read.
        previous: u64,
        /// The number that does not rise above it.
        received: u64,
    },
    /// The first message is not `hello`.
    #[error("the first message is not hello")]
    NotHello,
    /// The stream ended before `hello`.
    #[error("the link was closed before hello")]
    NoHello,
    /// `hello` comes from another process.
    #[error("hello from process {theirs} instead of {expected}")]
    OtherProcess {
        /// The process that it names.
        theirs: u32,
        /// The process that was started.
        expected: u32,
    },
    /// The stream ended within a frame: the other side was killed while it wrote.
    #[error("the link was closed within a frame")]
    Truncated,
    /// The other side is gone; nothing more can be sent. What it sent before can still be read.
    #[error("the other side of the link is gone")]
    Closed,
    /// Reading or writing failed.
    #[error("the link failed")]
    Io(#[source] io::Error),
}

impl LinkError {
    /// Whether the other side broke the protocol, rather than died, went away or met a failure of the system.
    pub fn is_violation(&self) -> bool {
        !matches!(
            self,
            Self::NoHello | Self::Truncated | Self::Closed | Self::Io(_)
        )
    }
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        if is_gone(&error) {
            Self::Closed
        } else {
            Self::Io(error)
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionReset | ConnectionAborted | NotConnected
    )
}

type FrameStream = Pin<Box<dyn Stream<Item = Result<BytesMut, LinkError>> + Send>>;
type FrameSink = Pin<Box<dyn Sink<Bytes, Error = LinkError> + Send>>;

/// Both directions of a channel on which `In` arrives and `Out` is sent.
pub struct Link<In, Out> {
    reader: LinkReader<In>,
    writer: LinkWriter<Out>,
}

/// The orchestrator's end.
pub type OrchestratorLink = Link<FromExecutor, ToExecutor>;

/// The executor's end.
pub type ExecutorLink = Link<ToExecutor, FromExecutor>;

impl<In, Out> Link<In, Out> {
    /// A link over a byte stream. The stream is closed when reader and writer are both dropped.
    pub fn new<T>(io: T, fence: Fence) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = tokio::io::split(io);
        let frames = FramedRead::new(ResetIsEnd(read), FrameDecoder::new());
        let sink = FramedWrite::new(write, frame_codec());
        let sink = SinkExt::<Bytes>::sink_map_err(sink, LinkError::from);
        Self::from_frames(frames, sink, fence)
    }

    /// A link over something that carries whole frames.
    pub fn from_frames<S, K>(frames: S, sink: K, fence: Fence) -> Self
    where
        S: Stream<Item = Result<BytesMut, LinkError>> + Send + 'static,
        K: Sink<Bytes, Error = LinkError> + Send + 'static,
    {
        Self {
            reader: LinkReader {
                frames: Box::pin(frames),
                fence: fence.clone(),
                last: 0,
                ended: false,
                messages: PhantomData,
            },
            writer: LinkWriter {
                sink: Box::pin(sink),
                fence,
                last: 0,
                messages: PhantomData,
            },
        }
    }

    /// The two directions, to be used by different tasks.
    pub fn split(self) -> (LinkReader<In>, LinkWriter<Out>) {
        (self.reader, self.writer)
    }
}

/// The receiving end.
pub struct LinkReader<In> {
    frames: FrameStream,
    fence: Fence,
    /// The sequence number of the last message; they begin with 1.
    last: u64,
    ended: bool,
    messages: PhantomData<fn() -> In>,
}

impl<In: DeserializeOwned> LinkReader<In> {
    /// The next message; none when the other side has closed the link between two frames, and ever after an error.
    ///
    /// Cancel-safe: the only wait is for the next frame, a part of which stays in the buffer of the stream, and a
    /// frame that has been taken is decoded and returned without another wait.
    ///
    /// # Errors
    /// For everything that ends the link; see [`LinkError::is_violation`].
    pub async fn next(&mut self) -> Result<Option<In>, LinkError> {
        if self.ended {
            return Ok(None);
        }
        let message = match self.frames.next().await {
            Some(Ok(frame)) => self.open(&frame).map(Some),
            Some(Err(error)) => Err(error),
            None => Ok(None),
        };
        self.ended = !matches!(message, Ok(Some(_)));
        message
    }

    fn open(&mut self, frame: &[u8]) -> Result<In, LinkError> {
        let envelope = decode::<In>(frame)?;
        if envelope.run != self.fence.run {
            return Err(LinkError::OtherRun {
                theirs: envelope.run,
                ours: self.fence.run.clone(),
            });
        }
        if envelope.story != self.fence.story {
            return Err(LinkError::OtherStory {
                theirs: envelope.story,
                ours: self.fence.story.clone(),
            });
        }
        if envelope.attempt != self.fence.attempt {
            return Err(LinkError::OtherAttempt {
                theirs: envelope.attempt,
                ours: self.fence.attempt,
            });
        }
        if envelope.sequence <= self.last {
            return Err(LinkError::Sequence {
                previous: self.last,
                received: envelope.sequence,
            });
        }
        self.last = envelope.sequence;
        Ok(envelope.body)
    }
}

/// The sending end.
pub struct LinkWriter<Out> {
    sink: FrameSink,
    fence: Fence,
    last: u64,
    messages: PhantomData<fn(Out)>,
}

impl<Out: Serialize> LinkWriter<Out> {
    /// Sends a message and waits until the transport has taken all of it.
    ///
    /// When the wait is given up, the message may or may not be sent, but never a part of it: what the transport has
    /// not taken stays buffered and goes before the next message.
    ///
    /// # Errors
    /// [`LinkError::Codec`] for a message that does not fit a frame, after which the link is as before;
    /// [`LinkError::Closed`] when the other side is gone, which by itself is no failure: what it said before counts.
    pub async fn send(&mut self, body: Out) -> Result<(), LinkError> {
        let envelope = Envelope {
            version: PROTOCOL_VERSION,
            run: self.fence.run.clone(),
            story: self.fence.story.clone(),
            attempt: self.fence.attempt,
            sequence: self.last + 1,
            sent_at_ms: wall_clock_ms(),
            body,
        };
        let frame = encode(&envelope)?;
        self.last = envelope.sequence;
        self.sink.send(frame).await
    }
}

/// Introduces the executor; its first message.
///
/// # Errors
/// As [`LinkWriter::send`].
pub async fn send_hello(
    writer: &mut LinkWriter<FromExecutor>,
    pid: u32,
    binary_version: &str,
) -> Result<(), LinkError> {
    let hello = Hello {
        pid,
        protocol_version: PROTOCOL_VERSION,
        binary_version: Label::new(binary_version),
    };
    writer.send(FromExecutor::Hello(hello)).await
}

/// Waits for the introduction of the executor that was started as process `expected_pid`. The deadline is the
/// caller's.
///
/// # Errors
/// When the first message is anything else, or does not come.
pub async fn expect_hello(
    reader: &mut LinkReader<FromExecutor>,
    expected_pid: u32,
) -> Result<Hello, LinkError> {
    let hello = match reader.next().await? {
        Some(FromExecutor::Hello(hello)) => hello,
        Some(_) => return Err(LinkError::NotHello),
        None => return Err(LinkError::NoHello),
    };
    if hello.protocol_version != PROTOCOL_VERSION {
        return Err(LinkError::Codec(CodecError::Version {
            theirs: hello.protocol_version,
            ours: PROTOCOL_VERSION,
        }));
    }
    if hello.pid != expected_pid {
        return Err(LinkError::OtherProcess {
            theirs: hello.pid,
            expected: expected_pid,
        });
    }
    Ok(hello)
}

fn wall_clock_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// A reader for which a reset is the end of the stream. A local socket reports a reset, once everything that arrived
/// was read, when the other side went away without reading all that was sent to it: an executor that ends while a
/// health check is on its way is not a failure.
struct ResetIsEnd<R>(R);

impl<R: AsyncRead + Unpin> AsyncRead for ResetIsEnd<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.0).poll_read(context, buffer)) {
            Err(error) if is_gone(&error) => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}

/// The frame codec with typed errors. By itself it takes a stream that ends right after a frame's header for one that
/// ended between two frames, because the header is out of the buffer by then.
struct FrameDecoder {
    codec: LengthDelimitedCodec,
    within_frame: bool,
}

impl FrameDecoder {
    fn new() -> Self {
        Self {
            codec: frame_codec(),
            within_frame: false,
        }
    }
}

impl Decoder for FrameDecoder {
    type Item = BytesMut;
    type Error = LinkError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<BytesMut>, LinkError> {
        let before = buffer.len();
        let frame = match self.codec.decode(buffer) {
            Ok(frame) => frame,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(LinkError::FrameTooLarge);
            }
            Err(error) => return Err(error.into()),
        };
        self.within_frame = frame.is_none() && (self.within_frame || buffer.len() < before);
        Ok(frame)
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> Result<Option<BytesMut>, LinkError> {
        match self.decode(buffer)? {
            None if self.within_frame || !buffer.is_empty() => Err(LinkError::Truncated),
            frame => Ok(frame),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::io::DuplexStream;

    use super::super::samples;
    use super::*;

    fn check(sequence: u64) -> ToExecutor {
        ToExecutor::HealthCheck { sequence }
    }

    fn frame(sequence: u64, fence: &Fence, body: FromExecutor) -> Vec<u8> {
        let envelope = Envelope {
            version: PROTOCOL_VERSION,
            run: fence.run.clone(),
            story: fence.story.clone(),
            attempt: fence.attempt,
            sequence,
            sent_at_ms: 0,
            body,
        };
        framed(&encode(&envelope).unwrap())
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&length, body].concat()
    }

    fn reader_of(bytes: &[u8]) -> LinkReader<FromExecutor> {
        let (far, near): (DuplexStream, DuplexStream) = tokio::io::duplex(1 << 21);
        let mut far = far;
        let mut write = Box::pin(far.write_all(bytes));
        let waker = std::task::Waker::noop();
        assert!(
            write
                .as_mut()
                .poll(&mut Context::from_waker(waker))
                .is_ready()
        );
        drop(write);
        drop(far);
        OrchestratorLink::new(near, samples::fence()).split().0
    }

    async fn read_all(bytes: &[u8]) -> (Vec<FromExecutor>, Option<LinkError>) {
        let mut reader = reader_of(bytes);
        let mut messages = Vec::new();
        loop {
            match reader.next().await {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => return (messages, None),
                Err(error) => {
                    assert!(matches!(reader.next().await, Ok(None)));
                    return (messages, Some(error));
                }
            }
        }
    }

    #[tokio::test]
    async fn messages_go_both_ways_in_order() {
        let (a, b) = tokio::io::duplex(64);
        let (mut up_in, mut down_out) = OrchestratorLink::new(a, samples::fence()).split();
        let (mut down_in, mut up_out) = ExecutorLink::new(b, samples::fence()).split();
        let executor = async {
            send_hello(&mut up_out, 77, "0.1.0").await.unwrap();
            for sequence in 1..=20 {
                assert_eq!(down_in.next().await.unwrap(), Some(check(sequence)));
                up_out.send(samples::log("x")).await.unwrap();
            }
            drop((down_in, up_out));
        };
        let orchestrator = async {
            let hello = expect_hello(&mut up_in, 77).await.unwrap();
            assert_eq!(hello.binary_version.as_str(), "0.1.0");
            for sequence in 1..=20 {
                down_out.send(check(sequence)).await.unwrap();
                assert_eq!(up_in.next().await.unwrap(), Some(samples::log("x")));
            }
            assert_eq!(up_in.next().await.unwrap(), None);
            assert!(matches!(
                down_out.send(check(21)).await,
                Err(LinkError::Closed)
            ));
        };
        tokio::join!(executor, orchestrator);
    }

    #[tokio::test]
    async fn each_violation_has_its_error_and_what_came_before_it_is_read() {
        let fence = samples::fence();
        let other_run = Fence {
            run: RunId::new("20260101-000000", 9).unwrap(),
            ..fence.clone()
        };
        let other_story = Fence {
            story: StoryId::from_number(9),
            ..fence.clone()
        };
        let older = Fence {
            attempt: AttemptNumber::FIRST,
            ..fence.clone()
        };
        let good = frame(5, &fence, samples::log("x"));
        let after_good = |rest: Vec<u8>| [good.clone(), rest].concat();
        let outcome = async |bytes: Vec<u8>| {
            let (messages, error) = read_all(&bytes).await;
            assert_eq!(messages.len(), 1);
            error.expect("a violation")
        };
        let log = || samples::log("y");

        let error = outcome(after_good(frame(6, &other_run, log()))).await;
        assert!(matches!(error, LinkError::OtherRun { .. }) && error.is_violation());
        let error = outcome(after_good(frame(6, &other_story, log()))).await;
        assert!(matches!(error, LinkError::OtherStory { .. }) && error.is_violation());
        let error = outcome(after_good(frame(6, &older, log()))).await;
        assert!(matches!(error, LinkError::OtherAttempt { .. }) && error.is_violation());
        let error = outcome(after_good(frame(5, &fence, log()))).await;
        assert!(matches!(
            error,
            LinkError::Sequence {
                previous: 5,
                received: 5
            }
        ));
        let error = outcome(after_good(framed(&[1, 0, 0]))).await;
        assert!(matches!(
            error,
            LinkError::Codec(CodecError::Version { theirs: 1, ours: 5 })
        ));
        let error = outcome(after_good(framed(&[]))).await;
        assert!(matches!(error, LinkError::Codec(CodecError::Truncated)));
        let error = outcome(after_good(vec![0x00, 0x10, 0x00, 0x01])).await;
        assert!(matches!(error, LinkError::FrameTooLarge) && error.is_violation());
    }

    #[tokio::test]
    async fn a_stream_that_ends_within_a_frame_is_told_from_one_that_ends_between_two() {
        let whole = frame(1, &samples::fence(), samples::log("x"));
        let two = [
            whole.clone(),
            frame(2, &samples::fence(), samples::log("y")),
        ]
        .concat();
        for end in 0..=two.len() {
            let (messages, error) = read_all(&two[..end]).await;
            assert_eq!(
                messages.len(),
                usize::from(end >= whole.len()) + usize::from(end == two.len())
            );
            if end == 0 || end == whole.len() || end == two.len() {
                assert!(error.is_none(), "clean end at {end}");
            } else {
                assert!(matches!(error, Some(LinkError::Truncated)), "cut at {end}");
            }
        }
    }

    #[tokio::test]
    async fn an_executor_that_leaves_with_mail_unread_is_at_its_end_and_not_an_error() {
        let (near, far) = tokio::net::UnixStream::pair().unwrap();
        let (mut reader, mut writer) = OrchestratorLink::new(near, samples::fence()).split();
        let (far_reader, mut far_writer) = ExecutorLink::new(far, samples::fence()).split();
        writer.send(check(1)).await.unwrap();
        far_writer.send(samples::log("bye")).await.unwrap();
        drop((far_reader, far_writer));
        assert_eq!(reader.next().await.unwrap(), Some(samples::log("bye")));
        assert_eq!(reader.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn hello_must_be_first_and_from_the_right_process() {
        let fence = samples::fence();
        let hello = |pid, protocol_version| {
            FromExecutor::Hello(Hello {
                pid,
                protocol_version,
                binary_version: Label::new("1"),
            })
        };
        let result = async |bytes: Vec<u8>| expect_hello(&mut reader_of(&bytes), 7).await;
        assert!(
            result(frame(1, &fence, hello(7, PROTOCOL_VERSION)))
                .await
                .is_ok()
        );
        let error = result(frame(1, &fence, hello(8, PROTOCOL_VERSION)))
            .await
            .unwrap_err();
        assert!(matches!(
            error,
            LinkError::OtherProcess {
                theirs: 8,
                expected: 7
            }
        ));
        let error = result(frame(1, &fence, hello(7, PROTOCOL_VERSION + 1)))
            .await
            .unwrap_err();
        assert!(matches!(
            error,
            LinkError::Codec(CodecError::Version { .. })
        ));
        let error = result(frame(1, &fence, samples::log("x")))
            .await
            .unwrap_err();
        assert!(matches!(error, LinkError::NotHello));
        let error = result(Vec::new()).await.unwrap_err();
        assert!(matches!(error, LinkError::NoHello) && !error.is_violation());
    }

    #[tokio::test]
    async fn a_message_that_does_not_fit_is_refused_and_the_link_goes_on() {
        let (a, b) = tokio::io::duplex(1 << 21);
        let (_keep, mut writer) = OrchestratorLink::new(a, samples::fence()).split();
        let (mut reader, _keep_too) = ExecutorLink::new(b, samples::fence()).split();
        let big = samples::start(&"x".repeat(MAX_FRAME));
        assert!(matches!(
            writer.send(big).await,
            Err(LinkError::Codec(CodecError::TooLarge { .. }))
        ));
        let fits = samples::start(&"x".repeat(512 * 1024));
        writer.send(fits.clone()).await.unwrap();
        assert_eq!(reader.next().await.unwrap(), Some(fits));
    }

    #[tokio::test(start_paused = true)]
    async fn giving_up_a_read_in_mid_frame_loses_nothing() {
        let (mut far, near) = tokio::io::duplex(1024);
        let (mut reader, _writer) = OrchestratorLink::new(near, samples::fence()).split();
        let bytes = frame(1, &samples::fence(), samples::log("whole"));
        for byte in &bytes[..bytes.len() - 1] {
            far.write_all(&[*byte]).await.unwrap();
            let read = tokio::time::timeout(Duration::from_millis(1), reader.next());
            assert!(read.await.is_err());
        }
        far.write_all(&bytes[bytes.len() - 1..]).await.unwrap();
        assert_eq!(reader.next().await.unwrap(), Some(samples::log("whole")));
    }

    proptest! {
        #[test]
        fn frames_split_anywhere_are_the_same_frames(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8),
            pieces in prop::collection::vec(1_usize..20, 1..100),
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
            let mut decoder = FrameDecoder::new();
            let mut buffer = BytesMut::new();
            let mut frames = Vec::new();
            let (mut rest, mut sizes) = (&stream[..], pieces.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                buffer.extend_from_slice(piece);
                rest = after;
                while let Some(frame) = decoder.decode(&mut buffer).unwrap() {
                    frames.push(frame.to_vec());
                }
            }
            prop_assert!(decoder.decode_eof(&mut buffer).unwrap().is_none());
            prop_assert_eq!(frames, bodies);
        }

        #[test]
        fn any_bytes_on_the_stream_end_in_an_error_or_the_end(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (messages, _) = runtime.block_on(read_all(&bytes));
            prop_assert!(messages.is_empty());
        }
    }
}
