//! In: scalars and images with their step. Out: an event file of TensorBoard (`tensorboard/compat/proto/event.proto` and
//! `summary.proto`, in TFRecords), which W&B and SwanLab read too.

use crc::{CRC_32_ISCSI, Crc};

use super::protobuf::Message;

/// CRC-32C, by which TFRecords are checked.
const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// An event file that is being written. All its events have the same time and step.
#[derive(Debug)]
pub(crate) struct EventFile {
    bytes: Vec<u8>,
    wall_time: f64,
    step: u64,
}

impl EventFile {
    /// A file whose events are of `wall_time`, in seconds since 1970. Without the first record readers drop events whose
    /// step they have seen before.
    pub(crate) fn new(wall_time: f64, step: u64) -> Self {
        let mut file = Self { bytes: Vec::new(), wall_time, step };
        let version = Message::default().double(1, wall_time).bytes(3, "brain.Event:2");
        file.put(version);
        file
    }

    /// Adds scalars. A reader has them with the 24 bits of a float.
    pub(crate) fn scalars(&mut self, scalars: &[(String, f64)]) {
        let values = scalars
            .iter()
            .map(|(tag, value)| Message::default().bytes(1, tag).float(2, *value as f32));
        self.summary(values.collect());
    }

    /// Adds an RGB image, as the bytes of its PNG or JPEG file.
    pub(crate) fn image(&mut self, tag: &str, (width, height): (u32, u32), encoded: &[u8]) {
        let image = Message::default()
            .integer(1, height.into())
            .integer(2, width.into())
            .integer(3, RGB)
            .bytes(4, encoded);
        self.summary(vec![Message::default().bytes(1, tag).bytes(4, image)]);
    }

    /// The whole file.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn summary(&mut self, values: Vec<Message>) {
        let summary = values.into_iter().fold(Message::default(), |all, value| all.bytes(1, value));
        let event = Message::default().double(1, self.wall_time).integer(2, self.step);
        self.put(event.bytes(5, summary));
    }

    /// A TFRecord: the length and the bytes, each with its checksum.
    fn put(&mut self, event: Message) {
        let event = event.as_ref();
        let length = (event.len() as u64).to_le_bytes();
        self.bytes.extend(length);
        self.bytes.extend(masked_checksum(&length).to_le_bytes());
        self.bytes.extend(event);
        self.bytes.extend(masked_checksum(event).to_le_bytes());
    }
}

/// `colorspace` of an RGB image.
const RGB: u64 = 3;

/// The checksum as TFRecords store it, so that one of bytes that hold checksums stays useful.
fn masked_checksum(bytes: &[u8]) -> u32 {
    CHECKSUM.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that TensorBoard 2.21.0 writes of the same events, by `tests/fixtures/make_event_file.py`.
    #[test]
    fn the_bytes_are_those_of_tensorboards_own_writer() {
        let mut file = EventFile::new(1_764_000_000.0, 2000);
        file.scalars(&[
            ("dpg_bench_corrected/overall".into(), 85.25),
            ("dpg_bench_corrected/attribute - color".into(), 0.0),
        ]);
        file.image("images/a/1", (3, 2), b"\x89PNG");
        let expected = include_bytes!("../../tests/fixtures/events/of-tensorboard");
        assert_eq!(file.finish(), expected);
    }
}
