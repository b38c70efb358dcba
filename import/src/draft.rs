//! A configuration being written: tables of lines, each of which knows where it came from.
//!
//! [`Draft::settle`] reads the draft as `weir` would. What is refused is taken out and noted, and it is read again, until nothing is refused.
//! What goes with a refused line is chosen so that nothing that is left means more than it did: a route goes whole, as without one of its
//! conditions it would take what it should not; a listener goes whole, as without its TLS or its list of clients it would be open.

use std::collections::BTreeSet;

use crate::ImportError;
use crate::note::{Notes, Outcome, Place};
use crate::text::{Names, key, text};

/// How often the draft is read again. Each time at least one line goes; what takes longer is a mistake of ours.
const ROUNDS_MAX: usize = 40;

/// What goes when a line is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unit {
    /// The line alone.
    Line,
    /// The nearest table above whose name has so many parts, with all below it.
    Table(usize),
}

/// A line of a table.
#[derive(Debug)]
struct Line {
    text: String,
    place: Place,
    unit: Unit,
}

/// A table.
#[derive(Debug)]
pub(crate) struct Block {
    path: Vec<String>,
    in_list: bool,
    place: Place,
    unit: Unit,
    lines: Vec<Line>,
}

impl Block {
    /// `[A.B]`
    pub(crate) fn table(path: &[&str], place: Place) -> Block {
        Block { path: path.iter().map(|part| (*part).to_owned()).collect(), in_list: false, place, unit: Unit::Line, lines: Vec::new() }
    }

    /// `[[A.B]]`
    pub(crate) fn in_list(path: &[&str], place: Place) -> Block {
        Block { in_list: true, ..Block::table(path, place) }
    }

    /// Every line of it goes with the table above whose name has so many parts.
    pub(crate) fn goes_with(mut self, parts: usize) -> Block {
        self.unit = Unit::Table(parts);
        self
    }

    /// Writes `name = value`; the value is TOML.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>, place: Place) {
        self.push(format!("{name} = {}", value.into()), place, self.unit);
    }

    /// The same, of a key without which the table would mean more than it should.
    pub(crate) fn set_vital(&mut self, name: &str, value: impl Into<String>, place: Place) {
        self.push(format!("{name} = {}", value.into()), place, Unit::Table(self.path.len()));
    }

    /// Writes a list with a line for each item, so that one can go alone; each item is TOML.
    pub(crate) fn set_list(&mut self, name: &str, items: Vec<(String, Place)>, place: Place) {
        self.push(format!("{name} = ["), place, Unit::Table(self.path.len()));
        for (item, place) in items {
            self.push(format!("    {item},"), place, self.unit);
        }
        self.push("]".into(), place, Unit::Table(self.path.len()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn push(&mut self, text: String, place: Place, unit: Unit) {
        self.lines.push(Line { text, place, unit });
    }

    fn header(&self) -> String {
        let path = self.path.iter().map(|part| key(part)).collect::<Vec<_>>().join(".");
        if self.in_list { format!("[[{path}]]") } else { format!("[{path}]") }
    }
}

/// A line of the written text: the block, and which of its lines.
type Origin = (usize, Option<usize>);

/// The tables so far.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    blocks: Vec<Block>,
    /// Names of listeners.
    pub(crate) listener_names: Names,
    /// Names of pools.
    pub(crate) pool_names: Names,
}

impl Draft {
    pub(crate) fn add(&mut self, block: Block) {
        self.blocks.push(block);
    }

    /// Adds it unless nothing was written in it.
    pub(crate) fn add_unless_empty(&mut self, block: Block) {
        if !block.is_empty() {
            self.blocks.push(block);
        }
    }

    /// Where the virtual IP of that name came from, if there is one.
    pub(crate) fn vip(&self, name: &str) -> Option<Place> {
        self.blocks.iter().find(|block| block.path == ["vip", name]).map(|block| block.place)
    }

    /// A table that there is once, whoever writes in it.
    pub(crate) fn once(&mut self, name: &str, place: Place) -> &mut Block {
        let index = match self.blocks.iter().position(|block| !block.in_list && block.path == [name]) {
            Some(index) => index,
            None => {
                self.blocks.push(Block::table(&[name], place));
                self.blocks.len() - 1
            }
        };
        &mut self.blocks[index]
    }

    /// Tables of the process first, then in the order of a request's way.
    fn sort(&mut self) {
        const ORDER: [&str; 8] = ["node", "api", "access_log", "cluster", "vip", "listener", "pool", "notify"];
        self.blocks.sort_by_key(|block| ORDER.iter().position(|name| block.path.first().is_some_and(|part| part == name)));
    }

    /// The text that `weir` takes.
    pub(crate) fn settle(mut self, notes: &mut Notes) -> Result<String, ImportError> {
        let place = Place::default();
        self.once("api", place).set("bind", text("127.0.0.1:7117"), place);
        self.sort();
        for _ in 0..ROUNDS_MAX {
            let (written, origins) = self.write(notes);
            let errors = match weir_config::parse(&written, "weir.toml") {
                Ok(_) => return Ok(written),
                Err(errors) => errors,
            };
            let unsettled = || ImportError::Unsettled { reason: errors.items().first().map(ToString::to_string).unwrap_or_default() };
            let mut gone = BTreeSet::new();
            for error in errors.items() {
                let origin = origins.get(error.line.wrapping_sub(1)).copied().flatten();
                let Some((block, line)) = origin else { return Err(unsettled()) };
                let help = error.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
                let block_of = &self.blocks[block];
                let (words, place) = match line {
                    Some(line) => (block_of.lines[line].text.trim().to_owned(), block_of.lines[line].place),
                    None => (block_of.header(), block_of.place),
                };
                let words = format!("{words} in {}", block_of.header());
                notes.add(place, Outcome::NotConverted, &words, format!("weir refuses it: {}{help}", error.message));
                gone.extend(self.goes(block, line));
            }
            if gone.is_empty() {
                return Err(unsettled());
            }
            self.remove(&gone);
        }
        Err(ImportError::Unsettled { reason: format!("it still has errors after {ROUNDS_MAX} tries") })
    }

    /// What goes with a line or a header.
    fn goes(&self, block: usize, line: Option<usize>) -> Vec<Origin> {
        let of_block = &self.blocks[block];
        let unit = match line {
            Some(line) if of_block.unit == Unit::Line => of_block.lines[line].unit,
            _ if of_block.unit == Unit::Line => Unit::Table(of_block.path.len()),
            _ => of_block.unit,
        };
        let Unit::Table(parts) = unit else { return vec![(block, line)] };
        let is_below = |path: &[String], root: &[String]| path.len() > root.len() && path.starts_with(root);
        let root = (0..=block).rev().find(|index| {
            let path = &self.blocks[*index].path;
            path.len() <= parts && (*index == block || is_below(&of_block.path, path))
        });
        let root = root.unwrap_or(block);
        let mut gone = vec![(root, None)];
        let below = (root + 1..self.blocks.len()).take_while(|index| is_below(&self.blocks[*index].path, &self.blocks[root].path));
        gone.extend(below.map(|index| (index, None)));
        gone
    }

    fn remove(&mut self, gone: &BTreeSet<Origin>) {
        let mut index = 0;
        self.blocks.retain_mut(|block| {
            let this = index;
            index += 1;
            if gone.contains(&(this, None)) {
                return false;
            }
            let mut line = 0;
            block.lines.retain(|_| {
                line += 1;
                !gone.contains(&(this, Some(line - 1)))
            });
            true
        });
    }

    /// The text, and for each of its lines where it came from.
    fn write(&self, notes: &Notes) -> (String, Vec<Option<Origin>>) {
        let mut written = String::new();
        let mut origins = Vec::new();
        let mut line = |text: &str, origin| {
            written.push_str(text);
            written.push('\n');
            origins.push(origin);
        };
        for (index, block) in self.blocks.iter().enumerate() {
            if index > 0 {
                line("", None);
            }
            if block.place.line > 0 {
                line(&format!("# {}", notes.shown(block.place).replace(char::is_control, " ")), None);
            }
            line(&block.header(), Some((index, None)));
            for (number, of_block) in block.lines.iter().enumerate() {
                line(&of_block.text, Some((index, Some(number))));
            }
        }
        (written, origins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(blocks: Vec<Block>) -> (String, Vec<String>) {
        let mut notes = Notes::new(vec!["a.cfg".into()]);
        let mut draft = Draft::default();
        blocks.into_iter().for_each(|block| draft.add(block));
        let toml = draft.settle(&mut notes).expect("it settles");
        (toml, notes.finish().0.iter().map(ToString::to_string).collect())
    }

    fn at(line: usize) -> Place {
        Place { file: 0, line }
    }

    #[test]
    fn a_wrong_line_goes_alone() {
        let mut pool = Block::table(&["pool", "web"], at(3));
        pool.set_list("endpoints", vec![(text("10.0.0.1:80"), at(4)), (text("10.0.0.1"), at(5))], at(3));
        pool.set("slow_start", text("soon"), at(6));
        let (toml, notes) = settled(vec![pool]);
        assert_eq!(toml, "[api]\nbind = \"127.0.0.1:7117\"\n\n# a.cfg:3\n[pool.web]\nendpoints = [\n    \"10.0.0.1:80\",\n]\n");
        assert_eq!(notes.len(), 2);
        assert!(notes[0].starts_with("a.cfg:5: not converted: \"10.0.0.1\", in [pool.web]: weir refuses it: "), "{notes:?}");
    }

    #[test]
    fn a_route_goes_whole_and_a_listener_without_its_tls_too() {
        let pool = |name| {
            let mut pool = Block::table(&["pool", name], at(1));
            pool.set_list("endpoints", vec![], at(1));
            pool
        };
        let mut listener = Block::table(&["listener", "a"], at(2));
        listener.set_vital("bind", text("10.0.0.1:80"), at(2));
        listener.set("pool", text("web"), at(2));
        let mut route = Block::in_list(&["listener", "a", "route"], at(3)).goes_with(3);
        route.set("host", text("bad host"), at(3));
        let mut answer = Block::table(&["listener", "a", "route", "answer"], at(3)).goes_with(3);
        answer.set("status", "404", at(3));
        let mut secure = Block::table(&["listener", "b"], at(4));
        secure.set_vital("bind", text("10.0.0.1:443"), at(4));
        secure.set("pool", text("web"), at(4));
        let mut tls = Block::table(&["listener", "b", "tls"], at(5)).goes_with(2);
        tls.set("folder", text("not/absolute"), at(5));
        let (toml, notes) = settled(vec![listener, route, answer, secure, tls, pool("web")]);
        assert!(toml.contains("[listener.a]") && !toml.contains("route") && !toml.contains("listener.b"), "{toml}");
        assert_eq!(notes.len(), 2, "{notes:?}");
    }
}
