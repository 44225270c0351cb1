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
}

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
        Ok(Self { file: file.clone(), input, waiting: Bytes::new(), decoder: None, finished: false })
    }

    /// The next bytes; none at the end. `row` is the last complete row, for messages.
    pub(super) async fn next(&mut self, row: u64) -> Result<Option<Bytes>, SourceError> {
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
