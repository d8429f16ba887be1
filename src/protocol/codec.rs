//! Messages to bytes and back: the only place that names bincode. Pure.
//!
//! Promises: whatever bytes come in, [`decode`] returns a message or a typed error, after work and memory bounded by
//! a small multiple of [`MAX_FRAME`]; whatever [`encode`] accepts, [`decode`] reads back. It does not know whose
//! message it is; that is checked by `link`.

use bincode::config::Config;
use bincode::error::DecodeError;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio_util::codec::LengthDelimitedCodec;

use super::message::{Envelope, PROTOCOL_VERSION};

/// The longest body of a frame, in bytes. A story file has at most 512 KiB, so a `start` always fits.
pub const MAX_FRAME: usize = 1024 * 1024;

/// How many bytes a decoder may claim. bincode claims the full width of an integer before it reads the shorter
/// variable-length form, so a frame of n bytes can claim up to 8 n; with a limit of [`MAX_FRAME`] some messages could
/// be encoded but not decoded. A claim is also what bounds an allocation, and 8 MiB, freed at once, does no harm.
const DECODE_LIMIT: usize = 8 * MAX_FRAME;

/// Why a message could not become bytes, or bytes not a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CodecError {
    /// Longer than a frame may be.
    #[error("a message of {size} bytes does not fit a frame of {MAX_FRAME}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// The sender speaks another version.
    #[error("protocol version {theirs} instead of {ours}")]
    Version {
        /// The sender's.
        theirs: u16,
        /// [`PROTOCOL_VERSION`].
        ours: u16,
    },
    /// The frame ends within the message.
    #[error("the frame ends within a message")]
    Truncated,
    /// The frame goes on after the message.
    #[error("{extra} bytes after the message")]
    Trailing {
        /// How many bytes.
        extra: usize,
    },
    /// A kind of message, or a value of an enumeration, that this version does not have.
    #[error("unknown variant: {0}")]
    UnknownVariant(String),
    /// A length within the frame that no frame can have.
    #[error("a length beyond any frame")]
    Length,
    /// A value that its type does not allow: text that is not UTF-8, an id that is none.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// The message cannot be written at all; a mistake in its type.
    #[error("a message cannot be encoded: {0}")]
    Encode(String),
}

/// How frames lie on a stream: a length of 4 bytes, big endian, and a body of at most [`MAX_FRAME`].
pub fn frame_codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .length_field_length(4)
        .big_endian()
        .max_frame_length(MAX_FRAME)
        .new_codec()
}

/// The body of the frame for a message.
///
/// # Errors
/// [`CodecError::TooLarge`] when it does not fit a frame.
pub fn encode<B: Serialize>(envelope: &Envelope<B>) -> Result<Bytes, CodecError> {
    let body = bincode::serde::encode_to_vec(envelope, config())
        .map_err(|error| CodecError::Encode(error.to_string()))?;
    if body.len() > MAX_FRAME {
        return Err(CodecError::TooLarge { size: body.len() });
    }
    Ok(body.into())
}

/// The message in the body of a frame. The version is read and checked before anything else.
///
/// # Errors
/// For anything but exactly one message of this version.
pub fn decode<B: DeserializeOwned>(frame: &[u8]) -> Result<Envelope<B>, CodecError> {
    if frame.len() > MAX_FRAME {
        return Err(CodecError::TooLarge { size: frame.len() });
    }
    let (theirs, _) = bincode::serde::decode_from_slice::<u16, _>(frame, config())
        .map_err(|error| typed(&error))?;
    if theirs != PROTOCOL_VERSION {
        return Err(CodecError::Version {
            theirs,
            ours: PROTOCOL_VERSION,
        });
    }
    let (envelope, consumed) =
        bincode::serde::decode_from_slice(frame, config()).map_err(|error| typed(&error))?;
    // bincode stops where the message ends and says nothing about what follows.
    match frame.len() - consumed {
        0 => Ok(envelope),
        extra => Err(CodecError::Trailing { extra }),
    }
}

/// Always with a limit: without one, a text that claims 2^40 bytes aborts the process.
fn config() -> impl Config {
    bincode::config::standard().with_limit::<DECODE_LIMIT>()
}

fn typed(error: &DecodeError) -> CodecError {
    match error {
        DecodeError::UnexpectedEnd { .. } => CodecError::Truncated,
        DecodeError::LimitExceeded | DecodeError::OutsideUsizeRange(_) => CodecError::Length,
        DecodeError::UnexpectedVariant { found, .. } => {
            CodecError::UnknownVariant(found.to_string())
        }
        // serde reports an unknown variant only as text, of which this is the fixed part.
        DecodeError::OtherString(text) if text.contains("variant index") => {
            CodecError::UnknownVariant(text.clone())
        }
        DecodeError::OtherString(text) => CodecError::Malformed(text.clone()),
        other => CodecError::Malformed(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bytes::{BufMut as _, BytesMut};
    use proptest::prelude::*;
    use tokio_util::codec::Decoder as _;

    use super::super::message::{
        Change, Claim, CommandRecord, Evidence, FromExecutor, Reason, ToExecutor,
    };
    use super::super::samples;
    use super::*;

    fn up(frame: &[u8]) -> Result<Envelope<FromExecutor>, CodecError> {
        decode(frame)
    }

    fn down(frame: &[u8]) -> Result<Envelope<ToExecutor>, CodecError> {
        decode(frame)
    }

    /// The bytes of an envelope up to its body, to which a test adds one of its own.
    fn header() -> Vec<u8> {
        let whole = encode(&samples::envelope(ToExecutor::HealthCheck { sequence: 0 })).unwrap();
        whole[..whole.len() - 2].to_vec()
    }

    /// A length of 2^40, as bincode writes it.
    fn bomb() -> Vec<u8> {
        let mut length = vec![253];
        length.put_u64_le(1 << 40);
        length
    }

    /// The version, which is one byte.
    fn ours() -> u8 {
        u8::try_from(PROTOCOL_VERSION).unwrap()
    }

    #[test]
    fn a_version_is_seen_whatever_else_has_changed() {
        for (frame, theirs) in [(&[1_u8, 0xff, 0xff][..], 1), (&[0], 0), (&[250], 250)] {
            let expected = CodecError::Version {
                theirs,
                ours: PROTOCOL_VERSION,
            };
            assert_eq!(up(frame), Err(expected));
        }
        assert_eq!(up(&[]), Err(CodecError::Truncated));
    }

    #[test]
    fn lengths_that_no_frame_can_have_are_refused_at_once() {
        let begun = Instant::now();
        // The text of a log line, the commands of a claim, the phases of a start.
        let log = [header(), vec![3, 1], bomb()].concat();
        assert_eq!(up(&log), Err(CodecError::Length));
        let commands = [header(), vec![5, 0, 0, 0, 1], bomb()].concat();
        assert_eq!(up(&commands), Err(CodecError::Truncated));
        let phases = [header(), vec![0; 14], bomb()].concat();
        assert_eq!(down(&phases), Err(CodecError::Truncated));
        let run = [vec![ours()], bomb()].concat();
        assert_eq!(up(&run), Err(CodecError::Length));
        assert!(begun.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn what_is_not_a_message_of_this_version_has_a_typed_error() {
        let unknown = [header(), vec![250]].concat();
        assert!(matches!(up(&unknown), Err(CodecError::UnknownVariant(_))));
        let unknown_claim = [header(), vec![5, 9]].concat();
        assert!(matches!(
            up(&unknown_claim),
            Err(CodecError::UnknownVariant(_))
        ));
        let not_text = [header(), vec![3, 1, 2, 0xff, 0xff]].concat();
        assert!(matches!(up(&not_text), Err(CodecError::Malformed(_))));
        let percent = [header(), vec![1, 4, 1, 101, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert!(matches!(up(&percent), Err(CodecError::Malformed(_))));
        let bad_run = vec![ours(), 1, b'x', 0];
        assert!(matches!(up(&bad_run), Err(CodecError::Malformed(_))));
        let trailing = [header(), vec![1, 5, 0]].concat();
        assert_eq!(down(&trailing), Err(CodecError::Trailing { extra: 1 }));
        let size = MAX_FRAME + 1;
        assert_eq!(up(&vec![1; size]), Err(CodecError::TooLarge { size }));
    }

    #[test]
    fn a_text_from_the_wire_is_clean_even_if_its_sender_was_not() {
        let dirty = [header(), vec![3, 1, 5], b"\x1b[1ma".to_vec()].concat();
        assert_eq!(up(&dirty).unwrap().body, samples::log("a"));
    }

    #[test]
    fn the_largest_message_that_is_encoded_is_decoded() {
        let room = MAX_FRAME
            - encode(&samples::envelope(samples::start("")))
                .unwrap()
                .len();
        let start = |text: usize| samples::envelope(samples::start(&"x".repeat(text)));
        // A length of that size takes 5 bytes instead of 1.
        let largest = start(room - 4);
        let frame = encode(&largest).unwrap();
        assert_eq!(frame.len(), MAX_FRAME);
        assert_eq!(down(&frame), Ok(largest));
        let size = MAX_FRAME + 1;
        assert_eq!(encode(&start(room - 3)), Err(CodecError::TooLarge { size }));

        // Many small numbers claim most while they are decoded.
        let command = CommandRecord {
            command: Reason::new(""),
            exit_code: 0,
            duration_ms: 0,
        };
        let claim = samples::envelope(FromExecutor::Complete(Claim::Succeeded(Evidence {
            head: String::new(),
            base: String::new(),
            change: Change::Nothing,
            commands: vec![command; 340_000],
        })));
        assert_eq!(up(&encode(&claim).unwrap()), Ok(claim));
    }

    #[test]
    fn a_header_beyond_the_limit_is_refused_before_any_body() {
        let mut codec = frame_codec();
        let mut stream = BytesMut::from(&0x0010_0001_u32.to_be_bytes()[..]);
        assert!(codec.decode(&mut stream).is_err());
        let mut codec = frame_codec();
        let mut stream = BytesMut::from(&0x0010_0000_u32.to_be_bytes()[..]);
        assert!(codec.decode(&mut stream).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn what_an_executor_says_is_read_as_it_was_said(
            envelope in samples::any_envelope(samples::any_from_executor()),
        ) {
            prop_assert_eq!(up(&encode(&envelope).unwrap()), Ok(envelope));
        }

        #[test]
        fn what_an_orchestrator_says_is_read_as_it_was_said(
            envelope in samples::any_envelope(samples::any_to_executor()),
        ) {
            prop_assert_eq!(down(&encode(&envelope).unwrap()), Ok(envelope));
        }

        #[test]
        fn a_message_cut_anywhere_is_an_error(
            from in samples::any_envelope(samples::any_from_executor()),
            to in samples::any_envelope(samples::any_to_executor()),
        ) {
            let frame = encode(&from).unwrap();
            for end in 0..frame.len() {
                prop_assert!(up(&frame[..end]).is_err());
            }
            let frame = encode(&to).unwrap();
            for end in 0..frame.len() {
                prop_assert!(down(&frame[..end]).is_err());
            }
        }

        #[test]
        fn a_flipped_byte_never_panics(
            from in samples::any_envelope(samples::any_from_executor()),
            to in samples::any_envelope(samples::any_to_executor()),
            flip in 1_u8..=255,
        ) {
            for frame in [encode(&from).unwrap(), encode(&to).unwrap()] {
                for at in 0..frame.len() {
                    let mut damaged = frame.to_vec();
                    damaged[at] ^= flip;
                    // Either answer is right; a text may still be a text.
                    drop((up(&damaged), down(&damaged)));
                }
            }
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            after_header in any::<bool>(),
        ) {
            let frame = if after_header { [header(), bytes].concat() } else { bytes };
            drop((up(&frame), down(&frame)));
        }
    }
}
