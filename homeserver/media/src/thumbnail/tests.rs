//! Thumbnails of honest images, and of those that are not.

use std::{io::Cursor, path::Path};

use image::{
    AnimationDecoder, DynamicImage, ExtendedColorType, Frame, GenericImageView, ImageDecoder, ImageEncoder,
    ImageFormat, Rgba, RgbaImage,
    codecs::{
        gif::{GifDecoder, GifEncoder},
        png::{PngDecoder, PngEncoder},
    },
};

use super::*;

fn picture(width: u32, height: u32) -> DynamicImage {
    DynamicImage::from(RgbaImage::from_fn(width, height, |x, y| Rgba([x as u8, y as u8, 128, 255])))
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = if format == ImageFormat::Jpeg { DynamicImage::from(image.to_rgb8()) } else { image.clone() };
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn moving(pictures: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    for picture in 0..pictures {
        let frame = RgbaImage::from_pixel(200, 100, Rgba([picture * 20, 0, 0, 255]));
        encoder.encode_frame(Frame::new(frame)).unwrap();
    }
    drop(encoder);
    bytes
}

fn wanted(width: u64, height: u64, method: Method) -> Wanted {
    Wanted { size: Size::listed(width, height, method).unwrap(), animated: false }
}

async fn of(bytes: &[u8], wanted: Wanted) -> Result<Made, ThumbnailError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong-extension.txt");
    std::fs::write(&path, bytes).unwrap();
    Thumbnailer::default().make(path, wanted).await
}

async fn smaller(bytes: &[u8], wanted: Wanted) -> (&'static str, DynamicImage) {
    match of(bytes, wanted).await.unwrap() {
        Made::Smaller { content_type, bytes } => (content_type, image::load_from_memory(&bytes).unwrap()),
        Made::Original { content_type } => panic!("the original {content_type}"),
    }
}

#[tokio::test]
async fn scaled_as_a_whole_and_cropped_to_the_size() {
    for (format, expected) in [
        (ImageFormat::Png, "image/png"),
        (ImageFormat::Jpeg, "image/jpeg"),
        (ImageFormat::Gif, "image/png"),
        (ImageFormat::WebP, "image/png"),
    ] {
        let bytes = encoded(&picture(1000, 500), format);
        let (content_type, image) = smaller(&bytes, wanted(320, 240, Method::Scale)).await;
        assert_eq!((content_type, image.dimensions()), (expected, (320, 160)), "{format:?}");
        let (_, image) = smaller(&bytes, wanted(96, 96, Method::Crop)).await;
        assert_eq!(image.dimensions(), (96, 96), "{format:?}");
    }
}

#[tokio::test]
async fn nothing_is_made_larger() {
    let bytes = encoded(&picture(60, 60), ImageFormat::Png);
    let made = of(&bytes, wanted(320, 240, Method::Scale)).await.unwrap();
    assert!(matches!(made, Made::Original { content_type: "image/png" }), "{made:?}");
    let bytes = encoded(&picture(1000, 20), ImageFormat::Png);
    let (_, image) = smaller(&bytes, wanted(96, 96, Method::Crop)).await;
    assert_eq!(image.dimensions(), (96, 20));
    let bytes = encoded(&picture(5000, 3), ImageFormat::Png);
    let (_, image) = smaller(&bytes, wanted(96, 96, Method::Scale)).await;
    assert_eq!(image.dimensions(), (96, 1));
}

#[tokio::test]
async fn what_moves_moves_only_when_it_is_asked_to() {
    let bytes = moving(5);
    let (content_type, _) = smaller(&bytes, wanted(96, 96, Method::Scale)).await;
    assert_eq!(content_type, "image/png");
    let (content_type, _) = smaller(&bytes, wanted(640, 480, Method::Scale)).await;
    assert_eq!(content_type, "image/png", "small, but it moves");
    let made = of(&bytes, Wanted { animated: true, ..wanted(96, 96, Method::Scale) }).await.unwrap();
    let Made::Smaller { content_type: "image/gif", bytes } = made else { panic!("{made:?}") };
    let frames = GifDecoder::new(Cursor::new(&bytes)).unwrap().into_frames().collect_frames().unwrap();
    assert_eq!((frames.len(), frames[0].buffer().dimensions()), (5, (96, 48)));
    let still = of(&moving(1), Wanted { animated: true, ..wanted(96, 96, Method::Scale) }).await.unwrap();
    assert!(matches!(still, Made::Smaller { content_type: "image/png", .. }));
}

/// One part of a PNG.
fn chunk(kind: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(data.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(kind);
    bytes.extend(data);
    let sum = crc(&bytes[4..]);
    bytes.extend(sum.to_be_bytes());
    bytes
}

/// An animated PNG of pictures of one colour each, more and more red.
fn moving_png(pictures: u8, width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sequence = 0_u32;
    let mut number = || {
        sequence += 1;
        (sequence - 1).to_be_bytes()
    };
    for picture in 0..pictures {
        let image = RgbaImage::from_pixel(width, height, Rgba([picture * 50, 0, 0, 255]));
        let still = encoded(&DynamicImage::from(image), ImageFormat::Png);
        let pixels: Vec<u8> =
            parts(&still).into_iter().filter(|(kind, _)| kind == b"IDAT").flat_map(|it| it.1).collect();
        if picture == 0 {
            // The signature and the header are those of a still image.
            bytes.extend(&still[..33]);
            bytes.extend(chunk(*b"acTL", &[u32::from(pictures).to_be_bytes(), [0; 4]].concat()));
        }
        let mut control = number().to_vec();
        control.extend([width, height, 0, 0].iter().flat_map(|side| side.to_be_bytes()));
        // A tenth of a second, nothing disposed of, nothing blended.
        control.extend([0, 1, 0, 10, 0, 0]);
        bytes.extend(chunk(*b"fcTL", &control));
        if picture == 0 {
            bytes.extend(chunk(*b"IDAT", &pixels));
        } else {
            bytes.extend(chunk(*b"fdAT", &[number().to_vec(), pixels].concat()));
        }
    }
    bytes.extend(chunk(*b"IEND", &[]));
    bytes
}

/// The parts of a PNG: what they are called and what they hold.
fn parts(png: &[u8]) -> Vec<([u8; 4], Vec<u8>)> {
    let (mut rest, mut parts) = (&png[8..], Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        parts.push((after[..4].try_into().unwrap(), after[4..4 + length].to_vec()));
        rest = &after[length + 8..];
    }
    parts
}

#[tokio::test]
async fn an_animated_png_moves_only_when_it_is_asked_to() {
    let bytes = moving_png(4, 200, 100);
    for size in [wanted(96, 96, Method::Scale), wanted(640, 480, Method::Scale)] {
        let (content_type, image) = smaller(&bytes, size).await;
        assert_eq!(content_type, "image/png");
        assert_eq!(image.get_pixel(0, 0), Rgba([0, 0, 0, 255]), "the first picture");
    }
    let made = of(&bytes, Wanted { animated: true, ..wanted(96, 96, Method::Scale) }).await.unwrap();
    let Made::Smaller { content_type: "image/gif", bytes: gif } = made else { panic!("{made:?}") };
    let frames = GifDecoder::new(Cursor::new(&gif)).unwrap().into_frames().collect_frames().unwrap();
    assert_eq!((frames.len(), frames[0].buffer().dimensions()), (4, (96, 48)));
    assert_eq!(frames[3].buffer().get_pixel(5, 5), &Rgba([150, 0, 0, 255]));
    assert_eq!(frames[0].delay().numer_denom_ms().0 / frames[0].delay().numer_denom_ms().1, 100);
    let made = of(&bytes, Wanted { animated: true, ..wanted(640, 480, Method::Scale) }).await.unwrap();
    assert!(matches!(made, Made::Original { content_type: "image/png" }), "small enough as it is: {made:?}");
}

#[tokio::test]
async fn s_149_an_animated_png_that_is_too_much_stays_still() {
    let asked = |size| Wanted { animated: true, ..size };
    let large = moving_png(3, 3_000, 2_000);
    let made = of(&large, asked(wanted(96, 96, Method::Scale))).await.unwrap();
    assert!(matches!(made, Made::Smaller { content_type: "image/png", .. }), "{made:?}");
    // It claims to move, and has nothing that would.
    let mut claiming = moving_png(1, 200, 100);
    let control = claiming.windows(4).position(|window| window == b"acTL").unwrap();
    claiming[control + 4..control + 8].copy_from_slice(&u32::MAX.to_be_bytes());
    let sum = crc(&claiming[control..control + 12]);
    claiming[control + 12..control + 16].copy_from_slice(&sum.to_be_bytes());
    let made = of(&claiming, asked(wanted(96, 96, Method::Scale))).await;
    assert!(matches!(made, Ok(Made::Smaller { content_type: "image/png", .. }) | Err(_)), "{made:?}");
}

/// A PNG whose header says another size than there are pixels: a few bytes that would become gigabytes.
fn claiming(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = encoded(&picture(8, 8), ImageFormat::Png);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0xEDB8_8320 } else { sum >> 1 })
    })
}

#[tokio::test]
async fn s_149_what_is_too_large_is_not_decoded() {
    let any = wanted(96, 96, Method::Crop);
    for (width, height) in [(50_000, 50_000), (u32::MAX / 2, 1), (30_000, 30_000), (8_000, 8_000)] {
        let refused = of(&claiming(width, height), any).await;
        assert!(matches!(refused, Err(ThumbnailError::TooLarge)), "{width}x{height}: {refused:?}");
    }
    let mut gif = moving(2);
    gif[6..10].copy_from_slice(&[0x50, 0xc3, 0x50, 0xc3]);
    assert!(matches!(of(&gif, any).await, Err(ThumbnailError::TooLarge)));
}

#[tokio::test]
async fn s_149_broken_and_foreign_files_are_refused() {
    let any = wanted(96, 96, Method::Crop);
    let whole = encoded(&picture(300, 300), ImageFormat::Png);
    for length in [40, 100, whole.len() / 2] {
        assert!(of(&whole[..length], any).await.is_err(), "{length}");
    }
    assert!(of(&claiming(300, 300), any).await.is_err(), "fewer pixels than it says");
    let foreign: [&[u8]; 7] = [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"<!doctype html><script>alert(1)</script>",
        b"%PDF-1.7",
        b"BM\x36\0\0\0",
        b"II*\0\x08\0\0\0",
        b"\0\0\0\x20ftypavif",
    ];
    for bytes in foreign {
        assert!(matches!(of(bytes, any).await, Err(ThumbnailError::NotAnImage)), "{bytes:?}");
    }
    let gone = Thumbnailer::default().make(Path::new("/nowhere/at/all").to_owned(), any).await;
    assert!(matches!(gone, Err(ThumbnailError::Unreadable(_))));
}

#[tokio::test]
async fn s_149_a_colour_profile_that_inflates_is_not_read() {
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder.set_icc_profile(vec![0; 20 << 20]).unwrap();
    encoder.write_image(&[1, 2, 3], 1, 1, ExtendedColorType::Rgb8).unwrap();
    assert!(bytes.len() < 100_000, "{}", bytes.len());
    let mut decoder = PngDecoder::with_limits(Cursor::new(&bytes), make::limits(ImageFormat::Png)).unwrap();
    assert_eq!(decoder.icc_profile().unwrap(), None);
    let made = of(&bytes, wanted(96, 96, Method::Crop)).await.unwrap();
    assert!(matches!(made, Made::Original { content_type: "image/png" }), "{made:?}");
}

/// A WebP image with a description of a length, of which that many bytes are there.
fn described(exif: &[u8], claimed: u32) -> Vec<u8> {
    let simple = encoded(&picture(1000, 500), ImageFormat::WebP);
    let mut bytes =
        [b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x08\0\0\0", &[0xe7, 3, 0, 0xf3, 1, 0][..], &simple[12..]].concat();
    bytes.extend_from_slice(b"EXIF");
    bytes.extend_from_slice(&claimed.to_le_bytes());
    bytes.extend_from_slice(exif);
    let length = u32::try_from(bytes.len() - 8).unwrap().max(claimed);
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes
}

#[tokio::test]
async fn s_149_how_a_photograph_was_held_is_read_only_when_it_is_there() {
    let lying = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let long = [lying.to_vec(), vec![0; 100_000]].concat();
    let cases = [
        (&lying[..], lying.len(), (120, 240)),
        (&lying[..], 0xffff_fff0, (320, 160)),
        (&lying[..], lying.len() + 2, (320, 160)),
        (&long[..], long.len(), (320, 160)),
    ];
    for (exif, claimed, dimensions) in cases {
        let bytes = described(exif, u32::try_from(claimed).unwrap());
        let (_, image) = smaller(&bytes, wanted(320, 240, Method::Scale)).await;
        assert_eq!(image.dimensions(), dimensions, "{claimed}");
    }
    let (_, image) = smaller(&described(lying, 26), wanted(480, 360, Method::Crop)).await;
    assert_eq!(image.dimensions(), (480, 360));
}

#[tokio::test]
async fn s_149_what_moves_too_much_stands_still() {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(&mut bytes, 30);
    let mut noise: u32 = 1;
    for _ in 0..14 {
        let frame = RgbaImage::from_fn(640, 490, |_, _| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [_, red, green, blue] = noise.to_le_bytes();
            Rgba([red, green, blue, 255])
        });
        encoder.encode_frame(Frame::new(frame)).unwrap();
    }
    drop(encoder);
    let made = of(&bytes, Wanted { animated: true, ..wanted(640, 480, Method::Scale) }).await.unwrap();
    let Made::Smaller { content_type, .. } = made else { panic!("the original") };
    assert_eq!(content_type, "image/png");
}

#[tokio::test]
async fn s_149_deep_colours_count_for_more() {
    let mut bytes = encoded(&DynamicImage::new_rgba16(8, 8), ImageFormat::Png);
    bytes[16..20].copy_from_slice(&6_000_u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&6_000_u32.to_be_bytes());
    let sum = crc(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    let refused = of(&bytes, wanted(96, 96, Method::Crop)).await;
    assert!(matches!(refused, Err(ThumbnailError::TooLarge)), "{refused:?}");
}
