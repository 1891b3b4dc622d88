//! Which sizes there are. Whatever a client asks for is rounded up to one of them, so that nobody can have us make and
//! keep thousands.

/// How an image is fitted into a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// As a whole.
    Scale,
    /// Its middle, of exactly that size.
    Crop,
}

impl Method {
    /// The specification's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scale => "scale",
            Self::Crop => "crop",
        }
    }
}

/// A size of thumbnails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// How the image is fitted.
    pub method: Method,
}

/// The boxes that images are scaled into: those of the specification, one below for lists, two above for large screens.
const SCALE: [(u32, u32); 6] = [(96, 96), (320, 240), (640, 480), (800, 600), (1280, 960), (1920, 1440)];
/// The longer sides of what is cropped.
const CROP: [u32; 8] = [32, 96, 160, 320, 480, 640, 800, 1280];
/// The shapes of what is cropped, as longer to shorter side.
const SHAPES: [(u32, u32); 3] = [(1, 1), (4, 3), (16, 9)];

impl Size {
    /// The smallest that is made and no smaller than what is asked for, or else the largest; `None` when nothing is
    /// asked for. The smallest box of the specification is for cropping only, but some ask for it scaled.
    pub fn listed(width: u64, height: u64, method: Method) -> Option<Self> {
        if width == 0 || height == 0 {
            return None;
        }
        let (width, height) = match method {
            Method::Scale if width <= 32 && height <= 32 => (32, 32),
            Method::Scale => {
                let fits = |(wide, high): &&(u32, u32)| u64::from(*wide) >= width && u64::from(*high) >= height;
                *SCALE.iter().find(fits).unwrap_or(&SCALE[SCALE.len() - 1])
            }
            Method::Crop => cropped(width, height),
        };
        Some(Self { width, height, method })
    }
}

fn cropped(width: u64, height: u64) -> (u32, u32) {
    let (longer, shorter) = (width.max(height), width.min(height));
    // The shape that differs least, compared as longer * b against shorter * a.
    let off = |(a, b): &(u32, u32)| {
        let (one, other) = (u128::from(longer) * u128::from(*b), u128::from(shorter) * u128::from(*a));
        one.max(other) * 1_000 / one.min(other).max(1)
    };
    let &(a, b) = SHAPES.iter().min_by_key(|shape| off(shape)).unwrap_or(&SHAPES[0]);
    let sides = |long: u32| (long, long * b / a);
    let fits = |&(long, short): &(u32, u32)| u64::from(long) >= longer && u64::from(short) >= shorter;
    let (long, short) = CROP.iter().map(|long| sides(*long)).find(fits).unwrap_or_else(|| sides(CROP[CROP.len() - 1]));
    if width >= height { (long, short) } else { (short, long) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_sizes_of_the_specification_are_made_as_they_are() {
        for (width, height, method) in [
            (32, 32, Method::Crop),
            (96, 96, Method::Crop),
            (320, 240, Method::Scale),
            (640, 480, Method::Scale),
            (800, 600, Method::Scale),
        ] {
            let size = Size { width, height, method };
            assert_eq!(Size::listed(width.into(), height.into(), method), Some(size));
        }
    }

    #[test]
    fn s_149_whatever_is_asked_for_there_are_few_sizes() {
        let mut seen = HashSet::new();
        for width in (1..3_000).step_by(37).chain([1_000_000, u64::MAX]) {
            for height in (1..3_000).step_by(41).chain([1_000_000, u64::MAX]) {
                for method in [Method::Scale, Method::Crop] {
                    let size = Size::listed(width, height, method).unwrap();
                    let largest = size.width.max(size.height) >= 1280;
                    let enough = u64::from(size.width) >= width && u64::from(size.height) >= height;
                    assert!(largest || enough, "{width}x{height} {size:?}");
                    seen.insert(size);
                }
            }
        }
        assert!(seen.len() <= 60, "{}", seen.len());
        assert_eq!(Size::listed(0, 32, Method::Crop), None);
    }
}
