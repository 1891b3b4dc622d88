//! Thumbnails that move: GIF and WebP, both as GIF, which every client shows. Animated PNG is a still image here.

use std::{
    fs::File,
    io::{BufReader, Seek},
};

use bytes::Bytes;
use image::{
    AnimationDecoder, DynamicImage, Frame, Frames, ImageDecoder, ImageFormat,
    codecs::{
        gif::{GifDecoder, GifEncoder, Repeat},
        webp::WebPDecoder,
    },
};

use super::{
    Size, ThumbnailError,
    make::{PIXELS_MAX, limits, refused, resize},
};

/// The most pictures. What has more is shown as a still image: at ten a second, half a minute is no thumbnail.
const FRAMES_MAX: usize = 300;
/// How hard the encoder looks for the best colours, from 1, slow, to 30.
const ENCODER_SPEED: i32 = 20;

/// A moving thumbnail; `None` when the image does not move after all, or is too much work.
pub(super) fn make(
    file: &mut BufReader<File>,
    format: ImageFormat,
    size: Size,
) -> Result<Option<Bytes>, ThumbnailError> {
    file.rewind().map_err(|error| ThumbnailError::Unreadable(error.into()))?;
    match format {
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(file).map_err(refused)?;
            decoder.set_limits(limits()).map_err(refused)?;
            smaller(decoder.into_frames(), size)
        }
        ImageFormat::WebP => {
            let mut decoder = WebPDecoder::new(file).map_err(refused)?;
            decoder.set_limits(limits()).map_err(refused)?;
            smaller(decoder.into_frames(), size)
        }
        _ => Ok(None),
    }
}

fn smaller(frames: Frames<'_>, size: Size) -> Result<Option<Bytes>, ThumbnailError> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(&mut bytes, ENCODER_SPEED);
    encoder.set_repeat(Repeat::Infinite).map_err(refused)?;
    let (mut count, mut pixels) = (0, 0);
    for frame in frames {
        // One that breaks off in the middle moves as far as it goes.
        let Ok(frame) = frame else { break };
        count += 1;
        pixels += u64::from(frame.buffer().width()) * u64::from(frame.buffer().height());
        if count > FRAMES_MAX || pixels > PIXELS_MAX * 2 {
            return Ok(None);
        }
        let delay = frame.delay();
        let image = resize(&DynamicImage::from(frame.into_buffer()), size);
        encoder.encode_frame(Frame::from_parts(image.to_rgba8(), 0, 0, delay)).map_err(refused)?;
    }
    drop(encoder);
    Ok((count > 1).then(|| bytes.into()))
}
