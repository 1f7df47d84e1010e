//! What a customer is told about people: that they wait, that a person has come, that the bot is back.

use chrono::{DateTime, Datelike};
use chrono_tz::Tz;

/// When the team opens next, as [`super::Teams::closed_until`] gives it.
pub type Opening = Option<DateTime<Tz>>;

/// After a handoff's own sentence, where the team is not at work.
pub fn out_of_hours(lang: &str, opening: &Opening) -> String {
    match (lang, opening) {
        ("ru", Some(at)) => {
            format!("Сейчас нерабочее время. Сотрудник ответит, когда мы откроемся: {}.", time(lang, at))
        }
        ("ru", None) => "Сейчас нерабочее время; сотрудник ответит, как только мы снова откроемся.".into(),
        (_, Some(at)) => format!("We are closed right now. A person will answer when we open: {}.", time(lang, at)),
        (_, None) => "We are closed right now; a person will answer as soon as we are open again.".into(),
    }
}

/// To the first message of a customer who waits. `closed`: the team is not at work.
pub fn waiting(lang: &str, closed: Option<&Opening>) -> String {
    let queued = match lang {
        "ru" => "Сообщение передано: вы в очереди к сотруднику, он увидит всё, что вы пишете.",
        _ => "Got it: you are in the queue for a person, who will see everything you write.",
    };
    match closed {
        Some(opening) => format!("{queued} {}", out_of_hours(lang, opening)),
        None => queued.into(),
    }
}

/// A person has taken the conversation.
pub fn taken(lang: &str, name: &str) -> String {
    match lang {
        "ru" => format!("С вами теперь говорит сотрудник: {name}."),
        _ => format!("You are now talking to a person: {name}."),
    }
}

/// The bot answers again.
pub fn given_back(lang: &str) -> String {
    match lang {
        "ru" => "Вам снова отвечает бот. Если понадобится сотрудник, напишите «оператор».".into(),
        _ => "The bot is answering again. If you need a person, write “operator”.".into(),
    }
}

/// A person has ended the conversation.
pub fn closed(lang: &str) -> String {
    match lang {
        "ru" => "Разговор завершён. Если вопрос остался, просто напишите.".into(),
        _ => "This conversation has been closed. If anything is still open, just write.".into(),
    }
}

fn time(lang: &str, at: &DateTime<Tz>) -> String {
    const RU: [&str; 7] =
        ["в понедельник", "во вторник", "в среду", "в четверг", "в пятницу", "в субботу", "в воскресенье"];
    const EN: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let day = at.weekday().num_days_from_monday() as usize;
    match lang {
        "ru" => format!("{}, {} ({})", RU.get(day).unwrap_or(&""), at.format("%d.%m, %H:%M"), at.timezone().name()),
        _ => format!("{}, {} ({})", EN.get(day).unwrap_or(&""), at.format("%-d %B, %H:%M"), at.timezone().name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    #[test]
    fn out_of_hours_names_the_opening_in_the_customers_language() {
        let at = chrono_tz::Europe::Moscow.with_ymd_and_hms(2026, 11, 23, 9, 0, 0).unwrap();
        let ru = waiting("ru", Some(&Some(at)));
        assert!(ru.contains("в понедельник, 23.11, 09:00 (Europe/Moscow)") && ru.contains("очереди"), "{ru}");
        assert!(out_of_hours("en", &Some(at)).contains("Monday, 23 November, 09:00"));
        assert!(!waiting("en", None).contains("closed"));
    }
}
