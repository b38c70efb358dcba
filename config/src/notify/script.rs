//! `[notify.NAME.script]`

use crate::reader::Table;
use crate::settings::Setting;
use crate::spec::{Key, Keys, Kind};

/// A program of the operator's.
#[derive(Clone, PartialEq, Debug)]
pub struct ScriptChannel {
    /// `command`: program and arguments; never empty.
    pub command: Vec<String>,
}

pub(super) static SCRIPT: Keys = Keys {
    place: "[notify.NAME.script]",
    about: "A program that gets the message as JSON on its standard input and in its environment.",
    keys: &[Key {
        example: "[\"/usr/local/bin/tell\", \"--team\", \"ops\"]",
        ..Key::new(
            "command",
            Kind::Texts,
            "Program and arguments, no shell. It finds WEIR_KIND, WEIR_SEVERITY, WEIR_TITLE and more in its environment; exit status 0 is success, 75 asks for another attempt, any other is a failure.",
        )
    }
    .required()],
};

pub(super) fn script(table: &Table<'_>) -> Option<ScriptChannel> {
    let field = table.field("command")?;
    let command: Vec<String> = field.items()?.iter().filter_map(|item| item.text()).map(str::to_owned).collect();
    let good = command.first().is_some_and(|program| program.starts_with('/')) && !command.iter().any(|word| word.contains('\0'));
    if !good {
        field.report(
            field
                .problem("`command` must begin with the absolute path of a program")
                .help("for example `command = [\"/usr/local/bin/tell\"]`"),
        );
        return None;
    }
    Some(ScriptChannel { command })
}

pub(super) fn settings(script: &ScriptChannel) -> Vec<Setting> {
    let ScriptChannel { command } = script;
    vec![("script.command", command.join(" "))]
}
