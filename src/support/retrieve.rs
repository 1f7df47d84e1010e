//! What to look for: the query built from the dialogue, and what kind of answer it asks for.

use std::collections::{BTreeSet, HashSet};

use super::amounts;
use super::answer::NEAR;
use super::conversation::Conversation;
use super::fences;
use super::fit::Findings;
use super::lexicon::Lexicon;
use super::near::Terms;
use super::phrases;
use super::text;
use crate::kb::pack::Company;

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The words to search with.
    pub text: String,
    pub stems: Vec<String>,
    /// The same with their weights and related words.
    pub terms: Terms,
    /// Folded names of the pack that it has.
    pub names: HashSet<String>,
    /// Folded words that look like names and that the pack does not know.
    pub strangers: HashSet<String>,
    pub lang: String,
    pub intent: Intent,
    /// Families of code that it names ([`fences::named`]).
    pub code_in: BTreeSet<&'static str>,
    /// Built from earlier messages too.
    pub follows_up: bool,
}

/// What kind of answer is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Intent {
    /// "Where is…", "where do I find…".
    pub place: bool,
    /// "Give me the code for…".
    pub code: bool,
    /// "What do I type to…", "which setting goes into the env file": likely code, where what fits best has some.
    pub typed: bool,
    /// "Show me a screenshot of…".
    pub picture: bool,
    /// "How many…", "how long…".
    pub amount: bool,
}

impl Intent {
    /// Code may be what is wanted.
    pub fn wants_code(self) -> bool {
        self.code || self.typed
    }
}

/// Builds the query: the last message, with earlier words where it leans on them.
pub fn query(conversation: &Conversation, lexicon: &Lexicon, company: &Company) -> Query {
    let message = lexicon.speller.read(&strip_courtesy(&conversation.message), lexicon).text;
    let mut words = message.clone();
    let mut follows_up = false;
    if leans_on_earlier(&message, conversation, company)
        && let Some(earlier) = conversation.earlier_questions().find(|q| {
            subject_words(q) >= 1
                && super::conversation::small_talk(q).is_none()
                && !super::wish::for_person(q).is_wish()
        })
    {
        follows_up = true;
        let named = !lexicon.names_in(&message).is_empty() || !strangers(&message, lexicon).is_empty();
        let earlier = lexicon.speller.read(&strip_courtesy(earlier), lexicon).text;
        let kept: Vec<&str> = earlier
            .split_whitespace()
            .filter(|w| {
                !named || text::words(&text::fold(w)).iter().all(|f| !lexicon.is_name(f) || company_word(f, company))
            })
            .collect();
        words = format!("{} {message}", kept.join(" "));
    }
    let mut intent = intent(&words);
    intent.place &= !asks_for_company(&message, company);
    let code_in = fences::named(&words);
    // "Verify the signature in Python" asks for code, whatever the verb; "where is the Python page" does not.
    let elsewhere = (intent.place || intent.picture) && !fences::asked_in_one(&words);
    if lexicon.has_fences(&code_in) && !elsewhere {
        intent = Intent { code: true, place: false, picture: false, ..intent };
    }
    // The language chooses among a page's examples; looked for, it would bring up whatever page speaks of it most.
    let subject = fences::without_languages(&words);
    if intent.code && lexicon.has_fences(&code_in) && subject_words(&subject) >= 2 {
        words = subject;
    }
    let stems: Vec<String> = text::content_stems(&words).into_iter().filter(|s| !names_the_form(s, intent)).collect();
    Query {
        terms: Terms::of(&words, &stems, lexicon),
        stems,
        names: subjects(&words, lexicon, company),
        strangers: strangers(&words, lexicon),
        lang: conversation.lang.clone(),
        intent: if follows_up {
            Intent { place: intent.place && self::intent(&message).place, ..intent }
        } else {
            intent
        },
        code_in,
        text: words,
        follows_up,
    }
}

/// What a question is about by name: names that pages are about, and codes that the pack knows ("LC-101").
fn subjects(words: &str, lexicon: &Lexicon, company: &Company) -> HashSet<String> {
    let folded = text::fold(words);
    let is_code = |w: &&str| {
        w.chars().any(|c| c.is_ascii_digit()) && w.chars().any(|c| c.is_ascii_alphabetic()) && lexicon.knows(w)
    };
    let codes = text::words(&folded).into_iter().filter(is_code).map(str::to_string);
    let names = lexicon.subjects_in(words).into_iter().filter(|n| !company_word(n, company));
    names.chain(codes).collect()
}

/// The company's own name names no particular thing in a question.
fn company_word(folded: &str, company: &Company) -> bool {
    text::words(&text::fold(&company.name)).contains(&folded)
}

/// The query of the message alone, where it leans on earlier words by its looks only ("And how do I pay?") and asks in
/// full: what is looked for may be either, and [`better`] chooses.
pub fn alone(conversation: &Conversation, lexicon: &Lexicon, company: &Company) -> Option<Query> {
    let message = lexicon.speller.read(&strip_courtesy(&conversation.message), lexicon).text;
    let folded = text::fold(&message);
    let words = text::words(&folded);
    if subject_words(&message) < 2 || words.iter().any(|w| POINTERS.contains(w)) || !asks_in_full(&words) {
        return None;
    }
    let asked = Conversation { message, lang: conversation.lang.clone(), ..Conversation::default() };
    Some(query(&asked, lexicon, company))
}

/// Of the query joined with earlier words and the message alone: the message alone where its best find fits better, or
/// where what the joined query found hardly speaks of the message: then the earlier words alone brought it up.
pub fn better(joined: (Query, Findings), alone: (Query, Findings)) -> (Query, Findings) {
    const APART: f32 = 0.15;
    let (own, fit) = (alone.1.in_domain(), joined.1.in_domain());
    let first = |found: &Findings| found.best().map(|c| c.chunk.id.clone());
    let of_message = first(&joined.1).map_or(0.0, |id| alone.1.fit_of(&id));
    if own >= fit || (own >= NEAR && own - of_message >= APART) { alone } else { joined }
}

/// True where a question is whole: after an opening "and", it begins as questions do and has more than its object
/// ("and on iOS?" has not).
fn asks_in_full(words: &[&str]) -> bool {
    const OPENINGS: [&str; 16] =
        ["and", "also", "or", "but", "then", "so", "now", "ok", "а", "и", "или", "но", "тогда", "еще", "теперь", "ну"];
    const ASKS: &str = "how do|how can|how to|how much|how many|how long|how often|how does|how should|where|what is|what are|what does|what happens|what do|why|when|which|who|\
        can i|can we|can you|can my|could i|do i|do you|do we|does|did|is there|are there|is it|is the|are the|is my|will|should i|may i|must i|i want|i need|i would|we need|we want|\
        как|где|куда|откуда|почему|зачем|когда|сколько|какой|какая|какие|какое|кто|можно|могу|можем|есть ли|нужно ли|надо ли|будет ли|работает ли|хочу|хотим|что делать|что будет|что такое|подскажите";
    let from = words.iter().position(|w| !OPENINGS.contains(w)).unwrap_or(words.len());
    let rest = &words[from..];
    let begins = format!(" {} ", rest.iter().take(3).copied().collect::<Vec<_>>().join(" "));
    rest.len() >= 4 && text::has_any(&begins, ASKS)
}

fn subject_words(message: &str) -> usize {
    text::content_stems(message).len()
}

/// Greetings and the like in front of a question say nothing of its subject.
fn strip_courtesy(message: &str) -> String {
    let kept: Vec<&str> =
        text::sentences(message).into_iter().filter(|s| super::conversation::small_talk(s).is_none()).collect();
    if kept.is_empty() { message.to_string() } else { kept.join(" ") }
}

/// Words that point back to something said before.
const POINTERS: [&str; 30] = [
    "it",
    "that",
    "this",
    "there",
    "them",
    "they",
    "those",
    "one",
    "he",
    "she",
    "instead",
    "same",
    "его",
    "ее",
    "она",
    "он",
    "оно",
    "они",
    "их",
    "там",
    "туда",
    "это",
    "этого",
    "этом",
    "этот",
    "такой",
    "ней",
    "нем",
    "ним",
    "ему",
];

/// True where the message has little subject of its own, points back, or answers a question of ours.
fn leans_on_earlier(message: &str, conversation: &Conversation, company: &Company) -> bool {
    if conversation.earlier.is_empty() {
        return false;
    }
    let folded = text::fold(message);
    let words = text::words(&folded);
    let subject = subject_words(message);
    const OPENERS: [&str; 16] = [
        "and ",
        "what about",
        "how about",
        "and for",
        "also ",
        "same for",
        "or ",
        "but ",
        "then ",
        "а ",
        "и ",
        "а если",
        "а для",
        "тогда ",
        "или ",
        "то же",
    ];
    let asked = conversation.last_answer().is_some_and(|a| {
        ["clarify", "clarify_choice", "no_answer", "retry", "person_first"]
            .iter()
            .any(|p| phrases::is_phrase(company, p, a))
    });
    let opens = OPENERS.iter().any(|o| folded.trim_start().starts_with(o));
    let points = words.iter().any(|w| POINTERS.contains(w));
    (asked && subject <= 6) || (opens && subject <= 4) || (points && subject <= 3) || subject <= 1
}

/// Words that look like names of something the pack does not know.
fn strangers(message: &str, lexicon: &Lexicon) -> HashSet<String> {
    let prose = text::without_code(message);
    let russian = text::is_cyrillic(&prose);
    let mut found = HashSet::new();
    for sentence in text::sentences(&prose) {
        for (i, word) in sentence.split(|c: char| !c.is_alphanumeric()).filter(|w| w.chars().count() > 2).enumerate() {
            let folded = text::fold(word);
            let capital = word.chars().next().is_some_and(char::is_uppercase) && i > 0;
            let inner = word.chars().skip(1).any(char::is_uppercase) && word.chars().any(char::is_lowercase);
            let latin_in_russian = russian && !text::is_cyrillic(word);
            if (capital || inner || latin_in_russian)
                && word.chars().any(char::is_alphabetic)
                && !lexicon.knows(&folded)
                && !text::is_stop(&folded)
            {
                found.insert(folded);
            }
        }
    }
    found
}

const PLACE: &str = "where|where's|wheres|find the|locate|which menu|which section|which screen|which tab|what menu|which place|what do i click|where do i click|get to|path to|\
    где|куда|в каком разделе|в каком меню|в каком месте|на какой вкладке|как найти|как попасть|не могу найти|не нахожу|can't find|cannot find|как зайти в|путь к";
const NOT_PLACE: &str = "where are your servers|data stored|сервер*|хранятся|хранится";
const CODE: &str = "code|snippet|script for|example code|sample code|curl|код|кода|коде|скрипт для|сниппет*|пример запроса|пример кода|фрагмент*|пример на|листинг|конфиг*|config|\
    which line|what line|sample|an example|show example*|пример|примеры|образец|which php|what php|which liquid|html for|header line";
const NOT_CODE: &str = "error code*|promo code*|backup code*|код ошибки|коды ошиб*|резервн*|промокод*|verification code*|qr code*|код подтверждения|discount code*|country code*|\
    status code*|recovery code*|six digit*|код из приложения";
const TYPED: &str = "apt|apt get|npm|npx|yarn|pnpm|pip|brew|homebrew|composer|helm|kubectl|docker compose|systemctl|sudo|rake|cli|command|commands|command line|terminal|shell|console|do i type|should i type|do i run|should i run|env file|env settings|env variable*|environment variable*|\
    config file|configuration file|goes into the|go into the|do i put into|команду|командой|команды для|команда для|терминал*|консол*|в командной строке|переменные окружения|\
    переменная окружения|переменной окружения|что прописать|что вписать|что указать в|что добавить в|в конфиг*|в настройках сервера|как записать|как выглядит ответ|формат ответа|формат запроса";
const PICTURE: &str = "screenshot*|screen shot*|picture|pictures|image of|show me how it looks|what does it look like|скриншот*|скрин|скрины|скрина|картинк*|изображени*|как выглядит|покажи* как";
const NOT_PICTURE: &str =
    "profile picture|my picture|upload*|загруз*|send a picture|send picture*|visitors send|моя картинк*|в профил*";

/// "Where is Acme?" asks for an address, not for a place of the app.
fn asks_for_company(message: &str, company: &Company) -> bool {
    let (message, name) = (text::fold(message), text::fold(&company.name));
    let (said, name) = (text::words(&message), text::words(&name));
    // At most "based" or "located" follows: the Acme button is a place again.
    let beginnings = [["where", "is"].as_slice(), &["where", "are"], &["где"], &["где", "находится"]];
    !name.is_empty()
        && beginnings.into_iter().any(|beginning| {
            let wanted = [beginning, &name].concat();
            said.starts_with(&wanted) && said.len() <= wanted.len() + 1
        })
}

/// Reads what kind of answer is asked for.
pub fn intent(message: &str) -> Intent {
    let folded = format!(" {} ", text::words(&text::fold(message)).join(" "));
    let asks =
        |list: &'static str, unless: &'static str| text::has_any(&folded, list) && !text::has_any(&folded, unless);
    let (place, code) = (asks(PLACE, NOT_PLACE), asks(CODE, NOT_CODE));
    Intent {
        place,
        code,
        typed: !code && text::has_any(&folded, TYPED),
        picture: asks(PICTURE, NOT_PICTURE),
        amount: amounts::are_asked(&folded),
    }
}

/// Words that say what kind of answer is wanted, and nothing of its subject.
fn names_the_form(stem: &str, intent: Intent) -> bool {
    (intent.picture
        && matches!(
            stem,
            "screenshot" | "pictur" | "imag" | "@show" | "скриншот" | "скрин" | "картинк" | "изображен" | "выгляд"
        ))
        || (intent.code
            && matches!(
                stem,
                "code" | "snippet" | "exampl" | "sampl" | "код" | "сниппет" | "пример" | "фрагмент" | "@show"
            ))
        || (intent.place
            && matches!(
                stem,
                "find" | "menu" | "click" | "place" | "section" | "найт" | "мен" | "раздел" | "наж" | "мест" | "наход"
            ))
}

#[cfg(test)]
mod tests {
    use super::super::fit::findings;
    use std::sync::Arc;

    use super::super::lexicon::tests::{article, faq};
    use super::*;
    use crate::kb::pack::Pack;
    use crate::kb::{Asset, Chunk};

    fn lexicon() -> Lexicon {
        let chunks = vec![
            faq("del", "en", &["How do I delete a conversation?"], "Open it and press Delete."),
            faq(
                "col",
                "en",
                &["How do I change the color of the chat button?", "Can I recolor the widget?"],
                "Open Settings.",
            ),
            faq("ios", "en", &["How do I install the widget on iOS?"], "Add the package in Xcode. Use iOS 15."),
            faq("and", "en", &["How do I install the widget on Android?"], "Add the gradle line on Android."),
            faq(
                "pay",
                "en",
                &["Which payment methods do you accept?", "How can I pay?"],
                "Visa, Mastercard and bank transfer.",
            ),
            faq("удал", "ru", &["Как удалить диалог?"], "Откройте его и нажмите Удалить."),
            faq("цвет", "ru", &["Как изменить цвет кнопки чата?"], "Откройте Настройки."),
        ];
        Lexicon::build(&chunks, &Pack::default())
    }

    fn asking(message: &str, lang: &str) -> Conversation {
        Conversation { message: message.into(), lang: lang.into(), ..Default::default() }
    }

    fn best(message: &str, lang: &str) -> (String, f32) {
        let lexicon = lexicon();
        let query = query(&asking(message, lang), &lexicon, &Company::default());
        let found = findings(&query, &[], &lexicon, "igor", "");
        found.questions.first().map_or((String::new(), 0.0), |c| (c.chunk.id.clone(), c.fit))
    }

    #[test]
    fn another_wording_of_a_question_fits_and_its_opposite_does_not() {
        let (id, fit) = best("как поменять цвет кнопки", "ru");
        assert!(id == "цвет" && fit > 0.6, "{id} {fit}");
        let (_, fit) = best("как восстановить диалог", "ru");
        assert!(fit < 0.5, "{fit}");
        let (id, fit) = best("how can i recolour chat button", "en");
        assert!(id == "col" && fit > 0.5, "{id} {fit}");
    }

    #[test]
    fn a_question_about_one_platform_is_not_answered_with_another() {
        let (id, fit) = best("install the widget on android", "en");
        assert!(id == "and" && fit > 0.7);
        let lexicon = lexicon();
        let q = query(&asking("install the widget on android", "en"), &lexicon, &Company::default());
        let found = findings(&q, &[], &lexicon, "igor", "");
        let ios = found.questions.iter().find(|c| c.chunk.id == "ios").map_or(0.0, |c| c.fit);
        assert!(ios < 0.45, "{ios}");
    }

    #[test]
    fn a_follow_up_leans_on_the_earlier_question_with_its_own_name() {
        let lexicon = lexicon();
        let mut conversation = asking("and on Android?", "en");
        conversation.earlier.push(("How do I install the widget on iOS?".into(), "Add the package.".into()));
        let query = query(&conversation, &lexicon, &Company::default());
        assert!(query.follows_up && query.text.contains("install") && !query.text.contains("iOS"), "{}", query.text);
    }

    /// What is found for `message` after an earlier exchange, as a turn finds it.
    fn found_after(earlier: &str, message: &str, lang: &str) -> String {
        let lexicon = lexicon();
        let mut conversation = asking(message, lang);
        conversation.earlier.push((earlier.into(), "As the page says.".into()));
        let company = Company::default();
        let find = |q: Query| {
            let found = findings(&q, &[], &lexicon, "igor", "");
            (q, found)
        };
        let joined = find(query(&conversation, &lexicon, &company));
        let found = match alone(&conversation, &lexicon, &company) {
            Some(alone) if joined.0.follows_up => better(joined, find(alone)).1,
            _ => joined.1,
        };
        found.questions.first().map_or(String::new(), |c| c.chunk.id.clone())
    }

    #[test]
    fn a_whole_question_that_begins_with_and_is_asked_for_itself() {
        for (earlier, message, lang, wanted) in [
            ("Which payment methods do you accept?", "And how do I change the color of the chat button?", "en", "col"),
            ("How do I change the color of the chat button?", "And how do I delete a conversation?", "en", "del"),
            ("How do I delete a conversation?", "Also, which payment methods do you accept?", "en", "pay"),
            ("How do I install the widget on iOS?", "But how can I recolor the chat button?", "en", "col"),
            ("Как удалить диалог?", "А как изменить цвет кнопки чата?", "ru", "цвет"),
            ("Как изменить цвет кнопки чата?", "И как удалить диалог с клиентом?", "ru", "удал"),
        ] {
            assert_eq!(found_after(earlier, message, lang), wanted, "{earlier} / {message}");
        }
    }

    #[test]
    fn what_only_names_another_thing_keeps_the_earlier_question() {
        for (earlier, message, wanted) in [
            ("How do I install the widget on iOS?", "and on Android?", "and"),
            ("How do I install the widget on Android?", "What about iOS then?", "ios"),
            ("How do I install the widget on Android?", "And how do I do that on iOS?", "ios"),
        ] {
            assert_eq!(found_after(earlier, message, "en"), wanted, "{earlier} / {message}");
        }
    }

    #[test]
    fn an_unknown_name_makes_a_match_less_sure() {
        let lexicon = lexicon();
        let q = query(&asking("Can I pay with PayPal?", "en"), &lexicon, &Company::default());
        assert!(q.strangers.contains("paypal"));
    }

    #[test]
    fn an_amount_is_answered_only_where_one_is_given_of_what_is_asked() {
        let chunks = vec![
            faq("seats", "en", &["Who may join the workspace?"], "Agents join by invitation. A trial lasts 14 days."),
            faq("limit", "en", &["Which limits has the workspace?"], "Up to 25 agents may join."),
        ];
        let lexicon = Lexicon::build(&chunks, &Pack::default());
        let query = query(&asking("How many agents may join the workspace?", "en"), &lexicon, &Company::default());
        let found = findings(&query, &[], &lexicon, "igor", "");
        let doubted = |id: &str| {
            let of = found.questions.iter().find(|c| c.chunk.id == id).expect("it is found");
            of.doubts.contains(&"gives no amount")
        };
        assert!(query.intent.amount && doubted("seats") && !doubted("limit"));
        assert_eq!(found.questions[0].chunk.id, "limit");
    }

    #[test]
    fn a_language_chooses_the_example_and_is_not_looked_for() {
        let code = Asset::Code { n: 1, language: "python".into(), text: "import hmac".into() };
        let page = article("articles/en/signature.md", "Check the signature of a webhook.\n\n[[code:1]]");
        let chunks = vec![Arc::new(Chunk { assets: vec![code], ..(*page).clone() })];
        let lexicon = Lexicon::build(&chunks, &Pack::default());
        let read = |message: &str| query(&asking(message, "en"), &lexicon, &Company::default());
        let asked = read("check the webhook signature in Python");
        assert_eq!(asked.text, "check the webhook signature in");
        assert!(asked.intent.code && asked.code_in.contains("python"));
        assert_eq!(read("the Python SDK and the webhook").text, "the Python SDK and the webhook");
        assert!(read("what do I type in the terminal").intent.typed && !read("who is there").intent.wants_code());
    }

    #[test]
    fn where_and_code_are_heard_and_error_codes_are_not_code() {
        let acme = Company { name: "Acme Tools".into(), ..Default::default() };
        assert!(asks_for_company("Where is Acme Tools based?", &acme) && asks_for_company("где Acme Tools", &acme));
        assert!(!asks_for_company("where is Acme Tools in the menu", &acme));
        assert!(intent("Where do I find my invoices?").place && intent("где мои счета").place);
        assert!(intent("give me code for React").code && intent("дай код для React").code);
        assert!(!intent("what is error code LC-101").code && !intent("backup codes").code);
    }
}
