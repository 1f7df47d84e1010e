//! What a message shows of a wish for a person, for the filters to learn from beside its letters: who is to do what for
//! whom. A word says little by itself; a role of the company's with a deed that is done for the customer, in one clause
//! without a denial, says much, whatever the words are.

use super::{
    BOT, BOT_DENIED, CALL, CALLS_OTHERWISE, DENIED, DEPARTMENT, FEATURE_EN, FEATURE_RU, IS_OPERATOR, OTHERS_EN,
    OTHERS_RU, PERSON_EN, PERSON_RU, US, clauses, for_person, is_call,
};
use crate::support::rules::without_quotations;
use crate::support::text::{self, has_any};

const CONTACTS: &str = "talk*|speak*|spek|chat|chatting|connect*|conect*|transfer me|transfer us|transfer my call|transfer my chat|transfer this chat|transfer the call|transferred to a|put me|put us|put through|patch me|pass me|forward me|redirect me|hand me|handed|hand over|switch me|\
    switch to|escalate*|escalation|get me|bring me|bring in|reach|get hold|get through|in touch|ring me|ring us|phone me|call me|call back|callback|contact|contacted|take over|loop in|discuss|\
    word with|join the chat|fetch|соедин*|соеден*|переключ*|переведи*|позов*|позвать|зови*|свяж*|связ*|поговорить|говорить|пообщаться|общаться|пригласи*|подключите|передайте|передай|\
    вызв*|вызов*|дозвон*|перезвон*|позвон*|набер*|эскал*|обсудить|побеседовать|обратиться|подойд*|ответит|верните|pozovi*|soedini*|pogovorit*";
/// Words that lead to a person without naming one.
const ONWARD: &str = "escalate*|escalation|who is in charge|whoever is in charge|higher up|available|continue with|on shift|on duty|главного|главный|старшего|старшему|ответственн*|дежурн*|эскалир*|\
    дайте его|дайте ее|верните|вернуть|продолжить с";
const WEAK_PERSON: &str = "someone|somebody|anyone|anybody|people|one of you*|else|other|another|кто|кто то|кто нибудь|кем|кем нибудь|кем то|кого нибудь|друг*|люди|людей|людьми|жив*|реальн*|настоящ*";
const SELF: &str = "me|us|i|i'd|i'll|i'm|i've|my call|меня|мне|мной|нас|нам|я|мы|бы|mne|menya";
const WANTS: &str = "want|wanna|need|like to|i'd like|would like|prefer|rather|demand|require|insist|request|please|pls|give|get|can i|could i|may i|let me|is there|are there|хочу|хотел*|хотим|нуж*|\
    надо|требу*|прошу|просил*|дайте|дай|давай*|можно|нельзя ли|лучше|предпоч*|мне бы|пусть|пускай|жду|hochu|nuzhen|mozhno|дайт*";
const REPORTS: &str = "spoke|talked|told|said|called me|promised|was helping|yesterday|last week|last time|thanks|thank you|was rude|helped|wrote|asked for|сказал*|обещал*|говорил*|звонил*|вчера|спасибо|\
    помог|помогла|велел*|нахамил*|ответила|написал*|пишут|пишет|просят|просит|требует";
const HOW_WHERE: &str = "how do i|how to|how can i|where|which|what|does|do you|why|when|if|как|где|почему|какой|какие|какая|что|чем|сколько|через сколько|когда|можно ли|есть ли";
const OBSTRUCTED: &str = "useless|pointless|stupid|dumb|enough|waiting|still|already|times|again|doesn't help|not help|cannot help|didn't help|not working|бесполез*|тупой|хватит|жду|опять|уже|не помо*|сколько раз|раз|\
    не понимае*|устал*|надоел*";
const COUNTS: &str = "how many|per person|price*|cost*|plan|plans|limit*|number of|role*|permission*|report*|сколько|тариф*|цена|стоит|лимит*|рол*|прав*|отчет*|доступ*";

// Who is to do what for whom. A role may be anybody's; a deed is one that a person does for somebody; `*` as above.

/// People of a company by their work or by what they are, beside the plain nouns.
const ROLE: &str = "executive|officer|teammate*|associate*|grown up|adult|soul|folks|guys|lady|gentleman|developer*|engineer*|accountant*|counsel|attorney|staff member|member of staff|voice|\
    chief|senior|higher|head of|team member*|coworker*|co worker*|collegue*|colleage*|specalist*|assistant|clerk*|instructor*|dispatcher*|mechanic*|programmer*|техник*|мастер*|разработчик*|\
    программист*|бухгалтери*|безопасност*|ребят*|коллег*|сменщик*|диспетчер*|секретар*|ответственн*|главн*|босс*|шеф*|начальств*|эксперт*|владел*|дирекц*|отдел*|служб*|кто то|кто нибудь|\
    кто либо|ведущ*|старш*|админ*|саппорт*|чел|чиловек*|аператор*|апиратор*";
/// Whose they are: the company's that is written to.
const YOURS: &str =
    "your|ur|yours|of you|your end|your side|your company|ваш*|вас|вами|твой|твоего|твоих|твоему|у тебя";
/// Or the customer's own.
const MINE: &str = "my team|our team|my colleague*|our colleague*|my boss|our boss|my manager|our manager|my staff|our staff|my people|our people|my developer*|our developer*|my accountant|our accountant|my husband|my wife|my agents|our agents|\
    my operators|our operators|our supervisor|our bot|our chat*|my bot|my human|наш* оператор*|наш* менеджер*|наш* бот*|наш* коллег*|мой коллег*|моя коллег*|наш* сотрудник*|моих|моему|моим|мои|наших|нашим|нашему|мой|\
    своего|своих|своему|из наших|из моих|начальник сказал|шеф сказал|другому|другого";
/// Deeds that a person does for a customer.
const DEED: &str = "look at|look into|take a look|have a look|had a look|take over|take this|take it|take care|step in|deal with|handle*|sort it|sort this|sort out|fix it|decide|decision|read this|reads|read it|write to me|write back|\
    reply|replies|answer me|answers me|respond*|get back to|carry on|go on with|log in|help me|walk me|assist*|check it|see to|explain it|explain this|do it with me|make an exception|investigate*|review*|advise|\
    посмотр*|глян*|загляну*|разбер*|разобра*|займ*|взять|возьм*|решит|решают|решает|принимает решени*|напишет|напиш*|ответ*|помож*|помочь|сделает|провер*|объясн*|ведет|вел|вела|вести|рассмотр*|зайдет|сделайте|\
    сделать|подскаж*|прокомментир*|назнач*|связал*";
/// Talks by voice.
const VOICE: &str = "phone|ring|rings|landline|hotline|telephone|voice|out loud|a call|call with|be called|call from|called back|on the line|in person|face to face|созвон*|звон*|набер*|набир*|телефон*|трубк*|голосом|вслух|вживую|по видео|живьем|лично";
/// Who is looked for.
const WHO: &str = "who can|who do i|who should|who is|whos|who's|who would|who handles|whoever|whom|whose|anyone who|someone who|somebody who|кому|с кем|кто у вас|кто из вас|кто там|кто может|кто решает|кто отвечает|на того|тому|того кто|тем кто|с тем|\
    к кому|есть кто";
/// Is somebody there at all.
const PRESENT: &str = "anyone|anybody|any one|alive|living|home|behind this|есть кто|кто живой|есть кто то|живы*|кто тут|отзовит*|люди|people";
/// What answers now, and is no person.
const AUTOMAT: &str = "algorithm*|software|automated|automatic*|automation|canned|template*|scripted|auto reply|auto replies|autoreply|computer|program|programme|links|articles|chatbots|bots|gpt|chatgpt|железк*|железяк*|алгоритм*|шаблон*|\
    автоматич*|скрипт*|автоответ*|искусственн*|нейронк*|стать*|статей|инструкци*|робот*|бот|бота|ботом|боту|отписк*|справк*";
/// Not that.
const NOT: &str = "not|no|don't|dont|do not|won't|wont|without|instead|rather than|stop|enough|never|cannot|can't|не|без|нет|хватит|вместо|довольно|лишь бы|надоел*|устал*";
/// Passing on what is asked.
const PASSES: &str = "hand this|hand it|pass this|pass it|pass on|forward this|forward it|give me to|give it to|refer me|refer this|route me|bring|fetch|find me|get me|get a|put|hook me up|loop in|отдай*|переда*|переведи*|переключ*|верни*|зови*|позов*|\
    пригла*|тащи*|дай|дайте|давай*|подключ*|соедин*|направ*|эскал*|попасть|выйти на|кого";
/// Who seeks work, not a person.
const HIRING: &str =
    "hire|hiring|vacanc*|apply|job|jobs|career|cv|resume|ваканси*|устроиться|на работу|резюме|трудоустр*";
/// Whoever says so asks for nobody.
const ASKS_NOT: &str = "not asking|i'm not asking|don't need anyone|nobody needs|no calls|don't put me|do not put me|please don't|не прошу|не зову|никуда не|только не|звонить не|не звоните|не нужно звонить|не переключ*|не переводите|никого не";

/// What a message shows of a wish for a person, each 0..1.
pub fn signs(message: &str) -> Vec<f32> {
    let rules = for_person(message);
    let folded = text::fold(&without_quotations(&text::without_code(message)));
    let all = text::words(&folded);
    let whole = format!(" {} ", all.join(" "));
    let russian = text::is_cyrillic(&whole);
    let yes = |b: bool| f32::from(u8::from(b));
    let person = |t: &str| has_any(t, if text::is_cyrillic(t) { PERSON_RU } else { PERSON_EN });
    let others = |t: &str| has_any(t, if text::is_cyrillic(t) { OTHERS_RU } else { OTHERS_EN });
    let feature = |t: &str| has_any(t, if text::is_cyrillic(t) { FEATURE_RU } else { FEATURE_EN });
    let mut signs = vec![
        yes(rules.score >= 0.9),
        yes((0.5..0.9).contains(&rules.score)),
        yes(rules.against),
        yes(rules.score > 0.1 && rules.score < 0.5),
        yes(is_call(&all, 6)),
        yes(all.len() <= 3),
        yes(all.len() > 14),
        yes(message.contains('?')),
        yes(message.contains(['"', '«', '“'])),
        yes(has_any(&whole, CONTACTS)),
        yes(person(&whole)),
        yes(has_any(&whole, DEPARTMENT)),
        yes(has_any(&whole, WEAK_PERSON)),
        yes(has_any(&whole, SELF)),
        yes(has_any(&whole, WANTS)),
        yes(has_any(&whole, DENIED)),
        yes(has_any(&whole, BOT)),
        yes(has_any(&whole, BOT_DENIED)),
        yes(others(&whole)),
        yes(feature(&whole)),
        yes(has_any(&whole, IS_OPERATOR)),
        yes(has_any(&whole, REPORTS)),
        yes(has_any(&whole, HOW_WHERE)),
        yes(has_any(&whole, OBSTRUCTED)),
        yes(has_any(&whole, COUNTS)),
        yes(has_any(&whole, CALLS_OTHERWISE)),
        yes(russian),
    ];
    // Pairs within one clause say more than words anywhere.
    let clauses: Vec<String> = clauses(&folded).iter().map(|c| format!(" {} ", c.join(" "))).collect();
    let any = |test: &dyn Fn(&str) -> bool| yes(clauses.iter().any(|c| test(c)));
    signs.extend([
        any(&|c| has_any(c, CONTACTS) && person(c) && !others(c) && !has_any(c, DENIED) && !has_any(c, REPORTS)),
        any(&|c| has_any(c, CONTACTS) && has_any(c, DEPARTMENT) && !others(c) && !has_any(c, DENIED)),
        any(&|c| has_any(c, CONTACTS) && has_any(c, SELF) && !others(c) && !has_any(c, DENIED)),
        any(&|c| has_any(c, WANTS) && person(c) && !feature(c) && !others(c) && !has_any(c, DENIED)),
        any(&|c| has_any(c, CONTACTS) && has_any(c, WEAK_PERSON) && !others(c) && !has_any(c, DENIED)),
        any(&|c| has_any(c, BOT) && (has_any(c, BOT_DENIED) || has_any(c, DENIED))),
        any(&|c| has_any(c, DENIED) && (person(c) || has_any(c, CONTACTS)) && !has_any(c, BOT)),
        any(&|c| person(c) && feature(c)),
        any(&|c| has_any(c, HOW_WHERE) && person(c) && !has_any(c, CONTACTS)),
    ]);
    let somebody = |c: &str| person(c) || has_any(c, ROLE) || has_any(c, DEPARTMENT) || has_any(c, WEAK_PERSON);
    let free = |c: &str| !others(c) && !has_any(c, MINE) && !has_any(c, DENIED) && !has_any(c, ASKS_NOT);
    signs.extend([
        any(&|c| has_any(c, YOURS) && somebody(c) && free(c)),
        any(&|c| has_any(c, DEED) && somebody(c) && free(c) && !has_any(c, REPORTS)),
        any(&|c| has_any(c, DEED) && has_any(c, SELF) && somebody(c) && free(c)),
        any(&|c| has_any(c, VOICE) && has_any(c, SELF) && free(c)),
        any(&|c| has_any(c, WHO) && (has_any(c, CONTACTS) || has_any(c, DEED) || has_any(c, VOICE)) && free(c)),
        any(&|c| has_any(c, AUTOMAT) && has_any(c, NOT)),
        any(&|c| has_any(c, PASSES) && (somebody(c) || has_any(c, WHO)) && free(c)),
        yes(all.len() <= 6 && has_any(&whole, PRESENT)),
        yes(all.len() <= 7 && somebody(&whole) && !feature(&whole) && !has_any(&whole, HOW_WHERE)),
        any(&|c| has_any(c, MINE) && somebody(c)),
        yes(has_any(&whole, HIRING)),
        yes(has_any(&whole, ASKS_NOT)),
        any(&|c| has_any(c, WANTS) && somebody(c) && free(c) && !feature(c)),
    ]);
    signs
}

/// True where the words could be a wish at all: a person is named, or a talk that the customer is to have, or a machine
/// that he does not want. Letters and likeness alone make no wish.
pub fn conceivable(message: &str) -> bool {
    let folded = text::fold(&without_quotations(&text::without_code(message)));
    let words = text::words(&folded);
    let whole = format!(" {} ", words.join(" "));
    let has = |list: &'static str| has_any(&whole, list);
    let person = has(PERSON_EN) || has(PERSON_RU) || has(CALLS_OTHERWISE) || is_call(&words, 6);
    let talk = has(CONTACTS) && (has(SELF) || has(DEPARTMENT) || has(WEAK_PERSON));
    let called = has(DEPARTMENT) && (words.len() <= 5 || has(WANTS));
    let short = words.len() <= 3 && has(CONTACTS);
    // Escalating and being back with somebody need no noun; a misspelt noun is one all the same.
    let onward = has(ONWARD) || words.iter().any(|word| nearly_a_person(word));
    let machine = has(BOT) || (has(US) && (has(BOT_DENIED) || has(DENIED))) || (has(AUTOMAT) && has(NOT));
    let served = (has(ROLE) || has(WHO)) && (has(DEED) || has(VOICE) || has(PASSES) || has(YOURS) || has(WANTS));
    let spoken = has(VOICE) && has(SELF);
    person || talk || called || short || onward || machine || served || spoken || (words.len() <= 6 && has(PRESENT))
}

/// "humn", "oprator": a noun of a call with one letter lost, added, changed or two swapped.
fn nearly_a_person(word: &str) -> bool {
    const SHORTEST: usize = 4;
    let long = |word: &str| word.chars().count() >= SHORTEST;
    long(word)
        && CALL.split('|').filter(|noun| long(noun)).any(|noun| text::edit_distance(noun.trim(), word, 1).is_some())
}
