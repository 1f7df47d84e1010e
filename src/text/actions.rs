//! What a customer wants to do: verbs of one meaning as one concept, in Russian and English, and which contradict.
//!
//! Lexical search alone takes "restore a chat" and "delete a chat" for near the same. Concepts let wordings of one
//! action meet, and keep opposite actions apart.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Concept, then its words (infinitives and nouns; stemmed when read).
const ACTIONS: &[(&str, &str)] = &[
    (
        "delete",
        "delete remove erase wipe removal deletion uninstall удалить удаление удаляется удалять убрать убирать стереть снести удалил удали",
    ),
    ("restore", "restore recover undelete recovery restoration восстановить восстановление восстанавливать"),
    (
        "change",
        "change edit modify alter adjust customize customise rename recolor replace изменить изменение изменять поменять менять \
        сменить смена редактировать переименовать заменить перекрасить",
    ),
    ("add", "add create new добавить добавление добавлять создать создание создавать завести"),
    ("invite", "invite invitation приглашение пригласить приглашать"),
    ("enable", "enable activate activation включить включение включать активировать"),
    ("disable", "disable deactivate отключить отключение отключать выключить выключение выключать деактивировать"),
    ("hide", "hide hidden скрыть скрывать спрятать прятать"),
    ("show", "show display показать показывать отобразить отображать отображается"),
    (
        "connect",
        "connect integrate integration connection подключить подключение подключать интегрировать интеграция привязать",
    ),
    ("disconnect", "disconnect unlink отвязать отсоединить"),
    (
        "install",
        "install embed installation insert paste установить установка устанавливать поставить вставить встроить",
    ),
    ("configure", "configure setup configuration настроить настройка настраивать"),
    ("cancel", "cancel cancellation отменить отмена отменять отказаться"),
    ("pay", "pay payment payable платить оплатить оплата оплачивать заплатить платеж"),
    ("import", "import импорт импортировать"),
    ("export", "export экспорт экспортировать выгрузить выгрузка"),
    ("download", "download скачать скачивать"),
    ("upload", "upload загрузить загрузка загружать"),
    ("block", "block ban заблокировать блокировка блокировать забанить"),
    ("unblock", "unblock unban разблокировать разбан"),
    ("open", "open reopen открыть открывать"),
    ("close", "close закрыть закрывать закрытие"),
    ("upgrade", "upgrade повысить"),
    ("downgrade", "downgrade понизить"),
    ("login", "login signin войти вход входить залогиниться"),
    ("logout", "logout signout выйти выход"),
    ("send", "send отправить отправка отправлять послать"),
    ("receive", "receive получить получать приходить"),
    ("assign", "assign назначить назначать назначение"),
    ("translate", "translate translation перевод перевести"),
];

/// Things that people call by several words; none of them is an action.
const THINGS: &[(&str, &str)] = &[
    ("price", "price cost pricing fee expensive cheap стоить стоимость цена стоит обойтись обойдется почем дорого"),
    ("site", "site website webpage сайт"),
    (
        "colour",
        "color colour shade hue red green blue yellow black white orange цвет оттенок красный зеленый синий желтый черный белый",
    ),
    ("email", "email mail mailbox почта имейл мейл"),
    ("photo", "photo avatar фото аватар аватарка фотография фотка"),
    ("logo", "logo branding logotype логотип лого брендинг"),
    (
        "agent",
        "agent operator colleague teammate coworker employee оператор сотрудник коллега помощник помощница работник",
    ),
    ("visitor", "visitor customer client guest shopper buyer посетитель клиент покупатель гость"),
    ("button", "button bubble launcher icon кнопка кружок пузырь иконка значок"),
    ("conversation", "conversation chat dialog dialogue thread чат диалог переписка беседа разговор"),
    ("invoice", "invoice bill receipt счет квитанция"),
    ("year", "year yearly annual annually год годовой ежегодно ежегодный"),
    ("month", "month monthly месяц ежемесячно ежемесячный месячный"),
    ("limit", "limit maximum max quota лимит ограничение предел максимум максимальный"),
    ("size", "size weight weigh heavy kilobyte kb megabyte mb размер вес весить весит тяжелый килобайт мегабайт"),
    ("file", "file attachment attach document файл вложение документ"),
    ("notification", "notification notify alert уведомление оповещение"),
    ("spam", "spam junk спам"),
    ("trial", "trial test try пробный тестовый тест потестить попробовать тестирование"),
    ("free", "free gratis бесплатный бесплатно"),
    ("speed", "speed slow slowly fast performance скорость медленный медленно быстрый быстро тормозить тормозит"),
    ("rating", "rating rate satisfaction satisfied happy star score оценка рейтинг звезда довольный"),
    ("typing", "typing typed keystroke печатать печатает набирать набирает"),
    ("duplicate", "twice double duplicate дважды дубль двойной дублироваться"),
    ("missing", "missing disappear disappeared vanish vanished gone пропасть пропал исчезнуть исчез пропала исчезла"),
    ("template", "template canned macro шаблон заготовка"),
    ("hours", "hour schedule час расписание график"),
    ("snooze", "snooze postpone отложить откладывать"),
    ("role", "role permission роль право полномочие"),
    ("device", "device phone handset smartphone mobile телефон смартфон мобильный устройство"),
    ("workspace", "workspace пространство"),
    ("error", "error failure fault ошибка сбой"),
    ("person", "person people человек люди"),
    (
        "broken",
        "broken dead silent silence stuck crash сломаться сломался сломалось молчать молчит отвалиться отвалился отвалилась тишина глючить слететь \
        перестать перестал перестала перестали пропадать",
    ),
    ("server", "server datacenter hosting сервер хостинг"),
    ("language", "language locale язык"),
];

const OPPOSITES: [(&str, &str); 22] = [
    ("delete", "restore"),
    ("delete", "add"),
    ("delete", "install"),
    ("delete", "invite"),
    ("delete", "export"),
    ("enable", "disable"),
    ("hide", "show"),
    ("hide", "install"),
    ("connect", "disconnect"),
    ("connect", "disable"),
    ("install", "disable"),
    ("import", "export"),
    ("download", "upload"),
    ("block", "unblock"),
    ("open", "close"),
    ("upgrade", "downgrade"),
    ("login", "logout"),
    ("send", "receive"),
    ("cancel", "restore"),
    ("cancel", "enable"),
    ("cancel", "upgrade"),
    ("disable", "restore"),
];

static BY_STEM: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let mut map = HashMap::new();
    let actions = ACTIONS.iter().map(|(concept, words)| (format!("@{concept}"), words));
    for (concept, words) in actions.chain(THINGS.iter().map(|(concept, words)| (format!("#{concept}"), words))) {
        for word in words.split_whitespace() {
            map.entry(super::stem(word)).or_insert(concept.clone());
        }
    }
    map
});

/// The concept of a stem, where it is one of the known words: `@delete` for an action, `#price` for a thing.
pub fn concept_of(stem: &str) -> Option<&'static str> {
    BY_STEM.get(stem).map(|concept| concept.as_str())
}

/// Verbs of two words as one: "turn off" is "disable". The text is folded.
pub fn join_phrasal(folded: &str) -> String {
    const PHRASAL: [(&str, &str); 18] = [
        ("turn off", "disable"),
        ("turn it off", "disable"),
        ("turning off", "disable"),
        ("switch off", "disable"),
        ("turn on", "enable"),
        ("turn it on", "enable"),
        ("switch on", "enable"),
        ("get rid of", "remove"),
        ("take away", "remove"),
        ("take off", "remove"),
        ("set up", "setup"),
        ("setting up", "setup"),
        ("log in", "login"),
        ("sign in", "login"),
        ("log out", "logout"),
        ("sign out", "logout"),
        ("bring back", "restore"),
        ("two factor", "two-factor"),
    ];
    let mut text = folded.to_string();
    for (phrase, verb) in PHRASAL {
        if text.contains(phrase) {
            text = text.replace(phrase, verb);
        }
    }
    let padded = format!(" {} ", super::words(&text).join(" "));
    if super::has_any(&padded, NOT_WORKING) {
        text.push_str(" broken");
    }
    if super::has_any(&padded, "how much") {
        text.push_str(" price");
    }
    text
}

/// Wordings of "it does not work", whose "not" is a stop word.
const NOT_WORKING: &str = "not work*|doesn't work*|does not work*|don't work*|stopped working|not appear*|does not show*|doesn't show*|not showing|not load*|doesn't load*|doesn't appear*|\
    does not appear*|not arriv*|don't arrive|doesn't arrive|no longer|not reach*|nothing from|cannot see|can't see|не работа*|не появ*|не прихо*|не приш*|не отобража*|не груз*|\
    не загруж*|не показыва*|не доход*|не видно|не виден|нет чата";

/// The actions among content stems (as `text::content_stems` gives them).
pub fn actions(stems: &[String]) -> Vec<&str> {
    stems.iter().filter_map(|s| s.strip_prefix('@')).collect()
}

/// True where the two texts want opposite things: one names an action, the other only its opposite.
pub fn contradict(wanted: &[String], offered: &[String]) -> bool {
    let (wanted, offered) = (actions(wanted), actions(offered));
    OPPOSITES
        .iter()
        .flat_map(|&(a, b)| [(a, b), (b, a)])
        .any(|(a, b)| wanted.contains(&a) && !wanted.contains(&b) && offered.contains(&b) && !offered.contains(&a))
}

/// True where both texts name actions and share none.
pub fn differ(wanted: &[String], offered: &[String]) -> bool {
    let (wanted, offered) = (actions(wanted), actions(offered));
    !wanted.is_empty() && !offered.is_empty() && !wanted.iter().any(|a| offered.contains(a))
}

#[cfg(test)]
mod tests {
    use super::super::content_stems;
    use super::*;

    #[test]
    fn deleting_contradicts_restoring_in_both_languages() {
        let of = |t: &str| content_stems(t);
        assert!(contradict(
            &of("restore a deleted workspace").into_iter().filter(|s| s != "@delete").collect::<Vec<_>>(),
            &of("delete a workspace")
        ));
        assert!(contradict(&of("как восстановить чат"), &of("Как удалить чат?")));
        assert!(contradict(&of("turn off the bot"), &of("How do I enable a bot?")));
        assert!(!contradict(&of("удалить чат"), &of("Как стереть чат?")));
        assert!(!contradict(&of("where is the color"), &of("How do I change the color?")));
    }
}
