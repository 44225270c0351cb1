//! The bytes of a file, decompressed chunk by chunk.

use std::{io::Write, sync::Arc};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures::{StreamExt, stream::BoxStream};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};

use super::{SourceError, SourceFile};

/// Reads a file from its beginning. Compression is known by the first bytes, whatever the name says.
pub(super) struct Chunks {
    file: SourceFile,
    input: BoxStream<'static, object_store::Result<Bytes>>,
    decoder: Option<Decoder>,
    finished: bool,
}

enum Decoder {
    Plain,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zstd(zstd::stream::write::Decoder<'static, Vec<u8>>),
}

impl Chunks {
    pub(super) async fn open(store: &Arc<dyn ObjectStore>, file: &SourceFile) -> Result<Self, SourceError> {
        let refused = |source| SourceError::Store { file: file.url.clone(), source };
        let path = Path::parse(&file.location).map_err(|e| refused(e.into()))?;
        let input = store.get(&path).await.map_err(refused)?.into_stream();
        Ok(Self { file: file.clone(), input, decoder: None, finished: false })
    }

    /// The next bytes; none at the end. `row` is the last complete row, for messages.
    pub(super) async fn next(&mut self, row: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let damaged = |file: &SourceFile, e: std::io::Error| SourceError::Compression {
            file: file.url.clone(),
            row,
            problem: e.to_string(),
        };
        while !self.finished {
            let Some(chunk) = self.input.next().await else {
                self.finished = true;
                let rest = match self.decoder.take() {
                    Some(Decoder::Gzip(mut decoder)) => {
                        decoder.try_finish().map_err(|e| damaged(&self.file, e))?;
                        std::mem::take(decoder.get_mut())
                    }
                    Some(Decoder::Zstd(mut decoder)) => {
                        decoder.flush().map_err(|e| damaged(&self.file, e))?;
                        std::mem::take(decoder.get_mut())
                    }
                    _ => Vec::new(),
                };
                return Ok((!rest.is_empty()).then_some(rest));
            };
            let chunk = chunk.map_err(|source| SourceError::Store { file: self.file.url.clone(), source })?;
            let decoder = match &mut self.decoder {
                Some(decoder) => decoder,
                none => none.insert(Decoder::of(&chunk).map_err(|e| damaged(&self.file, e))?),
            };
            let plain = match decoder {
                Decoder::Plain => chunk.to_vec(),
                Decoder::Gzip(decoder) => {
                    decoder.write_all(&chunk).map_err(|e| damaged(&self.file, e))?;
                    std::mem::take(decoder.get_mut())
                }
                Decoder::Zstd(decoder) => {
                    decoder.write_all(&chunk).map_err(|e| damaged(&self.file, e))?;
                    std::mem::take(decoder.get_mut())
                }
            };
            if !plain.is_empty() {
                return Ok(Some(plain));
            }
        }
        Ok(None)
    }
}

impl Decoder {
    fn of(chunk: &[u8]) -> std::io::Result<Self> {
        Ok(match chunk {
            [0x1f, 0x8b, ..] => Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd(zstd::stream::write::Decoder::new(Vec::new())?),
            _ => Self::Plain,
        })
    }
}
