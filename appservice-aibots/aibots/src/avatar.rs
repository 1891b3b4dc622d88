//! Pictures of bots: a buddy in the colour of its personality, drawn here so that none has to be shipped.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};

/// Width and height in pixels: twice what clients show at most in lists.
const SIZE: u16 = 192;

/// Reads `#rrggbb`.
pub(crate) fn colour(text: &str) -> Option<[u8; 3]> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii())?;
    let part = |start: usize| u8::from_str_radix(&digits[start..start + 2], 16).ok();
    Some([part(0)?, part(2)?, part(4)?])
}

/// A PNG file: head and shoulders before a ground of the colour, lighter towards the top.
pub(crate) fn draw(colour: [u8; 3]) -> Vec<u8> {
    let size = f32::from(SIZE);
    // No coordinate is larger than the size.
    let place = |pixel: u32| f32::from(pixel as u16) + 0.5;
    let picture = RgbImage::from_fn(SIZE.into(), SIZE.into(), |x, y| {
        let (x, y) = (place(x) - size / 2.0, place(y));
        let is_head = within(x, y - 72.0, 34.0, 34.0);
        let is_body = within(x, y - 178.0, 62.0, 58.0);
        let is_eye = within(x.abs() - 12.0, y - 66.0, 4.0, 6.0);
        let is_smile = within(x, y - 78.0, 16.0, 12.0) && !within(x, y - 74.0, 18.0, 11.0) && y > 78.0;
        if is_head && (is_eye || is_smile) {
            return Rgb(colour);
        }
        if is_head || is_body {
            return Rgb([255, 255, 255]);
        }
        let light = 0.45 * (1.0 - y / size);
        Rgb(colour.map(|part| (f32::from(part) + (255.0 - f32::from(part)) * light) as u8))
    });
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, ImageFormat::Png).expect("a small picture can be written to memory");
    file.into_inner()
}

/// Whether a point lies in an ellipse around the origin.
fn within(x: f32, y: f32, width: f32, height: f32) -> bool {
    (x / width).powi(2) + (y / height).powi(2) <= 1.0
}

#[cfg(test)]
mod tests {
    use super::{colour, draw};

    #[test]
    fn colours_are_read_and_a_picture_is_a_picture() {
        assert_eq!(colour("#0066cc"), Some([0, 0x66, 0xcc]));
        assert_eq!(
            (colour("0066cc"), colour("#06c"), colour("#00gg00"), colour("#\u{e9}\u{e9}\u{e9}")),
            (None, None, None, None)
        );
        let picture = image::load_from_memory(&draw([0, 0x66, 0xcc])).unwrap();
        assert_eq!((picture.width(), picture.height()), (super::SIZE.into(), super::SIZE.into()));
    }
}
