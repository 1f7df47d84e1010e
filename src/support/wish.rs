//! Does the customer wish to talk to a person? Many wordings, Russian and English, against look-alikes: questions
//! about operators as a feature, operators who write themselves, and wishes that are denied.

use super::text;

/// What a message says about talking to a person.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// 0..1
    pub score: f32,
    pub reason: String,
}

impl Wish {
    pub fn is_wish(&self) -> bool {
        self.score >= 0.5
    }

    fn of(score: f32, reason: impl Into<String>) -> Self {
        Self { score, reason: reason.into() }
    }
}

const PERSON_EN: &str = "human humans person people someone somebody operator operators agent agents representative rep manager supervisor consultant \
    specialist employee staff support advisor adviser colleague boss man woman guy humanbeing technician expert";
const PERSON_RU: [&str; 20] = [
    "оператор",
    "человек",
    "людьми",
    "людей",
    "люд",
    "живым",
    "живой",
    "живого",
    "живому",
    "менеджер",
    "специалист",
    "сотрудник",
    "консультант",
    "начальств",
    "начальник",
    "руководител",
    "поддержк",
    "кем-нибудь",
    "кто-нибудь",
    "администратор",
];
/// Words that by themselves name a person, where the whole message is no more than a call.
const CALL: &str = "operator human agent person representative manager supervisor оператор оператора человек человека человеком оператором менеджер менеджера \
    консультант консультанта специалист специалиста живой живого живым сотрудник сотрудника";
const CALL_FILLER: &str = "please now real live a an the need want to i me talk speak with just give get hey hello ok okay пожалуйста срочно дайте позовите \
    нужен хочу мне давай давайте с со уже !";

/// Reads one message.
pub fn for_person(message: &str) -> Wish {
    let folded = text::fold(&text::without_code(message));
    let folded =
        folded.replace("can't", "cannot").replace("customer service", "support").replace("human being", "human");
    let all = text::words(&folded);
    if !all.is_empty()
        && all.len() <= 6
        && all.iter().any(|w| in_list(CALL, w))
        && all.iter().all(|w| in_list(CALL, w) || in_list(CALL_FILLER, w))
    {
        return Wish::of(0.95, "the message is a call for a person");
    }
    clauses(&folded)
        .into_iter()
        .map(|clause| in_clause(&clause))
        .max_by(|a, b| a.score.total_cmp(&b.score))
        .unwrap_or(Wish::of(0.0, "no words"))
}

fn in_list(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|w| w == word)
}

/// Splits at punctuation and at words that turn the thought.
fn clauses(folded: &str) -> Vec<Vec<String>> {
    let mut clauses = Vec::new();
    for part in folded.split(['.', ',', ';', '!', '?', '\n', ':', '(', ')', '—']) {
        let mut clause: Vec<String> = Vec::new();
        for word in text::words(part) {
            if matches!(word, "but" | "instead" | "so" | "а" | "но" | "поэтому" | "лучше" | "and" | "и")
                && !clause.is_empty()
            {
                clauses.push(std::mem::take(&mut clause));
            } else {
                clause.push(word.to_string());
            }
        }
        if !clause.is_empty() {
            clauses.push(clause);
        }
    }
    clauses
}

fn in_clause(words: &[String]) -> Wish {
    let joined = format!(" {} ", words.join(" "));
    let has = |phrase: &str| joined.contains(&format!(" {phrase} "));
    let starts = |stem: &str| words.iter().any(|w| w.starts_with(stem));
    let russian = text::is_cyrillic(&joined);
    let person = if russian {
        PERSON_RU.iter().any(|p| starts(p))
    } else {
        words.iter().any(|w| in_list(PERSON_EN, w))
            || has("real one")
            || has("support team")
            || has("your team")
            || has("anyone")
            || has("call me")
    };
    let bot_denied = bot_denied(&joined);
    if !person && !bot_denied {
        return Wish::of(0.0, "no person is named");
    }
    if let Some(why) = look_alike(&joined, words, russian) {
        return Wish::of(0.1, why);
    }
    if bot_denied && !person {
        return Wish::of(0.7, "does not want to talk to a bot");
    }
    if denied(&joined) {
        return Wish::of(0.05, "says that no person is needed");
    }
    let asks = if russian { asks_russian(words, &joined) } else { asks_english(&joined) };
    match asks {
        true => Wish::of(0.95, "asks to talk to a person"),
        false => Wish::of(0.2, "names a person without asking for one"),
    }
}

/// "I don't want to talk to a bot": a wish for a person without naming one.
fn bot_denied(joined: &str) -> bool {
    let bot = [" bot ", " robot ", " machine ", " ai ", " бот", " робот", " машин", " автоответчик"]
        .iter()
        .any(|b| joined.contains(b));
    let denied = [
        " don't want to talk ",
        " dont want to talk ",
        " not talk ",
        " not talking ",
        " do not want to talk ",
        " don't want to speak ",
        " stop talking ",
        " not chat ",
        " no more ",
        " tired of ",
        " sick of ",
        " hate talking ",
        " не хочу говорить ",
        " не хочу общаться ",
        " не хочу разговаривать ",
        " не буду говорить ",
        " надоел ",
        " хватит ",
        " не с роботом ",
        " не с ботом ",
        " не робот ",
        " не бот ",
    ];
    bot && denied.iter().any(|d| joined.contains(d))
}

/// Questions about operators as a feature of the product, or operators writing themselves.
fn look_alike(joined: &str, words: &[String], russian: bool) -> Option<&'static str> {
    let any = |list: &[&str]| list.iter().any(|p| joined.contains(p));
    if any(&[
        " i am an operator ",
        " i'm an operator ",
        " im an operator ",
        " i am an agent ",
        " i'm an agent ",
        " i work as ",
        " i am a manager ",
        " i'm a manager ",
        " as an operator ",
        " as an agent ",
        " as a manager ",
        " i am the ",
        " я оператор ",
        " я сам оператор ",
        " я сама оператор ",
        " я менеджер ",
        " я работаю ",
        " я администратор ",
        " я руководитель ",
        " я специалист ",
        " мы операторы ",
        " я консультант ",
    ]) {
        return Some("the customer is an operator");
    }
    let feature_en = [
        " button ",
        " setting",
        " add ",
        " invite ",
        " remove ",
        " delete ",
        " role",
        " assign",
        " colleague",
        " visitor",
        " customers ",
        " clients ",
        " users ",
        " per agent",
        " how many ",
        " limit",
        " number of ",
        " extra ",
        " icon ",
        " label ",
        " rename ",
        " report",
        " statistic",
        " rating",
        " notification",
        " hand a chat ",
        " hand over ",
        " transfer a ",
        " transfer the ",
        " transfer chat",
        " another agent",
        " other agent",
        " another operator",
        " other operator",
        " one agent",
        " forward a ",
        " photo ",
        " avatar ",
        " status ",
        " online ",
        " offline ",
        " seat",
        " bot transfer",
        " bots transfer",
        " see who ",
        " license",
        " price",
        " cost",
        " my agents",
        " our agents",
        " my operators",
        " our operators",
        " their ",
        " password",
    ];
    let feature_ru = [
        " кнопк",
        " настройк",
        " добавить ",
        " добавлять ",
        " пригласить оператор",
        " пригласить сотрудник",
        " пригласить менеджер",
        " пригласить ещё",
        " удалить ",
        " роль ",
        " роли ",
        " назнач",
        " коллег",
        " посетител",
        " клиент",
        " сколько ",
        " лимит",
        " количеств",
        " переименовать ",
        " отчет",
        " статистик",
        " оценк",
        " уведомлен",
        " передать чат",
        " передать диалог",
        " передавать ",
        " перевести чат",
        " перевести диалог",
        " перевод на ",
        " переводить ",
        " перевод чата",
        " другому оператору",
        " другого оператора",
        " другому сотруднику",
        " фото ",
        " аватар",
        " статус",
        " онлайн",
        " офлайн",
        " второго ",
        " ещё одного ",
        " еще одного ",
        " нового ",
        " бот передавал ",
        " бот переводил ",
        " бот переключал ",
        " у бота ",
        " наши оператор",
        " наших оператор",
        " мои оператор",
        " моих оператор",
        " стоит ",
        " цена ",
        " пароль",
        " доступ ",
        " права ",
        " оператор видит",
        " оператор не видит",
        " операторы не ",
        " оператор не может",
    ];
    let features = if russian { any(&feature_ru) } else { any(&feature_en) };
    let about_me = if russian {
        words.iter().any(|w| {
            matches!(
                w.as_str(),
                "меня"
                    | "мной"
                    | "нами"
                    | "поговорить"
                    | "соедините"
                    | "переключите"
                    | "позовите"
                    | "свяжите"
            )
        })
    } else {
        any(&[" me ", " talk to ", " speak to ", " speak with ", " talk with ", " us ", " chat with "])
            && !any(&[" visitor", " customers ", " clients ", " users "])
    };
    if features && !about_me {
        return Some("operators are spoken of as a feature");
    }
    let others = if russian {
        any(&[" посетител", " клиент"])
    } else {
        any(&[" visitor", " customers ", " clients ", " users "])
    };
    if others && !any(&[" connect me ", " transfer me ", " соедините меня ", " переключите меня "])
    {
        return Some("speaks of the customer's own visitors");
    }
    let place = if russian {
        any(&[" где находится ", " где найти ", " в каком разделе "])
    } else {
        any(&[" where is the ", " where do i find the "])
    };
    (place && !about_me).then_some("asks for a place in the app")
}

/// "No need for a person", "не нужно оператора": a denial that governs the person, not a bot.
fn denied(joined: &str) -> bool {
    let bot = [" bot ", " robot ", " бот", " робот"].iter().any(|b| joined.contains(b));
    let denial = [
        " no need ",
        " don't need ",
        " dont need ",
        " do not need ",
        " not need ",
        " needn't ",
        " don't want ",
        " dont want ",
        " do not want ",
        " without a ",
        " without an ",
        " without any ",
        " not yet ",
        " rather not ",
        " don't transfer ",
        " do not transfer ",
        " don't connect ",
        " do not connect ",
        " don't call ",
        " no operator ",
        " no human ",
        " no agent ",
        " не нужен ",
        " не нужна ",
        " не нужно ",
        " не надо ",
        " не хочу ",
        " не нужны ",
        " не требуется ",
        " не соединяйте ",
        " не переводите ",
        " не зовите ",
        " не переключайте ",
        " без оператора ",
        " без человека ",
        " без менеджера ",
        " обойдусь ",
        " обойдемся ",
    ];
    denial.iter().any(|d| joined.contains(d)) && !bot
}

fn asks_english(joined: &str) -> bool {
    let verbs = [
        " talk to ",
        " talk with ",
        " speak to ",
        " speak with ",
        " chat with ",
        " talking to ",
        " speaking to ",
        " speaking with ",
        " connect me ",
        " connect us ",
        " transfer me ",
        " transfer to ",
        " transfer this ",
        " put me ",
        " switch me ",
        " switch to ",
        " pass me ",
        " forward me ",
        " redirect me ",
        " hand me ",
        " escalate ",
        " get me ",
        " give me ",
        " get a ",
        " get an ",
        " get hold of ",
        " get in touch ",
        " reach a ",
        " reach an ",
        " reach your ",
        " reach the ",
        " reach someone ",
        " contact a ",
        " contact your ",
        " contact the ",
        " contact an ",
        " contact support ",
        " contact someone ",
        " i want ",
        " i need ",
        " we need ",
        " i'd like ",
        " i would like ",
        " i demand ",
        " want a ",
        " need a ",
        " need an ",
        " need some ",
        " call a ",
        " call your ",
        " call an ",
        " call the ",
        " call me ",
        " bring ",
        " find me ",
        " let me ",
        " is there a ",
        " is there an ",
        " is there any ",
        " is anyone ",
        " is someone ",
        " are there any ",
        " any real ",
        " any human ",
        " can i have ",
        " could i have ",
        " may i have ",
        " can a ",
        " can an ",
        " can someone ",
        " could someone ",
        " can somebody ",
        " could somebody ",
        " someone real ",
        " real person ",
        " real human ",
        " live agent ",
        " live person ",
        " live human ",
        " live chat ",
        " actual person ",
        " actual human ",
        " human please ",
        " person please ",
        " agent please ",
        " operator please ",
        " operator now ",
        " human now ",
        " please human ",
        " ask a ",
        " human support ",
        " human help ",
        " human operator ",
        " human agent ",
        " someone from ",
        " somebody from ",
        " want to talk ",
        " want to speak ",
    ];
    let hit = verbs.iter().any(|v| joined.contains(v));
    // "can someone tell me how…", "I need support for Vue" ask a question of whoever reads.
    let rhetorical = [
        " someone tell ",
        " someone help ",
        " someone explain ",
        " somebody tell ",
        " someone please ",
        " someone show ",
        " somebody help ",
        " somebody explain ",
        " anyone know",
        " someone know",
    ];
    let weak_noun = [" support "].iter().any(|w| joined.contains(w))
        && ![
            " human ",
            " person ",
            " agent ",
            " operator ",
            " someone ",
            " team ",
            " talk ",
            " speak ",
            " contact ",
            " call ",
            " reach ",
            " transfer ",
            " connect ",
            " staff ",
            " put ",
        ]
        .iter()
        .any(|w| joined.contains(w));
    let hypothetical = [" people ", " person who ", " people who ", " someone who "].iter().any(|w| joined.contains(w))
        && ![" talk ", " speak ", " connect ", " transfer ", " reach ", " real "].iter().any(|w| joined.contains(w));
    hit && !rhetorical.iter().any(|r| joined.contains(r)) && !weak_noun && !hypothetical
}

fn asks_russian(words: &[String], joined: &str) -> bool {
    let verb = [
        "соедин",
        "переключ",
        "позов",
        "позвать",
        "свяж",
        "связаться",
        "связать",
        "поговорить",
        "говорить",
        "пообщаться",
        "общаться",
        "дайте",
        "дай",
        "хочу",
        "хотел",
        "хотим",
        "хочется",
        "нужен",
        "нужна",
        "нужно",
        "надо",
        "требу",
        "вызов",
        "вызв",
        "подключите",
        "пригласите",
        "передайте",
        "переведи",
        "пусть",
        "можно",
        "зовите",
        "зови",
        "давайте",
        "давай",
        "обратиться",
        "дозвониться",
        "ответит",
        "эскалир",
        "есть",
    ];
    let hit = words.iter().any(|w| verb.iter().any(|v| w.starts_with(v)));
    let only_support = joined.contains(" поддержк")
        && ![" связ", " соедин", " говор", " обратиться ", " дозвон", " общаться ", " пообщаться ", " позов"]
            .iter()
            .any(|w| joined.contains(w));
    let exists_only =
        words.iter().all(|w| !verb.iter().any(|v| *v != "есть" && w.starts_with(v))) && !joined.contains(" жив");
    let feature_infinitive =
        joined.contains(" настроить ") || joined.contains(" подключить ") || joined.contains(" включить ");
    hit && !only_support && !exists_only && !feature_infinitive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_in_many_wordings_are_heard() {
        for message in [
            "operator",
            "human please!!!",
            "I want to talk to a human",
            "can I speak with a real person?",
            "connect me to an agent",
            "Transfer me to support staff",
            "let me talk to your manager",
            "I don't want to talk to a bot, give me a person",
            "is there a live person here?",
            "how do I talk to a human?",
            "put me through to someone",
            "get me a human",
            "оператора!",
            "позовите человека",
            "соедините с оператором",
            "хочу поговорить с живым человеком",
            "переключите меня на сотрудника",
            "дайте оператора",
            "мне нужен живой человек, а не бот",
            "не хочу общаться с роботом",
            "как связаться с оператором?",
            "можно поговорить с менеджером?",
            "переведите на оператора",
            "хватит, я устал от бота, нужен человек",
        ] {
            let wish = for_person(message);
            assert!(wish.is_wish(), "{message}: {wish:?}");
        }
    }

    #[test]
    fn look_alikes_are_not_wishes() {
        for message in [
            "where is the operator button in the settings?",
            "I am an operator myself",
            "no need for a person",
            "how do I hand a chat over to a colleague?",
            "how do I add an operator?",
            "can visitors talk to a human from the bot?",
            "how many agents does Start include?",
            "I don't need a human, just tell me the price",
            "where can I see the agents report?",
            "can someone tell me how to install the widget?",
            "do you have support for Vue?",
            "где кнопка вызова оператора?",
            "я сам оператор, как закрыть чат?",
            "оператор не нужен",
            "как передать чат коллеге?",
            "как добавить оператора?",
            "сколько операторов в тарифе Start?",
            "как настроить перевод на оператора в боте?",
            "как посетителю позвать оператора?",
            "не надо человека, просто скажите цену",
            "how do I change the color?",
        ] {
            let wish = for_person(message);
            assert!(!wish.is_wish(), "{message}: {wish:?}");
        }
    }
}
