//! "How many", "how long", «сколько»: such a question is answered where a sentence or a row of a table that speaks of its
//! subject has an amount. A page that merely speaks of the same things is no answer.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::text;

const ASKED: &str = "how many|how much|how long|how large|how big|how often|how fast|how heavy|what size|what is the size|what is the price|what's the price|\
    what is the limit|what is the maximum|сколько|скольких|скольким|как долго|как часто|какого размера|какой объем|во сколько|почем";

/// Words that are an amount, folded.
const AMOUNTS: &str = "one two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty sixty ninety hundred thousand million once twice \
    half dozen several both none zero free unlimited unrestricted limitless never always daily weekly monthly yearly annually hourly immediately instantly forever \
    minute minutes hour hours day days week weeks month months year years second seconds \
    один одна одно одну два две двух трех три четыре пять шесть семь восемь девять десять двадцать тридцать сорок пятьдесят сто тысяча тысяч миллион дважды трижды \
    половина оба обе несколько ноль бесплатно бесплатный бесплатная бесплатен неограниченно неограничен неограниченное безлимитно безлимитный никогда всегда ежедневно \
    еженедельно ежемесячно ежегодно сразу мгновенно бессрочно минута минуты минут час часа часов день дня дней сутки суток неделя недели недель месяц месяца месяцев год года лет секунд";

static AMOUNT_WORDS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| AMOUNTS.split_whitespace().collect());

/// True where a message, folded to single-spaced words with a space at either end, asks for an amount.
pub fn are_asked(padded: &str) -> bool {
    text::has_any(padded, ASKED)
}

/// Content stems of the sentences and tables that have an amount.
pub fn counted(text: &str) -> HashSet<String> {
    let mut counted = HashSet::new();
    let mut table = String::new();
    for line in text.lines().chain(std::iter::once("")) {
        let line = line.trim();
        if line.starts_with('|') {
            table.push_str(line);
            table.push('\n');
            continue;
        }
        if !table.is_empty() {
            note(&table, &mut counted);
            table.clear();
        }
        text::sentences(without_number(line)).into_iter().for_each(|sentence| note(sentence, &mut counted));
    }
    counted
}

fn note(sentence: &str, counted: &mut HashSet<String>) {
    if has_amount(sentence) {
        counted.extend(text::content_stems(sentence));
    }
}

fn has_amount(sentence: &str) -> bool {
    let folded = text::fold(sentence);
    let mut in_marker = 0;
    let figure = folded.chars().any(|c| {
        in_marker += i32::from(c == '[') - i32::from(c == ']');
        in_marker < 2 && c.is_ascii_digit()
    });
    figure || text::words(&folded).iter().any(|word| AMOUNT_WORDS.contains(word))
}

/// A line without the number that it has as an item or a heading.
fn without_number(line: &str) -> &str {
    let line = line.trim_start_matches(['#', '-', '*', ' ']);
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    match rest.strip_prefix(['.', ')']) {
        Some(rest) if rest.starts_with(' ') => rest.trim_start(),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_heard_in_both_languages() {
        for asks in [
            "how many agents may I invite",
            "what is the price of a seat",
            "сколько стоит тариф",
            "how long is it kept",
        ] {
            assert!(are_asked(&format!(" {asks} ")), "{asks}");
        }
        assert!(!are_asked(" how do i invite an agent "));
    }

    #[test]
    fn only_sentences_and_tables_with_an_amount_count_their_words() {
        let page = "1. Open the widget.\n2. Press Save, see [[code:4]].\n\nFiles may have 25 MB. Agents write freely.\n\n| Plan | Seats |\n| Team | 5 |\n\nA trial lasts two weeks.";
        let counted = counted(page);
        let has = |words: &str| text::content_stems(words).iter().all(|stem| counted.contains(stem));
        assert!(has("files") && has("plan") && has("team seats") && has("trial"), "{counted:?}");
        assert!(!has("widget") && !has("agents") && !has("save"), "{counted:?}");
    }
}
