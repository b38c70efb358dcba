//! A small picture of a metric: a line, a threshold and a frame, as PNG (RFC 2083) with four colours. Pure.
//!
//! A picture of this size needs no compression worth a library: its bytes are stored as they are.

use crate::message::Series;

/// In pixels.
pub(super) const WIDTH: usize = 480;
pub(super) const HEIGHT: usize = 120;
const MARGIN: usize = 4;

/// Background, frame, threshold, line.
const PALETTE: [[u8; 3]; 4] = [[255, 255, 255], [190, 190, 190], [198, 40, 40], [21, 101, 192]];

/// The picture as a PNG file.
pub(super) fn draw(series: &Series) -> Vec<u8> {
    let mut canvas = vec![[0_u8; WIDTH]; HEIGHT];
    canvas[MARGIN][MARGIN..WIDTH - MARGIN].fill(1);
    canvas[HEIGHT - MARGIN - 1][MARGIN..WIDTH - MARGIN].fill(1);
    for row in &mut canvas[MARGIN..HEIGHT - MARGIN] {
        (row[MARGIN], row[WIDTH - MARGIN - 1]) = (1, 1);
    }
    let points: Vec<(u64, f64)> = series.points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    if let (Some((first, _)), Some((last, _))) = (points.first(), points.last()) {
        let values = points.iter().map(|(_, value)| *value).chain(series.threshold.filter(|threshold| threshold.is_finite()));
        let (low, high) = values.fold((0.0_f64, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        let y = |value: f64| {
            let share = if high > low { (value - low) / (high - low) } else { 0.5 };
            // Within the frame whatever the share is: the conversion saturates.
            let room = HEIGHT - 2 * MARGIN - 3;
            HEIGHT - MARGIN - 2 - ((share * room as f64) as usize).min(room)
        };
        if let Some(threshold) = series.threshold.filter(|threshold| threshold.is_finite()) {
            (MARGIN + 1..WIDTH - MARGIN - 1).step_by(3).for_each(|x| canvas[y(threshold)][x] = 2);
        }
        let length = last.saturating_sub(*first).max(1);
        let room = (WIDTH - 2 * MARGIN - 3) as u64;
        let x = |at: u64| {
            MARGIN
                + 1
                + usize::try_from(u128::from(at.saturating_sub(*first).min(length)) * u128::from(room) / u128::from(length)).unwrap_or(0)
        };
        for pair in points.windows(2) {
            line(&mut canvas, (x(pair[0].0), y(pair[0].1)), (x(pair[1].0), y(pair[1].1)));
        }
    }
    png(&canvas)
}

/// In each column the rows between both ends, so that a steep line has no gaps.
fn line(canvas: &mut [[u8; WIDTH]], (x0, y0): (usize, usize), (x1, y1): (usize, usize)) {
    let columns = x1.saturating_sub(x0);
    let at = |step: usize| (y0 * (columns - step) + y1 * step).checked_div(columns).unwrap_or(y1);
    for step in 0..=columns {
        let (from, to) = (at(step.saturating_sub(1)), at(step));
        let from = if columns == 0 { y0 } else { from };
        canvas[from.min(to)..=from.max(to)].iter_mut().for_each(|row| row[x0 + step] = 3);
    }
}

fn png(canvas: &[[u8; WIDTH]]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(HEIGHT * (WIDTH / 4 + 1));
    for row in canvas {
        raw.push(0);
        raw.extend(row.chunks(4).map(|pixels| pixels.iter().fold(0, |byte, pixel| byte << 2 | (pixel & 3))));
    }
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let size = |pixels: usize| u32::try_from(pixels).unwrap_or(0).to_be_bytes();
    // Two bits for each pixel, by palette.
    chunk(&mut out, b"IHDR", &[&size(WIDTH)[..], &size(HEIGHT), &[2, 3, 0, 0, 0]].concat());
    chunk(&mut out, b"PLTE", PALETTE.as_flattened());
    chunk(&mut out, b"IDAT", &stored(&raw));
    chunk(&mut out, b"IEND", &[]);
    out
}

/// A zlib stream of stored blocks (RFC 1950, 1951).
fn stored(raw: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let mut blocks = raw.chunks(usize::from(u16::MAX)).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(u8::from(blocks.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    let (a, b) = raw.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (a + b) % 65_521)
    });
    out.extend((b << 16 | a).to_be_bytes());
    out
}

fn chunk(out: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) {
    out.extend(u32::try_from(data.len()).unwrap_or(0).to_be_bytes());
    let start = out.len();
    out.extend(name);
    out.extend(data);
    let crc = crc32(&out[start..]);
    out.extend(crc.to_be_bytes());
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _: u8| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::sample;

    #[test]
    fn checksums_as_the_standards_show_them() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(stored(b"Wikipedia")[2 + 5 + 9..], 0x11e6_0398_u32.to_be_bytes());
    }

    #[test]
    fn every_series_is_a_picture() {
        let whole = sample("k", 1_000_000).series.unwrap();
        let odd = |points: Vec<(u64, f64)>, threshold| Series { points, threshold, ..Series::default() };
        for series in [
            whole,
            odd(vec![], None),
            odd(vec![(5, 1.0)], Some(f64::NAN)),
            odd(vec![(5, f64::INFINITY), (4, -1e308), (u64::MAX, 1e308), (0, f64::NAN)], Some(-1e308)),
            odd((0..500).map(|i| (i, (i % 2) as f64)).collect(), Some(2.0)),
        ] {
            let png = draw(&series);
            assert!(png.starts_with(b"\x89PNG") && png.ends_with(b"IEND\xae\x42\x60\x82") && png.len() < 32 * 1024);
        }
    }
}
