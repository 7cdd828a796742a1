//! A line and its words, quoted as the xtables tools quote them.

use std::fmt::Write;

/// A word, and whether it stood in quotes: then it is never an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub text: String,
    pub quoted: bool,
}

impl Word {
    pub(super) fn is_option(&self) -> bool {
        !self.quoted && self.text.len() > 1 && self.text.starts_with('-')
    }

    pub(super) fn is(&self, text: &str) -> bool {
        !self.quoted && self.text == text
    }
}

/// `None`: a quote is not closed.
pub(super) fn split(line: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = line.chars();
    let mut open: Option<Word> = None;
    while let Some(character) = rest.next() {
        match character {
            ' ' | '\t' => words.extend(open.take()),
            '"' => {
                let word = open.get_or_insert_with(|| Word { text: String::new(), quoted: true });
                word.quoted = true;
                quoted(&mut rest, &mut word.text)?;
            }
            other => {
                let word = open.get_or_insert_with(|| Word { text: String::new(), quoted: false });
                word.text.push(other);
            }
        }
    }
    words.extend(open);
    Some(words)
}

fn quoted(rest: &mut std::str::Chars<'_>, into: &mut String) -> Option<()> {
    loop {
        match rest.next()? {
            '"' => return Some(()),
            '\\' => into.push(rest.next()?),
            other => into.push(other),
        }
    }
}

/// The words as one text that [`split`] takes apart again.
pub(super) fn join(words: &[Word]) -> String {
    let mut text = String::new();
    for word in words {
        if !text.is_empty() {
            text.push(' ');
        }
        if word.quoted { quote(&word.text, &mut text) } else { text.push_str(&word.text) }
    }
    text
}

/// A value, in quotes where it could be taken for something else.
pub(super) fn write_value(value: &str, into: &mut impl Write) -> std::fmt::Result {
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "_-./:,+".contains(character);
    let bare = !value.is_empty() && !value.starts_with('-') && value.chars().all(plain);
    if bare {
        return into.write_str(value);
    }
    let mut text = String::new();
    quote(value, &mut text);
    into.write_str(&text)
}

fn quote(value: &str, into: &mut String) {
    into.push('"');
    for character in value.chars() {
        if "\"\\'".contains(character) {
            into.push('\\');
        }
        into.push(character);
    }
    into.push('"');
}
