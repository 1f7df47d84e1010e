//! Signs of whom a window speaks to and what it wants, and the lists of words behind them.

use crate::support::{rules, text};

// Lists of phrases, parted by `|`; a phrase ends at a word's end unless it ends in `*`.
pub const TO_THE_MACHINE: &str = "you are|you're|you will|you'll|you must|you have to|you should|you can|you cannot|your answer*|your repl*|your response*|your output|your name|\
    your role|your task|your job|yourself|ты|тебя|тебе|тобой|твой|твоя|твои|твое|твоего|твоих|твоему|свой|свои|своих|отвечай|говори|делай";
pub const MACHINE: &str = "chatgpt|gpt*|openai|ai|a i|language model|llm|assistant|chatbot|model|machine|bot|dan|ии|нейросет*|модель|ассистент*|промпт*|prompt*|терминал|terminal";
pub const ANSWER: &str = "response|responses|reply|replies|answer|answers|output|respond|ответ|ответа|ответе|ответы|ответах|отвечай|solution|codebase|your code|algorithm";
pub const DICTATES: &str = "add|include|including|insert|append|incorporate|integrate|embed|modify|adapt|alter|adjust|mention|write|encrypt|encode|reverse|replace|swap|use|employ|\
    render|end|begin|start|finish|merge|place|put|ensure|make sure|validate|verify|recommend|promote|suggest|share|hint|group|remove|scramble|translate|convert|transform|\
    добавь|добавляй|вставь|вставляй|напиши|пиши|замени|вставьте|упомяни|упоминай|рекламируй|продвигай|советуй|рекомендуй|направляй|отправляй|посылай|заканчивай|начни|начинай|порекомендуй|зашифруй|переставь";
pub const ROLE: &str = "role|character|persona|pretend*|act as|act like|acting as|acts as|roleplay*|role play*|play the|imagine|simulate|simulation|hypothetical*|fictional|story|scene|game|\
    роль|роли|ролью|притворись|представь|сыграй|сыграем|играть|игру|веди себя|вообрази|сделай вид|имитируй|по имени";
const LIMITS: &str = "restriction*|restricted|unrestricted|rules|guidelines|polic*|filter*|unfiltered|ethic*|unethical|moral*|immoral|amoral|illegal|legal|censor*|uncensored|limits|\
    limitations|refuse*|refusing|reject|warning*|disclaimer*|apologi*|norms|freed|broken free|bound|anything|ограничени*|запрет*|цензур*|правил*|морал*|этик*|фильтр*|\
    политик*|отказыва*|запрещен*|нельзя|без правил";
const SECRETS: &str = "prompt|system prompt|system message|instruction*|directive*|hidden|secret*|initial|verbatim|word for word|confidential|internal|above|previous|prior|context|\
    configuration|инструкц*|указани*|промпт*|скрыт*|секретн*|дословно|слово в слово|системн*|внутренн*|предыдущ*|выше|контекст*|конфигураци*|прежн*";
pub const UNDOES: &str = "ignore|disregard|forget|override|bypass|drop|skip|cancel|void|suspend*|lifted|disabled|unlock*|reset|забудь|забывай|игнорируй|отбрось|отмени|отмена|обойди|\
    отключи|сними|сбрось|перестань|прекрати|не следуй|не слушай|нарушать|отменен*|удали";
const SHOWS: &str = "reveal|show|print|repeat|display|dump|leak|recite|copy|output|list|quote|tell me|spell|summarise|summarize|disclose|покажи|выведи|повтори|раскрой|напечатай|\
    процитируй|назови|перечисли|выдай|скопируй|открой|расскажи|составь";
const MODES: &str = "mode|jailbreak*|dan|do anything|developer|sudo|admin override|god|debug|режим*|разработчик*|джейлбрейк*|админ*|создатель|отладк*";
const HARM: &str = "hack*|bomb*|drug*|malware|virus|weapon*|kill|murder|steal|launder*|sex*|porn*|nsfw|violen*|crime*|criminal*|evil|insult*|swear*|curse*|fuck*|racist|torrent*|\
    взлом*|бомб*|наркотик*|вирус*|оружи*|убить|украсть|мат|матом|ругай*|ругн*|зло|злой|оскорб*";
pub const FROM_NOW: &str = "from now on|from this moment|from this point|from here on|for the rest of|whenever|every time|each time|always|never|отныне|с этого момента|с этой минуты|\
    теперь ты|всегда|никогда|каждый раз";
const ASKS_HELP: &str = "how do i|how can i|how to|where do i|where can i|where is|where are|why does|why is|why are|can i|could i|is there|are there|do you|does it|does the|did you|\
    doesn't|does not|didn't|not working|как мне|как в|где|почему|не работает|не приходит|подскажите|помогите|можно ли|есть ли|сколько|здравствуйте|добрый день";
const OWN_TROUBLE: &str = "my|our|i|we|i'm|i've|мой|моя|мои|моего|мою|наш|наша|наши|у меня|у нас|мы|мне";
const HARMLESS_THING: &str = "invoice*|account*|order*|payment*|card|password|button|widget|page|settings|email|app|room|booking|visitor*|chat|chats|agent*|team|plan|website|счет*|заказ*|карт*|\
    парол*|кнопк*|виджет*|страниц*|настройк*|почт*|приложени*|номер*|брон*|чат*|оператор*|тариф*|сайт*|клиент*";

/// What a window shows of whom it speaks to and what it wants, each 0..1.
pub fn signs(window: &str) -> Vec<f32> {
    let folded = format!(" {} ", text::words(&text::fold(window)).join(" "));
    let (rule, _) = rules::injection(window);
    let has = |list: &'static str| f32::from(u8::from(text::has_any(&folded, list)));
    let (machine, answer, dictates, limits, secrets) =
        (has(MACHINE), has(ANSWER), has(DICTATES), has(LIMITS), has(SECRETS));
    let (to, role, undoes, shows) = (has(TO_THE_MACHINE), has(ROLE), has(UNDOES), has(SHOWS));
    let brackets = window.matches(['[', '{', '<']).count();
    let capitals = window.split_whitespace().filter(|w| w.chars().filter(|c| c.is_uppercase()).count() > 3).count();
    let begins = folded.split_whitespace().next().map_or(0.0, |w| {
        f32::from(u8::from(text::has_any(&format!(" {w} "), DICTATES) || text::has_any(&format!(" {w} "), UNDOES)))
    });
    vec![
        rule,
        f32::from(u8::from(rule >= 0.9)),
        to,
        machine,
        answer,
        dictates,
        role,
        limits,
        secrets,
        undoes,
        shows,
        has(MODES),
        has(HARM),
        has(FROM_NOW),
        has(ASKS_HELP),
        has(OWN_TROUBLE),
        has(HARMLESS_THING),
        dictates * answer,
        undoes * (limits.max(secrets)),
        shows * secrets,
        role * to,
        to * limits,
        machine * to,
        begins,
        begins * answer,
        (brackets as f32 / 3.0).min(1.0),
        (capitals as f32 / 4.0).min(1.0),
        f32::from(u8::from(window.contains('?'))),
        limits * (1.0 - to),
        secrets * (1.0 - to),
    ]
}
