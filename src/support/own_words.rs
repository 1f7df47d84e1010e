//! Keeping a small model to its source: what it reads, and which words it may write.
//!
//! A model of 135 million weights that reads whole pages wanders off, and the checks cut what it says. So it reads the
//! few sentences that speak of what is asked ([`focus`]), and a grammar ([`bound`]) lets it write only their words, the
//! question's, and those that join words to sentences. What it writes is still checked: the same words in another order
//! can say something else.

use std::collections::BTreeSet;

use super::retrieve::Query;
use super::{lexicon, text};
use crate::kb::Chunk;
use crate::llm::Grammar;

/// Sentences of one passage that the model reads.
const READ: usize = 4;
/// Most different words of a grammar.
const MOST_WORDS: usize = 400;

/// The sentences of a chunk that speak most of what is asked, in their order; the one before a sentence that points
/// back ("It …") with it. Empty where the chunk has no prose.
pub fn focus(query: &Query, chunk: &Chunk) -> String {
    let body = lexicon::prose(chunk);
    let sentences: Vec<&str> = body.lines().flat_map(text::sentences).filter(|s| is_prose(s)).collect();
    let head = text::content_stems(&format!("{} {}", chunk.title, chunk.headings.join(" ")));
    let mut ranked: Vec<(usize, f32)> = sentences
        .iter()
        .enumerate()
        .map(|(at, sentence)| {
            let stems = text::content_stems(sentence);
            let own = query.terms.share(&query.terms.parts(&stems));
            let with_head = query.terms.share(&query.terms.parts(stems.iter().chain(&head)));
            // What follows a heading that is asked for speaks of it without naming it again.
            (at, own + 0.3 * with_head - 0.01 * at as f32)
        })
        .collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut kept: BTreeSet<usize> = BTreeSet::new();
    for (at, _) in ranked {
        if kept.len() >= READ {
            break;
        }
        kept.insert(at);
        if at > 0 && points_back(sentences[at]) {
            kept.insert(at - 1);
        }
    }
    kept.into_iter().map(|at| sentences[at].trim()).collect::<Vec<_>>().join(" ")
}

fn points_back(sentence: &str) -> bool {
    const POINTERS: [&str; 9] = ["It ", "This ", "They ", "These ", "That ", "Then ", "There ", "Otherwise", "But "];
    POINTERS.iter().any(|p| sentence.trim_start().starts_with(p))
}

/// True for what reads as a sentence: no bare marker, table row or lone label.
fn is_prose(sentence: &str) -> bool {
    let words = sentence.split_whitespace().filter(|w| w.chars().any(char::is_alphabetic)).count();
    words >= 4 && !sentence.contains('|') && !sentence.trim_end().ends_with(':')
}

/// Words that join others to sentences. "Not" and "only" are none of them: who denies or limits must have it from the
/// source.
const JOINING: &str = "a an the you your yours can may must should need have has had is are be been was were will to of in on at by for from \
    with into and or if when then it its this that these those there as so also each every all any do does go we our they their which who where how";

/// A grammar of one or two sentences in the words of `read` and the question. `None` where there are too many words.
pub fn bound(read: &str, question: &str) -> Option<Grammar> {
    let bare = |w: &str| {
        let trimmed = w.trim_matches(|c: char| !c.is_alphanumeric());
        trimmed.replace("**", "").replace('`', "")
    };
    let mut words: BTreeSet<String> = BTreeSet::new();
    let mut add = |word: String| {
        if word.is_empty() || !word.chars().all(|c| !c.is_control()) {
            return;
        }
        let mut letters = word.chars();
        if let Some(first) = letters.next() {
            words.insert(first.to_uppercase().chain(letters).collect());
        }
        words.insert(word);
    };
    read.split_whitespace().map(bare).for_each(&mut add);
    let asked: Vec<&str> = question.split_whitespace().collect();
    asked.iter().map(|w| bare(w)).filter(|w| !text::is_stop(&text::fold(w))).for_each(&mut add);
    JOINING.split_whitespace().map(str::to_string).for_each(&mut add);
    if words.len() > MOST_WORDS {
        return None;
    }
    let literals: Vec<String> = words.iter().map(|w| serde_json::Value::from(w.as_str()).to_string()).collect();
    let lark = format!(
        "start: SENTENCE (\" \" SENTENCE)?\nSENTENCE: WORD (\",\"? \" \" WORD)* \".\"\nWORD: {}\n",
        literals.join(" | ")
    );
    Some(Grammar::Lark(lark))
}

/// The last user message: the text, the question, and one example of what is wanted.
pub fn brief(read: &str, question: &str) -> String {
    format!(
        "Text: The museum opens at 10 and closes at 18. On Mondays it is closed. Dogs are not allowed inside.\n\
         Question: can I bring my dog?\n\
         Answer: Dogs are not allowed inside.\n\n\
         Text: {read}\n\
         Question: {question}\n\
         Write the answer in one sentence with the words of the text.\n\
         Answer:"
    )
}

#[cfg(test)]
mod tests {
    use super::super::conversation::Conversation;
    use super::super::lexicon::{Lexicon, tests::article};
    use super::super::retrieve;
    use super::*;
    use crate::kb::pack::{Company, Pack};

    #[test]
    fn the_model_reads_the_sentences_that_speak_of_the_question() {
        let text = "Lumi is a chat. It was made in spring. Invoices are sent by mail every month. They hold the VAT number.\n\
            Agents may be invited by the owner. An agent costs nothing in the trial. Colors are set on the first page. The \
            weather does not matter here at all.";
        let chunk = article("articles/en/a.md", text);
        let lexicon = Lexicon::build(&[chunk.clone()], &Pack::default());
        let asked =
            Conversation { message: "how often are invoices sent".into(), lang: "en".into(), ..Default::default() };
        let read = focus(&retrieve::query(&asked, &lexicon, &Company::default()), &chunk);
        assert!(read.contains("Invoices are sent by mail every month."), "{read}");
        assert!(!read.contains("weather"), "{read}");
    }

    #[test]
    fn the_grammar_has_the_words_of_text_and_question_and_no_denial_of_its_own() {
        let Some(Grammar::Lark(lark)) = bound("Press **Save** at once.", "how do I store \"it\"?") else {
            panic!("a grammar")
        };
        assert!(lark.contains("\"Save\"") && lark.contains("\"store\"") && lark.contains("\"Press\""), "{lark}");
        assert!(!lark.contains("\"not\"") && !lark.contains("\"only\""));
    }
}
