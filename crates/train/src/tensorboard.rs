//! TensorBoard event files: TFRecord frames around hand-written protobuf messages.
//!
//! A frame is `length u64 | masked crc32c of the length | bytes | masked crc32c of the bytes`, all
//! little-endian. Messages: `tensorflow/core/util/event.proto` and `framework/summary.proto`; only
//! the fields written here are known here. A resumed run writes its file anew from the records.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use crate::metrics::Record;
use crate::run_dir::RunDirError;

/// An open event file.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    out: BufWriter<File>,
}

impl EventFile {
    /// Creates the file, replacing one that was there, with its version header.
    pub fn create(path: impl Into<PathBuf>, wall_s: f64) -> Result<Self, RunDirError> {
        let path = path.into();
        let file = File::create(&path).map_err(|source| RunDirError::File {
            path: path.clone(),
            doing: "create",
            source,
        })?;
        let mut events = EventFile { path, out: BufWriter::new(file) };
        let mut event = Message::default();
        event.double(1, wall_s).bytes(3, b"brain.Event:2");
        events.append(&event.0)?;
        Ok(events)
    }

    /// Writes every finite figure of a record as the scalar `stage/name`.
    ///
    /// `wall_s`: seconds since 1970.
    pub fn write(&mut self, record: &Record, wall_s: f64) -> Result<(), RunDirError> {
        let mut summary = Message::default();
        for (name, value) in record.values.iter().filter(|(_, value)| value.is_finite()) {
            let mut scalar = Message::default();
            let tag = format!("{}/{name}", record.stage);
            scalar.bytes(1, tag.as_bytes()).float(2, *value as f32);
            summary.bytes(1, &scalar.0);
        }
        self.append_event(record.step, wall_s, &summary)
    }

    /// Writes a text, shown as Markdown, under a tag such as `r1-zero/sample`.
    pub fn write_text(
        &mut self,
        tag: &str,
        step: u64,
        text: &str,
        wall_s: f64,
    ) -> Result<(), RunDirError> {
        const DT_STRING: u64 = 7;
        let (mut dim, mut shape, mut tensor) = <(Message, Message, Message)>::default();
        dim.varint(1, 1);
        shape.bytes(2, &dim.0);
        tensor.varint(1, DT_STRING).bytes(2, &shape.0).bytes(8, text.as_bytes());
        let (mut plugin, mut metadata) = <(Message, Message)>::default();
        plugin.bytes(1, b"text");
        metadata.bytes(1, &plugin.0);
        let (mut value, mut summary) = <(Message, Message)>::default();
        value.bytes(1, tag.as_bytes()).bytes(8, &tensor.0).bytes(9, &metadata.0);
        summary.bytes(1, &value.0);
        self.append_event(step, wall_s, &summary)
    }

    /// Hands what is buffered to the system.
    pub fn flush(&mut self) -> Result<(), RunDirError> {
        self.out.flush().map_err(|source| RunDirError::File {
            path: self.path.clone(),
            doing: "write",
            source,
        })
    }

    fn append_event(
        &mut self,
        step: u64,
        wall_s: f64,
        summary: &Message,
    ) -> Result<(), RunDirError> {
        let mut event = Message::default();
        event.double(1, wall_s).varint(2, step).bytes(5, &summary.0);
        self.append(&event.0)
    }

    fn append(&mut self, data: &[u8]) -> Result<(), RunDirError> {
        let length = (data.len() as u64).to_le_bytes();
        let mut write = || -> std::io::Result<()> {
            self.out.write_all(&length)?;
            self.out.write_all(&masked_crc32c(&length).to_le_bytes())?;
            self.out.write_all(data)?;
            self.out.write_all(&masked_crc32c(data).to_le_bytes())
        };
        write().map_err(|source| RunDirError::File {
            path: self.path.clone(),
            doing: "write",
            source,
        })
    }
}

/// A protobuf message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn key(&mut self, field: u32, wire_type: u32) {
        self.raw_varint(u64::from(field << 3 | wire_type));
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u32, value: u64) -> &mut Self {
        self.key(field, 0);
        self.raw_varint(value);
        self
    }

    fn double(&mut self, field: u32, value: f64) -> &mut Self {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) -> &mut Self {
        self.key(field, 2);
        self.raw_varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn float(&mut self, field: u32, value: f32) -> &mut Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }
}

/// CRC-32C rotated and shifted by a constant, as TFRecord stores it.
fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0u32, |crc, byte| CRC_TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ crc >> 8)
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut idx = 0;
    while idx < 256 {
        let mut crc = idx as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[idx] = crc;
        idx += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of a message: number, and the bytes or the number as bytes.
    fn fields(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let n_bytes = match key & 7 {
                0 => {
                    let value = varint(&mut bytes);
                    found.push(((key >> 3) as u32, value.to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                2 => varint(&mut bytes) as usize,
                5 => 4,
                other => panic!("wire type {other}"),
            };
            found.push(((key >> 3) as u32, bytes[..n_bytes].to_vec()));
            bytes = &bytes[n_bytes..];
        }
        found
    }

    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    fn field(bytes: &[u8], number: u32) -> Vec<u8> {
        fields(bytes).into_iter().find(|(n, _)| *n == number).expect("the field is there").1
    }

    /// Takes the file apart, checking both sums of every frame.
    fn frames(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let n_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            assert_eq!(bytes[8..12], masked_crc32c(&bytes[..8]).to_le_bytes());
            let data = &bytes[12..12 + n_bytes];
            assert_eq!(bytes[12 + n_bytes..16 + n_bytes], masked_crc32c(data).to_le_bytes());
            found.push(data.to_vec());
            bytes = &bytes[16 + n_bytes..];
        }
        found
    }

    #[test]
    fn checksum_is_castagnoli() {
        // The check value of CRC-32C (RFC 3720 and the CRC catalogue).
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn file_decodes_to_what_was_written() {
        let path = std::env::temp_dir().join(format!("fathom-events-{}", std::process::id()));
        let mut events = EventFile::create(&path, 5.0).unwrap();
        let values = [("loss", 1.5), ("broken", f64::INFINITY), ("reward", 0.25)];
        events.write(&Record::new("base", 300, &values), 6.0).unwrap();
        events.write_text("base/sample", 2, "猜 `x`", 7.0).unwrap();
        events.flush().unwrap();
        let frames = frames(&std::fs::read(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(frames.len(), 3);
        assert_eq!(field(&frames[0], 3), b"brain.Event:2");
        assert_eq!(field(&frames[0], 1), 5.0_f64.to_le_bytes());
        assert_eq!(field(&frames[1], 2), 300_u64.to_le_bytes());
        let scalars: Vec<(Vec<u8>, Vec<u8>)> = fields(&field(&frames[1], 5))
            .iter()
            .map(|(_, value)| (field(value, 1), field(value, 2)))
            .collect();
        assert_eq!(
            scalars,
            [
                (b"base/loss".to_vec(), 1.5_f32.to_le_bytes().to_vec()),
                (b"base/reward".to_vec(), 0.25_f32.to_le_bytes().to_vec())
            ]
        );
        let text = field(&field(&frames[2], 5), 1);
        assert_eq!(field(&text, 1), b"base/sample");
        assert_eq!(field(&field(&text, 8), 8), "猜 `x`".as_bytes());
        assert_eq!(field(&field(&field(&text, 9), 1), 1), b"text");
    }
}
