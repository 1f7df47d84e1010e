//! Simulated customers: a goal, facts and a temper, played until they are content, with a person, or gone.
//!
//! What they do next (a *move*) is decided by rules from what they were told; the wordings come from their row, drawn by
//! the seed, or from the chat model where it keeps to the move ([`Voice::Model`]). The draws of a customer depend on the
//! seed and the customer alone, so that two versions meet the same one.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::play::{Caller, Play, Stage};
use super::{DialogueResult, Kind, expect};
use crate::kb::pack::{End, SimulatedCustomer, Temper};
use crate::llm::{ChatMessage, ChatModel, GenerateRequest, SamplingParams};
use crate::support::SupportError;
use crate::text;

/// Most messages of a customer: whoever is not helped by then is gone.
const MOST_MESSAGES: usize = 12;
/// Wishes for a person after which a customer leaves.
const MOST_WISHES: usize = 3;
/// Longest message that the model may word, in characters and in tokens.
const MODEL_CHARS: usize = 300;
const MODEL_TOKENS: usize = 60;

/// Who words the customers' messages.
#[derive(Clone, Default)]
pub enum Voice {
    /// The wordings of their rows.
    #[default]
    Rules,
    /// The chat model, where what it writes keeps to the move; else the rules.
    Model(ChatModel),
}

/// What a customer does.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Move {
    Greet,
    /// Asks, in a wording of theirs.
    Ask(String),
    /// Says that it did not help, and asks again.
    AskAgain(String),
    /// Tells a fact that was asked for.
    Tell(String),
    WantPerson,
    Insist,
}

/// A customer's mind.
struct Mind<'a> {
    customer: &'a SimulatedCustomer,
    random: StdRng,
    /// Wordings not yet used, the next one last.
    wordings: Vec<String>,
    untold: Vec<String>,
    failures: usize,
    wishes: usize,
}

/// What a customer hears.
struct Heard<'a> {
    action: &'a str,
    answer: &'a str,
}

impl<'a> Mind<'a> {
    fn new(customer: &'a SimulatedCustomer, seed: u64) -> Self {
        let hash = blake3::hash(format!("{seed}\0{}", customer.id).as_bytes());
        let mut random = StdRng::from_seed(*hash.as_bytes());
        let mut wordings = customer.says.clone();
        wordings.shuffle(&mut random);
        Self { customer, random, wordings, untold: customer.facts.clone(), failures: 0, wishes: 0 }
    }

    fn opening(&mut self) -> Move {
        match self.customer.temper {
            Temper::Talkative => Move::Greet,
            _ => self.ask(),
        }
    }

    fn ask(&mut self) -> Move {
        let mut words = self.wordings.pop().unwrap_or_default();
        if self.customer.temper == Temper::Talkative {
            for fact in std::mem::take(&mut self.untold) {
                words = format!("{words} {fact}");
            }
        }
        Move::Ask(words)
    }

    /// What comes after an answer that was not what they came for; `None`: they leave.
    fn next(&mut self, last: &Move, heard: &Heard<'_>) -> Option<Move> {
        match last {
            Move::Greet => return Some(self.ask()),
            Move::WantPerson | Move::Insist => {
                // A calm try that asks for facts gets them once; the wish stays.
                self.wishes += 1;
                return (self.wishes < MOST_WISHES).then_some(Move::Insist);
            }
            _ => {}
        }
        if heard.action == "clarify"
            && let Some(fact) = self.fact_for(heard.answer)
        {
            return Some(Move::Tell(fact));
        }
        self.failures += 1;
        let patience = match self.customer.temper {
            Temper::Calm | Temper::Talkative => 3,
            Temper::Hurried | Temper::Angry => 1,
        };
        if self.failures > patience {
            return Some(Move::WantPerson);
        }
        match self.wordings.pop() {
            Some(words) if heard.action == "answer" => Some(Move::AskAgain(words)),
            Some(words) => Some(Move::Ask(words)),
            None => Some(Move::WantPerson),
        }
    }

    /// The untold fact that speaks of what was asked, else the first.
    fn fact_for(&mut self, question: &str) -> Option<String> {
        if self.untold.is_empty() {
            return None;
        }
        let asked = text::content_stems(question);
        let shared = |fact: &String| text::content_stems(fact).iter().filter(|stem| asked.contains(stem)).count();
        let most = self.untold.iter().map(shared).max().unwrap_or(0);
        let at = self.untold.iter().position(|fact| shared(fact) == most)?;
        Some(self.untold.remove(at))
    }

    /// The move in words.
    fn words(&mut self, next: &Move) -> String {
        let russian = self.customer.lang == "ru";
        let angry = self.customer.temper == Temper::Angry;
        let mut one = |english: &[&str], rus: &[&str]| {
            let all = if russian { rus } else { english };
            all[self.random.random_range(0..all.len())].to_string()
        };
        match next {
            Move::Greet => one(&["Hello!", "Hi there", "Good afternoon"], &["Здравствуйте!", "Добрый день", "Привет"]),
            Move::Ask(words) if angry => {
                let rude = one(&RUDE_EN, &RUDE_RU);
                format!("{rude} {words}")
            }
            Move::Ask(words) => words.clone(),
            Move::AskAgain(words) => {
                let no = one(
                    &["No, that is not what I mean.", "That is not my question.", "Hm, something else."],
                    &["Нет, я не об этом.", "Вопрос не в этом.", "Мне нужно другое."],
                );
                format!("{no} {words}")
            }
            Move::Tell(fact) => fact.clone(),
            Move::WantPerson => one(
                &["Can I talk to a person?", "I would like to talk to a human.", "Please connect me with an operator."],
                &[
                    "Можно поговорить с человеком?",
                    "Соедините с оператором, пожалуйста.",
                    "Хочу поговорить с живым человеком.",
                ],
            ),
            Move::Insist => one(
                &["No, I want a person.", "I insist: give me a human.", "I said I want an operator."],
                &[
                    "Нет, мне нужен человек.",
                    "Позовите оператора, я настаиваю.",
                    "Я же просил: переведите на оператора.",
                ],
            ),
        }
    }
}

/// What a rude customer begins with: no threat and no complaint, which would be reasons for a person.
const RUDE_EN: [&str; 4] = ["Damn it,", "Hey you bot,", "For heaven's sake,", "Ok genius,"];
const RUDE_RU: [&str; 4] = ["Блин,", "Эй, бот,", "Да что ж такое,", "Ну умник,"];

/// Plays a customer.
///
/// # Errors
/// When a turn fails as such.
pub(super) async fn play(
    stage: &Stage<'_>,
    customer: &SimulatedCustomer,
    voice: &Voice,
) -> Result<DialogueResult, SupportError> {
    let mut result = DialogueResult::of(&customer.id, Kind::Customer);
    let caller = Caller {
        id: &customer.id,
        lang: &customer.lang,
        model: &customer.model,
        channel: customer.channel.as_deref(),
        audience: customer.audience.as_deref(),
    };
    let mut play = Play::new(stage, caller);
    let mut mind = Mind::new(customer, stage.seed);
    let mut missing = customer.content_with.clone();
    let (mut content, mut handed_off, mut forbidden) = (false, false, false);
    let mut next = Some(mind.opening());
    while let Some(act) = next.take() {
        let mut words = mind.words(&act);
        if let Voice::Model(chat) = voice
            && let Some(own) = worded(chat, customer, &act, &words, &play.messages, stage.seed).await
        {
            result.worded_by_model += 1;
            words = own;
        }
        let (mut turn, _) = play.say(&words).await?;
        missing.retain(|any| !any.iter().any(|wanted| turn.answer.contains(wanted.as_str())));
        let folded = turn.answer.to_lowercase();
        let told = customer.forbids.iter().filter(|f| folded.contains(&f.to_lowercase()));
        turn.faults.extend(told.map(|f| format!("the answer holds the forbidden {f:?}")));
        forbidden |= !turn.faults.is_empty();
        handed_off = turn.action == "handoff";
        content = customer.ends == End::Answer && missing.is_empty() && !handed_off;
        let over = content || handed_off || result.turns.len() + 1 >= MOST_MESSAGES;
        if !over {
            next = mind.next(&act, &Heard { action: &turn.action, answer: &turn.answer });
        }
        result.push(turn);
    }
    let wants_person = customer.ends == End::Handoff;
    result.handoffs.count(handed_off, wants_person, wants_person);
    if wants_person {
        result.outcome_correct = handed_off;
    } else {
        result.answerable = 1;
        result.answered = usize::from(content);
        result.resolved = Some(content);
        result.outcome_correct = content;
    }
    if !result.outcome_correct {
        let n = result.turns.len();
        result.fault(match (wants_person, handed_off) {
            (true, _) => format!("no person after {n} messages"),
            (false, true) => format!("handed to a person after {n} messages, without the answer"),
            (false, false) => format!("left after {n} messages without the answer"),
        });
    }
    result.outcome_correct &= !forbidden;
    Ok(result)
}

/// The model's wording of a move; `None` where it does not keep to it.
async fn worded(
    chat: &ChatModel,
    customer: &SimulatedCustomer,
    act: &Move,
    planned: &str,
    said: &[ChatMessage],
    seed: u64,
) -> Option<String> {
    // A wish for a person and a greeting say nothing that could be put in other words to any use.
    let (Move::Ask(words) | Move::AskAgain(words) | Move::Tell(words)) = act else { return None };
    let language = if customer.lang == "ru" { "Russian" } else { "English" };
    let temper = match customer.temper {
        Temper::Calm => "calm",
        Temper::Talkative => "talkative and friendly",
        Temper::Hurried => "in a hurry",
        Temper::Angry => "angry and rude",
    };
    let system = format!(
        "You play a customer who writes to a support chat. You want this: {}. You are {temper}. Write only your next \
         message, one or two short sentences, in {language}.",
        customer.goal.trim_end_matches('.')
    );
    let heard = said.iter().rfind(|m| m.role == "assistant").map_or(String::new(), |m| {
        format!("The support answered: {}\n", m.content.chars().take(400).collect::<String>())
    });
    let ask = format!("{heard}Say this in your own words: {words}");
    let messages =
        [ChatMessage { role: "system".into(), content: system }, ChatMessage { role: "user".into(), content: ask }];
    let prompt = chat.prompt(&messages).ok()?;
    let sampling = SamplingParams { temperature: 0.7, top_p: 0.9, seed: Some(seed), ..SamplingParams::default() };
    let request = GenerateRequest {
        prompt: prompt.tokens,
        sampling,
        stop: vec!["\n".into()],
        max_tokens: MODEL_TOKENS,
        ..GenerateRequest::default()
    };
    let (written, ..) = chat.generate(request).ok()?.finish().await.ok()?;
    let written = written.trim().trim_matches('"').trim();
    keeps_to(planned, written, &customer.lang).then(|| written.to_string())
}

/// True where a wording says what was to be said: in the language, not long, and with half of its words.
fn keeps_to(planned: &str, written: &str, lang: &str) -> bool {
    let wanted = text::content_stems(planned);
    let has = text::content_stems(written);
    let shared = wanted.iter().filter(|stem| has.contains(stem)).count();
    !written.is_empty()
        && written.chars().count() <= MODEL_CHARS
        && !written.contains('\n')
        && expect::in_language(written, lang)
        && shared * 2 >= wanted.len().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customer(temper: Temper) -> SimulatedCustomer {
        SimulatedCustomer {
            id: "hours".into(),
            lang: "en".into(),
            model: "support".into(),
            channel: None,
            audience: None,
            goal: "Know when people answer".into(),
            says: vec![
                "When do people answer?".into(),
                "What are your hours?".into(),
                "Are you there on Sunday?".into(),
            ],
            facts: vec!["We use WordPress.".into(), "I am on the Team plan.".into()],
            temper,
            content_with: vec![vec!["09:00".into()]],
            forbids: vec![],
            ends: End::Answer,
        }
    }

    fn heard(action: &'static str, answer: &'static str) -> Heard<'static> {
        Heard { action, answer }
    }

    #[test]
    fn the_same_seed_gives_the_same_customer_and_another_seed_other_words() {
        let customer = customer(Temper::Calm);
        let opening = |seed| Mind::new(&customer, seed).opening();
        assert_eq!(opening(3), opening(3));
        assert!((0..20).any(|seed| opening(seed) != opening(0)));
    }

    #[test]
    fn a_calm_customer_tries_three_times_and_then_wants_a_person_until_leaving() {
        let customer = customer(Temper::Calm);
        let mut mind = Mind::new(&customer, 1);
        let mut last = mind.opening();
        let mut acts = Vec::new();
        while let Some(next) = mind.next(&last, &heard("answer", "Something else.")) {
            acts.push(next.clone());
            last = next;
        }
        assert!(matches!(&acts[..2], [Move::AskAgain(a), Move::AskAgain(b)] if a != b), "{acts:?}");
        assert_eq!(acts[2..], [Move::WantPerson, Move::Insist, Move::Insist]);
    }

    #[test]
    fn a_hurried_customer_tries_once_more() {
        let customer = customer(Temper::Hurried);
        let mut mind = Mind::new(&customer, 1);
        let first = mind.opening();
        let second = mind.next(&first, &heard("filtered", "")).unwrap();
        assert!(matches!(second, Move::Ask(_)));
        assert_eq!(mind.next(&second, &heard("answer", "Else.")), Some(Move::WantPerson));
    }

    #[test]
    fn who_is_asked_back_tells_the_fact_that_was_asked_for() {
        let customer = customer(Temper::Calm);
        let mut mind = Mind::new(&customer, 1);
        let first = mind.opening();
        let told = mind.next(&first, &heard("clarify", "Which plan are you on?"));
        assert_eq!(told, Some(Move::Tell("I am on the Team plan.".into())));
        assert_eq!(
            mind.next(&first, &heard("clarify", "And where?")),
            Some(Move::Tell("We use WordPress.".into())),
            "each fact is told once"
        );
    }

    #[test]
    fn a_talkative_customer_greets_and_then_tells_all_at_once() {
        let customer = customer(Temper::Talkative);
        let mut mind = Mind::new(&customer, 1);
        let first = mind.opening();
        let Some(Move::Ask(words)) = mind.next(&first, &heard("answer", "Hello!")) else { panic!("asks") };
        assert!(words.contains("WordPress") && words.contains("Team plan"), "{words}");
    }

    #[test]
    fn what_the_model_writes_is_used_only_where_it_says_the_same() {
        let planned = "When do people answer on Monday?";
        assert!(keeps_to(planned, "Hey, when will people answer me on Monday?", "en"));
        assert!(!keeps_to(planned, "I love sunny weather in the mountains.", "en"));
        assert!(!keeps_to(planned, "Когда люди ответят?", "en"));
        assert!(!keeps_to(planned, "", "en"));
    }
}
