//! Names of tables.

use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[doc = $doc:literal] $name:ident,)*) => {$(
        #[doc = $doc]
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub Arc<str>);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                $name(name.into())
            }
        }
    )*};
}

name! {
    #[doc = "The name of a channel, as written in `[notify.NAME]`."]
    NotifyName,
    #[doc = "The name of an escalation chain, as written in `[escalation.NAME]`."]
    EscalationName,
    #[doc = "The name of an on-call schedule, as written in `[oncall.NAME]`."]
    OncallName,
    #[doc = "The name of a mute window, as written in `[mute.NAME]`."]
    MuteName,
}
