//! Files that are not what they say, or would become too much: those of our users and those of other servers.

use axum::{body::Bytes, http::Response};
use image::ImageEncoder as _;

use super::{DOWNLOAD, THUMBNAIL, picture, with_remote_and};

/// A PNG whose header says another size than there are pixels: a few bytes that would become gigabytes.
pub(super) fn claiming(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = picture();
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = bytes[12..29].iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0xEDB8_8320 } else { sum >> 1 })
    });
    bytes[29..33].copy_from_slice(&(!sum).to_be_bytes());
    bytes
}

/// A PNG of one pixel with a colour profile that inflates to twenty megabytes.
fn inflating() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    encoder.set_icc_profile(vec![0; 20 << 20]).unwrap();
    encoder.write_image(&[1, 2, 3], 1, 1, image::ExtendedColorType::Rgb8).unwrap();
    bytes
}

/// A GIF of many pictures, each as large as a thumbnail may be, and all of one colour.
fn moving_on_and_on() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new_with_speed(&mut bytes, 30);
    for _ in 0..400 {
        encoder.encode_frame(image::Frame::new(image::RgbaImage::new(8, 8))).unwrap();
    }
    drop(encoder);
    bytes
}

/// What is said of a file, the file, and what asking for a thumbnail of it comes to: here, and where it is of another
/// server.
type File = (&'static str, Vec<u8>, u16, u16);

pub(super) fn file(name: &str) -> Option<File> {
    let whole = picture();
    Some(match name {
        "pixels" => ("image/png", claiming(50_000, 50_000), 413, 502),
        "line" => ("image/png", claiming(u32::MAX / 2, 1), 413, 502),
        "fewer" => ("image/png", claiming(300, 300), 400, 400),
        "inflating" => ("image/png", inflating(), 200, 200),
        "moving" => ("image/gif", moving_on_and_on(), 200, 200),
        "truncated" => ("image/png", whole[..whole.len() / 2].to_vec(), 400, 400),
        "header" => ("image/png", whole[..20].to_vec(), 400, 400),
        "extension" => ("text/html", whole, 200, 200),
        "svg" => (
            "image/svg+xml",
            b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script>alert(1)</script></svg>".to_vec(),
            400,
            400,
        ),
        "html" => ("image/png", b"<!doctype html><script>alert(1)</script>".to_vec(), 400, 400),
        "pdf" => ("application/pdf", b"%PDF-1.7".to_vec(), 400, 400),
        "zip" => ("image/webp", b"PK\x03\x04".to_vec(), 400, 400),
        _ => return None,
    })
}

const NAMES: [&str; 12] =
    ["pixels", "line", "fewer", "inflating", "moving", "truncated", "header", "extension", "svg", "html", "pdf", "zip"];

/// As another server hands it out.
pub(super) fn in_two_parts(name: &str) -> http::Result<Response<Bytes>> {
    let (content_type, content, ..) = file(name).unwrap();
    let head = format!("--b\r\n\r\n{{}}\r\n--b\r\nContent-Type: {content_type}\r\n\r\n");
    let body = [head.as_bytes(), &content, b"\r\n--b--\r\n"].concat();
    Response::builder().header("Content-Type", "multipart/mixed; boundary=b").body(body.into())
}

#[tokio::test]
async fn s_149_s_145_hostile_files_of_users_and_of_other_servers_come_as_they_are_and_harm_nobody() {
    let (server, _) = with_remote_and(|_| ()).await;
    let alice = server.register("alice").await;
    for name in NAMES {
        let (content_type, content, own_status, remote_status) = file(name).unwrap();
        let own = server.upload(&alice, "picture.png", content_type, content.clone()).await;
        for (place, status) in [(own, own_status), (format!("remote.test/{name}"), remote_status)] {
            let reply = server.get_as(&alice, &format!("{DOWNLOAD}/{place}")).await;
            assert_eq!((reply.status, reply.bytes == content), (200, true), "{place}: {name}");
            let header = |name: &str| reply.headers[name].to_str().unwrap().to_owned();
            assert!(header("content-security-policy").starts_with("sandbox"), "{name}");
            assert_eq!(header("x-content-type-options"), "nosniff", "{name}");
            let is_safe = ["image/png", "image/gif", "image/webp"].contains(&content_type);
            assert_eq!(header("content-disposition").starts_with("inline"), is_safe, "{name}: {content_type}");
            for query in ["width=32&height=32&method=crop", "width=640&height=480&animated=true"] {
                // The second time it is remembered.
                for _ in 0..2 {
                    let reply = server.get_as(&alice, &format!("{THUMBNAIL}/{place}?{query}")).await;
                    assert_eq!(reply.status, status, "{place}: {name}: {}", reply.text);
                    if status == 200 {
                        let kind = reply.headers["content-type"].to_str().unwrap();
                        assert!(["image/png", "image/gif"].contains(&kind), "{name}: {kind}");
                        image::load_from_memory(&reply.bytes).unwrap();
                    }
                }
            }
        }
    }
}
