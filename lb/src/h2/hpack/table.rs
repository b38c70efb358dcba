//! What the numbers in a client's field blocks stand for (RFC 7541 section 2.3).

use std::collections::VecDeque;

/// What a field is to a request. Its bytes were checked when it was met first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `:method`
    Method,
    /// `:scheme`
    Scheme,
    /// `:authority`
    Authority,
    /// `:path`
    Path,
    /// `:protocol` (RFC 8441 section 4)
    Protocol,
    /// `host`
    Host,
    /// `cookie`, which may come in pieces.
    Cookie,
    /// `content-length`
    ContentLength,
    /// `sec-websocket-key`
    WebsocketKey,
    /// Any other that may be there.
    Other,
    /// One that makes a message malformed (RFC 9113 sections 8.2 and 8.3).
    Malformed,
}

/// A field as a line: `name: value` and CRLF.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// What it is.
    pub kind: Kind,
    /// The whole line.
    pub line: &'a [u8],
    /// Bytes of the name.
    pub name_len: usize,
}

impl<'a> Field<'a> {
    /// The name.
    pub fn name(&self) -> &'a [u8] {
        &self.line[..self.name_len]
    }

    /// The value.
    pub fn value(&self) -> &'a [u8] {
        &self.line[self.name_len + 2..self.line.len() - 2]
    }
}

impl Kind {
    /// What a field is, by all its bytes.
    pub fn of(name: &[u8], value: &[u8]) -> Kind {
        if !value.iter().all(|byte| VALUE[usize::from(*byte)]) || value.trim_ascii().len() != value.len() {
            return Kind::Malformed;
        }
        match Kind::named(name) {
            // Nothing but a method, a target and a host can come of these.
            Kind::Method if value.is_empty() || !value.iter().all(|byte| is_token(*byte)) => Kind::Malformed,
            Kind::Path if !(value.first() == Some(&b'/') || value == b"*") || has_space(value) => Kind::Malformed,
            Kind::Authority if has_space(value) => Kind::Malformed,
            Kind::Other if name == b"te" && value != b"trailers" => Kind::Malformed,
            Kind::Other if name.is_empty() || !name.iter().all(|byte| is_token(*byte) && !byte.is_ascii_uppercase()) => Kind::Malformed,
            kind => kind,
        }
    }

    const fn named(name: &[u8]) -> Kind {
        match name {
            b":method" => Kind::Method,
            b":scheme" => Kind::Scheme,
            b":authority" => Kind::Authority,
            b":path" => Kind::Path,
            b":protocol" => Kind::Protocol,
            [b':', ..] => Kind::Malformed,
            b"host" => Kind::Host,
            b"cookie" => Kind::Cookie,
            b"content-length" => Kind::ContentLength,
            b"sec-websocket-key" => Kind::WebsocketKey,
            // Of a connection over HTTP/1.1 (RFC 9113 section 8.2.2).
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => Kind::Malformed,
            _ => Kind::Other,
        }
    }
}

/// Bytes that a value may have: no control bytes besides the tab.
const VALUE: [bool; 256] = {
    let mut may = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        may[byte] = byte == b'\t' as usize;
        byte += 1;
    }
    may[0x7f] = false;
    may
};

fn has_space(value: &[u8]) -> bool {
    value.iter().any(|byte| matches!(byte, b' ' | b'\t'))
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut may = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            may[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let marks = b"!#$%&'*+-.^_`|~";
        let mut index = 0;
        while index < marks.len() {
            may[marks[index] as usize] = true;
            index += 1;
        }
        may
    };
    TOKEN[usize::from(byte)]
}

/// Fields that need no sending (RFC 7541 appendix A).
const STATIC: [&str; 61] = [
    ":authority: \r\n",
    ":method: GET\r\n",
    ":method: POST\r\n",
    ":path: /\r\n",
    ":path: /index.html\r\n",
    ":scheme: http\r\n",
    ":scheme: https\r\n",
    ":status: 200\r\n",
    ":status: 204\r\n",
    ":status: 206\r\n",
    ":status: 304\r\n",
    ":status: 400\r\n",
    ":status: 404\r\n",
    ":status: 500\r\n",
    "accept-charset: \r\n",
    "accept-encoding: gzip, deflate\r\n",
    "accept-language: \r\n",
    "accept-ranges: \r\n",
    "accept: \r\n",
    "access-control-allow-origin: \r\n",
    "age: \r\n",
    "allow: \r\n",
    "authorization: \r\n",
    "cache-control: \r\n",
    "content-disposition: \r\n",
    "content-encoding: \r\n",
    "content-language: \r\n",
    "content-length: \r\n",
    "content-location: \r\n",
    "content-range: \r\n",
    "content-type: \r\n",
    "cookie: \r\n",
    "date: \r\n",
    "etag: \r\n",
    "expect: \r\n",
    "expires: \r\n",
    "from: \r\n",
    "host: \r\n",
    "if-match: \r\n",
    "if-modified-since: \r\n",
    "if-none-match: \r\n",
    "if-range: \r\n",
    "if-unmodified-since: \r\n",
    "last-modified: \r\n",
    "link: \r\n",
    "location: \r\n",
    "max-forwards: \r\n",
    "proxy-authenticate: \r\n",
    "proxy-authorization: \r\n",
    "range: \r\n",
    "referer: \r\n",
    "refresh: \r\n",
    "retry-after: \r\n",
    "server: \r\n",
    "set-cookie: \r\n",
    "strict-transport-security: \r\n",
    "transfer-encoding: \r\n",
    "user-agent: \r\n",
    "vary: \r\n",
    "via: \r\n",
    "www-authenticate: \r\n",
];

/// The same, understood.
static FIELDS: [Field<'static>; STATIC.len()] = {
    let mut fields = [Field { kind: Kind::Other, line: &[], name_len: 0 }; STATIC.len()];
    let mut index = 0;
    while index < STATIC.len() {
        let line = STATIC[index].as_bytes();
        // Behind the colon that a name may begin with.
        let mut name_len = 1;
        while line[name_len] != b':' {
            name_len += 1;
        }
        fields[index] = Field { kind: Kind::named(line.split_at(name_len).0), line, name_len };
        index += 1;
    }
    fields
};

/// What an entry is taken to cost besides its bytes (RFC 7541 section 4.1).
const OVERHEAD: usize = 32;

/// The most a client's entries may cost: what HTTP/2 begins with, and we ask for no other.
pub const SIZE_MAX: usize = 4096;

#[derive(Debug)]
struct Entry {
    line: Box<[u8]>,
    name_len: u32,
    kind: Kind,
}

impl Entry {
    fn size(&self) -> usize {
        // Without the colon, the space and CRLF.
        self.line.len() - 4 + OVERHEAD
    }
}

/// A client's fields that were sent before.
#[derive(Debug)]
pub struct Table {
    /// The newest first.
    entries: VecDeque<Entry>,
    size: usize,
    most: usize,
}

impl Default for Table {
    fn default() -> Table {
        Table { entries: VecDeque::new(), size: 0, most: SIZE_MAX }
    }
}

impl Table {
    /// The field of this number, from 1.
    pub fn field(&self, number: usize) -> Option<Field<'_>> {
        if let Some(field) = FIELDS.get(number.checked_sub(1)?) {
            return Some(*field);
        }
        let entry = self.entries.get(number - 1 - FIELDS.len())?;
        Some(Field { kind: entry.kind, line: &entry.line, name_len: entry.name_len as usize })
    }

    /// Adds a field; the oldest go for it. One that is larger than the table empties it (RFC 7541 section 4.4).
    pub fn add(&mut self, field: Field<'_>) {
        let size = field.line.len() - 4 + OVERHEAD;
        self.shrink(self.most.saturating_sub(size));
        if size <= self.most {
            self.size += size;
            self.entries.push_front(Entry { line: field.line.into(), name_len: field.name_len as u32, kind: field.kind });
        }
    }

    /// Changes what the entries may cost. Whether that is allowed.
    #[must_use]
    pub fn resize(&mut self, most: usize) -> bool {
        if most > SIZE_MAX {
            return false;
        }
        self.most = most;
        self.shrink(most);
        true
    }

    fn shrink(&mut self, most: usize) {
        while self.size > most {
            let Some(oldest) = self.entries.pop_back() else { break };
            self.size -= oldest.size();
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_what_they_are() {
        for (name, value, kind) in [
            (":method", "GET", Kind::Method),
            (":method", "G T", Kind::Malformed),
            (":method", "", Kind::Malformed),
            (":path", "/a?b", Kind::Path),
            (":path", "*", Kind::Path),
            (":path", "http://a/", Kind::Malformed),
            (":path", "/ HTTP/1.1", Kind::Malformed),
            (":path", "", Kind::Malformed),
            (":authority", "a b", Kind::Malformed),
            (":status", "200", Kind::Malformed),
            ("", "x", Kind::Malformed),
            ("x", "a\r\nb: c", Kind::Malformed),
            ("x", "a\0", Kind::Malformed),
            ("x", " a", Kind::Malformed),
            ("x", "a\t", Kind::Malformed),
            ("x", "a\tb", Kind::Other),
            ("X", "a", Kind::Malformed),
            ("x:y", "a", Kind::Malformed),
            ("te", "trailers", Kind::Other),
            ("te", "gzip", Kind::Malformed),
            ("upgrade", "h2c", Kind::Malformed),
            ("transfer-encoding", "chunked", Kind::Malformed),
            ("content-length", "5", Kind::ContentLength),
        ] {
            assert_eq!(Kind::of(name.as_bytes(), value.as_bytes()), kind, "{name}: {value:?}");
        }
    }

    #[test]
    fn numbers_count_from_the_newest() {
        let mut table = Table::default();
        let add = |table: &mut Table, line: &'static str| table.add(Field { kind: Kind::Other, line: line.as_bytes(), name_len: 1 });
        assert!(table.field(0).is_none() && table.field(62).is_none());
        assert_eq!(table.field(61).map(|field| (field.name(), field.value())), Some((&b"www-authenticate"[..], &b""[..])));
        assert_eq!(table.field(1).map(|field| (field.name(), field.value())), Some((&b":authority"[..], &b""[..])));
        add(&mut table, "a: b\r\n");
        add(&mut table, "c: d\r\n");
        assert_eq!(table.field(62).map(|field| field.name()), Some(&b"c"[..]));
        assert_eq!(table.field(63).map(|field| field.value()), Some(&b"b"[..]));
        assert_eq!(table.size(), 68);
        assert!(table.resize(40) && table.field(63).is_none() && table.size() == 34);
        assert!(!table.resize(4097));
        table.add(Field { kind: Kind::Other, line: b"e: 123456789\r\n", name_len: 1 });
        assert_eq!(table.size(), 0, "too large for the table");
    }
}
