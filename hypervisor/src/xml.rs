//! XML as a small tree that can be changed: libvirt speaks nothing else.
//!
//! Namespaces are kept as they are written (`weir:machine`, `xmlns:weir`), for the document goes back to libvirt, with everything in it that
//! we do not know. Comments are dropped. What is nested too deeply or too large is refused before it is read.

use std::fmt::{self, Write as _};

/// Largest document that is read.
const BYTES_MAX: usize = 4 << 20;

/// Elements inside each other; libvirt needs fewer than ten.
const DEPTH_MAX: usize = 64;

/// An element with everything inside it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Element {
    /// As written, with prefix.
    pub name: String,
    /// In order, as written.
    pub attributes: Vec<(String, String)>,
    /// Inside it.
    pub children: Vec<Node>,
}

/// What stands inside an element.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Node {
    /// An element.
    Element(Element),
    /// Text, unescaped.
    Text(String),
}

impl Element {
    /// An empty element.
    pub fn new(name: &str) -> Element {
        Element { name: name.into(), ..Element::default() }
    }

    /// With an attribute more.
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Element {
        self.set_attribute(name, value);
        self
    }

    /// With an element more inside.
    pub fn child(mut self, child: Element) -> Element {
        self.children.push(Node::Element(child));
        self
    }

    /// With an element more inside that holds only text.
    pub fn text_child(self, name: &str, text: impl fmt::Display) -> Element {
        self.child(Element { name: name.into(), children: vec![Node::Text(text.to_string())], ..Element::default() })
    }

    /// Reads a document. The error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Element, String> {
        if text.len() > BYTES_MAX {
            return Err(format!("longer than {BYTES_MAX} bytes"));
        }
        let options = roxmltree::ParsingOptions { allow_dtd: false, nodes_limit: 200_000, ..roxmltree::ParsingOptions::default() };
        let document = roxmltree::Document::parse_with_options(text, options).map_err(|error| error.to_string())?;
        element(document.root_element(), 0)
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Sets an attribute.
    pub fn set_attribute(&mut self, name: &str, value: impl fmt::Display) {
        let value = value.to_string();
        match self.attributes.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.attributes.push((name.into(), value)),
        }
    }

    /// The elements inside.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The elements inside, to change them.
    pub fn elements_mut(&mut self) -> impl Iterator<Item = &mut Element> {
        self.children.iter_mut().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The first element on this path of names.
    pub fn at(&self, path: &[&str]) -> Option<&Element> {
        path.iter().try_fold(self, |element, name| element.elements().find(|child| child.name == *name))
    }

    /// The first element on this path of names, made where it is missing.
    pub fn make(&mut self, path: &[&str]) -> &mut Element {
        let Some((first, rest)) = path.split_first() else { return self };
        if self.at(&[first]).is_none() {
            self.children.push(Node::Element(Element::new(first)));
        }
        let child = self.elements_mut().find(|child| child.name == *first).expect("it was there, or was made above");
        child.make(rest)
    }

    /// Replaces everything inside by text.
    pub fn set_text(&mut self, text: impl fmt::Display) {
        self.children = vec![Node::Text(text.to_string())];
    }

    /// Removes elements inside.
    pub fn remove(&mut self, mut unwanted: impl FnMut(&Element) -> bool) {
        self.children.retain(|node| !matches!(node, Node::Element(element) if unwanted(element)));
    }

    /// The text inside, without what surrounds it.
    pub fn text(&self) -> String {
        let texts = self.children.iter().map(|node| match node {
            Node::Text(text) => text.as_str(),
            Node::Element(_) => "",
        });
        texts.collect::<String>().trim().to_owned()
    }
}

fn element(node: roxmltree::Node<'_, '_>, depth: usize) -> Result<Element, String> {
    if depth > DEPTH_MAX {
        return Err(format!("more than {DEPTH_MAX} elements inside each other"));
    }
    let prefixed = |namespace: Option<&str>, name: &str| {
        let prefix = namespace.and_then(|namespace| node.lookup_prefix(namespace)).filter(|prefix| !prefix.is_empty());
        prefix.map_or_else(|| name.to_owned(), |prefix| format!("{prefix}:{name}"))
    };
    let mut found = Element::new(&prefixed(node.tag_name().namespace(), node.tag_name().name()));
    // Those that its parent declares too are declared there.
    let inherited = |namespace: &roxmltree::Namespace<'_>| {
        node.parent_element().is_some_and(|parent| parent.namespaces().any(|known| known == namespace))
    };
    for namespace in node.namespaces().filter(|namespace| !inherited(namespace) && namespace.name() != Some("xml")) {
        let name = namespace.name().map_or_else(|| "xmlns".to_owned(), |prefix| format!("xmlns:{prefix}"));
        found.attributes.push((name, namespace.uri().into()));
    }
    found
        .attributes
        .extend(node.attributes().map(|attribute| (prefixed(attribute.namespace(), attribute.name()), attribute.value().into())));
    for child in node.children() {
        if child.is_element() {
            found.children.push(Node::Element(element(child, depth + 1)?));
        } else if let Some(text) = child.text().filter(|text| child.is_text() && !text.trim().is_empty()) {
            found.children.push(Node::Text(text.into()));
        }
    }
    Ok(found)
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}", self.name)?;
        for (name, value) in &self.attributes {
            write!(f, " {name}=\"")?;
            escape(f, value)?;
            f.write_char('"')?;
        }
        if self.children.is_empty() {
            return f.write_str("/>");
        }
        f.write_char('>')?;
        for node in &self.children {
            match node {
                Node::Element(element) => write!(f, "{element}")?,
                Node::Text(text) => escape(f, text)?,
            }
        }
        write!(f, "</{}>", self.name)
    }
}

/// Characters that XML 1.0 cannot hold at all are left out (section 2.2).
fn escape(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for c in text.chars() {
        match c {
            '&' => f.write_str("&amp;")?,
            '<' => f.write_str("&lt;")?,
            '>' => f.write_str("&gt;")?,
            '"' => f.write_str("&quot;")?,
            '\n' | '\r' | '\t' => write!(f, "&#{};", c as u32)?,
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => {}
            c => f.write_char(c)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_survive() {
        let text = r#"<domain type="kvm" xmlns:qemu="urn:q"><name>a &amp; b</name><metadata><weir:machine xmlns:weir="urn:w" weir:x="1"/></metadata><qemu:arg/></domain>"#;
        let read = Element::parse(text).expect("well formed");
        assert_eq!(Element::parse(&read.to_string()), Ok(read.clone()));
        assert_eq!(read.at(&["name"]).map(Element::text).as_deref(), Some("a & b"));
        assert_eq!(read.at(&["metadata", "weir:machine"]).and_then(|machine| machine.attribute("weir:x")), Some("1"));
        assert!(read.to_string().contains(r#"<weir:machine xmlns:weir="urn:w" weir:x="1"/>"#), "{read}");
        assert!(read.to_string().contains("<qemu:arg/>"), "{read}");
    }

    #[test]
    fn hostile_text_stays_text() {
        let nasty = "</a><b c=\"d\">&x;\n\u{1}]]>";
        let made = Element::new("a").with("v", nasty).text_child("t", nasty);
        let read = Element::parse(&made.to_string()).expect("well formed");
        assert_eq!(read.attribute("v"), Some("</a><b c=\"d\">&x;\n]]>"));
        assert_eq!(read.at(&["t"]).map(Element::text).as_deref(), Some("</a><b c=\"d\">&x;\n]]>"));
        for wrong in ["", "<a>", "<a/><b/>", "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>"] {
            assert!(Element::parse(wrong).is_err(), "{wrong}");
        }
        let deep = "<a>".repeat(100) + &"</a>".repeat(100);
        assert!(Element::parse(&deep).is_err());
    }

    #[test]
    fn elements_are_made_and_removed() {
        let mut domain = Element::new("domain");
        domain.make(&["os", "type"]).set_text("hvm");
        domain.make(&["os", "boot"]).set_attribute("dev", "hd");
        assert_eq!(domain.to_string(), r#"<domain><os><type>hvm</type><boot dev="hd"/></os></domain>"#);
        domain.make(&["os"]).remove(|child| child.name == "boot");
        assert_eq!(domain.to_string(), "<domain><os><type>hvm</type></os></domain>");
    }
}
