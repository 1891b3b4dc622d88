//! Thumbnails that move: of GIF, WebP and animated PNG, all as GIF, which every client shows.

use std::{
    fs::File,
    io::{self, BufReader, Seek, Write},
};

use bytes::Bytes;
use image::{
    AnimationDecoder, DynamicImage, Frame, Frames, ImageDecoder, ImageFormat,
    codecs::{
        gif::{GifDecoder, GifEncoder, Repeat},
        png::PngDecoder,
        webp::WebPDecoder,
    },
};

use super::{
    Size,
    make::{PIXELS_MAX, limits, resize},
};

/// The most pictures. What has more is shown as a still image: at ten a second, half a minute is no thumbnail.
const FRAMES_MAX: usize = 300;
/// How hard the encoder looks for the best colours, from 1, slow, to 30.
const ENCODER_SPEED: i32 = 20;

/// The largest file. What would be larger is shown as a still image.
const OUTPUT_MAX_BYTES: usize = 4 * 1024 * 1024;

/// A moving thumbnail; `None` when the image does not move after all, is too much work, or cannot be read as one.
pub(super) fn make(file: &mut BufReader<File>, format: ImageFormat, size: Size) -> Option<Bytes> {
    file.rewind().ok()?;
    match format {
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(file).ok()?;
            decoder.set_limits(limits(format)).ok()?;
            smaller(decoder.into_frames(), size)
        }
        ImageFormat::WebP => {
            let mut decoder = WebPDecoder::new(file).ok()?;
            decoder.set_limits(limits(format)).ok()?;
            smaller(decoder.into_frames(), size)
        }
        // Its pictures, too, are made within what the decoder of PNG may allocate: larger ones stay still.
        ImageFormat::Png => {
            let decoder = PngDecoder::with_limits(file, limits(format)).ok()?;
            smaller(decoder.apng().ok()?.into_frames(), size)
        }
        _ => None,
    }
}

fn smaller(frames: Frames<'_>, size: Size) -> Option<Bytes> {
    let mut output = Output::default();
    let mut encoder = GifEncoder::new_with_speed(&mut output, ENCODER_SPEED);
    encoder.set_repeat(Repeat::Infinite).ok()?;
    let (mut count, mut pixels) = (0, 0);
    for frame in frames {
        // One that breaks off in the middle moves as far as it goes.
        let Ok(frame) = frame else { break };
        count += 1;
        pixels += u64::from(frame.buffer().width()) * u64::from(frame.buffer().height());
        if count > FRAMES_MAX || pixels > PIXELS_MAX * 2 {
            return None;
        }
        let delay = frame.delay();
        let image = resize(&DynamicImage::from(frame.into_buffer()), size);
        encoder.encode_frame(Frame::from_parts(image.to_rgba8(), 0, 0, delay)).ok()?;
    }
    drop(encoder);
    (count > 1 && !output.is_full).then(|| output.bytes.into())
}

/// What is written, as long as it is not too much.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    is_full: bool,
}

impl Write for Output {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.is_full || self.bytes.len() + piece.len() > OUTPUT_MAX_BYTES {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
