//! Lists of phrases, read once: most messages are compared with some hundred lists, one turn after the other.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// A list, by the first letters of its phrases.
pub(super) struct Phrases {
    by_letter: Vec<(char, Vec<Phrase>)>,
}

struct Phrase {
    /// Up to the first `*`.
    first: &'static str,
    /// From it on, without a `*` at the end.
    tail: &'static str,
    /// The last word may go on.
    open: bool,
}

impl Phrases {
    /// The list as it was read before, or read now. Lists are constants, so what is kept is bounded.
    pub fn of(list: &'static str) -> &'static Self {
        static READ: RwLock<Option<HashMap<(usize, usize), &'static Phrases>>> = RwLock::new(None);
        let name = (list.as_ptr() as usize, list.len());
        let known = |read: &Option<HashMap<_, &'static Self>>| read.as_ref().and_then(|read| read.get(&name).copied());
        if let Some(found) = known(&READ.read().unwrap_or_else(PoisonError::into_inner)) {
            return found;
        }
        let mut read = READ.write().unwrap_or_else(PoisonError::into_inner);
        known(&read).unwrap_or_else(|| {
            let phrases: &'static Self = Box::leak(Box::new(Self::read(list)));
            read.get_or_insert_default().insert(name, phrases);
            phrases
        })
    }

    fn read(list: &'static str) -> Self {
        let mut by_letter: Vec<(char, Vec<Phrase>)> = Vec::new();
        for phrase in list.split('|').map(str::trim) {
            let stem = phrase.trim_end_matches('*');
            let Some(letter) = stem.chars().next() else { continue };
            let first = stem.split('*').next().unwrap_or(stem);
            let phrase = Phrase { first, tail: &stem[first.len()..], open: phrase.ends_with('*') };
            match by_letter.iter_mut().find(|(other, _)| *other == letter) {
                Some((_, phrases)) => phrases.push(phrase),
                None => by_letter.push((letter, vec![phrase])),
            }
        }
        by_letter.sort_by_key(|(letter, _)| *letter);
        Self { by_letter }
    }

    pub fn in_text(&self, padded: &str) -> bool {
        padded.match_indices(' ').any(|(at, _)| {
            let rest = &padded[at + 1..];
            let Some(letter) = rest.chars().next() else { return false };
            let Ok(at) = self.by_letter.binary_search_by_key(&letter, |(other, _)| *other) else { return false };
            self.by_letter[at].1.iter().any(|phrase| {
                let after = rest.strip_prefix(phrase.first);
                after.is_some_and(|after| tail_fits(after, phrase.tail, phrase.open))
            })
        })
    }
}

/// Whether what follows a phrase's first part goes on as the phrase does: `tail` is empty or begins with `*`.
fn tail_fits(after: &str, tail: &str, open: bool) -> bool {
    let Some(next) = tail.strip_prefix('*') else { return open || after.starts_with(' ') };
    let word_end = after.find(' ').unwrap_or(after.len());
    let part = next.split('*').next().unwrap_or(next);
    match after[word_end..].strip_prefix(part) {
        Some(rest) => tail_fits(rest, &next[part.len()..], open),
        None => false,
    }
}
