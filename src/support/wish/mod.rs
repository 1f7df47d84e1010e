//! Does the customer wish to talk to a person? Many wordings, Russian and English, against look-alikes: questions
//! about operators as a feature, operators who write themselves, and wishes that are denied.
//!
//! Rules read each clause; what they do not see may be learnt from the pack's examples ([`Wish::weighed`]), unless the
//! words speak against it.

use super::rules::without_quotations;
use super::text::{self, has_any};

mod signs;

pub use signs::{conceivable, signs};

/// Learnt probability from which words that speak against a wish are not believed: a denial ("no thanks, just an
/// agent"), and operators as a feature ("assign my ticket to an engineer"), of which less is sure.
const SURELY: [f32; 2] = [0.75, 0.67];
/// Score of a denial.
const DENIAL: f32 = 0.05;
/// Share of the threshold below which the rules are not believed, and below which a plain request is not.
const NOT_QUITE: f32 = 0.8;
const HARDLY: f32 = 0.3;
/// Score of a plain request.
const PLAIN: f32 = 0.97;

/// What a message says about talking to a person.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// 0..1
    pub score: f32,
    pub reason: String,
    /// The words speak against a wish (denied, or operators as a feature); a learnt suspicion does not overrule that.
    pub against: bool,
}

impl Wish {
    pub fn is_wish(&self) -> bool {
        self.score >= 0.5
    }

    fn of(score: f32, reason: impl Into<String>) -> Self {
        Self { score, reason: reason.into(), against: score > 0.0 && score <= 0.1 }
    }

    /// The rules' verdict with a learnt probability beside it, which knows the rules' as one of its signs. It decides,
    /// unless the words speak against a wish and it is not sure, or the rules hear one and it is only not quite sure.
    pub fn weighed(self, probability: f32, threshold: f32) -> Self {
        let learnt = match probability >= threshold {
            true => 0.5 + 0.5 * (probability - threshold) / (1.0 - threshold).max(1e-3),
            false => 0.5 * probability / threshold.max(1e-3),
        };
        let believed = if self.score >= PLAIN { HARDLY } else { NOT_QUITE };
        match (self.is_wish(), learnt >= 0.5) {
            (true, true) => Self { score: learnt, ..self },
            (true, false) if probability >= believed * threshold => Self { score: 0.5, ..self },
            (true, false) => {
                Self { score: learnt, reason: "names a person, but resembles other questions".into(), ..self }
            }
            (false, true) if self.against && probability < SURELY[usize::from(self.score > DENIAL)] => {
                Self { score: learnt.min(0.49), ..self }
            }
            (false, true) => Self { score: learnt, reason: "resembles the examples of a wish".into(), ..self },
            (false, false) => Self { score: learnt, ..self },
        }
    }
}

// Lists of phrases, parted by `|`; a phrase ends at a word's end unless it ends in `*`.

const PERSON_EN: &str = "human|humans|person|people|someone|somebody|anyone|anybody|operator|operators|agent|agents|representative|rep|manager|supervisor|\
    consultant|specialist|employee|staff|support|advisor|adviser|colleague|boss|man|woman|guy|technician|expert|real one|your team|call me";
/// Parts of a company that one is put through to.
const DEPARTMENT: &str = "reception|front desk|concierge|housekeeping|department|team|desk|spa|gym|pool|restaurant|kitchen|chef|bar|sales|billing|accounts|accounting|complaints|\
    customer service|customer care|tech support|technical support|support team|branch|management|leadership|cleaner*|housekeeper*|porter|valet|trainer|nurse|doctor|lawyer|\
    engineer|banker*|owner|director|отдел*|ресепшн*|ресепшен*|бухгалтер*|техподдержк*|стойк*|управляющ*|директор*|врач*|юрист*|инженер*|горничн*|дежурн*|вторую лини*|вторая лини*|\
    старшего|старший|старшему|начальник*|руководств*";
const PERSON_RU: &str = "оператор*|опиратор*|человек*|людьми|людей|люди|людям|жив*|менеджер*|специалист*|сотрудник*|консультант*|начальник*|начальств*|руководител*|\
    поддержк*|кем то|кто то|кем нибудь|кто нибудь|кого нибудь|администратор*|инженер*|старшего|девушк*";
/// Words of a message that is no more than a call.
const CALL: &str = "operator|human|agent|person|representative|manager|supervisor|оператор|оператора|человек|человека|человеком|оператором|менеджер|менеджера|\
    консультант|консультанта|специалист|специалиста|живой|живого|живым|сотрудник|сотрудника";
const CALL_FILLER: &str = "please|now|real|live|a|an|the|need|want|to|i|me|talk|speak|with|just|give|get|hey|hello|ok|okay|пожалуйста|срочно|дайте|позовите|\
    нужен|хочу|мне|давай|давайте|с|со|уже|пж|плиз|мой|любой|любого";

/// Wishes that name no person by the usual nouns.
const CALLS_OTHERWISE: &str = "escalate this|escalate my|escalate it|please escalate|second level|who can i speak|who can i talk|call me back|one of your people|\
    one of your colleagues|your colleagues read|on the line|somebody real|anybody alive|anyone alive|pass my question on|pass this on to|pass it on to|pass me on|\
    anybody there|anyone there|someone human|перезвоните|перезвонят|перезвонит|кто то из вашей|кем то из вашей|кто то из коллег|кто то из отдела|кем то из людей|\
    кто то из людей|кем из людей|из людей можно|позови старшего|позовите старшего|тому кто может|дайте поддержку|где у вас люди|живые люди|живой есть|\
    чтобы мне ответил человек|проверить вручную|проверить это вручную|вашим инженером";

const BOT: &str =
    "bot|bots|robot|machine|ai|chatbot|бот*|робот*|машин*|автоответчик*|искусственн* интеллект*|нейросет*|программ*";
const BOT_DENIED: &str = "don't want to talk|dont want to talk|don't want to chat|dont want to chat|do not want to talk|don't want to speak|not talk|not talking|not chat|\
    no more|tired of|sick of|hate talking|stop talking|не хочу говорить|не хочу общаться|не хочу разговаривать|не буду говорить|надоел*|хватит|не с роботом|не с ботом|\
    не робот|не бот|а не бот*|а не робот*|а не программ*|не нужен робот|не нужен бот";

/// Whoever answers now, as somebody one does not want to talk to.
const US: &str = "talk to you|talking to you|speak to you|speaking to you|talk with you|speak with you|chat with you|chatting with you|discuss this with you|с вами говорить|говорить с вами|\
    с вами разговаривать|разговаривать с вами|с вами общаться|общаться с вами|с тобой говорить|говорить с тобой|разговаривать с тобой|общаться с тобой";

/// Questions about who answers, preferences for something else, and operators of telephones.
const ABOUT_TALKING: &str = "am i talking|am i speaking|am i chatting|who am i|whom am i|are you a|are you human|is this a|than talk*|than speak*|than call*|to a bot or|это бот|вы бот|ты бот|вы человек|ты человек|\
    с кем я говорю|с кем я общаюсь|кто мне отвечает|чем говорить|чем звонить|чем общаться|оператор связи|оператора связи|оператором связи|мобильн* оператор*|сотов* оператор*|тур оператор*";

const IS_OPERATOR: &str = "i am an operator|i'm an operator|im an operator|i am an agent|i'm an agent|i work as|i am a manager|i'm a manager|as an operator|as an agent|\
    as a manager|i am the|я оператор|я сам оператор|я сама оператор|я менеджер|я работаю|я администратор|я руководитель|я специалист|мы операторы|я консультант";

const FEATURE_EN: &str = "button*|setting*|add|invite|remove|delete|role*|assign*|colleague|visitor*|customers|clients|users|per agent|how many|limit*|number of|extra|icon|label|\
    rename|report*|statistic*|rating*|notification*|hand a chat|hand over|transfer a|transfer the|transfer chat*|another agent|other agent*|another operator|other operator*|\
    one agent|forward a|photo|avatar|status|online|offline|seat*|bot transfer*|bots transfer|see who|license*|price*|cost*|my agents|our agents|my operators|our operators|\
    their|password|an agent's|agent's|agents'|new agent*|second agent|working hours";
const FEATURE_RU: &str = "кнопк*|настройк*|добавить|добавлять|пригласить|удалить|роль|роли|назнач*|коллег|коллеге|посетител*|клиент*|сколько|лимит*|количеств*|переименовать|отчет*|\
    статистик*|оценк*|уведомлен*|передать чат*|передать диалог*|передавать|перевести чат*|перевести диалог*|перевод на|переводить|перевод чата|другому оператору|\
    другого оператора|другому сотруднику|фото|аватар*|статус*|онлайн|офлайн|второго|еще одного|нового|новый оператор|бот передавал|бот переводил|бот переключал|у бота|\
    наши оператор*|наших оператор*|мои оператор*|моих оператор*|стоит|цена|пароль|доступ|права|оператор видит|оператор не видит|операторы не|оператор не может|рабоче*";
const ABOUT_ME_EN: &str = "me|talk to|speak to|speak with|talk with|us|chat with|reach your|contact your|call your";
const ABOUT_ME_RU: &str = "меня|мной|нами|поговорить|пообщаться|соедин*|переключите|позовите|свяжите|свяжитесь";
const OTHERS_EN: &str = "visitor*|customers|clients|users|their";
const OTHERS_RU: &str = "посетител*|клиент*|покупател*";

const DENIED: &str = "no need|don't need|dont need|do not need|not need|needn't|don't want|dont want|do not want|without a|without an|without any|not yet|rather not|\
    don't transfer|do not transfer|don't connect|do not connect|don't call|no operator|no human|no agent|не нужен|не нужна|не нужно|не надо|не хочу|не нужны|\
    не требуется|не соединяйте|не переводите|не зовите|не переключайте|без оператора|без человека|без менеджера|обойдусь|обойдемся";

const ASKS_EN: &str = "talk to|talk with|speak to|speak with|chat with|chatting with|talking to|speaking to|speaking with|connect me|connect us|transfer me|transfer to|transfer this|put me|\
    switch me|switch to|pass me|forward me|redirect me|hand me|escalate|get me|give me|get a|get an|get someone|get hold of|get in touch|reach a|reach an|reach your|reach the|\
    reach someone|contact a|contact your|contact the|contact an|contact support|contact someone|i want|i need|we need|i'd like|i would like|i'd rather|i demand|want a|\
    need a|need an|need some|call a|call your|call an|call the|call me|bring|find me|let me|let a|is there a|is there an|is there any|is anyone|is anybody|is someone|\
    are there any|any real|any human|can i have|could i have|may i have|can a|can an|could a|can someone|could someone|can somebody|could somebody|someone real|real person|\
    real human|live agent|live person|live human|actual person|actual human|human please|person please|agent please|operator please|operator now|human now|ask a|\
    human support|human help|human operator|human agent|someone from|somebody from|want to talk|want to speak|asked for a|asked for an|a person look|a human look";
/// How a request for a talk of one's own begins.
const PLAINLY: &str = "can i speak|can i talk|can i chat|could i speak|could i talk|may i speak|may i talk|let me speak|let me talk|i want to speak|i want to talk|i need to speak|i need to talk|\
    i'd like to speak|i'd like to talk|i would like to speak|i would like to talk|connect me|transfer me|put me through|соедините меня|соедините с|соедини с|переключите на|переключите меня|\
    переключи на|позовите|позови|хочу поговорить|хочу пообщаться|можно поговорить|свяжите меня|дайте поговорить";
const RHETORICAL: &str = "someone tell|someone help|someone explain|somebody tell|someone please|someone show|somebody help|somebody explain|anyone know*|someone know*";
const MEANS_PERSON: &str =
    "human|person|agent|operator|someone|team|talk|speak|contact|call|reach|transfer|connect|staff|manager|real";
const MEETS: &str = "talk|speak|connect|transfer|reach|real|chat|contact|one of";

const ASKS_RU: &str = "соедин*|соеден*|переключ*|позов*|позвать|свяж*|связаться|связать|связь|поговорить|говорить|пообщаться|общаться|дайте|дай|хочу|хотел*|хотим|хочется|требу*|вызов*|вызв*|подключите|пригласите|передайте|передать|переведи*|пусть|можно|зовите|зови|давайте|давай|обратиться|обсудить|дозвониться|ответит|\
    эскалир*|просил*|мне бы";
const MEETS_RU: &str = "связ*|свяж*|соедин*|соеден*|говор*|поговорить|обратиться|дозвон*|общаться|пообщаться|позов*|переключ*|сотрудник*|человек*|девушк*|оператор*|специалист*";

/// Reads one message.
pub fn for_person(message: &str) -> Wish {
    let folded = text::fold(&without_quotations(&text::without_code(message)));
    let folded =
        folded.replace("can't", "cannot").replace("customer service", "support").replace("human being", "human");
    let all = text::words(&folded);
    if is_call(&all, 6) {
        return Wish::of(0.95, "the message is a call for a person");
    }
    let clauses = clauses(&folded).into_iter().map(|clause| in_clause(&clause));
    clauses.max_by(|a, b| a.score.total_cmp(&b.score)).unwrap_or(Wish::of(0.0, "no words"))
}

fn in_list(list: &str, word: &str) -> bool {
    list.split('|').any(|w| w.trim() == word)
}

/// A call: no other words than a person's name and "please".
fn is_call(words: &[&str], longest: usize) -> bool {
    words.len() <= longest
        && words.iter().any(|w| in_list(CALL, w))
        && words.iter().all(|w| in_list(CALL, w) || in_list(CALL_FILLER, w))
}

/// Splits at punctuation and at words that turn the thought.
fn clauses(folded: &str) -> Vec<Vec<&str>> {
    let mut clauses = Vec::new();
    for part in folded.split(['.', ',', ';', '!', '?', '\n', ':', '(', ')', '—']) {
        let mut clause: Vec<&str> = Vec::new();
        for word in text::words(part) {
            let turns = matches!(word, "but" | "instead" | "so" | "но" | "поэтому" | "лучше" | "and" | "и" | "please");
            if turns && !clause.is_empty() {
                clauses.push(std::mem::take(&mut clause));
            } else {
                clause.push(word);
            }
        }
        if !clause.is_empty() {
            clauses.push(clause);
        }
    }
    clauses
}

fn in_clause(words: &[&str]) -> Wish {
    let joined = format!(" {} ", words.join(" "));
    let russian = text::is_cyrillic(&joined);
    if is_call(words, 2) {
        return Wish::of(0.9, "calls for a person");
    }
    let person = has_any(&joined, if russian { PERSON_RU } else { PERSON_EN });
    let bot_denied = (has_any(&joined, BOT) || has_any(&joined, US)) && has_any(&joined, BOT_DENIED);
    let otherwise = has_any(&joined, CALLS_OTHERWISE);
    if !person && !bot_denied && !otherwise {
        return Wish::of(0.0, "no person is named");
    }
    if let Some(why) = look_alike(&joined, russian) {
        return Wish::of(0.1, why);
    }
    if bot_denied {
        return Wish::of(0.7, "does not want to talk to a bot");
    }
    if has_any(&joined, DENIED) && !has_any(&joined, BOT) {
        return Wish::of(DENIAL, "says that no person is needed");
    }
    if otherwise {
        return Wish::of(0.85, "asks to be passed on");
    }
    if asks_plainly(words, russian) {
        return Wish::of(PLAIN, "asks to talk to a person");
    }
    match if russian { asks_russian(&joined) } else { asks_english(&joined) } {
        true => Wish::of(0.95, "asks to talk to a person"),
        false => Wish::of(0.2, "names a person without asking for one"),
    }
}

/// Questions about operators as a feature of the product, or operators writing themselves.
fn look_alike(joined: &str, russian: bool) -> Option<&'static str> {
    if has_any(joined, IS_OPERATOR) {
        return Some("the customer is an operator");
    }
    if has_any(joined, ABOUT_TALKING) {
        return Some("speaks of talking to a person without asking for it");
    }
    let others = has_any(joined, if russian { OTHERS_RU } else { OTHERS_EN });
    let about_me = has_any(joined, if russian { ABOUT_ME_RU } else { ABOUT_ME_EN }) && !others;
    if has_any(joined, if russian { FEATURE_RU } else { FEATURE_EN }) && !about_me {
        return Some("operators are spoken of as a feature");
    }
    if others && !has_any(joined, "connect me|transfer me|соедините меня|переключите меня")
    {
        return Some("speaks of the customer's own visitors");
    }
    let place = has_any(joined, "where is the|where do i find the|где находится|где найти|в каком разделе");
    (place && !about_me).then_some("asks for a place in the app")
}

/// The customer's own request as a clause begins, and a person right behind it: "can I speak with someone else".
fn asks_plainly(words: &[&str], russian: bool) -> bool {
    let part = |to: usize| format!(" {} ", words[..to.min(words.len())].join(" "));
    has_any(&part(5), PLAINLY) && has_any(&part(9), if russian { PERSON_RU } else { PERSON_EN })
}

fn asks_english(joined: &str) -> bool {
    // "I need support for Vue" and "people who…" name no one to talk to.
    let weak_noun = has_any(joined, "support") && !has_any(joined, MEANS_PERSON);
    let hypothetical = has_any(joined, "people|person who|someone who") && !has_any(joined, MEETS);
    has_any(joined, ASKS_EN) && !has_any(joined, RHETORICAL) && !weak_noun && !hypothetical
}

fn asks_russian(joined: &str) -> bool {
    let only_support = has_any(joined, "поддержк*") && !has_any(joined, MEETS_RU);
    let indefinite = has_any(joined, "кто то|кем то|кто нибудь|кем нибудь|кого нибудь|жив*")
        && !has_any(
            joined,
            "связ*|свяж*|соедин*|говор*|поговорить|общаться|пообщаться|обсудить|позов*|есть|нуж*|хочу|дайте|человек*|люд*",
        );
    let here = has_any(joined, "тут есть|здесь есть|есть тут|есть здесь|есть кто")
        && has_any(joined, "жив*|человек*|люд*|оператор*|кто нибудь");
    let feature = has_any(joined, "настроить|подключить|включить");
    here || needs_person(joined) || (has_any(joined, ASKS_RU) && !only_support && !indefinite && !feature)
}

/// "нужен живой человек": the need stands right beside the person, not "нужен для приложения операторов".
fn needs_person(joined: &str) -> bool {
    let words: Vec<&str> = joined.split_whitespace().collect();
    let person =
        |w: &&str| has_any(&format!(" {w} "), "оператор|человек|жив*|менеджер|специалист|сотрудник|консультант|люди");
    let needs = |w: &&str| matches!(*w, "нужен" | "нужна" | "нужно" | "надо" | "нужны");
    words
        .iter()
        .enumerate()
        .any(|(i, w)| needs(w) && words[i.saturating_sub(2)..(i + 3).min(words.len())].iter().any(|near| person(near)))
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
    fn a_plain_request_is_heard_even_where_the_examples_doubt_it() {
        let read = |message: &str| for_person(message).weighed(0.2, 0.5).is_wish();
        assert!(
            read("I told you already. Can I speak with someone else please?") && read("хочу поговорить с человеком")
        );
        assert!(!read("can visitors speak to a human?") && !read("I almost asked for a manager, never mind"));
    }

    #[test]
    fn a_wish_may_name_nobody_or_misspell_the_noun() {
        for message in ["humn please", "опертор", "pls escalate, third time", "зовите главного", "is Mark available?"]
        {
            assert!(conceivable(message), "{message}");
        }
        for message in ["the color of the button", "как сменить цвет", "where is the export"] {
            assert!(!conceivable(message), "{message}");
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
            "какой андроид нужен для приложения операторов?",
            "how do I change the color?",
        ] {
            let wish = for_person(message);
            assert!(!wish.is_wish(), "{message}: {wish:?}");
        }
    }

    #[test]
    fn the_demo_packs_examples_are_told_apart() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("kb/filters");
        let rows = |label: &str| -> Vec<String> {
            let text =
                std::fs::read_to_string(dir.join(format!("{label}.jsonl"))).expect("the demo pack has these examples");
            text.lines()
                .filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok())
                .filter_map(|v| v["text"].as_str().map(str::to_string))
                .collect()
        };
        let wishes = rows("wants_person");
        let missed: Vec<&String> = wishes.iter().filter(|t| !for_person(t).is_wish()).collect();
        assert!(missed.len() * 10 <= wishes.len(), "missed: {missed:#?}");
        let others: Vec<String> = ["ok", "rude", "off_topic", "spam"].iter().flat_map(|l| rows(l)).collect();
        let wrong: Vec<&String> = others.iter().filter(|t| for_person(t).is_wish()).collect();
        assert!(wrong.len() * 50 <= others.len(), "taken for wishes: {wrong:#?}");
    }
}
