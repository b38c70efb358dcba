//! Lines and blocks in braces.

use crate::note::Notes;

/// Blocks inside blocks. keepalived itself has four.
const DEPTH_MAX: usize = 12;

/// A line with the block behind it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Node {
    /// The line, from 1.
    pub(super) line: usize,
    pub(super) words: Vec<String>,
    pub(super) children: Vec<Node>,
}

impl Node {
    /// The word of that number, empty where there is none.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    pub(super) fn shown(&self) -> String {
        self.words.join(" ")
    }

    /// The last line of its block that begins with this word.
    pub(super) fn child(&self, word: &str) -> Option<&Node> {
        self.children.iter().rfind(|child| child.word(0) == word)
    }

    /// The word behind it.
    pub(super) fn value(&self, word: &str) -> Option<&str> {
        self.child(word).map(|child| child.word(1)).filter(|value| !value.is_empty())
    }

    /// The lines of a block: those in it, or the words behind its name.
    pub(super) fn items(&self) -> impl Iterator<Item = (usize, Vec<&str>)> {
        let own = (self.words.len() > 1).then(|| (self.line, self.words[1..].iter().map(String::as_str).collect()));
        own.into_iter().chain(self.children.iter().map(|child| (child.line, child.words.iter().map(String::as_str).collect())))
    }
}

/// Takes the file apart. What is not closed, or closed too often, is noted.
pub(super) fn parse(text: &str, notes: &mut Notes) -> Vec<Node> {
    // The innermost block is the last; the first is the file.
    let mut open = vec![Node::default()];
    // Blocks too deep to keep.
    let mut too_deep = 0_usize;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let mut current = Node { line: number, ..Node::default() };
        for token in tokens(line) {
            match token {
                Token::Word(word) => current.words.push(word),
                Token::Open if open.len() > DEPTH_MAX => {
                    too_deep += 1;
                    if too_deep == 1 {
                        notes.not_converted(number, &current.shown(), "blocks are nested too deeply");
                    }
                    current = Node { line: number, ..Node::default() };
                }
                Token::Open => {
                    // The brace of a block may stand on the line below its name.
                    let adopts = current.words.is_empty().then(|| open.last_mut().and_then(|block| block.children.pop())).flatten();
                    open.push(adopts.unwrap_or(std::mem::take(&mut current)));
                    current = Node { line: number, ..Node::default() };
                }
                Token::Close => {
                    add(&mut open, std::mem::take(&mut current));
                    current.line = number;
                    if too_deep > 0 {
                        too_deep -= 1;
                    } else if open.len() > 1 {
                        let block = open.pop().unwrap_or_default();
                        add(&mut open, block);
                    } else {
                        notes.not_converted(number, "}", "it closes nothing");
                    }
                }
            }
        }
        if current.word(0).starts_with(['@', '$']) {
            notes.not_converted(number, &current.shown(), "conditions and variables are not read; write what holds on this node");
        } else if too_deep == 0 {
            add(&mut open, current);
        }
    }
    while open.len() > 1 {
        let block = open.pop().unwrap_or_default();
        notes.not_converted(block.line, &block.shown(), "its block is not closed; what follows is taken for a part of it");
        add(&mut open, block);
    }
    open.pop().map(|file| file.children).unwrap_or_default()
}

fn add(open: &mut [Node], node: Node) {
    if let Some(block) = open.last_mut()
        && !(node.words.is_empty() && node.children.is_empty())
    {
        block.children.push(node);
    }
}

enum Token {
    Word(String),
    Open,
    Close,
}

/// The words of a line; `#` and `!` begin a comment where a word could.
fn tokens(line: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\\', Some('"')) => word.get_or_insert_default().extend(chars.next()),
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('#' | '!', None) if word.is_none() => break,
            ('{' | '}', None) => {
                found.extend(word.take().map(Token::Word));
                found.push(if c == '{' { Token::Open } else { Token::Close });
            }
            (c, None) if c.is_whitespace() => found.extend(word.take().map(Token::Word)),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    found.extend(word.map(Token::Word));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree with its blocks in parentheses.
    fn shown(text: &str) -> (String, usize) {
        fn write(nodes: &[Node]) -> String {
            let one = |node: &Node| {
                let below = if node.children.is_empty() { String::new() } else { format!("({})", write(&node.children)) };
                format!("{}{below}", node.words.join(" "))
            };
            nodes.iter().map(one).collect::<Vec<_>>().join("; ")
        }
        let mut notes = Notes::new(vec!["k".into()]);
        let nodes = parse(text, &mut notes);
        (write(&nodes), notes.finish().0.len())
    }

    #[test]
    fn blocks() {
        for (text, expected, notes) in [
            ("a b\nc {\n d 1 # x\n ! y\n}\n", "a b; c(d 1)", 0),
            ("c\n{\n d\n}\n", "c(d)", 0),
            ("c { d { e } }", "c(d(e))", 0),
            ("script \"a b 'c'\"", "script a b 'c'", 0),
            ("a {\n b {\n c\n", "a(b(c))", 2),
            ("}\na", "a", 1),
            ("@lb1 priority 5", "", 1),
        ] {
            assert_eq!(shown(text), (expected.to_owned(), notes), "{text}");
        }
        let deep = "a {\n".repeat(1000) + &"}\n".repeat(1000);
        assert_eq!(shown(&deep).1, 1, "one note, and every brace finds its other");
    }
}
