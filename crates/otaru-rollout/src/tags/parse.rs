//! Reads tag expressions: one function for each line of the grammar in `docs/rollouts.md`.

use super::node::Node;
use crate::text::{SyntaxError, TextError};

/// Bytes of the longest expression.
const MAX_TEXT: usize = 1024;
/// Depth to which brackets and `not` may be nested.
const MAX_DEPTH: u8 = 32;

pub(super) fn expression(text: &str) -> Result<Node, TextError> {
    if text.len() > MAX_TEXT {
        return Err(TextError::too_long(MAX_TEXT));
    }
    let mut parser = Parser { text, at: 0, depth: 0 };
    parser.whole().map_err(|error| error.within(text))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: u8,
}

type Result<T, E = SyntaxError> = std::result::Result<T, E>;

const EXPECTED_TAG: &str = "expected a tag, not or (";
const RESERVED: &str = "and, or, not and in are words of the language; put quotes around them to mean a tag";

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/')
}

fn is_reserved(word: &str) -> bool {
    ["and", "or", "not", "in"].iter().any(|reserved| word.eq_ignore_ascii_case(reserved))
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn fail<T>(&self, message: &'static str) -> Result<T> {
        Err(SyntaxError { at: self.at, message })
    }

    /// Returns what follows after blanks; they are passed over.
    fn peek(&mut self) -> Option<char> {
        self.at = self.text.len() - self.rest().trim_start().len();
        self.rest().chars().next()
    }

    /// The word that stands here; empty where none does.
    fn word_here(&mut self) -> &'a str {
        self.peek();
        let rest = self.rest();
        &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())]
    }

    fn takes_keyword(&mut self, keyword: &str) -> bool {
        let word = self.word_here();
        let found = word.eq_ignore_ascii_case(keyword);
        if found {
            self.at += word.len();
        }
        found
    }

    fn takes(&mut self, sign: &str) -> bool {
        self.peek();
        let found = self.rest().starts_with(sign);
        if found {
            self.at += sign.len();
        }
        found
    }

    fn whole(&mut self) -> Result<Node> {
        let node = self.any()?;
        match self.peek() {
            None => Ok(node),
            Some(')') => self.fail("no ( is open here"),
            Some(c) if is_word(c) || matches!(c, '(' | '\'' | '"') => {
                self.fail("expected and, or, or the end")
            }
            Some(_) => self.fail_at_sign(),
        }
    }

    fn fail_at_sign<T>(&mut self) -> Result<T> {
        match self.peek() {
            Some('!') => self.fail("a single ! means nothing; write != or not"),
            _ => self.fail("a character that has no meaning here; put quotes around names that have it"),
        }
    }

    /// `any = all { "or" all }`
    fn any(&mut self) -> Result<Node> {
        let first = self.all()?;
        let mut nodes = vec![first];
        while self.takes_keyword("or") {
            nodes.push(self.all()?);
        }
        Ok(one_or(nodes, Node::Any))
    }

    /// `all = term { "and" term }`
    fn all(&mut self) -> Result<Node> {
        let first = self.term()?;
        let mut nodes = vec![first];
        while self.takes_keyword("and") {
            nodes.push(self.term()?);
        }
        Ok(one_or(nodes, Node::All))
    }

    /// `term = "not" term | "(" any ")" | test`
    fn term(&mut self) -> Result<Node> {
        if self.takes_keyword("not") {
            let node = self.deeper(Self::term)?;
            return Ok(Node::Not(Box::new(node)));
        }
        if !self.takes("(") {
            return self.test();
        }
        let node = self.deeper(Self::any)?;
        if self.takes(")") { Ok(node) } else { self.fail("expected ), and, or or") }
    }

    fn deeper(&mut self, read: fn(&mut Self) -> Result<Node>) -> Result<Node> {
        if self.depth == MAX_DEPTH {
            return self.fail("nested too deep; at most 32 levels");
        }
        self.depth += 1;
        let node = read(self);
        self.depth -= 1;
        node
    }

    /// `test = name [ "=" name | "!=" name | [ "not" ] "in" list ]`
    fn test(&mut self) -> Result<Node> {
        let key = self.name(EXPECTED_TAG)?;
        if self.takes("!=") {
            let value = self.value()?;
            return Ok(Node::Not(Box::new(Node::OneOf(key, vec![value]))));
        }
        if self.takes("=") {
            let value = self.value()?;
            return Ok(Node::OneOf(key, vec![value]));
        }
        if self.takes_keyword("in") {
            return Ok(Node::OneOf(key, self.list()?));
        }
        if self.takes_keyword("not") {
            if !self.takes_keyword("in") {
                return self.fail("expected in");
            }
            return Ok(Node::Not(Box::new(Node::OneOf(key, self.list()?))));
        }
        Ok(Node::Has(key))
    }

    fn value(&mut self) -> Result<String> {
        if self.peek() == Some('=') {
            return self.fail("one = is enough; expected a value");
        }
        self.name("expected a value")
    }

    /// `list = "(" name { "," name } ")"`
    fn list(&mut self) -> Result<Vec<String>> {
        if !self.takes("(") {
            return self.fail("expected ( and a list of values");
        }
        let mut values = vec![self.value()?];
        while self.takes(",") {
            values.push(self.value()?);
        }
        if self.takes(")") { Ok(values) } else { self.fail("expected , or )") }
    }

    /// `name = word | quoted`
    fn name(&mut self, expected: &'static str) -> Result<String> {
        if let Some(quote @ ('\'' | '"')) = self.peek() {
            return self.quoted(quote);
        }
        let word = self.word_here();
        if word.is_empty() {
            return match self.peek() {
                None | Some(')' | '(' | ',' | '=') => self.fail(expected),
                Some(_) => self.fail_at_sign(),
            };
        }
        if is_reserved(word) {
            return self.fail(RESERVED);
        }
        self.at += word.len();
        Ok(word.to_owned())
    }

    /// Between two `'` or two `"`; `\` takes the next quote or `\` as it is.
    fn quoted(&mut self, quote: char) -> Result<String> {
        let start = self.at;
        let mut name = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((offset, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, c @ ('\'' | '"' | '\\'))) => name.push(c),
                    _ => {
                        self.at = start + offset;
                        return self.fail("after \\ only ', \" or \\ may stand");
                    }
                },
                c if c == quote => {
                    self.at = start + offset + 1;
                    return Ok(name);
                }
                c => name.push(c),
            }
        }
        self.fail("this quote is not closed")
    }
}

fn one_or(mut nodes: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
    if nodes.len() > 1 {
        return many(nodes);
    }
    nodes.pop().unwrap_or_else(|| many(Vec::new()))
}
