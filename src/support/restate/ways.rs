//! The ways in which an English sentence may be said without a change of what it says.

use super::super::facts::negated;
use super::super::text;

/// Most places of a sentence where it may go several ways.
const FORKS: usize = 12;

/// A piece of a sentence: what it may be, one for what it must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece(pub Vec<String>);

/// What joins a sentence to the one before it, and goes where it stands alone.
const CONNECTORS: [&str; 16] = [
    "Note that ",
    "Please note that ",
    "Please note, ",
    "However, ",
    "Additionally, ",
    "In addition, ",
    "Furthermore, ",
    "Moreover, ",
    "Also, ",
    "Thus, ",
    "Therefore, ",
    "Hence, ",
    "Basically, ",
    "Remember that ",
    "Keep in mind that ",
    "Finally, ",
];

/// Words that may stand for others in whatever sentence.
const WAYS: [(&str, &[&str]); 33] = [
    ("in order to", &["to"]),
    ("utilize", &["use"]),
    ("utilizes", &["uses"]),
    ("allows you to", &["lets you"]),
    ("allow you to", &["let you"]),
    ("enables you to", &["lets you"]),
    ("enable you to", &["let you"]),
    ("is able to", &["can"]),
    ("are able to", &["can"]),
    ("prior to", &["before"]),
    ("for example", &["for instance"]),
    ("for instance", &["for example"]),
    ("a large number of", &["many"]),
    ("make sure that", &["ensure that"]),
    ("ensure that", &["make sure that"]),
    ("do not", &["don't"]),
    ("does not", &["doesn't"]),
    ("is not", &["isn't"]),
    ("are not", &["aren't"]),
    ("cannot", &["can't"]),
    ("can not", &["cannot", "can't"]),
    ("will not", &["won't"]),
    ("you are", &["you're"]),
    ("you will", &["you'll"]),
    ("in the event that", &["if"]),
    ("if you want to", &["to"]),
    ("if you would like to", &["to", "if you want to"]),
    ("if you wish to", &["to", "if you want to"]),
    ("begin", &["start"]),
    ("due to the fact that", &["because"]),
    ("whenever", &["every time"]),
    ("is responsible for", &["takes care of"]),
    ("at the moment", &["now"]),
];

/// Those that only mean the same where nothing is denied.
const WAYS_OF_SAYING_YES: [(&str, &[&str]); 5] = [
    ("need to", &["have to"]),
    ("have to", &["need to"]),
    ("it is necessary to", &["you have to", "you need to"]),
    ("is required", &["is needed"]),
    ("are required", &["are needed"]),
];

/// Verbs that ask somebody to do something.
const ORDERS: &str = "add apply assign build call change check choose clear click close configure connect contact copy create define delete \
    deploy disable download drag edit enable enter execute export fill find follow generate get go grant import include \
    insert install launch log make modify move name navigate open paste pass pick press provide pull push put refer remove rename replace \
    restart reset review run save scroll see select send set sign specify start stop store submit switch tap test toggle try turn type update \
    upgrade upload use verify view visit wait write";

/// The forms of a sentence, each a row of pieces.
pub fn forms(sentence: &str) -> Vec<Vec<Piece>> {
    let sentence =
        CONNECTORS.iter().find_map(|c| sentence.strip_prefix(c)).map_or_else(|| sentence.to_string(), with_capital);
    let mut forms = vec![opened(&sentence, asks(&sentence))];
    forms.extend(turned(&sentence).map(|turned| opened(&turned, asks(&turned))));
    forms
}

/// True where the sentence asks somebody to do something.
fn asks(sentence: &str) -> bool {
    let first = sentence.split_whitespace().next().unwrap_or("");
    ORDERS.split_whitespace().any(|verb| with_capital(verb) == first)
}

/// "To do this, do that." as "Do that to do this.", and with "if" and "when"; where nothing points back.
fn turned(sentence: &str) -> Option<String> {
    let (opener, _) = sentence.split_once(' ')?;
    let (condition, main) = sentence.split_once(", ")?;
    let body = main.strip_suffix('.')?;
    let marked = |s: &str| s.contains(['`', '"', '(', '*', ':', ';', '“']);
    let folded = text::fold(body);
    let points_back = text::words(&folded)
        .iter()
        .any(|w| ["it", "its", "this", "that", "these", "those", "they", "them", "then", "their"].contains(w));
    let fits = ["To", "If", "When"].contains(&opener) && !body.contains(',') && !marked(condition) && !points_back;
    let after_order = opener != "To" || asks(&with_capital(body)) || body.starts_with("you ");
    (fits && after_order)
        .then(|| format!("{} {}{}.", with_capital(body), opener.to_lowercase(), &condition[opener.len()..]))
}

/// The sentence's pieces: what is marked (code, bold, quotations) as it stands, words with other ways, asides.
fn opened(sentence: &str, asks: bool) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut fixed = String::new();
    if asks {
        let (first, rest) = sentence.split_once(' ').unwrap_or((sentence, ""));
        // An order with its purpose is an offer.
        let other = if rest.contains(" to ") || rest.contains(" for ") { "You can" } else { "Please" };
        pieces.push(Piece(vec![first.to_string(), format!("{other} {}", first.to_lowercase())]));
        fixed.push_str(if rest.is_empty() { "" } else { " " });
        open_into(rest, false, negated(sentence), &mut pieces, &mut fixed);
    } else {
        open_into(sentence, true, negated(sentence), &mut pieces, &mut fixed);
    }
    if !fixed.is_empty() {
        pieces.push(Piece(vec![fixed]));
    }
    pieces
}

fn open_into(sentence: &str, begins: bool, denies: bool, pieces: &mut Vec<Piece>, fixed: &mut String) {
    let marked = marked(sentence);
    let free = |at: usize, end: usize| !marked.iter().any(|m| at < m.end && m.start < end);
    let yes: &[(&str, &[&str])] = if denies { &[] } else { &WAYS_OF_SAYING_YES };
    let mut at = 0;
    while at < sentence.len() {
        let starts_word = !sentence[..at].ends_with(|c: char| c.is_alphanumeric() || "'-_./".contains(c));
        let ways = starts_word
            .then(|| WAYS.iter().chain(yes).filter(|(words, _)| opens_with(&sentence[at..], words)))
            .and_then(|found| {
                found.max_by_key(|(words, _)| words.len()).filter(|(words, _)| free(at, at + words.len()))
            });
        let aside = aside(&sentence[at..]).filter(|length| free(at, at + length));
        if let (Some((words, others)), true) = (ways, pieces.len() < FORKS) {
            let capital = begins && at == 0;
            let written = |way: &&str| if capital { with_capital(way) } else { way.to_string() };
            let mut all = vec![sentence[at..at + words.len()].to_string()];
            all.extend(others.iter().map(written));
            flush(pieces, fixed, Piece(all));
            at += words.len();
        } else if let (Some(length), true) = (aside, pieces.len() < FORKS) {
            flush(pieces, fixed, Piece(vec![sentence[at..at + length].to_string(), String::new()]));
            at += length;
        } else {
            let next = sentence[at..].chars().next().map_or(1, char::len_utf8);
            fixed.push_str(&sentence[at..at + next]);
            at += next;
        }
    }
}

fn flush(pieces: &mut Vec<Piece>, fixed: &mut String, next: Piece) {
    if !fixed.is_empty() {
        pieces.push(Piece(vec![std::mem::take(fixed)]));
    }
    pieces.push(next);
}

/// True where a text opens with these words, whatever its first letter's case. A "to" needs its verb.
fn opens_with(text: &str, words: &str) -> bool {
    let Some((opening, after)) = text.split_at_checked(words.len()) else { return false };
    opening.eq_ignore_ascii_case(words)
        && opening[1..] == words[1..]
        && !after.starts_with(|c: char| c.is_alphanumeric() || "'-_".contains(c))
        && (!words.ends_with(" to") || after.starts_with(' '))
}

/// The length of an aside in brackets with the blank before it, which may be left out: it limits nothing and counts
/// nothing.
fn aside(text: &str) -> Option<usize> {
    let inner = text.strip_prefix(" (")?;
    let close = inner.find(')')?;
    let said = text::fold(&inner[..close]);
    let limits = ["only", "not", "no", "except", "unless", "if", "must", "without", "default", "optional", "required"];
    let harmless = !said.contains(|c: char| c.is_ascii_digit() || "`(".contains(c))
        && !text::words(&said).iter().any(|w| limits.contains(w));
    harmless.then_some(close + 3)
}

/// What is marked in a sentence: code, bold, quotations, addresses.
fn marked(sentence: &str) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    for (open, close) in [("`", "`"), ("**", "**"), ("\"", "\""), ("“", "”"), ("«", "»"), ("_", "_")] {
        let mut from = 0;
        while let Some(start) = sentence[from..].find(open).map(|i| from + i) {
            let Some(end) = sentence[start + open.len()..].find(close).map(|i| start + open.len() + i + close.len())
            else {
                break;
            };
            found.push(start..end);
            from = end;
        }
    }
    found
}

fn with_capital(text: impl AsRef<str>) -> String {
    let mut chars = text.as_ref().chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
