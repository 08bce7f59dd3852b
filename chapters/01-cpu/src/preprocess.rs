//! From the bytes of a picture to the pixels that a model was trained on.
//!
//! The steps and their rounding are torchvision's (`Resize(256)`,
//! `CenterCrop(224)`, `ToTensor`, `Normalize`), so that a checkpoint trained
//! there sees the same picture here.

use std::io::Cursor;

use fast_image_resize::{
    FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::{U8, U8x3},
};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use thiserror::Error;
use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

/// Largest picture that is decoded, in pixels: 64 megapixels take 192 MB as
/// RGB. A header can claim more than any memory holds.
pub const MAX_PIXELS: u64 = 64 << 20;

/// Mean of ImageNet's channels, RGB in `0..=1`, as torchvision's weights expect.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet's channels.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Why a picture cannot be read.
#[derive(Debug, Error)]
pub enum PictureError {
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Another format.
    #[error("neither a JPEG nor a PNG: it begins with {beginning}")]
    UnknownFormat {
        /// The first bytes, as hexadecimal digits.
        beginning: String,
    },
    /// Too many pixels.
    #[error("{width} x {height} pixels are more than the {MAX_PIXELS} that are decoded")]
    TooLarge {
        /// Pixels.
        width: u64,
        /// Pixels.
        height: u64,
    },
    /// Cut short or damaged.
    #[error("damaged {format}: {message}")]
    Damaged {
        /// `JPEG` or `PNG`.
        format: &'static str,
        /// The decoder's words.
        message: String,
    },
    /// The resizer refused.
    #[error("cannot resize {width} x {height} pixels: {message}")]
    Resize {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// The resizer's words.
        message: String,
    },
}

/// Pixels of 8 bits, interleaved (HWC).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// 1 for grey, 3 for RGB.
    pub channels: usize,
    /// `height * width * channels` values.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// Colour to luma, for a model of grey images, by Pillow's `convert("L")`:
    /// ITU-R BT.601 in 16-bit fixed point. Grey stays as it is.
    pub fn into_grey(self) -> Self {
        if self.channels == 1 {
            return self;
        }
        let luma = |rgb: &[u8]| {
            let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
            ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
        };
        Picture {
            pixels: self.pixels.chunks_exact(self.channels).map(luma).collect(),
            channels: 1,
            ..self
        }
    }
}

// ANCHOR: decode
/// Decodes a JPEG or a PNG to RGB. Grey becomes three equal channels, 16 bits
/// become 8, alpha is dropped, CMYK is converted.
///
/// # Errors
/// [`PictureError`], without a panic, whatever the bytes are.
pub fn decode(bytes: &[u8]) -> Result<Picture, PictureError> {
    match bytes {
        [] => Err(PictureError::Empty),
        [0xFF, 0xD8, ..] => decode_jpeg(bytes),
        [0x89, b'P', b'N', b'G', ..] => decode_png(bytes),
        _ => Err(PictureError::UnknownFormat {
            beginning: bytes.iter().take(8).map(|b| format!("{b:02x}")).collect(),
        }),
    }
}
// ANCHOR_END: decode

fn decode_jpeg(bytes: &[u8]) -> Result<Picture, PictureError> {
    let damaged = |message: String| PictureError::Damaged {
        format: "JPEG",
        // Some of the decoder's messages end with a line break.
        message: message.trim_end().to_owned(),
    };
    let end =
        end_of_jpeg(bytes).ok_or_else(|| damaged("cut short: no end-of-image marker".into()))?;
    // The decoder takes an end that comes too early for a run of zero bits, which
    // are valid codes, and paints grey. A run of one bits is no code in any JPEG
    // (ITU-T T.81, annex C), and a whole picture does not read so far: with ones
    // before the end, a scan that was cut short is an error.
    let mut whole = Vec::with_capacity(end + ONES.len() + 2);
    whole.extend_from_slice(&bytes[..end]);
    whole.extend_from_slice(&ONES);
    whole.extend_from_slice(&END_OF_IMAGE);
    // Strict: damage is an error, not a picture with a grey end.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&whole), options);
    decoder
        .decode_headers()
        .map_err(|e| damaged(e.to_string()))?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    check_size(width as u64, height as u64)?;
    let pixels = decoder.decode().map_err(|e| damaged(e.to_string()))?;
    let (width, height) = (width as u32, height as u32);
    let expected = width as usize * height as usize * 3;
    if pixels.len() != expected {
        return Err(damaged(format!(
            "expected {expected} bytes of RGB, got {}",
            pixels.len()
        )));
    }
    Ok(Picture {
        width,
        height,
        channels: 3,
        pixels,
    })
}

/// Marker at the end of a JPEG.
const END_OF_IMAGE: [u8; 2] = [0xFF, 0xD9];

/// More one bits than the decoder reads ahead (64), each byte with the zero that
/// tells it from a marker.
const ONES: [u8; 64] = {
    let mut ones = [0; 64];
    let mut i = 0;
    while i < ones.len() {
        ones[i] = 0xFF;
        i += 2;
    }
    ones
};

/// Where the end-of-image marker of the first picture in the file begins. What
/// follows it (padding, a second picture) is not looked at, and an end inside a
/// segment is the thumbnail's.
fn end_of_jpeg(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        at += bytes.get(at..)?.iter().position(|&b| b == 0xFF)?;
        // A marker may be preceded by more 0xFF.
        let fill = bytes[at..].iter().take_while(|&&b| b == 0xFF).count();
        let marker = at + fill;
        match *bytes.get(marker)? {
            0xD9 => return Some(at),
            // A data byte 0xFF, a restart marker, a start: nothing follows them.
            0x00 | 0x01 | 0xD0..=0xD8 => at = marker + 1,
            _ => {
                let length = bytes.get(marker + 1..marker + 3)?;
                at = marker + 1 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
        }
    }
}

fn decode_png(bytes: &[u8]) -> Result<Picture, PictureError> {
    let damaged = |error: image::ImageError| PictureError::Damaged {
        format: "PNG",
        message: error.to_string(),
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png);
    let mut limits = Limits::default();
    // 16 bits and 4 channels a pixel at most.
    limits.max_alloc = Some(MAX_PIXELS * 8);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    check_size(width.into(), height.into())?;
    let picture = DynamicImage::from_decoder(decoder)
        .map_err(damaged)?
        .into_rgb8();
    Ok(Picture {
        width,
        height,
        channels: 3,
        pixels: picture.into_raw(),
    })
}

fn check_size(width: u64, height: u64) -> Result<(), PictureError> {
    if width * height > MAX_PIXELS {
        return Err(PictureError::TooLarge { width, height });
    }
    Ok(())
}

// ANCHOR: resize_to
/// Resizes by an antialiased triangle filter, as Pillow's `BILINEAR` does.
///
/// * `width`, `height`: of the result, in pixels
///
/// # Errors
/// [`PictureError::Resize`].
pub fn resize_to(
    resizer: &mut Resizer,
    picture: &Picture,
    width: u32,
    height: u32,
) -> Result<Picture, PictureError> {
    let pixels = match picture.channels {
        1 => resize_as::<U8>(resizer, picture, width, height),
        _ => resize_as::<U8x3>(resizer, picture, width, height),
    };
    let pixels = pixels.map_err(|message| PictureError::Resize {
        width: picture.width,
        height: picture.height,
        message,
    })?;
    Ok(Picture {
        width,
        height,
        channels: picture.channels,
        pixels,
    })
}

/// Resizes pixels of one type. The library's own choice among all types would compile the code of
/// each, which takes long.
fn resize_as<P: PixelTrait>(
    resizer: &mut Resizer,
    picture: &Picture,
    width: u32,
    height: u32,
) -> Result<Vec<u8>, String> {
    let mut pixels = vec![0; width as usize * height as usize * picture.channels];
    let source = TypedImageRef::<P>::from_buffer(picture.width, picture.height, &picture.pixels)
        .map_err(|error| error.to_string())?;
    let mut resized = TypedImage::<P>::from_buffer(width, height, &mut pixels)
        .map_err(|error| error.to_string())?;
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    (resizer.resize_typed(&source, &mut resized, &options)).map_err(|error| error.to_string())?;
    Ok(pixels)
}
// ANCHOR_END: resize_to

/// How pictures become the pixels of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Transform {
    /// The shorter side after resizing, in pixels; `None` leaves the picture as it is.
    pub resize: Option<u32>,
    /// Height and width of the square that is cut from the middle, in pixels.
    pub crop: u32,
    /// Mean of each channel, in `0..=1`.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, in `0..=1`.
    pub std: Vec<f32>,
}

impl Transform {
    /// torchvision's for its ImageNet weights.
    pub fn imagenet() -> Self {
        Transform {
            resize: Some(256),
            crop: 224,
            mean: IMAGENET_MEAN.to_vec(),
            std: IMAGENET_STD.to_vec(),
        }
    }

    /// Channels of the result.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    // ANCHOR: resize
    /// Resizes the shorter side as [`resize_to`] does; the longer side keeps the proportion,
    /// rounded down.
    ///
    /// # Errors
    /// [`PictureError::Resize`].
    pub fn resize(&self, resizer: &mut Resizer, picture: Picture) -> Result<Picture, PictureError> {
        let Some(short) = self.resize else {
            return Ok(picture);
        };
        let (width, height) = (picture.width, picture.height);
        let scaled = |long: u32, side: u32| {
            u32::try_from(u64::from(short) * u64::from(long) / u64::from(side.max(1)))
                .unwrap_or(u32::MAX)
        };
        let (new_width, new_height) = if width <= height {
            (short, scaled(height, width))
        } else {
            (scaled(width, height), short)
        };
        if (new_width, new_height) == (width, height) {
            return Ok(picture);
        }
        check_size(new_width.into(), new_height.into())?;
        resize_to(resizer, &picture, new_width, new_height)
    }
    // ANCHOR_END: resize

    // ANCHOR: normalise
    /// Cuts out the middle and turns it to planes of floats:
    /// `(value / 255 - mean) / std`, CHW.
    ///
    /// * `out`: receives `channels * crop * crop` values; a picture smaller than
    ///   the crop is framed with zeros, as torchvision pads
    pub fn normalise(&self, picture: &Picture, out: &mut [f32]) {
        let side = self.crop as usize;
        let (width, height) = (picture.width as usize, picture.height as usize);
        // Python's round(), which torchvision calls: ties go to the even number.
        // Where it pads instead, the odd pixel goes to the right and the bottom.
        let offset = |length: usize| match length.checked_sub(side) {
            Some(surplus) => (surplus as f64 / 2.0).round_ties_even() as isize,
            None => -((side - length) as isize / 2),
        };
        let (top, left) = (offset(height), offset(width));
        for (channel, plane) in out.chunks_exact_mut(side * side).enumerate() {
            let scale = 1.0 / (255.0 * self.std[channel]);
            let bias = -self.mean[channel] / self.std[channel];
            let from = channel.min(picture.channels - 1);
            for (y, row) in plane.chunks_exact_mut(side).enumerate() {
                let Some(y) = y.checked_add_signed(top).filter(|&y| y < height) else {
                    row.fill(bias);
                    continue;
                };
                let line =
                    &picture.pixels[y * width * picture.channels..][..width * picture.channels];
                for (x, value) in row.iter_mut().enumerate() {
                    *value = match x.checked_add_signed(left).filter(|&x| x < width) {
                        Some(x) => f32::from(line[x * picture.channels + from]) * scale + bias,
                        None => bias,
                    };
                }
            }
        }
    }
    // ANCHOR_END: normalise
}
