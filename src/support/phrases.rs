//! The fixed sentences of an operator, in Russian and English. The pack's own wording comes first.
//!
//! Placeholders: `{company}`, `{about}`, `{hint}` (a sentence that names a likely solution, or nothing), `{options}`.

use crate::kb::pack::Company;

/// (name, English, Russian)
const DEFAULTS: [(&str, &str, &str); 16] = [
    ("greeting", "Hello! How can I help you with {company}?", "Здравствуйте! Чем помочь с {company}?"),
    (
        "thanks",
        "You are welcome! If anything else comes up, just write.",
        "Пожалуйста! Если появятся ещё вопросы, напишите.",
    ),
    ("goodbye", "Goodbye! Write any time.", "До свидания! Пишите в любое время."),
    (
        "clarify",
        "Could you tell me a little more: what exactly would you like to do, and where (website, mobile app, settings)?",
        "Уточните, пожалуйста: что именно вы хотите сделать и где (на сайте, в мобильном приложении, в настройках)?",
    ),
    ("clarify_choice", "Which of these do you mean: {options}?", "Что из этого вам нужно: {options}?"),
    (
        "person_first",
        "I can pass you on to a person. Before that, let me try to help right away. {hint}",
        "Я могу передать вас сотруднику. Но сначала позвольте попробовать помочь сразу. {hint}",
    ),
    (
        "person_hint",
        "Is it about “{topic}”? Describe what goes wrong, or write “operator” again and I will pass the conversation on.",
        "Вопрос про «{topic}»? Опишите, что не получается, или напишите «оператор» ещё раз, и я передам разговор.",
    ),
    (
        "person_open",
        "What has happened? Or write “operator” again and I will pass the conversation on.",
        "Что случилось? Или напишите «оператор» ещё раз, и я передам разговор.",
    ),
    (
        "handoff",
        "I am passing this conversation on to a person. They will see everything you have written here, so there is no need to repeat it.",
        "Передаю разговор сотруднику. Он увидит всё, что вы уже написали, повторять не нужно.",
    ),
    (
        "no_answer",
        "I could not find a sure answer to that. Could you put it in other words or add a detail or two?",
        "Я не нашёл надёжного ответа на этот вопрос. Сформулируйте, пожалуйста, иначе или добавьте пару подробностей.",
    ),
    (
        "reword",
        "Could you put it in other words or add a detail or two?",
        "Сформулируйте, пожалуйста, иначе или добавьте пару подробностей.",
    ),
    (
        "retry",
        "Sorry that it did not help. What exactly do you see now: an error message, or nothing at all?",
        "Жаль, что не помогло. Что именно вы видите сейчас: сообщение об ошибке или ничего не происходит?",
    ),
    ("filtered", "I can only help with questions about {company}.", "Я могу помочь только с вопросами о {company}."),
    (
        "flood",
        "There are too many messages at once. Please wait a minute and write again.",
        "Слишком много сообщений подряд. Подождите минуту и напишите снова.",
    ),
    (
        "off_topic",
        "That is outside what I can help with. {about} Ask me anything about it.",
        "С этим я помочь не смогу. {about} Спросите меня о нашем сервисе.",
    ),
    (
        "wrong_company",
        "It looks as if you meant to write to another company. {about} Please contact the company you bought from directly.",
        "Похоже, вы хотели написать в другую компанию. {about} Обратитесь, пожалуйста, напрямую туда, где делали покупку.",
    ),
];

/// The sentence `name` in `lang`: the pack's, else ours, else the default language's. Placeholders stay.
pub fn raw(company: &Company, name: &str, lang: &str) -> String {
    if let Some(own) = company.phrases.get(name).and_then(|by_lang| by_lang.get(lang)) {
        return own.clone();
    }
    let Some((_, en, ru)) = DEFAULTS.iter().find(|(n, _, _)| *n == name) else { return String::new() };
    (if lang == "ru" { ru } else { en }).to_string()
}

/// The sentence with its placeholders filled in; an empty `{hint}` leaves no double space.
pub fn phrase(company: &Company, name: &str, lang: &str, fill: &[(&str, &str)]) -> String {
    let about = company.about.get(lang).or_else(|| company.about.values().next()).map_or("", |s| s.as_str());
    let mut text = raw(company, name, lang).replace("{company}", &company.name).replace("{about}", about);
    for (key, value) in fill {
        text = text.replace(&format!("{{{key}}}"), value);
    }
    text.split(' ').filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")
}

/// True where an earlier answer of ours is this phrase: its fixed part before the first placeholder stands in it.
pub fn is_phrase(company: &Company, name: &str, said: &str) -> bool {
    let mut languages: Vec<&str> = company.languages.iter().map(|s| s.as_str()).collect();
    for fallback in ["en", "ru"] {
        if !languages.contains(&fallback) {
            languages.push(fallback);
        }
    }
    languages.iter().any(|lang| {
        let wording = raw(company, name, lang).replace("{company}", &company.name);
        let fixed = wording.split('{').max_by_key(|part| part.len()).unwrap_or("");
        let fixed = fixed.split('}').next_back().unwrap_or("").trim();
        fixed.chars().count() >= 8 && said.contains(fixed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn company() -> Company {
        let mut company =
            Company { name: "Lumichat".into(), languages: vec!["en".into(), "ru".into()], ..Default::default() };
        company.phrases.entry("handoff".into()).or_default().insert("ru".into(), "Зову коллегу на помощь.".into());
        company
    }

    #[test]
    fn the_packs_own_wording_comes_first() {
        assert_eq!(phrase(&company(), "handoff", "ru", &[]), "Зову коллегу на помощь.");
        assert!(phrase(&company(), "handoff", "en", &[]).contains("passing this conversation"));
        assert_eq!(phrase(&company(), "greeting", "en", &[]), "Hello! How can I help you with Lumichat?");
    }

    #[test]
    fn our_own_phrases_are_recognised_in_a_transcript() {
        let said = phrase(&company(), "person_first", "en", &[("hint", "Is it about billing?")]);
        assert!(is_phrase(&company(), "person_first", &said));
        assert!(!is_phrase(&company(), "person_first", "The widget is blue."));
        assert!(is_phrase(&company(), "handoff", "Хорошо. Зову коллегу на помощь."));
    }

    #[test]
    fn an_empty_hint_leaves_no_gap() {
        assert!(!phrase(&company(), "person_first", "en", &[("hint", "")]).ends_with(' '));
    }
}
