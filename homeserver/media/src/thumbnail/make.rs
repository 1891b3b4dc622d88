//! Decoding, resizing, encoding.

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read, Seek},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits,
    codecs::{jpeg::JpegEncoder, png::PngDecoder, webp::WebPDecoder},
    imageops::FilterType,
    metadata::Orientation,
};

use super::{Made, Method, Seen, Size, ThumbnailError, Wanted, animated};

/// The largest file that is looked at: decoders read some formats into memory as a whole.
const FILE_MAX_BYTES: u64 = 50 * 1024 * 1024;
/// The most pixels. Most cameras take 12 to 50 million; each costs up to four bytes, for as long as it is decoded.
pub(super) const PIXELS_MAX: u64 = 50_000_000;
/// What all pixels may take: those of 16 bits a colour are the larger ones.
const PIXELS_MAX_BYTES: u64 = PIXELS_MAX * 4;
/// The longest side: no image of real use is a line.
const SIDE_MAX: u32 = 30_000;
/// What a decoder may allocate: the pixels, and as much again to work with.
const ALLOCATION_MAX_BYTES: u64 = 400 * 1024 * 1024;
/// What the decoder of PNG may allocate besides the pixels: colour profiles and texts are compressed, and so small in
/// the file whatever they become.
const PNG_ALLOCATION_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// The longest description of a photograph that is read for how it was held.
const EXIF_MAX_BYTES: u32 = 64 * 1024;
/// How many parts of a WebP file are looked at for that description.
const WEBP_CHUNKS_MAX: usize = 1_000;
/// Up to so many pixels the better, slower filter is used.
const FINE_PIXELS_MAX: u64 = 4_000_000;
/// Artefacts cannot be seen, and the file is a third of that at 95.
const JPEG_QUALITY: u8 = 82;

pub(super) fn look(path: &Path) -> Result<Seen, ThumbnailError> {
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let format = format_of(&mut file)?;
    let (width, height) = dimensions(&mut file, format)?;
    Ok(Seen { content_type: format.to_mime_type(), width, height })
}

pub(super) fn make(path: &Path, wanted: Wanted) -> Result<Made, ThumbnailError> {
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.len() > FILE_MAX_BYTES {
        return Err(ThumbnailError::TooLarge);
    }
    let mut file = BufReader::new(file);
    let format = format_of(&mut file)?;
    let (width, height) = dimensions(&mut file, format)?;
    check_budget(width, height)?;
    let moves = moves(&mut file, format);
    let content_type = format.to_mime_type();
    if fits(width, height, wanted.size) && (!moves || wanted.animated) {
        return Ok(Made::Original { content_type });
    }
    if moves
        && wanted.animated
        && let Some(bytes) = animated::make(&mut file, format, wanted.size)
    {
        return Ok(Made::Smaller { content_type: ImageFormat::Gif.to_mime_type(), bytes });
    }
    file.rewind().map_err(unreadable)?;
    let orientation = if format == ImageFormat::WebP { webp_orientation(&mut file) } else { None };
    file.rewind().map_err(unreadable)?;
    let (image, orientation) = decode(file, format, orientation)?;
    encode(&upright(&image, orientation, wanted.size), format)
}

/// Of the formats that thumbnails are made of, the one that the first bytes tell, whatever the file is called.
fn format_of(file: &mut BufReader<File>) -> Result<ImageFormat, ThumbnailError> {
    let mut start = Vec::new();
    file.by_ref().take(32).read_to_end(&mut start).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    match image::guess_format(&start) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Gif | ImageFormat::WebP)) => Ok(format),
        _ => Err(ThumbnailError::NotAnImage),
    }
}

fn dimensions(file: &mut BufReader<File>, format: ImageFormat) -> Result<(u32, u32), ThumbnailError> {
    let mut reader = ImageReader::with_format(&mut *file, format);
    reader.limits(limits(format));
    let dimensions = reader.into_dimensions().map_err(refused)?;
    file.rewind().map_err(unreadable)?;
    Ok(dimensions)
}

fn check_budget(width: u32, height: u32) -> Result<(), ThumbnailError> {
    let too_large = width > SIDE_MAX || height > SIDE_MAX || u64::from(width) * u64::from(height) > PIXELS_MAX;
    if too_large { Err(ThumbnailError::TooLarge) } else { Ok(()) }
}

pub(super) fn limits(format: ImageFormat) -> Limits {
    let mut limits = Limits::default();
    let png = format == ImageFormat::Png;
    limits.max_alloc = Some(if png { PNG_ALLOCATION_MAX_BYTES } else { ALLOCATION_MAX_BYTES });
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits
}

/// Whether the image may be more than one picture. That of a GIF is only known at its end.
fn moves(file: &mut BufReader<File>, format: ImageFormat) -> bool {
    let moves = match format {
        ImageFormat::Gif => true,
        ImageFormat::WebP => WebPDecoder::new(&mut *file).is_ok_and(|decoder| decoder.has_animation()),
        ImageFormat::Png => {
            let decoder = PngDecoder::with_limits(&mut *file, limits(format));
            decoder.is_ok_and(|decoder| decoder.is_apng().unwrap_or(true))
        }
        _ => false,
    };
    moves | file.rewind().is_err()
}

fn fits(width: u32, height: u32, size: Size) -> bool {
    width <= size.width && height <= size.height
}

/// The pixels, and how they lie: a camera's image lies on its side, and says so.
fn decode(
    file: BufReader<File>,
    format: ImageFormat,
    known: Option<Orientation>,
) -> Result<(DynamicImage, Orientation), ThumbnailError> {
    let mut reader = ImageReader::with_format(file, format);
    reader.limits(limits(format));
    let mut decoder = reader.into_decoder().map_err(refused)?;
    if decoder.total_bytes() > PIXELS_MAX_BYTES {
        return Err(ThumbnailError::TooLarge);
    }
    let said = match format {
        // Asked for it, the decoder would allocate whatever the file claims.
        ImageFormat::WebP => known,
        _ => decoder.orientation().ok(),
    };
    let image = DynamicImage::from_decoder(decoder).map_err(refused)?;
    Ok((image, said.unwrap_or(Orientation::NoTransforms)))
}

/// How a WebP image lies, if it says so, in a part that is really there.
fn webp_orientation(file: &mut BufReader<File>) -> Option<Orientation> {
    let length = file.get_ref().metadata().ok()?.len();
    file.rewind().ok()?;
    io::copy(&mut file.by_ref().take(12), &mut io::sink()).ok()?;
    let mut position: u64 = 12;
    for _ in 0..WEBP_CHUNKS_MAX {
        let mut head = [0; 8];
        file.read_exact(&mut head).ok()?;
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        position += 8;
        if head[..4] == *b"EXIF" {
            if size > EXIF_MAX_BYTES || position + u64::from(size) > length {
                return None;
            }
            let mut exif = vec![0; size as usize];
            file.read_exact(&mut exif).ok()?;
            return Orientation::from_exif_chunk(&exif);
        }
        // What has an odd length is followed by one byte more.
        let skipped = u64::from(size) + u64::from(size % 2);
        position += skipped;
        file.seek_relative(i64::try_from(skipped).ok()?).ok()?;
    }
    None
}

/// A smaller image that stands upright. It is turned when it is small, so that there is no second large one.
fn upright(image: &DynamicImage, orientation: Orientation, size: Size) -> DynamicImage {
    let on_its_side = matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    let (width, height) = if on_its_side { (size.height, size.width) } else { (size.width, size.height) };
    let mut small = resize(image, Size { width, height, method: size.method });
    small.apply_orientation(orientation);
    small
}

/// What is never larger than the image itself.
pub(super) fn resize(image: &DynamicImage, size: Size) -> DynamicImage {
    let (width, height) = (image.width(), image.height());
    match size.method {
        Method::Scale => {
            let (to_width, to_height) = scaled(width, height, size);
            exact(image, to_width, to_height)
        }
        Method::Crop => cropped(image, size.width.min(width), size.height.min(height)),
    }
}

/// The middle of an image, made as large as wanted, which is no larger than the image.
fn cropped(image: &DynamicImage, wanted_width: u32, wanted_height: u32) -> DynamicImage {
    let (width, height) = (u64::from(image.width()), u64::from(image.height()));
    let (wide, high) = (u64::from(wanted_width), u64::from(wanted_height));
    // The middle part of the wanted shape.
    let is_wider = width * high > height * wide;
    let (part_width, part_height) =
        if is_wider { (height * wide / high, height) } else { (width, width * high / wide) };
    if part_width * part_height <= width * height / 2 {
        let part = middle(image, part_width.max(1), part_height.max(1));
        return exact(&part, wanted_width, wanted_height);
    }
    // A copy of most of the image would be as large as the image: it is made smaller first.
    let (to_width, to_height) =
        if is_wider { ((width * high / height).max(wide), high) } else { (wide, (height * wide / width).max(high)) };
    middle(&exact(image, to_width as u32, to_height as u32), wide, high)
}

fn middle(image: &DynamicImage, width: u64, height: u64) -> DynamicImage {
    let (left, top) = ((u64::from(image.width()) - width) / 2, (u64::from(image.height()) - height) / 2);
    image.crop_imm(left as u32, top as u32, width as u32, height as u32)
}

/// The largest of the same shape that fits.
fn scaled(width: u32, height: u32, size: Size) -> (u32, u32) {
    if fits(width, height, size) {
        return (width, height);
    }
    let (width, height) = (u64::from(width), u64::from(height));
    let (box_width, box_height) = (u64::from(size.width), u64::from(size.height));
    let (width, height) = if box_width * height < box_height * width {
        (box_width, box_width * height / width)
    } else {
        (box_height * width / height, box_height)
    };
    (width.max(1) as u32, height.max(1) as u32)
}

fn exact(image: &DynamicImage, width: u32, height: u32) -> DynamicImage {
    let pixels = u64::from(image.width()) * u64::from(image.height());
    if pixels <= FINE_PIXELS_MAX {
        image.resize_exact(width, height, FilterType::Triangle)
    } else {
        image.thumbnail_exact(width, height)
    }
}

fn encode(image: &DynamicImage, source: ImageFormat) -> Result<Made, ThumbnailError> {
    let mut bytes = Cursor::new(Vec::new());
    let photograph = source == ImageFormat::Jpeg || (source == ImageFormat::WebP && !image.color().has_alpha());
    let content_type = if photograph {
        image.to_rgb8().write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)).map_err(refused)?;
        ImageFormat::Jpeg.to_mime_type()
    } else {
        let image =
            if image.color().has_alpha() { image.to_rgba8().into() } else { DynamicImage::from(image.to_rgb8()) };
        image.write_to(&mut bytes, ImageFormat::Png).map_err(refused)?;
        ImageFormat::Png.to_mime_type()
    };
    Ok(Made::Smaller { content_type, bytes: Bytes::from(bytes.into_inner()) })
}

fn unreadable(error: std::io::Error) -> ThumbnailError {
    ThumbnailError::Unreadable(Arc::new(error))
}

/// What the decoder says of a file is of no use to who asks for a thumbnail, but for that it is too large.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn refused(error: ImageError) -> ThumbnailError {
    tracing::debug!(%error, "no thumbnail");
    match error {
        ImageError::Limits(_) => ThumbnailError::TooLarge,
        _ => ThumbnailError::Broken,
    }
}
