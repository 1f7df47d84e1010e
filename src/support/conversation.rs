//! What the transcript says: the customer's last message, the language, and the state of a plain client's
//! conversation, derived anew each turn from our own earlier phrases.

use super::ConversationState;
use super::phrases;
use super::text;
use super::wish;
use crate::kb::pack::Company;
use crate::llm::ChatMessage;

/// A transcript, read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conversation {
    /// The customer's last message (all user messages since our last answer, joined).
    pub message: String,
    /// Earlier exchanges as (customer, answer), oldest first; an answer is empty where none was given.
    pub earlier: Vec<(String, String)>,
    /// What the client's own system messages say: data about the customer, never instructions.
    pub context: String,
    /// ISO 639-1, always one that the company serves.
    pub lang: String,
    pub state: ConversationState,
}

impl Conversation {
    /// Reads a transcript. `state`: what the last turn left; `None` derives it from the transcript.
    pub fn read(messages: &[ChatMessage], state: Option<&ConversationState>, company: &Company) -> Self {
        let mut conversation = Self::default();
        let mut waiting: Vec<&str> = Vec::new();
        let mut context: Vec<&str> = Vec::new();
        for message in messages {
            match message.role.as_str() {
                "user" => waiting.push(&message.content),
                "assistant" => {
                    conversation.earlier.push((waiting.join("\n"), message.content.clone()));
                    waiting.clear();
                }
                "system" | "developer" => context.push(&message.content),
                _ => {}
            }
        }
        conversation.message = waiting.join("\n");
        conversation.context = context.join("\n");
        conversation.state = match state {
            Some(state) => state.clone(),
            None => derive_state(&conversation.earlier, company),
        };
        conversation.lang = conversation_language(&conversation, company);
        conversation
    }

    /// The customer's earlier messages, newest first.
    pub fn earlier_questions(&self) -> impl Iterator<Item = &str> {
        self.earlier.iter().rev().map(|(question, _)| question.as_str())
    }

    /// Our last answer.
    pub fn last_answer(&self) -> Option<&str> {
        self.earlier.last().map(|(_, answer)| answer.as_str()).filter(|a| !a.is_empty())
    }
}

/// The language of the last message that tells, else the state's, else the company's first.
fn conversation_language(conversation: &Conversation, company: &Company) -> String {
    let of = |message: &str| text::language(message, &company.languages);
    of(&conversation.message)
        .or_else(|| conversation.state.lang.clone())
        .or_else(|| conversation.earlier_questions().find_map(of))
        .or_else(|| company.languages.first().cloned())
        .unwrap_or_else(|| "en".into())
}

/// Counts what our own phrases and the customer's words say of the conversation so far.
fn derive_state(earlier: &[(String, String)], company: &Company) -> ConversationState {
    let mut state = ConversationState::default();
    for (question, answer) in earlier {
        if wish::for_person(question).is_wish() || phrases::is_phrase(company, "person_first", answer) {
            state.asked_for_person += 1;
        }
        if phrases::is_phrase(company, "handoff", answer) {
            state.handed_off = true;
        }
        let failed = ["clarify", "no_answer", "retry"].iter().any(|name| phrases::is_phrase(company, name, answer));
        state.failures = if failed { state.failures + 1 } else { 0 };
    }
    state
}

/// What the customer says about our last answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feedback {
    Helped,
    Failed,
    None,
}

/// Reads thanks and complaints about the last answer.
pub fn feedback(message: &str) -> Feedback {
    let folded = text::fold(message);
    let padded = format!(" {} ", text::words(&folded).join(" "));
    let has = |phrases: &[&str]| phrases.iter().any(|p| padded.contains(&format!(" {p}")));
    const FAILED: [&str; 37] = [
        "did not work",
        "didn't work",
        "didnt work",
        "does not work either",
        "doesn't work either",
        "still not working",
        "still doesn't",
        "still does not",
        "still nothing",
        "did not help",
        "didn't help",
        "didnt help",
        "doesn't help",
        "does not help",
        "not helpful",
        "no help",
        "that's not what i",
        "thats not what i",
        "not what i asked",
        "not what i meant",
        "wrong answer",
        "you already said",
        "already tried that",
        "i tried that",
        "no luck",
        "useless",
        "не помогло",
        "не помогает",
        "не помогли",
        "не сработало",
        "все равно не",
        "по прежнему не",
        "не то",
        "не об этом",
        "вы это уже",
        "уже пробовал",
        "это не ответ",
    ];
    const HELPED: [&str; 12] = [
        "it worked",
        "that worked",
        "works now",
        "that helped",
        "it helped",
        "solved",
        "all good now",
        "помогло",
        "получилось",
        "заработало",
        "все работает",
        "решено",
    ];
    if has(&FAILED) {
        Feedback::Failed
    } else if has(&HELPED) && !padded.contains(" not ") && !padded.contains(" не ") {
        Feedback::Helped
    } else {
        Feedback::None
    }
}

/// Talk that needs no knowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmallTalk {
    Greeting,
    Thanks,
    Goodbye,
}

/// Small talk, where the message is nothing else: every word of it is one of courtesy.
pub fn small_talk(message: &str) -> Option<SmallTalk> {
    let folded = text::fold(message);
    let words = text::words(&folded);
    if words.is_empty() || words.len() > 9 {
        return None;
    }
    const GREETING: &str = "hi hello hey hiya good morning afternoon evening greetings здравствуйте здравствуй привет приветствую добрый доброе день утро вечер";
    const THANKS: &str = "thanks thank thx ty cheers appreciated спасибо благодарю спс";
    const GOODBYE: &str = "bye goodbye see пока свидания досвидания";
    const FILLER: &str = "there you very much so a lot for the your help all everyone team again great perfect awesome cool nice ok okay good it that worked \
        helped solved works now this is i was just great day have later igor игорь max greta большое огромное вам тебе за помощь ответ все всё до всего \
        доброго хорошо отлично супер понял понятно ясно помогло получилось заработало это и не надо разобрался разобралась nothing else that's";
    let is_in = |list: &str, word: &str| list.split_whitespace().any(|w| w == word);
    let any = |list: &str| words.iter().any(|w| is_in(list, w));
    if !words.iter().all(|w| [GREETING, THANKS, GOODBYE, FILLER].iter().any(|list| is_in(list, w))) {
        return None;
    }
    if any(THANKS) || feedback(message) == Feedback::Helped {
        Some(SmallTalk::Thanks)
    } else if any(GOODBYE) && !words.contains(&"day") {
        Some(SmallTalk::Goodbye)
    } else if any(GREETING) {
        Some(SmallTalk::Greeting)
    } else {
        // "ok", "понятно": an answer was taken.
        (words.len() <= 3
            && words
                .iter()
                .any(|w| is_in("ok okay great perfect cool nice хорошо отлично супер понял понятно ясно", w)))
        .then_some(SmallTalk::Thanks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn company() -> Company {
        Company { name: "Lumichat".into(), languages: vec!["en".into(), "ru".into()], ..Default::default() }
    }

    fn message(role: &str, content: &str) -> ChatMessage {
        ChatMessage { role: role.into(), content: content.into() }
    }

    #[test]
    fn a_plain_transcript_tells_that_a_person_was_asked_for() {
        let said = phrases::phrase(&company(), "person_first", "en", &[("hint", "")]);
        let messages = [
            message("user", "I want to talk to a human"),
            message("assistant", &said),
            message("user", "human please"),
        ];
        let read = Conversation::read(&messages, None, &company());
        assert_eq!(read.state.asked_for_person, 1);
        assert_eq!(read.message, "human please");
    }

    #[test]
    fn failures_in_a_row_are_counted_and_an_answer_ends_the_row() {
        let failed = phrases::phrase(&company(), "no_answer", "ru", &[]);
        let mut messages = vec![message("user", "абв"), message("assistant", &failed), message("user", "где")];
        assert_eq!(Conversation::read(&messages, None, &company()).state.failures, 1);
        messages.extend([message("assistant", "Откройте **Настройки**."), message("user", "и?")]);
        assert_eq!(Conversation::read(&messages, None, &company()).state.failures, 0);
    }

    #[test]
    fn a_message_of_digits_keeps_the_conversations_language() {
        let messages = [message("user", "какой лимит?"), message("assistant", "25 МБ"), message("user", "30?")];
        assert_eq!(Conversation::read(&messages, None, &company()).lang, "ru");
    }

    #[test]
    fn the_clients_system_message_is_context() {
        let messages = [message("system", "Plan: Team"), message("user", "hi")];
        assert_eq!(Conversation::read(&messages, None, &company()).context, "Plan: Team");
    }

    #[test]
    fn only_pure_courtesy_is_small_talk() {
        assert_eq!(small_talk("Hello there!"), Some(SmallTalk::Greeting));
        assert_eq!(small_talk("Добрый день!"), Some(SmallTalk::Greeting));
        assert_eq!(small_talk("спасибо, помогло"), Some(SmallTalk::Thanks));
        assert_eq!(small_talk("thanks a lot, bye"), Some(SmallTalk::Thanks));
        assert_eq!(small_talk("hello, where is my invoice"), None);
        assert_eq!(small_talk("спасибо, а как удалить чат"), None);
    }

    #[test]
    fn complaints_about_an_answer_are_heard() {
        assert_eq!(feedback("That didn't work"), Feedback::Failed);
        assert_eq!(feedback("не помогло"), Feedback::Failed);
        assert_eq!(feedback("great, it worked"), Feedback::Helped);
        assert_eq!(feedback("how do webhooks work"), Feedback::None);
    }
}
