//! Answers that keep a form: a JSON schema, or a call of a tool.
//!
//! A [`Grammar`] is compiled once a request (by the `llguidance` crate: an Earley parser over lexemes, walked along the
//! trie of the model's tokens) into a [`Constraint`]. Before each draw it says which tokens may come; after it, it takes
//! the token in. So an answer that ends by itself has the form, however weak the model. What a schema leaves open (the
//! length of a text, the number of entries) is bounded by [`bounds`], so that a weak model comes to an end.
//!
//! A constraint belongs to the sequence's answer, not to the cache: batches, preemption and shared prefixes do not touch
//! it.

mod bounds;
mod schema;

use std::sync::Arc;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

use super::LlmError;
use bounds::{JsonRun, Limits, OpenEnds};
pub(crate) use schema::SchemaFault;

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema (JSON Schema, draft 2020-12 or older) takes.
    JsonSchema(Value),
    /// A grammar in `llguidance`'s Lark dialect, from the first token on.
    Lark(String),
    /// Free text until `marker` appears; the grammar goes on from there, the marker included.
    After { marker: Marker, lark: String },
}

/// What begins the bound part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marker {
    Text(String),
    /// A control token, which is no text.
    Token(u32),
    /// This text, if the answer begins with it.
    Start(String),
}

/// A model's tokens, ready to compile grammars for.
pub(crate) struct Grammars {
    factory: ParserFactory,
    words: Arc<Words>,
}

/// The tokens' bytes, in the trie, and what the bounds need of them.
struct Words {
    trie: TokTrie,
    /// Tokens with a quotation mark in them: within a text only these can change a JSON value's structure.
    quoting: Vec<u32>,
    longest: usize,
}

struct Environment(Arc<Words>);

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.0.trie
    }
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        self.0.trie.greedy_tokenize(bytes)
    }
    /// Forced text is written token by token like any other: the model chooses how to spell it.
    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}

/// The form of one answer, and how far it is.
pub struct Constraint {
    state: State,
    words: Arc<Words>,
    run: JsonRun,
    open: OpenEnds,
}

enum State {
    Watching { marker: Marker, seen: Vec<u8>, matcher: Box<Matcher> },
    Bound(Box<Matcher>),
}

impl Grammars {
    /// `words[token]`: the token's bytes; a control token's spelling behind a byte 0xff; nothing for tokens that are never
    /// drawn. `ends` are the tokens that end an answer.
    ///
    /// # Errors
    /// A vocabulary without a token that ends answers.
    pub fn new(words: Vec<Vec<u8>>, ends: &[u32]) -> Result<Self, LlmError> {
        let refuse =
            |reason: String| LlmError::InvalidParameter(format!("this model cannot be bound to a form: {reason}"));
        let ends: Vec<u32> = ends.iter().copied().filter(|end| (*end as usize) < words.len()).collect();
        let Some(end) = ends.first() else { return Err(refuse("no token ends an answer".into())) };
        let size = u32::try_from(words.len()).map_err(|e| refuse(e.to_string()))?;
        let trie = TokTrie::from(&TokRxInfo::new(size, *end), &words).with_eos_tokens(&ends);
        let quoting = (0..size).filter(|token| words[*token as usize].contains(&b'"')).collect();
        let longest = words.iter().filter(|word| word.first() != Some(&0xff)).map(Vec::len).max().unwrap_or(0);
        let words = Arc::new(Words { trie, quoting, longest });
        let env: TokEnv = Arc::new(Environment(words.clone()));
        let mut factory = ParserFactory::new_simple(&env).map_err(|e| refuse(e.to_string()))?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits { verbose_errors: false, ..ParserLimits::default() };
        Ok(Self { factory, words })
    }

    /// Compiles a grammar; milliseconds, more for large schemas (bounded by `llguidance`'s own limits).
    ///
    /// # Errors
    /// [`LlmError::Schema`] with the place in the schema, or what the grammar cannot express.
    pub fn compile(&self, grammar: &Grammar) -> Result<Constraint, LlmError> {
        let lark = |lark: &String| self.matcher(TopLevelGrammar::from_lark(lark.clone()));
        let (state, open) = match grammar {
            Grammar::JsonObject => {
                let any = json!({"type": "object", "x-guidance": schema::options()});
                (State::Bound(self.matcher(TopLevelGrammar::from_json_schema(any))?), OpenEnds::default())
            }
            Grammar::JsonSchema(schema) => {
                let form = |bounded| self.matcher(TopLevelGrammar::from_json_schema(prepared(schema, bounded)?));
                (State::Bound(bounded_first(form)?), OpenEnds::of(schema))
            }
            Grammar::Lark(text) => (State::Bound(lark(text)?), OpenEnds::default()),
            Grammar::After { marker, lark: text } => {
                let (marker, matcher) = (marker.clone(), lark(text)?);
                (State::Watching { marker, seen: Vec::new(), matcher }, OpenEnds::default())
            }
        };
        Ok(Constraint { state, words: self.words.clone(), run: JsonRun::default(), open })
    }

    fn matcher(&self, grammar: TopLevelGrammar) -> Result<Box<Matcher>, LlmError> {
        let matcher = Box::new(Matcher::new(self.factory.create_parser(grammar)));
        match matcher.get_error() {
            None => Ok(matcher),
            Some(reason) => Err(LlmError::Schema { at: String::new(), message: first_line(&reason) }),
        }
    }
}

/// Makes a form with a longest length for texts that a pattern leaves open; without it where pattern and length together
/// are more than can be worked out.
///
/// # Errors
/// As `form`.
pub(crate) fn bounded_first<T>(form: impl Fn(bool) -> Result<T, LlmError>) -> Result<T, LlmError> {
    form(true).or_else(|_| form(false))
}

/// A schema that was checked, with its white space bounded, and if `bounded` the length of texts that a pattern leaves
/// open; to stand in a Lark grammar behind `%json`.
///
/// # Errors
/// [`LlmError::Schema`] with the place of what cannot be served.
pub(crate) fn prepared(schema: &Value, bounded: bool) -> Result<Value, LlmError> {
    schema::prepare(schema, bounded).map_err(|SchemaFault { at, message, .. }| LlmError::Schema { at, message })
}

fn first_line(text: &str) -> String {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or("it cannot be compiled").chars().take(300).collect()
}

impl Constraint {
    /// Tokens that may come next; `None`: any. `room` tokens of `max_tokens` are left for the answer.
    ///
    /// # Errors
    /// [`LlmError::Engine`] if the grammar's limits are passed.
    pub(crate) fn allowed(&mut self, room: usize, max_tokens: usize) -> Result<Option<SimpleVob>, LlmError> {
        let State::Bound(matcher) = &mut self.state else { return Ok(None) };
        let mut allowed = matcher.compute_mask_or_eos().map_err(broken)?;
        let limits = self.open.limits(&self.run, room, max_tokens);
        self.keep_within(&mut allowed, &limits);
        Ok(Some(allowed))
    }

    /// Takes in the token that was drawn. True: nothing may follow, the answer is complete.
    ///
    /// # Errors
    /// [`LlmError::Engine`] if the token was not allowed.
    pub(crate) fn accept(&mut self, token: u32) -> Result<bool, LlmError> {
        match &mut self.state {
            State::Bound(matcher) => {
                matcher.consume_token(token).map_err(broken)?;
                self.run.take(self.words.text(token));
                Ok(matcher.is_stopped())
            }
            State::Watching { .. } => {
                self.watch(token);
                Ok(false)
            }
        }
    }

    /// Looks for the marker in free text.
    fn watch(&mut self, token: u32) {
        let State::Watching { marker, seen, matcher } = &mut self.state else { return };
        let fed = match marker {
            Marker::Token(wanted) => (*wanted == token).then(|| vec![token]),
            Marker::Text(text) => {
                seen.extend_from_slice(self.words.text(token));
                let found = find(seen, text.as_bytes());
                let fed = found.map(|at| self.words.trie.greedy_tokenize(&seen[at..]));
                // Only an end that may begin the marker needs to be kept.
                seen.drain(..seen.len().saturating_sub(text.len() - 1));
                fed
            }
            Marker::Start(text) => {
                seen.extend_from_slice(self.words.text(token));
                let begun = seen.trim_ascii_start();
                match begun.starts_with(text.as_bytes()) {
                    true => Some(self.words.trie.greedy_tokenize(begun)),
                    // An answer that began otherwise is free to its end.
                    false if begun.is_empty() || text.as_bytes().starts_with(begun) => None,
                    false => return *marker = Marker::Text("\u{FDD0}".into()),
                }
            }
        };
        let Some(fed) = fed else { return };
        let mut begun = Box::new(matcher.deep_clone());
        // What follows the marker within its token may not fit; then this is no beginning.
        if begun.try_consume_tokens(&fed).is_ok_and(|taken| taken == fed.len()) {
            for token in &fed {
                self.run.take(self.words.text(*token));
            }
            self.state = State::Bound(begun);
        }
    }

    /// Removes tokens that pass a limit, as long as others are left.
    fn keep_within(&self, allowed: &mut SimpleVob, limits: &Limits) {
        let run = &self.run;
        let passes = |token: u32| run.passes(self.words.text(token), limits);
        let removed: Vec<u32> = match run.text_is_short(self.words.longest, limits) {
            true => self.words.quoting.iter().copied().filter(|t| allowed.is_allowed(*t) && passes(*t)).collect(),
            false => allowed.iter().filter(|token| passes(*token)).collect(),
        };
        if removed.len() < allowed.num_set() {
            removed.into_iter().for_each(|token| allowed.disallow_token(token));
        }
    }
}

impl Words {
    /// The text that a token adds; nothing for control tokens.
    fn text(&self, token: u32) -> &[u8] {
        match self.trie.token(token) {
            [0xff, ..] => &[],
            bytes => bytes,
        }
    }
}

fn broken(error: impl std::fmt::Display) -> LlmError {
    LlmError::Engine(format!("the answer's form: {}", first_line(&error.to_string())))
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len().max(1)).position(|window| window == part)
}

impl Clone for Constraint {
    /// For several answers to one request: each goes its own way.
    fn clone(&self) -> Self {
        let state = match &self.state {
            State::Bound(matcher) => State::Bound(Box::new(matcher.deep_clone())),
            State::Watching { marker, seen, matcher } => {
                State::Watching { marker: marker.clone(), seen: seen.clone(), matcher: Box::new(matcher.deep_clone()) }
            }
        };
        Self { state, words: self.words.clone(), run: self.run, open: self.open }
    }
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Constraint")
    }
}

#[cfg(test)]
mod tests;
