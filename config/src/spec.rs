//! How a key is described. The descriptions themselves are in `keys`.
//!
//! The reader accepts exactly the keys, kinds and ranges described here, and the JSON Schema is printed from the same
//! descriptions: the two cannot disagree.

use std::time::Duration;

/// The longest time a key accepts. Longer is a slip of the finger; the bound also keeps deadlines far from overflow.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// The shortest time a key accepts, unless it says otherwise.
pub(crate) const TIME_MIN: Duration = Duration::from_millis(1);

/// The keys of one kind of table.
#[derive(Debug)]
pub(crate) struct Keys {
    /// How the table is written, such as `[pool.NAME]`.
    pub(crate) place: &'static str,
    /// What it is for, one sentence.
    pub(crate) about: &'static str,
    /// Its keys.
    pub(crate) keys: &'static [Key],
}

impl Keys {
    /// The key of that name.
    pub(crate) fn find(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    /// As written in the file.
    pub(crate) name: &'static str,
    /// What it means, whole sentences.
    pub(crate) about: &'static str,
    /// What may be written.
    pub(crate) kind: Kind,
    /// What holds when it is absent, written as in the file but without quotes.
    pub(crate) default: Option<&'static str>,
    /// It must be there.
    pub(crate) required: bool,
    /// A value that shows how it is written, as TOML.
    pub(crate) example: &'static str,
}

/// What may be written under a key.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A string with a meaning of its own, which the table's parser checks.
    Text,
    /// A list of such strings.
    Texts,
    /// One such string, or a list of them.
    TextOrTexts,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Count(Bounds),
    /// A number, whole or with a fraction; finite.
    Number,
    /// A duration as a string; bounds in milliseconds.
    Time(Bounds),
    /// A size as a string with a unit, or in bytes; bounds in bytes.
    Size(Bounds),
    /// One of these words.
    Choice(&'static [Word]),
    /// A table.
    Table(&'static Keys),
    /// A table, or `false` to switch it off.
    TableOrFlag(&'static Keys),
    /// Tables by name.
    NamedTables(&'static Keys),
    /// A list of tables.
    Tables(&'static Keys),
    /// A list of endpoints or peers: addresses as strings, or tables.
    Endpoints(&'static Keys),
    /// A status, a range of statuses as a string, or a list of both.
    Statuses,
}

/// The numbers a key accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The smallest, apart from a special zero.
    pub(crate) min: u64,
    /// The largest.
    pub(crate) max: u64,
    /// What zero means, where it is accepted besides `min` to `max`.
    pub(crate) zero: Option<&'static str>,
}

impl Bounds {
    /// Whether the number is accepted.
    pub(crate) fn accept(&self, number: u64) -> bool {
        (self.min..=self.max).contains(&number) || (number == 0 && self.zero.is_some())
    }
}

/// One choice.
#[derive(Debug)]
pub(crate) struct Word {
    /// As written.
    pub(crate) word: &'static str,
    /// What it means.
    pub(crate) about: &'static str,
}

pub(crate) const fn word(word: &'static str, about: &'static str) -> Word {
    Word { word, about }
}

impl Key {
    pub(crate) const fn new(name: &'static str, kind: Kind, about: &'static str) -> Key {
        Key { name, about, kind, default: None, required: false, example: "" }
    }

    pub(crate) const fn text(name: &'static str, example: &'static str, about: &'static str) -> Key {
        Key { example, ..Key::new(name, Kind::Text, about) }
    }

    /// A string, or a list of strings.
    pub(crate) const fn list(name: &'static str, example: &'static str, about: &'static str) -> Key {
        Key { example, ..Key::new(name, Kind::TextOrTexts, about) }
    }

    pub(crate) const fn flag(name: &'static str, default: &'static str, about: &'static str) -> Key {
        Key { default: Some(default), example: default, ..Key::new(name, Kind::Flag, about) }
    }

    pub(crate) const fn count(name: &'static str, min: u64, max: u64, example: &'static str, about: &'static str) -> Key {
        Key { example, ..Key::new(name, Kind::Count(Bounds { min, max, zero: None }), about) }
    }

    pub(crate) const fn number(name: &'static str, example: &'static str, about: &'static str) -> Key {
        Key { example, ..Key::new(name, Kind::Number, about) }
    }

    pub(crate) const fn time(name: &'static str, example: &'static str, about: &'static str) -> Key {
        let bounds = Bounds { min: TIME_MIN.as_millis() as u64, max: TIME_MAX.as_millis() as u64, zero: None };
        Key { example, ..Key::new(name, Kind::Time(bounds), about) }
    }

    pub(crate) const fn size(name: &'static str, min: u64, max: u64, example: &'static str, about: &'static str) -> Key {
        Key { example, ..Key::new(name, Kind::Size(Bounds { min, max, zero: None }), about) }
    }

    pub(crate) const fn choice(name: &'static str, words: &'static [Word], about: &'static str) -> Key {
        Key::new(name, Kind::Choice(words), about)
    }

    /// With a value that holds when the key is absent.
    pub(crate) const fn default(self, default: &'static str) -> Key {
        Key { default: Some(default), ..self }
    }

    /// It must be there.
    pub(crate) const fn required(self) -> Key {
        Key { required: true, ..self }
    }

    /// Zero is accepted and means this.
    pub(crate) const fn zero(self, means: &'static str) -> Key {
        let kind = match self.kind {
            Kind::Count(bounds) => Kind::Count(Bounds { zero: Some(means), ..bounds }),
            Kind::Time(bounds) => Kind::Time(Bounds { zero: Some(means), ..bounds }),
            Kind::Size(bounds) => Kind::Size(Bounds { zero: Some(means), ..bounds }),
            _ => panic!("only a number can be zero"),
        };
        Key { kind, ..self }
    }

    /// At least so many milliseconds.
    pub(crate) const fn at_least_ms(self, min: u64) -> Key {
        let kind = match self.kind {
            Kind::Time(bounds) => Kind::Time(Bounds { min, ..bounds }),
            _ => panic!("only a duration has milliseconds"),
        };
        Key { kind, ..self }
    }

    /// At most so many milliseconds.
    pub(crate) const fn at_most_ms(self, max: u64) -> Key {
        let kind = match self.kind {
            Kind::Time(bounds) => Kind::Time(Bounds { max, ..bounds }),
            _ => panic!("only a duration has milliseconds"),
        };
        Key { kind, ..self }
    }

    /// The tables that may stand under this key.
    pub(crate) fn tables(&self) -> Option<&'static Keys> {
        match self.kind {
            Kind::Table(keys) | Kind::TableOrFlag(keys) | Kind::NamedTables(keys) | Kind::Tables(keys) | Kind::Endpoints(keys) => {
                Some(keys)
            }
            _ => None,
        }
    }
}
