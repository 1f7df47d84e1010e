//! When a person takes over: an insisting wish, anger or a legal threat, a topic that people keep for themselves,
//! repeated failure. And what that person gets to read.

use super::Handoff;
use super::conversation::{Conversation, Feedback, feedback};
use super::text;
use super::wish::{self, Wish};
use crate::kb::pack::HandoffRules;

/// What the policy says of a turn.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Go on and answer.
    Serve,
    /// The first wish for a person: one calm try.
    TryFirst {
        reason: String,
    },
    HandOff {
        kind: String,
        reason: String,
        tags: Vec<String>,
    },
}

/// Decides by the operator's rules. `wish`: what the message says about a person. `in_domain`: 0..1, how well the
/// message can be answered.
pub fn decide(conversation: &Conversation, rules: &HandoffRules, wish: &Wish, in_domain: f32) -> Decision {
    let hand_off =
        |kind: &str, reason: String, tags: Vec<String>| Decision::HandOff { kind: kind.into(), reason, tags };
    let message = &conversation.message;
    if let Some(topic) = reserved(message, rules) {
        return hand_off("reserved", format!("{topic} is kept for people"), vec![topic]);
    }
    if let Some(why) = legal_threat(message) {
        return hand_off("anger", why, vec!["legal".into()]);
    }
    let insists = conversation.state.asked_for_person >= rules.clarify_first;
    if wish.is_wish() {
        return if insists || conversation.state.handed_off {
            hand_off("wants_person", "the customer insists on a person".into(), vec!["wants_person".into()])
        } else {
            Decision::TryFirst { reason: wish.reason.clone() }
        };
    }
    if insists && conversation.state.asked_for_person > 0 && confirms(message, conversation.last_answer()) {
        return hand_off(
            "wants_person",
            "the customer confirms the wish for a person".into(),
            vec!["wants_person".into()],
        );
    }
    let anger = anger(message);
    if anger >= 2
        || (anger == 1 && conversation.state.failures > 0)
        || (anger == 1 && in_domain < 0.35 && wants_nothing_else(message))
    {
        return hand_off("anger", "the customer is angry".into(), vec!["anger".into()]);
    }
    if feedback(message) == Feedback::Failed && conversation.state.failures + 1 >= rules.max_failures {
        return hand_off("repeated_failure", "earlier answers did not help".into(), vec!["repeated_failure".into()]);
    }
    Decision::Serve
}

/// A reserved topic whose phrase has all its words (on stems) within one sentence of the message.
pub fn reserved(message: &str, rules: &HandoffRules) -> Option<String> {
    let sentences: Vec<Vec<String>> = text::sentences(message).into_iter().map(text::stems).collect();
    rules.reserved.iter().find_map(|topic| {
        let hit =
            topic.phrases.iter().map(|p| text::stems(p)).any(|phrase| {
                !phrase.is_empty() && sentences.iter().any(|s| phrase.iter().all(|stem| s.contains(stem)))
            });
        hit.then(|| topic.topic.clone())
    })
}

/// Courts, lawyers, authorities, in the mouth of a customer who threatens with them.
fn legal_threat(message: &str) -> Option<String> {
    let folded = format!(" {} ", text::words(&text::fold(&text::without_code(message))).join(" "));
    const THREATS: [&str; 30] = [
        " my lawyer",
        " my attorney",
        " our lawyer",
        " sue you",
        " sue your",
        " suing you",
        " take you to court",
        " see you in court",
        " going to court",
        " go to court",
        " legal action",
        " report you to",
        " file a lawsuit",
        " lawsuit against",
        " chargeback",
        " press charges",
        " go to the police",
        " consumer protection",
        " подам в суд",
        " подаю в суд",
        " подадим в суд",
        " в суд на вас",
        " мой юрист",
        " мой адвокат",
        " наш юрист",
        " наши юристы",
        " в прокуратуру",
        " в роспотребнадзор",
        " в полицию",
        " досудебн",
    ];
    THREATS.iter().find(|t| folded.contains(**t)).map(|t| format!("a legal threat: “{}”", t.trim()))
}

/// How many signs of anger (not of rudeness alone) a message carries.
fn anger(message: &str) -> usize {
    let prose = text::without_code(message);
    let folded = format!(" {} ", text::words(&text::fold(&prose)).join(" "));
    const COMPLAINTS: [&str; 44] = [
        " unacceptable",
        " ridiculous",
        " outrageous",
        " fed up",
        " sick and tired",
        " sick of",
        " furious",
        " angry",
        " disgrace",
        " scam",
        " thieves",
        " robbery",
        " fraud",
        " liars",
        " worst service",
        " worst support",
        " worst company",
        " terrible service",
        " terrible support",
        " horrible service",
        " never again",
        " wasting my time",
        " waste of time",
        " waste of my time",
        " third time",
        " tenth time",
        " hundredth time",
        " how many times",
        " безобрази",
        " возмути",
        " сколько можно",
        " достали",
        " достало",
        " надоело",
        " издеваетесь",
        " мошенник",
        " обманщик",
        " обман ",
        " ворье",
        " кошмар",
        " ужасный сервис",
        " ужасная поддержка",
        " в третий раз",
        " третий раз пишу",
    ];
    let complaints = COMPLAINTS.iter().filter(|c| folded.contains(**c)).count();
    let letters = prose.chars().filter(|c| c.is_alphabetic()).count();
    let shouting = letters >= 20 && prose.chars().filter(|c| c.is_uppercase()).count() * 10 > letters * 7;
    let exclaims = prose.contains("!!!");
    complaints + usize::from(complaints > 0 && (shouting || exclaims))
}

/// True where the message asks nothing that could be answered.
fn wants_nothing_else(message: &str) -> bool {
    let folded = text::fold(message);
    let asks = ["how", "where", "what", "why", "when", "can i", "как ", "где ", "что ", "почему", "когда", "можно"];
    !message.contains('?') && !asks.iter().any(|a| folded.contains(a))
}

/// "yes", "still", "да" after our calm try.
fn confirms(message: &str, last_answer: Option<&str>) -> bool {
    let folded = text::fold(message);
    let words = text::words(&folded);
    let yes = [
        "yes",
        "yeah",
        "yep",
        "still",
        "insist",
        "да",
        "ага",
        "все",
        "равно",
        "нет",
        "no",
        "just",
        "do",
        "it",
        "please",
        "пожалуйста",
        "конечно",
        "sure",
        "передайте",
        "передавайте",
        "pass",
        "on",
        "go",
        "ahead",
    ];
    last_answer.is_some() && !words.is_empty() && words.len() <= 5 && words.iter().all(|w| yes.contains(w))
}

/// Puts the handoff together. The summary quotes; nothing in it is made up.
pub fn handoff(conversation: &Conversation, rules: &HandoffRules, kind: &str, mut tags: Vec<String>) -> Handoff {
    tags.push(kind.to_string());
    tags.push(conversation.lang.clone());
    let mut seen = std::collections::HashSet::new();
    tags.retain(|t| seen.insert(t.clone()));
    Handoff {
        id: format!("ho_{}", uuid::Uuid::now_v7().simple()),
        queue: rules.queue.clone(),
        summary: summary(conversation),
        tags,
    }
}

/// The customer's own words, first and latest, and what was answered last: extracts, each within a few lines.
fn summary(conversation: &Conversation) -> String {
    const EXTRACT_CHARS: usize = 280;
    let cut = |s: &str| -> String {
        let line = s.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(EXTRACT_CHARS) {
            Some((at, _)) => format!("{}…", &line[..at]),
            None => line,
        }
    };
    let russian = conversation.lang == "ru";
    let (first, last, said) = if russian {
        ("Сначала", "Последнее", "Ответ бота")
    } else {
        ("First", "Latest", "Bot's answer")
    };
    let request = |q: &&str| {
        !q.trim().is_empty() && !wish::for_person(q).is_wish() && super::conversation::small_talk(q).is_none()
    };
    let opening = conversation.earlier.iter().map(|(q, _)| q.as_str()).find(request);
    let mut lines = Vec::new();
    if let Some(opening) = opening {
        lines.push(format!("{first}: {}", cut(opening)));
    }
    if let Some((_, answer)) = conversation.earlier.last().filter(|(_, a)| !a.is_empty()) {
        lines.push(format!("{said}: {}", cut(answer)));
    }
    lines.push(format!("{last}: {}", cut(&conversation.message)));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kb::pack::ReservedTopic;

    fn rules() -> HandoffRules {
        HandoffRules {
            reserved: vec![ReservedTopic {
                topic: "refund".into(),
                phrases: vec!["refund my payment".into(), "вернуть деньги".into()],
            }],
            ..Default::default()
        }
    }

    fn saying(message: &str) -> Conversation {
        Conversation { message: message.into(), lang: "en".into(), ..Default::default() }
    }

    fn decided(conversation: &Conversation, in_domain: f32) -> Decision {
        decide(conversation, &rules(), &wish::for_person(&conversation.message), in_domain)
    }

    fn kind(decision: Decision) -> String {
        match decision {
            Decision::HandOff { kind, .. } => kind,
            Decision::TryFirst { .. } => "try".into(),
            Decision::Serve => "serve".into(),
        }
    }

    #[test]
    fn a_second_request_for_a_person_hands_off() {
        let mut conversation = saying("get me a human");
        assert_eq!(kind(decided(&conversation, 0.0)), "try");
        conversation.state.asked_for_person = 1;
        assert_eq!(kind(decided(&conversation, 0.0)), "wants_person");
    }

    #[test]
    fn reserved_topics_and_legal_threats_hand_off_at_once() {
        assert_eq!(kind(decided(&saying("Please refund my last payment"), 0.9)), "reserved");
        assert_eq!(kind(decided(&saying("верните, хочу вернуть свои деньги"), 0.9)), "reserved");
        assert_eq!(kind(decided(&saying("I will sue you"), 0.9)), "anger");
    }

    #[test]
    fn rudeness_with_a_question_is_served() {
        assert_eq!(kind(decided(&saying("where the hell is the color setting, you idiots"), 0.8)), "serve");
        assert_eq!(kind(decided(&saying("This is UNACCEPTABLE, I am fed up with you!!!"), 0.0)), "anger");
    }

    #[test]
    fn a_second_failure_hands_off() {
        let mut conversation = saying("that did not help");
        assert_eq!(kind(decided(&conversation, 0.5)), "serve");
        conversation.state.failures = 1;
        assert_eq!(kind(decided(&conversation, 0.5)), "repeated_failure");
    }

    #[test]
    fn each_operator_has_its_own_patience() {
        let wishes = |clarify_first: usize, asked_for_person: usize| {
            let mut conversation = saying("operator please");
            conversation.state.asked_for_person = asked_for_person;
            let rules = HandoffRules { clarify_first, ..rules() };
            kind(decide(&conversation, &rules, &wish::for_person("operator please"), 0.0))
        };
        assert_eq!(wishes(0, 0), "wants_person", "no try first");
        assert_eq!((wishes(1, 0), wishes(1, 1)), ("try".into(), "wants_person".into()));
        assert_eq!((wishes(2, 1), wishes(2, 2)), ("try".into(), "wants_person".into()));
        let fails = |max_failures: usize, failures: usize| {
            let mut conversation = saying("that did not help");
            conversation.state.failures = failures;
            let rules = HandoffRules { max_failures, ..rules() };
            kind(decide(&conversation, &rules, &wish::for_person("that did not help"), 0.5))
        };
        assert_eq!(
            (fails(1, 0), fails(3, 1), fails(3, 2)),
            ("repeated_failure".into(), "serve".into(), "repeated_failure".into())
        );
    }

    #[test]
    fn a_wish_that_is_denied_or_quoted_is_none_even_when_asked_again() {
        for message in [
            "no need for a person, I only want the price",
            "please don't transfer me",
            "не надо оператора, я разобрался",
            "a visitor wrote \"let me talk to a human\", what do I answer?",
            "клиент пишет «позовите оператора», как настроить ответ?",
            "I am an agent myself",
        ] {
            let mut conversation = saying(message);
            conversation.state.asked_for_person = 1;
            assert_eq!(kind(decided(&conversation, 0.6)), "serve", "{message}");
        }
    }

    #[test]
    fn anger_hands_off_where_nothing_is_asked_and_threats_always() {
        for threat in ["My lawyer will hear of this", "подам в суд на вас", "I'll take you to court"] {
            assert_eq!(kind(decided(&saying(threat), 0.9)), "anger", "{threat}");
        }
        assert_eq!(kind(decided(&saying("Безобразие! Вы мошенники, сколько можно!!!"), 0.1)), "anger");
        assert_eq!(kind(decided(&saying("это безобразие, где кнопка экспорта?"), 0.7)), "serve");
    }

    #[test]
    fn the_summary_holds_only_what_was_said() {
        let mut conversation = saying("operator!");
        conversation.earlier.push(("The widget is gone from my shop".into(), "Check the key.".into()));
        let made = handoff(&conversation, &rules(), "wants_person", vec![]);
        assert_eq!(
            made.summary,
            "First: The widget is gone from my shop\nBot's answer: Check the key.\nLatest: operator!"
        );
        assert_eq!((made.queue.as_str(), made.tags), ("support", vec!["wants_person".to_string(), "en".into()]));
    }
}
