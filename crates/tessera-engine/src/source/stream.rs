//! The bytes of a file, decompressed piece by piece.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use bytes::{Buf, Bytes};
use flate2::write::MultiGzDecoder;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use object_store::{GetResult, GetResultPayload, ObjectStore, ObjectStoreExt, path::Path};
use zstd::stream::raw::{self, InBuffer, Operation, OutBuffer};

use super::{SourceError, SourceFile};

/// Compressed bytes of gzip that are taken at once: they give at most a thousand times as many.
const GZIP_PIECE: usize = 4 << 10;
/// Bytes of a local file that are read at once.
const FILE_PIECE: usize = 1 << 20;
/// Bytes by which a format is known.
const MAGIC: usize = 4;
/// Bytes that zstd gives at once.
const ZSTD_PIECE: usize = 256 << 10;

/// Reads a file from its beginning. Compression is known by the first bytes, whatever the name says. What comes at once is
/// bounded, however well it was compressed, and the end of a compressed file is only believed if it says so itself.
pub(super) struct Chunks {
    file: SourceFile,
    input: BoxStream<'static, object_store::Result<Bytes>>,
    /// Bytes of the file that are still to be decompressed.
    waiting: Bytes,
    decoder: Option<Decoder>,
    finished: bool,
    text: Text,
}

/// What the characters are, which the first two bytes of the plain file may say: two bytes each become UTF-8.
enum Text {
    /// The bytes so far.
    Unknown(Vec<u8>),
    /// They are taken as they are.
    AsItIs,
    Utf16(encoding_rs::Decoder),
    /// There are no more.
    Ended {
        utf16: bool,
    },
}

/// Stands, in what is made of UTF-16, for bytes that are no character: no UTF-8 has it, so that its row is known as a broken one.
const NO_CHARACTER: u8 = 0xFF;

enum Decoder {
    Plain,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zstd(Box<Zstd>),
}

struct Zstd {
    decoder: raw::Decoder<'static>,
    /// In the middle of a frame.
    open: bool,
    /// There is more where the last piece came from.
    full: bool,
}

/// The bytes of an object. Those of a local file come in large pieces: the store itself would ask a thread for every few kilobytes.
fn pieces(found: GetResult) -> BoxStream<'static, object_store::Result<Bytes>> {
    let left = found.meta.size;
    match found.payload {
        GetResultPayload::Stream(stream) => stream,
        GetResultPayload::File(file, _) => stream::try_unfold((file, left), |(mut file, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let read = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; FILE_PIECE.min(usize::try_from(left).unwrap_or(FILE_PIECE))];
                file.read_exact(&mut piece).map(|()| (file, piece))
            });
            let failed = |source| object_store::Error::Generic { store: "local file", source };
            let (file, piece) = read.await.map_err(|e| failed(e.into()))?.map_err(|e| failed(e.into()))?;
            let left = left - piece.len() as u64;
            Ok(Some((piece.into(), (file, left))))
        })
        .boxed(),
    }
}

impl Chunks {
    pub(super) async fn open(store: &Arc<dyn ObjectStore>, file: &SourceFile) -> Result<Self, SourceError> {
        let refused = |source| SourceError::Store { file: file.url.clone(), source };
        let path = Path::parse(&file.location).map_err(|e| refused(e.into()))?;
        let input = pieces(store.get(&path).await.map_err(refused)?);
        Ok(Self {
            file: file.clone(),
            input,
            waiting: Bytes::new(),
            decoder: None,
            finished: false,
            text: Text::Unknown(Vec::new()),
        })
    }

    /// Whether the file is UTF-16: what it gives is UTF-8.
    pub(super) fn was_utf16(&self) -> bool {
        matches!(self.text, Text::Utf16(_) | Text::Ended { utf16: true })
    }

    /// The next bytes; none at the end. `row` is the last complete row, for messages.
    pub(super) async fn next(&mut self, row: u64) -> Result<Option<Bytes>, SourceError> {
        loop {
            if let Text::Ended { .. } = self.text {
                return Ok(None);
            }
            let piece = self.plain(row).await?;
            let (last, piece) = (piece.is_none(), piece.unwrap_or_default());
            let piece = match &mut self.text {
                Text::AsItIs | Text::Ended { .. } => return Ok((!last).then_some(piece)),
                Text::Utf16(decoder) => utf8(decoder, &piece, last),
                Text::Unknown(first) => {
                    first.extend_from_slice(&piece);
                    if first.len() < 2 && !last {
                        continue;
                    }
                    let first = std::mem::take(first);
                    let decoder = match first.as_slice() {
                        [0xFF, 0xFE, ..] => Some(encoding_rs::UTF_16LE.new_decoder_with_bom_removal()),
                        [0xFE, 0xFF, ..] => Some(encoding_rs::UTF_16BE.new_decoder_with_bom_removal()),
                        _ => None,
                    };
                    match decoder {
                        Some(mut decoder) => {
                            let piece = utf8(&mut decoder, &first, last);
                            self.text = Text::Utf16(decoder);
                            piece
                        }
                        None => {
                            self.text = Text::AsItIs;
                            first.into()
                        }
                    }
                }
            };
            if last {
                self.text = Text::Ended { utf16: self.was_utf16() };
                return Ok((!piece.is_empty()).then_some(piece));
            }
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }

    async fn plain(&mut self, row: u64) -> Result<Option<Bytes>, SourceError> {
        while !self.finished {
            let full = matches!(&self.decoder, Some(Decoder::Zstd(zstd)) if zstd.full);
            // A network may bring the first bytes one by one.
            let unknown = self.decoder.is_none() && self.waiting.len() < MAGIC;
            if (self.waiting.is_empty() || unknown) && !full {
                match self.input.next().await {
                    Some(chunk) => {
                        let chunk =
                            chunk.map_err(|source| SourceError::Store { file: self.file.url.clone(), source })?;
                        self.waiting = match self.waiting.is_empty() {
                            true => chunk,
                            false => [&self.waiting[..], &chunk[..]].concat().into(),
                        };
                    }
                    None => self.finished = true,
                }
                if self.decoder.is_none() && self.waiting.len() < MAGIC && !self.finished {
                    continue;
                }
            }
            let piece = self.piece().map_err(|e| SourceError::Compression {
                file: self.file.url.clone(),
                row,
                problem: e.to_string(),
            })?;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    fn piece(&mut self) -> std::io::Result<Bytes> {
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => none.insert(Decoder::of(&self.waiting)?),
        };
        match decoder {
            Decoder::Plain => Ok(std::mem::take(&mut self.waiting)),
            Decoder::Gzip(decoder) => {
                let piece = self.waiting.split_to(self.waiting.len().min(GZIP_PIECE));
                decoder.write_all(&piece)?;
                if self.finished {
                    decoder.try_finish()?;
                }
                Ok(std::mem::take(decoder.get_mut()).into())
            }
            Decoder::Zstd(zstd) => {
                if self.finished {
                    return match zstd.open {
                        true => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)),
                        false => Ok(Bytes::new()),
                    };
                }
                if self.waiting.is_empty() && !zstd.full {
                    // Asked with nothing, the decoder says what a further frame would need.
                    return Ok(Bytes::new());
                }
                let mut plain = vec![0; ZSTD_PIECE];
                let mut input = InBuffer::around(&self.waiting);
                let mut output = OutBuffer::around(&mut plain);
                // What is left of a frame, 0 at its end.
                let left = zstd.decoder.run(&mut input, &mut output)?;
                let (read, written) = (input.pos(), output.pos());
                zstd.open = left > 0;
                zstd.full = written == ZSTD_PIECE;
                self.waiting.advance(read);
                plain.truncate(written);
                Ok(plain.into())
            }
        }
    }
}

/// UTF-16 as UTF-8.
fn utf8(decoder: &mut encoding_rs::Decoder, bytes: &[u8], last: bool) -> Bytes {
    let mut text = Vec::new();
    let mut rest = bytes;
    loop {
        let room = decoder.max_utf8_buffer_length_without_replacement(rest.len()).unwrap_or(rest.len() * 3 + 16);
        let written = text.len();
        text.resize(written + room, 0);
        let (result, read, wrote) = decoder.decode_to_utf8_without_replacement(rest, &mut text[written..], last);
        text.truncate(written + wrote);
        rest = &rest[read..];
        match result {
            encoding_rs::DecoderResult::InputEmpty => return text.into(),
            encoding_rs::DecoderResult::OutputFull => {}
            encoding_rs::DecoderResult::Malformed(..) => text.push(NO_CHARACTER),
        }
    }
}

impl Decoder {
    fn of(chunk: &[u8]) -> std::io::Result<Self> {
        Ok(match chunk {
            [0x1f, 0x8b, ..] => Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            // A frame, or one to be skipped before it (RFC 8878, section 3.1).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Self::Zstd(Box::new(Zstd { decoder: raw::Decoder::new()?, open: true, full: false }))
            }
            _ => Self::Plain,
        })
    }
}
