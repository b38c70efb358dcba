//! Answers in fewer bytes (RFC 9110 section 8.4.1.3), for those that are large and for streams.

use std::io::Write;

use axum::http::{HeaderMap, header};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Whether the client takes gzip (RFC 9110 section 12.5.3). One that weighs it with 0 does not; other weights do not matter.
pub(super) fn is_accepted(headers: &HeaderMap) -> bool {
    let codings =
        headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    codings.map(|coding| coding.split(';').map(str::trim)).any(|mut parts| {
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = |weight: &str| weight.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        named && !parts.any(refused)
    })
}

/// The whole of something.
pub(super) fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes everything")
}

/// Something that goes on: what was written so far can be read by the other side.
pub(super) struct Stream(GzEncoder<Vec<u8>>);

impl Stream {
    pub(super) fn new() -> Stream {
        Stream(GzEncoder::new(Vec::new(), Compression::fast()))
    }

    /// These bytes, compressed with what went before in mind.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.write_all(bytes).and_then(|()| self.0.flush()).expect("memory takes everything");
        std::mem::take(self.0.get_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    #[test]
    fn who_takes_it() {
        for (value, expected) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip, deflate, br, zstd", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("identity", false),
            ("xgzip", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().expect("a value"));
            assert_eq!(is_accepted(&headers), expected, "{value:?}");
        }
        assert!(!is_accepted(&HeaderMap::new()));
    }

    #[test]
    fn a_stream_can_be_read_as_far_as_it_went() {
        let mut stream = Stream::new();
        let first = stream.write(b"one ");
        let mut text = [0; 4];
        GzDecoder::new(&first[..]).read_exact(&mut text).expect("readable at once");
        assert_eq!(&text, b"one ");
        let both = [first, stream.write(b"two ")].concat();
        let mut text = [0; 8];
        GzDecoder::new(&both[..]).read_exact(&mut text).expect("readable at once");
        assert_eq!(&text, b"one two ");
    }

    #[test]
    fn a_whole_comes_back() {
        let bytes = b"abc".repeat(1000);
        let small = compress(&bytes);
        assert!(small.len() < 100);
        let mut back = Vec::new();
        GzDecoder::new(&small[..]).read_to_end(&mut back).expect("whole");
        assert_eq!(back, bytes);
    }
}
